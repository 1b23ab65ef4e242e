"""Privacy budget: reserved is spent, for good; nothing overspends."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from consortium.errors import BudgetError
from node.ports import Accounts, Reservation
from node.store.accounts import RHO_MICRO_MAX, SqlAccounts
from tests.worlds.stores import Place

JOB, OTHER_JOB = b"\x01" * 32, b"\x02" * 32
ASKER, OTHER_ASKER = b"\x0a" * 32, b"\x0b" * 32
ROOT = Path(__file__).parents[2]

RESERVE_THEN_WAIT = """
import asyncio, sys
from pathlib import Path
from node.store.accounts import SqlAccounts
from node.store.database import Database

async def main():
    database = await Database.open(Path(sys.argv[1]), sys.argv[2])
    await SqlAccounts(database).reserve("wind", bytes(32), 0, 70, 100, "1e-6", requester=bytes(32), unfinished_max=9)
    print("reserved", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@asynccontextmanager
async def opened(place: Place) -> AsyncIterator[Accounts]:
    database = await place.open()
    try:
        yield SqlAccounts(database)
    finally:
        await database.close()


async def reserve(
    accounts: Accounts,
    rho: int | None,
    *,
    round_number: int = 0,
    cap: int = 100,
    job: bytes = JOB,
    lineage: str = "wind",
    requester: bytes = ASKER,
    unfinished_max: int = 1000,
) -> None:
    await accounts.reserve(
        lineage, job, round_number, rho, cap, "1e-6", requester=requester, unfinished_max=unfinished_max
    )


async def test_a_reservation_is_there_after_reopening(place: Place) -> None:
    async with opened(place) as accounts:
        assert await accounts.spent("wind") == 0
        await reserve(accounts, 30)
        await reserve(accounts, None, round_number=1)
        await reserve(accounts, 5, job=OTHER_JOB, lineage="solar")
    async with opened(place) as accounts:
        assert (await accounts.spent("wind"), await accounts.spent("solar")) == (30, 5)
        assert await accounts.entries("wind") == [
            Reservation("wind", JOB, 0, 30, "1e-6", ASKER, finished=False),
            Reservation("wind", JOB, 1, None, "1e-6", ASKER, finished=False),
        ]


async def test_the_cap_can_be_reached_and_not_exceeded(place: Place) -> None:
    async with opened(place) as accounts:
        await reserve(accounts, 60)
        with pytest.raises(BudgetError, match="does not cover"):
            await reserve(accounts, 41, round_number=1)
        await reserve(accounts, 40, round_number=2)
        with pytest.raises(BudgetError, match="does not cover"):
            await reserve(accounts, 1, round_number=3)
        assert await accounts.spent("wind") == 100
        assert [entry.round for entry in await accounts.entries("wind")] == [0, 2]


@pytest.mark.parametrize("rho", [0, -5, RHO_MICRO_MAX + 1])
async def test_a_cost_that_is_not_positive_or_too_large_is_refused(place: Place, rho: int) -> None:
    async with opened(place) as accounts:
        with pytest.raises(BudgetError, match="not a positive number"):
            await reserve(accounts, rho, cap=2**60)


async def test_a_round_is_reserved_once(place: Place) -> None:
    async with opened(place) as accounts:
        await reserve(accounts, 10)
        with pytest.raises(BudgetError, match="reserved before"):
            await reserve(accounts, 10)
        assert await accounts.spent("wind") == 10


async def test_concurrent_reservations_cannot_overspend(place: Place) -> None:
    async with opened(place) as accounts:
        attempts = [reserve(accounts, 7, round_number=number) for number in range(40)]
        outcomes = await asyncio.gather(*attempts, return_exceptions=True)
        assert sum(outcome is None for outcome in outcomes) == 14
        assert all(outcome is None or isinstance(outcome, BudgetError) for outcome in outcomes)
        assert await accounts.spent("wind") == 98


async def test_finishing_a_round_gives_nothing_back(place: Place) -> None:
    async with opened(place) as accounts:
        await reserve(accounts, 90)
        await accounts.mark_finished(JOB, 0)
        assert await accounts.spent("wind") == 90
        with pytest.raises(BudgetError, match="does not cover"):
            await reserve(accounts, 20, round_number=1)


async def test_unfinished_rounds_are_capped_per_requester(place: Place) -> None:
    async with opened(place) as accounts:
        await reserve(accounts, 1, round_number=0, unfinished_max=2)
        await reserve(accounts, None, round_number=1, unfinished_max=2)
        assert await accounts.unfinished(ASKER) == 2
        with pytest.raises(BudgetError, match="too many unfinished"):
            await reserve(accounts, 1, round_number=2, unfinished_max=2)
        await reserve(accounts, 1, round_number=2, unfinished_max=2, requester=OTHER_ASKER)
        await accounts.mark_finished(JOB, 0)
        await reserve(accounts, 1, round_number=3, unfinished_max=2)
        assert [entry.finished for entry in await accounts.entries("wind")] == [True, False, False, False]


async def test_the_account_is_raised_to_the_ledgers_and_never_lowered(place: Place) -> None:
    async with opened(place) as accounts:
        await reserve(accounts, 30)
        await accounts.raise_to("wind", 80)
        await accounts.raise_to("wind", 10)
        await accounts.raise_to("new", 99)
        assert (await accounts.spent("wind"), await accounts.spent("new")) == (80, 99)
        for lineage in ("wind", "new"):
            with pytest.raises(BudgetError, match="does not cover"):
                await reserve(accounts, 21, round_number=1, lineage=lineage)


def reserve_in_a_child_and_kill_it(place: Place) -> None:
    command = [sys.executable, "-c", RESERVE_THEN_WAIT, *place.arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == "reserved\n"
        finally:
            child.kill()
    assert child.returncode == -signal.SIGKILL


async def test_a_node_killed_after_reserving_never_regains_it(place: Place) -> None:
    reserve_in_a_child_and_kill_it(place)
    async with opened(place) as accounts:
        assert await accounts.spent("wind") == 70
        with pytest.raises(BudgetError, match="does not cover"):
            await reserve(accounts, 31)
