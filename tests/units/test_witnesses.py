"""The committee: what is acknowledged has k cosignatures, whatever a third of the witnesses do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from consortium.errors import CheckpointError, ForkError, NotAuthorisedError, UnavailableError
from consortium.keys import SigningKey
from consortium.ledger.checkpoint import Checkpoint, Note, format_note, parse_checkpoint, parse_note, sign_checkpoint
from consortium.ledger.cosignature import cosign, liars_tolerated, witness_name
from node.coordinator import witnesses as coordinator_side
from node.services import witness as member_side
from node.services.api import AddCheckpoint, Added, Fetched, Position, WitnessAsked, WitnessSays
from node.services.mirror import Mirror
from tests.units.test_sequencer import MemoryStore
from tests.worlds.committee import Committee, Seat, committee, when


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member_side, "RECONNECT_S", 0.01)
    monkeypatch.setattr(member_side, "RECONNECT_MAX_S", 0.05)


@asynccontextmanager
async def seated(size: int = 4) -> AsyncIterator[Committee]:
    async with committee(lambda _: MemoryStore(), size) as house:
        yield house


async def waits(house: Committee) -> asyncio.Task[tuple[int, bytes]]:
    """An append that is not acknowledged for a while."""
    appending = asyncio.create_task(house.append())
    await asyncio.sleep(0.1)
    assert not appending.done()
    return appending


async def test_a_receipt_carries_a_quorum_that_every_member_can_check() -> None:
    async with seated() as house:
        index, note = await house.append()
        checkpoint = house.ledger.replay.check_head(note)
        assert (index, checkpoint.size) == (10, 11)
        assert len(parse_note(note).signatures) >= 1 + 3
        await when(lambda: all(seat.mirror.acknowledged_size == 11 for seat in house.seats))


@pytest.mark.parametrize("size", [3, 4])
async def test_nothing_is_acknowledged_without_k_witnesses(size: int) -> None:
    """Fails when an append does not wait; it is acknowledged when a quorum returns."""
    async with seated(size) as house:
        await house.append()
        for seat in house.seats[: size - 2]:
            await seat.stop()
        appending = await waits(house)
        assert house.desk.mirror.acknowledged_size == 11
        await house.seats[0].start()
        assert (await asyncio.wait_for(appending, 10))[0] == 11


async def test_a_committee_of_three_works_and_tolerates_no_liar() -> None:
    assert liars_tolerated(3) == 0
    async with seated(3) as house:
        assert (await house.append())[0] == 10
        assert house.seats[3].key.key_id not in house.desk.witnesses.committee


async def test_a_dead_witness_delays_nobody_and_catches_up() -> None:
    async with seated() as house:
        await house.seats[2].stop()
        await asyncio.wait_for(house.append(5), 10)
        await house.seats[2].start()
        await when(lambda: house.seats[2].mirror.size == 15)
        await house.seats[0].stop()
        await asyncio.wait_for(house.append(), 10)


async def test_a_slow_witness_delays_nobody_and_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when the wait for an answer has no end: the stream of a witness that hangs would stay for ever."""
    monkeypatch.setattr(coordinator_side, "ANSWER_S", 0.2)
    async with seated() as house:
        slow = house.seats[1]
        slow.flowing.clear()
        await asyncio.wait_for(house.append(3), 10)
        await when(lambda: slow.key.key_id not in house.desk.witnesses.attending)
        slow.flowing.set()
        await house.seats[0].stop()
        await asyncio.wait_for(house.append(), 10)


