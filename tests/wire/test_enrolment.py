"""Redeeming an invitation: the pinned server, the one-time secret, and what may come back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import grpc
import pytest
from grpc import aio

from consortium.errors import ConfigError, InvitationError, LimitError, UnavailableError
from node import identity
from node.rpc.invitation import Invitation
from node.rpc.member_client import redeem
from node.rpc.server import Listener, enrolment_server
from protos.v1 import enrolment_pb2
from tests.wire.parties import FakeEnrolment, House, genesis_hash

SECRET = b"s" * 32


@dataclass(frozen=True)
class Desk:
    house: House
    listener: Listener
    service: FakeEnrolment
    key: identity.TlsKey
    csr: bytes
    invitation: Invitation


@pytest.fixture
async def desk(house: House) -> AsyncIterator[Desk]:
    key = identity.create_tls_key(house.folder / "new.pem")
    service = FakeEnrolment(house, SECRET, key.spki_sha256)
    listener = await enrolment_server("127.0.0.1:0", house.server_tls, service)
    invitation = Invitation(
        consortium="Test",
        genesis=genesis_hash(),
        enrolment_address=listener.address,
        address="127.0.0.1:1",
        fleet_address="127.0.0.1:2",
        server_pin=house.server_key.spki_sha256,
        secret=SECRET,
        legal_name="New Ltd",
        expires=2_000_000_000,
    )
    yield Desk(house, listener, service, key, identity.certificate_request(key, bytes(32)), invitation)
    await listener.stop(0)


async def test_an_invitation_is_redeemed_without_a_client_certificate(desk):
    redeemed = await redeem(desk.invitation, b"frame", desk.csr)
    assert identity.spki_sha256_of_pem(redeemed.certificate) == desk.key.spki_sha256
    assert redeemed.ca_certificate == desk.house.ca.certificate_pem


async def test_a_wrong_pin_stops_before_the_secret_is_sent(desk):
    with pytest.raises(InvitationError, match="Another server"):
        await redeem(replace(desk.invitation, server_pin=bytes(32)), b"frame", desk.csr)
    assert not desk.service.used


async def test_the_pin_counts_and_not_the_name_in_the_address(desk):
    elsewhere = await enrolment_server("127.0.0.2:0", desk.house.server_tls, desk.service)
    await redeem(replace(desk.invitation, enrolment_address=elsewhere.address), b"frame", desk.csr)
    await elsewhere.stop(0)


async def test_nobody_at_the_address(desk, dead_address):
    with pytest.raises(UnavailableError, match="not reachable") as caught:
        await redeem(replace(desk.invitation, enrolment_address=dead_address), b"frame", desk.csr)
    assert caught.value.where == dead_address


async def test_an_expired_invitation_is_refused(desk):
    desk.service.expired = True
    with pytest.raises(InvitationError, match="expired"):
        await redeem(desk.invitation, b"frame", desk.csr)


async def test_an_invitation_works_once(desk):
    await redeem(desk.invitation, b"frame", desk.csr)
    with pytest.raises(InvitationError, match="used"):
        await redeem(desk.invitation, b"frame", desk.csr)


async def test_a_server_of_another_consortium_is_noticed_by_its_genesis(desk):
    desk.service.genesis = b"another genesis"
    with pytest.raises(InvitationError, match="another consortium"):
        await redeem(desk.invitation, b"frame", desk.csr)


async def test_a_certificate_for_another_key_is_not_taken(desk):
    other = identity.create_tls_key(desk.house.folder / "other.pem")
    desk.service.key_sha256 = other.spki_sha256
    with pytest.raises(InvitationError, match="another key than the enrolment"):
        await redeem(desk.invitation, b"frame", desk.csr)


async def test_a_certificate_of_another_ca_is_not_taken(desk, tmp_path):
    foreign = House.found(tmp_path / "foreign").ca
    desk.service.house = replace(desk.house, ca=replace(foreign, certificate=desk.house.ca.certificate))
    with pytest.raises(InvitationError, match="not for this node's key, or not from"):
        await redeem(desk.invitation, b"frame", desk.csr)


async def raw_call(desk: Desk, method: str, message: bytes) -> grpc.StatusCode:
    credentials = grpc.ssl_channel_credentials(desk.house.ca.certificate_pem)
    async with aio.secure_channel(desk.listener.address, credentials) as channel:
        call = channel.unary_unary(method)(message, timeout=10)
        return await call.code()


@pytest.mark.parametrize(
    "method",
    [
        "/consortium.v1.Ledger/Append",
        "/consortium.v1.Exchange/Attend",
        "/consortium.v1.Control/Status",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ],
)
async def test_the_listener_serves_nothing_else(desk, method):
    assert await raw_call(desk, method, b"") == grpc.StatusCode.UNIMPLEMENTED


async def test_malformed_and_oversized_messages_are_refused(desk):
    redeem_path = "/consortium.v1.Enrolment/Redeem"
    assert await raw_call(desk, redeem_path, b"\xff\xff") == grpc.StatusCode.INVALID_ARGUMENT
    assert await raw_call(desk, redeem_path, bytes(300 << 10)) == grpc.StatusCode.RESOURCE_EXHAUSTED
    long_secret = enrolment_pb2.RedeemRequest(secret=bytes(65)).SerializeToString()
    assert await raw_call(desk, redeem_path, long_secret) == grpc.StatusCode.RESOURCE_EXHAUSTED
    with pytest.raises(LimitError):
        await redeem(desk.invitation, bytes(65_536), desk.csr)
    assert not desk.service.used


async def test_a_taken_address_is_explained(desk):
    with pytest.raises(ConfigError, match="cannot be served") as caught:
        await enrolment_server(desk.listener.address, desk.house.server_tls, desk.service)
    assert caught.value.where == desk.listener.address
