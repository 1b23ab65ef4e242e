"""A committee that hands over while it is at work: both cosign, then only the new one, and the log never stops."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from consortium.ledger.entry import Draft
from consortium.replay import Replay
from node.coordinator.governing import Governing
from node.coordinator.hub import Hub
from node.services import witness as member_side
from node.services.author import Author
from tests.units.test_sequencer import MemoryStore
from tests.worlds.committee import Committee, committee, when


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member_side, "RECONNECT_S", 0.01)
    monkeypatch.setattr(member_side, "RECONNECT_MAX_S", 0.05)


def author(house: Committee, key: Any) -> Author:
    async def append(frame: bytes) -> tuple[int, bytes]:
        assert house.desk.sequencer is not None
        return await house.desk.sequencer.append(None, frame)

    return Author(key, house.desk.mirror, append)


async def carried(house: Committee, members: list[bytes]) -> None:
    """A new committee is proposed and voted by everybody whose vote it needs."""
    change = {"type": "committee", "members": sorted(member.hex() for member in members)}
    said = await author(house, house.world.coordinator).say(
        Draft("proposal", "proposal/committee", {"change": change, "from_index": 0})
    )
    for seat in house.seats[:3]:
        body = {"proposal": said.leaf.hex(), "choice": "for"}
        await author(house, seat.key).say(Draft("vote", "vote/committee", body))


def governing(house: Committee) -> asyncio.Task[None]:
    desk, nothing = house.desk, object()
    jobs: Any = nothing
    return asyncio.create_task(
        Governing(desk.mirror, author(house, house.world.coordinator), Hub(), desk.witnesses, jobs).run()
    )


async def log_of(house: Committee) -> Replay:
    """An auditor's own fold over what is acknowledged."""
    replay = Replay()
    acknowledged = house.desk.mirror.acknowledged
    assert acknowledged is not None
    for frame in await house.desk.store.entries(0, acknowledged.checkpoint.size):
        assert replay.feed(frame).fault is None
    replay.check_head(acknowledged.note)
    return replay


async def test_the_coordinator_records_the_handover_and_the_witness_that_left_is_not_missed() -> None:
    async with committee(lambda _: MemoryStore()) as house:
        work = governing(house)
        await carried(house, house.ids[:3])
        state = house.desk.mirror.state
        await when(lambda: len(state.committees_at(state.size)) == 1)
        assert state.committee == tuple(house.ids[:3])
        await house.seats[3].stop()
        await author(house, house.world.coordinator).say(Draft("app", "late", {"name": "late", "digest": "0" * 64}))
        replay = await log_of(house)
        assert replay.state.committee == tuple(house.ids[:3])
        assert not work.done()
        work.cancel()


async def test_until_the_handover_nothing_is_acknowledged_that_either_committee_has_not_cosigned() -> None:
    async with committee(lambda _: MemoryStore()) as house:
        await carried(house, house.ids[:3])  # nobody records the handover
        await house.seats[2].stop()  # three of the old four remain, and two of the new three
        coordinator = author(house, house.world.coordinator)
        saying = asyncio.create_task(coordinator.say(Draft("app", "late", {"name": "late", "digest": "0" * 64})))
        await asyncio.sleep(0.1)
        assert not saying.done()
        await house.seats[2].start()
        await asyncio.wait_for(saying, 10)
        await log_of(house)
