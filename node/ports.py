"""What the services of a node need from the world: protocols and the values that cross them.

Every durable method returns only after its effect has reached the disk; a process killed at any later instant finds
it again. Identities, job ids and digests are 32 bytes; rounds count from 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class StoredEntry:
    """An entry of the ledger as it is stored: its index in the log and the bytes of its frame."""

    index: int
    frame: bytes


@dataclass(frozen=True)
class Reservation:
    """Privacy budget that is spent for good, whatever becomes of its round.

    Attributes:
        lineage: the dataset lineage whose account was charged.
        job: the job's id.
        round: the round of the job.
        rho_micro: micro-rho of zCDP, or None for an exact release ("unbounded").
        delta: the delta beside it, a decimal string.
        requester: key id of the member that asked for the job.
        finished: whether the round came to its end; until then it counts against its requester, aborted or not, so that
            aborted rounds cannot burn a budget.
    """

    lineage: str
    job: bytes
    round: int
    rho_micro: int | None
    delta: str
    requester: bytes
    finished: bool


@dataclass(frozen=True)
class StoredDataset:
    """A dataset that this node offers: where its file is, its descriptor and its sharing policy."""

    name: str
    path: str
    descriptor_json: str
    policy_text: str


class Clock(Protocol):
    """Local wall time; never compared with another machine's."""

    def now(self) -> int:
        """Whole seconds since 1970-01-01 UTC."""
        ...


class LedgerStore(Protocol):
    """The node's own copy of the log, append-only."""

    async def append(self, entries: Sequence[StoredEntry], checkpoint: bytes) -> None:
        """Stores entries and the signed note that covers exactly the log up to them: all or nothing, durably.

        Raises:
            ForkError: the entries do not continue the stored log, or the root of the bytes read back is not the note's.
            CheckpointError: the note does not parse.
        """
        ...

    async def size(self) -> int:
        """How many entries are stored."""
        ...

    async def entries(self, start: int, end: int) -> list[bytes]:
        """The frames of the entries `start` to `end - 1`.

        Raises:
            NotFoundError: the range is not within the log.
        """
        ...

    async def checkpoint(self) -> bytes | None:
        """The signed note of the last append; None for an empty log."""
        ...

    async def leaf_hashes(self) -> list[bytes]:
        """The RFC 6962 leaf hashes of all entries, in order."""
        ...


class RoundJournal(Protocol):
    """What a node must remember so that it never takes part in the same round, or reveals one update, twice.

    A round goes through `open_round`, `record_input`, `record_vote`, in this order and within one process: a node that
    restarts votes no more in the rounds that it had opened.
    """

    async def open_round(self, dataset: str, job: bytes, round_number: int) -> None:
        """Begins a round of a job on a dataset.

        Raises:
            SecureSumError: this round or a later one was opened before.
        """
        ...

    async def record_input(
        self, dataset: str, job: bytes, input_model: bytes, round_number: int, roster: tuple[bytes, ...]
    ) -> None:
        """Binds the open round to its input model (SHA-256; 32 zero bytes for statistics, which add fresh noise).

        Raises:
            SecureSumError: the round is not open, it was bound to another input or roster, or an update of this dataset
                on the same input model was already voted into another sum.
        """
        ...

    async def record_vote(self, job: bytes, round_number: int, survivors: tuple[bytes, ...]) -> None:
        """Fixes the one survivor set that this node signs in a round; the same set again is accepted.

        Raises:
            SecureSumError: the round is not open or has no input, another set was recorded for it, or an update on the
                same input model was already voted into another sum.
        """
        ...


class Accounts(Protocol):
    """The privacy budget accounts, one for each dataset lineage."""

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
        """Spends budget, for good, before anything is computed.

        An exact release (`rho_micro` None) is recorded but has no figure that could be summed; the policy that permits
        it is its only limit.

        Raises:
            BudgetError: the account would exceed `cap_rho_micro`, the round was reserved before, or the requester has
                `unfinished_max` unfinished rounds.
        """
        ...

    async def spent(self, lineage: str) -> int:
        """Micro-rho spent so far; 0 for an account that was never used."""
        ...

    async def entries(self, lineage: str) -> list[Reservation]:
        """All reservations of an account in the order in which they were made."""
        ...

    async def raise_to(self, lineage: str, rho_micro: int) -> None:
        """Makes the spent sum at least `rho_micro`: at start the account is the larger of local and ledger."""
        ...

    async def mark_finished(self, job: bytes, round_number: int) -> None:
        """Says that a round came to its end; what it spent stays spent."""
        ...

    async def unfinished(self, requester: bytes) -> int:
        """How many reservations of a requester are not finished."""
        ...


class Members(Protocol):
    """Members whose fingerprint the steward of this node compared and accepted."""

    async def accept(self, key_id: bytes) -> None:
        """Records the steward's acceptance; again is harmless."""
        ...

    async def accepted(self) -> frozenset[bytes]:
        """The accepted key ids."""
        ...


class Invitations(Protocol):
    """The coordinator's one-time invitations."""

    async def create(self, secret_sha256: bytes, expires: int, legal_name: str) -> None:
        """Records an invitation by the hash of its secret; `expires` in seconds since 1970.

        Raises:
            InvitationError: an invitation with this hash exists.
        """
        ...

    async def redeem(self, secret: bytes, legal_name: str) -> None:
        """Uses an invitation up, exactly once.

        Raises:
            InvitationError: unknown, used, expired, or written for another legal name; it is not used up by that.
        """
        ...


class Settings(Protocol):
    """Small durable settings of a node, such as whether it is paused."""

    async def get(self, name: str) -> str | None:
        """The value, or None if it was never set."""
        ...

    async def set(self, name: str, value: str) -> None:
        """Sets the value durably."""
        ...


class Datasets(Protocol):
    """The registry of the datasets that this node offers."""

    async def put(self, name: str, path: str, descriptor_json: str, policy_text: str) -> None:
        """Registers a dataset, or replaces what was registered under its name."""
        ...

    async def get(self, name: str) -> StoredDataset:
        """The dataset of this name.

        Raises:
            NotFoundError: there is none.
        """
        ...

    async def list(self) -> tuple[StoredDataset, ...]:
        """All datasets, by name."""
        ...


class Answers(Protocol):
    """Released answers, by the SHA-256 of the request: an identical request gets the identical answer."""

    async def get(self, request_sha256: bytes) -> bytes | None:
        """The released answer, or None if there is none yet."""
        ...

    async def put(self, request_sha256: bytes, answer: bytes) -> None:
        """Records a released answer.

        Raises:
            RequestError: another answer was released for this request.
        """
        ...


class Transcripts(Protocol):
    """Transcripts of secure sums, by their SHA-256."""

    async def put(self, digest: bytes, transcript: bytes) -> None:
        """Stores a transcript; again is harmless.

        Raises:
            SecureSumError: `digest` is not the SHA-256 of the transcript.
            LimitError: it is larger than the store takes.
        """
        ...

    async def get(self, digest: bytes) -> bytes:
        """The transcript with this SHA-256.

        Raises:
            NotFoundError: it is not stored here.
        """
        ...


class Contacts(Protocol):
    """Contact records of members (see `consortium.ledger.contact`), by their SHA-256."""

    async def put(self, record: bytes) -> bytes:
        """Keeps a record, and returns its SHA-256; again is harmless."""
        ...

    async def get(self, digest: bytes) -> bytes | None:
        """The record, or None where it was erased or never was."""
        ...

    async def erase(self, digest: bytes) -> bool:
        """Overwrites and removes a record; says whether there was one."""
        ...
