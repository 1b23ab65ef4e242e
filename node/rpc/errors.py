"""Refusals on the wire: one table from error class to gRPC status, and the way back at the caller."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import grpc

from consortium import errors
from consortium.errors import ConsortiumError

STATUS: Mapping[type[ConsortiumError], grpc.StatusCode] = {
    errors.ConsortiumError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.EncodingError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.LimitError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.SignatureError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ProofError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.CheckpointError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ForkError: grpc.StatusCode.DATA_LOSS,
    errors.StaleError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.EntryError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.InvitationError: grpc.StatusCode.PERMISSION_DENIED,
    errors.PolicyError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.RequestError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.DatasetError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.BudgetError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.SecureSumError: grpc.StatusCode.ABORTED,
    errors.ContributionError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.SettlementError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.PolicyRefusedError: grpc.StatusCode.PERMISSION_DENIED,
    errors.NotAuthorisedError: grpc.StatusCode.PERMISSION_DENIED,
    errors.NotFoundError: grpc.StatusCode.NOT_FOUND,
    errors.PausedError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.UnavailableError: grpc.StatusCode.UNAVAILABLE,
    errors.ConfigError: grpc.StatusCode.FAILED_PRECONDITION,
}
INTERNAL_TEXT = "The node had a fault of its own; its operator finds the detail in the node's local log."

# HTTP/2 metadata has a budget of 8 KiB for all of it (gRPC's default), and base64 adds a third.
TEXT_BYTES_MAX = 1_000
DETAILS_CHARS_MAX = 200
CODE_KEY = "consortium-code"
_TEXTS = ("what", "where", "mend")
_TLS_MARKS = ("handshake failed", "ssl_error", "certificate_verify_failed")


def status_of(error: ConsortiumError) -> grpc.StatusCode:
    """The gRPC status of a refusal; of its nearest listed base class for a class that is not listed."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def metadata_of(error: ConsortiumError) -> tuple[tuple[str, str | bytes], ...]:
    """The trailing metadata that carries a refusal, its texts cut at 1,000 bytes each."""
    texts = ((f"consortium-{name}-bin", _cut(getattr(error, name))) for name in _TEXTS)
    return ((CODE_KEY, error.code), *texts)


def consortium_error(error: grpc.RpcError, peer: str) -> ConsortiumError:
    """What a failed call means: the peer's refusal as it was raised there, or the fault of the transport.

    Args:
        error: of a synchronous or asyncio call.
        peer: address of the peer, for the text.
    """
    call: Any = error  # grpc's own stubs do not say that a raised RpcError is also a Call
    metadata = dict(call.trailing_metadata() or ())
    code = metadata.get(CODE_KEY)
    if code is not None:
        what, where, mend = (_text(metadata.get(f"consortium-{name}-bin", b"")) for name in _TEXTS)
        kind = next((kind for kind in known_errors() if kind.code == code), ConsortiumError)
        return kind(what or "The peer refused the call.", where=where, mend=mend)
    return _transport_error(call.code(), call.details() or "", peer)


def raise_from(error: grpc.RpcError, peer: str) -> NoReturn:
    """Raises `consortium_error` of a failed call."""
    raise consortium_error(error, peer) from error


def known_errors() -> Iterator[type[ConsortiumError]]:
    """ConsortiumError and every subclass that is loaded."""
    kinds: list[type[ConsortiumError]] = [ConsortiumError]
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        yield kind


def _transport_error(status: grpc.StatusCode, details: str, peer: str) -> ConsortiumError:
    if status == grpc.StatusCode.UNAVAILABLE and any(mark in details.lower() for mark in _TLS_MARKS):
        return not_our_consortium(peer)
    kind, what, mend = _TRANSPORT.get(status, _TRANSPORT[grpc.StatusCode.UNKNOWN])
    return kind(what, where=peer, mend=mend)


def not_our_consortium(peer: str) -> ConsortiumError:
    """The certificates of the two ends do not fit."""
    return errors.NotAuthorisedError(
        "The secure connection was refused: the certificate is of another consortium or missing.",
        where=peer,
        mend="Use the certificate that this node got when it joined, and the address from its invitation.",
    )


_TRANSPORT: Mapping[grpc.StatusCode, tuple[type[ConsortiumError], str, str]] = {
    grpc.StatusCode.UNAVAILABLE: (
        errors.UnavailableError,
        "The peer is not reachable, or ended the connection.",
        "Check that it runs, its address, and the firewall between.",
    ),
    grpc.StatusCode.DEADLINE_EXCEEDED: (
        errors.UnavailableError,
        "The peer did not answer in time.",
        "Try again; if it stays so, ask its operator.",
    ),
    grpc.StatusCode.CANCELLED: (errors.UnavailableError, "The call was ended before its answer.", "Call again."),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (
        errors.LimitError,
        "The message is larger than the peer takes, or it is at its limit of calls.",
        "Send less at once, or end calls that are open.",
    ),
    grpc.StatusCode.UNIMPLEMENTED: (
        errors.NotFoundError,
        "The peer does not serve this call here.",
        "Check the address, and that both ends run compatible versions.",
    ),
    grpc.StatusCode.INVALID_ARGUMENT: (
        errors.EncodingError,
        "The peer could not read the message.",
        "Check that both ends run compatible versions.",
    ),
    grpc.StatusCode.PERMISSION_DENIED: (errors.NotAuthorisedError, "The peer does not allow this call.", ""),
    grpc.StatusCode.UNAUTHENTICATED: (errors.NotAuthorisedError, "The peer does not know this caller.", ""),
    grpc.StatusCode.UNKNOWN: (
        errors.UnavailableError,
        "The peer had a fault of its own.",
        "Its operator finds the detail in its local log.",
    ),
}


def _cut(text: str) -> bytes:
    return text.encode("utf-8")[:TEXT_BYTES_MAX]


def _text(value: str | bytes | Sequence[int]) -> str:
    """A peer's text for a terminal: no control characters, bounded."""
    data = value if isinstance(value, bytes) else b""
    decoded = data[:TEXT_BYTES_MAX].decode("utf-8", errors="ignore")
    return "".join(char if char.isprintable() else " " for char in decoded)
