"""Scores and settlements on the ledger: from the sums, by the charter's schedule, to the last credit."""

from __future__ import annotations

import copy
import functools
from typing import Any

import numpy as np
import pytest

from consortium.errors import ContributionError, SettlementError
from consortium.incentives.rules import WEIGHT_SCALE, postings_of, scores_of, utilities_of
from tests.worlds import World, documents


@functools.cache
def _trained() -> tuple[World, bytes, dict[str, Any]]:
    world = World().found().join().offer().approve()
    job = world.start_training()
    for number in range(1, documents.ROUNDS + 1):
        world.record(world.training_sum(job, number, world.roster(number)))
    evaluation = world.evaluation_sum(job)
    world.record(evaluation)
    return world, job, world.scores_body(job, evaluation)


@pytest.fixture
def trained() -> tuple[World, bytes, dict[str, Any]]:
    """A world after its last sum, the job, and the scores that follow."""
    return copy.deepcopy(_trained())


@pytest.fixture
def scored(trained: tuple[World, bytes, dict[str, Any]]) -> tuple[World, bytes]:
    world, job, scores = trained
    world.answer(job)
    world.ledger.add(world.coordinator, "scores", scores)
    return world, job


def evaluation(examples: int, utilities_micro: list[int]) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """The words of a sum over members that hold so many examples together."""
    words = [round(u * examples * WEIGHT_SCALE / (1_000 * 1_000_000)) for u in utilities_micro]
    return np.array([examples, *words], dtype=np.int64).astype(np.uint32)


def test_utilities_are_means_weighted_by_examples() -> None:
    total = evaluation(900, [1_000_000, 250_000]) + evaluation(100, [0, 750_000])
    assert utilities_of(total, 1_000, 2) == (900_000, 300_000)


def test_utilities_are_read_from_the_end_of_the_vector() -> None:
    assert utilities_of(np.concatenate([np.full(7, 9, np.uint32), evaluation(500, [125_000])]), 1_000, 1) == (125_000,)


def test_a_utility_outside_of_zero_to_one_is_clipped() -> None:
    words = np.array([1_000, 2 * WEIGHT_SCALE, -5], dtype=np.int64).astype(np.uint32)
    assert utilities_of(words, 1_000, 2) == (1_000_000, 0)


@pytest.mark.parametrize("examples", [0, -3])
def test_without_examples_there_are_no_utilities(examples: int) -> None:
    assert utilities_of(np.array([examples, 5], dtype=np.int64).astype(np.uint32), 1_000, 1) == ()


@pytest.mark.parametrize(
    "total",
    [
        pytest.param(np.zeros(9, np.uint32), id="a-word-missing"),
        pytest.param(np.zeros((10, 2), np.uint64), id="128-bit-words"),
        pytest.param(np.zeros(10, np.uint64), id="64-bit-words"),
        pytest.param(np.zeros((10, 2), np.uint32), id="a-table"),
    ],
)
def test_an_evaluation_of_another_shape_is_refused(total: Any) -> None:
    with pytest.raises(ContributionError, match="32-bit word for each model"):
        utilities_of(total, 1_000, 9)


def test_scores_order_the_members_by_what_their_rounds_gained(trained: tuple[World, bytes, dict[str, Any]]) -> None:
    world, _, body = trained
    scores = [score["score_micro"] for score in body["scores"]]
    assert [score["member"] for score in body["scores"]] == [identity.hex() for identity in world.ids]
    # Utilities were built from these worths; fixed point and microunits round them.
    assert all(abs(s - w) < 30 for s, w in zip(scores, (40_000, 25_000, 10_000, 5_000), strict=True))


def test_scores_without_every_round_are_refused(trained: tuple[World, bytes, dict[str, Any]]) -> None:
    world, job, _ = trained
    del world.job(job).sums[3]
    with pytest.raises(ContributionError, match="do not match the rounds"):
        scores_of(world.job(job), [0] * 9)


def test_scores_follow_a_result_once(trained: tuple[World, bytes, dict[str, Any]]) -> None:
    world, job, body = trained
    assert world.ledger.refused(world.coordinator, "scores", body) == "no-result"
    world.answer(job)
    world.ledger.add(world.coordinator, "scores", body)
    assert world.ledger.refused(world.coordinator, "scores", body) == "no-result"


