"""The tables of version 0.1."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _log()
    _rounds()
    _budgets()
    op.create_table("accepted_member", _key("key_id", sa.LargeBinary()))
    op.create_table(
        "invitation",
        _key("secret_sha256", sa.LargeBinary()),
        _field("expires", _BIG),
        _field("legal_name", sa.String()),
        sa.Column("redeemed", _BIG, nullable=True),
    )
    op.create_table("setting", _key("name", sa.String()), _field("value", sa.String()))
    op.create_table(
        "dataset",
        _key("name", sa.String()),
        *(_field(name, sa.String()) for name in ("path", "descriptor_json", "policy_text")),
    )
    op.create_table("answer", _key("request_sha256", sa.LargeBinary()), _field("answer", sa.LargeBinary()))
    op.create_table("transcript", _key("digest", sa.LargeBinary()), _field("transcript", sa.LargeBinary()))


def _log() -> None:
    op.create_table(
        "entry",
        sa.Column("index", _BIG, primary_key=True, autoincrement=False),
        _field("leaf_hash", sa.LargeBinary()),
        _field("frame", sa.LargeBinary()),
    )
    op.create_table(
        "checkpoint",
        sa.Column("size", _BIG, primary_key=True, autoincrement=False),
        _field("note", sa.LargeBinary()),
    )


def _rounds() -> None:
    op.create_table("round", _key("dataset", sa.String()), _key("job", sa.LargeBinary()), _field("round", sa.Integer()))
    op.create_table(
        "round_input",
        _key("dataset", sa.String()),
        _key("job", sa.LargeBinary()),
        _key("round", sa.Integer()),
        _field("input_model", sa.LargeBinary()),
        _field("roster", sa.LargeBinary()),
    )
    op.create_index("ix_round_input_input_model", "round_input", ["input_model"])
    op.create_table(
        "vote", _key("job", sa.LargeBinary()), _key("round", sa.Integer()), _field("survivors", sa.LargeBinary())
    )


def _budgets() -> None:
    op.create_table("account", _key("lineage", sa.String()), _field("spent_rho_micro", _BIG))
    op.create_table(
        "reservation",
        _key("lineage", sa.String()),
        _key("job", sa.LargeBinary()),
        _key("round", sa.Integer()),
        _field("sequence", sa.Integer()),
        sa.Column("rho_micro", _BIG, nullable=True),
        _field("delta", sa.String()),
        _field("requester", sa.LargeBinary()),
        _field("finished", sa.Boolean()),
        sa.UniqueConstraint("sequence"),
    )
    op.create_index("ix_reservation_requester", "reservation", ["requester"])


def _key(name: str, kind: sa.types.TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, primary_key=True, autoincrement=False)


def _field(name: str, kind: sa.types.TypeEngine[Any]) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)
