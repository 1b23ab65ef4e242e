"""Every call has a rule, every listener serves its own calls only, and what lacks a rule is denied."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

import protos.v1
from node.config import Limits, create_home
from node.rpc.auth import RULES, Admission, Rule, nobody
from node.rpc.channels import member_channel
from node.rpc.gate import Gate
from node.rpc.server import Listener, enrolment_server, local_server, network_server, rounds_server, trainer_server
from node.services import api
from tests.wire.parties import FakeEnrolment, FakeExchange, FakeLedger, FakeRounds, FakeTrainer, FakeWitnesses, House

HEALTH = "grpc.health.v1.Health"
REFLECTION = "grpc.reflection.v1alpha.ServerReflection"
NOTHING = api.Begin(permitted=False, code="", table=b"", plan=None)


def all_methods() -> set[str]:
    """Every RPC path in protos/, of health and of reflection."""
    modules = [
        importlib.import_module(f"protos.v1.{module.name}") for module in pkgutil.iter_modules(protos.v1.__path__)
    ]
    files = [module.DESCRIPTOR for module in modules if hasattr(module, "DESCRIPTOR")]
    services = [
        service
        for file in [*files, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR]
        for service in file.services_by_name.values()
    ]
    return {f"/{service.full_name}/{method.name}" for service in services for method in service.methods}


def test_every_call_has_a_rule_and_every_rule_a_call():
    methods = all_methods()
    assert len(methods) > 30
    assert methods == set(RULES)


def test_what_only_this_machine_may_call_is_all_of_control_and_the_children():
    local = {path for path, rule in RULES.items() if rule is Rule.LOCAL}
    assert {path.split("/")[1] for path in local} == {
        "consortium.v1.Control",
        "consortium.v1.Trainer",
        "consortium.v1.Rounds",
        REFLECTION,
    }


@asynccontextmanager
async def network(house: House) -> AsyncIterator[tuple[Listener, Callable[[], aio.Channel]]]:
    member = house.member("m")
    members = {member.key.spki_sha256: member.id}
    tls = house.server_tls
    listener = await network_server(
        "127.0.0.1:0", tls, FakeLedger(), FakeExchange(), FakeWitnesses(), members.get, Limits()
    )
    yield listener, lambda: member_channel(listener.address, member.tls, 1 << 20)


@asynccontextmanager
async def enrolment(house: House) -> AsyncIterator[tuple[Listener, Callable[[], aio.Channel]]]:
    listener = await enrolment_server("127.0.0.1:0", house.server_tls, FakeEnrolment(house, b"", b""))
    credentials = grpc.ssl_channel_credentials(house.ca.certificate_pem)
    yield listener, lambda: aio.secure_channel(listener.address, credentials)


def on_socket(start: Callable[..., object]) -> Callable[[House], object]:
    @asynccontextmanager
    async def listener_on_socket(house: House) -> AsyncIterator[tuple[Listener, Callable[[], aio.Channel]]]:
        listener = await start(create_home(house.folder).run / "s.sock")  # type: ignore[misc]
        yield listener, lambda: aio.insecure_channel(f"unix:{listener.address}")

    return listener_on_socket


LISTENERS = {
    "network": (network, {"consortium.v1.Ledger", "consortium.v1.Exchange", "consortium.v1.Witness", HEALTH}),
    "enrolment": (enrolment, {"consortium.v1.Enrolment", HEALTH}),
    "control": (
        on_socket(lambda path: local_server(path, object(), Limits())),
        {"consortium.v1.Control", HEALTH, REFLECTION},
    ),
    "trainer": (
        on_socket(lambda path: trainer_server(path, FakeTrainer(NOTHING), Limits())),
        {"consortium.v1.Trainer", HEALTH, REFLECTION},
    ),
    "rounds": (
        on_socket(lambda path: rounds_server(path, FakeRounds(), Limits())),
        {"consortium.v1.Rounds", HEALTH, REFLECTION},
    ),
}


@pytest.mark.parametrize("name", LISTENERS)
async def test_a_listener_serves_its_own_calls_and_no_other(house, name):
    make, services = LISTENERS[name]
    codes = {}
    async with make(house) as (listener, channel_to), channel_to() as channel:
        for method in sorted(all_methods()):
            # Whatever is served finds that these bytes are no message; whatever is not is not there at all.
            # One batch holds the whole request: a stream's own write that meets an early refusal ends in
            # INTERNAL at the client (grpc.aio), which says nothing about the listener.
            call = channel.unary_unary(method)(b"\xff", timeout=10)
            codes[method] = await call.code()
        await listener.stop(0)
    served = {method for method, code in codes.items() if code == grpc.StatusCode.INVALID_ARGUMENT}
    assert served == {method for method in codes if method.split("/")[1] in services}
    assert {codes[method] for method in codes if method not in served} == {grpc.StatusCode.UNIMPLEMENTED}


async def answer(request: bytes, context: object) -> bytes:
    return b"reached"


async def served_on_tcp(method: str, admission: Admission) -> grpc.StatusCode:
    """The status of a call of `method` on a TCP listener without TLS that has a handler for it."""
    _, service, name = method.split("/")
    handlers = grpc.method_handlers_generic_handler(service, {name: grpc.unary_unary_rpc_method_handler(answer)})
    server = aio.server(interceptors=(Gate(admission),))
    server.add_generic_rpc_handlers((handlers,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        code = await channel.unary_unary(method)(b"", timeout=10).code()
    await server.stop(0)
    return code


async def test_a_handler_without_a_rule_is_denied():
    admission = Admission(frozenset(Rule), nobody, 1)
    assert await served_on_tcp("/consortium.v1.New/Call", admission) == grpc.StatusCode.PERMISSION_DENIED


async def test_a_handler_whose_rule_the_listener_does_not_serve_is_denied():
    admission = Admission(frozenset({Rule.PUBLIC}), nobody, 1)
    assert await served_on_tcp("/consortium.v1.Enrolment/Redeem", admission) == grpc.StatusCode.PERMISSION_DENIED


async def test_a_local_call_over_tcp_is_denied():
    admission = Admission(frozenset({Rule.LOCAL}), nobody, 1)
    assert await served_on_tcp("/consortium.v1.Control/Pause", admission) == grpc.StatusCode.PERMISSION_DENIED


async def test_a_member_call_without_a_certificate_is_denied():
    admission = Admission(frozenset({Rule.MEMBER}), lambda _key: bytes(32), 1)
    assert await served_on_tcp("/consortium.v1.Ledger/Append", admission) == grpc.StatusCode.PERMISSION_DENIED
