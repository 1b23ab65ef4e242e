"""An SQLite whose power can fail: writes that were not synced may be lost or torn.

`connect` and the names beside it make a DB-API module of apsw, as far as SQLAlchemy's SQLite dialect asks for it, so
that the store's own code runs on the lossy files.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

SECTOR_BYTES = 512
NAME = "lossy"

Error = apsw.Error
DatabaseError = OperationalError = IntegrityError = ProgrammingError = InterfaceError = InternalError = apsw.Error
NotSupportedError = DataError = apsw.Error
sqlite_version_info = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
sqlite_version = apsw.sqlite_lib_version()
paramstyle = "qmark"
PARSE_DECLTYPES, PARSE_COLNAMES = sqlite3.PARSE_DECLTYPES, sqlite3.PARSE_COLNAMES
Binary = bytes


@dataclass
class Disk:
    """What is surely on the disk, and the writes since then, for each file name.

    Attributes:
        snapshot: is told when something is written or synced, which is when the power may fail.
    """

    snapshot: Callable[[Disk], None]
    durable: dict[str, bytearray] = field(default_factory=dict)
    unsynced: dict[str, list[tuple[int, bytes | None]]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def write(self, name: str, offset: int, data: bytes | None) -> None:
        """A write; None for a truncation to `offset` bytes."""
        with self.lock:
            self.unsynced.setdefault(name, []).append((offset, data))
            self.snapshot(self)

    def sync(self, name: str) -> None:
        with self.lock:
            self.snapshot(self)
            self.durable[name] = _applied(self.durable.get(name, bytearray()), self.unsynced.pop(name, []))

    def delete(self, name: str) -> None:
        """A deletion, which counts as done at once: SQLite syncs the folder with those that matter."""
        with self.lock:
            self.durable.pop(name, None)
            self.unsynced.pop(name, None)

    def after_power_loss(self, chance: random.Random, folder: Path) -> None:
        """Writes the files as they may be found: any of the unsynced writes lost, kept, or torn."""
        with self.lock:
            for name in {*self.durable, *self.unsynced}:
                kept = [_torn(write, chance) for write in self.unsynced.get(name, []) if chance.random() < 0.5]
                image = _applied(self.durable.get(name, bytearray()), kept)
                (folder / Path(name).name).write_bytes(image)


def _torn(write: tuple[int, bytes | None], chance: random.Random) -> tuple[int, bytes | None]:
    offset, data = write
    if data is None or len(data) <= SECTOR_BYTES or chance.random() < 0.5:
        return write
    return offset, data[: chance.randrange(1, len(data) // SECTOR_BYTES + 1) * SECTOR_BYTES]


def _applied(image: bytearray, writes: Iterable[tuple[int, bytes | None]]) -> bytearray:
    image = bytearray(image)
    for offset, data in writes:
        if data is None:
            del image[offset:]
        else:
            image.extend(bytes(max(0, offset - len(image))))
            image[offset : offset + len(data)] = data
    return image


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._disk = disk
        self._name = name.filename() if isinstance(name, apsw.URIFilename) else str(name)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 -- SQLite's name
        super().xWrite(data, offset)
        self._disk.write(self._name, offset, bytes(data))

    def xTruncate(self, size: int) -> None:  # noqa: N802
        super().xTruncate(size)
        self._disk.write(self._name, size, None)

    def xSync(self, flags: int) -> None:  # noqa: N802
        super().xSync(flags)
        self._disk.sync(self._name)


class LossyVfs(apsw.VFS):
    """The files of a `Disk`, under SQLite's default file system."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(NAME, "")
        self._disk = disk

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return _File(self._disk, name, flags)

    def xDelete(self, name: str, sync_folder: bool) -> None:  # noqa: N802
        super().xDelete(name, sync_folder)
        self._disk.delete(name)


class _Cursor:
    arraysize = 1
    lastrowid = None

    def __init__(self, connection: apsw.Connection) -> None:
        self._cursor = connection.cursor()
        self._connection = connection
        self.rowcount = -1
        self._rows: list[Any] = []
        self.description: Any = None

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> _Cursor:
        before = self._connection.total_changes()
        self.description = None

        def describe(cursor: apsw.Cursor, *_: Any) -> bool:
            self.description = tuple((name, *[None] * 6) for name, *_ in cursor.get_description()) or None
            return True

        self._cursor.exec_trace = describe
        self._rows = list(self._cursor.execute(statement, tuple(parameters)))
        self.rowcount = self._connection.total_changes() - before
        return self

    def executemany(self, statement: str, parameters: Iterable[Sequence[Any]]) -> _Cursor:
        for values in parameters:
            self._cursor.execute(statement, tuple(values))
        return self

    def fetchone(self) -> Any:
        return self._rows.pop(0) if self._rows else None

    def fetchmany(self, size: int = 1) -> list[Any]:
        part, self._rows = self._rows[:size], self._rows[size:]
        return part

    def fetchall(self) -> list[Any]:
        return self.fetchmany(len(self._rows))

    def close(self) -> None:
        self._cursor.close()


class _Connection:
    isolation_level = None

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def cursor(self) -> _Cursor:
        return _Cursor(self._connection)

    def execute(self, statement: str) -> _Cursor:
        return self.cursor().execute(statement)

    def create_function(self, name: str, count: int, function: Any, **_: Any) -> None:
        self._connection.create_scalar_function(name, function, count)

    def commit(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("COMMIT")

    def rollback(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def close(self) -> None:
        self._connection.close()


def connect(path: str, **_: Any) -> _Connection:
    """DB-API's; the VFS named `lossy` must exist."""
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
    return _Connection(apsw.Connection(path, flags=flags, vfs=NAME))


def copy_outside_files(source: Path, target: Path) -> None:
    """The files that the node itself syncs, which it does between SQLite's writes."""
    for name in ("head", "seal"):
        if (source / name).exists():
            shutil.copy(source / name, target / name)
