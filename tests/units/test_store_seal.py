"""What a node voted, reserved and redeemed cannot be changed, lost or rolled back without the node noticing."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from consortium.errors import ConfigError, ForkError, SecureSumError, UnavailableError
from node.store import sealed
from node.store.accounts import SqlAccounts
from node.store.journal import SqlRoundJournal
from node.store.outside import SLOT_BYTES, OutsideFile
from node.store.registry import SqlSettings, SqlTranscripts
from node.store.sealed import SealFile
from node.store.tables import SettingRow
from tests.units.test_store_copying import content, fill
from tests.worlds.stores import Place


class RolledBackError(Exception):
    """Ends a transaction of which nothing is kept."""


CHANGES = (
    "UPDATE reservation SET rho_micro = rho_micro - 1 WHERE rho_micro IS NOT NULL",
    "UPDATE reservation SET rho_micro = NULL WHERE rho_micro IS NOT NULL",
    "UPDATE account SET spent_rho_micro = 0",
    "UPDATE round SET round = round - 1",
    "UPDATE invitation SET redeemed = NULL WHERE redeemed IS NOT NULL",
    "UPDATE setting SET name = 'other'",
    "UPDATE dataset SET policy_text = 'permit (any);'",
    "DELETE FROM vote",
    "DELETE FROM round_input",
    "DELETE FROM answer",
    "DELETE FROM accepted_member",
    "DELETE FROM transcript WHERE length(transcript) = 0",
    "INSERT INTO accepted_member VALUES (:junk)",
    "UPDATE seal SET changes = changes + 2",
    "UPDATE seal SET digest = :junk",
    "DELETE FROM seal",
)


async def test_every_changed_lost_or_added_row_is_noticed(place: Place) -> None:
    await fill(place)
    database = await place.open()

    def after(connection: Connection, statement: str) -> None:
        junk = {"junk": bytes(32)} if ":junk" in statement else {}
        assert connection.execute(text(statement), junk).rowcount == 1
        with pytest.raises(ConfigError, match=r"changed or lost|older than"):
            sealed.checked(connection, SealFile(place.folder / "seal"))
        raise RolledBackError

    try:
        for statement in CHANGES:
            with pytest.raises(RolledBackError):
                await database.run(lambda connection, change=statement: after(connection, change))
    finally:
        await database.close()
    await (await place.open()).close()


async def test_a_changed_row_is_noticed_at_open(place: Place) -> None:
    await fill(place)
    place.execute("UPDATE account SET spent_rho_micro = 0")
    with pytest.raises(ConfigError, match="changed or lost"):
        await place.open()


async def test_every_write_keeps_the_seal_that_counting_anew_gives(place: Place) -> None:
    await fill(place)
    database = await place.open()
    try:
        await SqlSettings(database).set("paused", "no")
        with pytest.raises(SecureSumError):
            await SqlRoundJournal(database).record_vote(bytes(32), 0, (bytes(32),))
        await database.run(lambda connection: sealed.remove(connection, SettingRow(name="paused", value="no")))
        stored, counted = await database.read(lambda connection: (sealed.read(connection), sealed.total(connection)))
    finally:
        await database.close()
    assert stored is not None
    assert stored.digest == counted
    await (await place.open()).close()


async def test_a_restored_older_database_is_refused_although_its_log_is_the_newest(tmp_path: Path) -> None:
    place = Place(tmp_path)
    await fill(place)
    shutil.copy(place.path, tmp_path / "backup")
    database = await place.open()
    await SqlAccounts(database).reserve("sun", bytes(32), 0, 5, 9, "1e-6", requester=bytes(32), unfinished_max=9)
    await SqlAccounts(database).reserve("sun", bytes(32), 1, 4, 9, "1e-6", requester=bytes(32), unfinished_max=9)
    await database.close()
    shutil.copy(tmp_path / "backup", place.path)
    with pytest.raises(ConfigError, match="backup was restored"):
        await place.open()


async def test_a_crash_between_the_commit_and_the_file_is_harmless(place: Place) -> None:
    await fill(place)
    before = (place.folder / "seal").read_bytes()
    database = await place.open()
    await SqlSettings(database).set("paused", "yes")
    await database.close()
    (place.folder / "seal").write_bytes(before)
    assert (await content(place))["setting"] == "yes"


async def test_a_missing_or_damaged_seal_file_is_refused(place: Place) -> None:
    await fill(place)
    for damage in (b"", b"{}", b"x" * 300):
        (place.folder / "seal").write_bytes(damage)
        with pytest.raises((ConfigError, ForkError), match="damaged"):
            await place.open()
    (place.folder / "seal").unlink()
    with pytest.raises(ConfigError, match="missing"):
        await place.open()


async def test_nothing_more_is_written_once_the_file_could_not_be(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(place)
    database = await place.open()
    try:
        with monkeypatch.context() as patch:

            def fail(*_: object) -> None:
                raise OSError(28, "No space left on device")

            patch.setattr(OutsideFile, "write", fail)
            with pytest.raises(UnavailableError, match="no space"):
                await SqlSettings(database).set("paused", "yes")
        with pytest.raises(UnavailableError):
            await SqlSettings(database).set("paused", "again")
    finally:
        await database.close()
    assert (await content(place))["setting"] == "yes", "one change ahead of the file, as after a crash"


async def test_a_transcript_that_was_changed_is_not_handed_out(place: Place) -> None:
    await fill(place)
    digest = hashlib.sha256(b"transcript" * 1000).digest()
    place.execute("UPDATE transcript SET transcript = :junk WHERE digest = :digest", junk=b"x", digest=digest)
    database = await place.open()
    try:
        with pytest.raises(SecureSumError, match="damaged"):
            await SqlTranscripts(database).get(digest)
    finally:
        await database.close()


def test_a_file_outside_keeps_the_newest_whole_value(tmp_path: Path) -> None:
    file = OutsideFile(tmp_path / "value")
    assert file.read() is None
    for number in range(5):
        file.write({"n": number})
        assert file.read() == {"n": number}
    assert file.path.stat().st_mode & 0o777 == 0o600
    image = file.path.read_bytes()
    torn = [image[:start] + b"\0" * 100 + image[start + 100 :] for start in (0, SLOT_BYTES)]
    values = []
    for damaged in torn:
        file.path.write_bytes(damaged)
        values.append(file.read()["n"])
        file.write({"n": 9})
        assert file.read() == {"n": 9}
    assert sorted(values) == [3, 4], "a torn write leaves the value before it"


def test_rows_hash_apart_by_table_column_type_and_length() -> None:
    digests = {
        sealed._row_digest(*row)
        for row in (
            ("a", {"x": "1"}),
            ("b", {"x": "1"}),
            ("a", {"y": "1"}),
            ("a", {"x": 1}),
            ("a", {"x": b"1"}),
            ("a", {"x": 1.0}),
            ("a", {"x": "1", "y": ""}),
            ("a", {}),
        )
    }
    assert len(digests) == 8
    assert sealed._row_digest("a", {"x": True, "y": None}) == sealed._row_digest("a", {"x": 1})
