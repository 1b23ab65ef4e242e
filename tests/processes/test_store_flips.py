"""One flipped bit in what is stored is found when the store is opened, or changes nothing; never is it silent."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from consortium.errors import ConsortiumError
from tests.worlds.appending import Acknowledged, Appender, check
from tests.worlds.stores import Place, often

FLIPS = 200
STEPS = 12


async def crashed(folder: Path) -> Acknowledged:
    """A store as a crash leaves it: its last transactions are in the write-ahead log only."""
    running = folder.with_name("running")
    database = await Place(running).open()
    try:
        appender = await Appender.begin(database)
        for _ in range(STEPS):
            acknowledged = await appender.step()
        await asyncio.to_thread(shutil.copytree, running, folder, ignore=shutil.ignore_patterns("*-shm", "*.lock"))
    finally:
        await database.close()
    return acknowledged


async def closed(folder: Path) -> Acknowledged:
    """A store that was closed in order: everything is in the database file."""
    database = await Place(folder).open()
    try:
        appender = await Appender.begin(database)
        for _ in range(STEPS):
            acknowledged = await appender.step()
    finally:
        await database.close()
    assert not (folder / "node.db-wal").exists()
    return acknowledged


async def after_flip(whole: Path, name: str, bit: int, acknowledged: Acknowledged) -> str:
    """Whether the flip was `found` or `harmless`; asserts that it was one of them."""
    damaged = whole.with_name("damaged")
    shutil.copytree(whole, damaged)
    image = bytearray((damaged / name).read_bytes())
    image[bit // 8] ^= 1 << bit % 8
    (damaged / name).write_bytes(image)
    try:
        database = await Place(damaged).open()
        try:
            assert await check(database, acknowledged) == acknowledged
        finally:
            await database.close()
    except ConsortiumError:
        return "found"
    finally:
        shutil.rmtree(damaged)
    return "harmless"


@pytest.mark.soak
@pytest.mark.parametrize("name", ["node.db-wal", "node.db", "head", "seal"])
async def test_a_flipped_bit_is_found_or_harmless(tmp_path: Path, name: str) -> None:
    whole = tmp_path / "whole"
    acknowledged = await (closed(whole) if name == "node.db" else crashed(whole))
    bits = (whole / name).stat().st_size * 8
    chance = random.Random()
    outcomes = Counter(
        [await after_flip(whole, name, chance.randrange(bits), acknowledged) for _ in range(often(FLIPS))]
    )
    assert sum(outcomes.values()) == often(FLIPS)
    if name.startswith("node.db"):
        assert outcomes["found"] > outcomes["harmless"], "most of these files is what was acknowledged"


async def test_a_flip_that_makes_sqlite_forget_its_last_transactions_is_found(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    acknowledged = await crashed(whole)
    half = (whole / "node.db-wal").stat().st_size * 4
    assert await after_flip(whole, "node.db-wal", half, acknowledged) == "found"


async def test_without_the_files_outside_the_same_flip_is_silent(tmp_path: Path) -> None:
    """What the head and the seal are for: SQLite itself says nothing."""
    whole = tmp_path / "whole"
    acknowledged = await crashed(whole)
    half = (whole / "node.db-wal").stat().st_size * 4
    image = bytearray((whole / "node.db-wal").read_bytes())
    image[half // 8] ^= 1
    (whole / "node.db-wal").write_bytes(image)
    assert Place(whole).execute("SELECT 1 FROM reservation") < acknowledged.reservations
