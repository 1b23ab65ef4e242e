"""Who may make which call: one rule for each RPC path; a path without a rule is denied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum

from grpc import aio

from consortium.errors import LimitError, NotAuthorisedError
from node.identity import spki_sha256_of_pem
from node.log import log


class Rule(Enum):
    """What a caller must be."""

    MEMBER = "an admitted member, by the TLS key of its signed enrolment"
    INVITED = "anybody; the call itself asks for an invitation's secret"
    LOCAL = "a process of this machine that may enter the node's 0700 folder"
    PUBLIC = "anybody who got as far as the listener"


_SERVICES: Mapping[str, tuple[Rule, tuple[str, ...]]] = {
    "consortium.v1.Ledger": (Rule.MEMBER, ("Append", "AppendEach", "Follow")),
    "consortium.v1.Witness": (Rule.MEMBER, ("Attend",)),
    "consortium.v1.Exchange": (Rule.MEMBER, ("Attend",)),
    "consortium.v1.Enrolment": (Rule.INVITED, ("Redeem",)),
    "consortium.v1.Trainer": (Rule.LOCAL, ("Begin", "Mask")),
    "consortium.v1.Rounds": (Rule.LOCAL, ("Open", "Sum", "Finish")),
    "consortium.v1.Control": (
        Rule.LOCAL,
        (
            *("Status", "Pause", "Resume", "Invite", "ListMembers", "AcceptMember", "OfferDataset", "ListDatasets"),
            *(
                "ShowBudget",
                "CloseRounds",
                "CheckPolicy",
                "SeatCommittee",
                "CatalogueApp",
                "ApproveApp",
                "ExplainJob",
                "SubmitJob",
                "WatchJob",
            ),
            *("AbortJob", "ListJobs", "ExportLedger", "SaveCheckpoint", "ListEntries", "ShowCredits", "Settle"),
            *("Propose", "Vote", "ListProposals", "RotateKey", "Erase"),
        ),
    ),
    "grpc.health.v1.Health": (Rule.PUBLIC, ("Check", "Watch")),
    "grpc.reflection.v1alpha.ServerReflection": (Rule.LOCAL, ("ServerReflectionInfo",)),
}
RULES: Mapping[str, Rule] = {
    f"/{service}/{method}": rule for service, (rule, methods) in _SERVICES.items() for method in methods
}

MemberOfKey = Callable[[bytes], bytes | None]
"""SPKI SHA-256 (32 bytes) of a TLS key -> key id of the admitted member whose enrolment names it, or None."""

CALLER: ContextVar[bytes | None] = ContextVar("CALLER", default=None)
"""The key id of the member that makes the present call; None where the rule is not MEMBER."""


def nobody(_key_sha256: bytes) -> None:
    """The MemberOfKey of listeners that serve no member."""


class Admission:
    """Applies the rules at one listener and counts the open calls of each member."""

    def __init__(self, serves: frozenset[Rule], member_of_key: MemberOfKey, streams_per_member_max: int) -> None:
        self._serves = serves
        self._member_of_key = member_of_key
        self._streams_max = streams_per_member_max
        self._open: Counter[bytes] = Counter()

    @contextmanager
    def admitted(self, method: str, context: aio.ServicerContext[object, object]) -> Iterator[Callable[[], None]]:
        """Lets one call in and, while it runs, holds its caller in CALLER.

        What it gives raises NotAuthorisedError once the caller is no longer what the call needs: a stream may be open
        when its member is suspended.

        Raises:
            NotAuthorisedError: no rule, a rule that this listener does not serve, or not an admitted member.
            LimitError: the member has too many calls open.
        """
        rule = RULES.get(method)
        if rule is None or rule not in self._serves or (rule is Rule.LOCAL and not _is_local(context)):
            log("rpc.denied", method=method)
            raise NotAuthorisedError("This call is not served here.", mend="Use the address that serves it.")
        key_sha256 = _key_of(context) if rule is Rule.MEMBER else None
        member = self._member(method, key_sha256) if rule is Rule.MEMBER else None
        CALLER.set(member)  # never reset: gRPC runs each call in a context of its own
        with self._counted(member):
            yield lambda: self._recheck(method, key_sha256) if rule is Rule.MEMBER else None

    def _recheck(self, method: str, key_sha256: bytes | None) -> None:
        self._member(method, key_sha256)

    def _member(self, method: str, key_sha256: bytes | None) -> bytes:
        member = self._member_of_key(key_sha256) if key_sha256 is not None else None
        if member is None:
            log("rpc.not-admitted", method=method, spki_sha256=key_sha256.hex() if key_sha256 else None)
            raise NotAuthorisedError(
                "The certificate's key is not that of an admitted member.",
                mend="Join first; if you joined, ask the coordinator whether your enrolment was admitted.",
            )
        return member

    @contextmanager
    def _counted(self, member: bytes | None) -> Iterator[None]:
        if member is None:
            yield
            return
        if self._open[member] >= self._streams_max:
            raise LimitError(
                f"The member has {self._streams_max} calls open, which is the limit.", mend="End one, or wait."
            )
        self._open[member] += 1
        try:
            yield
        finally:
            self._open[member] -= 1
            if not self._open[member]:
                del self._open[member]


def _key_of(context: aio.ServicerContext[object, object]) -> bytes | None:
    """SPKI SHA-256 of the key that the caller's TLS connection was made with; None without exactly one certificate."""
    certificates = list(context.auth_context().get("x509_pem_cert", ()))
    return spki_sha256_of_pem(certificates[0]) if len(certificates) == 1 else None


def _is_local(context: aio.ServicerContext[object, object]) -> bool:
    return context.peer().startswith("unix:")
