"""The node's copy of the log, in the database, checked against the head file.

What is stored is proved at open and at each append from the bytes read back, never from what was meant to be written.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlmodel import col

from consortium.errors import CheckpointError, ForkError, LimitError, NotFoundError
from consortium.ledger.checkpoint import Checkpoint, parse_checkpoint, parse_note
from consortium.ledger.entry import Head
from consortium.ledger.merkle import EMPTY_ROOT, Frontier, leaf_hash
from consortium.ledger.tiles import ENTRY_BYTES_MAX
from node.ports import StoredEntry
from node.store.database import Database
from node.store.head import HeadFile
from node.store.tables import CheckpointRow, EntryRow

_CHUNK = 1000
_MEND = (
    "Do not let this node write: keep the folder as evidence, set up a fresh folder and follow the log again from the"
    " coordinator or another member."
)


class SqlLedgerStore:
    """The `LedgerStore` port over the database; made by `SqlLedgerStore.open`."""

    def __init__(self, database: Database, head: HeadFile, frontier: Frontier, note: bytes | None) -> None:
        self._database = database
        self._head = head
        self._frontier = frontier
        self._note = note

    @classmethod
    async def open(cls, database: Database) -> SqlLedgerStore:
        """Verifies the stored log against its last checkpoint and the file `head` in the node's folder.

        Raises:
            ForkError: an entry or checkpoint was changed or lost, or the log is behind the head file, as it is after
                a backup was restored.
        """
        head = HeadFile(database.path.with_name("head"))
        frontier, note = await database.on_writer(lambda: _verified(database, head))
        return cls(database, head, frontier, note)

    async def append(self, entries: Sequence[StoredEntry], checkpoint: bytes) -> None:
        await self._database.on_writer(lambda: self._append(entries, checkpoint))

    async def size(self) -> int:
        return await self._database.on_writer(lambda: self._frontier.size)

    async def entries(self, start: int, end: int) -> list[bytes]:
        if not 0 <= start <= end <= await self.size():
            raise NotFoundError("The log has no such range of entries.", mend="Ask within the size of the checkpoint.")
        return await self._database.run(lambda connection: _frames(connection, start, end))

    async def checkpoint(self) -> bytes | None:
        return await self._database.on_writer(lambda: self._note)

    async def leaf_hashes(self) -> list[bytes]:
        query = select(col(EntryRow.leaf_hash)).order_by(col(EntryRow.index))
        return await self._database.run(lambda connection: list(connection.execute(query).scalars()))

    def _append(self, entries: Sequence[StoredEntry], note: bytes) -> None:
        checkpoint = parse_checkpoint(parse_note(note).text)
        frontier = self._database.transact(lambda connection: self._insert(connection, entries, note, checkpoint))
        self._frontier, self._note = frontier, note
        self._head.write(Head(checkpoint.size, checkpoint.root))

    def _insert(
        self, connection: Connection, entries: Sequence[StoredEntry], note: bytes, checkpoint: Checkpoint
    ) -> Frontier:
        start, end = self._frontier.size, self._frontier.size + len(entries)
        if [entry.index for entry in entries] != list(range(start, end)):
            raise ForkError("The entries do not continue the stored log.", where=f"entry {start}", mend=_MEND)
        if any(len(entry.frame) > ENTRY_BYTES_MAX for entry in entries):
            raise LimitError(f"An entry has more than {ENTRY_BYTES_MAX} bytes.", where=f"entries from {start}")
        if entries:
            connection.execute(insert(EntryRow), [_row(entry) for entry in entries])
        stored = _frames(connection, start, end)
        frontier = self._frontier.extend(leaf_hash(frame) for frame in stored)
        if (frontier.size, frontier.root()) != (checkpoint.size, checkpoint.root):
            raise ForkError("The checkpoint is not that of the stored entries.", where=f"size {end}", mend=_MEND)
        connection.execute(delete(CheckpointRow))
        connection.execute(insert(CheckpointRow), {"size": checkpoint.size, "note": note})
        return frontier


def _row(entry: StoredEntry) -> dict[str, object]:
    return {"index": entry.index, "leaf_hash": leaf_hash(entry.frame), "frame": entry.frame}


def _frames(connection: Connection, start: int, end: int) -> list[bytes]:
    index = col(EntryRow.index)
    query = select(col(EntryRow.frame)).where(index >= start, index < end).order_by(index)
    return list(connection.execute(query).scalars())


def _verified(database: Database, head_file: HeadFile) -> tuple[Frontier, bytes | None]:
    head = head_file.read()
    try:
        frontier, at_head, note = database.transact(lambda connection: _replay(connection, head))
    except OperationalError:  # The machine's fault (no space, no permission), which says nothing about the log.
        raise
    except DatabaseError as error:
        raise ForkError("The stored log cannot be read.", where=str(database.path), mend=_MEND) from error
    _check_note(frontier, note)
    if head is None and frontier.size:
        raise ForkError("The head file is missing beside a stored log.", where=str(head_file.path), mend=_MEND)
    if head is not None and at_head != head:
        raise ForkError(
            "The stored log is older than, or other than, what this node acknowledged: a backup was restored, or the"
            " database is damaged.",
            where=f"acknowledged size {head.size}, stored size {frontier.size}",
            mend=_MEND,
        )
    head_file.write(Head(frontier.size, frontier.root()))
    return frontier, note


def _replay(connection: Connection, head: Head | None) -> tuple[Frontier, Head | None, bytes | None]:
    """The frontier of the whole stored log, its head at the size of `head` if it gets there, and the stored note."""
    frontier = Frontier()
    at_head = Head(0, EMPTY_ROOT) if head is not None and head.size == 0 else None
    while rows := _rows(connection, frontier.size):
        hashes = [_proved(row_index, index, stored, frame) for index, (row_index, stored, frame) in rows]
        if head is not None and 0 <= head.size - frontier.size - 1 < len(hashes):
            at_head = Head(head.size, frontier.extend(hashes[: head.size - frontier.size]).root())
        frontier = frontier.extend(hashes)
    note = connection.execute(select(col(CheckpointRow.note))).scalar_one_or_none()
    return frontier, at_head, note


def _rows(connection: Connection, start: int) -> list[tuple[int, tuple[int, bytes, bytes]]]:
    index = col(EntryRow.index)
    query = (
        select(index, col(EntryRow.leaf_hash), col(EntryRow.frame)).where(index >= start).order_by(index).limit(_CHUNK)
    )
    return list(enumerate(((row[0], row[1], row[2]) for row in connection.execute(query)), start))


def _proved(row_index: int, index: int, stored: bytes, frame: bytes) -> bytes:
    if row_index != index or leaf_hash(frame) != stored:
        raise ForkError("An entry of the stored log was changed or lost.", where=f"entry {index}", mend=_MEND)
    return stored


def _check_note(frontier: Frontier, note: bytes | None) -> None:
    if note is None:
        if frontier.size:
            raise ForkError("The checkpoint of the stored log is lost.", where="checkpoint", mend=_MEND)
        return
    try:
        checkpoint = parse_checkpoint(parse_note(note).text)
    except CheckpointError as error:
        raise ForkError("The checkpoint of the stored log is damaged.", where="checkpoint", mend=_MEND) from error
    if (checkpoint.size, checkpoint.root) != (frontier.size, frontier.root()):
        raise ForkError(
            "The stored entries are not those of the stored checkpoint.",
            where=f"checkpoint size {checkpoint.size}, stored size {frontier.size}",
            mend=_MEND,
        )
