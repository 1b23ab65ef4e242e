"""One consortium of processes for all tests of the command line."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.processes.cli_world import Consortium, running


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    with running(tmp_path_factory.mktemp("c")) as found:
        yield found
