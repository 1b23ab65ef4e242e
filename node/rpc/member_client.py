"""What a member calls at the coordinator: the ledger, the exchange, and once, before it is one, the enrolment."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from types import TracebackType
from typing import Self

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from grpc import aio

from consortium.errors import InvitationError, UnavailableError
from consortium.ledger.merkle import leaf_hash
from node.config import MIB, split_address
from node.identity import spki_sha256, spki_sha256_of_pem
from node.rpc import convert
from node.rpc.channels import ClientTls, cancel, client_options, explained, member_channel
from node.rpc.invitation import Invitation
from node.rpc.witness import asked_from_message, says_to_message
from node.services import api
from protos.v1 import enrolment_pb2, exchange_pb2_grpc, ledger_pb2, ledger_pb2_grpc, witness_pb2, witness_pb2_grpc
from protos.v1.enrolment_pb2_grpc import EnrolmentStub
from protos.v1.exchange_pb2 import FromMember

CALL_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 10.0
BATCH_BYTES_MAX = 72 * MIB  # 1,000 entries of 65,535 bytes, their framing and a checkpoint
PINNED_HOST = "localhost"  # in every server certificate of a consortium


class CoordinatorClient:
    """A member's mutual TLS connection to the coordinator; an async context manager.

    Nothing is retried here: whether an append may be repeated, and from where to follow, its caller knows.
    """

    def __init__(self, address: str, tls: ClientTls) -> None:
        self._address = address
        self._tls = tls
        self._channel: aio.Channel | None = None

    async def __aenter__(self) -> Self:
        self._channel = member_channel(self._address, self._tls, BATCH_BYTES_MAX)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    async def append(self, frame: bytes) -> tuple[int, bytes]:
        """Appends a signed entry; returns its index and a checkpoint note that covers it.

        Raises:
            ConsortiumError: as the coordinator refused it.
            UnavailableError: not reachable, or no answer within 30 s: it is unknown then whether it was appended.
            NotAuthorisedError: our certificate is not taken there.
        """
        async with explained(self._address, self._tls):
            stub = ledger_pb2_grpc.LedgerStub(self._open())
            reply = await stub.Append(ledger_pb2.AppendRequest(frame=frame), timeout=CALL_TIMEOUT_S)
            return reply.index, reply.checkpoint

    async def follow(self, start: int) -> AsyncGenerator[api.Batch, None]:
        """Entries from `start` on as they come; ends only by an error. Raises as `append`."""
        async with explained(self._address, self._tls):
            call = ledger_pb2_grpc.LedgerStub(self._open()).Follow(ledger_pb2.FollowRequest(start=start))
            try:
                async for message in call:
                    yield convert.batch_from_message(message)
            finally:
                await cancel(call)
        raise UnavailableError("The coordinator ended the stream of entries.", where=self._address, mend="Reconnect.")

    async def attend(self, outgoing: AsyncIterator[api.FromMember]) -> AsyncGenerator[api.ToMember, None]:
        """Opens this member's stream: sends what `outgoing` yields, yields what comes. Ends when the peer ends it.

        Raises:
            ConsortiumError: as `append`; and whatever `outgoing` raised.
        """
        failures: list[Exception] = []

        async def messages() -> AsyncGenerator[FromMember, None]:
            try:
                async for value in outgoing:
                    yield convert.from_member_to_message(value)
            except Exception as error:
                failures.append(error)  # gRPC would log it and cancel the call without it
                raise

        async with explained(self._address, self._tls):
            call = exchange_pb2_grpc.ExchangeStub(self._open()).Attend(messages())
            try:
                async for message in call:
                    yield convert.to_member_from_message(message)
            except asyncio.CancelledError:
                if failures:
                    raise failures[0] from None
                raise
            finally:
                await cancel(call)

    async def witness(self, outgoing: AsyncIterator[api.WitnessSays]) -> AsyncGenerator[api.WitnessAsked, None]:
        """Opens this member's stream as a witness: sends what `outgoing` yields, yields what is asked.

        Raises:
            ConsortiumError: as `append`.
        """

        async def messages() -> AsyncGenerator[witness_pb2.WitnessSays, None]:
            async for value in outgoing:
                yield says_to_message(value)

        async with explained(self._address, self._tls):
            call = witness_pb2_grpc.WitnessStub(self._open()).Attend(messages())
            try:
                async for message in call:
                    yield asked_from_message(message)
            finally:
                await cancel(call)

    def _open(self) -> aio.Channel:
        assert self._channel is not None, "the client is used inside `async with`"
        return self._channel


async def redeem(invitation: Invitation, frame: bytes, csr: bytes, contact: bytes = b"") -> api.Redeemed:
    """Redeems an invitation at the coordinator that it pins, and checks what comes back.

    Args:
        invitation: from `read_invitation`.
        frame: the signed enrolment entry.
        csr: PKCS #10 request (DER) for the TLS key that the enrolment names.
        contact: salt and contact record whose SHA-256 the enrolment names; empty if it names none.

    Raises:
        InvitationError: another server answers at the address; it refuses the invitation; or what it returns is for
            another consortium or key.
        UnavailableError: nothing answers there.
        ConsortiumError: the coordinator refused the enrolment.
    """
    address = invitation.enrolment_address
    certificate = await asyncio.to_thread(_pinned_certificate, address, invitation.server_pin)
    # This certificate, checked against the pin, is the only root, so its name and issuer no longer matter.
    credentials = grpc.ssl_channel_credentials(root_certificates=certificate)
    options = (*client_options(MIB), ("grpc.ssl_target_name_override", PINNED_HOST))
    request = enrolment_pb2.RedeemRequest(secret=invitation.secret, frame=frame, csr=csr, contact=contact)
    async with explained(address), aio.secure_channel(address, credentials, options=options) as channel:
        reply = await EnrolmentStub(channel).Redeem(request, timeout=CALL_TIMEOUT_S)
    redeemed = convert.redeemed_from_message(reply)
    _check_redeemed(invitation, csr, redeemed)
    return redeemed


def _pinned_certificate(address: str, pin: bytes) -> bytes:
    """The server's certificate (PEM), fetched without verification, if its key has the pinned hash."""
    host, port = split_address(address)
    try:
        certificate = ssl.get_server_certificate((host, port), timeout=CONNECT_TIMEOUT_S).encode()
    except OSError as error:
        raise UnavailableError(
            "The coordinator's listener for invitations is not reachable.",
            where=address,
            mend="Check that the coordinator's node runs, the address in the invitation, and the firewall between.",
        ) from error
    if spki_sha256_of_pem(certificate) != pin:
        raise InvitationError(
            "Another server than the one that the invitation pins answers at its address.",
            where=address,
            mend="Do not go on; ask the coordinator for a new invitation over a trusted path.",
        )
    return certificate


def _check_redeemed(invitation: Invitation, csr: bytes, redeemed: api.Redeemed) -> None:
    if leaf_hash(redeemed.genesis) != invitation.genesis:
        raise InvitationError(
            "The server answers for another consortium than the invitation names.",
            where=invitation.enrolment_address,
            mend="Ask the coordinator for a new invitation.",
        )
    try:
        certificate = x509.load_pem_x509_certificate(redeemed.certificate)
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(redeemed.ca_certificate))
        fits = spki_sha256(certificate) == spki_sha256(x509.load_der_x509_csr(csr))
    except (ValueError, TypeError, InvalidSignature):
        fits = False
    if not fits:
        raise InvitationError(
            "The certificate that came back is not for this node's key, or not from the consortium's CA.",
            where=invitation.enrolment_address,
            mend="Ask the coordinator's operator to look at its node.",
        )
