"""What a policy engine answers: the checked policy set, and a decision that names every clause it turned on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from consortium.encoding import Json

NO_PERMIT: Final = "no-permit"
EVALUATION_ERROR: Final = "evaluation-error"
RESERVED_CLAUSES: Final = frozenset({NO_PERMIT, EVALUATION_ERROR})

Outcome = Literal["permit", "refuse"]


@dataclass(frozen=True)
class Clause:
    """One policy by the name that a refusal gives it.

    Attributes:
        id: its `@id`; the only part that is put on the ledger.
        reason: its `@reason`; for the requester only.
        obligation: its `@obligation`, what a node must do when it acts on the clause; "" if there is none.
    """

    id: str
    reason: str
    obligation: str = ""


@dataclass(frozen=True)
class PolicySet:
    """A steward's sharing policy that was found valid, together with what it was checked against.

    Attributes:
        text: the policy as the steward wrote it.
        clauses: the guard's clauses, then the steward's in the order of the text.
        policy_sha256: `policy_digest` of the steward's policies, in hex.
        guard_sha256: `policy_digest` of the guard policies, in hex.
        schema_sha256: SHA-256 of the schema's UTF-8 text, in hex.
    """

    text: str
    clauses: tuple[Clause, ...]
    policy_sha256: str
    guard_sha256: str
    schema_sha256: str


@dataclass(frozen=True)
class Decision:
    """A permit or a refusal, with all that is needed to evaluate it again.

    Attributes:
        outcome: permit only if the engine allowed without any error.
        clauses: of a refusal, every violated clause (the guard's, the steward's, then no-permit and
            evaluation-error); of a permit, the permitting clause.
        engine: name and version of the engine.
        request_sha256, entities_sha256: SHA-256 of the canonical JSON of the request and of the entities, in hex.
        policy_sha256, guard_sha256, schema_sha256: as in `PolicySet`.
    """

    outcome: Outcome
    clauses: tuple[Clause, ...]
    engine: str
    request_sha256: str
    policy_sha256: str
    guard_sha256: str
    schema_sha256: str
    entities_sha256: str

    @property
    def permitted(self) -> bool:
        """Whether the action may be done."""
        return self.outcome == "permit"

    @property
    def clause_ids(self) -> tuple[str, ...]:
        """The ids of the clauses, in order."""
        return tuple(clause.id for clause in self.clauses)

    def record(self) -> dict[str, Json]:
        """What the ledger may know: ids and hashes, no reason text. The guard's hash is in the dataset's entry."""
        return {
            "clauses": list(self.clause_ids),
            "engine": self.engine,
            "entities_sha256": self.entities_sha256,
            "outcome": self.outcome,
            "policy_sha256": self.policy_sha256,
            "request_sha256": self.request_sha256,
            "schema_sha256": self.schema_sha256,
        }


def policy_digest(policies: Mapping[str, Json]) -> str:
    """SHA-256 hex of policies in Cedar's JSON form, by clause id: comments, layout and order of the text do not count.

    Plain sorted compact JSON and not RFC 8785: a Cedar Long has 64 bits and a clause may nest deeper than an entry may.
    """
    text = json.dumps(policies, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def schema_digest(text: str) -> str:
    """SHA-256 hex of a schema's UTF-8 text."""
    return hashlib.sha256(text.encode()).hexdigest()
