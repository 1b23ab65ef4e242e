"""Small Flower apps for tests, and the one import of Flower's parts without its deprecation warnings."""

from __future__ import annotations

import warnings
from pathlib import Path

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict  # noqa: F401

    from node.training.executor import Executor  # noqa: F401
    from node.training.flwr_private import apps
    from node.training.flwr_private.apps import AppError  # noqa: F401
    from node.training.flwr_private.supernode import Delivery  # noqa: F401
    from node.training.summing_grid import Run, SummingGrid  # noqa: F401

POWER = Path(__file__).parents[2] / "node" / "training" / "apps" / "power"

PYPROJECT = """
[project]
name = "small"
version = "1.0.0"
dependencies = ["flwr>=1.41.0"]
[tool.flwr.app]
publisher = "consortium"
[tool.flwr.app.components]
serverapp = "small.both:server"
clientapp = "small.both:client"
[tool.flwr.app.config]
rounds = 3
"""

HEAD = """
import logging, sys
import pyarrow.parquet as pq
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
client, server = ClientApp(), ServerApp()
"""


def small_app(folder: Path, source: str) -> bytes:
    """A FAB whose only module is HEAD and this source."""
    (folder / "small").mkdir(parents=True)
    (folder / "small" / "__init__.py").touch()
    (folder / "small" / "both.py").write_text(HEAD + source)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    return apps.build_fab(folder)
