"""The listeners of a node: members (mutual TLS), invitations (TLS), local control and its own children (unix sockets).

Each serves only its own services; what a caller must be stands in `node.rpc.auth`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from consortium.errors import ConfigError
from node.config import Limits, split_address
from node.identity import check_tls_files
from node.rpc import servicers
from node.rpc.auth import Admission, MemberOfKey, Rule, nobody
from node.rpc.gate import Gate
from node.services import api
from protos.v1 import (
    control_pb2_grpc,
    enrolment_pb2_grpc,
    exchange_pb2_grpc,
    ledger_pb2_grpc,
    training_pb2_grpc,
    witness_pb2_grpc,
)

STOP_GRACE_S = 1.0
CALLS_MAX = 1_000
ENROLMENT_CALLS_MAX = 16
ENROLMENT_MESSAGE_BYTES_MAX = 256 << 10
CONNECTION_STREAMS_MAX = 32
KEEPALIVE_MS = 20_000
KEEPALIVE_TIMEOUT_MS = 10_000

_LEDGER = "consortium.v1.Ledger"
_EXCHANGE = "consortium.v1.Exchange"
_WITNESS = "consortium.v1.Witness"
_ENROLMENT = "consortium.v1.Enrolment"
_CONTROL = "consortium.v1.Control"
_TRAINER = "consortium.v1.Trainer"
_ROUNDS = "consortium.v1.Rounds"


@dataclass(frozen=True, repr=False)
class ServerTls:
    """PEM: the server's private key and certificate, and the CA that clients' certificates must come from."""

    key: bytes = field(repr=False)
    certificate: bytes
    ca_certificate: bytes


@dataclass(frozen=True)
class Listener:
    """A server that serves; `address` is host:port as bound, or the path of a unix socket."""

    address: str
    _server: aio.Server
    _health: Any

    async def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Refuses new calls at once, lets open ones go on for `grace_s`, then cancels them."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)


async def network_server(
    address: str,
    tls: ServerTls,
    ledger: api.LedgerService,
    exchange: api.ExchangeService,
    witnesses: api.WitnessService,
    member_of_key: MemberOfKey,
    limits: Limits,
) -> Listener:
    """Starts the coordinator's listener for members: Ledger, Exchange and health, by mutual TLS.

    Raises:
        ConfigError: the address cannot be bound, or the TLS files cannot be used.
    """

    def add(server: aio.Server) -> None:
        ledger_pb2_grpc.add_LedgerServicer_to_server(servicers.LedgerServicer(ledger), server)
        exchange_pb2_grpc.add_ExchangeServicer_to_server(servicers.ExchangeServicer(exchange), server)
        witness_pb2_grpc.add_WitnessServicer_to_server(servicers.WitnessServicer(witnesses), server)

    check_tls_files(tls.key, tls.certificate, tls.ca_certificate)
    admission = Admission(frozenset({Rule.MEMBER, Rule.PUBLIC}), member_of_key, limits.streams_per_member_max)
    credentials = grpc.ssl_server_credentials(
        [(tls.key, tls.certificate)], root_certificates=tls.ca_certificate, require_client_auth=True
    )
    server = _server(admission, limits.message_bytes_max, CALLS_MAX)
    return await _start(server, address, credentials, (_LEDGER, _EXCHANGE, _WITNESS), add)


async def enrolment_server(address: str, tls: ServerTls, enrolment: api.EnrolmentService) -> Listener:
    """Starts the coordinator's listener for invitations: Enrolment and health, by TLS without client certificates.

    Raises:
        ConfigError: the address cannot be bound, or the TLS files cannot be used.
    """

    def add(server: aio.Server) -> None:
        enrolment_pb2_grpc.add_EnrolmentServicer_to_server(servicers.EnrolmentServicer(enrolment), server)

    check_tls_files(tls.key, tls.certificate, tls.ca_certificate)
    admission = Admission(frozenset({Rule.INVITED, Rule.PUBLIC}), nobody, 0)
    credentials = grpc.ssl_server_credentials([(tls.key, tls.certificate)])
    server = _server(admission, ENROLMENT_MESSAGE_BYTES_MAX, ENROLMENT_CALLS_MAX)
    return await _start(server, address, credentials, (_ENROLMENT,), add)


async def local_server(path: Path, control: api.ControlService, limits: Limits) -> Listener:
    """Starts a node's local control on a unix socket: Control, health and reflection.

    Raises:
        ConfigError: a node serves there already, or the folder is open to other users.
    """

    def add(server: aio.Server) -> None:
        control_pb2_grpc.add_ControlServicer_to_server(servicers.ControlServicer(control), server)

    return await _start_local(path, limits.message_bytes_max, (_CONTROL,), add)


async def trainer_server(path: Path, trainer: api.TrainerService, limits: Limits) -> Listener:
    """Starts what a member's node serves to its own Flower child. Raises ConfigError as `local_server`."""

    def add(server: aio.Server) -> None:
        training_pb2_grpc.add_TrainerServicer_to_server(servicers.TrainerServicer(trainer), server)

    return await _start_local(path, limits.child_message_bytes_max, (_TRAINER,), add)


