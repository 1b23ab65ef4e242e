"""A coordinator and four members who do all that a consortium does, one step after another."""

from __future__ import annotations

import copy
import functools
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from consortium.audit import Export
from consortium.encoding import Json, digest_of
from consortium.incentives.rules import WEIGHT_SCALE, postings_of, scores_of, utilities_of
from consortium.jobs import round_roster
from consortium.keys import SigningKey
from consortium.ledger.entry import Entry
from consortium.privacy.accounting import rho_micro_for
from consortium.privacy.plan import Plan
from consortium.privacy.secure_sum import SumSpec, WordBits, minimum_threshold
from consortium.privacy.statistics import StatisticsRequest
from consortium.state import UNBOUNDED, Job
from tests.worlds import documents
from tests.worlds.ledger import Ledger
from tests.worlds.sums import SumRecord, run_sum

SIZES = ("large", "medium", "small", "small")
EXAMPLES = (900, 500, 200, 200)
WORTHS = (40_000, 25_000, 10_000, 5_000)  # micro-units of utility that a round gains from each member
AMOUNT = 100_000


class World:
    """`coordinator` and `members` (sorted by id) sign; `ledger` holds what counts; `transcripts` by hash."""

    def __init__(self) -> None:
        self.coordinator = SigningKey(b"\x01" * 32)
        self.members = sorted((SigningKey(bytes([2 + i]) * 32) for i in range(4)), key=lambda key: key.key_id)
        self.ledger = Ledger()
        self.ledger.witnesses = tuple(self.members)
        self.transcripts: dict[str, bytes] = {}

    @property
    def ids(self) -> list[bytes]:
        return [self.ledger.state.member_of(member.key_id) for member in self.members]

    def job(self, identity: bytes) -> Job:
        return self.ledger.state.jobs[identity]

    def found(self) -> World:
        self.ledger.add(self.coordinator, "genesis", documents.genesis(self.coordinator))
        return self

    def enrol(self, position: int) -> Entry:
        body = documents.enrolment(self.members[position], f"Operator {position}", SIZES[position])
        return self.ledger.add(self.members[position], "enrolment", body)

    def join(self) -> World:
        for position, identity in enumerate(self.ids):
            leaf = self.enrol(position).leaf
            self.ledger.add(self.coordinator, "admission", {"member": identity.hex(), "enrolment": leaf.hex()})
        return self

    def seat(self) -> World:
        self.ledger.add(self.coordinator, "committee", {"members": [identity.hex() for identity in self.ids]})
        return self

    def offer(self, **fields: Any) -> World:
        for member in self.members:
            self.ledger.add(member, "dataset", documents.offer(**fields))
        return self

    def approve(self) -> World:
        self.ledger.add(self.coordinator, "app", {"name": "power", "digest": documents.APP})
        for member in self.members:
            self.ledger.add(member, "approval", {"digest": documents.APP})
        return self

    def job_body(self, kind: str, request: Json) -> dict[str, Json]:
        datasets = [{"member": identity.hex(), "dataset": "scada"} for identity in self.ids]
        return {"kind": kind, "datasets": datasets, "members_min": 3, "request": request}

    def launch(self, kind: str, request: Json) -> bytes:
        return self.ledger.add(self.coordinator, "job", self.job_body(kind, request)).leaf

    def decide(self, job: bytes, outcome: str = "permit", stage: str = "run") -> None:
        for member in self.members:
            self.ledger.add(member, "decision", documents.decision(job.hex(), outcome, stage))

    def spend_body(self, job: bytes, round_number: int = 0) -> dict[str, Json]:
        request = self.job(job).request
        if self.job(job).kind == "training":
            return self._spend(job, round_number, UNBOUNDED, "0")
        rho_micro = rho_micro_for(request["epsilon_milli"], request["delta"])
        return self._spend(job, round_number, rho_micro, request["delta"])

    def _spend(self, job: bytes, round_number: int, rho_micro: Json, delta: str) -> dict[str, Json]:
        return {"job": job.hex(), "dataset": "scada", "round": round_number, "rho_micro": rho_micro, "delta": delta}

    def pay(self, job: bytes, round_number: int = 0) -> None:
        for member in self.members:
            self.ledger.add(member, "spend", self.spend_body(job, round_number))

    def spec(self, job: bytes, number: int, roster: Sequence[bytes], length: int, word_bits: WordBits) -> SumSpec:
        return SumSpec(
            consortium=self.ledger.state.genesis,
            job=job,
            round=number,
            roster=tuple(roster),
            request=bytes.fromhex(digest_of(self.job(job).body)),
            input_model=bytes(32),
            length=length,
            word_bits=word_bits,
            threshold=minimum_threshold(len(roster)),
        )

    def sum(self, spec: SumSpec, vectors: dict[bytes, list[int]], *, absent: Collection[bytes] = ()) -> SumRecord:
        """A sum whose transcript is kept; its entry is not yet written."""
        record = run_sum(spec, dict(zip(self.ids, self.members, strict=True)), vectors, absent=absent)
        self.transcripts[record.transcript_sha256] = record.transcript
        return record

    def sum_body(self, record: SumRecord) -> dict[str, Json]:
        return {
            "job": record.spec.job.hex(),
            "round": record.spec.round,
            "roster": [member.hex() for member in record.spec.roster],
            "survivors": [member.hex() for member in record.survivors],
            "transcript_sha256": record.transcript_sha256,
            "total_sha256": record.total_sha256,
        }

    def statistic_sum(self, job: bytes, number: int = 0, *, absent: Collection[bytes] = ()) -> SumRecord:
        plan = Plan.of(StatisticsRequest.from_json(self.job(job).request), 3)
        vectors = {member: [100 + place, -7 * place] for place, member in enumerate(self.ids)}
        return self.sum(self.spec(job, number, self.ids, plan.length, 128), vectors, absent=absent)

    def record(self, record: SumRecord) -> Entry:
        return self.ledger.add(self.coordinator, "sum", self.sum_body(record))

    def answer(self, job: bytes) -> Entry:
        return self.ledger.add(self.coordinator, "result", {"job": job.hex(), "document_sha256": documents.HASH})

    def ask(self) -> bytes:
        """A whole statistics job; the last member goes silent after it paid."""
        job = self.launch("statistic", documents.statistic())
        self.decide(job)
        self.pay(job)
        self.decide(job, stage="release")
        self.record(self.statistic_sum(job, absent=self.ids[3:]))
        self.answer(job)
        return job

    def be_refused(self) -> bytes:
        """A job that every policy refuses."""
        job = self.launch("statistic", documents.statistic() | {"purpose": "resale"})
        self.decide(job, "refuse")
        self.ledger.add(self.coordinator, "abort", {"job": job.hex(), "reason": "refused"})
        return job

    def start_training(self, rounds: int = documents.ROUNDS) -> bytes:
        """A training job up to its first round."""
        job = self.launch("training", documents.training(rounds))
        self.decide(job)
        self.pay(job)
        return job

    def training_sum(self, job: bytes, number: int, roster: Sequence[bytes]) -> SumRecord:
        """A round: two weights, the examples, one metric."""
        vectors = {member: [number, -number, EXAMPLES[self.ids.index(member)], 5] for member in roster}
        return self.sum(self.spec(job, number, roster, 4, 32), vectors)

    def roster(self, number: int) -> tuple[bytes, ...]:
        return round_roster(bytes.fromhex(documents.SEED), number, self.ids)

    def evaluation_sum(self, job: bytes) -> SumRecord:
        """The evaluation of the initial and every round's model by everybody: what each roster's members are worth."""
        rounds = self.job(job).request["rounds"]
        utilities = [100_000]
        for number in range(1, rounds + 1):
            utilities.append(utilities[-1] + sum(WORTHS[self.ids.index(member)] for member in self.roster(number)))
        vectors = {
            member: [examples]
            + [round(u * examples * WEIGHT_SCALE / (documents.EXAMPLES_MAX * 1_000_000)) for u in utilities]
            for member, examples in zip(self.ids, EXAMPLES, strict=True)
        }
        return self.sum(self.spec(job, rounds + 1, self.ids, rounds + 2, 32), vectors)

    def train(self) -> bytes:
        """A whole training job, scored and settled."""
        job = self.start_training()
        for number in range(1, documents.ROUNDS + 1):
            self.record(self.training_sum(job, number, self.roster(number)))
        evaluation = self.evaluation_sum(job)
        self.record(evaluation)
        self.answer(job)
        self.ledger.add(self.coordinator, "scores", self.scores_body(job, evaluation))
        self.ledger.add(self.coordinator, "settlement", self.settlement_body(job))
        return job

    def scores_body(self, job: bytes, evaluation: SumRecord) -> dict[str, Json]:
        total = np.asarray(evaluation.total, dtype=np.uint32)
        scores = scores_of(self.job(job), utilities_of(total, documents.EXAMPLES_MAX, evaluation.spec.length - 1))
        return {"job": job.hex(), "method": scores.method, "seed": documents.SEED, "scores": scores.to_json()}

    def settlement_body(self, job: bytes, amount: int = AMOUNT) -> dict[str, Json]:
        postings = postings_of(self.ledger.state, self.job(job), amount)
        return {
            "job": job.hex(),
            "amount": str(amount),
            "schedule_sha256": digest_of(documents.SCHEDULE),
            "postings": [posting.to_json() for posting in postings],
        }

    def note(self, size: int | None = None) -> bytes:
        """A checkpoint of the log that its committee has cosigned."""
        self.ledger.witnesses = tuple(self.members)
        return self.ledger.note(self.coordinator, size=size)

    def export(self) -> Export:
        return Export(self.note(), tuple(self.ledger.frames), dict(self.transcripts))


@functools.cache
def _built() -> tuple[World, bytes, bytes]:
    world = World().found().join().seat().offer().approve()
    statistic = world.ask()
    world.be_refused()
    return world, statistic, world.train()


def honest_world() -> tuple[World, bytes, bytes]:
    """A consortium that has done everything, with the ids of its statistics and its training job; yours to spoil."""
    return copy.deepcopy(_built())
