"""A member at work: follows the log, decides on jobs, attends the coordinator's stream, takes part in sums."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from consortium.encoding import parse
from consortium.errors import ConsortiumError, NotAuthorisedError, SecureSumError, UnavailableError
from consortium.jobs import TrainingRequest, read_request
from consortium.policy.decision import Decision
from consortium.privacy.secure_sum import SumSpec
from consortium.state import Job
from node.log import log, log_exception, log_refusal
from node.services.api import (
    Batch,
    Begin,
    Clause,
    Explain,
    Explained,
    FromMember,
    Hello,
    Reasons,
    SumClosed,
    SumFailed,
    SumOpen,
    SumStep,
    ToMember,
)
from node.services.datasets import opened
from node.services.decisions import decision_draft
from node.services.member_sum import MemberSum, Surroundings

RECONNECT_S = 0.5
RECONNECT_MAX_S = 3.0
SET_UP_PATIENCE_S = 120.0


class Coordinator(Protocol):
    """The coordinator, as a member reaches it over its outbound connection."""

    def follow(self, start: int) -> AsyncIterator[Batch]: ...

    def attend(self, outgoing: AsyncIterator[FromMember]) -> AsyncIterator[ToMember]: ...


class TrainingChild(Protocol):
    """The member's SuperNode, a child process that runs while a training job does."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class MemberService:
    """The tasks of a member's node; also its TrainerService."""

    def __init__(self, node: Surroundings, coordinator: Coordinator, child: TrainingChild, version: str) -> None:
        self._node = node
        self._me = node.signer.member
        self._coordinator = coordinator
        self._child = child
        self._version = version
        self._outgoing: asyncio.Queue[FromMember] = asyncio.Queue(maxsize=256)
        self._sums: dict[tuple[bytes, int], MemberSum] = {}
        self._training: set[bytes] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.connected = asyncio.Event()

    async def run(self) -> None:
        """Works until cancelled.

        Raises:
            ForkError, CheckpointError: the coordinator's log cannot be followed any further.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow())
                group.create_task(self._attend())
                group.create_task(self._watch())
        except ExceptionGroup as failed:  # whoever runs this node is told the cause itself
            raise failed.exceptions[0] from failed
        finally:
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._child.stop()

    async def _follow(self) -> None:
        async def once() -> None:
            async for batch in self._coordinator.follow(self._node.mirror.acknowledged_size):
                await self._node.mirror.extend(batch)
                self.connected.set()

        await self._keep_trying(once, "follow")

    async def _attend(self) -> None:
        async def once() -> None:
            async for message in self._coordinator.attend(self._outgoing_messages()):
                self._spawn(self._take(message))

        await self._keep_trying(once, "attend")

    async def _keep_trying(self, once: Callable[[], Awaitable[None]], what: str) -> None:
        delay = RECONNECT_S
        while True:
            started = asyncio.get_running_loop().time()
            try:
                await once()
            except (UnavailableError, NotAuthorisedError) as error:  # a suspended member may be reinstated
                log(f"connection.{what}", code=error.code)
            self.connected.clear()
            if asyncio.get_running_loop().time() - started > RECONNECT_MAX_S:
                delay = RECONNECT_S
            await asyncio.sleep(delay)
            delay = min(delay * 2, RECONNECT_MAX_S)

    async def _outgoing_messages(self) -> AsyncIterator[FromMember]:
        yield Hello(self._version, self._node.switch.paused)
        while True:
            message = await self._outgoing.get()
            await self._node.switch.wait_until_open()
            yield message

    async def _watch(self) -> None:
        async for step in self._node.mirror.follow(0):
            if step.entry is None or step.fault is not None:
                continue
            if step.entry.kind == "job":
                job = self._node.mirror.state.jobs[step.entry.leaf]
                if self._me in job.datasets and not job.ended():
                    self._spawn(self._decide(job))
            elif step.entry.kind in ("result", "abort"):
                await self._close_job(self._node.mirror.state.jobs[bytes.fromhex(step.entry.body["job"])])

    async def _decide(self, job: Job) -> None:
        await self._node.switch.wait_until_open()
        if job.ended():
            return
        authorisation = await self._node.decisions.before_run(self._node.mirror.state, job.body, job.datasets[self._me])
        await self._node.switch.wait_until_open()
        if self._me not in job.decided():
            await self._node.author.say(decision_draft(job.id, "run", authorisation.decision))
            log("job.decided", job=job.id.hex(), code=authorisation.decision.outcome)
        if not authorisation.decision.permitted:
            await self._outgoing.put(Reasons(job.id, _clauses(authorisation.decision)))
        elif job.kind == "training" and not job.ended():
            self._training.add(job.id)
            await self._child.start()

    async def _close_job(self, job: Job) -> None:
        """Stops what is under way. Only a result finishes what was reserved: an aborted job gave nobody an answer."""
        for key in [key for key in self._sums if key[0] == job.id]:
            self._sums.pop(key).close()
        if job.result is not None:
            for member, round_number in tuple(job.spends):
                if member == self._me:
                    await self._node.accounts.mark_finished(job.id, round_number)
        if job.id in self._training:
            self._training.discard(job.id)
            if not self._training:
                self._spawn(self._child.stop())

    async def _take(self, message: ToMember) -> None:
        if isinstance(message, Explain):
            await self._outgoing.put(await self._explain(message))
        elif isinstance(message, SumOpen):
            await self._guard_sum(message)
        elif isinstance(message, SumStep):
            await self._guard_step(message)
        elif isinstance(message, SumClosed):
            closed = self._sums.pop((message.job, message.round), None)
            if closed is not None:
                closed.close()
                if message.code == "":
                    await self._node.accounts.mark_finished(message.job, message.round)

    async def _explain(self, message: Explain) -> Explained:
        await self._node.switch.wait_until_open()
        await self._node.mirror.wait_for_size(message.ledger_size)
        try:
            body = parse(message.job)
            dataset = next(item["dataset"] for item in body["datasets"] if item["member"] == self._me.hex())
            authorisation = await self._node.decisions.before_run(self._node.mirror.state, body, dataset)
        except ConsortiumError as error:
            return Explained(message.call, permitted=False, clauses=(Clause(error.code, error.what),))
        permitted = authorisation.decision.permitted
        return Explained(message.call, permitted, () if permitted else _clauses(authorisation.decision))

    async def _guard_sum(self, message: SumOpen) -> None:
        spec = SumSpec.from_json(parse(message.spec))
        await self._node.mirror.wait_for_size(message.ledger_size)
        try:
            job = self._node.mirror.state.jobs.get(spec.job)
            if job is None or self._me not in job.datasets:
                raise SecureSumError("The sum is for no job that asks for this node's data.", where="job")
            running = self._sums.get((spec.job, spec.round))
            if running is not None and running.spec == spec:
                await running.open_again()
                return
            if running is not None:
                raise SecureSumError("This round is open with another proposal.", where=f"round {spec.round}")
            opened_sum = MemberSum(spec, job, job.datasets[self._me], self._node, self._outgoing.put)
            self._sums[spec.job, spec.round] = opened_sum
            await opened_sum.open()
        except ConsortiumError as error:
            await self._fail(spec.job, spec.round, error)

    async def _guard_step(self, message: SumStep) -> None:
        running = self._sums.get((message.job, message.round))
        try:
            if running is None:
                raise SecureSumError("The sum is not open at this node.", mend="Start a new round.")
            await running.take(message)
        except ConsortiumError as error:
            if running is not None and running.closed:
                return
            await self._fail(message.job, message.round, error)

    async def _fail(self, job: bytes, round_number: int, error: ConsortiumError) -> None:
        log_refusal("sum.refused", error, job=job.hex(), round=round_number)
        failed = self._sums.pop((job, round_number), None)
        if failed is not None:
            failed.close()
        await self._outgoing.put(SumFailed(job, round_number, error.code))

    async def begin(
        self, job: bytes, round_number: int, digest: bytes, model_sha256: bytes, *, needs_table: bool
    ) -> Begin:
        """Whether the training child may run this app on this node's data in this round."""
        try:
            self._node.switch.check()
            self._node.mirror.check_going()
            state = self._node.mirror.state
            found = state.jobs.get(job)
            if found is None or found.kind != "training" or self._me not in found.permitted() or found.ended():
                raise SecureSumError("The run is for no training job that this node permitted.", where="job")
            request = read_request(found.body)
            assert isinstance(request, TrainingRequest)
            if digest.hex() != request.app or (self._me, request.app) not in state.approvals:
                raise SecureSumError("The app is not the one that this node's steward approved.", where="digest")
            running = await self._running(job, round_number)
            if running.spec.input_model != model_sha256:
                raise SecureSumError("The model is not the one that this round is bound to.", where="model_sha256")
            table = await self._table(found, request) if needs_table else b""
        except ConsortiumError as error:
            log_refusal("training.refused", error, job=job.hex(), round=round_number)
            return Begin(permitted=False, code=error.code, table=b"", plan={})
        return Begin(permitted=True, code="", table=table, plan=training_plan(request, len(found.datasets)))

    async def mask(
        self, job: bytes, round_number: int, model_sha256: bytes, vector: npt.NDArray[np.uint32]
    ) -> npt.NDArray[np.uint32]:
        """The child's vector under this node's masks."""
        self._node.mirror.check_going()
        running = await self._running(job, round_number)
        try:
            async with asyncio.timeout(SET_UP_PATIENCE_S):
                return await running.mask(model_sha256, vector)
        except TimeoutError as error:
            raise UnavailableError("The round was not set up in time.", where=f"round {round_number}") from error

    async def _running(self, job: bytes, round_number: int) -> MemberSum:
        running = self._sums.get((job, round_number))
        if running is None:
            raise SecureSumError("The round is not open at this node.", where="round")
        return running

    async def _table(self, job: Job, request: TrainingRequest) -> bytes:
        path, descriptor = opened(await self._node.datasets.get(job.datasets[self._me]))
        return await self._node.rows.table(path, descriptor, request.columns)

    def _spawn(self, work: Awaitable[None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except ConsortiumError as error:
                log_refusal("work.refused", error)

        task = asyncio.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log_exception("work.failed", error)


def training_plan(request: TrainingRequest, members: int) -> dict[str, object]:
    """What of a training request the executor at a node needs."""
    return {
        "evaluate_metrics": list(request.evaluate_metrics),
        "examples_max": request.examples_max,
        "members_max": members,
        "rounds": request.rounds,
        "run_config": dict(request.run_config),
        "train_metrics": list(request.train_metrics),
    }


def _clauses(decision: Decision) -> tuple[Clause, ...]:
    return tuple(Clause(clause.id, clause.reason) for clause in decision.clauses)
