"""The node's own verified copy of the log, and the state that follows from it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from consortium.errors import ForkError
from consortium.ledger.checkpoint import Checkpoint, NoteKey, open_checkpoint
from consortium.ledger.entry import Head, read_entry
from consortium.ledger.merkle import EMPTY_ROOT
from consortium.replay import Replay, Step
from consortium.state import State
from node.ports import LedgerStore, StoredEntry
from node.services.api import Batch

BATCH_ENTRIES_MAX = 1_000
FORK_ADVICE = "Keep this folder as evidence, stop the node, and compare checkpoints with the other members."


@dataclass(frozen=True)
class Acknowledged:
    """The last checkpoint that was verified, and its signed note."""

    checkpoint: Checkpoint
    note: bytes


class Mirror:
    """A copy of the log that only ever grows, each growth under a verified checkpoint."""

    def __init__(self, store: LedgerStore, genesis: bytes) -> None:
        """Args: the store of the entries, and the frame of the genesis, which is trusted."""
        founder = read_entry(genesis).body
        self._genesis = genesis
        self._store = store
        self._key = NoteKey(founder["origin"], bytes.fromhex(founder["coordinator"]["public_key"]))
        self._replay = Replay()
        self._steps: list[Step] = []
        self._grown = asyncio.Condition()
        self._acknowledged: Acknowledged | None = None
        self._unacknowledged: list[bytes] = []

    @property
    def state(self) -> State:
        return self._replay.state

    @property
    def size(self) -> int:
        return self._replay.state.size

    @property
    def head(self) -> Head:
        """The last acknowledged head."""
        if self._acknowledged is None:
            return Head(0, EMPTY_ROOT)
        return Head(self._acknowledged.checkpoint.size, self._acknowledged.checkpoint.root)

    @property
    def acknowledged(self) -> Acknowledged | None:
        return self._acknowledged

    @property
    def steps(self) -> Sequence[Step]:
        """What became of each entry, by index."""
        return self._steps

    async def load(self) -> None:
        """Replays what is stored.

        Raises:
            ForkError: the stored log begins with another genesis, or is not what its checkpoint covers.
        """
        note = await self._store.checkpoint()
        if note is None:
            return
        for frame in await self._store.entries(0, await self._store.size()):
            self._steps.append(self._replay.feed(frame))
        self._check_genesis()
        self._acknowledged = self._verify(note)

    async def extend(self, batch: Batch) -> None:
        """Takes entries from the sequencer, after checking that they extend what is here.

        Raises:
            CheckpointError: the checkpoint is not the coordinator's.
            ForkError: the checkpoint does not cover what is here and the new entries; the copy stops growing.
        """
        if batch.start > self.size:
            raise ForkError("The sequencer left entries out.", where=f"index {self.size}", mend=FORK_ADVICE)
        fresh = batch.frames[self.size - batch.start :]
        for frame in fresh:
            self._steps.append(self._replay.feed(frame))
        self._unacknowledged += fresh
        if not batch.checkpoint or not self._unacknowledged:
            return
        self._check_genesis()
        acknowledged = self._verify(batch.checkpoint)
        await self._keep(self.acknowledged_size, self._unacknowledged, acknowledged)
        self._unacknowledged = []

    async def offer(self, frames: Sequence[bytes], sign: Callable[[Checkpoint], bytes]) -> list[Step]:
        """The sequencer's own growth: takes the entries without fault, signs one checkpoint for all of them."""
        known = self.acknowledged_size
        outcomes = [self._replay.offer(frame) for frame in frames]
        kept = [(frame, step) for frame, step in zip(frames, outcomes, strict=True) if step.fault is None]
        if kept:
            self._steps += [step for _, step in kept]
            self._check_genesis()
            checkpoint = Checkpoint(self._key.name, self.size, self._replay.root)
            await self._keep(known, [frame for frame, _ in kept], Acknowledged(checkpoint, sign(checkpoint)))
        return outcomes

    async def wait_for(self, reached: Callable[[], bool]) -> None:
        """Waits until a condition on the state holds; it is tried after every growth."""
        async with self._grown:
            await self._grown.wait_for(reached)

    async def wait_for_size(self, size: int) -> None:
        """Waits until at least `size` entries are acknowledged."""
        await self.wait_for(lambda: self.acknowledged_size >= size)

    async def follow(self, start: int) -> AsyncIterator[Step]:
        """What became of each acknowledged entry from `start` on, as the copy grows; never ends."""
        index = start
        while True:
            await self.wait_for_size(index + 1)
            while index < self.acknowledged_size:
                yield self._steps[index]
                index += 1

    async def batches(self, start: int) -> AsyncIterator[Batch]:
        """Entries from `start` on, as they come; only a batch that reaches the checkpoint carries it; never ends.

        Raises:
            ForkError: `start` is beyond the log.
        """
        if start > self.acknowledged_size:
            raise ForkError("The log is shorter than the caller's copy.", mend=FORK_ADVICE)
        while True:
            await self.wait_for_size(start + 1)
            acknowledged = self._acknowledged
            assert acknowledged is not None
            size = acknowledged.checkpoint.size
            while start < size:
                end = min(size, start + BATCH_ENTRIES_MAX)
                frames = tuple(await self._store.entries(start, end))
                yield Batch(start, frames, acknowledged.note if end == size else b"")
                start = end

    @property
    def acknowledged_size(self) -> int:
        """How many entries are stored under a verified checkpoint."""
        return 0 if self._acknowledged is None else self._acknowledged.checkpoint.size

    async def _keep(self, start: int, frames: Sequence[bytes], acknowledged: Acknowledged) -> None:
        entries = [StoredEntry(start + offset, frame) for offset, frame in enumerate(frames)]
        await self._store.append(entries, acknowledged.note)
        async with self._grown:
            self._acknowledged = acknowledged
            self._grown.notify_all()

    def _verify(self, note: bytes) -> Acknowledged:
        checkpoint = open_checkpoint(note, [self._key])
        if (checkpoint.origin, checkpoint.size, checkpoint.root) != (self._key.name, self.size, self._replay.root):
            raise ForkError(
                "The coordinator's checkpoint does not cover the entries that this node holds.",
                where=f"size {checkpoint.size}",
                mend=FORK_ADVICE,
            )
        return Acknowledged(checkpoint, note)

    def _check_genesis(self) -> None:
        step = self._steps[0]
        if step.fault is not None or step.entry is None or step.entry.frame.data != self._genesis:
            raise ForkError("The log begins with another genesis than this node joined.", where="index 0")
