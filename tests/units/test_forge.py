"""A small sound log (without the sums' transcripts, which forging leaves alone), forged in every way the demo shows."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from consortium.audit import Export, audit_export
from consortium.encoding import digest_of
from consortium.incentives.contribution import METHOD
from consortium.incentives.rules import postings_of
from consortium.jobs import round_roster
from consortium.keys import Signer, SigningKey
from consortium.ledger.checkpoint import Checkpoint, sign_checkpoint
from consortium.ledger.entry import NO_PREVIOUS, Draft, Entry, Head, write_entry
from consortium.privacy.accounting import rho_micro_for
from consortium.replay import Replay
from node.demo.forge import Forger, Forgery

Json = Any
ORIGIN = "consortium/test"
ZERO = "0" * 64
APP = "ab" * 32
SEED = "cd" * 32
ROUNDS = 8
CAP = 100_000
COLUMNS = [
    {"name": "time", "type": "timestamp", "unit": "", "missing": [], "description": ""},
    {"name": "P_avg", "type": "number", "unit": "kW", "lower": "0", "upper": "2100", "resolution": "1", "missing": [],
     "description": ""},
]  # fmt: skip
REQUEST = {
    "kind": "statistic", "columns": ["P_avg"], "measures": ["mean"], "filters": [], "purpose": "power_curve",
    "bounds": {"P_avg": {"lower": "0", "upper": "2100", "resolution": "1"}}, "release": "dp", "epsilon_milli": 1000,
    "delta": "1e-6",
}  # fmt: skip
TRAINING = {
    "release": "exact_training", "app": APP, "purpose": "power_model", "columns": ["P_avg"], "rounds": ROUNDS,
    "examples_max": 1000, "train_metrics": [], "evaluate_metrics": ["u"], "seed": SEED, "run_config": {},
}  # fmt: skip
# What only the missing transcripts leave unproven.
UNPROVEN = {"bad-sum", "bad-scores"}


NAMES = (
    "flip one byte of a spend",
    "drop a refusal",
    "swap two decisions",
    "truncate the last entries",
    "run before approval",
    "overspend a privacy budget",
    "mis-settle by one credit",
)


def _key(number: int) -> SigningKey:
    return SigningKey(bytes([number]) * 32)


COORDINATOR = _key(1)
MEMBERS = sorted((_key(number) for number in range(2, 6)), key=lambda key: key.key_id)


class Log:
    """Signs entries in everybody's name, each of whom has seen the log so far."""

    def __init__(self) -> None:
        self.replay = Replay()
        self.frames: list[bytes] = []
        self.genesis = b""
        self._chains: dict[bytes, tuple[int, bytes]] = {}

    def say(self, author: Signer, kind: str, body: Json) -> Entry:
        sequence, previous = self._chains.get(author.key_id, (0, NO_PREVIOUS))
        size = len(self.frames)
        entry = write_entry(
            author, Draft(kind, f"{kind}/{size}", body), consortium=self.genesis, head=Head(size, self.replay.root),
            prev=previous, seq=sequence,
        )  # fmt: skip
        step = self.replay.feed(entry.frame.data)
        assert step.fault is None, (kind, step.fault)
        self.frames.append(entry.frame.data)
        self.genesis = self.genesis or entry.leaf
        self._chains[author.key_id] = (sequence + 1, entry.leaf)
        return entry

    def note(self, size: int) -> bytes:
        checkpoint = Checkpoint(ORIGIN, size, self.replay.tree.root(size))
        return sign_checkpoint(checkpoint, COORDINATOR, ORIGIN).encode()


def _party(key: SigningKey, name: str, size: str) -> Json:
    return {
        "legal_name": name, "public_key": key.public_key.hex(), "sector": "energy", "size": size,
        "tls_key_sha256": digest_of(name),
    }  # fmt: skip


def _decide(log: Log, member: Signer, job: Entry, outcome: str) -> None:
    names = ("reasons", "request", "policy", "schema", "entities")
    clauses = [] if outcome == "permit" else ["purpose"]
    body = {"job": job.leaf.hex(), "stage": "run", "outcome": outcome, "clauses": clauses, "engine": "test"}
    log.say(member, "decision", {**body, **{f"{name}_sha256": ZERO for name in names}})


def _sum(log: Log, job: Entry, number: int, roster: list[str]) -> None:
    body = {
        "job": job.leaf.hex(), "round": number, "roster": roster, "survivors": roster, "transcript_sha256": ZERO,
        "total_sha256": ZERO,
    }  # fmt: skip
    log.say(COORDINATOR, "sum", body)


def _join(log: Log) -> None:
    charter = json.loads((Path(__file__).parents[2] / "policies" / "incentives" / "standard.json").read_text())
    genesis = {
        "name": "wind", "sectors": ["energy"], "coordinator": _party(COORDINATOR, "Office", "neutral"),
        "origin": ORIGIN, "schedule": charter, "rule_version": 1, "members_min": 3,
        "quorum": {"admission": "coordinator", "votes_bp": 6667},
    }  # fmt: skip
    log.say(COORDINATOR, "genesis", genesis)
    for number, member in enumerate(MEMBERS):
        enrolment = _party(member, f"Member {number}", "small") | {"flower_key": "ab", "owner_group": f"g{number}"}
        entry = log.say(member, "enrolment", enrolment)
        log.say(COORDINATOR, "admission", {"member": member.key_id.hex(), "enrolment": entry.leaf.hex()})
    for member in MEMBERS:
        descriptor = {
            "dataset": "wind", "lineage": "wind", "sector": "energy", "grade": "general", "privacy_unit": "one record",
            "row_count_band": "1k-10k", "key": ["time"], "columns": COLUMNS,
        }  # fmt: skip
        offer = {
            "dataset": "wind", "lineage": "wind", "descriptor": descriptor, "policy_sha256": ZERO,
            "schema_sha256": ZERO, "guard_sha256": ZERO, "budget": {"rho_micro": CAP, "delta": "1e-6"},
        }  # fmt: skip
        log.say(member, "dataset", offer)


