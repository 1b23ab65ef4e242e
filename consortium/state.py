"""The state of a consortium: what a fold over the entries has made so far.

Only `consortium.replay` changes it, after the rules have found an entry to be valid.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from consortium.encoding import Json
from consortium.ledger.entry import Entry
from consortium.privacy.accounting import rho_micro_for
from consortium.privacy.descriptor import DatasetDescriptor
from consortium.privacy.statistics import StatisticsRequest

UNBOUNDED: Literal["unbounded"] = "unbounded"


@dataclass(frozen=True)
class Member:
    """A party whose enrolment is on the ledger; it counts from its admission on."""

    id: bytes
    public_key: bytes
    legal_name: str
    sector: str
    size: str
    owner_group: str
    tls_key_sha256: bytes
    flower_key: bytes
    enrolment: bytes  # leaf hash
    admitted: int | None  # index of the admission


@dataclass(frozen=True)
class Dataset:
    """An offer: the descriptor is public, the policy is known by its hash."""

    member: bytes
    name: str
    lineage: str
    descriptor: dict[str, Json]
    policy_sha256: str
    schema_sha256: str
    guard_sha256: str
    cap_rho_micro: int
    delta: str
    index: int

    @cached_property
    def described(self) -> DatasetDescriptor:
        """The descriptor as a value; it was checked when the dataset was offered."""
        return DatasetDescriptor.from_json(self.descriptor)


@dataclass(frozen=True, slots=True)
class Recorded:
    """The body of an entry that counted, with its index and author."""

    index: int
    author: bytes
    body: dict[str, Json]


@dataclass
class Job:
    """A job and everything that was recorded about it."""

    id: bytes
    index: int
    kind: str
    datasets: dict[bytes, str]  # member -> dataset name
    members_min: int
    request: dict[str, Json]
    body: dict[str, Json]
    decisions: dict[tuple[bytes, str], Recorded] = field(default_factory=dict)
    spends: dict[tuple[bytes, int], Recorded] = field(default_factory=dict)
    sums: dict[int, Recorded] = field(default_factory=dict)
    result: Recorded | None = None
    abort: Recorded | None = None
    scores: Recorded | None = None
    settlement: Recorded | None = None

    @cached_property
    def price_rho_micro(self) -> int:
        """What the job's statistic costs each dataset's account."""
        request = StatisticsRequest.from_json(self.request)
        return rho_micro_for(request.epsilon_milli, request.delta)

    def permits(self, member: bytes) -> bool:
        """Whether the member's recorded decision lets the job run."""
        decision = self.decisions.get((member, "run"))
        return decision is not None and decision.body["outcome"] == "permit"

    def paid(self, member: bytes) -> bool:
        """Whether the member has recorded a spend for the job, in whichever round."""
        return (member, 0) in self.spends or any(payer == member for payer, _ in self.spends)

    def permitted(self) -> tuple[bytes, ...]:
        """The members whose recorded decision lets the job run, sorted."""
        return tuple(
            sorted(
                member
                for (member, stage), decision in self.decisions.items()
                if stage == "run" and decision.body["outcome"] == "permit"
            )
        )

    def decided(self) -> frozenset[bytes]:
        """The members that have decided, either way."""
        return frozenset(member for member, stage in self.decisions if stage == "run")

    def ended(self) -> bool:
        return self.result is not None or self.abort is not None


@dataclass
class State:
    """A consortium after `size` entries."""

    size: int = 0
    genesis: bytes = b""  # leaf hash of entry 0
    charter: dict[str, Json] = field(default_factory=dict)
    coordinator: bytes = b""
    members: dict[bytes, Member] = field(default_factory=dict)
    committees: list[tuple[int, tuple[bytes, ...]]] = field(default_factory=list)  # index, witnesses from there on
    datasets: dict[tuple[bytes, str], Dataset] = field(default_factory=dict)
    apps: dict[str, Recorded] = field(default_factory=dict)
    approvals: dict[tuple[bytes, str], int] = field(default_factory=dict)
    jobs: dict[bytes, Job] = field(default_factory=dict)
    chains: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)  # author -> next seq, last leaf
    keys: dict[tuple[bytes, str], tuple[int, bytes]] = field(default_factory=dict)  # idempotency -> index, leaf
    spent: dict[tuple[bytes, str], int] = field(default_factory=dict)  # member, lineage -> micro-rho
    caps: dict[tuple[bytes, str], int] = field(default_factory=dict)  # likewise: the smallest cap ever stated
    unbounded: set[tuple[bytes, str]] = field(default_factory=set)
    balances: dict[str, int] = field(default_factory=dict)  # account -> credits in minor units

    @property
    def committee(self) -> tuple[bytes, ...]:
        """The witnesses now; none before the first committee is seated."""
        return self.committees[-1][1] if self.committees else ()

    def committee_at(self, size: int) -> tuple[bytes, ...]:
        """The witnesses that must cosign a checkpoint of this size: those seated by an entry that it covers."""
        return next((members for index, members in reversed(self.committees) if index < size), ())

    def public_key(self, author: bytes) -> bytes | None:
        """The ledger key of an enrolled party, or None."""
        member = self.members.get(author)
        return None if member is None else member.public_key

    def admitted(self, author: bytes) -> bool:
        """Whether a party counts as a member now (the coordinator always does)."""
        member = self.members.get(author)
        return member is not None and member.admitted is not None

    def cap_of(self, member: bytes, lineage: str) -> int:
        """The budget of a lineage: the smallest cap that any of its offers ever stated (micro-rho)."""
        return self.caps.get((member, lineage), 0)


def recorded(index: int, entry: Entry) -> Recorded:
    """The record of an entry."""
    return Recorded(index, entry.author, entry.body)
