"""The privacy budget accounts: what is reserved is spent, whatever happens afterwards."""

from __future__ import annotations

from sqlalchemy import Connection, func, select
from sqlmodel import col

from consortium.errors import BudgetError
from node.ports import Reservation
from node.store.database import Database
from node.store.sealed import add, replace
from node.store.tables import AccountRow, ReservationRow

RHO_MICRO_MAX = 2**53 - 1


class SqlAccounts:
    """The `Accounts` port over the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def reserve(
        self,
        lineage: str,
        job: bytes,
        round_number: int,
        rho_micro: int | None,
        cap_rho_micro: int,
        delta: str,
        *,
        requester: bytes,
        unfinished_max: int,
    ) -> None:
        wanted = Reservation(lineage, job, round_number, rho_micro, delta, requester, finished=False)
        await self._database.run(lambda connection: _reserve(connection, wanted, cap_rho_micro, unfinished_max))

    async def spent(self, lineage: str) -> int:
        return await self._database.read(lambda connection: _spent(connection, lineage))

    async def entries(self, lineage: str) -> list[Reservation]:
        return await self._database.read(lambda connection: _entries(connection, lineage))

    async def raise_to(self, lineage: str, rho_micro: int) -> None:
        await self._database.run(lambda connection: _raise_to(connection, lineage, rho_micro))

    async def mark_finished(self, job: bytes, round_number: int) -> None:
        await self._database.run(lambda connection: _mark_finished(connection, job, round_number))

    async def unfinished(self, requester: bytes) -> int:
        return await self._database.read(lambda connection: _unfinished(connection, requester))


def _reserve(connection: Connection, wanted: Reservation, cap_rho_micro: int, unfinished_max: int) -> None:
    place = f"account {wanted.lineage}, round {wanted.round}"
    if _unfinished(connection, wanted.requester) >= unfinished_max:
        raise BudgetError(
            "The requester has too many unfinished rounds.",
            where=place,
            mend="The data's steward can close rounds of ended jobs: 'consortium dataset close-rounds'.",
        )
    spent = _spent(connection, wanted.lineage)
    if wanted.rho_micro is not None:
        if not 0 < wanted.rho_micro <= RHO_MICRO_MAX:
            raise BudgetError("The privacy cost is not a positive number of micro-rho.", where=place)
        spent += wanted.rho_micro
        if spent > cap_rho_micro:
            raise BudgetError(
                "The privacy budget of the dataset does not cover this.",
                where=place,
                mend="Ask for less precision, or for an answer that was released before.",
            )
    _insert(connection, wanted, place)
    _raise_to(connection, wanted.lineage, spent)


def _insert(connection: Connection, wanted: Reservation, place: str) -> None:
    reserved = select(col(ReservationRow.sequence)).where(
        col(ReservationRow.lineage) == wanted.lineage,
        col(ReservationRow.job) == wanted.job,
        col(ReservationRow.round) == wanted.round,
    )
    if connection.execute(reserved).first() is not None:
        raise BudgetError(
            "The round was reserved before.", where=place, mend="Retry with a new round: it spends again."
        )
    reserved_before = connection.execute(select(func.count()).select_from(ReservationRow)).scalar_one()
    row = ReservationRow(
        lineage=wanted.lineage,
        job=wanted.job,
        round=wanted.round,
        sequence=reserved_before,
        rho_micro=wanted.rho_micro,
        delta=wanted.delta,
        requester=wanted.requester,
        finished=False,
    )
    add(connection, row)


def _spent(connection: Connection, lineage: str) -> int:
    query = select(col(AccountRow.spent_rho_micro)).where(col(AccountRow.lineage) == lineage)
    return connection.execute(query).scalar_one_or_none() or 0


def _raise_to(connection: Connection, lineage: str, rho_micro: int) -> None:
    if rho_micro > _spent(connection, lineage):
        replace(connection, AccountRow(lineage=lineage, spent_rho_micro=rho_micro))


def _entries(connection: Connection, lineage: str) -> list[Reservation]:
    query = select(ReservationRow).where(col(ReservationRow.lineage) == lineage).order_by(col(ReservationRow.sequence))
    return [
        Reservation(row.lineage, row.job, row.round, row.rho_micro, row.delta, row.requester, row.finished)
        for row in connection.execute(query)
    ]


def _mark_finished(connection: Connection, job: bytes, round_number: int) -> None:
    query = select(ReservationRow).where(col(ReservationRow.job) == job, col(ReservationRow.round) == round_number)
    for row in connection.execute(query).mappings().all():
        replace(connection, ReservationRow(**{**row, "finished": True}))


def _unfinished(connection: Connection, requester: bytes) -> int:
    query = select(func.count()).where(
        col(ReservationRow.requester) == requester, col(ReservationRow.finished).is_(False)
    )
    return connection.execute(query).scalar_one()
