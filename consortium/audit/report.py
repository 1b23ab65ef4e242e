"""Verifies an export of the ledger offline: signatures, chains, roots, rules, sums, scores and settlements.

Nothing is taken on trust but the genesis. The privacy of what ran is enforced by the nodes; the audit shows that what
they recorded is complete, in order, within budget, approved, and adds up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from consortium.audit.sums import Summed, verify_sum
from consortium.encoding import Json
from consortium.errors import CheckpointError, ConsortiumError
from consortium.incentives.rules import scores_of, utilities_of
from consortium.jobs import TrainingRequest, training_roster
from consortium.ledger.checkpoint import Checkpoint, NoteKey, open_checkpoint
from consortium.replay import Replay, Step
from consortium.state import Job, State


@dataclass(frozen=True)
class Export:
    """What a coordinator or member hands to an auditor.

    Attributes:
        checkpoint: the signed note over all of it.
        frames: the entries in order.
        transcripts: the transcripts of the secure sums, by SHA-256 in hex.
    """

    checkpoint: bytes
    frames: Sequence[bytes]
    transcripts: Mapping[str, bytes]


@dataclass(frozen=True)
class Finding:
    """Something that must not be: a stable code, the index of the entry where it shows, and a sentence."""

    code: str
    index: int | None
    text: str


@dataclass(frozen=True)
class AuditReport:
    """What an audit found, and what it counted; `not_evaluated` names what an export cannot show."""

    findings: tuple[Finding, ...]
    figures: dict[str, Json]
    not_evaluated: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.findings


NOT_EVALUATED = (
    "Policy decisions are recorded by hash and clause id; without the member's disclosure they are not re-evaluated.",
    "What a node computed from its own rows cannot be seen; only that its signed masked vector is in the sum.",
)


def audit_export(
    export: Export, genesis: bytes, saved: bytes | None = None, progress: Callable[[int], None] | None = None
) -> AuditReport:
    """Audits an export.

    Args:
        genesis: the frame of the genesis entry, obtained apart from the export.
        saved: a checkpoint note that somebody kept; the export must extend it.
        progress: told how many entries were replayed.
    """
    replay = Replay()
    findings: list[Finding] = []
    steps: list[Step] = []
    for frame in export.frames:
        step = replay.feed(frame)
        steps.append(step)
        if step.fault is not None:
            findings.append(Finding(step.fault.code, step.index, step.fault.text))
        if progress is not None:
            progress(step.index + 1)
    if not export.frames or export.frames[0] != genesis:
        findings.insert(0, Finding("other-genesis", 0, "The export does not begin with the genesis that was given."))
    if not replay.state.coordinator:
        return AuditReport(tuple(findings), {"entries": len(steps)}, NOT_EVALUATED)
    findings += _check_heads(export, replay, saved)
    sums = 0
    for job in replay.state.jobs.values():
        found, verified = _check_job(replay.state, job, export.transcripts)
        findings += found
        sums += verified
    return AuditReport(tuple(findings), _figures(replay, steps, sums), NOT_EVALUATED)


def _check_heads(export: Export, replay: Replay, saved: bytes | None) -> list[Finding]:
    key = NoteKey(replay.state.charter["origin"], replay.state.members[replay.state.coordinator].public_key)
    findings = []
    for note, what in ((export.checkpoint, "export's"), (saved, "saved")):
        if note is None:
            continue
        try:
            checkpoint = open_checkpoint(note, [key])
        except CheckpointError as error:
            findings.append(Finding("bad-checkpoint", None, f"The {what} checkpoint: {error}"))
            continue
        finding = _check_head(checkpoint, replay, what, whole=note is export.checkpoint)
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


def _check_job(state: State, job: Job, transcripts: Mapping[str, bytes]) -> tuple[list[Finding], int]:
    findings: list[Finding] = []
    summed: dict[int, Summed] = {}
    for number, record in sorted(job.sums.items()):
        try:
            summed[number] = verify_sum(state, job, record, transcripts)
        except ConsortiumError as error:
            findings.append(Finding("bad-sum", record.index, f"Round {number} of job {job.id.hex()[:16]}: {error}"))
    if job.kind == "training":
        findings += _check_rosters(job)
    if job.scores is not None:
        finding = _check_scores(job, summed)
        if finding is not None:
            findings.append(finding)
    return findings, len(summed)


def _check_rosters(job: Job) -> list[Finding]:
    return [
        Finding("bad-roster", record.index, f"Round {number} is not of the roster that the job's seed decides.")
        for number, record in sorted(job.sums.items())
        if record.body["roster"] != [member.hex() for member in training_roster(job, number)]
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


def _figures(replay: Replay, steps: Sequence[Step], sums: int) -> dict[str, Json]:
    state = replay.state
    kinds = Counter(step.entry.kind for step in steps if step.entry is not None)
    decisions = [d.body for job in state.jobs.values() for d in job.decisions.values()]
    return {
        "consortium": state.charter["name"],
        "genesis": state.genesis.hex(),
        "size": state.size,
        "root": replay.root.hex(),
        "entries": dict(sorted(kinds.items())),
        "void": sum(step.fault is not None for step in steps),
        "members": [
            {"member": m.id.hex(), "legal_name": m.legal_name, "admitted": m.admitted} for m in state.members.values()
        ],
        "jobs": [_job_figures(job) for job in state.jobs.values()],
        "refusals": sum(body["outcome"] == "refuse" for body in decisions),
        "sums_recomputed": sums,
        "accounts": [
            {
                "member": member.hex(),
                "lineage": lineage,
                "spent_rho_micro": spent,
                "cap_rho_micro": state.cap_of(member, lineage),
                "unbounded": (member, lineage) in state.unbounded,
            }
            for (member, lineage), spent in sorted({**dict.fromkeys(state.unbounded, 0), **state.spent}.items())
        ],
        "credits": {account: str(balance) for account, balance in sorted(state.balances.items())},
    }


def _job_figures(job: Job) -> dict[str, Json]:
    return {
        "job": job.id.hex(),
        "index": job.index,
        "kind": job.kind,
        "purpose": job.request["purpose"],
        "permitted": len(job.permitted()),
        "refused": len(job.decided()) - len(job.permitted()),
        "sums": len(job.sums),
        "ended": "result" if job.result else "abort" if job.abort else "open",
    }
