"""A member's copy of the log: it grows under verified checkpoints only, and never changes."""

from __future__ import annotations

import asyncio

import pytest

from consortium.errors import CheckpointError, ForkError
from consortium.keys import SigningKey
from consortium.replay import Replay
from node.services.api import Batch
from node.services.mirror import Mirror
from tests.units.test_sequencer import MemoryStore
from tests.worlds import World


def grown() -> World:
    return World().found().join()


async def copy_of(world: World, size: int, store: MemoryStore | None = None) -> Mirror:
    """A copy of the world's first entries."""
    mirror = Mirror(store or MemoryStore(), world.ledger.frames[0])
    await mirror.extend(Batch(0, tuple(world.ledger.frames[:size]), world.ledger.note(world.coordinator, size=size)))
    return mirror


def rest(world: World, start: int, note: bytes | None = None) -> Batch:
    return Batch(start, tuple(world.ledger.frames[start:]), note or world.ledger.note(world.coordinator))


async def test_it_grows_and_is_the_same_after_a_restart() -> None:
    world, store = grown(), MemoryStore()
    mirror = await copy_of(world, 4, store)
    await mirror.extend(rest(world, 4))
    assert mirror.acknowledged_size == len(world.ledger.frames)
    assert mirror.head == world.ledger.head
    again = Mirror(store, world.ledger.frames[0])
    await again.load()
    assert (again.head, again.state) == (mirror.head, mirror.state)


async def test_what_became_of_an_entry_is_the_same_from_memory_and_from_the_store() -> None:
    world, store = grown(), MemoryStore()
    world.ledger.force(b"\x01" * 200)
    world.ledger.force(world.ledger.frames[-2][:-1] + b"x")
    size = len(world.ledger.frames)
    mirror = await copy_of(world, 4, store)
    await mirror.extend(rest(world, 4))
    again = Mirror(store, world.ledger.frames[0])
    await again.load()
    replay = Replay()
    told = [replay.feed(frame) for frame in world.ledger.frames]
    assert [step.index for step in told if step.fault] == [size - 2, size - 1]
    assert await mirror.steps(0, size) == await again.steps(0, size) == told
    assert await mirror.steps(2, 3) == await again.steps(2, 3) == told[2:3]


async def test_entries_count_only_under_a_checkpoint() -> None:
    world = grown()
    mirror = await copy_of(world, 4)
    waiting = asyncio.create_task(mirror.wait_for_size(5))
    await mirror.extend(Batch(4, tuple(world.ledger.frames[4:6]), b""))
    await asyncio.sleep(0.01)
    assert (mirror.acknowledged_size, waiting.done()) == (4, False)
    await mirror.extend(rest(world, 6))
    await asyncio.wait_for(waiting, 10)
    assert mirror.acknowledged_size == len(world.ledger.frames)


async def test_entries_that_are_here_already_are_left_out() -> None:
    world = grown()
    mirror = await copy_of(world, 6)
    await mirror.extend(rest(world, 2))
    assert mirror.head == world.ledger.head


@pytest.mark.parametrize("wrong", ["key", "origin", "garbage"])
async def test_a_checkpoint_of_another_key_is_refused(wrong: str) -> None:
    """Fails when the note's signature is not checked against the charter's key and origin."""
    world = grown()
    mirror = await copy_of(world, 4)
    note = {
        "key": world.ledger.note(SigningKey(b"\x77" * 32)),
        "origin": world.ledger.note(world.coordinator, origin="another.example/log"),
        "garbage": b"no note",
    }[wrong]
    with pytest.raises((CheckpointError, ForkError)):
        await mirror.extend(rest(world, 4, note))
    assert mirror.acknowledged_size == 4


async def test_a_fork_is_refused() -> None:
    """Fails when the checkpoint's root is not compared with that of the entries here."""
    world, other = grown(), World().found()
    for position in (1, 0, 2, 3):
        other.enrol(position)
    mirror = await copy_of(world, 4)
    with pytest.raises((ForkError, CheckpointError)):
        await mirror.extend(Batch(4, tuple(other.ledger.frames[4:]), other.ledger.note(other.coordinator)))
    assert mirror.acknowledged_size == 4


async def test_a_gap_is_refused() -> None:
    world = grown()
    mirror = await copy_of(world, 4)
    with pytest.raises(ForkError, match="left entries out"):
        await mirror.extend(rest(world, 5))


async def test_a_checkpoint_over_more_than_was_sent_is_refused() -> None:
    world = grown()
    mirror = await copy_of(world, 4)
    with pytest.raises((ForkError, CheckpointError)):
        await mirror.extend(Batch(4, tuple(world.ledger.frames[4:6]), world.ledger.note(world.coordinator)))
    assert mirror.acknowledged_size == 4


async def test_another_genesis_is_refused() -> None:
    """Fails without the comparison with the genesis that this node joined."""
    world, joined = grown(), World()
    genesis = joined.ledger.add(joined.coordinator, "genesis", _renamed(joined)).frame.data
    mirror = Mirror(MemoryStore(), genesis)
    with pytest.raises((ForkError, CheckpointError)):
        await mirror.extend(rest(world, 0))
    stored = MemoryStore()
    await copy_of(world, 4, stored)
    again = Mirror(stored, genesis)
    with pytest.raises((ForkError, CheckpointError)):
        await again.load()


def _renamed(world: World) -> dict[str, object]:
    from tests.worlds import documents

    return documents.genesis(world.coordinator) | {"name": "Another consortium"}


async def test_a_caller_beyond_the_log_is_told_of_a_fork() -> None:
    mirror = await copy_of(grown(), 4)
    with pytest.raises(ForkError, match="shorter"):
        await anext(mirror.batches(5))


async def test_batches_and_steps_come_as_the_copy_grows() -> None:
    world = grown()
    mirror = await copy_of(world, 4)
    batches, steps = mirror.batches(2), mirror.follow(3)
    first = await anext(batches)
    assert (first.start, first.frames) == (2, tuple(world.ledger.frames[2:4]))
    assert (await anext(steps)).index == 3
    late = [asyncio.ensure_future(anext(batches)), asyncio.ensure_future(anext(steps))]
    await mirror.extend(rest(world, 4))
    batch, step = await asyncio.wait_for(asyncio.gather(*late), 10)
    assert batch.frames == tuple(world.ledger.frames[4:])
    assert step.index == 4
    await batches.aclose()  # type: ignore[attr-defined]
    await steps.aclose()  # type: ignore[attr-defined]
