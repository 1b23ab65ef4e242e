"""The small registries of a node."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from consortium.errors import InvitationError, LimitError, NotFoundError, RequestError, SecureSumError
from node.ports import Answers, Datasets, Invitations, Members, Settings, StoredDataset, Transcripts
from node.store import registry
from node.store.registry import SqlAnswers, SqlDatasets, SqlInvitations, SqlMembers, SqlSettings, SqlTranscripts
from tests.worlds.stores import Place

SECRET = b"one-time secret"
DIGEST = hashlib.sha256(SECRET).digest()


@dataclass
class FixedClock:
    time: int

    def now(self) -> int:
        return self.time


@dataclass(frozen=True)
class Ports:
    clock: FixedClock
    members: Members
    invitations: Invitations
    settings: Settings
    datasets: Datasets
    answers: Answers
    transcripts: Transcripts


@asynccontextmanager
async def opened(place: Place) -> AsyncIterator[Ports]:
    database = await place.open()
    clock = FixedClock(1000)
    try:
        yield Ports(
            clock,
            SqlMembers(database),
            SqlInvitations(database, clock),
            SqlSettings(database),
            SqlDatasets(database),
            SqlAnswers(database),
            SqlTranscripts(database),
        )
    finally:
        await database.close()


async def test_everything_registered_is_there_after_reopening(place: Place) -> None:
    async with opened(place) as ports:
        await ports.members.accept(b"\x01" * 32)
        await ports.members.accept(b"\x01" * 32)
        await ports.members.accept(b"\x02" * 32)
        await ports.settings.set("paused", "yes")
        await ports.settings.set("paused", "no")
        await ports.datasets.put("b", "/data/b", "{}", "permit (x);")
        await ports.datasets.put("a", "/data/old", "{}", "")
        await ports.datasets.put("a", "/data/a", '{"v":2}', "")
        await ports.answers.put(DIGEST, b"answer")
        await ports.transcripts.put(DIGEST, SECRET)
        await ports.transcripts.put(DIGEST, SECRET)
    async with opened(place) as ports:
        assert await ports.members.accepted() == {b"\x01" * 32, b"\x02" * 32}
        assert await ports.settings.get("paused") == "no"
        a, b = StoredDataset("a", "/data/a", '{"v":2}', ""), StoredDataset("b", "/data/b", "{}", "permit (x);")
        assert await ports.datasets.list() == (a, b)
        assert await ports.datasets.get("b") == b
        assert await ports.answers.get(DIGEST) == b"answer"
        assert await ports.transcripts.get(DIGEST) == SECRET


async def test_what_was_never_registered_is_not_there(place: Place) -> None:
    async with opened(place) as ports:
        assert await ports.members.accepted() == frozenset()
        assert await ports.settings.get("paused") is None
        assert await ports.answers.get(DIGEST) is None
        assert await ports.datasets.list() == ()
        with pytest.raises(NotFoundError):
            await ports.datasets.get("a")
        with pytest.raises(NotFoundError):
            await ports.transcripts.get(DIGEST)


async def test_an_invitation_is_redeemed_once_also_after_a_restart(place: Place) -> None:
    async with opened(place) as ports:
        await ports.invitations.create(DIGEST, 2000, "Operator GmbH")
        await ports.invitations.redeem(SECRET, "Operator GmbH")
        with pytest.raises(InvitationError, match="used before"):
            await ports.invitations.redeem(SECRET, "Operator GmbH")
    async with opened(place) as ports:
        with pytest.raises(InvitationError, match="used before"):
            await ports.invitations.redeem(SECRET, "Operator GmbH")


async def test_a_race_for_an_invitation_has_one_winner(place: Place) -> None:
    async with opened(place) as ports:
        await ports.invitations.create(DIGEST, 2000, "Operator GmbH")
        calls = [ports.invitations.redeem(SECRET, "Operator GmbH") for _ in range(20)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert outcomes.count(None) == 1
        assert sum(isinstance(outcome, InvitationError) for outcome in outcomes) == 19


async def test_an_unknown_invitation_is_refused(place: Place) -> None:
    async with opened(place) as ports:
        await ports.invitations.create(DIGEST, 2000, "Operator GmbH")
        for secret in (b"", b"guess", DIGEST):
            with pytest.raises(InvitationError, match="not known"):
                await ports.invitations.redeem(secret, "Operator GmbH")


async def test_an_expired_invitation_is_refused_and_not_used_up(place: Place) -> None:
    async with opened(place) as ports:
        await ports.invitations.create(DIGEST, 2000, "Operator GmbH")
        ports.clock.time = 2000
        with pytest.raises(InvitationError, match="expired"):
            await ports.invitations.redeem(SECRET, "Operator GmbH")
        ports.clock.time = 1999
        await ports.invitations.redeem(SECRET, "Operator GmbH")


async def test_an_invitation_for_another_name_is_refused_and_not_used_up(place: Place) -> None:
    async with opened(place) as ports:
        await ports.invitations.create(DIGEST, 2000, "Operator GmbH")
        with pytest.raises(InvitationError, match="another legal name"):
            await ports.invitations.redeem(SECRET, "Operator AG")
        await ports.invitations.redeem(SECRET, "Operator GmbH")


async def test_a_second_invitation_with_one_secret_is_refused(place: Place) -> None:
    async with opened(place) as ports:
        await ports.invitations.create(DIGEST, 2000, "Operator GmbH")
        await ports.invitations.redeem(SECRET, "Operator GmbH")
        with pytest.raises(InvitationError, match="exists"):
            await ports.invitations.create(DIGEST, 3000, "Operator GmbH")


async def test_a_request_has_one_answer(place: Place) -> None:
    async with opened(place) as ports:
        await ports.answers.put(DIGEST, b"answer")
        await ports.answers.put(DIGEST, b"answer")
        with pytest.raises(RequestError, match="Another answer"):
            await ports.answers.put(DIGEST, b"other")
        assert await ports.answers.get(DIGEST) == b"answer"


async def test_a_transcript_must_be_what_was_committed(place: Place) -> None:
    async with opened(place) as ports:
        with pytest.raises(SecureSumError, match="another SHA-256"):
            await ports.transcripts.put(DIGEST, b"other")


async def test_a_transcript_beyond_the_limit_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "TRANSCRIPT_BYTES_MAX", len(SECRET) - 1)
    async with opened(place) as ports:
        with pytest.raises(LimitError):
            await ports.transcripts.put(DIGEST, SECRET)
