"""Moves a node's whole store from SQLite to PostgreSQL, or back, without losing history."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Table, func, insert, select
from sqlmodel import col

from consortium.errors import ConfigError
from consortium.ledger.entry import Head
from node.store import schema, sealed
from node.store.database import Database, Location
from node.store.faults import damage_declared, declared
from node.store.ledger import SqlLedgerStore, verified_log
from node.store.tables import METADATA, TranscriptRow

_CHUNK = 500
_ROWS_MAX_OF_LARGE = {"transcript": 1}  # half a gigabyte each at most

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Copied:
    """What was copied and compared: where from, where to, rows of each table, and the log's head at both places."""

    source: str
    target: str
    rows: dict[str, int]
    head: Head


async def copy_store(path: Path, source_url: str, target_url: str, progress: Progress) -> Copied:
    """Copies the store of a stopped node, all of it or nothing, and compares every row and the log's root.

    Args:
        path: the node's SQLite file; it is the source or the target whose URL is "".
        source_url: `postgresql+psycopg://...`, or "".
        target_url: likewise; what it names must hold no row.
        progress: is told a table's name, how many of its rows are copied, and how many there are.

    Raises:
        ConfigError: the node runs, source and target are one, the target is not empty, or the copy differs.
        ForkError: the source is not what the node acknowledged; nothing is copied.
        UnavailableError: a database cannot be reached or written.
    """
    target = Location(path, target_url)
    if target.place == Location(path, source_url).place:
        raise ConfigError("The store is there already.", where=target.place, mend="Name another database.")
    database = await Database.open(path, source_url)
    try:
        await SqlLedgerStore.open(database)
        return await database.on_writer(
            lambda: database.transact(lambda source: _copy(source, database.place, target, progress))
        )
    finally:
        await database.close()


def _copy(source: Connection, place: str, target: Location, progress: Progress) -> Copied:
    with closing(target.connect_writer()) as into, declared(target.place), into.begin():
        with damage_declared(target.place):
            schema.upgrade(into, target.place)
        _check_empty(into, target.place)
        rows = {table.name: _copy_table(source, into, table, progress) for table in METADATA.sorted_tables}
        log = verified_log(into)
        if log != verified_log(source) or not _agree(source, into, rows):
            raise ConfigError(
                "The copy differs from the store.", where=target.place, mend="Nothing was kept of it: try again."
            )
        return Copied(place, target.place, rows, log[0])


def _check_empty(connection: Connection, place: str) -> None:
    for table in METADATA.sorted_tables:
        if _count(connection, table):
            raise ConfigError(
                "The target holds a store already.",
                where=f"{place}, table {table.name}",
                mend="Name an empty database, or move the old file away.",
            )


def _copy_table(source: Connection, into: Connection, table: Table, progress: Progress) -> int:
    count, done = _count(source, table), 0
    query = select(table).execution_options(yield_per=_ROWS_MAX_OF_LARGE.get(table.name, _CHUNK))
    with source.execute(query) as rows:
        for part in rows.mappings().partitions():
            into.execute(insert(table), [dict(row) for row in part])
            done += len(part)
            progress(table.name, done, count)
    return done


def _agree(source: Connection, into: Connection, rows: dict[str, int]) -> bool:
    return (
        all(_count(into, table) == rows[table.name] for table in METADATA.sorted_tables)
        and sealed.read(into) == sealed.read(source)
        and sealed.total(into) == sealed.total(source)
        and _has_whole_transcripts(into)
    )


def _has_whole_transcripts(connection: Connection) -> bool:
    query = select(col(TranscriptRow.digest), col(TranscriptRow.transcript)).execution_options(yield_per=1)
    with connection.execute(query) as rows:
        return all(hashlib.sha256(transcript).digest() == digest for digest, transcript in rows)


def _count(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()
