"""What only the coordinator's seat can be asked: invitations, apps, jobs, settlements."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence

from consortium.encoding import Json, digest_of
from consortium.errors import NotFoundError, RequestError
from consortium.incentives.rules import postings_of
from consortium.ledger.cosignature import quorum
from consortium.ledger.entry import Draft
from node.app import views
from node.coordinator.hub import Hub
from node.coordinator.jobs import Jobs, find_job
from node.coordinator.training import Training
from node.ports import Clock, Invitations
from node.services.author import Author
from node.services.mirror import Mirror

SECRET_BYTES = 32
VALID_HOURS_MAX = 24 * 90
FAB_BYTES_MAX = 10 << 20  # Flower's own limit


class Seat:
    """The coordinator's desk."""

    def __init__(
        self,
        mirror: Mirror,
        author: Author,
        hub: Hub,
        jobs: Jobs,
        training: Training,
        invitations: Invitations,
        clock: Clock,
        invitation: Mapping[str, Json],
    ) -> None:
        """Args: `invitation` holds the fields that every invitation of this consortium has."""
        self._mirror = mirror
        self._author = author
        self._hub = hub
        self.jobs = jobs
        self._training = training
        self._invitations = invitations
        self._clock = clock
        self._invitation = dict(invitation)

    @property
    def attending(self) -> frozenset[bytes]:
        return self._hub.attending

    async def invite(self, legal_name: str, valid_hours: int) -> Json:
        if not 1 <= valid_hours <= VALID_HOURS_MAX:
            raise RequestError(
                "The validity of the invitation is out of range.",
                where="valid_hours",
                mend=f"Give 1 to {VALID_HOURS_MAX} hours.",
            )
        secret = secrets.token_bytes(SECRET_BYTES)
        expires = self._clock.now() + valid_hours * 3600
        await self._invitations.create(hashlib.sha256(secret).digest(), expires, legal_name)
        return {**self._invitation, "secret": secret.hex(), "legal_name": legal_name, "expires": expires}

    async def seat_committee(self, members: Sequence[str]) -> Json:
        body = {"members": sorted(members)}
        said = await self._author.say(Draft("committee", "committee/first", body))
        return {**body, "quorum": quorum(len(members)), "index": said.index}

    async def catalogue_app(self, name: str, fab: bytes) -> Json:
        if not 1 <= len(fab) <= FAB_BYTES_MAX:
            raise RequestError("The FAB is empty or above 10 MiB.", where="fab", mend="Build it with 'flwr build'.")
        digest = await self._training.keep_app(fab)
        said = await self._author.say(Draft("app", f"app/{digest}", {"name": name, "digest": digest}))
        return {"name": name, "digest": digest, "index": said.index}

    async def explain_job(self, job: Json) -> Json:
        answers = await self.jobs.explain(job)
        named = {bytes.fromhex(item["member"]): item["dataset"] for item in job["datasets"]}
        members = [
            {
                "member": member.hex(),
                "legal_name": self._mirror.state.members[member].legal_name,
                "dataset": named[member],
                "permitted": answer.permitted if answer else None,
                "clauses": [{"id": clause.id, "reason": clause.reason} for clause in answer.clauses]
                if answer
                else [{"id": "no-answer", "reason": "The member does not attend, or did not answer in time."}],
            }
            for member, answer in answers.items()
        ]
        permitted = sum(member["permitted"] is True for member in members)
        return {"members": members, "would_run": permitted >= job["members_min"]}

    async def submit_job(self, job: Json) -> Json:
        said = await self.jobs.submit(job)
        return {"job": said.leaf.hex(), "index": said.index}

    async def abort_job(self, job: str) -> Json:
        await self.jobs.abort(find_job(self._mirror.state, job).id)
        return {"job": job, "state": "aborted"}

    async def settle(self, job: str, amount: str) -> Json:
        found = find_job(self._mirror.state, job)
        if found.scores is None:
            raise NotFoundError(
                "The job has no scores to settle by.", where=job[:64], mend="Only finished training jobs are settled."
            )
        if not amount.isdigit():
            raise RequestError("The amount is not a number of credits.", where="amount", mend="Give minor units.")
        postings = postings_of(self._mirror.state, found, int(amount))
        body = {
            "job": found.id.hex(),
            "amount": str(int(amount)),
            "schedule_sha256": digest_of(self._mirror.state.charter["schedule"]),
            "postings": [posting.to_json() for posting in postings],
        }
        await self._author.say(Draft("settlement", f"settlement/{found.id.hex()}", body))
        return views.settlement(found)
