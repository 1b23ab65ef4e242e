"""The seal: what keeps a node from forgetting what it voted, reserved, redeemed and answered.

The Merkle root protects the log; it does not protect the other tables, and a database that is damaged or restored from
a backup can lose a row of them without noticing. So their rows are hashed, and the number of changes and the sum of
the hashes modulo 2^256 stand in a row of the database, changed with them in one transaction, and in a file outside it.
The sum makes a change cost one hash, not one for each row. It finds faults of the machine; against somebody who can
write to both the database and the file, nothing on this machine helps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, delete, insert, inspect, literal_column, select, table, update
from sqlmodel import SQLModel, col

from consortium.errors import ConfigError
from node.store.outside import OutsideFile
from node.store.tables import SealRow

FIRST_CHANGE = 1
_MODULUS = 1 << 256
_UNSEALED = frozenset({"entry", "checkpoint", "seal", "alembic_version"})
_SEALED_COLUMNS = {"transcript": frozenset({"digest"})}  # its content is checked against it whenever it is read
_PENDING = "node.store.sealed"
_CHUNK = 1000
_MEND = (
    "Keep a copy of the folder as evidence. A coordinator can be mended by `consortium ledger repair`; a member joins"
    " again from a fresh folder: a node that forgot what it voted or spent must not go on."
)


@dataclass(frozen=True)
class Seal:
    """How many transactions changed the sealed tables, and the sum of their rows' hashes modulo 2^256."""

    changes: int
    digest: int


@dataclass(frozen=True)
class SealFile:
    """The file that holds the last acknowledged seal."""

    path: Path

    def write(self, seal: Seal) -> None:
        """Replaces the seal, durably."""
        OutsideFile(self.path).write({"changes": seal.changes, "digest": _bytes(seal.digest).hex()})

    def read(self) -> Seal | None:
        """The seal, or None if there never was one.

        Raises:
            ForkError: the file is damaged.
            ConfigError: the file is no seal.
        """
        value = OutsideFile(self.path).read()
        if value is None:
            return None
        try:
            return Seal(int(value["changes"]), int.from_bytes(bytes.fromhex(value["digest"])))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError("The file of the node's seal is damaged.", where=str(self.path), mend=_MEND) from error


def add(connection: Connection, row: SQLModel) -> None:
    """Inserts a row into a sealed table."""
    into = _table(row)
    values = row.model_dump()
    connection.execute(insert(into), values)
    _change(connection, +_row_digest(into.name, values))


def replace(connection: Connection, row: SQLModel) -> None:
    """Writes a row of a sealed table in the place of the one with its primary key."""
    into = _table(row)
    values = row.model_dump()
    same = [column == values[column.name] for column in into.primary_key]
    before = [dict(found) for found in connection.execute(select(into).where(*same)).mappings()]
    connection.execute(delete(into).where(*same))
    _change(connection, -sum(_row_digest(into.name, found) for found in before))
    add(connection, row)


def remove(connection: Connection, row: SQLModel) -> None:
    """Deletes a stored row of a sealed table."""
    source = _table(row)
    values = row.model_dump()
    gone = connection.execute(delete(source).where(*(column == values[column.name] for column in source.primary_key)))
    assert gone.rowcount == 1, "only a stored row is removed"
    _change(connection, -_row_digest(source.name, values))


def forget_pending(connection: Connection) -> None:
    """Before a transaction: nothing of a former one, which may have been rolled back, is remembered."""
    connection.info.pop(_PENDING, None)


def pending(connection: Connection) -> Seal | None:
    """The seal that the last transaction wrote; None if it changed no sealed table."""
    return connection.info.get(_PENDING)


def is_sealed(connection: Connection) -> bool:
    """Whether the database has a seal: one without is new, or from before there were seals."""
    return inspect(connection).has_table("seal")


