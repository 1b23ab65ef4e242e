"""The steward's switch, and the end of jobs: what is paused says nothing, what is aborted says nothing more."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.simulator import MemberSeat, Noiseless, consortium
from tests.simulator.consortium import until
from tests.worlds import documents


def said(seat: MemberSeat) -> list[str]:
    """What left the node, on the stream and to the ledger."""
    return [event for event in seat.events if event.startswith(("sent ", "append "))]


async def test_a_paused_node_decides_nothing_until_it_is_resumed(tmp_path: Path) -> None:
    """Fails without the wait in `MemberService._decide`."""
    async with consortium(tmp_path, noise=Noiseless()) as house:
        seat = house.members[0]
        await seat.core.switch.pause()
        before = said(seat)
        submitted = await house.coordinator.jobs.submit(house.body(documents.statistic()))
        job = house.job(submitted.leaf)
        await until(lambda: len(job.decided()) == 3)
        await asyncio.sleep(0.1)
        assert said(seat) == before
        assert "begin before_run" not in seat.events
        await seat.core.switch.resume()
        result = (await house.coordinator.last(submitted.leaf))["result"]
        assert seat.id.hex() in result["survivors"]


@pytest.mark.parametrize("event", ["begin reserve", "end reserve", "end partial_sums", "end record_input"])
async def test_a_node_paused_within_a_sum_sends_nothing_and_goes_on_when_resumed(tmp_path: Path, event: str) -> None:
    """Fails without the check before each append and each send in `MemberSum`."""
    async with consortium(tmp_path, noise=Noiseless()) as house:
        seat = house.members[0]
        seat.at[event] = seat.core.switch.pause
        submitted = await house.coordinator.jobs.submit(house.body(documents.statistic()))
        await until(lambda: seat.core.switch.paused)
        before = said(seat)
        await asyncio.sleep(0.15)
        assert said(seat) == before
        del seat.at[event]
        await seat.core.switch.resume()
        result = (await house.coordinator.last(submitted.leaf))["result"]
        assert result["out"] == {}
        assert seat.id.hex() in result["survivors"]


async def test_a_pause_outlives_a_restart(tmp_path: Path) -> None:
    async with consortium(tmp_path) as house:
        seat = house.members[0]
        await seat.core.switch.pause()
        await seat.restart()
        await house.everybody()
        assert seat.core.switch.paused
        before = [event for event in said(seat) if event != "sent Hello"]
        answers = await asyncio.wait_for(
            _explained(house.coordinator.jobs, house.body(documents.statistic()), seat), 20
        )
        assert answers == 3
        assert [event for event in said(seat) if event != "sent Hello"] == before


async def _explained(jobs: object, body: dict[str, object], paused: MemberSeat) -> int:
    """How many members answered before the paused one's link was cut."""
    asked = asyncio.ensure_future(jobs.explain(body))  # type: ignore[attr-defined]
    await asyncio.sleep(0.3)
    assert not asked.done()
    paused.link.cut(down=True)
    return sum(answer is not None for answer in (await asked).values())


@pytest.mark.parametrize("event", ["append spend", "begin partial_sums", "begin record_input"])
async def test_an_aborted_job_stops_and_nothing_more_is_sent(tmp_path: Path, event: str) -> None:
    """Fails without the end of what is under way in `MemberSum.close`, for example a vector sent after the abort."""
    async with consortium(tmp_path, noise=Noiseless()) as house:
        seat, go_on = house.members[0], asyncio.Event()

        async def hold() -> None:
            await go_on.wait()

        seat.at[event] = hold
        submitted = await house.coordinator.jobs.submit(house.body(documents.statistic()))
        await until(lambda: event in seat.events)
        await house.coordinator.jobs.abort(submitted.leaf)
        assert (await house.coordinator.last(submitted.leaf))["state"] == "aborted"
        await house.everybody()
        await asyncio.sleep(0.05)
        before = said(seat)
        go_on.set()
        await asyncio.sleep(0.15)
        late = [entry for entry in said(seat)[len(before) :] if entry != "append spend"]
        assert late == []
        assert house.job(submitted.leaf).result is None
        assert "sent SumStep/mask" not in said(seat)


async def test_a_job_that_has_ended_cannot_be_aborted(tmp_path: Path) -> None:
    from consortium.errors import NotFoundError

    async with consortium(tmp_path) as house:
        document = await house.ask()
        with pytest.raises(NotFoundError, match="No open job"):
            await house.coordinator.jobs.abort(bytes.fromhex(document["job"]))


async def test_a_fault_in_the_log_ends_the_node_with_its_cause(tmp_path: Path) -> None:
    """Fails when the fault of one of the node's tasks is hidden in an exception group."""
    from consortium.errors import ForkError
    from node.services.api import Batch

    async with consortium(tmp_path) as house:
        seat = house.members[0]
        with pytest.raises(ForkError):
            await seat.core.mirror.extend(Batch(seat.core.mirror.size + 1, (b"",), b""))
        follow = house.coordinator.sequencer.follow

        def forked(start: int) -> object:
            return follow(start + 1_000)

        house.coordinator.sequencer.follow = forked  # type: ignore[method-assign, assignment]
        seat.link.cut()
        with pytest.raises(ForkError):
            await asyncio.wait_for(asyncio.shield(seat.work), 20)
