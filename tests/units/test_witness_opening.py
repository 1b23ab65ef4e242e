"""A sequencer starts against outside memory: what its witnesses remember, or not at all."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from consortium.errors import ForkError, UnavailableError
from consortium.ledger.checkpoint import Checkpoint, parse_checkpoint, parse_note, sign_checkpoint
from node.coordinator import witnesses as coordinator_side
from node.services import witness as member_side
from node.services.api import AddCheckpoint, Fetched, WitnessAsked, WitnessSays
from node.store.database import Database
from node.store.head import HeadFile
from node.store.ledger import SqlLedgerStore
from tests.units.test_sequencer import MemoryStore
from tests.worlds.committee import Committee, Desk, committee, when


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setattr(member_side, "RECONNECT_S", 0.01)
    monkeypatch.setattr(member_side, "RECONNECT_MAX_S", 0.05)


@asynccontextmanager
async def seated() -> AsyncIterator[Committee]:
    async with committee(lambda _: MemoryStore()) as house:
        await house.append(3)
        await when(lambda: all(seat.mirror.acknowledged_size == 13 for seat in house.seats))
        yield house


def restored(house: Committee, size: int) -> MemoryStore:
    """The coordinator's whole folder as a backup had it: nothing in it says that there was more."""
    note = sign_checkpoint(
        Checkpoint(house.desk.mirror.origin, size, house.desk.mirror.root_at(size)),
        house.desk.signer,
        house.desk.mirror.origin,
    )
    return MemoryStore(frames=house.ledger.frames[:size], notes=[note.encode()])


async def restart(house: Committee, store: MemoryStore | None = None) -> None:
    await house.desk.stop()
    house.desk.store = store or house.desk.store
    await house.desk.start()


async def test_it_opens_once_three_of_four_are_heard() -> None:
    """Fails when it opens on what two say, of whom one may lie and one may be behind."""
    async with seated() as house:
        for seat in house.seats:
            await seat.stop()
        await restart(house)
        for count, seat in enumerate(house.seats[:3]):
            await asyncio.sleep(0.05)
            assert (count, house.desk.is_open) == (count, False)
            await seat.start()
        await when(lambda: house.desk.is_open)
        assert (await house.append())[0] == 13


async def test_nothing_is_sequenced_or_sent_while_it_hears() -> None:
    async with seated() as house:
        for seat in house.seats[2:]:
            await seat.stop()
        asked: list[WitnessAsked] = []
        for seat in house.seats[:2]:
            seat.asked = lambda message: asked.append(message) or message  # type: ignore[func-returns-value]
        await restart(house)
        await when(lambda: len(house.desk.witnesses.attending) == 2)
        await asyncio.sleep(0.05)
        with pytest.raises(UnavailableError, match="not open"):
            await house.append()
        assert asked == []


async def test_it_recollects_a_quorum_before_it_opens() -> None:
    """Fails when the head that was found counts as acknowledged without its cosignatures."""
    async with seated() as house:
        heads: list[int] = []

        def note_head(message: WitnessAsked) -> WitnessAsked:
            assert isinstance(message, AddCheckpoint)
            heads.append(parse_checkpoint(parse_note(message.checkpoint).text).size)
            return message

        for seat in house.seats:
            seat.asked = note_head
        bare = restored(house, 13)
        await restart(house, bare)
        await when(lambda: house.desk.is_open)
        assert heads.count(13) >= 3
        acknowledged = house.desk.mirror.acknowledged
        assert acknowledged is not None
        house.ledger.replay.check_head(acknowledged.note)


@pytest.mark.parametrize("size", [10, 12])
async def test_a_restored_backup_adopts_what_its_witnesses_kept(size: int) -> None:
    """Fails without the hearing: the log would go on from the backup, and fork."""
    async with seated() as house:
        await restart(house, restored(house, size))
        await when(lambda: house.desk.is_open)
        assert house.desk.mirror.size == 13
        assert house.desk.store.frames == house.ledger.frames  # type: ignore[attr-defined]
        assert (await house.append())[0] == 13
        assert all(seat.mirror.stopped is None for seat in house.seats)


async def test_a_backup_from_before_the_first_committee_is_stopped_by_the_first_member_that_comes() -> None:
    """It knows of nobody to hear; it must not go on once somebody shows it what it forgot."""
    async with seated() as house:
        for seat in house.seats:
            await seat.stop()
            seat.follows = False
        await restart(house, restored(house, 8))
        await house.seats[0].start()
        work = house.desk.work
        assert work is not None
        await when(lambda: house.desk.is_open and bool(house.desk.witnesses.attending))
        assert house.desk.sequencer is not None
        with pytest.raises(UnavailableError):
            await house.desk.sequencer.append(None, house.ledger.frames[8])
        with pytest.raises(ForkError, match="ledger repair"):
            await work


