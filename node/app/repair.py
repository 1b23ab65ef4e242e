"""Refills a node's log from what others verified, after its database lost, changed or forgot entries.

A coordinator serves nobody meanwhile, but hears its witnesses as at every start; a member asks the coordinator. What
comes is verified from the genesis on, and compared with the head file, before a row is written.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from consortium.encoding import Json
from consortium.errors import ForkError, UnavailableError
from consortium.ledger.checkpoint import Checkpoint
from consortium.ledger.cosignature import hearing
from consortium.ledger.entry import Head
from consortium.replay import Replay
from node.config import NodeConfig, node_home, read_config
from node.coordinator.opening import fetch_range
from node.coordinator.witnesses import Witnesses
from node.identity import load_ca, load_ledger_key, load_tls_key
from node.log import close_log, log, log_refusal, open_log
from node.ports import StoredEntry
from node.rpc.channels import ClientTls
from node.rpc.member_client import CoordinatorClient
from node.rpc.server import ServerTls, network_server
from node.services.api import Batch, FromMember, Position, ToMember
from node.services.mirror import Mirror
from node.store.database import take_lock
from node.store.rebuilding import rebuild, stored_head

SHOW_S = 60.0
FORKED = "Keep the folder as evidence and settle with the other members which log stands; no repair can."

Say = Callable[[str], None]


@dataclass(frozen=True)
class Found:
    """A verified log, its signed note, and how many members vouched for it."""

    frames: list[bytes]
    note: bytes
    head: Head
    heard: int


async def repair(home: Path, say: Say) -> Json:
    """{role, size, root, heard, behind, damaged, lost}.

    What the log holds now, how many members were heard, how many entries the head file knew of that nobody else had
    seen, where the damaged file is kept, and which other tables were lost with it.

    Raises:
        ConfigError: no node there, it runs, or its other tables cannot be kept.
        ForkError: what others hold contradicts what this node signed or stored; nothing was changed.
        UnavailableError: the coordinator does not show the log.
    """
    config = read_config(node_home(home))
    lock = take_lock(config.home.database.with_name(config.home.database.name + ".lock"))
    open_log(config.home.logs)
    try:
        known = await asyncio.to_thread(stored_head, config.home.database)
        found = await (_heard if config.role == "coordinator" else _followed)(config, known, say)
        day = datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ")
        rebuilt = await asyncio.to_thread(
            rebuild,
            config.home.database,
            config.database,
            found.frames,
            found.note,
            found.head,
            may_forget=config.role == "coordinator",
            day=day,
        )
        log("ledger.repaired", size=found.head.size, members=found.heard)
    finally:
        close_log()
        os.close(lock)
    return {
        "role": config.role,
        "size": found.head.size,
        "root": found.head.root.hex(),
        "heard": found.heard,
        "behind": max(known.size - found.head.size, 0) if known else 0,
        "damaged": rebuilt.damaged,
        "lost": list(rebuilt.lost),
    }


class _NoStore:
    """Where nothing is stored yet."""

    async def append(self, _entries: Sequence[StoredEntry], _checkpoint: bytes) -> None:
        raise _closed()

    async def size(self) -> int:
        return 0

    async def entries(self, _start: int, _end: int) -> list[bytes]:
        raise _closed()

    async def checkpoint(self) -> bytes | None:
        return None

    async def leaf_hashes(self) -> list[bytes]:
        return []


class _Closed:
    """The services that wait until the log is whole."""

    async def append(self, _caller: bytes | None, _frame: bytes) -> tuple[int, bytes]:
        raise _closed()

    def follow(self, _start: int) -> AsyncIterator[Batch]:
        return _nothing()

    def attend(self, _member: bytes, _incoming: AsyncIterator[FromMember]) -> AsyncIterator[ToMember]:
        return _nothing()


async def _nothing() -> AsyncGenerator[Any, None]:
    none: tuple[Any, ...] = ()
    for item in none:
        yield item
    raise _closed()


def _closed() -> UnavailableError:
    return UnavailableError("The coordinator's log is being repaired.", mend="Try again later.")


async def _heard(config: NodeConfig, known: Head | None, say: Say) -> Found:
    """What the witnesses hold, once enough of them are heard."""
    mirror = Mirror(_NoStore(), config.home.genesis.read_bytes())
    async with _listening(config, mirror) as witnesses:
        tried: frozenset[bytes] = frozenset()
        while True:
            heard = await _newly(witnesses, tried)
            tried = frozenset(heard)
            longest = max(heard, key=lambda caller: heard[caller].size)
            try:
                replay, frames = await _fetched(witnesses, longest, heard[longest], config.home.genesis.read_bytes())
            except UnavailableError as error:
                log_refusal("repair.dismissed", error, spki_sha256=longest.hex())
                await witnesses.dismiss(longest)
                tried = frozenset()
                continue
            _compare(replay, heard, known, mirror)
            missing = _missing(replay, heard, known)
            if not missing:
                head = Head(replay.state.size, replay.root)
                return Found(frames, heard[longest].checkpoint, head, len(heard))
            say(f"{len(heard)} members are heard, and a log of {replay.state.size} entries; {missing} more are needed.")


async def _newly(witnesses: Witnesses, tried: frozenset[bytes]) -> dict[bytes, Position]:
    """Everybody, once somebody is there who was not tried."""
    await witnesses.wait_until(lambda: not witnesses.everybody().keys() <= tried)
    return witnesses.everybody()


@asynccontextmanager
async def _listening(config: NodeConfig, mirror: Mirror) -> AsyncIterator[Witnesses]:
    """The members' listener, for witnesses only.

    Which members they are is known when their log is: until then their TLS keys name them.
    """
    home = config.home
    tls_key, ca = load_tls_key(home.tls_key), load_ca(home.ca_key, home.ca_certificate)
    tls = ServerTls(tls_key.pem, home.tls_certificate.read_bytes(), ca.certificate_pem)
    closed = _Closed()
    witnesses = Witnesses(mirror, _NoStore(), load_ledger_key(home.ledger_key))
    listener = await network_server(
        config.addresses.members, tls, closed, closed, witnesses, lambda key_sha256: key_sha256, config.limits
    )
    try:
        yield witnesses
    finally:
        await listener.stop()


async def _fetched(
    witnesses: Witnesses, caller: bytes, position: Position, genesis: bytes
) -> tuple[Replay, list[bytes]]:
    """The whole log of one member, verified. Raises UnavailableError if it is not what its head covers."""
    frames = await fetch_range(witnesses, caller, 0, position.size)
    replay = await asyncio.to_thread(_replayed, frames, genesis)
    try:
        checkpoint = replay.check_signed(position.checkpoint)
    except ForkError as error:
        raise UnavailableError("The member sent other entries than those that its head covers.") from error
    if checkpoint.size != replay.state.size:
        raise UnavailableError("The member sent other entries than those that its head covers.")
    return replay, frames


def _replayed(frames: Sequence[bytes], genesis: bytes) -> Replay:
    if not frames or frames[0] != genesis:
        raise UnavailableError("The member holds no log of this consortium.")
    replay = Replay()
    for frame in frames:
        replay.feed(frame)
    return replay


def _compare(replay: Replay, heard: Mapping[bytes, Position], known: Head | None, mirror: Mirror) -> None:
    """Everything that this node signed and somebody holds, and its own head file, must be of one log."""
    heads: list[Head | Checkpoint] = [found for found in map(mirror.head_of, heard.values()) if found is not None]
    if known is not None:
        heads.append(known)
    for head in heads:
        if head.size <= replay.state.size and replay.tree.root(head.size) != head.root:
            raise ForkError("This node signed two different logs.", where=f"size {head.size}", mend=FORKED)


def _missing(replay: Replay, heard: Mapping[bytes, Position], known: Head | None) -> int:
    """How many more must be heard.

    If the head file knows of more than anybody, all witnesses; without a committee, all members: nobody else could know
    of entries that were signed.
    """
    state, size = replay.state, replay.state.size
    callers = {member.id for member in state.members.values() if member.tls_key_sha256 in heard}
    behind = known is not None and known.size > size
    committees = state.committees_at(size)
    if not committees:
        return len(state.voters() - callers)
    return max(
        0,
        *(
            (len(found.members) if behind else hearing(len(found.members))) - len(callers & set(found.members))
            for found in committees
        ),
    )


async def _followed(config: NodeConfig, known: Head | None, say: Say) -> Found:
    """What the coordinator shows, under a quorum of witnesses, at least as far as this node had stored."""
    home, frames = config.home, list[bytes]()
    needed = max(1, known.size if known else 0)
    tls = ClientTls(home.tls_key, home.tls_certificate, home.ca_certificate)
    note = b""
    try:
        async with CoordinatorClient(config.addresses.members, tls) as client, aclosing(client.follow(0)) as stream:
            while len(frames) < needed or not note:
                async with asyncio.timeout(SHOW_S):
                    batch = await anext(stream)
                frames += batch.frames[len(frames) - batch.start :]
                note = batch.checkpoint
                say(f"{len(frames)} entries were fetched.")
    except TimeoutError as error:
        raise UnavailableError(
            "The coordinator shows fewer entries than this node had stored.",
            where=f"{len(frames)} of {needed}",
            mend="Ask it to run; if that lasts, compare checkpoints with the other members.",
        ) from error
    replay = await asyncio.to_thread(_replayed, frames, home.genesis.read_bytes())
    checkpoint = replay.check_head(note)
    if checkpoint.size != len(frames) or (known and replay.tree.root(known.size) != known.root):
        raise ForkError("The coordinator shows another log than this node had stored.", mend=FORKED)
    return Found(frames, note, Head(checkpoint.size, checkpoint.root), 1)
