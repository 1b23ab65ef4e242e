"""Killed at any point, out of space, or without power: nothing that was acknowledged is lost."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from consortium.errors import ConsortiumError, UnavailableError
from node.store import sqlite
from node.store.database import Database
from tests.worlds.appending import Acknowledged, Appender, check
from tests.worlds.stores import Place, PostgresServer, often

ROOT = Path(__file__).parents[2]


def child(place: Place, batches: int, *limit: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.worlds.appending", *place.arguments, str(batches), *limit]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def heard(process: subprocess.Popen[str], lines: int) -> list[str]:
    """The first lines of a child, or all that there are."""
    assert process.stdout is not None
    return [line for _ in range(lines) if (line := process.stdout.readline())]


def last(lines: list[str]) -> Acknowledged:
    size, reservations = lines[-1].split()
    return Acknowledged(int(size), int(reservations))


async def until_refused(appender: Appender) -> None:
    for _ in range(100):
        await appender.step()


async def stored(place: Place, acknowledged: Acknowledged) -> Acknowledged:
    database = await place.open()
    try:
        return await check(database, acknowledged)
    finally:
        await database.close()


@pytest.mark.soak
async def test_a_node_killed_at_any_point_of_an_append_lost_nothing_acknowledged(place: Place) -> None:
    chance = random.Random()
    before = Acknowledged()
    for _ in range(often(50)):
        with child(place, 10_000) as process:
            try:
                lines = heard(process, chance.randrange(1, 12))
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(chance.random() * 0.02)  # somewhere within the next append
            finally:
                process.kill()
            assert process.stdout is not None
            lines += [line for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        assert process.returncode == -signal.SIGKILL
        acknowledged = last(lines)
        assert acknowledged.size > before.size
        before = await stored(place, acknowledged)


@pytest.mark.soak
async def test_a_killed_postgresql_server_lost_nothing_and_its_node_says_that_it_is_gone(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    place = Place(tmp_path, postgres.create())
    acknowledged = Acknowledged()
    for _ in range(often(20)):
        database = await place.open()
        try:
            appender = await Appender.begin(database)
            for _ in range(3):
                acknowledged = await appender.step()
            postgres.crash()
            for _ in range(2):
                with pytest.raises(UnavailableError, match="server is gone"):
                    await appender.step()
        finally:
            await database.close()
        acknowledged = await stored(place, acknowledged)


@pytest.mark.parametrize("megabytes", [2, 5])  # less than the write-ahead log grows to, and more
async def test_a_full_disk_is_a_clean_error_and_loses_nothing(tmp_path: Path, megabytes: int) -> None:
    place = Place(tmp_path)
    with child(place, 10_000, str(megabytes << 20)) as process:
        lines = heard(process, 10_001)
    assert process.returncode == 0
    assert lines[-1] == "refused unavailable\n"
    acknowledged = last(lines[:-1])
    assert acknowledged.size > 70
    found = await stored(place, acknowledged)
    assert found.size - acknowledged.size in (0, 7), "what was refused last may be there, but nothing else"
    with child(place, 3) as process:
        assert last(heard(process, 3)).size == found.size + 21


async def test_a_full_database_takes_up_again_when_there_is_space(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "node.db")
    try:
        appender = await Appender.begin(database)
        await appender.step()
        await database.run(lambda connection: connection.exec_driver_sql("PRAGMA max_page_count = 100"))
        with pytest.raises(UnavailableError, match="no space"):
            await until_refused(appender)
        before = appender.acknowledged
        await database.run(lambda connection: connection.exec_driver_sql("PRAGMA max_page_count = 1000000"))
        assert (await appender.step()).size == before.size + 7
    finally:
        await database.close()
    await stored(Place(tmp_path), appender.acknowledged)


async def test_power_loss_never_takes_what_was_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = await lost_in_power_losses(tmp_path, monkeypatch, "synchronous=FULL")
    assert lost == 0


async def test_the_power_loss_of_these_tests_does_take_what_was_not_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = await lost_in_power_losses(tmp_path, monkeypatch, "synchronous=NORMAL")
    assert lost > 0


async def lost_in_power_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synchronous: str) -> int:
    """Runs the store on files that can lose power, and counts how often it then had lost something acknowledged."""
    pytest.importorskip("apsw", reason="no SQLite with a file system of our own")
    from tests.worlds import lossy

    chance = random.Random()
    losses: list[tuple[Path, Acknowledged]] = []
    home = tmp_path / "home"
    acknowledged = Acknowledged()

    def maybe(disk: lossy.Disk) -> None:
        if len(losses) < often(150) and chance.random() < 0.05:
            folder = tmp_path / f"loss-{len(losses)}"
            folder.mkdir(mode=0o700)
            losses.append((folder, acknowledged))
            disk.after_power_loss(chance, folder)
            lossy.copy_outside_files(home, folder)

    vfs = lossy.LossyVfs(lossy.Disk(maybe))
    with monkeypatch.context() as patch:
        patch.setattr(sqlite, "create_engine", partial(create_engine, module=lossy))
        patch.setattr(sqlite, "_PRAGMAS", tuple(_synchronous(pragma, synchronous) for pragma in sqlite._PRAGMAS))
        database = await Database.open(home / "node.db")
        try:
            appender = await Appender.begin(database)
            while len(losses) < often(150):
                acknowledged = await appender.step()
        finally:
            await database.close()
    vfs.unregister()
    return sum([await _is_lost(folder, promised) for folder, promised in losses])


def _synchronous(pragma: str, wanted: str) -> str:
    return wanted if pragma.startswith("synchronous") else pragma


async def _is_lost(folder: Path, acknowledged: Acknowledged) -> bool:
    try:
        await stored(Place(folder), acknowledged)
    except ConsortiumError:
        return True
    return False
