"""What a fault of the database is to a caller: a declared error, or a bug of ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from consortium.errors import ConfigError, ConsortiumError, UnavailableError

# https://www.sqlite.org/rescode.html; the low byte of an extended code is the primary one.
_MACHINE = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
}
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
# PostgreSQL's error classes: connection, resources (disk full), operator intervention, system error.
_MACHINE_CLASSES = ("08", "53", "57", "58")
_DAMAGE_CLASSES = ("XX",)
_MEND_DAMAGE = "Keep a copy of the folder as evidence and run `consortium ledger repair`."


@contextmanager
def declared(place: str) -> Iterator[None]:
    """Turns a fault of the machine or the disk into an error that says so; a wrong statement stays our bug.

    Raises:
        UnavailableError: no space, no permission, an input or output error, or the server is gone.
        ConfigError: what is stored is damaged.
    """
    try:
        yield
    except (DBAPIError, sqlite3.DatabaseError) as error:
        refusal = _refusal(error, place)
        if refusal is None:
            raise
        raise refusal from error
    except OSError as error:
        raise unavailable(place) from error


@contextmanager
def damage_declared(place: str) -> Iterator[None]:
    """As `declared`, while a stored database is opened: there whatever SQLite refuses is a sign of damage.

    Raises:
        UnavailableError: as `declared`.
        ConfigError: as `declared`, or anything else that SQLite says.
    """
    try:
        with declared(place):
            yield
    except (SQLAlchemyError, sqlite3.DatabaseError) as error:
        if hasattr(getattr(error, "orig", None), "sqlstate"):
            raise  # PostgreSQL's, which tells damage from a wrong statement
        raise _damaged(place) from error


def unavailable(place: str) -> UnavailableError:
    return UnavailableError(
        "The node's store cannot be written or read now: no space, no permission, or its server is gone.",
        where=place,
        mend="Mend that and start the node again; everything that was acknowledged is stored.",
    )


def _refusal(error: DBAPIError | sqlite3.DatabaseError, place: str) -> ConsortiumError | None:
    driver = error.orig if isinstance(error, DBAPIError) else error
    state = getattr(driver, "sqlstate", None) or ""
    code = getattr(driver, "sqlite_errorcode", 0) & 0xFF
    is_gone = isinstance(error, DBAPIError) and error.connection_invalidated
    if is_gone or code in _MACHINE or state.startswith(_MACHINE_CLASSES):
        return unavailable(place)
    if code in _DAMAGE or state.startswith(_DAMAGE_CLASSES):
        return _damaged(place)
    return None


def _damaged(place: str) -> ConfigError:
    return ConfigError("The node's store is not a database, or is damaged.", where=place, mend=_MEND_DAMAGE)
