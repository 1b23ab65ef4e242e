"""What the outside may ask of a node: the protocols that the servicers of `node.rpc` call, and the values they carry.

Documents (`Json`) are plain dictionaries; the command line prints them as they are under `--json`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from consortium.encoding import Json

PhaseName = Literal["advertise", "share", "mask", "vote", "reveal"]


@dataclass(frozen=True)
class Hello:
    """The first message of a member's stream."""

    version: str
    paused: bool


@dataclass(frozen=True)
class Clause:
    """A clause of a policy that a request violated: its id and its reason text."""

    id: str
    reason: str


@dataclass(frozen=True)
class Explain:
    """Asks what a node would decide about the body of a job entry (canonical JSON)."""

    call: int
    job: bytes
    ledger_size: int


@dataclass(frozen=True)
class Explained:
    call: int
    permitted: bool
    clauses: tuple[Clause, ...]


@dataclass(frozen=True)
class Reasons:
    """The reason texts of a decision on the ledger, for the requester only."""

    job: bytes
    clauses: tuple[Clause, ...]


@dataclass(frozen=True)
class SumOpen:
    """A secure sum begins: canonical JSON of its SumSpec, and the size of the log that it rests on."""

    spec: bytes
    ledger_size: int


@dataclass(frozen=True)
class SumStep:
    """One step of a secure sum, in either direction; see `consortium.privacy.secure_sum`."""

    job: bytes
    round: int
    phase: PhaseName
    frames: tuple[bytes, ...] = ()
    vector: bytes = b""
    survivors: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class SumClosed:
    """The coordinator ended a sum; an empty code means that it was finished."""

    job: bytes
    round: int
    code: str


@dataclass(frozen=True)
class SumFailed:
    """A member cannot go on with a sum."""

    job: bytes
    round: int
    code: str


FromMember = Hello | Explained | Reasons | SumStep | SumFailed
ToMember = Explain | SumOpen | SumStep | SumClosed


@dataclass(frozen=True)
class Batch:
    """Entries from index `start` on, and the checkpoint note that covers the last of them."""

    start: int
    frames: tuple[bytes, ...]
    checkpoint: bytes


@dataclass(frozen=True)
class Position:
    """Where a witness stands: its size and the log's signed note at that size (empty if it holds nothing)."""

    size: int
    checkpoint: bytes


@dataclass(frozen=True)
class AddCheckpoint:
    """C2SP tlog-witness add-checkpoint, with the entries from `old_size` on."""

    old_size: int
    proof: tuple[bytes, ...]
    checkpoint: bytes
    frames: tuple[bytes, ...]


@dataclass(frozen=True)
class Fetch:
    """Asks a witness for the entries `start` to `end - 1`."""

    start: int
    end: int


@dataclass(frozen=True)
class Added:
    """A witness's answer: 200 with its cosignature line, 409 with its size, or 422."""

    status: int
    size: int
    cosignature: bytes


@dataclass(frozen=True)
class Fetched:
    start: int
    frames: tuple[bytes, ...]


WitnessSays = Position | Added | Fetched
WitnessAsked = AddCheckpoint | Fetch


@dataclass(frozen=True)
class Redeemed:
    """What a redeemed invitation gives: PEM certificate, PEM CA certificate, genesis frame."""

    certificate: bytes
    ca_certificate: bytes
    genesis: bytes


@dataclass(frozen=True)
class Begin:
    """A node's answer to its Flower child: may this app run this round, and on what table (Arrow IPC stream)."""

    permitted: bool
    code: str
    table: bytes
    plan: Json


@dataclass(frozen=True)
class RoundSum:
    """The sum of one round (uint32, shape (length,)) and the members it contains."""

    total: npt.NDArray[np.uint32]
    survivors: tuple[bytes, ...]


