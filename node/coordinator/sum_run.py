"""The coordinator's part in one secure sum: relays, waits, unmasks. It is trusted for progress only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

import numpy as np

from consortium.encoding import canonical
from consortium.errors import SecureSumError, UnavailableError
from consortium.privacy.secure_sum import Aggregator, SumSpec, Transcript, Words
from node.coordinator.hub import Hub
from node.log import log
from node.services.api import Explained, PhaseName, Reasons, SumClosed, SumFailed, SumOpen, SumStep, ToMember


class SumRun:
    """One round. A member is out when it says so, when its message is wrong, or when it makes no progress in time.

    A member whose link dropped may come back within the progress deadline: it is sent the current step again.
    """

    def __init__(
        self, spec: SumSpec, public_keys: Mapping[bytes, bytes], hub: Hub, *, ledger_size: int, progress_s: float
    ) -> None:
        """Args: `ledger_size` entries justify the proposal; a step may go on for `progress_s` without any message."""
        self.spec = spec
        self.out: dict[bytes, str] = {}
        self._aggregator = Aggregator(spec, public_keys)
        self._hub = hub
        self._ledger_size = ledger_size
        self._progress_s = progress_s
        self._changed = asyncio.Event()
        self._current: dict[bytes, ToMember] = {}
        self._frames: dict[bytes, bytes] = {}  # masked frames whose vector comes by another way
        self._phase: PhaseName = "advertise"  # what the current step waits for
        self._answered: set[bytes] = set()
        self._unlisten = hub.listen(self)

    async def set_up(self) -> None:
        """Keys and shares of the whole roster; after this every member can mask.

        Raises:
            SecureSumError: a member is out; nothing was masked, so a new round without it may be tried.
        """
        opening = SumOpen(canonical(self.spec.to_json()), self._ledger_size)
        self._tell("advertise", dict.fromkeys(self.spec.roster, opening))
        await self._everybody("advertise")
        self._relay("advertise", "share", self._aggregator.adverts())
        await self._everybody("share")
        self._relay("share", "mask", self._aggregator.shares())

    async def wait_for_vectors(self) -> None:
        """Waits until every member's vector has arrived or the member is out."""
        await self._settle(self.spec.roster)

    async def add_vectors(self, vectors: Mapping[bytes, Words]) -> None:
        """Takes vectors that came by another way (Flower), each with the signed frame that came by the stream."""
        expected = sorted(set(vectors) & set(self.spec.roster))
        await self._settle(expected)
        for member in expected:
            if member not in self._frames:
                continue
            try:
                self._aggregator.add_masked(self._frames[member], vectors[member])
            except SecureSumError as error:
                self._drop(member, error.code)

    async def unmask(self) -> tuple[Words, tuple[bytes, ...], Transcript]:
        """The sum over those whose vector arrived, who they are, and the transcript.

        Raises:
            SecureSumError: fewer than the threshold arrived, voted or revealed: the sum stays masked.
        """
        survivors = self._aggregator.survivors()
        job, number = self.spec.job, self.spec.round
        self._tell("vote", {member: SumStep(job, number, "vote", survivors=survivors) for member in survivors})
        await self._settle(survivors)
        voted = [member for member in survivors if member in self._answered]
        votes = tuple(self._aggregator.votes())
        self._tell("reveal", {member: SumStep(job, number, "reveal", votes) for member in voted})
        await self._settle(voted)
        total = self._aggregator.total()
        return total, survivors, self._aggregator.transcript()

    def close(self, code: str) -> None:
        """Tells the roster that the round is over; an empty code means finished."""
        self._unlisten()
        closing = SumClosed(self.spec.job, self.spec.round, code)
        for member in self.spec.roster:
            try:
                self._hub.send(member, closing)
            except UnavailableError:
                log("sum.close-unsent", member=member.hex(), job=self.spec.job.hex(), round=self.spec.round)

    def attended(self, member: bytes) -> None:
        """A member is back: it gets the current step again."""
        if member in self._current and member not in self.out:
            self._hub.send(member, self._current[member])

    def lost(self, member: bytes) -> None:
        """A member's link dropped; whether it is out is decided by the progress deadline."""

    def heard(self, member: bytes, message: Explained | Reasons | SumStep | SumFailed) -> None:
        """Takes a member's step; a wrong one puts the member out, not the round."""
        if isinstance(message, Explained | Reasons) or (message.job, message.round) != (self.spec.job, self.spec.round):
            return
        if member not in self.spec.roster or member in self.out:
            return
        if isinstance(message, SumFailed):
            self._drop(member, message.code or "failed")
            return
        try:
            self._take(member, message)
        except SecureSumError as error:
            self._drop(member, error.code)
        else:
            if message.phase == self._phase:
                self._answered.add(member)
        self._changed.set()

    def _take(self, member: bytes, step: SumStep) -> None:
        if len(step.frames) != 1:
            raise SecureSumError("A member's step carries exactly one frame.", where=step.phase)
        frame = step.frames[0]
        if step.phase == "advertise":
            self._aggregator.add_advert(frame)
        elif step.phase == "share":
            self._aggregator.add_shares(frame)
        elif step.phase == "mask" and not step.vector:
            self._frames[member] = frame
        elif step.phase == "mask":
            self._aggregator.add_masked(frame, words_of(step.vector, self.spec))
        elif step.phase == "vote":
            self._aggregator.add_vote(frame)
        else:
            self._aggregator.add_reveal(frame)

    def _drop(self, member: bytes, code: str) -> None:
        log("sum.member-out", member=member.hex(), job=self.spec.job.hex(), round=self.spec.round, code=code)
        self.out[member] = code
        self._changed.set()

    def _relay(self, phase: PhaseName, answer: PhaseName, frames: Iterable[bytes]) -> None:
        step = SumStep(self.spec.job, self.spec.round, phase, tuple(frames))
        self._tell(answer, dict.fromkeys(self.spec.roster, step))

    def _tell(self, answer: PhaseName, messages: Mapping[bytes, ToMember]) -> None:
        """Begins a step: each of these members is told, and should answer with `answer`."""
        self._phase = answer
        self._current = dict(messages)
        self._answered = set()
        for member, message in messages.items():
            if member in self.out:
                continue
            try:
                self._hub.send(member, message)
            except UnavailableError:
                log("sum.member-away", member=member.hex(), job=self.spec.job.hex(), round=self.spec.round)

    async def _everybody(self, phase: PhaseName) -> None:
        await self._settle(self.spec.roster)
        if self.out:
            raise SecureSumError(
                f"{len(self.out)} members left the set-up of the sum.", where=phase, mend="Start a round without them."
            )

    async def _settle(self, members: Iterable[bytes]) -> None:
        """Waits until each of these members has answered the current step, or is out for want of progress."""
        expected = set(members)
        while not self._answered | self.out.keys() >= expected:
            self._changed.clear()
            try:
                async with asyncio.timeout(self._progress_s):  # wait_for of Python 3.11 can swallow a cancellation
                    await self._changed.wait()
            except TimeoutError:
                for member in expected - self._answered - self.out.keys():
                    self._drop(member, "no-progress")


def words_of(data: bytes, spec: SumSpec) -> Words:
    """The little-endian words of a statistics vector.

    Raises:
        SecureSumError: another number of bytes than the sum's vector has.
    """
    if len(data) != spec.length * spec.word_bits // 8:
        raise SecureSumError("The masked vector has another length than the sum.", where="vector")
    if spec.word_bits == 32:
        return np.frombuffer(data, "<u4").astype(np.uint32)
    return np.frombuffer(data, "<u8").astype(np.uint64).reshape(spec.length, 2)
