"""The state of a consortium: what a fold over the entries has made so far.

Only `consortium.replay` changes it, after the rules have found an entry to be valid.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

from consortium.encoding import Json
from consortium.keys import key_id
from consortium.ledger.cosignature import quorum
from consortium.ledger.entry import Entry
from consortium.privacy.accounting import rho_micro_for
from consortium.privacy.descriptor import DatasetDescriptor
from consortium.privacy.statistics import StatisticsRequest

UNBOUNDED: Literal["unbounded"] = "unbounded"


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A ledger key of a member: it signs what stands at index `start` or later, until the member's next key does.

    Attributes:
        vouched: whether the key before it signed for it; a key that the members voted in stands on their word only.
    """

    start: int
    public_key: bytes
    vouched: bool


@dataclass(frozen=True)
class Member:
    """A party whose enrolment is on the ledger; it counts from its admission on.

    Attributes:
        id: key id of its first key, which stays its name.
        keys: every ledger key that it had, in order.
        admitted, suspended, removed: the index from which on it is; None if it is not.
        contact_sha256: SHA-256 in hex of salt and contact record, which are off the log; "" if there is none.
    """

    id: bytes
    keys: tuple[HeldKey, ...]
    legal_name: str
    sector: str
    size: str
    owner_group: str
    tls_key_sha256: bytes
    flower_key: bytes
    enrolment: bytes  # leaf hash
    admitted: int | None
    suspended: int | None = None
    removed: int | None = None
    contact_sha256: str = ""

    @property
    def public_key(self) -> bytes:
        """The ledger key in force."""
        return self.keys[-1].public_key

    @property
    def active(self) -> bool:
        """Whether the party is a member of record: admitted, not suspended, not removed."""
        return self.admitted is not None and self.suspended is None and self.removed is None

    def key_at(self, size: int) -> bytes:
        """The key that signs the entry at this index, and cosigns checkpoints of this size."""
        return next((key.public_key for key in reversed(self.keys) if key.start <= size), self.keys[0].public_key)

    def keys_between(self, first: int, last: int) -> tuple[bytes, ...]:
        """The keys that were in force at some index from `first` to `last`, in order."""
        ends = [key.start for key in self.keys[1:]]
        return tuple(
            key.public_key
            for position, key in enumerate(self.keys)
            if key.start <= last and (position == len(ends) or ends[position] > first)
        )

    @property
    def trusted_keys(self) -> frozenset[bytes]:
        """Ids of the keys that vouch for the present one: each signed for its successor."""
        found = set()
        for key in reversed(self.keys):
            found.add(key_id(key.public_key))
            if not key.vouched:
                break
        return frozenset(found)


@dataclass(frozen=True, slots=True)
class Committee:
    """Witnesses whose quorum checkpoints of size `start` to `end` need (`end` None: until further notice)."""

    start: int
    members: tuple[bytes, ...]
    end: int | None = None


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


