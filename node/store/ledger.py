"""The node's copy of the log, in the database, checked against the head file.

What is stored is proved at open and at each append from the bytes read back, never from what was meant to be written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select
from sqlmodel import col

from consortium.errors import CheckpointError, ConfigError, ForkError, LimitError, NotFoundError
from consortium.ledger.checkpoint import Checkpoint, parse_checkpoint, parse_note
from consortium.ledger.entry import Head
from consortium.ledger.merkle import EMPTY_ROOT, Frontier, leaf_hash
from consortium.ledger.tiles import ENTRY_BYTES_MAX
from node.ports import StoredEntry
from node.store.database import Database
from node.store.faults import damage_declared, declared
from node.store.head import HeadFile
from node.store.tables import CheckpointRow, EntryRow

RECENT_MAX = 300
_CHUNK = 1000
_MEND = (
    "Do not let this node write: keep a copy of the folder as evidence and run `consortium ledger repair`, which"
    " refills the log from what the other members verified."
)


@dataclass(frozen=True)
class _Stored:
    """What is on disk; the last entries as they were read back, since every follower asks for them at once."""

    frontier: Frontier
    note: bytes | None
    recent: tuple[bytes, ...]


class SqlLedgerStore:
    """The `LedgerStore` port over the database; made by `SqlLedgerStore.open`."""

    def __init__(self, database: Database, head: HeadFile, frontier: Frontier, note: bytes | None) -> None:
        self._database = database
        self._head = head
        self._stored = _Stored(frontier, note, ())  # replaced as one, by the writer thread, once it is on disk

    @classmethod
    async def open(cls, database: Database) -> SqlLedgerStore:
        """Verifies the stored log against its last checkpoint and the file `head` in the node's folder.

        Raises:
            ForkError: an entry or checkpoint was changed or lost, or the log is behind the head file, as it is after
                a backup was restored.
            UnavailableError: the machine or the server is at fault.
        """
        head = HeadFile(database.path.with_name("head"))
        frontier, note = await database.on_writer(lambda: _verified(database, head))
        return cls(database, head, frontier, note)

    async def append(self, entries: Sequence[StoredEntry], checkpoint: bytes) -> None:
        await self._database.on_writer(lambda: self._append(entries, checkpoint))

    async def size(self) -> int:
        return self._stored.frontier.size

    async def entries(self, start: int, end: int) -> list[bytes]:
        if not 0 <= start <= end <= await self.size():
            raise NotFoundError("The log has no such range of entries.", mend="Ask within the size of the checkpoint.")
        stored = self._stored
        first = stored.frontier.size - len(stored.recent)
        if start >= first:
            return list(stored.recent[start - first : end - first])
        # What is stored never changes, so a long range is read in many short queries: one long one would keep SQLite's
        # write-ahead log from being emptied.
        frames: list[bytes] = []
        for first in range(start, end, _CHUNK):
            frames += await self._database.read(_reading(first, min(first + _CHUNK, end)))
        return frames

    async def checkpoint(self) -> bytes | None:
        return self._stored.note

    async def leaf_hashes(self) -> list[bytes]:
        query = select(col(EntryRow.leaf_hash)).order_by(col(EntryRow.index)).limit(await self.size())
        return await self._database.read(lambda connection: list(connection.execute(query).scalars()))

    def _append(self, entries: Sequence[StoredEntry], note: bytes) -> None:
        checkpoint = parse_checkpoint(parse_note(note).text)
        head = Head(checkpoint.size, checkpoint.root)
        self._stored = self._database.transact(
            lambda connection: self._insert(connection, entries, note, checkpoint),
            acknowledge=lambda _: self._head.write(head) if entries else None,  # else it holds this head already
        )

    def _insert(
        self, connection: Connection, entries: Sequence[StoredEntry], note: bytes, checkpoint: Checkpoint
    ) -> _Stored:
        before = self._stored.frontier
        start, end = before.size, before.size + len(entries)
        if [entry.index for entry in entries] != list(range(start, end)):
            raise ForkError("The entries do not continue the stored log.", where=f"entry {start}", mend=_MEND)
        if any(len(entry.frame) > ENTRY_BYTES_MAX for entry in entries):
            raise LimitError(f"An entry has more than {ENTRY_BYTES_MAX} bytes.", where=f"entries from {start}")
        if entries:
            connection.execute(insert(EntryRow), [_row(entry) for entry in entries])
        stored = _frames(connection, start, end)
        frontier = before.extend(leaf_hash(frame) for frame in stored)
        if (frontier.size, frontier.root()) != (checkpoint.size, checkpoint.root):
            raise ForkError("The checkpoint is not that of the stored entries.", where=f"size {end}", mend=_MEND)
        connection.execute(delete(CheckpointRow))
        connection.execute(insert(CheckpointRow), {"size": checkpoint.size, "note": note})
        return _Stored(frontier, note, (*self._stored.recent, *stored)[-RECENT_MAX:])


def verified_log(connection: Connection) -> tuple[Head, bytes | None]:
    """The head of a stored log, derived from its bytes, and its checkpoint, which agrees; whatever was acknowledged.

    Raises:
        ForkError: an entry or the checkpoint was changed or lost.
    """
    frontier, _, note = _replay(connection, None)
    _check_note(frontier, note)
    return Head(frontier.size, frontier.root()), note


def _row(entry: StoredEntry) -> dict[str, object]:
    return {"index": entry.index, "leaf_hash": leaf_hash(entry.frame), "frame": entry.frame}


def _reading(start: int, end: int) -> Callable[[Connection], list[bytes]]:
    return lambda connection: _frames(connection, start, end)


def _frames(connection: Connection, start: int, end: int) -> list[bytes]:
    index = col(EntryRow.index)
    query = select(col(EntryRow.frame)).where(index >= start, index < end).order_by(index)
    return list(connection.execute(query).scalars())


def _verified(database: Database, head_file: HeadFile) -> tuple[Frontier, bytes | None]:
    head = head_file.read()
    try:
        with damage_declared(database.place):
            frontier, at_head, note = database.transact(lambda connection: _replay(connection, head))
    except ConfigError as error:
        raise ForkError("The stored log cannot be read.", where=database.place, mend=_MEND) from error
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
    now = Head(frontier.size, frontier.root())
    if now != head:
        with declared(database.place):
            head_file.write(now)
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
    notes = list(connection.execute(select(col(CheckpointRow.note))).scalars())
    if len(notes) > 1 or not all(isinstance(note, bytes) for note in notes):
        raise _damaged_checkpoint()
    return frontier, at_head, notes[0] if notes else None


def _rows(connection: Connection, start: int) -> list[tuple[int, tuple[object, object, object]]]:
    index = col(EntryRow.index)
    query = (
        select(index, col(EntryRow.leaf_hash), col(EntryRow.frame)).where(index >= start).order_by(index).limit(_CHUNK)
    )
    return list(enumerate(((row[0], row[1], row[2]) for row in connection.execute(query)), start))


def _proved(row_index: object, index: int, stored: object, frame: object) -> bytes:
    # A flipped bit can make a text or a number of what was stored as bytes.
    proved = leaf_hash(frame) if isinstance(frame, bytes) else None
    if row_index != index or proved is None or proved != stored:
        raise ForkError("An entry of the stored log was changed or lost.", where=f"entry {index}", mend=_MEND)
    return proved


def _check_note(frontier: Frontier, note: bytes | None) -> None:
    if note is None:
        if frontier.size:
            raise ForkError("The checkpoint of the stored log is lost.", where="checkpoint", mend=_MEND)
        return
    try:
        checkpoint = parse_checkpoint(parse_note(note).text)
    except CheckpointError as error:
        raise _damaged_checkpoint() from error
    if (checkpoint.size, checkpoint.root) != (frontier.size, frontier.root()):
        raise ForkError(
            "The stored entries are not those of the stored checkpoint.",
            where=f"checkpoint size {checkpoint.size}, stored size {frontier.size}",
            mend=_MEND,
        )


def _damaged_checkpoint() -> ForkError:
    return ForkError("The checkpoint of the stored log is damaged.", where="checkpoint", mend=_MEND)
