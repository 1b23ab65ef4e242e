"""The database of a node: one connection that writes and one that reads, each on a thread of its own."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from consortium.errors import ConfigError
from node.store import postgres, schema, sealed, sqlite
from node.store.faults import damage_declared, declared, unavailable
from node.store.sealed import Seal, SealFile

T = TypeVar("T")


@dataclass(frozen=True)
class Location:
    """Where a store is: a node's folder, and a PostgreSQL URL or "" for an SQLite file in it.

    Attributes:
        path: the SQLite file; the folder around it holds the lock and what the node remembers outside its database.
        url: `postgresql+psycopg://...`, or "".
    """

    path: Path
    url: str = ""

    @property
    def place(self) -> str:
        """For messages: no password."""
        return postgres.place(self.url) if self.url else str(self.path)

    @property
    def seal_file(self) -> SealFile:
        return SealFile(self.path.with_name("seal"))

    def connect_writer(self) -> Connection:
        """A connection that writes, to a database that may be empty.

        Raises:
            ConfigError: it is no database, another node uses it, or it does not keep what it acknowledges.
            UnavailableError: it cannot be reached.
        """
        return postgres.connect_writer(self.url) if self.url else sqlite.connect_writer(self.path)

    def connect_reader(self) -> Connection:
        """A connection that reads beside the writer."""
        return postgres.connect_reader(self.url) if self.url else sqlite.connect_reader(self.path)


class Database:
    """A node's database; made by `Database.open`, ended by `close`."""

    def __init__(self, location: Location, lock: int) -> None:
        self.path = location.path
        self.place = location.place
        self._location = location
        self._lock = lock
        self._writing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._reading = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store-read")
        self._writer: Connection | None = None
        self._reader: Connection | None = None
        self._has_failed = False

    @classmethod
    async def open(cls, path: Path, url: str = "") -> Database:
        """Opens the store of a node, making its folder (0700) and tables where they are missing, and checks its seal.

        Args:
            path: the SQLite file, whose folder is the node's; only the folder is used with a URL.
            url: `postgresql+psycopg://...`, or "" for SQLite.

        Raises:
            ConfigError: the folder is open to others, another process uses the database, or it is damaged, older than
                what the node acknowledged, or of a newer version.
            ForkError: the file of the seal is damaged.
            UnavailableError: the database cannot be reached.
        """
        location = Location(path, url)
        place = location.place
        _prepare_folder(path.parent)
        database = cls(location, take_lock(path.with_name(path.name + ".lock")))
        try:
            with declared(place):
                await database.on_writer(database._begin)
                await database._on_reader(database._begin_reading)
        except BaseException:
            await database.close()
            raise
        return database

    async def close(self) -> None:
        """Waits for what was begun, closes the database and lets other processes in."""
        # The writer ends last: it is the one that moves SQLite's log into the file.
        for executor, connection in ((self._reading, self._reader), (self._writing, self._writer)):
            if connection is not None:
                await asyncio.get_running_loop().run_in_executor(executor, _end, connection)
            executor.shutdown()
        os.close(self._lock)

    async def on_writer(self, work: Callable[[], T]) -> T:
        """Runs `work` on the writer thread; what has begun is finished also when the caller is cancelled."""
        return await asyncio.get_running_loop().run_in_executor(self._writing, work)

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Runs `work` in one durable transaction: all of it is on disk when this returns, or none of it ever is.

        Raises:
            UnavailableError: the machine or the server is at fault; nothing of it was acknowledged.
            ConfigError: the database is damaged.
        """
        return await self.on_writer(lambda: self.transact(work))

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Runs a query that sees all that was committed before it began, without waiting for the writer.

        Raises:
            UnavailableError: the machine or the server is at fault.
            ConfigError: the database is damaged.
        """
        return await self._on_reader(lambda: self._query(work))

    def transact(self, work: Callable[[Connection], T], acknowledge: Callable[[T], None] | None = None) -> T:
        """As `run`, called on the writer thread; `acknowledge` then notes the result outside the database.

        When that fails, the database holds what nobody was told: nothing more is written until the node is started
        again and has compared the two.
        """
        assert self._writer is not None, "the database is open"
        if self._has_failed:
            raise unavailable(self.place)
        sealed.forget_pending(self._writer)
        with declared(self.place), self._writer.begin():
            result = work(self._writer)
        try:
            with declared(self.place):
                self._note_seal(sealed.pending(self._writer))
                if acknowledge is not None:
                    acknowledge(result)
        except BaseException:
            self._has_failed = True
            raise
        return result

    def _query(self, work: Callable[[Connection], T]) -> T:
        assert self._reader is not None, "the database is open"
        with declared(self.place), self._reader.begin():
            return work(self._reader)

    async def _on_reader(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reading, work)

    def _begin(self) -> None:
        self._writer = self._location.connect_writer()
        with damage_declared(self.place), self._writer.begin():
            seal = prepare(self._writer, self._location)
        if seal != self._location.seal_file.read():
            self._note_seal(seal)

    def _begin_reading(self) -> None:
        self._reader = self._location.connect_reader()

    def _note_seal(self, seal: Seal | None) -> None:
        if seal is not None:
            self._location.seal_file.write(seal)


def prepare(connection: Connection, location: Location) -> Seal:
    """Checks the seal of a stored database, then brings its tables to the present version; in one transaction.

    Raises:
        ConfigError: damaged, older than what the node acknowledged, or of a newer version.
        ForkError: the file of the seal is damaged.
    """
    seal = sealed.checked(connection, location.seal_file)
    if schema.upgrade(connection, location.place):
        return sealed.seal_anew(connection, seal)
    assert seal is not None, "the present version has a seal"
    return seal


def take_lock(path: Path) -> int:
    """Keeps other processes out of a node's store until the returned descriptor is closed.

    Raises:
        ConfigError: another process is in it.
    """
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


def _prepare_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        raise ConfigError(
            "The node's folder can be read by other users.", where=str(folder), mend="Run chmod 700 on it."
        )


def _end(connection: Connection) -> None:
    # Closing rolls back what is open, which a server that is gone cannot answer, and has done already.
    with suppress(SQLAlchemyError):
        connection.close()
