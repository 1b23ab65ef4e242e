"""Puts a log that others verified in the place of a stored one that is damaged, lost or older.

With SQLite a whole new file is written beside the old one, which is kept; a damaged file is never written to. On a
PostgreSQL server the rows of the log are replaced in one transaction.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Table, delete, func, insert, select

from consortium.errors import ConfigError, ForkError
from consortium.ledger.entry import Head
from consortium.ledger.merkle import leaf_hash
from node.store import schema, sealed
from node.store.database import Location
from node.store.faults import damage_declared, declared
from node.store.head import HeadFile
from node.store.ledger import verified_log
from node.store.outside import sync_folder
from node.store.sealed import Seal
from node.store.tables import METADATA, CheckpointRow, EntryRow

_CHUNK = 1000
_LOG = frozenset({"entry", "checkpoint", "seal"})
_SIDES = ("", "-wal", "-shm")


@dataclass(frozen=True)
class Rebuilt:
    """What became of a store.

    Attributes:
        damaged: where the old file is kept; "" if there was none to keep.
        lost: the tables that are empty now, because their rows could not be trusted.
    """

    damaged: str
    lost: tuple[str, ...]


def stored_head(path: Path) -> Head | None:
    """What the head file in a node's folder says; None where there is none, or where it is damaged."""
    try:
        return HeadFile(path.with_name("head")).read()
    except ForkError:
        return None


def rebuild(
    path: Path, url: str, frames: Sequence[bytes], note: bytes, head: Head, *, may_forget: bool, day: str
) -> Rebuilt:
    """Stores this log and nothing else of one; the caller holds the lock of the store and has verified the entries.

    Args:
        path: the node's SQLite file; its folder holds the files of the head and the seal.
        head: of the entries, as the note states it.
        may_forget: whether the other tables may be given up where they are damaged, lost or older than the seal. Only a
            coordinator's may: a member that forgot what it voted or spent must not go on.
        day: names the copy of the damaged file.

    Raises:
        ConfigError: the other tables cannot be kept, and may not be given up; nothing was changed.
        ForkError: the entries are not those of the note; nothing was changed.
    """
    location = Location(path, url)
    if url:
        with closing(location.connect_writer()) as connection, declared(location.place), connection.begin():
            seal, lost = _check(connection, location, may_forget=may_forget)
            schema.upgrade(connection, location.place)
            for name in lost:
                connection.execute(delete(METADATA.tables[name]))
            seal = _refill(connection, frames, note, head, seal)
        damaged = ""
    else:
        seal, lost, damaged = _rebuild_file(location, frames, note, head, may_forget=may_forget, day=day)
    with declared(location.place):
        HeadFile(path.with_name("head")).write(head)
        location.seal_file.write(seal)
    return Rebuilt(damaged, lost)


def _rebuild_file(
    location: Location, frames: Sequence[bytes], note: bytes, head: Head, *, may_forget: bool, day: str
) -> tuple[Seal, tuple[str, ...], str]:
    path = location.path
    fresh = path.with_name(path.name + ".repaired")
    _remove(fresh)
    damaged = path.with_name(f"{path.name}.damaged-{day}")
    with declared(str(path)):
        kept = [_copied(path, damaged, side) for side in _SIDES]
    with closing(Location(fresh).connect_writer()) as into, declared(str(fresh)), into.begin():
        schema.upgrade(into, str(fresh))
        seal, lost = _salvage(damaged, into, location, may_forget=may_forget)
        seal = _refill(into, frames, note, head, seal)
    with declared(str(path)):
        _remove(path, sides=_SIDES[1:])  # an old write-ahead log must not be read into the new file
        fresh.replace(path)
        _remove(fresh)
        sync_folder(path.parent)
    return seal, lost, str(damaged) if any(kept) else ""


def _salvage(
    damaged: Path, into: Connection, location: Location, *, may_forget: bool
) -> tuple[Seal | None, tuple[str, ...]]:
    """Takes the other tables over from a copy of the old file, whose own write-ahead log is read into it first."""
    if not damaged.exists():
        return _given_up(location, may_forget=may_forget)
    work = damaged.with_name(damaged.name + ".read")
    for side in _SIDES:
        _copied(damaged, work, side)
    try:
        with closing(Location(work).connect_writer()) as old, damage_declared(str(damaged)), old.begin():
            seal, lost = _check(old, location, may_forget=may_forget)
            schema.upgrade(old, str(damaged))
            for table in _others():
                if table.name not in lost:
                    _copy_rows(old, into, table)
            return seal, lost
    except (ConfigError, ForkError):
        for table in _others():
            into.execute(delete(table))
        return _given_up(location, may_forget=may_forget)
    finally:
        _remove(work)


def _check(connection: Connection, location: Location, *, may_forget: bool) -> tuple[Seal | None, tuple[str, ...]]:
    """The seal of the other tables, and those that are to be given up. Raises ConfigError as `rebuild`."""
    try:
        return sealed.checked(connection, location.seal_file), ()
    except (ConfigError, ForkError):
        if not may_forget:
            raise
    stored = sealed.read(connection) if sealed.is_sealed(connection) else None
    if stored is not None and sealed.total(connection) == stored.digest:
        return _outside(location), ()  # older, as from a backup, but whole
    return _given_up(location, may_forget=may_forget)


def _given_up(location: Location, *, may_forget: bool) -> tuple[Seal | None, tuple[str, ...]]:
    if not may_forget:
        raise ConfigError(
            "What this node voted and spent cannot be read any more, or is older than what it acknowledged.",
            where=location.place,
            mend="Keep the folder as evidence and join again from a fresh one.",
        )
    return _outside(location), tuple(sorted(table.name for table in _others()))


def _outside(location: Location) -> Seal | None:
    try:
        return location.seal_file.read()
    except (ConfigError, ForkError):
        return None


def _refill(connection: Connection, frames: Sequence[bytes], note: bytes, head: Head, seal: Seal | None) -> Seal:
    for row in (EntryRow, CheckpointRow):
        connection.execute(delete(row))
    for start in range(0, len(frames), _CHUNK):
        rows = [
            {"index": index, "leaf_hash": leaf_hash(frame), "frame": frame}
            for index, frame in enumerate(frames[start : start + _CHUNK], start)
        ]
        connection.execute(insert(EntryRow), rows)
    connection.execute(insert(CheckpointRow), {"size": len(frames), "note": note})
    stored, _ = verified_log(connection)
    if stored != head:
        raise ForkError("The entries are not those of their checkpoint.", where=f"size {head.size}")
    return sealed.seal_anew(connection, seal)


def _others() -> list[Table]:
    return [table for table in METADATA.sorted_tables if table.name not in _LOG]


def _copy_rows(source: Connection, into: Connection, table: Table) -> None:
    rows = source.execute(select(func.count()).select_from(table)).scalar_one()
    with source.execute(select(table).execution_options(yield_per=1)) as found:
        for row in found.mappings():
            into.execute(insert(table), dict(row))
            rows -= 1
    if rows:
        raise ConfigError("A table of the store is damaged.", where=table.name)


def _copied(source: Path, target: Path, side: str) -> bool:
    old = source.with_name(source.name + side)
    if not old.exists():
        return False
    shutil.copy2(old, target.with_name(target.name + side))
    return True


def _remove(path: Path, sides: Sequence[str] = _SIDES) -> None:
    for side in sides:
        path.with_name(path.name + side).unlink(missing_ok=True)
