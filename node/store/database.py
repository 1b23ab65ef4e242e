"""The SQLite database of a node: one connection, owned by one thread.

WAL with synchronous=FULL: with NORMAL, a power loss forgets what was acknowledged. The Python of many systems carries
an SQLite whose WAL can be corrupted by a second connection that checkpoints, so there is exactly one connection, and
a lock file keeps other processes out.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, create_engine, delete, event, insert
from sqlalchemy.pool import NullPool
from sqlmodel import SQLModel

from consortium.errors import ConfigError
from node.store.head import sync_folder
from node.store.tables import METADATA

T = TypeVar("T")

_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "trusted_schema=OFF", "cell_size_check=ON")


class Database:
    """A node's database; made by `Database.open`, ended by `close`."""

    def __init__(self, path: Path, connection: Connection, writer: ThreadPoolExecutor, lock: int) -> None:
        self.path = path
        self._connection = connection
        self._writer = writer
        self._lock = lock

    @classmethod
    async def open(cls, path: Path) -> Database:
        """Opens the database, making its folder (0700) and file (0600) where they are missing.

        Raises:
            ConfigError: the folder is open to others, or another process uses the database.
        """
        _prepare_folder(path.parent)
        lock = _take_lock(path.with_name(path.name + ".lock"))
        writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        try:
            connection = await asyncio.get_running_loop().run_in_executor(writer, _connect, path)
        except BaseException:
            writer.shutdown()
            os.close(lock)
            raise
        return cls(path, connection, writer, lock)

    async def close(self) -> None:
        """Waits for what was begun, closes the database and lets other processes in."""
        await self.on_writer(self._connection.close)
        self._writer.shutdown()
        os.close(self._lock)

    async def on_writer(self, work: Callable[[], T]) -> T:
        """Runs `work` on the writer thread; what has begun is finished also when the caller is cancelled."""
        return await asyncio.get_running_loop().run_in_executor(self._writer, work)

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Runs `work` in one durable transaction: all of it is on disk when this returns, or none of it ever is."""
        return await self.on_writer(lambda: self.transact(work))

    def transact(self, work: Callable[[Connection], T]) -> T:
        """As `run`, called on the writer thread."""
        with self._connection.begin():
            return work(self._connection)


def replace(connection: Connection, row: SQLModel) -> None:
    """Writes a row in the place of the one with its primary key."""
    table: Any = type(row).__table__  # type: ignore[attr-defined]  # SQLModel does not declare what SQLAlchemy sets.
    values = row.model_dump()
    connection.execute(delete(table).where(*(column == values[column.name] for column in table.primary_key)))
    connection.execute(insert(table), values)


def _prepare_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        raise ConfigError(
            "The node's folder can be read by other users.", where=str(folder), mend="Run chmod 700 on it."
        )


def _take_lock(path: Path) -> int:
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise ConfigError(
            "Another process uses this node's store.",
            where=str(path.parent),
            mend="Stop the running node first, or ask it by its control socket.",
        ) from error
    return lock


def _connect(path: Path) -> Connection:
    # SQLite gives its WAL the mode of the database file, so the file is there before SQLite sees it.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    engine = create_engine(URL.create("sqlite", database=str(path)), poolclass=NullPool)
    event.listen(engine, "begin", _begin)
    connection = engine.connect()
    try:
        _configure(connection.connection.driver_connection, path)
        with connection.begin():
            METADATA.create_all(connection)
    except BaseException:
        connection.close()
        raise
    sync_folder(path.parent)
    return connection


def _configure(driver: Any, path: Path) -> None:
    driver.isolation_level = None  # The driver must not begin transactions on its own: `_begin` does.
    try:
        for pragma in _PRAGMAS:
            driver.execute(f"PRAGMA {pragma}")
        mode = driver.execute("PRAGMA journal_mode").fetchone()
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        raise ConfigError(
            "The node's store is not a database, or is damaged.",
            where=str(path),
            mend="Set up a fresh folder and follow the log again.",
        ) from error
    if mode != ("wal",):
        raise ConfigError(
            "The file system of the node's folder cannot hold a write-ahead log.",
            where=str(path.parent),
            mend="Use a local file system.",
        )


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
