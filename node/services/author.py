"""Says things on the ledger: signs entries in the author's own order and sees them acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from consortium.errors import ForkError, UnavailableError
from consortium.keys import Signer
from consortium.ledger.entry import NO_PREVIOUS, Draft, Entry, write_entry
from node.services.mirror import FORK_ADVICE, Mirror

Append = Callable[[bytes], Awaitable[tuple[int, bytes]]]

RETRY_S = 0.5
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Said:
    """Where an entry stands: its index and leaf hash (which is the id of a job)."""

    index: int
    leaf: bytes


class Author:
    """One member's pen. Entries are signed one after another, each after the last was acknowledged."""

    def __init__(self, signer: Signer, mirror: Mirror, append: Append) -> None:
        """Args: `append` hands a frame to the sequencer and returns its index and a checkpoint note."""
        self._signer = signer
        self._mirror = mirror
        self._append = append
        self._lock = asyncio.Lock()
        self._saying: set[asyncio.Task[Said]] = set()

    async def say(self, draft: Draft) -> Said:
        """Appends an entry and waits until this node's own copy holds it under a checkpoint.

        Said again with the same idempotency key, it returns what stands. A lost connection is retried for a minute.
        A caller that is cancelled leaves no entry half said: it goes on, and the next one waits for it.

        Raises:
            EntryError: the sequencer refused the entry.
            UnavailableError: the sequencer was not reachable for a minute; the entry may or may not stand.
            ForkError: the sequencer acknowledged the entry and then shows another in its place.
        """
        task = asyncio.create_task(self._say(draft))
        self._saying.add(task)
        task.add_done_callback(self._saying.discard)
        return await asyncio.shield(task)

    async def _say(self, draft: Draft) -> Said:
        async with self._lock:
            self._mirror.check_going()
            state = self._mirror.state
            me = state.member_of(self._signer.key_id)
            stands = state.index_of(me, draft.key)
            if stands is not None:
                await self._mirror.wait_for_size(stands + 1)
                return Said(stands, self._mirror.tree.leaf(stands))
            sequence, previous = state.chains.get(me, (0, NO_PREVIOUS))
            entry = write_entry(
                self._signer, draft, consortium=state.genesis, head=self._mirror.head, prev=previous, seq=sequence
            )
            return await self._see_acknowledged(entry)

    async def _see_acknowledged(self, entry: Entry) -> Said:
        index, receipt = await self._appended(entry.frame.data)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._mirror.check_receipt(receipt, index)
        except TimeoutError as error:
            raise UnavailableError(
                "The sequencer acknowledged an entry and has not shown it since.",
                where=f"index {index}",
                mend="If that lasts, entries are withheld: compare checkpoints with the other members.",
            ) from error
        if self._mirror.tree.leaf(index) != entry.leaf:
            fork = ForkError(
                "The sequencer acknowledged an entry and shows another in its place.",
                where=f"index {index}",
                mend=FORK_ADVICE,
            )
            await self._mirror.stop(fork, receipt)
            raise fork
        return Said(index, entry.leaf)

    async def _appended(self, frame: bytes) -> tuple[int, bytes]:
        """The entry's index and receipt.

        A retry sends the same bytes, so that it finds what an answer that was lost is about.
        """
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            try:
                return await self._append(frame)
            except UnavailableError:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(RETRY_S)
