"""A node that is killed at any point between reservation and release never regains what it reserved."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from consortium.privacy.accounting import rho_micro_for
from node.app.serving import core_of
from tests.simulator import MemberSeat, Noiseless, consortium
from tests.simulator.consortium import until
from tests.simulator.seats import config_of, home_of
from tests.worlds import World, documents

RHO = rho_micro_for(1_000, documents.DELTA)
BEFORE = "begin reserve"
POINTS = [  # in the order in which a node passes them
    BEFORE,
    "end reserve",
    "appended spend",
    "begin partial_sums",
    "end partial_sums",
    "appended decision-release",
    "send SumStep/mask",
    "sent SumStep/mask",
]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what is left of one consortium for each point."""
    folder = tmp_path_factory.mktemp("killed")
    ran = subprocess.run(
        [sys.executable, "-m", "tests.simulator.killed", str(folder), *POINTS],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert json.loads(ran.stdout) == [-signal.SIGKILL] * len(POINTS), ran.stderr
    return folder


@pytest.mark.parametrize("point", POINTS)
async def test_what_was_reserved_stays_spent_after_kill_9(killed: Path, point: str) -> None:
    """Fails when the reservation is not durable, or is undone because its round never ended."""
    folder = killed / str(POINTS.index(point))
    world = World()
    home = home_of(folder / "member-0", world.members[0], b"")
    async with core_of(config_of(home, "member")) as core:
        local = sum(entry.rho_micro or 0 for entry in await core.accounts.entries("turbine"))
        ledger = core.mirror.state.spent.get((core.signer.key_id, "turbine"), 0)
        spent = await core.accounts.spent("turbine")
        assert spent == max(local, ledger) == (0 if point == BEFORE else RHO)
        assert await core.accounts.unfinished(core.mirror.state.coordinator) == (0 if point == BEFORE else 1)


async def test_after_kill_9_the_job_goes_on_and_is_paid_again(killed: Path) -> None:
    """The whole consortium comes back over its folders; the interrupted round is lost, and what it cost stays spent."""
    point = "end partial_sums"
    async with consortium(killed / str(POINTS.index(point)), noise=Noiseless()) as house:
        (job,) = house.state.jobs.values()
        assert await house.members[0].spent() == RHO
        assert job.result is None
        await house.coordinator.jobs.resume()
        result = (await house.coordinator.last(job.id))["result"]
        assert (result["round"], len(result["survivors"])) == (1, 4)
        assert await house.members[0].spent() == 2 * RHO
        assert [number for member, number in job.spends if member == house.ids[0]] == [0, 1]


async def test_an_account_behind_the_ledger_is_raised_at_start(tmp_path: Path) -> None:
    """Fails without `raise_to` at the start: a node that lost its store would have its whole budget again."""
    async with consortium(tmp_path, noise=Noiseless()) as house:
        await house.ask()
        await lose_store(house.members[0])
        assert await house.members[0].spent() == 0
        await house.members[0].restart()
        assert await house.members[0].spent() == RHO


async def test_an_account_behind_the_ledger_is_raised_before_it_is_charged(tmp_path: Path) -> None:
    """Fails without `raise_to` before the reservation."""
    async with consortium(tmp_path, noise=Noiseless()) as house:
        await house.ask()
        await lose_store(house.members[0])
        result = (await house.ask(999))["result"]
        assert house.ids[0].hex() in result["survivors"]
        assert await house.members[0].spent() == RHO + rho_micro_for(999, documents.DELTA)
        assert house.state.spent[house.ids[0], "turbine"] == await house.members[0].spent()


async def lose_store(seat: MemberSeat) -> None:
    """The disk with the store is lost; the node sets up a fresh one and follows the log again."""
    size = seat.core.mirror.size
    await seat.stop()
    for file in seat.home.path.iterdir():
        if file.is_file() and file != seat.home.genesis:
            file.unlink()
    await seat.start()
    await until(lambda: seat.core.mirror.acknowledged_size >= size)
