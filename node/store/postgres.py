"""PostgreSQL: a database of its own for each node, on a server of the node's enterprise."""

from __future__ import annotations

import importlib.util
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.pool import NullPool

from consortium.errors import ConfigError
from node.store.faults import damage_declared, unavailable

DRIVER = "postgresql+psycopg"
CONNECT_S = 10
LOCK_S = 3
_LOCK_NOT_AVAILABLE = "55P03"
_LOCK = int.from_bytes(b"consorti", signed=True)


def place(url: str) -> str:
    """Which database a URL names, without its password.

    Raises:
        ConfigError: not a URL of PostgreSQL.
    """
    return _parsed(url).render_as_string(hide_password=True)


def connect_writer(url: str) -> Connection:
    """The one connection that writes, holding the lock that keeps other nodes out of the database.

    Raises:
        ConfigError: not a PostgreSQL URL, no driver, another node uses the database, or its server does not sync.
        UnavailableError: the server cannot be reached.
    """
    connection = _connect(url, writes=True)
    try:
        with damage_declared(place(url)):
            _check_durable(connection, place(url))
            _take_lock(connection, place(url))
            connection.commit()
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(url: str) -> Connection:
    """A connection that sees what is committed while the writer goes on, and changes nothing."""
    return _connect(url, writes=False)


def _connect(url: str, *, writes: bool) -> Connection:
    parsed = _parsed(url)
    if importlib.util.find_spec("psycopg") is None:
        raise ConfigError(
            "The PostgreSQL driver is not installed.", where=place(url), mend='Install "consortium-node[postgres]".'
        )
    engine = create_engine(
        parsed,
        poolclass=NullPool,
        hide_parameters=True,
        connect_args={"connect_timeout": CONNECT_S, "application_name": "consortium"},
    )
    with damage_declared(place(url)):
        connection = _connect_once(engine, place(url))
        connection.exec_driver_sql(
            "SET synchronous_commit = on" if writes else "SET default_transaction_read_only = on"
        )
        connection.commit()
    return connection


def _connect_once(engine: Engine, where: str) -> Connection:
    """SQLAlchemy reconnects on its own, which must not be: the lock of the lost session is gone with it."""
    try:
        connection = engine.connect()
    except OperationalError as error:
        raise unavailable(where) from error

    def refuse(*_: Any) -> None:
        raise unavailable(where)

    event.listen(engine, "do_connect", refuse)
    return connection


def _check_durable(connection: Connection, where: str) -> None:
    for setting in ("fsync", "full_page_writes"):
        if connection.exec_driver_sql(f"SHOW {setting}").scalar_one() != "on":
            raise ConfigError(
                "The PostgreSQL server would forget what it acknowledged when its power fails.",
                where=f"{where}, setting {setting}",
                mend="Turn it on.",
            )


def _take_lock(connection: Connection, where: str) -> None:
    # The server takes a moment to notice that the former holder was killed.
    connection.exec_driver_sql(f"SET lock_timeout = '{LOCK_S}s'")
    try:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
            raise
        raise ConfigError(
            "Another process uses this database.",
            where=where,
            mend="Stop the node that runs on it; each node has a database of its own.",
        ) from error
    connection.exec_driver_sql("SET lock_timeout = 0")


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise _not_postgresql() from error
    if parsed.drivername != DRIVER:
        raise _not_postgresql()
    return parsed


def _not_postgresql() -> ConfigError:
    return ConfigError(
        "The database is not given as a PostgreSQL URL.",
        where="database",
        mend=f"Write it like {DRIVER}://user@host:5432/name; libpq reads the password from ~/.pgpass.",
    )
