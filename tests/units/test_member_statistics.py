"""Statistics jobs through the services of a whole consortium: answers, spends, refusals, drop-outs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from consortium.encoding import canonical, digest_of, sha256
from consortium.ledger.entry import read_entry
from consortium.privacy.accounting import rho_micro_for
from node.data.datasets import DuckDbDatasets
from node.services.api import SumStep
from tests.simulator import POLICY, Consortium, MemberSeat, Noiseless, consortium
from tests.simulator.consortium import SHORT_PATIENCE, until
from tests.worlds import documents

RHO = rho_micro_for(1_000, documents.DELTA)


def powers(house: Consortium, places: range) -> list[float]:
    return [power for place in places for power, _ in house.members[place].rows.records]  # type: ignore[attr-defined]


async def accounts_of(house: Consortium) -> list[int]:
    return [await member.spent() for member in house.members]


async def test_a_statistic_over_four_members_is_answered_and_paid_by_each(tmp_path: Path) -> None:
    async with consortium(tmp_path, noise=Noiseless()) as house:
        document = await house.ask()
        assert document["state"] == "done"
        estimates, result = document["result"]["estimates"], document["result"]
        assert float(estimates["count"]["value"]) == 800
        assert float(estimates["count"]["lower"]) < 800 < float(estimates["count"]["upper"])
        assert float(estimates["mean"]["value"]) == pytest.approx(fmean(powers(house, range(4))))
        assert result["survivors"] == [member.hex() for member in house.ids]
        assert result["rho_micro"] == RHO
        job = house.job(bytes.fromhex(result["job"]))
        assert {key: spend.rho_micro for key, spend in job.spends.items()} == {(m, 0): RHO for m in house.ids}
        assert job.result is not None
        assert job.result.body["document_sha256"] == digest_of(result)
        assert await accounts_of(house) == [RHO] * 4
        assert set(house.state.spent.values()) == {RHO}


async def test_with_noise_the_answer_is_near_the_truth_and_not_the_truth(tmp_path: Path) -> None:
    """Seven standard deviations on the count: a false alarm in 4e11 runs; 1 in 30,000 that the mean is exact."""
    async with consortium(tmp_path) as house:
        estimates = (await house.ask())["result"]["estimates"]
        half = (float(estimates["count"]["upper"]) - float(estimates["count"]["lower"])) / 2
        assert abs(float(estimates["count"]["value"]) - 800) < 7 / 1.96 * half
        assert float(estimates["mean"]["value"]) != pytest.approx(fmean(powers(house, range(4))), rel=1e-9)


async def test_an_identical_request_gets_the_identical_answer_and_spends_nothing(tmp_path: Path) -> None:
    """Fails without the look for a job with the same body in `Jobs.submit`."""
    async with consortium(tmp_path) as house:
        first, size = await house.ask(), house.state.size
        assert await house.ask() == first
        assert house.state.size == size
        await house.restart_coordinator()
        assert (await house.ask())["result"] == first["result"]
        assert house.state.size == size
        assert await accounts_of(house) == [RHO] * 4


async def test_an_identical_request_at_the_same_moment_starts_one_job(tmp_path: Path) -> None:
    """Fails without the look at what runs in `Jobs.submit`, which then drives two rounds at once."""
    async with consortium(tmp_path) as house:
        body = house.body(documents.statistic())
        first, second = await asyncio.gather(*(house.coordinator.jobs.submit(body) for _ in range(2)))
        assert first == second
        assert (await house.coordinator.last(first.leaf))["state"] == "done"
        assert [member.events.count("sent SumStep/advertise") for member in house.members] == [1] * 4
        assert await accounts_of(house) == [RHO] * 4


async def test_reserve_spend_compute_release_and_send_happen_in_this_order(tmp_path: Path) -> None:
    """Fails when a line of `MemberSum._prepare` or `_pay` moves: durable reservation, acknowledged spend, then data."""
    async with consortium(tmp_path) as house:
        seat = house.members[0]
        seen: list[bool] = []

        async def look() -> None:
            mirror = seat.core.mirror
            (job,) = mirror.state.jobs.values()
            seen.append(mirror.acknowledged_size > job.spends[seat.id, 0].index)

        seat.at["begin partial_sums"] = look
        await house.ask()
        steps = [event for event in seat.events if not event.startswith("sent ")]
        assert steps[steps.index("begin reserve") : steps.index("send SumStep/vote")] == [
            "begin reserve",
            "end reserve",
            "append spend",
            "appended spend",
            "begin partial_sums",
            "end partial_sums",
            "append decision-release",
            "appended decision-release",
            "begin record_input",
            "end record_input",
            "send SumStep/mask",
        ]
        assert seen == [True]


async def test_nothing_is_computed_before_the_ledger_acknowledged_the_spend(tmp_path: Path) -> None:
    """Fails without the wait for the own copy of the log in `Author`: the coordinator only says that it stands."""
    async with consortium(tmp_path) as house:
        seat = house.members[0]

        async def withhold() -> None:
            seat.link.flowing.clear()

        seat.at["append spend"] = withhold
        said = await house.coordinator.jobs.submit(house.body(documents.statistic()))
        await until(lambda: "appended spend" in seat.events)
        await asyncio.sleep(0.1)
        assert seat.rows.reads == 0  # type: ignore[attr-defined]
        assert "mask" not in [step.phase for step in seat.sent(SumStep)]
        seat.link.flowing.set()
        assert (await house.coordinator.last(said.leaf))["result"]["survivors"] == [m.hex() for m in house.ids]


async def refused(folder: Path, **options: Any) -> tuple[Consortium, dict[str, Any], list[bytes]]:
    async with consortium(folder, **options) as house:
        document = await house.ask(3_000, purpose="resale")
        return house, document, await house.ledger()


async def test_a_refusal_names_every_clause_with_reasons_to_the_requester_only(tmp_path: Path) -> None:
    """Fails when reasons go into the entry, when the salt is left out, or when data is read before the decision."""
    house, document, frames = await refused(tmp_path)
    assert document["state"] == "refused"
    reasons = [
        {"id": "purpose", "reason": "The purpose is not agreed."},
        {"id": "epsilon-cap", "reason": "The job spends more epsilon than one job may."},
    ]
    assert [item["member"] for item in document["refusals"]] == [member.hex() for member in house.ids]
    assert all(item["clauses"] == reasons for item in document["refusals"])
    assert all(member.rows.reads == 0 for member in house.members)  # type: ignore[attr-defined]
    log = b"".join(frames)
    assert not any(item["reason"].encode() in log for item in reasons)
    decisions = [entry.body for entry in map(read_entry, frames) if entry.kind == "decision"]
    assert {tuple(body["clauses"]) for body in decisions} == {("purpose", "epsilon-cap")}
    unsalted = sha256(canonical([[item["id"], item["reason"]] for item in reasons])).hex()
    hashes = {body["reasons_sha256"] for body in decisions}
    assert len(hashes) == 4
    assert unsalted not in hashes


async def test_a_refusal_is_the_same_when_the_file_is_absent(tmp_path: Path) -> None:
    _, with_file, _ = await refused(tmp_path / "with")
    _, without, _ = await refused(tmp_path / "without", rows=lambda _: DuckDbDatasets())
    assert without["refusals"] == with_file["refusals"]


async def test_who_refuses_is_left_out_and_spends_nothing(tmp_path: Path) -> None:
    strict = POLICY.replace('["benchmark", "forecast"]', '["forecast"]')
    async with consortium(tmp_path, noise=Noiseless(), policies={0: strict}) as house:
        document = await house.ask()
        assert float(document["result"]["estimates"]["count"]["value"]) == 600
        assert house.ids[0].hex() not in document["result"]["survivors"]
        assert house.members[0].rows.reads == 0  # type: ignore[attr-defined]
        assert await accounts_of(house) == [0, RHO, RHO, RHO]


async def test_explaining_decides_and_reserves_nothing(tmp_path: Path) -> None:
    strict = POLICY.replace('["benchmark", "forecast"]', '["forecast"]')
    async with consortium(tmp_path, policies={0: strict}) as house:
        size = house.state.size
        bodies = [house.body(documents.statistic(epsilon)) for epsilon in (1_000, 3_000)]
        modest, greedy = await asyncio.gather(*(house.coordinator.jobs.explain(body) for body in bodies))
        assert [answer.permitted for answer in modest.values() if answer] == [False, True, True, True]
        clauses = [tuple(clause.id for clause in answer.clauses) for answer in greedy.values() if answer]
        assert clauses == [("purpose", "epsilon-cap")] + [("epsilon-cap",)] * 3
        assert house.state.size == size
        assert await accounts_of(house) == [0] * 4
        assert [await member.core.accounts.entries("turbine") for member in house.members] == [[]] * 4
        assert all(member.rows.reads == 0 for member in house.members)  # type: ignore[attr-defined]


@pytest.mark.parametrize("event", ["send SumStep/mask", "sent SumStep/mask"])
async def test_a_killed_member_counts_only_if_its_vector_was_submitted(tmp_path: Path, event: str) -> None:
    """Fails without the recovery of a dropped member's masks, or of the self mask of one that submitted."""
    async with consortium(tmp_path, noise=Noiseless(), patience=SHORT_PATIENCE) as house:
        last = house.members[3]
        last.at[event] = last.kill
        result = (await house.ask())["result"]
        counted = event.startswith("sent")
        assert float(result["estimates"]["count"]["value"]) == (800 if counted else 600)
        assert (last.id.hex() in result["survivors"]) is counted
        assert result["out"] == {last.id.hex(): "no-progress"}
        assert await accounts_of(house) == [RHO] * 4