async def rounds_server(path: Path, rounds: api.RoundsService, limits: Limits) -> Listener:
    """Starts what the coordinator's node serves to its own ServerApp child. Raises ConfigError as `local_server`."""

    def add(server: aio.Server) -> None:
        training_pb2_grpc.add_RoundsServicer_to_server(servicers.RoundsServicer(rounds), server)

    return await _start_local(path, limits.child_message_bytes_max, (_ROUNDS,), add)


def _server(admission: Admission, bytes_max: int, calls_max: int) -> aio.Server:
    options = (
        ("grpc.max_receive_message_length", bytes_max),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", CONNECTION_STREAMS_MAX),
        ("grpc.so_reuseport", 0),  # else a second node on the same port would get half of the calls, silently
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
    )
    return aio.server(interceptors=(Gate(admission),), options=options, maximum_concurrent_rpcs=calls_max)


async def _start_local(
    path: Path, bytes_max: int, services: tuple[str, ...], add: Callable[[aio.Server], None]
) -> Listener:
    folder = await asyncio.to_thread(path.parent.stat)
    if folder.st_mode & 0o077:
        raise ConfigError(
            "The folder of a control socket is open to other users.", where=str(path.parent), mend="Run `chmod 700`."
        )
    await _refuse_second(path)
    admission = Admission(frozenset({Rule.LOCAL, Rule.PUBLIC}), nobody, 0)
    server = _server(admission, bytes_max, CALLS_MAX)
    reflection.enable_server_reflection(  # type: ignore[no-untyped-call]
        (*services, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME), server
    )
    listener = await _start(server, f"unix:{path}", None, services, add)
    await asyncio.to_thread(path.chmod, 0o600)
    return listener


async def _refuse_second(path: Path) -> None:
    """GRPC takes over a socket file that exists, so a second node of one folder would cut off the first."""
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except (FileNotFoundError, ConnectionRefusedError):
        return
    writer.close()
    await writer.wait_closed()
    raise ConfigError("A node serves from this folder already.", where=str(path), mend="Stop it first.")


async def _start(
    server: aio.Server,
    address: str,
    credentials: grpc.ServerCredentials | None,
    services: tuple[str, ...],
    add: Callable[[aio.Server], None],
) -> Listener:
    add(server)
    checks: Any = health.aio.HealthServicer()  # type: ignore[attr-defined]
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)  # type: ignore[no-untyped-call]
    try:
        port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    except RuntimeError as error:
        raise ConfigError(
            "The address cannot be served: it is taken, or not of this machine.",
            where=address,
            mend="See which program uses the port, or configure another address.",
        ) from error
    await server.start()
    for service in ("", *services):
        await checks.set(service, health_pb2.HealthCheckResponse.SERVING)
    return Listener(_bound(address, port), server, checks)


def _bound(address: str, port: int) -> str:
    if address.startswith("unix:"):
        return address.removeprefix("unix:")
    host, _ = split_address(address)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
