"""Launches jobs and sees them through: decisions, secure sums, results; it survives stragglers and restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field

from consortium.encoding import Json, canonical, digest_of, parse, sha256
from consortium.errors import ContributionError, NotFoundError, SecureSumError, UnavailableError
from consortium.jobs import STATISTIC_ROUNDS_MAX, TrainingRequest, check_job, read_request
from consortium.ledger.entry import Draft
from consortium.privacy.accounting import epsilon_milli_for
from consortium.privacy.estimates import estimate
from consortium.privacy.plan import Plan
from consortium.privacy.secure_sum import SumSpec, Transcript, Words, decode_signed, minimum_threshold
from consortium.privacy.secure_sum.words import vector_digest
from consortium.state import Job, State
from node.coordinator.board import Board
from node.coordinator.hub import Hub
from node.coordinator.sum_run import SumRun
from node.coordinator.training import Training
from node.log import log, log_exception
from node.ports import Answers, Transcripts
from node.services.api import Clause, Explain, Explained, Reasons, SumFailed, SumStep
from node.services.author import Author, Said
from node.services.mirror import Mirror

STATISTIC_INPUT = bytes(32)
ID_DIGITS_MIN = 12


@dataclass(frozen=True)
class Patience:
    """Progress deadlines in seconds: how long nothing may happen before we go on without whoever is silent."""

    decision_s: float = 30.0
    sum_s: float = 30.0
    reasons_s: float = 2.0


@dataclass
class Heard:
    """What members said beside the ledger, for the requester only."""

    reasons: dict[bytes, dict[bytes, tuple[Clause, ...]]] = field(default_factory=dict)
    calls: dict[tuple[int, bytes], asyncio.Future[Explained]] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def attended(self, _member: bytes, /) -> None:
        self.changed.set()

    def lost(self, member: bytes) -> None:
        for (_, of), call in self.calls.items():
            if of == member and not call.done():
                call.set_exception(UnavailableError("The member's link dropped.", where=member.hex()))

    def heard(self, member: bytes, message: Explained | Reasons | SumStep | SumFailed) -> None:
        if isinstance(message, Reasons):
            self.reasons.setdefault(message.job, {})[member] = message.clauses
            self.changed.set()
        elif isinstance(message, Explained):
            call = self.calls.get((message.call, member))
            if call is not None and not call.done():
                call.set_result(message)


class Jobs:
    """The coordinator's jobs."""

    def __init__(
        self,
        mirror: Mirror,
        author: Author,
        hub: Hub,
        *,
        transcripts: Transcripts,
        answers: Answers,
        training: Training,
        open_sum: Callable[[SumSpec], SumRun],
        patience: Patience,
    ) -> None:
        self._mirror = mirror
        self._author = author
        self._hub = hub
        self._transcripts = transcripts
        self._answers = answers
        self._training = training
        self._open_sum = open_sum
        self._patience = patience
        self._board = Board()
        self._heard = Heard()
        self._calls = 0
        self._running: dict[bytes, asyncio.Task[None]] = {}
        hub.listen(self._heard)

    async def resume(self) -> None:
        """Takes up what a restart interrupted: statistics go on in a new round, training runs are aborted."""
        for job in tuple(self._mirror.state.jobs.values()):
            if not job.ended():
                await self._board.post(job.id, "deciding", "taken up again after a restart")
                if job.kind == "training":
                    await self._end(job, "aborted", "coordinator-restarted")
                else:
                    self._start(job)

    async def stop(self) -> None:
        for task in tuple(self._running.values()):
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def submit(self, body: Json) -> Said:
        """Puts a job on the ledger and sees it through in the background.

        An identical job that stands, open or answered, is the answer to an identical request.

        Raises:
            RequestError, EntryError: the job is not well formed, or does not fit the catalogue.
        """
        check_job(self._mirror.state, body)
        same = [job for job in self._mirror.state.jobs.values() if job.body == body]
        for job in same:
            if job.abort is None:
                return Said(job.index, job.id)
        said = await self._author.say(Draft("job", f"job/{digest_of(body)}/{len(same)}", body))
        if said.leaf in self._running:  # asked twice at once
            return said
        self._start(self._mirror.state.jobs[said.leaf])
        await self._board.post(said.leaf, "deciding", "waiting for the members' decisions", of=len(body["datasets"]))
        return said

    async def explain(self, body: Json) -> dict[bytes, Explained | None]:
        """What each member would decide; None where it does not answer."""
        check_job(self._mirror.state, body)
        self._calls += 1
        call = self._calls
        members = [bytes.fromhex(item["member"]) for item in body["datasets"]]
        answers = await asyncio.gather(*(self._ask(call, member, body) for member in members))
        return dict(zip(members, answers, strict=True))

    async def abort(self, job: bytes, reason: str = "by-coordinator") -> None:
        """Ends a job everywhere; `reason` is the code that the ledger gets.

        Raises:
            NotFoundError: no such job, or it has ended.
        """
        found = self._mirror.state.jobs.get(job)
        if found is None or found.ended():
            raise NotFoundError("No open job has this id.", where=job.hex(), mend="List them: 'consortium job list'.")
        task = self._running.get(job)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._training.abort(job)
        await self._end(found, "aborted", reason)

    async def watch(self, job: str) -> AsyncIterator[Json]:
        """Progress documents until the last; see ControlService.watch_job."""
        found = find_job(self._mirror.state, job)
        if self._board.last(found.id.hex()) is None:
            await self._recall(found)
        async for document in self._board.watch(found.id.hex()):
            yield document

    def state_of(self, job: Job) -> str:
        """The state in a word, as the board has it or the ledger shows it."""
        last = self._board.last(job.id.hex())
        if last is not None:
            return str(last["state"])
        if job.result is not None:
            return "done"
        if job.abort is None:
            return "running"
        return "refused" if job.abort.body["reason"] == "refused" else "aborted"

    async def _recall(self, found: Job) -> None:
        answer = await self._answers.get(found.id)
        result = parse(answer) if answer is not None else None
        reason = found.abort.body["reason"] if found.abort else ""
        await self._board.post(found.id, self.state_of(found), "as the ledger has it", result=result, reason=reason)

    def _start(self, job: Job) -> None:
        task = asyncio.create_task(self._see_through(job))
        self._running[job.id] = task
        task.add_done_callback(lambda _: self._running.pop(job.id, None))

    async def _see_through(self, job: Job) -> None:
        try:
            await self._run(job)
        except (SecureSumError, UnavailableError) as error:
            log("job.failed", job=job.id.hex(), code=error.code)
            await self._end(job, "failed", error.code, text=str(error))
        except Exception as error:  # noqa: BLE001 - a job's fault must not take the others down; it ends aborted
            log_exception("job.crashed", error)
            await self._end(job, "failed", "internal", text="An internal fault; see the coordinator's log.")

    async def _run(self, job: Job) -> None:
        await self._decisions(job)
        roster = job.permitted()
        if len(roster) < job.members_min:
            await self._refused(job)
            return
        await self._board.post(job.id, "running", f"{len(roster)} of {len(job.datasets)} members permitted it")
        if job.kind == "training":
            document = await self._training.run(job, self._board)
        else:
            document = await self._statistic(job)
        data = canonical(document)
        await self._answers.put(job.id, data)
        await self._author.say(
            Draft("result", f"result/{job.id.hex()}", {"job": job.id.hex(), "document_sha256": sha256(data).hex()})
        )
        text = await self._scored(job) if job.kind == "training" else "finished"
        await self._board.post(job.id, "done", text, done=1, of=1, result=document)

    async def _scored(self, job: Job) -> str:
        try:
            await self._training.score(job)
        except ContributionError as error:  # too few rounds, say: the result stands without scores
            log("job.not-scored", job=job.id.hex(), code=error.code)
            return f"finished, without scores: {error.what}"
        return "finished"

    async def _decisions(self, job: Job) -> None:
        """Waits until every member has decided, or nobody did for a while."""
        everybody = frozenset(job.datasets)
        while job.decided() < everybody:
            known = len(job.decided())
            try:
                async with asyncio.timeout(self._patience.decision_s):
                    await self._mirror.wait_for(lambda: len(job.decided()) > known)  # noqa: B023 awaited here
            except TimeoutError:
                return
            await self._board.post(
                job.id, "deciding", "waiting for the members' decisions", done=len(job.decided()), of=len(everybody)
            )

    async def _refused(self, job: Job) -> None:
        refusing = job.decided() - set(job.permitted())
        try:
            async with asyncio.timeout(self._patience.reasons_s):
                while not refusing <= self._heard.reasons.get(job.id, {}).keys():
                    self._heard.changed.clear()
                    await self._heard.changed.wait()
        except TimeoutError:
            log("job.reasons-missing", job=job.id.hex())
        await self._end(
            job,
            "refused",
            "refused",
            text=f"{len(refusing)} of {len(job.datasets)} members refuse it",
            refusals=[self._refusal(job, member) for member in sorted(refusing)],
        )

    def _refusal(self, job: Job, member: bytes) -> Json:
        """Clause ids from the ledger; the texts as the member told us, where it did."""
        told = {clause.id: clause.reason for clause in self._heard.reasons.get(job.id, {}).get(member, ())}
        return {
            "member": member.hex(),
            "legal_name": self._mirror.state.members[member].legal_name,
            "dataset": job.datasets[member],
            "clauses": [{"id": name, "reason": told.get(name, "")} for name in job.decisions[member, "run"].clauses],
        }

    async def _statistic(self, job: Job) -> Json:
        """Tries rounds until one is summed; each is paid for anew, with fresh noise."""
        roster = set(job.permitted())
        first = max((number for _, number in job.spends), default=-1) + 1
        for number in range(first, STATISTIC_ROUNDS_MAX):
            present = await self._present(roster)
            if len(present) < job.members_min:
                break
            out = await self._round(job, number, present)
            if isinstance(out, dict):
                return out
            if out < set(present):  # when all refuse, it was for the round: they knew it from before a restart
                roster -= out
        raise SecureSumError(
            "No round of the sum could be finished with enough members.",
            where=f"job {job.id.hex()}",
            mend="See 'consortium member list' for who attends, and launch it again.",
        )

    async def _present(self, roster: set[bytes]) -> tuple[bytes, ...]:
        """Who of the roster attends; those who are away, as all are after our restart, get time to come back."""
        try:
            async with asyncio.timeout(self._patience.sum_s):
                while not roster <= self._hub.attending:
                    self._heard.changed.clear()
                    await self._heard.changed.wait()
        except TimeoutError:
            log("sum.members-away", count=len(roster - self._hub.attending))
        return tuple(sorted(roster & self._hub.attending))

    async def _round(self, job: Job, number: int, roster: tuple[bytes, ...]) -> Json | frozenset[bytes]:
        """The result document; or, if the sum stayed masked, the members that left it."""
        threshold = minimum_threshold(len(roster))
        request = read_request(job.body)
        assert not isinstance(request, TrainingRequest)
        plan = Plan.of(request, threshold)
        spec = SumSpec(
            consortium=self._mirror.state.genesis,
            job=job.id,
            round=number,
            roster=roster,
            request=bytes.fromhex(digest_of(job.body)),
            input_model=STATISTIC_INPUT,
            length=plan.length,
            word_bits=128,
            threshold=threshold,
        )
        run = self._open_sum(spec)
        try:
            await run.set_up()
            await self._board.post(job.id, "running", "secure sum: waiting for masked vectors", done=number, of=1)
            await run.wait_for_vectors()
            total, survivors, transcript = await run.unmask()
        except SecureSumError as error:
            run.close(error.code)
            log("sum.stayed-masked", job=job.id.hex(), round=number, code=error.code)
            return frozenset(run.out)
        except BaseException:
            run.close("aborted")
            raise
        await record_sum(self._author, self._transcripts, spec, total, survivors, transcript)
        run.close("")
        answer = estimate(plan, decode_signed(total, 128), len(survivors))
        return {
            "kind": "statistic",
            "job": job.id.hex(),
            "round": number,
            "roster": [member.hex() for member in roster],
            "survivors": [member.hex() for member in survivors],
            "out": {member.hex(): code for member, code in sorted(run.out.items())},
            "request": job.request,
            "rho_micro": plan.rho_micro,
            "epsilon_milli": epsilon_milli_for(plan.rho_micro, request.delta),
            "estimates": answer.to_json(),
        }

    async def _end(self, job: Job, state: str, reason: str, *, text: str = "", **more: Json) -> None:
        if not job.ended():
            await self._author.say(Draft("abort", f"abort/{job.id.hex()}", {"job": job.id.hex(), "reason": reason}))
        await self._board.post(job.id, state, text or reason, reason=reason, **more)

    async def _ask(self, call: int, member: bytes, body: Json) -> Explained | None:
        self._heard.calls[call, member] = asyncio.get_running_loop().create_future()
        try:
            self._hub.send(member, Explain(call, canonical(body), self._mirror.size))
            async with asyncio.timeout(self._patience.decision_s):
                return await self._heard.calls[call, member]
        except (UnavailableError, TimeoutError):
            return None
        finally:
            del self._heard.calls[call, member]


def find_job(state: State, text: str) -> Job:
    """The job of an id, or of a beginning of at least 12 hex digits that only one job has.

    Raises:
        NotFoundError: there is none, or more than one.
    """
    found = [job for job in state.jobs.values() if len(text) >= ID_DIGITS_MIN and job.id.hex().startswith(text)]
    if len(found) != 1:
        raise NotFoundError(
            "No job has this id.", where=text[:64], mend="List them: 'consortium job list'; 12 digits are enough."
        )
    return found[0]


async def record_sum(
    author: Author,
    transcripts: Transcripts,
    spec: SumSpec,
    total: Words,
    survivors: Iterable[bytes],
    transcript: Transcript,
) -> None:
    """Keeps the transcript of a finished sum and commits to it on the ledger."""
    data = transcript.to_bytes()
    digest = sha256(data)
    await transcripts.put(digest, data)
    body = {
        "job": spec.job.hex(),
        "round": spec.round,
        "roster": [member.hex() for member in spec.roster],
        "survivors": [member.hex() for member in survivors],
        "transcript_sha256": digest.hex(),
        "total_sha256": vector_digest(total).hex(),
    }
    await author.say(Draft("sum", f"sum/{spec.job.hex()}/{spec.round}", body))