class Decision(NamedTuple):
    """A member's decision that counted: its index, whether it permits, and the ids of the clauses that refused.

    All hashes that the entry binds are in the log; a fold over a million entries keeps what rules and reports ask for.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index
    permits: bool
    clauses: tuple[str, ...]


class Spend(NamedTuple):
    """A spend that counted: its index, its micro-rho (None: unbounded), and the delta that it was stated for."""

    index: int  # type: ignore[assignment]  # hides tuple.index
    rho_micro: int | None
    delta: str


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
    decisions: dict[tuple[bytes, str], Decision] = field(default_factory=dict)  # member, stage
    spends: dict[tuple[bytes, int], Spend] = field(default_factory=dict)  # member, round
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
        return decision is not None and decision.permits

    def paid(self, member: bytes) -> bool:
        """Whether the member has recorded a spend for the job, in whichever round."""
        return (member, 0) in self.spends or any(payer == member for payer, _ in self.spends)

    def permitted(self) -> tuple[bytes, ...]:
        """The members whose recorded decision lets the job run, sorted."""
        return tuple(
            sorted(
                member for (member, stage), decision in self.decisions.items() if stage == "run" and decision.permits
            )
        )

    def decided(self) -> frozenset[bytes]:
        """The members that have decided, either way."""
        return frozenset(member for member, stage in self.decisions if stage == "run")

    def ended(self) -> bool:
        return self.result is not None or self.abort is not None


@dataclass
class Proposal:
    """A change that the members vote on.

    Attributes:
        electorate: who may vote: the members of record at the proposal's index, but for the one whom it concerns.
        needed: how many of them must be for it.
        outcome: `failed` is a change that was accepted and could no longer be made when its time came.
        decided: index of the vote that decided it.
        effect: the change counts for entries at this index and later; for a committee see `governance.hand_over`.
    """

    id: bytes
    index: int
    author: bytes
    change: dict[str, Json]
    from_index: int
    electorate: frozenset[bytes]
    needed: int
    ballots: dict[bytes, Recorded] = field(default_factory=dict)
    outcome: Literal["open", "accepted", "rejected", "effective", "failed"] = "open"
    decided: int | None = None
    effect: int | None = None
    failure: str = ""

    def count(self, choice: str) -> int:
        """How many voted so."""
        return sum(ballot.body["choice"] == choice for ballot in self.ballots.values())


@dataclass
class State:
    """A consortium after `size` entries."""

    size: int = 0
    genesis: bytes = b""  # leaf hash of entry 0
    charter: dict[str, Json] = field(default_factory=dict)
    coordinator: bytes = b""
    members: dict[bytes, Member] = field(default_factory=dict)
    identities: dict[bytes, bytes] = field(default_factory=dict)  # id of every key that ever was -> its member
    committees: list[Committee] = field(default_factory=list)
    proposals: dict[bytes, Proposal] = field(default_factory=dict)
    due: set[bytes] = field(default_factory=set)  # accepted proposals whose index has not come
    datasets: dict[tuple[bytes, str], Dataset] = field(default_factory=dict)
    apps: dict[str, Recorded] = field(default_factory=dict)
    approvals: dict[tuple[bytes, str], int] = field(default_factory=dict)
    jobs: dict[bytes, Job] = field(default_factory=dict)
    chains: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)  # author -> next seq, last leaf
    keys: dict[bytes, dict[str, int]] = field(default_factory=dict)  # author -> idempotency key -> index
    spent: dict[tuple[bytes, str], int] = field(default_factory=dict)  # member, lineage -> micro-rho
    caps: dict[tuple[bytes, str], int] = field(default_factory=dict)  # likewise: the smallest cap ever stated
    unbounded: set[tuple[bytes, str]] = field(default_factory=set)
    balances: dict[str, int] = field(default_factory=dict)  # account -> credits in minor units

    def committees_at(self, size: int) -> tuple[Committee, ...]:
        """The committees that must each have a quorum of cosignatures on a checkpoint of this size.

        Two while one hands over to the next: else a log could be shown to either with another continuation.
        """
        return tuple(
            found for found in self.committees if found.start <= size and (found.end is None or size <= found.end)
        )

    @property
    def committee(self) -> tuple[bytes, ...]:
        """Everybody who is a witness now, sorted; nobody before the first committee is seated."""
        return tuple(sorted({member for found in self.committees_at(self.size) for member in found.members}))

    def has_quorum(self, size: int, cosigners: Collection[bytes]) -> bool:
        """Whether these witnesses suffice for a checkpoint of this size; anybody does before there is a committee."""
        return all(
            len(set(found.members).intersection(cosigners)) >= quorum(len(found.members))
            for found in self.committees_at(size)
        )

    def index_of(self, author: bytes, key: str) -> int | None:
        """Where the author's entry with this idempotency key stands; None if there is none that counts."""
        return self.keys.get(author, {}).get(key)

    def member_of(self, key: bytes) -> bytes:
        """The member whose key has this id, now or once; an unknown key names itself."""
        return self.identities.get(key, key)

    def trusted(self, accepted: Collection[bytes]) -> frozenset[bytes]:
        """The members that a steward knows who accepted these key ids.

        A key that the old one signed for is known with it; one that the members voted in must be accepted anew.
        """
        return frozenset(member.id for member in self.members.values() if member.trusted_keys.intersection(accepted))

    def public_key(self, author: bytes) -> bytes | None:
        """The ledger key of an enrolled party, or None."""
        member = self.members.get(author)
        return None if member is None else member.public_key

    def admitted(self, author: bytes) -> bool:
        """Whether a party counts as a member now (the coordinator always does)."""
        member = self.members.get(author)
        return member is not None and member.active

    def voters(self) -> frozenset[bytes]:
        """The members of record; the coordinator's seat is neutral."""
        return frozenset(
            member.id for member in self.members.values() if member.active and member.id != self.coordinator
        )

    def cap_of(self, member: bytes, lineage: str) -> int:
        """The budget of a lineage: the smallest cap that any of its offers ever stated (micro-rho)."""
        return self.caps.get((member, lineage), 0)


def recorded(index: int, entry: Entry) -> Recorded:
    """The record of an entry."""
    return Recorded(index, entry.author, entry.body)
