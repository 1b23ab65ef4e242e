"""The node's copy of the log: nothing changed, lost or restored goes unnoticed."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from consortium.errors import CheckpointError, ConfigError, ForkError, LimitError, NotFoundError
from consortium.keys import SigningKey
from consortium.ledger.checkpoint import Checkpoint, sign_checkpoint
from consortium.ledger.merkle import leaf_hash, root_hash
from consortium.ledger.tiles import ENTRY_BYTES_MAX
from node.ports import LedgerStore, StoredEntry
from node.store.database import Database
from node.store.ledger import SqlLedgerStore
from tests.worlds.stores import Place

LOG = SigningKey(b"\x03" * 32)
FRAMES = [f"frame number {number}".encode() * 3 for number in range(2500)]


@asynccontextmanager
async def opened(place: Place) -> AsyncIterator[LedgerStore]:
    database = await place.open()
    try:
        yield await SqlLedgerStore.open(database)
    finally:
        await database.close()


def note(frames: list[bytes]) -> bytes:
    return sign_checkpoint(Checkpoint("log", len(frames), root_hash(frames)), LOG, "log").encode()


async def fill(place: Place, size: int) -> None:
    async with opened(place) as ledger:
        start = await ledger.size()
        await ledger.append([StoredEntry(i, FRAMES[i]) for i in range(start, size)], note(FRAMES[:size]))


def corrupt(place: Place, statement: str, **values: object) -> None:
    assert place.execute(statement, **values) == 1


async def test_what_was_appended_is_there_after_reopening(place: Place) -> None:
    await fill(place, 3)
    await fill(place, 5)
    async with opened(place) as ledger:
        assert await ledger.size() == 5
        assert await ledger.entries(0, 5) == FRAMES[:5]
        assert await ledger.entries(1, 3) == FRAMES[1:3]
        assert await ledger.entries(5, 5) == []
        assert await ledger.checkpoint() == note(FRAMES[:5])
        assert await ledger.leaf_hashes() == [leaf_hash(frame) for frame in FRAMES[:5]]


async def test_entries_just_appended_are_read_as_those_before_them(place: Place) -> None:
    await fill(place, 500)
    async with opened(place) as ledger:
        for size in (700, 1_100):
            entries = [StoredEntry(index, FRAMES[index]) for index in range(await ledger.size(), size)]
            await ledger.append(entries, note(FRAMES[:size]))
        for start in (0, 499, 500, 799, 800, 801, 1_099, 1_100):
            for end in (start, min(start + 1, 1_100), 1_100):
                assert await ledger.entries(start, end) == FRAMES[start:end]


async def test_an_empty_log_has_no_checkpoint(place: Place) -> None:
    async with opened(place) as ledger:
        assert (await ledger.size(), await ledger.checkpoint(), await ledger.leaf_hashes()) == (0, None, [])


async def test_a_log_longer_than_a_read_chunk_is_verified_whole(place: Place) -> None:
    await fill(place, 2500)
    async with opened(place) as ledger:
        assert await ledger.size() == 2500
    corrupt(place, 'UPDATE entry SET frame = :frame WHERE "index" = 2400', frame=b"other")
    with pytest.raises(ForkError, match="entry 2400"):
        await fill(place, 2500)


@pytest.mark.parametrize("range_", [(-1, 1), (0, 4), (2, 1)])
async def test_a_range_outside_the_log_is_not_found(place: Place, range_: tuple[int, int]) -> None:
    await fill(place, 3)
    async with opened(place) as ledger:
        with pytest.raises(NotFoundError):
            await ledger.entries(*range_)


async def test_a_refused_append_leaves_the_log_as_it_was(place: Place) -> None:
    await fill(place, 3)
    refused = [
        ([StoredEntry(4, FRAMES[4])], note(FRAMES[:5]), ForkError),
        ([StoredEntry(2, FRAMES[2])], note(FRAMES[:3]), ForkError),
        ([StoredEntry(3, FRAMES[3])], note(FRAMES[:3]), ForkError),
        ([StoredEntry(3, FRAMES[3])], note([*FRAMES[:3], b"other"]), ForkError),
        ([StoredEntry(3, FRAMES[3])], b"not a note", CheckpointError),
        ([StoredEntry(3, bytes(ENTRY_BYTES_MAX + 1))], note(FRAMES[:4]), LimitError),
    ]
    async with opened(place) as ledger:
        for entries, checkpoint, error in refused:
            with pytest.raises(error):
                await ledger.append(entries, checkpoint)
        assert await ledger.entries(0, await ledger.size()) == FRAMES[:3]
        assert await ledger.checkpoint() == note(FRAMES[:3])
        await ledger.append([StoredEntry(3, FRAMES[3])], note(FRAMES[:4]))
    async with opened(place) as ledger:
        assert await ledger.size() == 4


async def test_the_same_tree_can_get_a_note_with_more_signatures(place: Place) -> None:
    await fill(place, 3)
    cosigned = note(FRAMES[:3]) + "— witness AAAAAAAAAAA=\n".encode()
    async with opened(place) as ledger:
        await ledger.append([], cosigned)
    async with opened(place) as ledger:
        assert await ledger.checkpoint() == cosigned


async def test_every_flipped_byte_of_a_stored_entry_is_detected_at_open(tmp_path: Path) -> None:
    await fill(Place(tmp_path / "whole"), 4)
    image = (tmp_path / "whole/node.db").read_bytes()
    start = image.index(FRAMES[2])
    for position in range(start, start + len(FRAMES[2]), 5):
        damaged = tmp_path / f"damaged-{position}"
        shutil.copytree(tmp_path / "whole", damaged)
        flipped = image[:position] + bytes([image[position] ^ 0x10]) + image[position + 1 :]
        (damaged / "node.db").write_bytes(flipped)
        with pytest.raises(ForkError, match="entry 2"):
            await fill(Place(damaged), 4)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ('UPDATE entry SET leaf_hash = :junk WHERE "index" = 1', "entry 1"),
        ('DELETE FROM entry WHERE "index" = 1', "entry 1"),
        ('DELETE FROM entry WHERE "index" = 3', "not those of the stored checkpoint"),
        ("DELETE FROM checkpoint", "checkpoint of the stored log is lost"),
        ("UPDATE checkpoint SET note = :junk", "damaged"),
    ],
)
async def test_a_changed_table_is_detected_at_open(place: Place, statement: str, message: str) -> None:
    await fill(place, 4)
    corrupt(place, statement, **({"junk": bytes(32)} if ":junk" in statement else {}))
    with pytest.raises(ForkError, match=message):
        await fill(place, 4)


async def test_an_unreadable_database_is_refused_with_advice(tmp_path: Path) -> None:
    await fill(Place(tmp_path), 200)
    image = bytearray((tmp_path / "node.db").read_bytes())
    start = image.index(FRAMES[150])
    image[start - start % 4096 : start - start % 4096 + 64] = b"\xff" * 64
    (tmp_path / "node.db").write_bytes(image)
    with pytest.raises(ForkError, match="ledger repair"):
        await fill(Place(tmp_path), 200)


async def test_a_restored_older_copy_of_the_database_is_refused(tmp_path: Path) -> None:
    await fill(Place(tmp_path), 3)
    backup = (tmp_path / "node.db").read_bytes()
    await fill(Place(tmp_path), 5)
    (tmp_path / "node.db").write_bytes(backup)
    with pytest.raises(ForkError, match="backup was restored"):
        await fill(Place(tmp_path), 5)


async def test_an_emptied_database_is_refused(tmp_path: Path) -> None:
    await fill(Place(tmp_path), 3)
    (tmp_path / "node.db").unlink()
    with pytest.raises(ConfigError, match="older than"):
        await fill(Place(tmp_path), 3)
    (tmp_path / "seal").unlink()
    with pytest.raises(ForkError, match="acknowledged size 3, stored size 0"):
        await fill(Place(tmp_path), 3)


async def test_another_log_of_the_same_or_a_larger_size_is_refused(tmp_path: Path) -> None:
    await fill(Place(tmp_path / "ours"), 3)
    (tmp_path / "other").mkdir(mode=0o700)
    async with opened(Place(tmp_path / "other")) as ledger:
        frames = [b"another log", *FRAMES[1:5]]
        await ledger.append([StoredEntry(i, frame) for i, frame in enumerate(frames)], note(frames))
    shutil.copy(tmp_path / "other/node.db", tmp_path / "ours/node.db")
    with pytest.raises(ForkError, match="other than"):
        await fill(Place(tmp_path / "ours"), 5)


async def test_a_missing_or_damaged_head_file_beside_a_log_is_refused(place: Place) -> None:
    await fill(place, 3)
    for content in (b"", b"{}", b'{"root":"zz","size":3}', b'{"root":"00","size":-3}', b"x" * 300):
        (place.folder / "head").write_bytes(content)
        with pytest.raises(ForkError):
            await fill(place, 3)
    (place.folder / "head").unlink()
    with pytest.raises(ForkError, match="head file is missing"):
        await fill(place, 3)


async def test_a_crash_before_the_head_file_was_written_is_harmless(place: Place) -> None:
    await fill(place, 3)
    head = (place.folder / "head").read_bytes()
    await fill(place, 5)
    (place.folder / "head").write_bytes(head)
    async with opened(place) as ledger:
        assert await ledger.size() == 5
    assert (place.folder / "head").read_bytes() != head


async def test_files_are_private_to_their_user(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    await fill(Place(folder), 3)
    assert folder.stat().st_mode & 0o777 == 0o700
    database = await Database.open(folder / "node.db")
    try:
        await database.run(lambda connection: connection.exec_driver_sql("DELETE FROM setting"))
        modes = {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()}
    finally:
        await database.close()
    assert set(modes) >= {"node.db", "node.db-wal", "node.db.lock", "head"}
    assert set(modes.values()) == {0o600}


async def test_a_folder_open_to_others_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    folder.mkdir()
    folder.chmod(0o750)
    with pytest.raises(ConfigError, match="chmod 700"):
        await fill(Place(folder), 1)


async def test_two_openers_of_one_database_are_refused(place: Place) -> None:
    async with opened(place):
        with pytest.raises(ConfigError, match="Another process"):
            await fill(place, 1)
    await fill(place, 1)


async def test_commits_are_synced_to_disk_fully(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "node.db")
    try:
        pragmas = [
            await database.run(lambda connection, name=name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
            for name in ("journal_mode", "synchronous")
        ]
    finally:
        await database.close()
    assert pragmas == ["wal", 2]  # 2 is FULL


async def test_a_file_that_is_no_database_is_refused_and_leaves_no_lock(tmp_path: Path) -> None:
    (tmp_path / "node.db").write_bytes(b"not a database at all" * 100)
    for _ in range(2):
        with pytest.raises(ConfigError, match="not a database"):
            await fill(Place(tmp_path), 1)
