"""A store whose log was damaged gets the verified one; what else it held stays, or is given up aloud."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from consortium.errors import ConfigError, ConsortiumError, ForkError
from consortium.ledger.entry import Head
from consortium.ledger.merkle import root_hash
from node.ports import StoredEntry
from node.store.head import HeadFile
from node.store.ledger import SqlLedgerStore
from node.store.rebuilding import Rebuilt, rebuild, stored_head
from node.store.registry import SqlMembers, SqlTranscripts
from tests.worlds import World
from tests.worlds.stores import Place

WORLD = World().found().join()
FRAMES = WORLD.ledger.frames
HEAD = Head(len(FRAMES), root_hash(FRAMES))
NOTE = WORLD.ledger.note(WORLD.coordinator)
MEMBER = b"\x07" * 32


async def filled(place: Place, size: int = 6) -> None:
    """A store with a log and a row of another table."""
    place.folder.chmod(0o700)
    database = await place.open()
    store = await SqlLedgerStore.open(database)
    entries = [StoredEntry(index, frame) for index, frame in enumerate(FRAMES[:size])]
    await store.append(entries, WORLD.ledger.note(WORLD.coordinator, size=size))
    await SqlMembers(database).accept(MEMBER)
    await database.close()


async def reopened(place: Place) -> tuple[list[bytes], frozenset[bytes]]:
    """The log and the accepted members of a store that must be sound."""
    database = await place.open()
    try:
        store = await SqlLedgerStore.open(database)
        return await store.entries(0, await store.size()), await SqlMembers(database).accepted()
    finally:
        await database.close()


def mended(place: Place, *, may_forget: bool = False) -> Rebuilt:
    return rebuild(place.path, place.url, FRAMES, NOTE, HEAD, may_forget=may_forget, day="2026-01-02")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def flip(place: Place) -> None:
    place.execute('UPDATE entry SET frame = :frame WHERE "index" = 3', frame=b"another")


def lose(place: Place) -> None:
    place.execute('DELETE FROM entry WHERE "index" > 2')


def empty(place: Place) -> None:
    place.execute("DELETE FROM entry")
    place.execute("DELETE FROM checkpoint")


@pytest.mark.parametrize("damage", [flip, lose, empty], ids=["flipped", "lost", "emptied"])
async def test_a_damaged_log_is_replaced_and_the_rest_is_kept(place: Place, damage: Callable[[Place], None]) -> None:
    """Fails when the rows of the log are mended one by one, or when other tables are lost with it."""
    await filled(place)
    damage(place)
    with pytest.raises(ForkError, match="ledger repair"):
        await reopened(place)
    found = mended(place)
    assert found.lost == ()
    assert await reopened(place) == (FRAMES, {MEMBER})
    assert (found.damaged == "") == bool(place.url)
    assert stored_head(place.path) == HEAD


async def test_the_damaged_file_is_kept_as_it_was(tmp_path: Path) -> None:
    place = Place(tmp_path)
    await filled(place)
    flip(place)
    before = place.path.read_bytes()
    assert mended(place).damaged == str(place.path) + ".damaged-2026-01-02"
    files = contents(tmp_path)
    assert files["node.db.damaged-2026-01-02"] == before
    assert files.keys() == {"head", "node.db", "node.db.damaged-2026-01-02", "node.db.lock", "seal"}


NOISE: dict[str, Callable[[Path], None]] = {
    "no file": lambda path: path.unlink(),
    "an empty file": lambda path: path.write_bytes(b""),
    "noise": lambda path: path.write_bytes(b"\xa5" * 4096),
    "half of it": lambda path: path.write_bytes(path.read_bytes()[:8192]),
    "a torn header": lambda path: path.write_bytes(b"\x00" * 100 + path.read_bytes()[100:]),
}


@pytest.mark.parametrize("damage", NOISE)
async def test_a_coordinator_gives_the_rest_up_aloud_and_a_member_does_not(tmp_path: Path, damage: str) -> None:
    """Fails when a node that forgot what it voted gets a fresh database in silence."""
    place = Place(tmp_path)
    await filled(place)
    NOISE[damage](place.path)
    there = place.path.exists()
    with pytest.raises(ConfigError, match="join again"):
        mended(place)
    assert place.path.exists() == there
    found = mended(place, may_forget=True)
    assert "accepted_member" in found.lost
    assert "transcript" in found.lost
    assert await reopened(place) == (FRAMES, frozenset())


async def test_an_older_database_of_a_coordinator_keeps_its_rows(tmp_path: Path) -> None:
    """Restored from a backup: whole, but older than the seal."""
    place = Place(tmp_path)
    await filled(place)
    backup = place.path.read_bytes()
    database = await place.open()
    await SqlTranscripts(database).put(
        bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"), b""
    )
    await database.close()
    place.path.write_bytes(backup)
    with pytest.raises(ConfigError):
        mended(place)
    assert mended(place, may_forget=True).lost == ()
    assert await reopened(place) == (FRAMES, {MEMBER})


async def test_a_changed_row_of_another_table_is_not_kept(place: Place) -> None:
    """Fails when rows are taken over without their seal."""
    await filled(place)
    place.execute("UPDATE accepted_member SET key_id = :key", key=b"\x08" * 32)
    with pytest.raises(ConfigError):
        mended(place)
    assert "accepted_member" in mended(place, may_forget=True).lost
    assert await reopened(place) == (FRAMES, frozenset())


async def test_what_is_not_the_note_s_log_is_not_written(place: Place) -> None:
    await filled(place)
    flip(place)
    with pytest.raises(ForkError):
        rebuild(place.path, place.url, FRAMES[:-1], NOTE, HEAD, may_forget=False, day="2026-01-02")
    with pytest.raises(ForkError, match="ledger repair"):
        await reopened(place)
    mended(place)
    assert (await reopened(place))[0] == FRAMES


async def test_a_rebuilding_that_was_interrupted_is_begun_again(tmp_path: Path) -> None:
    place = Place(tmp_path)
    await filled(place)
    flip(place)
    (tmp_path / "node.db.repaired").write_bytes(b"half of a file")
    (tmp_path / "node.db.repaired-wal").write_bytes(b"half of a log")
    mended(place)
    assert await reopened(place) == (FRAMES, {MEMBER})


async def test_a_write_ahead_log_that_was_not_yet_read_in_counts(tmp_path: Path) -> None:
    """A killed node leaves its last transactions there; the seal knows of them."""
    place = Place(tmp_path)
    await filled(place)
    saved = place.path.read_bytes()
    connection = sqlite3.connect(place.path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    connection.execute('UPDATE entry SET frame = ? WHERE "index" = 3', (b"another",))
    connection.commit()
    wal = (tmp_path / "node.db-wal").read_bytes()
    connection.close()
    place.path.write_bytes(saved)
    (tmp_path / "node.db-wal").write_bytes(wal)
    mended(place)
    assert await reopened(place) == (FRAMES, {MEMBER})
    assert (tmp_path / "node.db.damaged-2026-01-02-wal").read_bytes() == wal


async def test_a_damaged_head_file_is_no_head(tmp_path: Path) -> None:
    place = Place(tmp_path)
    await filled(place)
    HeadFile(tmp_path / "head").path.write_bytes(b"\xff" * 8192)
    assert stored_head(place.path) is None
    with pytest.raises(ConsortiumError):
        await reopened(place)
    mended(place)
    assert (await reopened(place))[0] == FRAMES


async def test_a_log_that_is_shorter_than_the_head_file_replaces_it(tmp_path: Path) -> None:
    """Where nobody else had seen the rest, which was never acknowledged."""
    place = Place(tmp_path)
    await filled(place)
    short = Head(4, root_hash(FRAMES[:4]))
    note = WORLD.ledger.note(WORLD.coordinator, size=4)
    rebuild(place.path, "", FRAMES[:4], note, short, may_forget=False, day="2026-01-02")
    assert stored_head(place.path) == short
    assert (await reopened(place))[0] == FRAMES[:4]
