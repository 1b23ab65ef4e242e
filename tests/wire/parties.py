"""What stands behind and before the real servers in these tests: a consortium's keys, and services that are fakes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from consortium.errors import ConsortiumError, InvitationError
from consortium.ledger.merkle import leaf_hash
from node import identity
from node.config import create_home
from node.rpc.channels import ClientTls
from node.rpc.server import ServerTls
from node.services import api

GENESIS = b"the genesis frame of these tests"
CANARY = "4711.0815-canary"


@dataclass(frozen=True)
class House:
    """One consortium: its CA, its server, and a way to make members."""

    folder: Path
    ca: identity.Ca
    server_key: identity.TlsKey
    server_tls: ServerTls

    @classmethod
    def found(cls, folder: Path, name: str = "Test") -> House:
        home = create_home(folder)
        now = datetime.now(UTC)
        ca = identity.create_ca(home.ca_key, home.ca_certificate, name, now)
        key = identity.create_tls_key(home.tls_key)
        certificate = identity.server_certificate(ca, key, ["127.0.0.1"], now)
        return cls(folder, ca, key, ServerTls(key.pem, certificate, ca.certificate_pem))

    def member(self, name: str) -> Member:
        folder = self.folder / name
        folder.mkdir(mode=0o700)
        key = identity.create_tls_key(folder / "tls.pem")
        member = identity.create_ledger_key(folder / "ledger.pem").key_id
        certificate = identity.client_certificate(
            self.ca, identity.certificate_request(key, member), member, key.spki_sha256, datetime.now(UTC)
        )
        (folder / "tls.crt").write_bytes(certificate)
        (folder / "ca.crt").write_bytes(self.ca.certificate_pem)
        return Member(member, key, ClientTls(folder / "tls.pem", folder / "tls.crt", folder / "ca.crt"))


@dataclass(frozen=True)
class Member:
    id: bytes
    key: identity.TlsKey
    tls: ClientTls


@dataclass
class FakeLedger:
    """Keeps what is appended; raises `refusal` when one is set."""

    frames: list[tuple[bytes | None, bytes]] = field(default_factory=list)
    refusal: Exception | None = None
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def append(self, caller: bytes | None, frame: bytes) -> tuple[int, bytes]:
        if self.refusal is not None:
            raise self.refusal
        self.frames.append((caller, frame))
        return len(self.frames) - 1, b"checkpoint %d" % len(self.frames)

    async def follow(self, start: int) -> AsyncIterator[api.Batch]:
        try:
            yield api.Batch(start, tuple(frame for _, frame in self.frames[start:]), b"checkpoint")
            await asyncio.Event().wait()
        finally:
            self.left.set()


@dataclass
class FakeExchange:
    """Answers every message of a member with the next of `answers`."""

    heard: list[tuple[bytes, api.FromMember]] = field(default_factory=list)
    answers: list[api.ToMember] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def attend(self, member: bytes, incoming: AsyncIterator[api.FromMember]) -> AsyncIterator[api.ToMember]:
        try:
            async for message in incoming:
                self.heard.append((member, message))
                yield self.answers[len(self.heard) - 1]
        finally:
            self.left.set()


@dataclass
class FakeWitnesses:
    """Asks a witness for one answer to each of `asks`, after its position."""

    heard: list[tuple[bytes, api.WitnessSays]] = field(default_factory=list)
    asks: list[api.WitnessAsked] = field(default_factory=list)

    async def attend(self, member: bytes, incoming: AsyncIterator[api.WitnessSays]) -> AsyncIterator[api.WitnessAsked]:
        async for message in incoming:
            self.heard.append((member, message))
            if len(self.heard) > len(self.asks):
                return
            yield self.asks[len(self.heard) - 1]


@dataclass
class FakeEnrolment:
    """Redeems one secret once, for the CA of a house."""

    house: House
    secret: bytes
    key_sha256: bytes
    expired: bool = False
    genesis: bytes = GENESIS
    used: bool = False

    async def redeem(self, secret: bytes, frame: bytes, csr: bytes, contact: bytes = b"") -> api.Redeemed:
        if self.expired or self.used or secret != self.secret:
            state = "expired" if self.expired else "used"
            raise InvitationError(f"The invitation is {state}.", mend="Ask the coordinator for a new one.")
        self.used = True
        certificate = identity.client_certificate(self.house.ca, csr, bytes(32), self.key_sha256, datetime.now(UTC))
        return api.Redeemed(certificate, self.house.ca.certificate_pem, self.genesis)


class FakeTrainer:
    def __init__(self, begin: api.Begin, refusal: ConsortiumError | None = None) -> None:
        self._begin = begin
        self._refusal = refusal

    async def begin(
        self, job: bytes, round_number: int, digest: bytes, model_sha256: bytes, *, needs_table: bool
    ) -> api.Begin:
        return self._begin if needs_table else replace(self._begin, table=b"")

    async def mask(self, job: bytes, round_number: int, model_sha256: bytes, vector):
        if self._refusal is not None:
            raise self._refusal
        return vector + np.uint32(round_number)


class FakeRounds:
    def __init__(self) -> None:
        self.opened: list[tuple[bytes, int, tuple[bytes, ...], bytes, int]] = []
        self.outcomes: list[bytes] = []

    async def open(self, job, round_number, roster, model_sha256, length) -> None:
        self.opened.append((job, round_number, tuple(roster), model_sha256, length))

    async def sum(self, job, round_number, masked) -> api.RoundSum:
        total = np.sum(list(masked.values()), axis=0, dtype=np.uint32)
        return api.RoundSum(total, tuple(masked))

    async def finish(self, job: bytes, outcome: bytes) -> None:
        self.outcomes.append(outcome)


def genesis_hash() -> bytes:
    return leaf_hash(GENESIS)
