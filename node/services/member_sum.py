"""A member's part in one secure sum: from the coordinator's proposal to the revealed shares.

Every step is checked against the ledger and this node's own rules, never against what the coordinator says it may do.
Journal, account and ledger are written before what they record is done; after a crash the round is lost and what was
reserved for it stays spent.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from consortium.encoding import digest_of
from consortium.errors import PolicyRefusedError, SecureSumError
from consortium.jobs import MODEL_WORDS_MAX, STATISTIC_ROUNDS_MAX, TrainingRequest, read_request, training_roster
from consortium.ledger.entry import Draft
from consortium.privacy.plan import Plan
from consortium.privacy.secure_sum import LocalRules, Participant, SumSpec, encode_signed
from consortium.privacy.secure_sum.words import wire_bytes
from consortium.state import UNBOUNDED, Job, State
from node.ports import Accounts, Datasets, Members, RoundJournal
from node.services.api import PhaseName, SumStep
from node.services.author import Author
from node.services.computation import Noise, Rows
from node.services.datasets import opened
from node.services.decisions import Decisions, decision_draft
from node.services.keyring import KeyRing
from node.services.mirror import Mirror
from node.services.switch import Switch

UNFINISHED_MAX = 8  # rounds that a requester may leave unfinished on one node, so that aborts cannot burn a budget
STATISTIC_INPUT = bytes(32)

Send = Callable[[SumStep], Awaitable[None]]


@dataclass(frozen=True)
class Surroundings:
    """What a sum needs of its node."""

    signer: KeyRing
    mirror: Mirror
    author: Author
    decisions: Decisions
    journal: RoundJournal
    accounts: Accounts
    members: Members
    datasets: Datasets
    rows: Rows
    noise: Noise
    switch: Switch
    members_min: int


class MemberSum:
    """One round of one job at one member; in memory only."""

    def __init__(self, spec: SumSpec, job: Job, dataset: str, node: Surroundings, send: Send) -> None:
        self.spec = spec
        self._job = job
        self._dataset = dataset
        self._node = node
        self._send = send
        self._replies: dict[str, SumStep] = {}
        self._participant: Participant | None = None
        self._shares: asyncio.Future[tuple[bytes, ...]] = asyncio.get_running_loop().create_future()
        self._steps: set[asyncio.Task[None]] = set()
        self.closed = False

    async def open(self) -> None:
        """Checks the proposal and sends this node's keys.

        Raises:
            SecureSumError: the proposal does not match the ledger, or the round was opened before.
        """
        await self._node.switch.wait_until_open()
        state = self._node.mirror.state
        check_proposal(state, self._job, self.spec, self._node.signer.member)
        rules = LocalRules(
            state.trusted(await self._node.members.accepted()) | {self._node.signer.member},
            max(self._node.members_min, self._job.members_min),
        )
        keys = {member: state.members[member].public_key for member in self.spec.roster}
        await self._node.journal.open_round(self._dataset, self.spec.job, self.spec.round)
        self._participant = Participant(self.spec, self._node.signer.current, keys, rules, secrets.token_bytes)
        await self._reply(SumStep(self.spec.job, self.spec.round, "advertise", (self._participant.advertise(),)))

    async def open_again(self) -> None:
        """The proposal came again, after a lost link: so do this node's keys, if they were sent."""
        if "advertise" in self._replies:
            await self._reply(self._replies["advertise"])

    async def take(self, step: SumStep) -> None:
        """Takes the coordinator's next step; a step that comes again gets the same reply again.

        A paused node waits with it. When the sum is closed, what is under way is cancelled.

        Raises:
            SecureSumError, PolicyRefusedError, BudgetError: this node goes no further with the sum.
        """
        task = asyncio.ensure_future(self._answer(step))
        self._steps.add(task)
        task.add_done_callback(self._steps.discard)
        await task

    async def _answer(self, step: SumStep) -> None:
        await self._may_go_on()
        given = {"advertise": "share", "share": "mask"}.get(step.phase, step.phase)
        if given in self._replies:
            await self._reply(self._replies[given])
        elif step.phase == "advertise":
            await self._reply(self._step("share", (self._the_participant().share(step.frames),)))
        elif step.phase == "share":
            await self._prepare(step.frames)
        elif step.phase == "vote":
            await self._vote(step.survivors)
        elif step.phase == "reveal":
            await self._reply(self._step("reveal", (self._the_participant().reveal(step.frames),)))
            await self._node.accounts.mark_finished(self.spec.job, self.spec.round)

    async def mask(self, model_sha256: bytes, vector: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
        """Masks the training child's vector once the set-up is complete; the signed frame goes to the coordinator.

        Raises:
            SecureSumError: another model or length than the round's.
        """
        if model_sha256 != self.spec.input_model:
            raise SecureSumError("The model is not the one that this round is bound to.", where="model_sha256")
        if vector.shape != (self.spec.length,):
            raise SecureSumError("The vector has another length than this round.", where="vector")
        shares = await asyncio.shield(self._shares)
        await self._may_go_on()
        await self._bind_input()
        frame, masked = self._the_participant().mask(shares, vector)
        await self._reply(self._step("mask", (frame,)))
        return np.asarray(masked, dtype=np.uint32)

    def close(self) -> None:
        """Stops what is under way and sends nothing more; whoever waits for the set-up is told."""
        self.closed = True
        for step in tuple(self._steps):
            step.cancel()
        if not self._shares.done():
            self._shares.set_exception(_closed())
            self._shares.exception()  # perhaps nobody waits

    async def _prepare(self, shares: tuple[bytes, ...]) -> None:
        if self._shares.done():
            return
        if self._job.kind == "training":
            await self._pay(None)
            self._shares.set_result(shares)
            return
        self._shares.set_result(shares)
        request = read_request(self._job.body)
        assert not isinstance(request, TrainingRequest)
        plan = Plan.of(request, self.spec.threshold)
        await self._pay(plan.rho_micro)
        totals = await self._noisy_totals(plan)
        await self._bind_input()
        frame, masked = self._the_participant().mask(shares, encode_signed(totals, 128))
        await self._reply(SumStep(self.spec.job, self.spec.round, "mask", (frame,), vector=bytes(wire_bytes(masked))))

    async def _pay(self, rho_micro: int | None) -> None:
        """Reserves durably, records the spend, and returns when the ledger has acknowledged it."""
        state = self._node.mirror.state
        dataset = state.datasets[self._node.signer.member, self._dataset]
        round_number = self.spec.round if rho_micro is not None else 0
        paid = self._job.spends.get((self._node.signer.member, 0))
        if rho_micro is None and paid is not None:
            await self._node.mirror.wait_for_size(paid.index + 1)
            return
        await self._may_go_on()
        on_ledger = state.spent.get((dataset.member, dataset.lineage), 0)
        await self._node.accounts.raise_to(dataset.lineage, on_ledger)  # a store that was lost gives no budget back
        await self._node.accounts.reserve(
            dataset.lineage,
            self.spec.job,
            round_number,
            rho_micro,
            state.cap_of(dataset.member, dataset.lineage),
            dataset.delta,
            requester=state.coordinator,
            unfinished_max=UNFINISHED_MAX,
        )
        request = read_request(self._job.body)
        body = {
            "job": self.spec.job.hex(),
            "dataset": self._dataset,
            "round": round_number,
            "rho_micro": UNBOUNDED if rho_micro is None else rho_micro,
            "delta": "0" if isinstance(request, TrainingRequest) else request.delta,
        }
        await self._may_go_on()
        await self._node.author.say(Draft("spend", f"spend/{self.spec.job.hex()}/{round_number}", body))

    async def _noisy_totals(self, plan: Plan) -> list[int]:
        path, descriptor = opened(await self._node.datasets.get(self._dataset))
        sums = await self._node.rows.partial_sums(path, descriptor, plan)
        await self._release(plan.request.columns_read, sums.rows, plan.rho_micro)
        totals = list(sums.totals)
        for vector in plan.vectors:
            shares = await asyncio.to_thread(self._node.noise, vector.length, vector.share_variance)
            for offset, share in enumerate(shares):
                totals[vector.offset + offset] += share
        return totals

    async def _release(self, columns: Sequence[str], rows: int, rho_micro: int) -> None:
        await self._may_go_on()
        authorisation = await self._node.decisions.before_release(
            self._node.mirror.state, self._job.body, self._dataset, columns=columns, rows=rows, rho_micro=rho_micro
        )
        if (self._node.signer.member, "release") not in self._job.decisions:
            await self._node.author.say(decision_draft(self.spec.job, "release", authorisation.decision))
        if not authorisation.decision.permitted:
            raise PolicyRefusedError(
                "This node's policy does not let the result leave.",
                where=", ".join(authorisation.decision.clause_ids),
            )

    async def _vote(self, survivors: tuple[bytes, ...]) -> None:
        participant = self._the_participant()
        frame = participant.vote(survivors)
        await self._node.journal.record_vote(self.spec.job, self.spec.round, survivors)
        await self._reply(self._step("vote", (frame,)))

    async def _bind_input(self) -> None:
        await self._node.journal.record_input(
            self._dataset, self.spec.job, self.spec.input_model, self.spec.round, self.spec.roster
        )

    def _step(self, phase: PhaseName, frames: tuple[bytes, ...]) -> SumStep:
        return SumStep(self.spec.job, self.spec.round, phase, frames)

    async def _may_go_on(self) -> None:
        """Before each decision and each send: not while the node is paused, not after the end of the sum."""
        await self._node.switch.wait_until_open()
        if self.closed:
            raise _closed()

    async def _reply(self, step: SumStep) -> None:
        await self._may_go_on()
        self._replies[step.phase] = step
        await self._send(step)

    def _the_participant(self) -> Participant:
        if self._participant is None:
            raise SecureSumError("The sum was not opened at this node.", mend="Start a new round.")
        return self._participant


def _closed() -> SecureSumError:
    return SecureSumError("The sum was closed.", mend="Start a new round.")


def check_proposal(state: State, job: Job, spec: SumSpec, me: bytes) -> None:
    """Refuses a proposed sum that is not what the ledger says about its job.

    Raises:
        SecureSumError: which part does not match.
    """
    training = job.kind == "training"
    last = int(job.request["rounds"]) + 1 if training else STATISTIC_ROUNDS_MAX - 1
    checks = (
        (not job.ended(), "The job has ended.", "job"),
        (spec.consortium == state.genesis, "The sum is of another consortium.", "consortium"),
        (spec.request.hex() == digest_of(job.body), "The sum is of another request.", "request"),
        (set(spec.roster) <= set(job.permitted()), "A member of the roster has not permitted the job.", "roster"),
        (
            not training or spec.roster == training_roster(job, spec.round),
            "The roster is not the one that the job's seed gives for this round.",
            "roster",
        ),
        (all(map(state.admitted, spec.roster)), "A member of the roster is suspended or was removed.", "roster"),
        (me in spec.roster, "This node is not on the roster.", "roster"),
        (len(spec.roster) >= job.members_min, "The roster is below the job's minimum.", "roster"),
        (int(training) <= spec.round <= last, "The job has no such round.", "round"),
        (spec.word_bits == (32 if training else 128), "The job sums words of another size.", "word_bits"),
        ((spec.input_model == STATISTIC_INPUT) != training, "The input model does not fit the job.", "input_model"),
    )
    for sound, what, where in checks:
        if not sound:
            raise SecureSumError(what, where=where, mend="Propose the sum as the ledger says.")
    request = read_request(job.body)
    if isinstance(request, TrainingRequest):
        length_max = MODEL_WORDS_MAX
        sound = 1 <= spec.length <= length_max
    else:
        sound = spec.length == Plan.of(request, spec.threshold).length
    if not sound:
        raise SecureSumError("The vector has another length than the job.", where="length")
