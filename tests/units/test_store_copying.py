"""A store moves between SQLite and PostgreSQL whole, or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import json
import warnings
from pathlib import Path

import pytest

from consortium.errors import ConfigError, ForkError
from consortium.keys import SigningKey
from consortium.ledger.checkpoint import Checkpoint, sign_checkpoint
from consortium.ledger.merkle import root_hash
from node.config import Addresses, NodeConfig, create_home, write_config
from node.ports import StoredEntry
from node.store.accounts import SqlAccounts
from node.store.copying import Copied, copy_store
from node.store.database import Database
from node.store.journal import SqlRoundJournal
from node.store.ledger import SqlLedgerStore
from node.store.registry import SqlAnswers, SqlDatasets, SqlInvitations, SqlMembers, SqlSettings, SqlTranscripts
from tests.worlds.stores import Place, PostgresServer

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # typer 0.20 imports a name that click 8.5 deprecates
    from node.cli.entry import run

LOG = SigningKey(b"\x03" * 32)
FRAMES = [f"frame {number}".encode() * 5 for number in range(1203)]
JOB, ASKER, A, B, C = (bytes([number]) * 32 for number in range(5))
BIG = 2**53 - 1
TABLES = 14


class FixedClock:
    def now(self) -> int:
        return 2**40


async def fill(place: Place) -> None:
    """Writes into every table."""
    database = await place.open()
    try:
        note = sign_checkpoint(Checkpoint("log", len(FRAMES), root_hash(FRAMES)), LOG, "log").encode()
        ledger = await SqlLedgerStore.open(database)
        await ledger.append([StoredEntry(i, frame) for i, frame in enumerate(FRAMES)], note)
        journal = SqlRoundJournal(database)
        await journal.open_round("wind", JOB, 0)
        await journal.record_input("wind", JOB, A, 0, (A, B, C))
        await journal.record_vote(JOB, 0, (A, B, C))
        accounts = SqlAccounts(database)
        await accounts.reserve("wind", JOB, 0, BIG, BIG, "1e-6", requester=ASKER, unfinished_max=9)
        await accounts.reserve("wind", JOB, 1, None, BIG, "1e-6", requester=ASKER, unfinished_max=9)
        await accounts.mark_finished(JOB, 0)
        await SqlMembers(database).accept(A)
        invitations = SqlInvitations(database, FixedClock())
        for secret in (b"used", b"open"):
            await invitations.create(hashlib.sha256(secret).digest(), 2**41, "Müller 风电")
        await invitations.redeem(b"used", "Müller 风电")
        await SqlSettings(database).set("paused", "no")
        await SqlDatasets(database).put("wind", "/data/wind", "{}", "permit (x);")
        await SqlAnswers(database).put(A, bytes(range(256)))
        for content in (b"", b"transcript" * 1000):
            await SqlTranscripts(database).put(hashlib.sha256(content).digest(), content)
    finally:
        await database.close()


async def content(place: Place) -> dict[str, object]:
    """What the ports say is stored."""
    database = await place.open()
    try:
        ledger = await SqlLedgerStore.open(database)
        accounts = SqlAccounts(database)
        return {
            "frames": await ledger.entries(0, await ledger.size()),
            "note": await ledger.checkpoint(),
            "spent": await accounts.spent("wind"),
            "reservations": await accounts.entries("wind"),
            "members": await SqlMembers(database).accepted(),
            "setting": await SqlSettings(database).get("paused"),
            "datasets": await SqlDatasets(database).list(),
            "answer": await SqlAnswers(database).get(A),
            "transcript": await SqlTranscripts(database).get(hashlib.sha256(b"transcript" * 1000).digest()),
        }
    finally:
        await database.close()


def no_progress(table: str, done: int, count: int) -> None:
    assert table
    assert 0 < done <= count


async def copy(folder: Path, source: str, target: str) -> Copied:
    return await copy_store(folder / "node.db", source, target, no_progress)


async def test_a_store_goes_to_postgresql_and_back_without_losing_anything(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    here = Place(tmp_path)
    await fill(here)
    before = await content(here)
    url = postgres.create()
    there = await copy(tmp_path, "", url)
    assert (there.head.size, there.head.root) == (len(FRAMES), root_hash(FRAMES))
    assert len(there.rows) == TABLES
    assert all(there.rows.values()), "every table was filled, so every table was copied"
    assert await content(Place(tmp_path, url)) == before
    (tmp_path / "node.db").rename(tmp_path / "old.db")
    back = await copy(tmp_path, url, "")
    assert (back.rows, back.head) == (there.rows, there.head)
    assert await content(here) == before


async def test_after_the_move_the_old_copy_is_refused_as_a_restored_backup(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    await fill(Place(tmp_path))
    url = postgres.create()
    await copy(tmp_path, "", url)
    database = await Place(tmp_path, url).open()
    await SqlSettings(database).set("paused", "yes")
    await SqlSettings(database).set("paused", "no")
    await database.close()
    with pytest.raises(ConfigError, match="older than"):
        await content(Place(tmp_path))


async def test_a_target_with_a_store_or_foreign_tables_is_refused(tmp_path: Path, postgres: PostgresServer) -> None:
    await fill(Place(tmp_path))
    url = postgres.create()
    await copy(tmp_path, "", url)
    with pytest.raises(ConfigError, match="holds a store already"):
        await copy(tmp_path, "", url)
    foreign = postgres.create()
    Place(tmp_path, foreign).execute("CREATE TABLE invoice (number INT)")
    with pytest.raises(ConfigError, match="another program"):
        await copy(tmp_path, "", foreign)
    with pytest.raises(ConfigError, match="there already"):
        await copy(tmp_path, "", "")


async def test_a_running_node_is_not_copied(tmp_path: Path, postgres: PostgresServer) -> None:
    await fill(Place(tmp_path))
    database = await Database.open(tmp_path / "node.db")
    try:
        with pytest.raises(ConfigError, match="Another process"):
            await copy(tmp_path, "", postgres.create())
    finally:
        await database.close()


async def test_a_damaged_source_is_not_copied(tmp_path: Path, postgres: PostgresServer) -> None:
    await fill(Place(tmp_path))
    url = postgres.create()
    Place(tmp_path).execute('DELETE FROM entry WHERE "index" = 1202')
    with pytest.raises(ForkError):
        await copy(tmp_path, "", url)
    assert Place(tmp_path, url).execute("SELECT 1 FROM pg_tables WHERE schemaname = 'public'") == 0


async def test_a_copy_that_differs_is_not_kept(tmp_path: Path, postgres: PostgresServer) -> None:
    await fill(Place(tmp_path))
    for name, fault in (("vote_lost", "RETURN NULL"), ("vote_changed", "NEW.survivors = ''''; RETURN NEW")):
        url = postgres.create()
        place = Place(tmp_path / name, url)
        place.folder.mkdir(mode=0o700)
        await (await place.open()).close()  # makes the tables
        place.execute("DELETE FROM seal")
        place.execute(f"CREATE FUNCTION f() RETURNS trigger AS 'BEGIN {fault}; END' LANGUAGE plpgsql")
        place.execute("CREATE TRIGGER t BEFORE INSERT ON vote FOR EACH ROW EXECUTE FUNCTION f()")
        with pytest.raises(ConfigError, match="copy differs"):
            await copy(tmp_path, "", url)
        assert place.execute("SELECT 1 FROM entry") == 0


def test_the_command_copies_and_says_what_to_write_into_the_configuration(
    tmp_path: Path, postgres: PostgresServer, capsys: pytest.CaptureFixture[str]
) -> None:
    home = create_home(tmp_path / "home")
    write_config(
        NodeConfig(home, "member", "Wind", "North", "energy", "small", Addresses("127.0.0.1:1", "127.0.0.1:2"))
    )
    asyncio.run(fill(Place(home.path)))
    url = postgres.create()
    assert run(["ledger", "copy", "--from", str(home.path), "--to", url, "--json"]) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert (document["size"], document["root"]) == (len(FRAMES), root_hash(FRAMES).hex())
    assert document["rows"]["reservation"] == 2
    assert "entry: 1,203 of 1,203" in printed.err
    assert run(["ledger", "copy", "--from", str(home.path), "--to", "mysql://x/y", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "bad-config"