def test_scores_are_the_coordinators_and_of_training_jobs(trained: tuple[World, bytes, dict[str, Any]]) -> None:
    world, job, body = trained
    world.answer(job)
    statistic = world.ask()
    assert world.ledger.refused(world.members[0], "scores", body) == "unknown-job"
    assert world.ledger.refused(world.coordinator, "scores", body | {"job": statistic.hex()}) == "unknown-job"
    assert world.ledger.refused(world.coordinator, "scores", body | {"job": documents.HASH}) == "unknown-job"


def test_scores_name_the_method_and_every_member_once(trained: tuple[World, bytes, dict[str, Any]]) -> None:
    world, job, body = trained
    world.answer(job)
    listed = body["scores"]
    for spoiled in (
        {"method": "shapley"},
        {"scores": listed[:3]},
        {"scores": listed[::-1]},
        {"scores": [*listed, listed[3]]},
        {"scores": [*listed[:3], listed[3] | {"member": documents.HASH}]},
    ):
        assert world.ledger.refused(world.coordinator, "scores", body | spoiled) == "bad-scores"


def test_a_settlement_moves_the_credits_and_sums_to_zero(scored: tuple[World, bytes]) -> None:
    world, job = scored
    world.ledger.add(world.coordinator, "settlement", world.settlement_body(job))
    balances = world.ledger.state.balances
    assert sum(balances.values()) == 0
    assert balances[f"escrow:{job.hex()}"] == -100_000
    assert balances["fee:platform"] == 3_000
    paid = [balances[f"member:{identity.hex()}"] for identity in world.ids]
    assert paid == sorted(paid, reverse=True)
    assert sum(paid) == 97_000


def test_balances_of_a_second_job_are_added(scored: tuple[World, bytes]) -> None:
    world, job = scored
    world.ledger.add(world.coordinator, "settlement", world.settlement_body(job))
    first = dict(world.ledger.state.balances)
    world.train()
    assert world.ledger.state.balances["fee:platform"] == 2 * first["fee:platform"]
    assert sum(world.ledger.state.balances.values()) == 0


def test_a_settlement_is_the_coordinators_follows_the_scores_and_is_made_once(
    trained: tuple[World, bytes, dict[str, Any]],
) -> None:
    world, job, scores = trained
    world.answer(job)
    early = {"job": job.hex(), "amount": "1", "schedule_sha256": documents.HASH, "postings": []}
    assert world.ledger.refused(world.coordinator, "settlement", early) == "no-scores"
    world.ledger.add(world.coordinator, "scores", scores)
    body = world.settlement_body(job)
    assert world.ledger.refused(world.members[0], "settlement", body) == "unknown-job"
    assert world.ledger.refused(world.coordinator, "settlement", body | {"job": documents.HASH}) == "unknown-job"
    world.ledger.add(world.coordinator, "settlement", body)
    assert world.ledger.refused(world.coordinator, "settlement", body) == "no-scores"


def move_one_credit(body: dict[str, Any], giver: int, taker: int) -> dict[str, Any]:
    postings = copy.deepcopy(body["postings"])
    for position, change in ((giver, -1), (taker, 1)):
        postings[position]["amount"] = str(int(postings[position]["amount"]) + change)
    return body | {"postings": postings}


@pytest.mark.parametrize(("giver", "taker"), [(2, 1), (1, 2), (5, 2), (0, 1)])
def test_a_settlement_that_is_off_by_one_credit_is_refused(scored: tuple[World, bytes], giver: int, taker: int) -> None:
    world, job = scored
    body = world.settlement_body(job)
    assert world.ledger.refused(world.coordinator, "settlement", move_one_credit(body, giver, taker)) == "mis-settled"
    world.ledger.add(world.coordinator, "settlement", body)


@pytest.mark.parametrize(
    "spoiled",
    [
        pytest.param({"amount": "100001"}, id="another-amount"),
        pytest.param({"amount": "0"}, id="nothing"),
        pytest.param({"amount": "-100000"}, id="negative"),
        pytest.param({"schedule_sha256": documents.HASH}, id="another-schedule"),
        pytest.param({"postings": []}, id="no-posting"),
    ],
)
def test_a_settlement_by_other_rules_is_refused(scored: tuple[World, bytes], spoiled: dict[str, Any]) -> None:
    world, job = scored
    body = world.settlement_body(job) | spoiled
    assert world.ledger.refused(world.coordinator, "settlement", body) == "mis-settled"


def test_postings_of_an_amount_out_of_range_are_refused(scored: tuple[World, bytes]) -> None:
    world, job = scored
    with pytest.raises(SettlementError):
        postings_of(world.ledger.state, world.job(job), 0)