class LedgerService(Protocol):
    """The sequencer's log, at the coordinator."""

    async def append(self, caller: bytes | None, frame: bytes) -> tuple[int, bytes]:
        """Appends an entry; returns its index and a checkpoint note that covers it. `caller` is None for ourselves.

        Raises:
            EntryError, SignatureError, EncodingError, LimitError: refused, nothing was appended.
        """
        ...

    def follow(self, start: int) -> AsyncIterator[Batch]:
        """Entries from `start` on, in batches of at most 1,000, as they come; never ends."""
        ...


class WitnessService(Protocol):
    """The coordinator's end of the witnesses' streams."""

    def attend(self, member: bytes, incoming: AsyncIterator[WitnessSays]) -> AsyncIterator[WitnessAsked]:
        """Serves one member's stream until it ends; a newer stream of the same member replaces an older one."""
        ...


class ExchangeService(Protocol):
    """The coordinator's end of the members' streams."""

    def attend(self, member: bytes, incoming: AsyncIterator[FromMember]) -> AsyncIterator[ToMember]:
        """Serves one member's stream until it ends; a newer stream of the same member replaces an older one."""
        ...


class EnrolmentService(Protocol):
    async def redeem(self, secret: bytes, frame: bytes, csr: bytes, contact: bytes = b"") -> Redeemed:
        """Redeems a one-time invitation; `contact` is the record whose SHA-256 the enrolment names.

        Raises:
            InvitationError: unknown, used or expired secret, or another consortium.
            EntryError, SignatureError: the enrolment is not sound.
        """
        ...


class TrainerService(Protocol):
    """A member's node, as its own Flower child sees it."""

    async def begin(
        self, job: bytes, round_number: int, digest: bytes, model_sha256: bytes, *, needs_table: bool
    ) -> Begin: ...

    async def mask(
        self, job: bytes, round_number: int, model_sha256: bytes, vector: npt.NDArray[np.uint32]
    ) -> npt.NDArray[np.uint32]: ...


class RoundsService(Protocol):
    """The coordinator's node, as its own ServerApp child sees it."""

    async def open(
        self, job: bytes, round_number: int, roster: Sequence[bytes], model_sha256: bytes, length: int
    ) -> None: ...

    async def sum(self, job: bytes, round_number: int, masked: dict[bytes, npt.NDArray[np.uint32]]) -> RoundSum: ...

    async def finish(self, job: bytes, outcome: bytes) -> None: ...