async def test_a_witness_far_behind_is_led_to_the_head_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when all that it lacks is sent in one message, which nobody may take."""
    monkeypatch.setattr(coordinator_side, "FRAMES_MAX", 3)
    async with seated() as house:
        late = house.seats[3]
        await late.stop()
        await house.append(8)
        for seat in house.seats[:3]:
            await seat.stop()
        sizes: list[int] = []
        late.follows = False

        def note_size(message: WitnessAsked) -> WitnessAsked:
            assert isinstance(message, AddCheckpoint)
            sizes.append(len(message.frames))
            return message

        late.asked = note_size
        appending = asyncio.create_task(house.append())
        await late.start()
        await when(lambda: late.mirror.size == 19)
        assert max(sizes) == 3
        for seat in house.seats[:2]:
            await seat.start()
        await asyncio.wait_for(appending, 10)


Lie = Callable[[Seat, Added], Added]


def _line(seat: Seat, signer: SigningKey, text: str) -> bytes:
    line = cosign(text, signer, witness_name(seat.mirror.origin, seat.key.key_id), 1)
    return format_note(Note(text, (line,))).removeprefix(text + "\n").encode()


def _text(seat: Seat) -> str:
    return parse_note(seat.store.notes[-1]).text  # type: ignore[attr-defined]


LIES: dict[str, Lie] = {
    "no signature": lambda _, said: replace(said, cosignature=b""),
    "garbage": lambda _, said: replace(said, cosignature=b"\xff\x00"),
    "another key": lambda seat, said: replace(said, cosignature=_line(seat, SigningKey(b"\x66" * 32), _text(seat))),
    "another text": lambda seat, said: replace(
        said, cosignature=_line(seat, seat.key, _text(seat).replace("\n1", "\n2", 1))
    ),
    "a bit": lambda _, said: replace(said, cosignature=said.cosignature[:-4] + b"AA=\n"),
    "always stale": lambda _, said: Added(409, 3, b""),
    "ever larger": lambda _, said: Added(409, said.size + 100, b""),
    "refuses": lambda _, said: Added(422, said.size, b""),
    "another size": lambda _, said: replace(said, size=1 << 40),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_lying_witness_neither_counts_nor_delays(lie: str) -> None:
    """Fails when a cosignature is counted that does not verify, and when a refusal is asked about for ever."""
    async with seated() as house:
        liar, asked = house.seats[0], [0]

        def lies(said: WitnessSays) -> WitnessSays:
            return LIES[lie](liar, said) if isinstance(said, Added) else said

        def count(message: WitnessAsked) -> WitnessAsked:
            asked[0] += 1
            return message

        liar.said, liar.asked = lies, count
        _, note = await asyncio.wait_for(house.append(), 10)
        names = {line.name for line in parse_note(note).signatures}
        assert witness_name(liar.mirror.origin, liar.key.key_id) not in names
        house.ledger.replay.check_head(note)
        await house.seats[1].stop()
        appending = await waits(house)
        assert asked[0] < 400  # its stream ends, and it comes back after a pause
        await house.seats[1].start()
        await asyncio.wait_for(appending, 10)


async def test_an_answer_to_nothing_ends_the_stream() -> None:
    async with seated() as house:
        link = house.desk.witnesses._links[house.seats[0].key.key_id]
        link.take(Fetched(0, ()))
        await when(lambda: house.desk.witnesses._links.get(house.seats[0].key.key_id) not in (link, None))
        await house.append()


async def test_clocks_of_witnesses_need_not_agree() -> None:
    """Times are the witnesses' own word: nothing compares them."""
    async with seated() as house:
        for seat, time in zip(house.seats, (1, 10**9, 4 * 10**9, 1 << 40), strict=True):
            seat.clock.time = time
        _, note = await house.append()
        house.ledger.replay.check_head(note)


async def test_a_member_off_the_committee_mirrors_and_is_not_asked() -> None:
    async with seated(3) as house:
        outside, asked = house.seats[3], []
        outside.asked = lambda message: asked.append(message) or message  # type: ignore[func-returns-value]
        await house.append(3)
        await when(lambda: outside.mirror.acknowledged_size == house.desk.mirror.size)
        assert outside.mirror.head == house.desk.mirror.head
        assert asked == []


async def test_a_member_off_the_committee_does_not_cosign() -> None:
    """Fails without its own look at the committee; it stays at work all the same."""
    async with seated(3) as house:
        outside = house.seats[3]
        await when(lambda: outside.mirror.size == house.desk.mirror.size)
        size, root = outside.mirror.size, outside.mirror.root
        note = sign_checkpoint(Checkpoint(outside.mirror.origin, size, root), house.desk.signer, outside.mirror.origin)
        duty = member_side.WitnessDuty(outside.key, outside.mirror, outside.store, outside.clock, outside.attend)
        assert (await duty._add(AddCheckpoint(size, (), note.encode(), ()))).status == 422
        assert outside.mirror.stopped is None


async def test_a_request_from_another_size_is_answered_409_with_ours() -> None:
    """C2SP tlog-witness: the log starts again from the size that the witness states."""
    async with seated() as house:
        seat = house.seats[0]
        await when(lambda: seat.mirror.size == 10)
        duty = member_side.WitnessDuty(seat.key, seat.mirror, seat.store, seat.clock, seat.attend)
        for old_size in (0, 9, 11):
            assert await duty._add(AddCheckpoint(old_size, (), b"", ())) == Added(409, 10, b"")
        assert seat.mirror.stopped is None


