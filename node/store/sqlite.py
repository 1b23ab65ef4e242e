"""SQLite: a file in the node's folder.

WAL with synchronous=FULL: with NORMAL, a power loss forgets what was acknowledged. The Python of many systems carries
an SQLite whose WAL can be corrupted by a second connection that checkpoints, so only the writer does.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import NullPool

from consortium.errors import ConfigError
from node.store.faults import damage_declared
from node.store.outside import sync_folder

_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "trusted_schema=OFF", "cell_size_check=ON")


def connect_writer(path: Path) -> Connection:
    """The one connection that writes; makes the file (0600) where it is missing.

    Raises:
        ConfigError: the file is no database, or its file system cannot hold a write-ahead log.
        UnavailableError: it cannot be opened.
    """
    # SQLite gives its WAL the mode of the database file, so the file is there before SQLite sees it.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    sync_folder(path.parent)
    engine = create_engine(URL.create("sqlite", database=str(path)), poolclass=NullPool, hide_parameters=True)
    connection = _begin_with(engine, "BEGIN IMMEDIATE").connect()
    try:
        with damage_declared(str(path)):
            _configure(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: Path) -> Connection:
    """A connection that sees what is committed while the writer goes on, and changes nothing."""
    uri = URL.create("sqlite", database=f"file:{quote(str(path))}", query={"mode": "ro", "uri": "true"})
    with damage_declared(str(path)):
        connection = _begin_with(create_engine(uri, poolclass=NullPool, hide_parameters=True), "BEGIN").connect()
        _driver(connection).isolation_level = None
    return connection


def _configure(connection: Connection, path: Path) -> None:
    _driver(connection).isolation_level = None  # The driver must not begin transactions on its own: `begin` does.
    for pragma in _PRAGMAS:
        _driver(connection).execute(f"PRAGMA {pragma}")
    if _driver(connection).execute("PRAGMA journal_mode").fetchone() != ("wal",):
        raise ConfigError(
            "The file system of the node's folder cannot hold a write-ahead log.",
            where=str(path.parent),
            mend="Use a local file system.",
        )


def _driver(connection: Connection) -> Any:
    return connection.connection.driver_connection


def _begin_with(engine: Engine, statement: str) -> Engine:
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(statement))
    return engine
