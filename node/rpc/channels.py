"""Client channels, and what a refused connection was about."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc import aio

from consortium.errors import ConfigError, ConsortiumError, UnavailableError
from node.config import MIB, split_address
from node.identity import check_tls_files, read_private
from node.rpc.errors import CODE_KEY, consortium_error, not_our_consortium

KEEPALIVE_MS = 20_000
KEEPALIVE_TIMEOUT_MS = 10_000
BACKOFF_MAX_MS = 3_000
PROBE_TIMEOUT_S = 5.0
LOCAL_BYTES_MAX = 64 * MIB

Options = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class ClientTls:
    """Files (PEM) with which a member calls: its key, its certificate, the consortium's CA certificate."""

    key: Path
    certificate: Path
    ca_certificate: Path


def client_options(receive_bytes_max: int) -> Options:
    """Limits of a client; no retries beyond gRPC's transparent ones, of calls that never reached the peer."""
    return (
        ("grpc.max_receive_message_length", receive_bytes_max),
        ("grpc.max_send_message_length", -1),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.max_reconnect_backoff_ms", BACKOFF_MAX_MS),  # two minutes by default: appends would wait for witnesses
        ("grpc.enable_http_proxy", 0),  # a proxy variable of the environment must not reroute members' traffic
        ("grpc.service_config_disable_resolution", 1),
    )


def member_channel(address: str, tls: ClientTls, receive_bytes_max: int) -> aio.Channel:
    """A mutual TLS channel to the coordinator. Must be called on the event loop; close it.

    Raises:
        ConfigError: a file is missing or does not hold what it should, or the key is open to other users.
    """
    ca_certificate, certificate = _read_certificate(tls.ca_certificate), _read_certificate(tls.certificate)
    key = read_private(tls.key)
    check_tls_files(key, certificate, ca_certificate)
    credentials = grpc.ssl_channel_credentials(ca_certificate, key, certificate)
    return aio.secure_channel(address, credentials, options=client_options(receive_bytes_max))


@asynccontextmanager
async def explained(address: str, tls: ClientTls | None = None) -> AsyncIterator[None]:
    """Turns a failed call into the ConsortiumError that it means.

    gRPC says only "socket closed" when the peer refuses our certificate, so a second handshake asks OpenSSL why.
    """
    try:
        yield
    except grpc.RpcError as error:
        refusal = consortium_error(error, address)
        if tls is not None and is_unreachable(error):
            reason = await asyncio.to_thread(probe, address, tls)
            refusal = reason if reason is not None else refusal
        raise refusal from error


@contextmanager
def explained_local(socket_path: Path) -> Iterator[None]:
    """As `explained`, for synchronous and asyncio calls on a node's unix socket."""
    try:
        yield
    except grpc.RpcError as error:
        if is_unreachable(error):
            raise UnavailableError(
                "No node serves from this folder.",
                where=str(socket_path),
                mend="Start it with `consortium serve`, or give the right folder.",
            ) from error
        raise consortium_error(error, str(socket_path)) from error


def probe(address: str, tls: ClientTls) -> ConsortiumError | None:
    """Why the coordinator does not take our connection, if certificates are the reason; None if they are not."""
    host, port = split_address(address)
    try:
        context = ssl.create_default_context(cafile=str(tls.ca_certificate))
        context.load_cert_chain(tls.certificate, tls.key)
        context.set_alpn_protocols(["h2"])
        with (
            socket.create_connection((host, port), timeout=PROBE_TIMEOUT_S) as raw,
            context.wrap_socket(raw, server_hostname=host) as secured,
        ):
            # In TLS 1.3 the server judges our certificate after our side of the handshake is done. gRPC then closes
            # without an alert; had it taken the certificate, it would have spoken first (HTTP/2 SETTINGS).
            try:
                refused = secured.recv(1) == b""
            except ConnectionResetError:
                refused = True
    except ssl.SSLError:
        refused = True
    except OSError:
        refused = False
    return not_our_consortium(address) if refused else None


def _read_certificate(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            "A certificate of this node is missing or cannot be read.",
            where=str(path),
            mend="A node gets its certificate by `consortium join`; restore it from your backup, or join again.",
        ) from error


async def cancel(call: aio.Call) -> None:
    """Ends a stream and waits until gRPC let go of it."""
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError, grpc.RpcError):
        await call.code()


def is_unreachable(error: grpc.RpcError) -> bool:
    """Whether the transport failed, as against a peer that says so."""
    call: Any = error
    metadata = dict(call.trailing_metadata() or ())
    return call.code() == grpc.StatusCode.UNAVAILABLE and CODE_KEY not in metadata