def _job(log: Log, kind: str, request: Json) -> Entry:
    datasets = [{"member": member.key_id.hex(), "dataset": "wind"} for member in MEMBERS]
    return log.say(COORDINATOR, "job", {"kind": kind, "datasets": datasets, "members_min": 3, "request": request})


@cache
def sound() -> tuple[Export, bytes, bytes]:
    """The export, the genesis frame, and a checkpoint that a member saved at the end."""
    log = Log()
    _join(log)
    roster = [member.key_id.hex() for member in MEMBERS]
    asked = _job(log, "statistic", REQUEST)
    for member in MEMBERS:
        _decide(log, member, asked, "permit")
    spend = {"job": asked.leaf.hex(), "dataset": "wind", "round": 0, "delta": "1e-6"}
    for member in MEMBERS:
        log.say(member, "spend", {**spend, "rho_micro": rho_micro_for(1000, "1e-6")})
    _sum(log, asked, 0, roster)
    log.say(COORDINATOR, "result", {"job": asked.leaf.hex(), "document_sha256": ZERO})
    refused = _job(log, "statistic", {**REQUEST, "purpose": "marketing"})
    for member in MEMBERS:
        _decide(log, member, refused, "refuse")
    log.say(COORDINATOR, "abort", {"job": refused.leaf.hex(), "reason": "refused"})
    _train(log)
    return Export(log.note(len(log.frames)), tuple(log.frames), {}), log.frames[0], log.note(len(log.frames))


def _train(log: Log) -> None:
    log.say(COORDINATOR, "app", {"name": "power", "digest": APP})
    for member in MEMBERS:
        log.say(member, "approval", {"digest": APP})
    job = _job(log, "training", TRAINING)
    for member in MEMBERS:
        _decide(log, member, job, "permit")
    for member in MEMBERS:
        spend = {"job": job.leaf.hex(), "dataset": "wind", "round": 0, "rho_micro": "unbounded", "delta": "0"}
        log.say(member, "spend", spend)
    members = [member.key_id for member in MEMBERS]
    for number in range(1, ROUNDS + 1):
        _sum(log, job, number, [member.hex() for member in round_roster(bytes.fromhex(SEED), number, members)])
    _sum(log, job, ROUNDS + 1, [member.hex() for member in members])
    log.say(COORDINATOR, "result", {"job": job.leaf.hex(), "document_sha256": ZERO})
    scores = [{"member": m.hex(), "score_micro": 1000 + n, "error_micro": 5} for n, m in enumerate(members)]
    log.say(COORDINATOR, "scores", {"job": job.leaf.hex(), "method": METHOD, "seed": SEED, "scores": scores})
    state = log.replay.state
    postings = [posting.to_json() for posting in postings_of(state, state.jobs[job.leaf], 100_000)]
    schedule = digest_of(state.charter["schedule"])
    body = {"job": job.leaf.hex(), "amount": "100000", "schedule_sha256": schedule, "postings": postings}
    log.say(COORDINATOR, "settlement", body)


def _forgeries() -> dict[str, Forgery]:
    return {forgery.name: forgery for forgery in Forger(COORDINATOR, MEMBERS[1]).forgeries(sound()[0])}


def test_the_sound_export_lacks_nothing_but_the_transcripts() -> None:
    export, genesis, saved = sound()
    assert {finding.code for finding in audit_export(export, genesis, saved).findings} == UNPROVEN


@pytest.mark.parametrize("name", NAMES)
def test_the_audit_names_every_forgery(name: str) -> None:
    _, genesis, saved = sound()
    forgery = _forgeries()[name]
    report = audit_export(forgery.export, genesis, saved if forgery.needs_saved else None)
    assert forgery.expected not in UNPROVEN
    assert forgery.expected in {finding.code for finding in report.findings}


def test_all_seven_ways_are_tried() -> None:
    assert tuple(_forgeries()) == NAMES


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_forged_tree_and_checkpoint_belong_together(name: str) -> None:
    """Else the audit would find a careless forger, not the forgery."""
    _, genesis, _ = sound()
    report = audit_export(_forgeries()[name].export, genesis)
    assert not {"bad-checkpoint", "bad-signature"} & {finding.code for finding in report.findings}


@pytest.mark.parametrize("name", NAMES[4:])
def test_what_the_keys_allow_leaves_no_other_trace(name: str) -> None:
    """Signatures, chains, heads and tree all hold: only the rules show the forgery."""
    _, genesis, _ = sound()
    forgery = _forgeries()[name]
    codes = {finding.code for finding in audit_export(forgery.export, genesis).findings}
    assert codes - UNPROVEN == {forgery.expected}


def test_truncation_shows_only_against_a_saved_checkpoint() -> None:
    _, genesis, _ = sound()
    report = audit_export(_forgeries()["truncate the last entries"].export, genesis)
    assert {finding.code for finding in report.findings} <= UNPROVEN


def test_members_entries_keep_their_signatures() -> None:
    export, _, _ = sound()
    members = {frame for frame in export.frames if frame[1:33] != COORDINATOR.key_id}
    dropped = _forgeries()["drop a refusal"].export
    kept = {frame for frame in dropped.frames if frame[1:33] != COORDINATOR.key_id}
    assert len(members - kept) == 1
    assert kept < members
