"""The tables of a node's store, as SQLModel rows. Digests, key ids and job ids are 32 bytes.

A change here needs a migration (node/store/migrations). Rows are written by node/store/sealed.py, but for those of the
log, which its Merkle root protects.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import BigInteger, Integer
from sqlmodel import Field, SQLModel

METADATA = SQLModel.metadata

# Every INTEGER of SQLite has 64 bits; only under this name does a primary key become the row id.
_BIG: Any = BigInteger().with_variant(Integer(), "sqlite")


class EntryRow(SQLModel, table=True):
    """An entry of the ledger."""

    __tablename__: ClassVar[str] = "entry"

    index: int = Field(primary_key=True, sa_type=_BIG, sa_column_kwargs={"autoincrement": False})
    leaf_hash: bytes
    frame: bytes


class CheckpointRow(SQLModel, table=True):
    """The signed note over the stored log; at most one row."""

    __tablename__: ClassVar[str] = "checkpoint"

    size: int = Field(primary_key=True, sa_type=_BIG, sa_column_kwargs={"autoincrement": False})
    note: bytes


class RoundRow(SQLModel, table=True):
    """The last round that was opened of a job on a dataset."""

    __tablename__: ClassVar[str] = "round"

    dataset: str = Field(primary_key=True)
    job: bytes = Field(primary_key=True)
    round: int


class InputRow(SQLModel, table=True):
    """What a round of a job works on: the input model's digest and the roster (sorted key ids, joined)."""

    __tablename__: ClassVar[str] = "round_input"

    dataset: str = Field(primary_key=True)
    job: bytes = Field(primary_key=True)
    round: int = Field(primary_key=True)
    input_model: bytes = Field(index=True)
    roster: bytes


class VoteRow(SQLModel, table=True):
    """The survivor set that this node signed in a round (sorted key ids, joined)."""

    __tablename__: ClassVar[str] = "vote"

    job: bytes = Field(primary_key=True)
    round: int = Field(primary_key=True)
    survivors: bytes


class AccountRow(SQLModel, table=True):
    """What a dataset lineage has spent, in micro-rho."""

    __tablename__: ClassVar[str] = "account"

    lineage: str = Field(primary_key=True)
    spent_rho_micro: int = Field(sa_type=_BIG)


class ReservationRow(SQLModel, table=True):
    """One reservation of privacy budget; `rho_micro` is null for an exact release."""

    __tablename__: ClassVar[str] = "reservation"

    lineage: str = Field(primary_key=True)
    job: bytes = Field(primary_key=True)
    round: int = Field(primary_key=True)
    sequence: int = Field(unique=True)
    rho_micro: int | None = Field(sa_type=_BIG, nullable=True)
    delta: str
    requester: bytes = Field(index=True)
    finished: bool


class MemberRow(SQLModel, table=True):
    """A member whose fingerprint the steward accepted."""

    __tablename__: ClassVar[str] = "accepted_member"

    key_id: bytes = Field(primary_key=True)


class InvitationRow(SQLModel, table=True):
    """A one-time invitation; times in seconds since 1970, `redeemed` null until it is used."""

    __tablename__: ClassVar[str] = "invitation"

    secret_sha256: bytes = Field(primary_key=True)
    expires: int = Field(sa_type=_BIG)
    legal_name: str
    redeemed: int | None = Field(sa_type=_BIG, nullable=True)


class SettingRow(SQLModel, table=True):
    """A setting."""

    __tablename__: ClassVar[str] = "setting"

    name: str = Field(primary_key=True)
    value: str


class DatasetRow(SQLModel, table=True):
    """A dataset that the node offers."""

    __tablename__: ClassVar[str] = "dataset"

    name: str = Field(primary_key=True)
    path: str
    descriptor_json: str
    policy_text: str


class AnswerRow(SQLModel, table=True):
    """A released answer."""

    __tablename__: ClassVar[str] = "answer"

    request_sha256: bytes = Field(primary_key=True)
    answer: bytes


class TranscriptRow(SQLModel, table=True):
    """The transcript of a secure sum."""

    __tablename__: ClassVar[str] = "transcript"

    digest: bytes = Field(primary_key=True)
    transcript: bytes


class SealRow(SQLModel, table=True):
    """The one row that says how often the tables but the log's were changed, and what their rows hash to."""

    __tablename__: ClassVar[str] = "seal"

    changes: int = Field(primary_key=True, sa_type=_BIG, sa_column_kwargs={"autoincrement": False})
    digest: bytes
