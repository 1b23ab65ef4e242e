"""A coordinator that ends in the middle of a job and comes back."""

from __future__ import annotations

import asyncio
from pathlib import Path

from consortium.privacy.accounting import rho_micro_for
from node.services.author import Said
from tests.simulator import Consortium, Noiseless, consortium
from tests.simulator.consortium import until
from tests.worlds import documents

RHO = rho_micro_for(1_000, documents.DELTA)


async def test_an_open_statistic_goes_on_in_a_new_round_that_is_paid_again(tmp_path: Path) -> None:
    """Fails without `Jobs.resume`, and when a round that was paid for is begun again."""
    async with consortium(tmp_path, noise=Noiseless()) as house:
        seat, go_on = house.members[0], asyncio.Event()

        async def hold() -> None:
            await go_on.wait()

        seat.at["begin partial_sums"] = hold
        said = await house.coordinator.jobs.submit(house.body(documents.statistic()))
        await until(lambda: all("sent SumStep/mask" in member.events for member in house.members[1:]))
        await until(lambda: "begin partial_sums" in seat.events)
        await house.restart_coordinator()
        await house.coordinator.jobs.resume()
        go_on.set()
        result = (await house.coordinator.last(said.leaf))["result"]
        assert (result["round"], len(result["survivors"])) == (1, 4)
        assert float(result["estimates"]["count"]["value"]) == 800
        assert house.job(said.leaf).spends.keys() == {(m, number) for m in house.ids for number in (0, 1)}
        assert [await member.spent() for member in house.members] == [2 * RHO] * 4


async def test_a_round_that_was_set_up_in_part_goes_on(tmp_path: Path) -> None:
    """Fails when a member does not repeat its keys: nothing was masked, so nothing need be paid again."""
    async with consortium(tmp_path, noise=Noiseless()) as house:
        said = await _held_at_shares(house)
        await house.restart_coordinator()
        await house.coordinator.jobs.resume()
        result = (await house.coordinator.last(said.leaf))["result"]
        assert (result["round"], len(result["survivors"])) == (0, 4)
        assert [await member.spent() for member in house.members] == [RHO] * 4


async def test_when_all_know_a_round_from_before_the_next_is_tried_with_all(tmp_path: Path) -> None:
    """Fails when members that refuse a round that they opened before they were restarted are left out of the next."""
    async with consortium(tmp_path, noise=Noiseless()) as house:
        said = await _held_at_shares(house)
        for member in house.members:
            await member.restart()
        await house.restart_coordinator()
        await house.coordinator.jobs.resume()
        result = (await house.coordinator.last(said.leaf))["result"]
        assert (result["round"], len(result["survivors"])) == (1, 4)
        assert [await member.spent() for member in house.members] == [RHO] * 4


async def _held_at_shares(house: Consortium) -> Said:
    """A job whose set-up cannot go on, since a member's shares do not arrive."""
    seat = house.members[0]

    async def hold() -> None:
        await asyncio.Event().wait()

    seat.at["send SumStep/share"] = hold
    said = await house.coordinator.jobs.submit(house.body(documents.statistic()))
    await until(lambda: "send SumStep/share" in seat.events)
    del seat.at["send SumStep/share"]
    return said


async def test_a_restarted_coordinator_waits_for_its_members(tmp_path: Path) -> None:
    """Fails without the wait in `Jobs._present`: members come back later than the coordinator."""
    async with consortium(tmp_path, noise=Noiseless()) as house:
        late = house.members[0]
        late.link.cut(down=True)
        await until(lambda: late.id not in house.coordinator.hub.attending)
        for member in house.members:
            member.at["send SumStep/advertise"] = member.kill
        late.at.clear()
        body = house.body(documents.statistic())
        body["datasets"] = body["datasets"][1:]
        said = await house.coordinator.jobs.submit(body)
        await until(lambda: all("send SumStep/advertise" in member.events for member in house.members[1:]))
        await house.coordinator.stop()
        for member in house.members:
            member.at.clear()
            await member.stop()
        await house.coordinator.start()
        await house.coordinator.jobs.resume()
        await asyncio.sleep(0.1)
        for member in house.members:
            member.link.mend()
            await member.start()
        result = (await house.coordinator.last(said.leaf))["result"]
        assert float(result["estimates"]["count"]["value"]) == 600


async def test_an_open_training_job_ends_as_aborted(tmp_path: Path) -> None:
    """Fails without `Jobs.resume`: nobody would tell the members to stop their training child."""
    async with consortium(tmp_path) as house:
        await house.coordinator.training.keep_app(b"another app")

        async def stuck(*_: object) -> str:
            await asyncio.Event().wait()
            return ""

        house.coordinator.flower.carry = stuck
        (house.coordinator.home.path / "apps").mkdir(exist_ok=True)
        (house.coordinator.home.path / "apps" / f"{documents.APP}.fab").write_bytes(b"the app")
        said = await house.coordinator.jobs.submit(house.body(documents.training(), kind="training"))
        await until(lambda: all(member.child.running for member in house.members))
        await until(lambda: house.coordinator.flower.fabs == [b"the app"])
        await house.restart_coordinator()
        await house.coordinator.jobs.resume()
        last = await house.coordinator.last(said.leaf)
        assert (last["state"], last["reason"]) == ("aborted", "coordinator-restarted")
        await until(lambda: not any(member.child.running for member in house.members))


async def test_a_restarted_member_takes_part_in_later_jobs(tmp_path: Path) -> None:
    """The account is the larger of the stored one and the ledger's; what was spent stays spent."""
    async with consortium(tmp_path, noise=Noiseless()) as house:
        await house.ask()
        for member in house.members:
            await member.restart()
        await house.everybody()
        assert [await member.spent() for member in house.members] == [RHO] * 4
        result = (await house.ask(1_001))["result"]
        assert len(result["survivors"]) == 4
