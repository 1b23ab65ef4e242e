"""One member's pen: entries in order, each acknowledged, none half said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from consortium.errors import CheckpointError, EntryError, ForkError, UnavailableError
from consortium.keys import SigningKey
from consortium.ledger.checkpoint import parse_checkpoint, parse_note, sign_checkpoint
from consortium.ledger.entry import Draft
from node.coordinator.sequencer import Sequencer
from node.services.author import Author
from node.services.mirror import Mirror
from tests.units.test_sequencer import MemoryStore, unwitnessed
from tests.worlds import World

APPS = [Draft("app", f"app/{n}", {"name": f"app-{n}", "digest": f"{n:064x}"}) for n in range(4)]


class Way:
    """The way to the sequencer, with what a test does on it."""

    def __init__(self, sequencer: Sequencer) -> None:
        self.sequencer = sequencer
        self.frames: list[bytes] = []
        self.before: Callable[[], Awaitable[None]] | None = None
        self.lose_answers = 0

    async def append(self, frame: bytes) -> tuple[int, bytes]:
        self.frames.append(frame)
        if self.before is not None:
            await self.before()
        receipt = await self.sequencer.append(None, frame)
        if self.lose_answers:
            self.lose_answers -= 1
            raise UnavailableError("The answer was lost.")
        return receipt


@asynccontextmanager
async def writing(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Author, Way, Mirror, World]]:
    monkeypatch.setattr("node.services.author.RETRY_S", 0.01)
    world, store = World().found(), MemoryStore()
    mirror = Mirror(store, world.ledger.frames[0])
    sequencer = Sequencer(mirror, world.coordinator, unwitnessed)
    work = asyncio.create_task(sequencer.run())
    await asyncio.sleep(0)
    try:
        await sequencer.append(None, world.ledger.frames[0])
        way = Way(sequencer)
        yield Author(world.coordinator, mirror, way.append), way, mirror, world
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def test_entries_said_at_once_are_signed_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails without the lock: two entries would claim the same place in their author's chain."""
    async with writing(monkeypatch) as (author, _, mirror, _):
        said = await asyncio.gather(*(author.say(draft) for draft in APPS))
        assert [item.index for item in said] == [1, 2, 3, 4]
        assert [step.entry.leaf for step in await mirror.steps(1, 5) if step.entry] == [item.leaf for item in said]


async def test_what_was_said_is_not_said_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with writing(monkeypatch) as (author, way, mirror, _):
        first = await author.say(APPS[0])
        assert await author.say(APPS[0]) == first
        assert (len(way.frames), mirror.size) == (1, 2)


async def test_a_lost_answer_is_asked_for_again_with_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a retry signs anew: once others have written, the same key would stand twice."""
    async with writing(monkeypatch) as (author, way, mirror, _):
        way.lose_answers = 2
        said = await author.say(APPS[0])
        assert said.index == 1
        assert len(way.frames) == 3
        assert len(set(way.frames)) == 1
        assert mirror.size == 2


async def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async with writing(monkeypatch) as (author, way, _, _):
        monkeypatch.setattr("node.services.author.PATIENCE_S", 0.03)
        way.lose_answers = 1_000
        with pytest.raises(UnavailableError, match="lost"):
            await author.say(APPS[0])


async def test_a_cancelled_caller_leaves_the_chain_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when the caller's end also ends the entry under way: the next one would be signed for its place."""
    async with writing(monkeypatch) as (author, way, mirror, _):
        go_on = asyncio.Event()

        async def hold() -> None:
            await go_on.wait()

        way.before = hold
        caller = asyncio.create_task(author.say(APPS[0]))
        await asyncio.sleep(0.01)
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        following = asyncio.create_task(author.say(APPS[1]))
        await asyncio.sleep(0.01)
        go_on.set()
        assert (await asyncio.wait_for(following, 10)).index == 2
        assert [step.entry.key for step in await mirror.steps(1, 3) if step.entry] == ["app/0", "app/1"]


async def test_a_refused_entry_is_an_error_and_the_next_one_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    async with writing(monkeypatch) as (author, _, _, _):
        with pytest.raises(EntryError, match="no enrolment"):
            await author.say(Draft("admission", "admission", {"member": "0" * 64, "enrolment": "0" * 64}))
        assert (await author.say(APPS[0])).index == 1


async def test_another_entry_in_the_acknowledged_place_is_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails without the look at what stands at the index that the sequencer named."""
    async with writing(monkeypatch) as (author, way, mirror, world):

        async def lie(frame: bytes) -> tuple[int, bytes]:
            _, receipt = await way.append(frame)
            return 0, receipt

        liar = Author(world.coordinator, mirror, lie)
        with pytest.raises(ForkError, match="another in its place"):
            await liar.say(APPS[0])
        assert mirror.stopped is not None
        with pytest.raises(ForkError, match="stopped following"):
            await author.say(APPS[1])
        assert len(way.frames) == 1


@pytest.mark.parametrize("receipt", ["too small", "another key's", "none"])
async def test_a_receipt_that_proves_nothing_is_not_relied_on(monkeypatch: pytest.MonkeyPatch, receipt: str) -> None:
    """Fails without the check of the note that comes with an acknowledgement."""
    async with writing(monkeypatch) as (_, way, mirror, world):
        before = mirror.acknowledged
        assert before is not None

        async def lie(frame: bytes) -> tuple[int, bytes]:
            index, note = await way.append(frame)
            text = parse_note(note).text
            forged = sign_checkpoint(parse_checkpoint(text), SigningKey(b"\x77" * 32), mirror.origin).encode()
            return index, {"too small": before.note, "another key's": forged, "none": b""}[receipt]

        with pytest.raises(CheckpointError):
            await Author(world.coordinator, mirror, lie).say(APPS[0])