async def test_a_roster_of_three_that_loses_one_ends_without_an_answer(tmp_path: Path) -> None:
    """Fails when the threshold falls below more than two thirds. What was spent for the round stays spent."""
    async with consortium(tmp_path, count=3, noise=Noiseless(), patience=SHORT_PATIENCE) as house:
        last = house.members[2]
        last.at["send SumStep/mask"] = last.kill
        document = await house.ask()
        assert (document["state"], document["reason"]) == ("failed", "secure-sum-refused")
        (job,) = house.state.jobs.values()
        assert job.abort is not None
        assert job.sums == {}
        assert await accounts_of(house) == [RHO] * 3
        assert house.coordinator.jobs.state_of(job) == "failed"


async def test_who_is_lost_in_the_set_up_is_left_out_of_a_new_round(tmp_path: Path) -> None:
    """Nothing was masked in the first round, so nothing was spent for it."""
    async with consortium(tmp_path, noise=Noiseless(), patience=SHORT_PATIENCE) as house:
        last = house.members[3]
        last.at["send SumStep/share"] = last.kill
        result = (await house.ask())["result"]
        assert result["round"] == 1
        assert len(result["roster"]) == 3
        assert float(result["estimates"]["count"]["value"]) == 600
        assert await accounts_of(house) == [RHO, RHO, RHO, 0]
        assert {number for _, number in house.job(bytes.fromhex(result["job"])).spends} == {1}


