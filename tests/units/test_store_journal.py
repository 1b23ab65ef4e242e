"""One vote a round, one roster an update, and no round twice: also across a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from consortium.errors import SecureSumError
from node.ports import RoundJournal
from node.store.journal import NO_MODEL, SqlRoundJournal
from tests.worlds.stores import Place

JOB, OTHER_JOB = b"\x01" * 32, b"\x02" * 32
MODEL, NEXT_MODEL = b"\x0a" * 32, b"\x0b" * 32
A, B, C, D = (bytes([i]) * 32 for i in range(4))


@asynccontextmanager
async def opened(place: Place) -> AsyncIterator[RoundJournal]:
    database = await place.open()
    try:
        yield SqlRoundJournal(database)
    finally:
        await database.close()


async def begin(journal: RoundJournal, job: bytes, round_number: int, model: bytes = MODEL) -> None:
    await journal.open_round("wind", job, round_number)
    await journal.record_input("wind", job, model, round_number, (A, B, C, D))


@pytest.mark.parametrize("reopened", [False, True])
@pytest.mark.parametrize("round_number", [-1, 0, 3, 4])
async def test_a_replayed_or_older_round_is_refused(place: Place, reopened: bool, round_number: int) -> None:
    async with opened(place) as journal:
        await journal.open_round("wind", JOB, 4)
        if not reopened:
            with pytest.raises(SecureSumError, match="replay"):
                await journal.open_round("wind", JOB, round_number)
    async with opened(place) as journal:
        with pytest.raises(SecureSumError, match="replay"):
            await journal.open_round("wind", JOB, round_number)
        await journal.open_round("wind", JOB, 5)
        await journal.open_round("other dataset", JOB, 4)
        await journal.open_round("wind", OTHER_JOB, 0)


async def test_a_negative_first_round_is_refused(place: Place) -> None:
    async with opened(place) as journal:
        with pytest.raises(SecureSumError, match="replay"):
            await journal.open_round("wind", JOB, -1)


async def test_a_second_vote_with_another_survivor_set_is_refused(place: Place) -> None:
    async with opened(place) as journal:
        await begin(journal, JOB, 0)
        await journal.record_vote(JOB, 0, (A, B, C))
        await journal.record_vote(JOB, 0, (C, B, A))
        for survivors in ((A, B, D), (A, B), (A, B, C, D)):
            with pytest.raises(SecureSumError, match="another survivor set"):
                await journal.record_vote(JOB, 0, survivors)


async def test_after_a_restart_there_is_no_vote_in_an_old_round(place: Place) -> None:
    async with opened(place) as journal:
        await begin(journal, JOB, 0)
        await journal.record_vote(JOB, 0, (A, B, C))
        await begin(journal, JOB, 1, NEXT_MODEL)
    async with opened(place) as journal:
        for round_number in (0, 1):
            for survivors in ((A, B, D), (A, B, C)):
                with pytest.raises(SecureSumError, match="not open"):
                    await journal.record_vote(JOB, round_number, survivors)
        with pytest.raises(SecureSumError, match="not open"):
            await journal.record_input("wind", JOB, NEXT_MODEL, 1, (A, B, C, D))


async def test_a_vote_is_bound_to_the_newest_round_of_its_job(place: Place) -> None:
    async with opened(place) as journal:
        await begin(journal, JOB, 0)
        await begin(journal, JOB, 1)
        with pytest.raises(SecureSumError, match="not open"):
            await journal.record_vote(JOB, 0, (A, B, C))
        await journal.record_vote(JOB, 1, (A, B, C))


async def test_a_vote_without_an_input_is_refused(place: Place) -> None:
    async with opened(place) as journal:
        await journal.open_round("wind", JOB, 0)
        with pytest.raises(SecureSumError, match="needs the input"):
            await journal.record_vote(JOB, 0, (A, B, C))


@pytest.mark.parametrize("survivors", [(), (A, A), (A, b"short"), (A, b"\x09" * 32)])
async def test_a_survivor_set_that_is_none_of_the_roster_is_refused(place: Place, survivors: tuple[bytes, ...]) -> None:
    async with opened(place) as journal:
        await begin(journal, JOB, 0)
        with pytest.raises(SecureSumError):
            await journal.record_vote(JOB, 0, survivors)


@pytest.mark.parametrize(
    ("model", "roster"), [(NEXT_MODEL, (A, B, C, D)), (MODEL, (A, B, C)), (NO_MODEL, (A, B, C, D))]
)
async def test_a_round_keeps_its_input_model_and_roster(place: Place, model: bytes, roster: tuple[bytes, ...]) -> None:
    async with opened(place) as journal:
        await begin(journal, JOB, 0)
        await journal.record_input("wind", JOB, MODEL, 0, (D, C, B, A))
        with pytest.raises(SecureSumError, match="another input model or roster"):
            await journal.record_input("wind", JOB, model, 0, roster)


@pytest.mark.parametrize("roster", [(), (A, A), (b"short",)])
async def test_a_malformed_roster_is_refused(place: Place, roster: tuple[bytes, ...]) -> None:
    async with opened(place) as journal:
        await journal.open_round("wind", JOB, 0)
        with pytest.raises(SecureSumError, match="roster"):
            await journal.record_input("wind", JOB, MODEL, 0, roster)


@pytest.mark.parametrize("job", [JOB, OTHER_JOB])
async def test_one_update_goes_to_one_roster_also_after_a_restart(place: Place, job: bytes) -> None:
    async with opened(place) as journal:
        await begin(journal, JOB, 0)
        await journal.record_vote(JOB, 0, (A, B, C))
    async with opened(place) as journal:
        await journal.open_round("wind", job, 1)
        for roster in ((A, B, C, D), (A, B, C)):
            with pytest.raises(SecureSumError, match="another sum"):
                await journal.record_input("wind", job, MODEL, 1, roster)
        await journal.record_input("wind", job, NEXT_MODEL, 1, (A, B, C))
        await journal.open_round("other dataset", job, 1)
        await journal.record_input("other dataset", job, MODEL, 1, (A, B, C))


async def test_two_jobs_that_began_on_one_model_cannot_both_be_voted(place: Place) -> None:
    async with opened(place) as journal:
        await begin(journal, JOB, 0)
        await begin(journal, OTHER_JOB, 0)
        await journal.record_vote(JOB, 0, (A, B, C))
        with pytest.raises(SecureSumError, match="another sum"):
            await journal.record_vote(OTHER_JOB, 0, (A, B, D))


async def test_a_round_that_nobody_voted_in_can_be_retried_on_its_model(place: Place) -> None:
    async with opened(place) as journal:
        await begin(journal, JOB, 0)
        await begin(journal, JOB, 1)
        await journal.record_vote(JOB, 1, (A, B, C))


async def test_statistics_have_no_model_and_retry_with_fresh_noise(place: Place) -> None:
    async with opened(place) as journal:
        await begin(journal, JOB, 0, NO_MODEL)
        await journal.record_vote(JOB, 0, (A, B, C))
        await begin(journal, JOB, 1, NO_MODEL)
        await journal.record_vote(JOB, 1, (A, B, D))
