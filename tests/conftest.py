"""Fixtures of the tests of every kind."""

import functools
import os
import re
from pathlib import Path

import pytest
from hypothesis import settings

# As `consortium serve` does before gRPC is imported: the tests of refused handshakes read what gRPC then reports.
os.environ["GRPC_VERBOSITY"] = "INFO"

from tests.worlds.stores import place, postgres

__all__ = ["place", "postgres"]

# The same examples in every run, so that a change is red for what it changed; a soak run draws new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("soak", deadline=None, print_blob=True)
settings.load_profile("soak" if os.environ.get("CONSORTIUM_SOAK") == "1" else "repeatable")

# `node.audit` writes what `consortium.audit` says, and `node.data.noise` draws what `consortium.privacy` estimates.
_SHELL = re.compile(r"(from|import) (node(?!\.audit|\.data\.noise)|tests\.simulator)\b")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Only the unit tests of the agreed core are traced: its coverage is the gate, and tracing all costs minutes."""
    for item in items:
        if "properties" in item.path.parts or _is_of_the_shell(item.path):
            item.add_marker(pytest.mark.no_cover)


@functools.cache
def _is_of_the_shell(path: Path) -> bool:
    return _SHELL.search(path.read_text(encoding="utf-8")) is not None