async def test_a_member_that_cannot_compute_leaves_the_sum_with_a_code(tmp_path: Path) -> None:
    from consortium.errors import DatasetError

    async with consortium(tmp_path, noise=Noiseless()) as house:
        broken = house.members[1]
        broken.rows.failure = DatasetError("The file is gone.")  # type: ignore[attr-defined]
        result = (await house.ask())["result"]
        assert result["out"] == {broken.id.hex(): "bad-dataset"}
        assert float(result["estimates"]["count"]["value"]) == 600
        assert await accounts_of(house) == [RHO] * 4


@pytest.mark.parametrize("phase", ["advertise", "share", "mask", "vote", "reveal"])
async def test_a_link_that_drops_in_a_sum_comes_back_and_the_sum_goes_on(tmp_path: Path, phase: str) -> None:
    """Fails when the coordinator does not repeat the step, or the member not its answer (`open_again`, `_replies`)."""
    async with consortium(tmp_path, noise=Noiseless()) as house:
        seat: MemberSeat = house.members[2]
        seat.link.lose = lambda message: isinstance(message, SumStep) and message.phase == phase
        result = (await house.ask())["result"]
        assert result["out"] == {}
        assert float(result["estimates"]["count"]["value"]) == 800
        assert seat.events.count("begin reserve") == 1
        assert seat.events.count(f"send SumStep/{phase}") >= 2
