"""Fixtures of the tests of every kind."""

import functools
import os
from pathlib import Path

import pytest

# As `consortium serve` does before gRPC is imported: the tests of refused handshakes read what gRPC then reports.
os.environ["GRPC_VERBOSITY"] = "INFO"

from tests.worlds.stores import place, postgres

__all__ = ["place", "postgres"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Only tests of the agreed core are traced: the gate is its coverage, and tracing the others costs minutes."""
    for item in items:
        if _is_of_the_shell(item.path):
            item.add_marker(pytest.mark.no_cover)


@functools.cache
def _is_of_the_shell(path: Path) -> bool:
    text = path.read_text(encoding="utf-8")
    return any(f"{word} node" in text or f"{word} tests.simulator" in text for word in ("from", "import"))