async def test_a_witness_stores_before_it_cosigns() -> None:
    """Fails when a cosignature leaves before its entries are on disk."""
    async with seated() as house:
        seats = house.seats[:3]
        await house.seats[3].stop()
        gate = asyncio.Event()
        seats[0].store.gate = gate  # type: ignore[attr-defined]
        appending = await waits(house)
        gate.set()
        await asyncio.wait_for(appending, 10)


async def test_a_newer_stream_ends_the_older_one_of_the_same_member() -> None:
    async with seated() as house:
        seat = house.seats[0]
        twin = Seat(seat.key, seat.genesis, seat.store, lambda: house.desk)
        await twin.start()
        await house.append(2)
        await twin.stop()
        await house.append(2)


async def test_witnesses_come_back_after_the_coordinator_restarts() -> None:
    async with seated() as house:
        await house.append(2)
        await house.desk.stop()
        await house.desk.start()
        await when(lambda: house.desk.is_open)
        assert (await house.append())[0] == 12


async def test_what_waited_for_a_quorum_is_told_when_the_coordinator_ends() -> None:
    async with seated() as house:
        for seat in house.seats:
            await seat.stop()
        appending = await waits(house)
        await house.desk.stop()
        with pytest.raises(UnavailableError, match="stopped"):
            await appending
        for seat in house.seats:
            await seat.start()
        await house.desk.start()
        await when(lambda: house.desk.is_open)
        assert house.desk.mirror.size == 11  # it was stored, and is cosigned now
        assert house.desk.mirror.acknowledged_size == 11


async def _incoming(*messages: WitnessSays) -> AsyncIterator[WitnessSays]:
    for message in messages:
        yield message


async def test_a_stream_that_does_not_begin_with_a_position_is_refused() -> None:
    async with seated() as house:
        for first in ((), (Added(200, 1, b""),)):
            with pytest.raises(NotAuthorisedError):
                await anext(house.desk.witnesses.attend(house.ids[0], _incoming(*first)))


@pytest.mark.parametrize("wrong", ["size", "key", "garbage", "nothing"])
async def test_a_position_that_the_log_did_not_sign_is_refused(wrong: str) -> None:
    """Fails when a member can make the sequencer believe in a head that it never signed."""
    async with seated() as house:
        mirror = house.desk.mirror
        forged = sign_checkpoint(Checkpoint(mirror.origin, 99, bytes(32)), SigningKey(b"\x66" * 32), mirror.origin)
        position = {
            "size": Position(11, (await house.desk.store.checkpoint()) or b""),
            "key": Position(99, forged.encode()),
            "garbage": Position(99, b"\xff"),
            "nothing": Position(99, b""),
        }[wrong]
        with pytest.raises(CheckpointError):
            await anext(house.desk.witnesses.attend(house.ids[0], _incoming(position)))
        assert (await house.append())[0] == 10


@pytest.mark.parametrize("size", [5, 40])
async def test_a_head_of_ours_that_is_not_in_our_log_stops_the_sequencer(size: int) -> None:
    """Fails without the comparison of positions once the sequencer is open: it would go on signing a fork."""
    async with seated() as house:
        mirror = house.desk.mirror
        note = sign_checkpoint(Checkpoint(mirror.origin, size, bytes(32)), house.desk.signer, mirror.origin).encode()
        stream = house.desk.witnesses.attend(house.ids[0], _incoming(Position(size, note)))
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        with pytest.raises(UnavailableError):
            await asyncio.wait_for(house.append(), 10)
        assert house.desk.work is not None
        with pytest.raises(ForkError, match="ledger repair"):
            await house.desk.work


async def test_a_note_has_its_quorum_before_anybody_follows_it() -> None:
    async with seated() as house:
        receipts = [await house.append() for _ in range(3)]
        store = MemoryStore()
        mirror = Mirror(store, house.genesis)
        batches = house.desk.mirror.batches(0)
        await mirror.extend(await anext(batches))
        await batches.aclose()  # type: ignore[attr-defined]
        assert mirror.head.size == 13
        for index, note in receipts:
            assert parse_checkpoint(parse_note(note).text).size > index
            await mirror.check_receipt(note, index)
