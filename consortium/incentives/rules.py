"""The rules for recording scores and settlements on the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from consortium.encoding import digest_of
from consortium.errors import ConsortiumError, ContributionError
from consortium.faults import Fault
from consortium.incentives.contribution import (
    METHOD,
    UTILITY_MICRO_MAX,
    ContributionScores,
    Score,
    participation_scores,
)
from consortium.incentives.schedule import Schedule
from consortium.incentives.settlement import Posting, Standing, settle
from consortium.ledger.entry import Entry
from consortium.state import Job, State, recorded

WEIGHT_SCALE = 1 << 24  # fixed point of masked metrics: round(value * examples / examples_max * 2**24)


def utilities_of(total: npt.NDArray[np.uint32], examples_max: int, models: int) -> tuple[int, ...]:
    """The mean utility of each round model, in micro-units, from the sum of the evaluation round.

    Args:
        total: uint32 words, shape (length,); the last `models` are the utilities weighted by examples, the word before
            them is the number of examples.

    Raises:
        ContributionError: the total has other words, or fewer.
    """
    if total.dtype != np.uint32 or total.ndim != 1 or total.size <= models:
        raise ContributionError(
            "The evaluation sum does not hold one 32-bit word for each model.",
            where="evaluation",
            mend="Sum the utilities of all models, as 32-bit words.",
        )
    words = [int(word) for word in total[-models - 1 :].view(np.int32)]
    examples, weighted = words[0], words[1:]
    if examples <= 0:
        return ()
    return tuple(
        min(
            max(round(Fraction(word * examples_max * UTILITY_MICRO_MAX, WEIGHT_SCALE * examples)), 0), UTILITY_MICRO_MAX
        )
        for word in weighted
    )


def scores_of(job: Job, utilities: Sequence[int]) -> ContributionScores:
    """The scores of a training job, from the survivors on the ledger and the utilities of its round models.

    Raises:
        ContributionError: too few rounds, or rosters that do not tell the members apart.
    """
    rounds = int(job.request["rounds"])
    rosters = [frozenset(job.sums[number].body["survivors"]) for number in range(1, rounds + 1) if number in job.sums]
    return participation_scores([member.hex() for member in job.permitted()], rosters, utilities)


def add_scores(state: State, index: int, entry: Entry) -> Fault | None:
    """The coordinator records the scores of a training job that has a result."""
    job = state.jobs.get(bytes.fromhex(entry.body["job"]))
    if job is None or entry.author != state.coordinator or job.kind != "training":
        return Fault("unknown-job", "Only the coordinator records scores, of training jobs on the ledger.")
    if job.result is None or job.scores is not None:
        return Fault("no-result", "Scores follow a result, once.")
    listed = [score["member"] for score in entry.body["scores"]]
    if entry.body["method"] != METHOD or listed != [member.hex() for member in job.permitted()]:
        return Fault("bad-scores", "Scores name the agreed method and every member of the job once, sorted.")
    job.scores = recorded(index, entry)
    return None


def postings_of(state: State, job: Job, amount: int) -> tuple[Posting, ...]:
    """What the charter's schedule makes of a job's recorded scores.

    Raises:
        SettlementError: the amount is out of range or the schedule is not valid.
    """
    assert job.scores is not None
    schedule = Schedule.from_json(state.charter["schedule"])
    scores = ContributionScores(
        job.scores.body["method"],
        tuple(Score(s["member"], s["score_micro"], s["error_micro"]) for s in job.scores.body["scores"]),
    )
    standings = {
        member.hex(): Standing(state.members[member].size, state.members[member].owner_group, schedule.quality_bp_max)  # type: ignore[arg-type]
        for member in job.permitted()
    }
    return settle(schedule, job.id.hex(), amount, scores, standings)


def add_settlement(state: State, index: int, entry: Entry) -> Fault | None:
    """The coordinator settles a job, once; every posting must be what the schedule makes of the scores."""
    job = state.jobs.get(bytes.fromhex(entry.body["job"]))
    if job is None or entry.author != state.coordinator:
        return Fault("unknown-job", "Only the coordinator settles, and only jobs on the ledger.")
    if job.scores is None or job.settlement is not None:
        return Fault("no-scores", "A settlement follows the scores, once.")
    if entry.body["schedule_sha256"] != digest_of(state.charter["schedule"]):
        return Fault("mis-settled", "The settlement names another incentive schedule than the charter's.")
    try:
        expected = postings_of(state, job, int(entry.body["amount"]))
    except ConsortiumError as error:
        return Fault("mis-settled", str(error))
    if entry.body["postings"] != [posting.to_json() for posting in expected]:
        return Fault("mis-settled", "The postings are not what the charter's schedule makes of the recorded scores.")
    for posting in expected:
        state.balances[posting.account] = state.balances.get(posting.account, 0) + posting.amount
    job.settlement = recorded(index, entry)
    return None