def checked(connection: Connection, file: SealFile) -> Seal | None:
    """The seal of the database, compared with its rows and with the file; None for a database without.

    Raises:
        ConfigError: a row was changed or lost, or the database is older than the file, as after a backup was restored.
        ForkError: the file is damaged.
    """
    outside = file.read()
    if not is_sealed(connection):
        if outside is not None:
            raise _older(file)
        return None
    stored = read(connection)
    if stored is None or total(connection) != stored.digest:
        raise ConfigError(
            "A row of the node's store was changed or lost: the store is damaged.", where=str(file.path), mend=_MEND
        )
    if outside is None and stored.changes > FIRST_CHANGE:
        raise ConfigError("The file of the node's seal is missing.", where=str(file.path), mend=_MEND)
    # A crash between the commit and the file leaves the database one change ahead.
    if outside is not None and outside != stored and outside.changes + 1 != stored.changes:
        raise _older(file)
    return stored


def seal_anew(connection: Connection, before: Seal | None) -> Seal:
    """Seals the rows as they are, after a migration changed tables."""
    seal = Seal(before.changes + 1 if before else FIRST_CHANGE, total(connection))
    write(connection, seal)
    return seal


def read(connection: Connection) -> Seal | None:
    """The seal in the database; None if it was damaged."""
    rows = connection.execute(select(col(SealRow.changes), col(SealRow.digest))).all()
    if len(rows) != 1 or type(rows[0][0]) is not int or not isinstance(rows[0][1], bytes):
        return None
    return Seal(rows[0][0], int.from_bytes(rows[0][1]))


def write(connection: Connection, seal: Seal) -> None:
    """Puts a seal into the database."""
    connection.execute(delete(SealRow))
    connection.execute(insert(SealRow), {"changes": seal.changes, "digest": _bytes(seal.digest)})


def total(connection: Connection) -> int:
    """The sum of the hashes of all rows of the sealed tables, as they are in the database.

    It reads what is there, not what the present tables declare, so that a store is checked before it is migrated.
    """
    names = sorted(set(inspect(connection).get_table_names()) - _UNSEALED)
    return sum(_row_digest(name, row) for name in names for row in _rows(connection, name)) % _MODULUS


def _rows(connection: Connection, name: str) -> Iterable[Mapping[str, Any]]:
    columns = sorted(_SEALED_COLUMNS.get(name, ())) or ["*"]
    listed: list[Any] = [literal_column(column) for column in columns]
    query = select(*listed).select_from(table(name)).execution_options(yield_per=_CHUNK)
    with connection.execute(query) as rows:
        yield from (dict(row) for row in rows.mappings())


def _change(connection: Connection, digest: int) -> None:
    former = pending(connection)
    if former is None:
        stored = read(connection)
        assert stored is not None, "an open database has a seal"
        former = Seal(stored.changes + 1, stored.digest)
    seal = Seal(former.changes, (former.digest + digest) % _MODULUS)
    connection.execute(update(SealRow).values(changes=seal.changes, digest=_bytes(seal.digest)))
    connection.info[_PENDING] = seal


def _row_digest(name: str, row: Mapping[str, Any]) -> int:
    """SHA-256 over the table's name and the columns that are not null, each with its name, type and length."""
    columns = _SEALED_COLUMNS.get(name)
    digest = hashlib.sha256(name.encode() + b"\n")
    for column, value in sorted(row.items()):
        if value is None or (columns is not None and column not in columns):
            continue
        kind, data = _encoded(value)
        digest.update(f"{column} {kind} {len(data)}\n".encode() + data)
    return int.from_bytes(digest.digest())


def _encoded(value: object) -> tuple[str, bytes]:
    match value:
        case bytes():
            return "bytes", value
        case str():
            return "text", value.encode()
        case int():
            return "integer", str(int(value)).encode()  # SQLite has no booleans, PostgreSQL has: both are 0 and 1.
        case _:  # A flipped bit made something else of it, which no row of ours has: it must only hash otherwise.
            return "other", repr(value).encode()


def _table(row: SQLModel) -> Table:
    declared: Table = type(row).__table__  # type: ignore[attr-defined]  # SQLModel does not declare it.
    assert declared.name not in _UNSEALED, "a sealed table"
    return declared


def _bytes(digest: int) -> bytes:
    return digest.to_bytes(32)


def _older(file: SealFile) -> ConfigError:
    return ConfigError(
        "The node's store is older than, or other than, what this node acknowledged: a backup was restored, or the"
        " database is damaged.",
        where=str(file.path),
        mend=_MEND,
    )
