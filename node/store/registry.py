"""The small registries of a node: accepted members, invitations, settings, datasets, answers, transcripts."""

from __future__ import annotations

import hashlib

from sqlalchemy import Connection, select
from sqlmodel import col

from consortium.errors import InvitationError, LimitError, NotFoundError, RequestError, SecureSumError
from node.ports import Clock, StoredDataset
from node.store.database import Database
from node.store.sealed import add, replace
from node.store.tables import AnswerRow, DatasetRow, InvitationRow, MemberRow, SettingRow, TranscriptRow

TRANSCRIPT_BYTES_MAX = 1 << 29


class SqlMembers:
    """The `Members` port over the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def accept(self, key_id: bytes) -> None:
        await self._database.run(lambda connection: replace(connection, MemberRow(key_id=key_id)))

    async def accepted(self) -> frozenset[bytes]:
        query = select(col(MemberRow.key_id))
        return await self._database.read(lambda connection: frozenset(connection.execute(query).scalars()))


class SqlInvitations:
    """The `Invitations` port over the database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def create(self, secret_sha256: bytes, expires: int, legal_name: str) -> None:
        row = InvitationRow(secret_sha256=secret_sha256, expires=expires, legal_name=legal_name, redeemed=None)
        await self._database.run(lambda connection: _invite(connection, row))

    async def redeem(self, secret: bytes, legal_name: str) -> None:
        digest = hashlib.sha256(secret).digest()
        await self._database.run(lambda connection: _redeem(connection, digest, legal_name, self._clock.now()))


class SqlSettings:
    """The `Settings` port over the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, name: str) -> str | None:
        query = select(col(SettingRow.value)).where(col(SettingRow.name) == name)
        return await self._database.read(lambda connection: connection.execute(query).scalar_one_or_none())

    async def set(self, name: str, value: str) -> None:
        await self._database.run(lambda connection: replace(connection, SettingRow(name=name, value=value)))


class SqlDatasets:
    """The `Datasets` port over the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, name: str, path: str, descriptor_json: str, policy_text: str) -> None:
        row = DatasetRow(name=name, path=path, descriptor_json=descriptor_json, policy_text=policy_text)
        await self._database.run(lambda connection: replace(connection, row))

    async def get(self, name: str) -> StoredDataset:
        found = [dataset for dataset in await self.list() if dataset.name == name]
        if not found:
            raise NotFoundError("This node offers no such dataset.", mend="List the datasets for their names.")
        return found[0]

    async def list(self) -> tuple[StoredDataset, ...]:
        return await self._database.read(_datasets)


class SqlAnswers:
    """The `Answers` port over the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, request_sha256: bytes) -> bytes | None:
        return await self._database.read(lambda connection: _answer(connection, request_sha256))

    async def put(self, request_sha256: bytes, answer: bytes) -> None:
        row = AnswerRow(request_sha256=request_sha256, answer=answer)
        await self._database.run(lambda connection: _put_answer(connection, row))


class SqlTranscripts:
    """The `Transcripts` port over the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, digest: bytes, transcript: bytes) -> None:
        if len(transcript) > TRANSCRIPT_BYTES_MAX:
            raise LimitError(f"A transcript has at most {TRANSCRIPT_BYTES_MAX} bytes.", mend="Sum fewer coordinates.")
        if hashlib.sha256(transcript).digest() != digest:
            raise SecureSumError("The transcript has another SHA-256 than was committed.")
        row = TranscriptRow(digest=digest, transcript=transcript)
        await self._database.run(lambda connection: replace(connection, row))

    async def get(self, digest: bytes) -> bytes:
        query = select(col(TranscriptRow.transcript)).where(col(TranscriptRow.digest) == digest)
        transcript = await self._database.read(lambda connection: connection.execute(query).scalar_one_or_none())
        if transcript is None:
            raise NotFoundError("The transcript is not stored here.", mend="Ask the coordinator for it.")
        if hashlib.sha256(transcript).digest() != digest:
            raise SecureSumError("The stored transcript is damaged.", mend="Ask the coordinator for it.")
        return transcript


def _invite(connection: Connection, row: InvitationRow) -> None:
    query = select(col(InvitationRow.expires)).where(col(InvitationRow.secret_sha256) == row.secret_sha256)
    if connection.execute(query).first() is not None:
        raise InvitationError("An invitation with this secret exists.", mend="Draw a new secret.")
    add(connection, row)


def _redeem(connection: Connection, digest: bytes, legal_name: str, now: int) -> None:
    query = select(InvitationRow).where(col(InvitationRow.secret_sha256) == digest)
    found = connection.execute(query).mappings().one_or_none()
    if found is None:
        raise InvitationError("The invitation is not known here.", mend="Ask this consortium's coordinator for one.")
    invitation = InvitationRow(**found)
    if invitation.redeemed is not None:
        raise InvitationError("The invitation was used before.", mend="Ask the coordinator for a new one.")
    if now >= invitation.expires:
        raise InvitationError("The invitation has expired.", mend="Ask the coordinator for a new one.")
    if invitation.legal_name != legal_name:
        raise InvitationError(
            "The invitation was written for another legal name.",
            mend="Join with the name in the invitation, or ask the coordinator for a new one.",
        )
    invitation.redeemed = now
    replace(connection, invitation)


def _datasets(connection: Connection) -> tuple[StoredDataset, ...]:
    rows = connection.execute(select(DatasetRow))
    datasets = (StoredDataset(row.name, row.path, row.descriptor_json, row.policy_text) for row in rows)
    return tuple(sorted(datasets, key=lambda dataset: dataset.name))  # databases differ in the order of texts


def _answer(connection: Connection, request_sha256: bytes) -> bytes | None:
    query = select(col(AnswerRow.answer)).where(col(AnswerRow.request_sha256) == request_sha256)
    return connection.execute(query).scalar_one_or_none()


def _put_answer(connection: Connection, row: AnswerRow) -> None:
    released = _answer(connection, row.request_sha256)
    if released is None:
        add(connection, row)
    elif released != row.answer:
        raise RequestError("Another answer was released for this request.", mend="Return the released one.")
