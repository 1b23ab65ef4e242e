"""The sequencer: gives entries their order, and acknowledges them under a signed checkpoint (group commit)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass

from consortium.errors import EntryError, NotAuthorisedError, UnavailableError
from consortium.keys import Signer
from consortium.ledger.checkpoint import Checkpoint, sign_checkpoint
from consortium.ledger.entry import read_entry
from node.services.api import Batch
from node.services.mirror import Mirror

GROUP_MAX = 1_000
GATHER_S = 0.04

Witnessed = Callable[[bytes], Awaitable[bytes]]


@dataclass(frozen=True)
class _Pending:
    frame: bytes
    leaf: bytes
    key: tuple[bytes, str]
    done: asyncio.Future[tuple[int, bytes]]


class Sequencer:
    """The LedgerService of the coordinator."""

    def __init__(self, mirror: Mirror, signer: Signer, witnessed: Witnessed) -> None:
        """Args: `witnessed` returns a note with the cosignatures of a quorum of the committee, if there is one."""
        self._mirror = mirror
        self._signer = signer
        self._witnessed = witnessed
        self._note = b""
        self._queue: asyncio.Queue[_Pending] = asyncio.Queue(maxsize=10 * GROUP_MAX)
        self._ended = False
        self._opened = asyncio.Event()

    async def append(self, caller: bytes | None, frame: bytes) -> tuple[int, bytes]:
        """Appends an entry that its own author sends; the same bytes again get the same index."""
        entry = read_entry(frame)
        if caller is not None and self._mirror.state.member_of(entry.author) != caller:
            raise NotAuthorisedError(
                "The entry is signed by another member than the one who sends it.", mend="Let its author send it."
            )
        if self._ended:
            raise _stopped()
        if not self._opened.is_set():
            raise UnavailableError("The sequencer is not open yet: it hears its witnesses.", mend="Try again.")
        done: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        await self._queue.put(_Pending(frame, entry.leaf, (entry.author, entry.key), done))
        if self._ended:  # while it waited for a place in the queue
            raise _stopped()
        return await done

    @property
    def open(self) -> bool:
        """Whether entries are sequenced."""
        return self._opened.is_set() and not self._ended

    async def follow(self, start: int) -> AsyncIterator[Batch]:
        """Entries from `start` on, once the sequencer is open: until then it may hold less than its members."""
        await self._opened.wait()
        async with aclosing(self._mirror.batches(start)) as batches:
            async for batch in batches:
                yield batch

    async def run(self) -> None:
        """Commits what waits, group by group, until cancelled; a store that fails ends the node."""
        group: list[_Pending] = []
        self._opened.set()
        try:
            sizes = (0, 0)
            while True:
                sizes = (sizes[1], len(group))
                group.clear()
                await self._gather(group, max(sizes))
                await self._decide(group)
        finally:  # nobody waits in vain for a sequencer that has ended
            self._ended = True
            while not self._queue.empty():
                group.append(self._queue.get_nowait())
            for pending in group:
                if not pending.done.done():
                    pending.done.set_exception(_stopped())

    async def _gather(self, group: list[_Pending], expected: int) -> None:
        """Fills a group with what waits. Authors who were just answered write again within milliseconds.

        So it waits a little for as many as were in one of the last two groups: a group costs every witness two commits,
        and without this half of the authors would always find the other half's group under way.
        """
        group.append(await self._queue.get())
        with suppress(TimeoutError):
            async with asyncio.timeout(GATHER_S):
                while len(group) < expected:
                    group.append(await self._queue.get())
        while len(group) < GROUP_MAX and not self._queue.empty():
            group.append(self._queue.get_nowait())

    async def _decide(self, group: list[_Pending]) -> None:
        fresh = [pending for pending in group if not self._stands(pending)]
        steps = await self._mirror.offer([pending.frame for pending in fresh], self._sign)
        if any(step.fault is None for step in steps):
            await self._mirror.acknowledge(await self._witnessed(self._note))
        for pending, step in zip(fresh, steps, strict=True):
            if step.fault is not None and not self._stands(pending) and not pending.done.done():
                pending.done.set_exception(
                    EntryError(step.fault.text, where=step.fault.code, mend="Nothing was appended; mend and sign anew.")
                )
        for pending in group:
            if not pending.done.done():
                pending.done.set_result(self._receipt(pending))

    def _stands(self, pending: _Pending) -> bool:
        earlier = self._index_of(pending)
        return earlier is not None and self._mirror.tree.leaf(earlier) == pending.leaf

    def _index_of(self, pending: _Pending) -> int | None:
        """Where the entry with its idempotency key stands; a rotation in the same group makes a key id known."""
        signed_with, key = pending.key
        state = self._mirror.state
        return state.index_of(state.member_of(signed_with), key)

    def _receipt(self, pending: _Pending) -> tuple[int, bytes]:
        index, acknowledged = self._index_of(pending), self._mirror.acknowledged
        assert index is not None
        assert acknowledged is not None
        return index, acknowledged.note

    def _sign(self, checkpoint: Checkpoint) -> bytes:
        self._note = sign_checkpoint(checkpoint, self._signer, checkpoint.origin).encode()
        return self._note


def _stopped() -> UnavailableError:
    return UnavailableError(
        "The sequencer has stopped; whether the entry stands is not known.",
        mend="Send the same bytes again when the coordinator is back.",
    )
