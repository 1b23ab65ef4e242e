"""Stores of older versions are brought to the present one; those of newer versions are left alone."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from consortium.errors import ConfigError, UnavailableError
from consortium.ledger.merkle import leaf_hash, root_hash
from node.ports import StoredEntry
from node.store import schema
from node.store.ledger import SqlLedgerStore
from node.store.registry import SqlSettings
from node.store.tables import METADATA
from tests.units.test_store_ledger import FRAMES, note
from tests.worlds.stores import Place

# As `METADATA.create_all` of version 0.1 made it, but for the tables that this test does not fill.
VERSION_0_1 = """
CREATE TABLE entry ("index" INTEGER NOT NULL, leaf_hash BLOB NOT NULL, frame BLOB NOT NULL, PRIMARY KEY ("index"));
CREATE TABLE checkpoint (size INTEGER NOT NULL, note BLOB NOT NULL, PRIMARY KEY (size));
CREATE TABLE setting (name VARCHAR NOT NULL, value VARCHAR NOT NULL, PRIMARY KEY (name));
INSERT INTO setting VALUES ('paused', 'yes');
"""


async def test_the_migrations_lead_to_the_declared_tables(place: Place) -> None:
    await (await place.open()).close()
    engine = create_engine(place.url or f"sqlite:///{place.path}", poolclass=NullPool)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_the_named_revision_is_the_newest() -> None:
    script = ScriptDirectory(str(Path(schema.__file__).with_name("migrations")))
    assert script.get_heads() == [schema.REVISION]
    assert script.get_bases() == ["0001"]


async def test_a_store_of_version_0_1_is_taken_over(tmp_path: Path) -> None:
    frames = FRAMES[:3]
    with closing(sqlite3.connect(tmp_path / "node.db")) as connection, connection:
        connection.executescript(VERSION_0_1)
        connection.executemany(
            "INSERT INTO entry VALUES (?, ?, ?)", [(i, leaf_hash(frame), frame) for i, frame in enumerate(frames)]
        )
        connection.execute("INSERT INTO checkpoint VALUES (3, ?)", (note(frames),))
    (tmp_path / "head").write_text(f'{{"root":"{root_hash(frames).hex()}","size":3}}')
    for _ in range(2):
        database = await Place(tmp_path).open()
        try:
            ledger = await SqlLedgerStore.open(database)
            assert await ledger.entries(0, await ledger.size()) == FRAMES[: await ledger.size()]
            size = await ledger.size()
            await ledger.append([StoredEntry(size, FRAMES[size])], note(FRAMES[: size + 1]))
            assert await SqlSettings(database).get("paused") == "yes"
        finally:
            await database.close()
    assert size == 4


@pytest.mark.parametrize("revision", ["0003", "fffffff"])
async def test_a_store_of_a_newer_version_is_refused_with_advice_and_left_alone(place: Place, revision: str) -> None:
    await (await place.open()).close()
    place.execute("UPDATE alembic_version SET version_num = :revision", revision=revision)
    for _ in range(2):
        with pytest.raises(ConfigError, match=f"newer version.*schema {revision}.*Install the version"):
            await place.open()
    place.execute("UPDATE alembic_version SET version_num = :revision", revision=schema.REVISION)
    await (await place.open()).close()


async def test_a_database_of_another_program_is_refused(place: Place) -> None:
    place.execute("CREATE TABLE invoice (number INTEGER)")
    with pytest.raises(ConfigError, match="another program"):
        await place.open()


async def test_a_migration_that_fails_leaves_the_old_store(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from node.store import sealed

    def fail(*_: object) -> None:
        raise OSError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(sealed, "seal_anew", fail)
        with pytest.raises(UnavailableError, match="cannot be written"):
            await place.open()
    with pytest.raises(DBAPIError, match="entry"):
        place.execute("SELECT * FROM entry")
    await (await place.open()).close()
