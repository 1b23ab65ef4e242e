"""Training jobs through the services, with masked vectors carried by hand in the place of Flower."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from consortium.encoding import sha256
from consortium.errors import NotFoundError, SecureSumError
from consortium.jobs import TrainingRequest, training_roster
from consortium.ledger.entry import Draft
from consortium.state import Job
from node.services.author import Said
from tests.simulator import Attacker, Consortium, SimulatedFlower, consortium
from tests.simulator.attacker import Sum
from tests.simulator.consortium import until
from tests.simulator.training import vector_of
from tests.worlds import documents

MODEL = sha256(b"initial model")
APP = bytes.fromhex(documents.APP)


async def launched(house: Consortium, rounds: int = documents.ROUNDS) -> Said:
    apps = house.coordinator.home.path / "apps"
    apps.mkdir(exist_ok=True)
    (apps / f"{documents.APP}.fab").write_bytes(b"the app")
    return await house.coordinator.jobs.submit(house.body(documents.training(rounds), kind="training"))


async def test_a_training_job_runs_its_rounds_and_records_scores(tmp_path: Path) -> None:
    async with consortium(tmp_path) as house:
        said = await launched(house)
        document = await house.coordinator.last(said.leaf)
        assert document["state"] == "done", document
        job = house.job(said.leaf)
        result = document["result"]
        assert sorted(job.sums) == list(range(1, documents.ROUNDS + 2))
        assert len(result["utilities_micro"]) == documents.ROUNDS + 1
        assert len(result["models_sha256"]) == documents.ROUNDS + 1
        assert result["models_sha256"][3] == sha256(b"model 3").hex()
        for number, total in enumerate(house.coordinator.flower.sums, start=1):
            roster = training_roster(job, number)
            assert total.survivors == roster
            expected = np.zeros_like(total.total)
            for member in roster:
                expected += vector_of(job, number, house.ids.index(member))
            assert np.array_equal(total.total, expected)
            assert job.sums[number].body["roster"] == [member.hex() for member in roster]
        assert {key: spend.rho_micro for key, spend in job.spends.items()} == {
            (member, 0): None
            for member in house.ids  # unbounded
        }
        assert job.scores is not None
        scores = {item["member"]: item["score_micro"] for item in job.scores.body["scores"]}
        assert scores[house.ids[0].hex()] > scores[house.ids[3].hex()] > 0
        await until(lambda: not any(member.child.running for member in house.members))
        for member in house.members:
            await until(lambda member=member: member.core.mirror.size == house.state.size)  # type: ignore[misc]
            assert await member.core.accounts.unfinished(house.state.coordinator) == 0


async def test_a_training_job_too_short_for_scores_keeps_its_result(tmp_path: Path) -> None:
    """Fails when a job that cannot be scored is ended as if it had failed: its watchers would wait for ever."""
    async with consortium(tmp_path) as house:
        said = await launched(house, rounds=2)
        document = await house.coordinator.last(said.leaf)
        assert document["state"] == "done"
        assert document["text"].startswith("finished, without scores")
        assert house.job(said.leaf).result is not None
        assert house.job(said.leaf).abort is None


async def test_the_child_gets_no_other_app_model_or_round(tmp_path: Path) -> None:
    """Fails without the checks of `MemberService.begin` and `mask`."""

    async def curious(flower: SimulatedFlower, job: Job, request: TrainingRequest) -> str:
        seat = house.members[0]
        training = house.coordinator.training
        await training.open(job.id, 1, training_roster(job, 1), MODEL, 4)
        wrong = [
            (job.id, 1, bytes(32), MODEL),  # an app that nobody approved
            (job.id, 1, APP, bytes(32)),  # a swapped model
            (job.id, 2, APP, MODEL),  # a round that is not open
            (bytes(32), 1, APP, MODEL),  # a job that does not exist
        ]
        for question in wrong:
            answer = await seat.service.begin(*question, needs_table=True)
            assert (answer.permitted, answer.table, answer.plan) == (False, b"", {})
        vector = vector_of(job, 1, 0)
        for number, model, words in ((2, MODEL, vector), (1, bytes(32), vector), (1, MODEL, vector[:3])):
            with pytest.raises(SecureSumError):
                await seat.service.mask(job.id, number, model, words)
        await seat.core.switch.pause()
        paused = await seat.service.begin(job.id, 1, APP, MODEL, needs_table=True)
        assert (paused.permitted, paused.code) == (False, "paused")
        await seat.core.switch.resume()
        right = await seat.service.begin(job.id, 1, APP, MODEL, needs_table=True)
        assert (right.permitted, right.table) == (True, b"power,wind")
        assert seat.rows.reads == 1  # type: ignore[attr-defined]
        seen.append(job.id)
        return "curious"

    seen: list[bytes] = []
    async with consortium(tmp_path) as house:
        house.coordinator.flower.carry = curious
        said = await launched(house)
        last = await house.coordinator.last(said.leaf)
        assert (last["state"], seen) == ("failed", [said.leaf]), last
        refused = await house.members[0].service.begin(said.leaf, 1, APP, MODEL, needs_table=True)
        assert not refused.permitted


async def test_an_update_is_given_to_one_roster_only(tmp_path: Path) -> None:
    """Fails without `_check_not_voted_elsewhere`: two sums over one update differ by somebody's own vector."""

    async def twice(flower: SimulatedFlower, job: Job, request: TrainingRequest) -> str:
        await flower.round(job, 1, MODEL)
        training, vector = house.coordinator.training, vector_of(job, 1, 0)
        roster = training_roster(job, 2)
        await training.open(job.id, 2, roster, MODEL, 4)
        for seat in house.members:
            if seat.id in roster:
                with pytest.raises(SecureSumError, match="already gave its update"):
                    await seat.service.mask(job.id, 2, MODEL, vector)
        refused.append(job.id)
        return "twice"

    refused: list[bytes] = []
    async with consortium(tmp_path) as house:
        house.coordinator.flower.carry = twice
        said = await launched(house)
        await house.coordinator.last(said.leaf)
        assert refused == [said.leaf]
        assert list(house.job(said.leaf).sums) == [1]


