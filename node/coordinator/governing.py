"""Carries out at the coordinator what the members voted: jobs stop, streams end, committees hand over."""

from __future__ import annotations

from consortium.errors import EntryError, NotFoundError
from consortium.ledger.entry import Draft
from consortium.state import Job
from node.coordinator.hub import Hub
from node.coordinator.jobs import Jobs
from node.coordinator.witnesses import Witnesses
from node.log import log, log_refusal
from node.services.author import Author
from node.services.mirror import Mirror

STOPPED = "member-suspended"


class Governing:
    """Follows the ledger; what it does follows from the state alone, so that a restart takes it up."""

    def __init__(self, mirror: Mirror, author: Author, hub: Hub, witnesses: Witnesses, jobs: Jobs) -> None:
        self._mirror = mirror
        self._author = author
        self._hub = hub
        self._witnesses = witnesses
        self._jobs = jobs

    async def run(self) -> None:
        """Works until cancelled."""
        seen = -1
        while True:
            await self._mirror.wait_for(lambda: self._mirror.acknowledged_size > seen)  # noqa: B023 awaited here
            seen = self._mirror.acknowledged_size
            for member in self._unwelcome():
                self._hub.dismiss(member)
                await self._witnesses.dismiss(member)
            for job in self._stopping():
                await self._stop(job)
            if self._hands_over():
                await self._hand_over()

    def _absent(self) -> frozenset[bytes]:
        """Members that are suspended or removed."""
        members = self._mirror.state.members.values()
        return frozenset(member.id for member in members if member.admitted is not None and not member.active)

    def _unwelcome(self) -> frozenset[bytes]:
        absent = self._absent()
        return absent & (self._hub.attending | self._witnesses.attending) if absent else absent

    def _stopping(self) -> list[Job]:
        """Open jobs in which an absent member takes part, or might: those that it refused go on without it."""
        absent = self._absent()
        if not absent:
            return []
        return [
            job
            for job in self._mirror.state.jobs.values()
            if not job.ended()
            and any(member not in job.decided() or job.permits(member) for member in absent & job.datasets.keys())
        ]

    async def _stop(self, job: Job) -> None:
        log("job.stopped", job=job.id.hex(), code=STOPPED)
        try:
            await self._jobs.abort(job.id, STOPPED)
        except (EntryError, NotFoundError) as error:  # it ended by itself at the same moment
            if not job.ended():
                raise
            log_refusal("job.ended-before", error, job=job.id.hex())

    def _hands_over(self) -> bool:
        """Whether both committees have cosigned a checkpoint of the time in which both must."""
        committees = self._mirror.state.committees_at(self._mirror.size)
        return len(committees) > 1 and self._mirror.acknowledged_size >= committees[-1].start

    async def _hand_over(self) -> None:
        acknowledged = self._mirror.acknowledged
        assert acknowledged is not None
        start = self._mirror.state.committees_at(self._mirror.size)[-1].start
        said = await self._author.say(
            Draft("handover", f"handover/{start}", {"checkpoint": acknowledged.note.decode()})
        )
        log("committee.handed-over", size=said.index)