class ControlService(Protocol):
    """A node's local control. Every method answers with a document; refusals are ConsortiumErrors."""

    async def status(self) -> Json:
        """{consortium, genesis, legal_name, member, fingerprint, role: coordinator|member, version, paused, connected,
        alarm: null or {text, evidence (path), proved}, ledger: {size, root}, members: n, jobs: {open, done, refused}};
        the coordinator adds attending: [member hex]."""
        ...

    async def pause(self) -> Json:
        """{paused: true}: from now on nothing is decided and nothing is sent."""
        ...

    async def resume(self) -> Json:
        """{paused: false}"""
        ...

    async def invite(self, legal_name: str, valid_hours: int) -> Json:
        """The invitation document: {consortium, genesis (hex hash), enrolment_address, address, server_pin (hex SHA-256
        of the server key), secret (hex), legal_name, expires (seconds since the epoch)}. Coordinator only."""
        ...

    async def list_members(self) -> Json:
        """{members: [{member, fingerprint, legal_name, sector, size, owner_group, role, accepted, attending,
        since}]}"""
        ...

    async def accept_member(self, fingerprint: str) -> Json:
        """The member that was accepted, as in list_members."""
        ...

    async def offer_dataset(self, path: Path, descriptor: Path, policy: Path, rho_micro: int, delta: str) -> Json:
        """{dataset, lineage, index, row_count_band, policy_sha256, columns, problems: {...}}"""
        ...

    async def list_datasets(self) -> Json:
        """The catalogue: {datasets: [{member, legal_name, dataset, lineage, sector, grade, row_count_band, columns:
        [{name, type, unit, lower, upper}], privacy_unit, budget, policy_sha256, own}]}"""
        ...

    async def show_budget(self) -> Json:
        """{accounts: [{lineage, dataset, cap_rho_micro, spent_rho_micro, left_rho_micro, delta, unbounded, spends:
        [{job, round, rho_micro}]}]} of this node's own datasets."""
        ...

    async def close_rounds(self) -> Json:
        """{closed: n}: rounds left unfinished no longer count against their requester; what they cost stays spent."""
        ...

    async def check_policy(self, policy: Path) -> Json:
        """{policy_sha256, clauses: [{id, reason}]}"""
        ...

    async def seat_committee(self, members: Sequence[str]) -> Json:
        """{committee: [member], quorum, index}: the first committee of witnesses. Coordinator only."""
        ...

    async def catalogue_app(self, name: str, fab: bytes) -> Json:
        """{name, digest, index}. Coordinator only."""
        ...

    async def approve_app(self, digest: str) -> Json:
        """{digest, index}: this node's steward approves an app of the catalogue."""
        ...

    async def explain_job(self, job: Json) -> Json:
        """{members: [{member, legal_name, dataset, permitted, clauses: [{id, reason}]}], would_run};
        reserves nothing."""
        ...

    async def submit_job(self, job: Json) -> Json:
        """{job (hex id), index}; the job goes on in the background, see watch_job."""
        ...

    def watch_job(self, job: str) -> AsyncIterator[Json]:
        """Progress documents {job, state: deciding|running|done|refused|aborted|failed, step, done, of, text}; the last
        one has state done|refused|aborted|failed and `result` (the result document), or `refusals`: [{member,
        legal_name, clauses: [{id, reason}]}], or `reason`."""
        ...

    async def abort_job(self, job: str) -> Json:
        """{job, state: aborted}: stops it everywhere, for real."""
        ...

    async def list_jobs(self) -> Json:
        """{jobs: [{job, index, kind, purpose, state, members, result_sha256}]}"""
        ...

    async def export_ledger(self, folder: Path) -> Json:
        """{folder, size, root, transcripts, transcripts_elsewhere}: what an auditor needs, as files.

        Only the coordinator keeps transcripts; a member counts those of the sums in its copy as elsewhere.
        """
        ...

    async def save_checkpoint(self, path: Path) -> Json:
        """{path, size, root}: the checkpoint that this member last verified."""
        ...

    async def list_entries(self, start: int, limit: int) -> Json:
        """{size, entries: [{index, kind, author, legal_name, leaf, void, summary}]}"""
        ...

    async def show_credits(self) -> Json:
        """{accounts: [{account, legal_name, balance}], settlements: [{job, index, amount, postings}], scores: [...]}"""
        ...

    async def settle(self, job: str, amount: str) -> Json:
        """{job, index, amount, postings: [{account, amount}], scores: [...]}. Coordinator only."""
        ...

    async def propose(self, change: Json, from_index: int) -> Json:
        """Proposes a change, {type, ...}; a member in it may be named by fingerprint or id. The proposal, as in
        list_proposals."""
        ...

    async def vote(self, proposal: str, choice: str) -> Json:
        """Votes for or against a proposal (its id or the beginning of it); the proposal, as in list_proposals."""
        ...

    async def list_proposals(self) -> Json:
        """{proposals: [{proposal, index, author, legal_name, change, text, from_index, outcome: open|accepted|rejected|
        effective|failed, for, against, electorate, needed, decided, effect, failure, votes: [{member, legal_name,
        choice: for|against|null, index}]}]}"""
        ...

    async def rotate_key(self) -> Json:
        """{member, public_key, fingerprint, index}: this node's member signs with a new ledger key from now on."""
        ...

    async def erase(self, member: str) -> Json:
        """{member, legal_name, contact_sha256, erased}: this node's copy of the member's contact record is gone."""
        ...
