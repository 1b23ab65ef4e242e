"""Authors that append as fast as they are answered, all in one process: one mutual TLS channel and stream each."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from consortium.encoding import Json
from consortium.ledger.checkpoint import parse_checkpoint, parse_note
from consortium.ledger.cosignature import cosigners, quorum, witness_name
from consortium.ledger.merkle import EMPTY_ROOT
from node.config import MIB
from node.rpc.channels import ClientTls, cancel, member_channel
from protos.v1 import ledger_pb2, ledger_pb2_grpc
from scripts.benches.ledger_parties import Party, World

WARM_UP_S = 3.0


@dataclass(frozen=True)
class Load:
    """What authors saw.

    Attributes:
        seconds: the span that counts, after the warm-up.
        latencies_ms: of each append that was sent and acknowledged in it.
        all: appends with those of the warm-up.
    """

    seconds: float
    latencies_ms: tuple[float, ...]
    all: int

    @property
    def rate(self) -> float:
        """Appends a second."""
        return len(self.latencies_ms) / self.seconds

    def quantile_ms(self, share: float) -> float:
        """The latency that this share of the appends did not exceed."""
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def append_for(world: World, authors: Sequence[Party], seconds: float) -> Load:
    """Lets authors append for a while, after a warm-up that does not count.

    An author signs its next entry when the last one was acknowledged, and states that checkpoint as its head. The
    quorum's cosignatures on each author's last checkpoint are verified at the end.
    """
    begin = time.perf_counter() + WARM_UP_S
    end = begin + seconds
    latencies: list[float] = []
    appends = 0

    async def write(party: Party, call: Any) -> None:
        nonlocal appends
        note = b""
        while (sent := time.perf_counter()) < end:
            frame = party.pay(world.genesis, world.job, _head(note))
            await call.write(ledger_pb2.AppendRequest(frame=frame))
            reply = await call.read()
            note = reply.checkpoint
            answered = time.perf_counter()
            appends += 1
            if sent >= begin and answered <= end:
                latencies.append((answered - sent) * 1e3)
        _check_quorum(world, note)

    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        for party in authors:
            home = party.home
            tls = ClientTls(home.tls_key, home.tls_certificate, home.ca_certificate)
            channel = await stack.enter_async_context(member_channel(world.addresses.members, tls, MIB))
            call = ledger_pb2_grpc.LedgerStub(channel).AppendEach()
            stack.push_async_callback(cancel, call)
            group.create_task(write(party, call))
    return Load(seconds, tuple(latencies), appends)


@functools.lru_cache(maxsize=16)
def _head(note: bytes) -> Json:
    if not note:
        return {"root": EMPTY_ROOT.hex(), "size": 0}
    checkpoint = parse_checkpoint(parse_note(note).text)
    return {"root": checkpoint.root.hex(), "size": checkpoint.size}


def _check_quorum(world: World, note: bytes) -> None:
    opened = parse_note(note)
    origin = parse_checkpoint(opened.text).origin
    authors = [party.author for party in world.witnesses]
    names = {witness_name(origin, author.key_id): (author.key_id, author.public_key) for author in authors}
    needed = quorum(len(names)) if names else 0
    assert len(cosigners(opened, names)) >= needed, "an append was acknowledged without its quorum"