async def test_a_backup_is_adopted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    async with seated() as house:
        monkeypatch.setattr("node.coordinator.opening.FRAMES_MAX", 1)
        await restart(house, restored(house, 10))
        await when(lambda: house.desk.is_open)
        assert house.desk.mirror.size == 13


async def test_a_witness_that_is_behind_does_not_take_entries_away() -> None:
    async with seated() as house:
        behind = house.seats[0]
        await behind.stop()
        behind.store = restored(house, 11)
        await behind.start()
        await restart(house)
        await when(lambda: house.desk.is_open)
        assert house.desk.mirror.size == 13


@pytest.mark.parametrize("lie", ["silent", "other frames", "no frames", "another answer"])
async def test_a_witness_that_does_not_send_what_it_holds_cannot_stop_or_poison_the_opening(
    lie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when the wait for its answer has no end, or when what it sends is taken before it is verified."""
    monkeypatch.setattr(coordinator_side, "ANSWER_S", 0.1)
    async with seated() as house:
        liar = house.seats[0]

        def lies(said: WitnessSays) -> WitnessSays:
            if not isinstance(said, Fetched):
                return said
            if lie == "other frames":
                return Fetched(said.start, tuple(frame[:-1] + b"!" for frame in said.frames))
            return Fetched(said.start, ()) if lie == "no frames" else Fetched(said.start + 1, said.frames)

        liar.said = lies
        await house.desk.stop()
        if lie == "silent":
            real = liar.store.entries

            async def never(_start: int, _end: int) -> list[bytes]:
                await asyncio.Event().wait()
                return await real(0, 0)

            liar.store.entries = never  # type: ignore[method-assign]
        for seat in house.seats[1:]:
            await seat.stop()
        await restart(house, restored(house, 10))
        await asyncio.sleep(0.05)
        for seat in house.seats[1:]:
            await seat.start()
        await when(lambda: house.desk.is_open)
        assert house.desk.mirror.root == house.ledger.replay.root


@pytest.mark.parametrize("size", [13, 12, 15])
async def test_a_witness_with_a_head_that_is_not_in_the_log_keeps_it_closed(size: int) -> None:
    """It was signed by this key: whatever happened, to go on would be to sign a second log."""
    async with seated() as house:
        other = Committee(lambda _: MemoryStore())
        for number in range(size - len(other.ledger.frames)):
            body = {"name": f"other-{number}", "digest": f"{number:064x}"}
            other.ledger.add(other.world.coordinator, "app", body)
        other.ledger.witnesses = ()
        odd = house.seats[0]
        await odd.stop()
        odd.store = MemoryStore(frames=list(other.ledger.frames), notes=[other.ledger.note(other.world.coordinator)])
        await odd.start()
        await restart(house)
        assert house.desk.work is not None
        with pytest.raises(ForkError, match="ledger repair"):
            await asyncio.wait_for(house.desk.work, 10)
        assert not house.desk.is_open


async def test_two_sequencers_on_one_key_cannot_both_get_a_quorum() -> None:
    """A cloned folder: the witnesses see both, and at most one is acknowledged at each size."""
    async with seated() as house:
        clone = Desk(house.desk.signer, house.genesis, restored(house, 13))
        for place, seat in enumerate(house.seats):
            seat.desk = (lambda: house.desk) if place < 3 else (lambda: clone)
        await house.seats[3].stop()
        await clone.start()
        await house.seats[3].start()
        await house.append()
        other = Committee(lambda _: MemoryStore()).ledger
        assert other.frames == house.ledger.frames[:10]
        for seat in house.seats[1:3]:  # two of the first one's witnesses are led to the clone
            await seat.stop()
            seat.desk = lambda: clone
            await seat.start()
        await asyncio.sleep(0.1)
        assert not clone.is_open or clone.mirror.root == house.desk.mirror.root
        appending = asyncio.create_task(house.append())
        await asyncio.sleep(0.1)
        acknowledged = [desk.mirror.acknowledged for desk in (house.desk, clone)]
        heads = {(found.checkpoint.size, found.checkpoint.root) for found in acknowledged if found is not None}
        sizes = [size for size, _ in heads]
        assert len(sizes) == len(set(sizes))
        appending.cancel()
        await asyncio.gather(appending, return_exceptions=True)
        await clone.stop()


async def test_the_second_sequencer_that_signs_another_head_is_refused_by_every_witness() -> None:
    """Both stand at one size and sign different entries: one gets its quorum, the other's witnesses stop."""
    async with seated() as house:
        clone = Desk(house.desk.signer, house.genesis, restored(house, 13))
        await house.append()
        stream: list[object] = []
        await clone.start()
        clone.witnesses._open = True
        forked = house.world.ledger.sign(
            house.world.members[0], "vote", {"proposal": "0" * 64, "choice": "for"}
        )  # any bytes: the clone is another program
        mirror = clone.mirror
        mirror._take([forked.frame.data])
        note = sign_checkpoint(Checkpoint(mirror.origin, 14, mirror.root), clone.signer, mirror.origin).encode()
        for seat in house.seats:
            await when(lambda seat=seat: seat.mirror.size == 14)
            asked = AddCheckpoint(13, tuple(mirror.consistency_proof(13, 14)), note, (forked.frame.data,))
            duty = member_side.WitnessDuty(seat.key, seat.mirror, seat.store, seat.clock, seat.attend)
            stream.append((await duty._add(asked)).status)
            again = AddCheckpoint(14, (), note, ())
            with pytest.raises(Exception, match="does not extend"):
                await duty._add(again)
            assert seat.mirror.stopped is not None
        assert stream == [409] * 4
        await clone.stop()


# With the real store: the order of the head file, and databases that were changed behind the node's back.


@asynccontextmanager
async def stored(folder: Path) -> AsyncIterator[tuple[Committee, AsyncExitStack]]:
    async with AsyncExitStack() as stack:
        database = await Database.open(folder / "node.db")
        stack.push_async_callback(database.close)
        real = await SqlLedgerStore.open(database)
        async with committee(lambda name: real if name == "coordinator" else MemoryStore()) as house:
            await house.append(3)
            yield house, stack


async def test_the_head_file_is_synced_before_any_witness_sees_the_checkpoint(tmp_path: Path) -> None:
    """Fails when the head file is written later: a crash between could make the sequencer sign a fork."""
    async with stored(tmp_path) as (house, _):
        seen: list[tuple[int, int]] = []

        def look(message: WitnessAsked) -> WitnessAsked:
            head = HeadFile(tmp_path / "head").read()
            assert isinstance(message, AddCheckpoint)
            assert head is not None
            seen.append((parse_checkpoint(parse_note(message.checkpoint).text).size, head.size))
            return message

        for seat in house.seats:
            seat.asked = look
        await house.append(5)
        assert seen
        assert all(shown <= kept for shown, kept in seen)


async def test_the_sync_of_the_head_file_comes_before_the_first_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    async with stored(tmp_path) as (house, _):
        events: list[str] = []
        real = os.fdatasync

        def spy(handle: int) -> None:
            real(handle)
            events.append("synced" if Path(f"/proc/self/fd/{handle}").readlink().name == "head" else "other")

        monkeypatch.setattr("node.store.outside.os.fdatasync", spy)

        def note_question(message: WitnessAsked) -> WitnessAsked:
            events.append("asked")
            return message

        for seat in house.seats:
            seat.asked = note_question
        await house.append()
        assert events[0] == "synced"
        assert "asked" in events


DAMAGES = ["an older database", "an emptied log", "no database", "a flipped bit"]


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_database_that_lost_entries_does_not_open_and_says_how_to_repair(tmp_path: Path, damage: str) -> None:
    """Fails without the head file: SQLite itself finds nothing wrong with an older state."""
    path = tmp_path / "node.db"

    async with stored(tmp_path) as (house, stack):
        await house.desk.stop()
        await stack.aclose()
        shutil.copy(path, tmp_path / "backup.db")
        database = await Database.open(path)
        house.desk.store = await SqlLedgerStore.open(database)
        await house.desk.start()
        await when(lambda: house.desk.is_open)
        await house.append(2)
        await house.desk.stop()
        await database.close()
    if damage == "an older database":
        shutil.copy(tmp_path / "backup.db", path)
    elif damage == "no database":
        path.unlink()
    else:
        connection = sqlite3.connect(path)
        if damage == "an emptied log":
            connection.execute("DELETE FROM entry")
            connection.execute("DELETE FROM checkpoint")
        else:
            frame = bytearray(connection.execute('SELECT frame FROM entry WHERE "index" = 5').fetchone()[0])
            frame[100] ^= 1
            connection.execute('UPDATE entry SET frame = ? WHERE "index" = 5', (bytes(frame),))
        connection.commit()
        connection.close()

    async def reopen() -> None:
        database = await Database.open(path)
        try:
            await SqlLedgerStore.open(database)
        finally:
            await database.close()

    with pytest.raises(Exception, match="consortium ledger repair") as refused:
        await reopen()
    assert refused.value.code in {"fork", "bad-config"}
