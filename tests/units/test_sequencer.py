"""The sequencer: one order, one checkpoint for many entries, nothing appended that has a fault, nobody left waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from consortium.errors import EncodingError, EntryError, NotAuthorisedError, SignatureError, UnavailableError
from consortium.ledger.checkpoint import NoteKey, open_checkpoint
from node.coordinator.sequencer import Sequencer
from node.ports import StoredEntry
from node.services.mirror import Mirror
from tests.worlds import World, documents


@dataclass
class MemoryStore:
    """A `LedgerStore` that counts its commits and can fail."""

    frames: list[bytes] = field(default_factory=list)
    notes: list[bytes] = field(default_factory=list)
    failure: Exception | None = None
    gate: asyncio.Event | None = None

    async def append(self, entries: Sequence[StoredEntry], checkpoint: bytes) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        assert [entry.index for entry in entries] == list(range(len(self.frames), len(self.frames) + len(entries)))
        self.frames += [entry.frame for entry in entries]
        self.notes.append(checkpoint)

    async def size(self) -> int:
        return len(self.frames)

    async def entries(self, start: int, end: int) -> list[bytes]:
        return self.frames[start:end]

    async def checkpoint(self) -> bytes | None:
        return self.notes[-1] if self.notes else None

    async def leaf_hashes(self) -> list[bytes]:
        raise NotImplementedError


async def unwitnessed(note: bytes) -> bytes:
    return note


@asynccontextmanager
async def sequencing(store: MemoryStore, world: World) -> AsyncIterator[tuple[Sequencer, asyncio.Task[None]]]:
    """A sequencer at work whose log holds the world's first entry."""
    mirror = Mirror(store, world.ledger.frames[0])
    sequencer = Sequencer(mirror, world.coordinator, unwitnessed)
    work = asyncio.create_task(sequencer.run())
    await asyncio.sleep(0)
    try:
        await sequencer.append(None, world.ledger.frames[0])
        yield sequencer, work
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def test_entries_that_wait_together_share_one_checkpoint() -> None:
    world, store = World().found().join(), MemoryStore()
    async with sequencing(store, world) as (sequencer, _):
        receipts = await asyncio.gather(*(sequencer.append(None, frame) for frame in world.ledger.frames[1:]))
        assert [index for index, _ in receipts] == list(range(1, 9))
        assert len(store.notes) == 2
        assert {note for _, note in receipts} == {store.notes[-1]}
        key = NoteKey(documents.ORIGIN, world.coordinator.public_key)
        checkpoint = open_checkpoint(store.notes[-1], [key])
        assert (checkpoint.size, checkpoint.root) == (9, world.ledger.replay.root)
        assert store.frames == world.ledger.frames


async def test_a_group_waits_for_as_many_authors_as_were_just_answered() -> None:
    world, store = World().found().join().offer(), MemoryStore()
    earlier, (first, *later) = world.ledger.frames[1:9], world.ledger.frames[9:]
    async with sequencing(store, world) as (sequencer, _):
        await asyncio.gather(*(sequencer.append(None, frame) for frame in earlier))
        soonest = asyncio.create_task(sequencer.append(None, first))
        await asyncio.sleep(0.005)
        await asyncio.gather(soonest, *(sequencer.append(None, frame) for frame in later))
        assert len(store.notes) == 3


async def test_an_author_alone_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.coordinator.sequencer.GATHER_S", 3600.0)
    world, store = World().found().join(), MemoryStore()
    async with sequencing(store, world) as (sequencer, _), asyncio.timeout(20):
        for frame in world.ledger.frames[1:]:
            await sequencer.append(None, frame)
        assert len(store.notes) == len(world.ledger.frames)


async def test_the_same_bytes_again_get_the_same_index() -> None:
    """Fails without `_stands`: a retry after a lost answer would be refused as a replay."""
    world, store = World().found().join(), MemoryStore()
    async with sequencing(store, world) as (sequencer, _):
        frame = world.ledger.frames[1]
        together = await asyncio.gather(*(sequencer.append(world.members[0].key_id, frame) for _ in range(3)))
        again = await sequencer.append(world.members[0].key_id, frame)
        assert [index for index, _ in (*together, again)] == [1] * 4
        assert len(store.frames) == 2


async def test_an_entry_of_another_author_is_refused() -> None:
    """Fails without the comparison of caller and author: a member could spread what another has not sent."""
    world, store = World().found().join(), MemoryStore()
    async with sequencing(store, world) as (sequencer, _):
        with pytest.raises(NotAuthorisedError):
            await sequencer.append(world.members[1].key_id, world.ledger.frames[1])
        assert len(store.frames) == 1


async def test_a_faulty_entry_is_refused_and_nothing_is_appended() -> None:
    """Fails when the sequencer feeds instead of offers; a good entry in the same group stands."""
    world, store = World().found().join(), MemoryStore()
    late = world.ledger.frames[3]
    forged = late[:-1] + bytes([late[-1] ^ 1])
    async with sequencing(store, world) as (sequencer, _):
        outcomes = await asyncio.gather(
            sequencer.append(None, world.ledger.frames[2]),  # an admission before its enrolment
            sequencer.append(None, world.ledger.frames[1]),
            return_exceptions=True,
        )
        assert isinstance(outcomes[0], EntryError)
        assert outcomes[1][0] == 1  # type: ignore[index]
        with pytest.raises((EntryError, SignatureError, EncodingError)):
            await sequencer.append(None, forged)
        with pytest.raises(SignatureError):
            await sequencer.append(None, b"no frame")
        assert store.frames == world.ledger.frames[:2]


async def test_a_store_that_fails_ends_the_sequencer_and_nobody_waits_in_vain() -> None:
    """Fails without the end of `run`: callers in the group, behind it, and after it would wait for ever."""
    world, store = World().found().join(), MemoryStore()
    async with sequencing(store, world) as (sequencer, work):
        store.gate, store.failure = asyncio.Event(), OSError("no space")
        first = asyncio.create_task(sequencer.append(None, world.ledger.frames[1]))
        await asyncio.sleep(0.01)
        behind = asyncio.create_task(sequencer.append(None, world.ledger.frames[2]))
        await asyncio.sleep(0.01)
        store.gate.set()
        outcomes = await asyncio.wait_for(asyncio.gather(first, behind, return_exceptions=True), 10)
        assert [type(outcome) for outcome in outcomes] == [UnavailableError] * 2
        with pytest.raises(OSError, match="no space"):
            await work
        with pytest.raises(UnavailableError):
            await sequencer.append(None, world.ledger.frames[3])
