"""The checks of an audit that need all of a job, or the whole tree: checkpoints, sums, rosters, scores."""

from __future__ import annotations

from collections.abc import Mapping

from consortium.audit.findings import Finding
from consortium.audit.sums import Summed, verify_sum
from consortium.errors import CheckpointError, ConsortiumError
from consortium.incentives.rules import scores_of, utilities_of
from consortium.jobs import TrainingRequest, training_roster
from consortium.ledger.checkpoint import Checkpoint, NoteKey, open_checkpoint
from consortium.replay import Replay
from consortium.state import Job, State


def check_heads(replay: Replay, checkpoint: bytes, saved: bytes | None) -> list[Finding]:
    """What is wrong with the checkpoint over all entries of a replay, and with one that somebody saved."""
    key = NoteKey(replay.state.charter["origin"], replay.state.members[replay.state.coordinator].public_key)
    findings = []
    for note, what in ((checkpoint, "export's"), (saved, "saved")):
        if note is None:
            continue
        try:
            opened = open_checkpoint(note, [key])
        except CheckpointError as error:
            findings.append(Finding("bad-checkpoint", None, f"The {what} checkpoint: {error}"))
            continue
        finding = _check_head(opened, replay, what, whole=note is checkpoint) or _check_witnesses(note, replay, what)
        if finding is not None:
            findings.append(finding)
    return findings


def _check_head(checkpoint: Checkpoint, replay: Replay, what: str, *, whole: bool) -> Finding | None:
    size = replay.state.size
    if checkpoint.origin != replay.state.charter["origin"]:
        return Finding("bad-checkpoint", None, f"The {what} checkpoint is of another log.")
    if checkpoint.size > size or (whole and checkpoint.size != size):
        return Finding(
            "truncated", size, f"The {what} checkpoint covers {checkpoint.size} entries, the export holds {size}."
        )
    if replay.tree.root(checkpoint.size) != checkpoint.root:
        return Finding(
            "rewritten", None, f"The first {checkpoint.size} entries are not those that the {what} checkpoint covers."
        )
    return None


def _check_witnesses(note: bytes, replay: Replay, what: str) -> Finding | None:
    try:
        replay.check_head(note)
    except CheckpointError as error:
        return Finding("unwitnessed", None, f"The {what} checkpoint: {error}")
    return None


def check_job(state: State, job: Job, transcripts: Mapping[str, bytes], since: int = 0) -> tuple[list[Finding], int]:
    """What is wrong with the sums and scores of a job that were recorded at index `since` or later.

    Returns:
        The findings, and how many sums were recomputed and hold.
    """
    findings: list[Finding] = []
    summed: dict[int, Summed] = {}
    scored = job.scores is not None and job.scores.index >= since
    for number, record in sorted(job.sums.items()):
        if record.index < since and not scored:
            continue
        try:
            summed[number] = verify_sum(state, job, record, transcripts)
        except ConsortiumError as error:
            if record.index >= since:
                findings.append(Finding("bad-sum", record.index, f"Round {number} of job {job.id.hex()[:16]}: {error}"))
    if job.kind == "training":
        findings += _check_rosters(job, since)
    if scored:
        finding = _check_scores(job, summed)
        if finding is not None:
            findings.append(finding)
    return findings, sum(job.sums[number].index >= since for number in summed)


def _check_rosters(job: Job, since: int) -> list[Finding]:
    return [
        Finding("bad-roster", record.index, f"Round {number} is not of the roster that the job's seed decides.")
        for number, record in sorted(job.sums.items())
        if record.index >= since and record.body["roster"] != [member.hex() for member in training_roster(job, number)]
    ]


def _check_scores(job: Job, summed: Mapping[int, Summed]) -> Finding | None:
    assert job.scores is not None
    request = TrainingRequest.from_json(job.request)
    evaluation = summed.get(request.rounds + 1)
    if evaluation is None:
        return Finding("bad-scores", job.scores.index, "The scores have no evaluation sum to follow from.")
    try:
        utilities = utilities_of(evaluation.total, request.examples_max, len(request.evaluate_metrics))
        expected = scores_of(job, utilities)
    except ConsortiumError as error:
        return Finding("bad-scores", job.scores.index, str(error))
    if job.scores.body["scores"] != expected.to_json() or job.scores.body["seed"] != request.seed:
        return Finding(
            "bad-scores", job.scores.index, "The recorded scores are not what the sums and rosters of the job give."
        )
    return None
