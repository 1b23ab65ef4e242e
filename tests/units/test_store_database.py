"""The two connections of a store, and what keeps two nodes and a careless server away from it."""

from __future__ import annotations

import asyncio
import importlib.util
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

import policies
from consortium.errors import ConfigError, UnavailableError
from node.app.founding import found
from node.app.serving import core_of
from node.config import Addresses, NodeConfig, create_home, node_home, read_config, write_config
from node.store.database import Database
from node.store.ledger import SqlLedgerStore
from node.store.registry import SqlSettings
from tests.units.test_store_ledger import FRAMES, fill
from tests.worlds.stores import Place, PostgresServer


async def test_reading_does_not_wait_for_the_writer_and_sees_only_what_is_committed(place: Place) -> None:
    await fill(place, 5)
    database = await place.open()
    release, begun = threading.Event(), threading.Event()

    def slow_write(connection: Connection) -> None:
        connection.execute(text('DELETE FROM entry WHERE "index" = 4'))
        begun.set()
        assert release.wait(30)
        raise InterruptedError

    try:
        ledger = await SqlLedgerStore.open(database)
        writing = asyncio.create_task(database.run(slow_write))
        await asyncio.to_thread(begun.wait, 30)
        async with asyncio.timeout(20):
            assert await ledger.entries(0, 5) == FRAMES[:5]
            assert await ledger.size() == 5
            assert len(await ledger.leaf_hashes()) == 5
        assert not writing.done()
        release.set()
        with pytest.raises(UnavailableError):  # an InterruptedError is an OSError: a fault of the machine
            await writing
    finally:
        release.set()
        await database.close()


async def test_a_reader_cannot_write(place: Place) -> None:
    database = await place.open()
    try:
        with pytest.raises(Exception, match=r"(?i)read-?only|cannot be written"):
            await database.read(lambda connection: connection.execute(text("DELETE FROM setting")))
    finally:
        await database.close()


async def test_what_a_write_returned_from_the_next_read_sees(place: Place) -> None:
    database = await place.open()
    try:
        settings = SqlSettings(database)
        for number in range(20):
            await settings.set("n", str(number))
            assert await settings.get("n") == str(number)
    finally:
        await database.close()


async def test_two_nodes_cannot_have_one_database(tmp_path: Path, postgres: PostgresServer) -> None:
    url = postgres.create()
    first, second = Place(tmp_path / "a", url), Place(tmp_path / "b", url)
    database = await first.open()
    try:
        with pytest.raises(ConfigError, match="Another process uses this database"):
            await second.open()
    finally:
        await database.close()


async def test_a_database_that_another_node_wrote_to_is_refused(tmp_path: Path, postgres: PostgresServer) -> None:
    url = postgres.create()
    database = await Place(tmp_path / "a", url).open()
    await SqlSettings(database).set("paused", "yes")
    await database.close()
    with pytest.raises(ConfigError, match="file of the node's seal is missing"):
        await Place(tmp_path / "b", url).open()


@pytest.mark.parametrize(
    "url", ["postgresql://u@h/d", "mysql+pymysql://u@h/d", "sqlite:///x.db", "nonsense", "postgresql+psycopg2://h/d"]
)
async def test_what_is_not_a_postgresql_url_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"postgresql\+psycopg://"):
        await Database.open(tmp_path / "node.db", url)


async def test_a_server_that_cannot_be_reached_is_told_without_the_password(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://user:geheim@/db?host={tmp_path}"
    with pytest.raises(UnavailableError) as caught:
        await Database.open(tmp_path / "node.db", url)
    assert "geheim" not in str(caught.value)
    assert "user" in str(caught.value)


async def test_a_missing_driver_is_told(
    tmp_path: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.create()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"consortium-node\[postgres\]"):
        await Database.open(tmp_path / "node.db", url)


async def test_commits_wait_for_the_disk_of_the_server(tmp_path: Path, postgres: PostgresServer) -> None:
    url = postgres.create()
    name = url.rpartition("/")[2].partition("?")[0]
    postgres.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    database = await Database.open(tmp_path / "node.db", url)
    try:
        found = await database.run(lambda connection: connection.execute(text("SHOW synchronous_commit")).scalar_one())
    finally:
        await database.close()
    assert found == "on"


async def test_a_node_runs_on_the_database_of_its_configuration(tmp_path: Path, postgres: PostgresServer) -> None:
    found(
        tmp_path / "n",
        name="Wind",
        legal_name="Neutral",
        sectors=["energy"],
        host="127.0.0.1",
        ports=(0, 0, 0),
        members_min=3,
        schedule=policies.incentive_schedule("standard"),
    )
    home = node_home(tmp_path / "n")
    write_config(replace(read_config(home), database=postgres.create()))
    async with core_of(read_config(home)) as core:
        assert core.database.place.startswith("postgresql+psycopg://")
    assert not home.database.exists()


@pytest.mark.parametrize("value", ['"sqlite:///x"', "5", '""', '"postgres://h/d"'])
def test_a_configured_database_that_is_not_postgresql_is_refused_with_its_line(tmp_path: Path, value: str) -> None:
    home = create_home(tmp_path / "n")
    write_config(NodeConfig(home, "member", "Wind", "North", "energy", "small", Addresses("h:1", "h:2")))
    text = home.config_file.read_text()
    home.config_file.write_text(text.replace("members_min = 3\n", f"members_min = 3\ndatabase = {value}\n"))
    with pytest.raises(ConfigError, match=r"line 8, key database.*postgresql\+psycopg"):
        read_config(home)
