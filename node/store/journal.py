"""What a node remembers of the rounds that it took part in."""

from __future__ import annotations

from sqlalchemy import Connection, and_, select
from sqlmodel import col

from consortium.errors import SecureSumError
from consortium.keys import KEY_ID_BYTES
from node.store.database import Database
from node.store.sealed import add, replace
from node.store.tables import InputRow, RoundRow, VoteRow

NO_MODEL = bytes(32)


class SqlRoundJournal:
    """The `RoundJournal` port over the database.

    Which rounds are open lives in memory on purpose: a node that was restarted must not vote in a round that it may
    have voted in before, nor send a second vector into it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._open: dict[tuple[str, bytes], int] = {}

    async def open_round(self, dataset: str, job: bytes, round_number: int) -> None:
        await self._database.on_writer(lambda: self._open_round(dataset, job, round_number))

    async def record_input(
        self, dataset: str, job: bytes, input_model: bytes, round_number: int, roster: tuple[bytes, ...]
    ) -> None:
        row = InputRow(
            dataset=dataset,
            job=job,
            round=round_number,
            input_model=input_model,
            roster=_joined(roster, "The roster"),
        )
        await self._database.run(lambda connection: self._record_input(connection, row))

    async def record_vote(self, job: bytes, round_number: int, survivors: tuple[bytes, ...]) -> None:
        row = VoteRow(job=job, round=round_number, survivors=_joined(survivors, "The survivor set"))
        await self._database.run(lambda connection: self._record_vote(connection, row))

    def _open_round(self, dataset: str, job: bytes, round_number: int) -> None:
        self._database.transact(lambda connection: _advance(connection, dataset, job, round_number))
        self._open[dataset, job] = round_number

    def _record_input(self, connection: Connection, row: InputRow) -> None:
        self._check_open(row.dataset, row.job, row.round)
        query = select(col(InputRow.input_model), col(InputRow.roster)).where(
            col(InputRow.dataset) == row.dataset, col(InputRow.job) == row.job, col(InputRow.round) == row.round
        )
        recorded = connection.execute(query).one_or_none()
        if recorded is not None and tuple(recorded) != (row.input_model, row.roster):
            raise SecureSumError("The round was begun with another input model or roster.", where=f"round {row.round}")
        _check_not_voted_elsewhere(connection, row.dataset, row.input_model, row.job, row.round)
        if recorded is None:
            add(connection, row)

    def _record_vote(self, connection: Connection, row: VoteRow) -> None:
        inputs = connection.execute(
            select(col(InputRow.dataset), col(InputRow.input_model), col(InputRow.roster)).where(
                col(InputRow.job) == row.job, col(InputRow.round) == row.round
            )
        ).all()
        if not inputs:
            raise SecureSumError("A vote needs the input that it is about.", where=f"round {row.round}")
        for dataset, input_model, roster in inputs:
            self._check_open(dataset, row.job, row.round)
            _check_not_voted_elsewhere(connection, dataset, input_model, row.job, row.round)
            if not _split(row.survivors) <= _split(roster):
                raise SecureSumError("The survivor set names someone who is not on the roster.")
        voted = connection.execute(
            select(col(VoteRow.survivors)).where(col(VoteRow.job) == row.job, col(VoteRow.round) == row.round)
        ).scalar_one_or_none()
        if voted is None:
            add(connection, row)
        elif voted != row.survivors:
            raise SecureSumError(
                "This node signed another survivor set for this round.",
                where=f"round {row.round}",
                mend="Abort the round: two survivor sets in one round would reveal a member's own vector.",
            )

    def _check_open(self, dataset: str, job: bytes, round_number: int) -> None:
        if self._open.get((dataset, job)) != round_number:
            raise SecureSumError(
                "The round is not open on this node.",
                where=f"round {round_number}",
                mend="Begin a new round; after a restart a node does not take up an old one.",
            )


def _advance(connection: Connection, dataset: str, job: bytes, round_number: int) -> None:
    query = select(col(RoundRow.round)).where(col(RoundRow.dataset) == dataset, col(RoundRow.job) == job)
    last = connection.execute(query).scalar_one_or_none()
    if round_number < 0 or (last is not None and round_number <= last):
        raise SecureSumError(
            "The round is a replay: this node took part in it, or in a later one.",
            where=f"round {round_number}",
            mend="Begin a new round with a higher number.",
        )
    replace(connection, RoundRow(dataset=dataset, job=job, round=round_number))


def _check_not_voted_elsewhere(
    connection: Connection, dataset: str, input_model: bytes, job: bytes, round_number: int
) -> None:
    """One update, one roster: the difference of two sums over the same update would be somebody's own vector."""
    if input_model == NO_MODEL:
        return
    same_round = and_(col(InputRow.job) == job, col(InputRow.round) == round_number)
    query = (
        select(col(VoteRow.round))
        .join(InputRow, and_(col(InputRow.job) == col(VoteRow.job), col(InputRow.round) == col(VoteRow.round)))
        .where(col(InputRow.dataset) == dataset, col(InputRow.input_model) == input_model, ~same_round)
        .limit(1)
    )
    if connection.execute(query).first() is not None:
        raise SecureSumError(
            "This node already gave its update on this input model to another sum.",
            where=f"round {round_number}",
            mend="Continue from the model that the finished sum gave.",
        )


def _joined(key_ids: tuple[bytes, ...], what: str) -> bytes:
    if not key_ids or len(set(key_ids)) != len(key_ids) or any(len(key_id) != KEY_ID_BYTES for key_id in key_ids):
        raise SecureSumError(f"{what} is empty, or names a member twice, or holds what is no key id.")
    return b"".join(sorted(key_ids))


def _split(joined: bytes) -> set[bytes]:
    return {joined[start : start + KEY_ID_BYTES] for start in range(0, len(joined), KEY_ID_BYTES)}
