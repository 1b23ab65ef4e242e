"""The version of the tables, and the way from each older one: alembic migrations, run when a store is opened."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from consortium.errors import ConfigError

REVISION = "0002"
_FIRST = "0001"
_MIGRATIONS = Path(__file__).with_name("migrations")


def upgrade(connection: Connection, place: str) -> bool:
    """Brings the tables to the present version, within the caller's transaction; says whether anything was to do.

    Raises:
        ConfigError: the store has a version that this program does not know, or the database holds other tables.
    """
    found = _revision(connection, place)
    if found == REVISION:
        return False
    # Alembic takes a moment to import, which a store of the present version does without.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise ConfigError(
            "The store was written by a newer version of this program, or by another program.",
            where=f"{place}, schema {found}",
            mend="Install the version that wrote it; this one changed nothing.",
        )
    if found == _FIRST and not inspect(connection).has_table("alembic_version"):
        command.stamp(config, _FIRST)
    command.upgrade(config, "head")
    return True


def _revision(connection: Connection, place: str) -> str | None:
    """The version of the stored tables; None for an empty database."""
    tables = set(inspect(connection).get_table_names())
    if "alembic_version" in tables:
        versions = list(connection.execute(text("SELECT version_num FROM alembic_version")).scalars())
        return str(versions[0]) if len(versions) == 1 else "unknown"
    if {"entry", "checkpoint"} <= tables:
        return _FIRST  # Version 0.1 of this program did not write it down.
    if tables:
        raise ConfigError(
            "The database holds tables of another program.", where=place, mend="Give the node a database of its own."
        )
    return None