async def test_a_training_roster_that_the_seed_does_not_give_is_refused(tmp_path: Path) -> None:
    """Fails without the comparison with `training_roster`: a coordinator would choose who is summed with whom."""
    async with consortium(tmp_path) as house:
        attacker = Attacker(house)
        job = await attacker.launch(house.body(documents.training(), kind="training"))
        honest = attacker.spec(job, round=1, word_bits=32, input_model=MODEL)
        chosen = attacker.spec(job, round=1, word_bits=32, input_model=MODEL, roster=house.ids[:3], threshold=3)
        assert training_roster(house.job(job), 1) == honest.roster
        answers = await attacker.propose(chosen)
        assert {type(answer).__name__ for answer in answers.values()} == {"SumFailed"}
        for number in (0, documents.ROUNDS + 2):
            beyond = attacker.spec(job, round=number, word_bits=32, input_model=MODEL)
            assert {type(answer).__name__ for answer in (await attacker.propose(beyond)).values()} == {"SumFailed"}
        await Sum(attacker, honest).advertise()


async def test_an_aborted_training_job_stops_everywhere(tmp_path: Path) -> None:
    """Fails without `Training.abort` and the members' own stop of their training child."""

    async def stuck(flower: SimulatedFlower, job: Job, request: TrainingRequest) -> str:
        await flower.round(job, 1, MODEL)
        await house.coordinator.training.open(job.id, 2, training_roster(job, 2), sha256(b"next"), 4)
        opened.set()
        await asyncio.Event().wait()
        return ""

    opened = asyncio.Event()
    async with consortium(tmp_path) as house:
        house.coordinator.flower.carry = stuck
        said = await launched(house)
        await asyncio.wait_for(opened.wait(), 20)
        assert all(member.child.running for member in house.members)
        await house.coordinator.jobs.abort(said.leaf)
        assert (await house.coordinator.last(said.leaf))["state"] == "aborted"
        assert said.leaf in house.coordinator.flower.aborted
        await until(lambda: not any(member.child.running for member in house.members))
        job = house.job(said.leaf)
        for member in house.members:
            with pytest.raises(SecureSumError):
                await member.service.mask(job.id, 2, sha256(b"next"), vector_of(job, 2, 0))
        with pytest.raises(NotFoundError):
            await house.coordinator.training.open(job.id, 3, training_roster(job, 3), MODEL, 4)


async def test_a_run_without_an_outcome_fails_and_leaves_nothing_open(tmp_path: Path) -> None:
    async def nothing(flower: SimulatedFlower, job: Job, request: TrainingRequest) -> str:
        return "app-failed"

    async with consortium(tmp_path) as house:
        house.coordinator.flower.carry = nothing
        said = await launched(house)
        last = await house.coordinator.last(said.leaf)
        assert (last["state"], last["reason"]) == ("failed", "secure-sum-refused")
        with pytest.raises(NotFoundError, match="under way"):
            await house.coordinator.training.open(said.leaf, 1, house.ids, MODEL, 4)


async def test_an_app_that_is_not_approved_is_refused_by_the_node_and_by_the_ledger(tmp_path: Path) -> None:
    """Fails without guard-app at the node; the entry of a permit would be refused as well."""
    async with consortium(tmp_path) as house:
        fab = b"another app"
        digest = await house.coordinator.training.keep_app(fab)
        await house.coordinator.author.say(Draft("app", f"app/{digest}", {"name": "other", "digest": digest}))
        said = await house.coordinator.jobs.submit(house.body(documents.training() | {"app": digest}, kind="training"))
        last = await house.coordinator.last(said.leaf)
        assert last["state"] == "refused"
        assert {clause["id"] for item in last["refusals"] for clause in item["clauses"]} == {"guard-app"}
        assert house.coordinator.flower.fabs == []
        assert not any(member.child.running for member in house.members)
