"""The node's own verified copy of the log, and the state that follows from it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from consortium.errors import CheckpointError, ForkError, StaleError
from consortium.ledger.checkpoint import Checkpoint
from consortium.ledger.entry import Head, read_entry
from consortium.ledger.merkle import EMPTY_ROOT, verify_consistency
from consortium.replay import Replay, Step
from consortium.state import State
from node.ports import LedgerStore, StoredEntry
from node.services.api import AddCheckpoint, Batch

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
        self._genesis = genesis
        self._store = store
        self._origin = str(read_entry(genesis).body["origin"])
        self._replay = Replay()
        self._steps: list[Step] = []
        self._stored = 0
        self._waiting: list[bytes] = []  # fed to the replay, not yet stored
        self._acknowledged: Acknowledged | None = None
        self._grown = asyncio.Condition()
        self._growing = asyncio.Lock()

    @property
    def origin(self) -> str:
        """The identity of the log."""
        return self._origin

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
        """Replays what is stored; it counts as acknowledged if its checkpoint has its quorum.

        Raises:
            ForkError: the stored log begins with another genesis, or is not what its checkpoint covers.
            CheckpointError: the stored checkpoint is not the log's.
        """
        note = await self._store.checkpoint()
        if note is None:
            return
        size = await self._store.size()
        for start in range(0, size, BATCH_ENTRIES_MAX):
            self._take(await self._store.entries(start, min(start + BATCH_ENTRIES_MAX, size)))
        self._waiting, self._stored = [], self.size
        self._replay.check_signed(note)
        try:
            self._acknowledged = Acknowledged(self._replay.check_head(note), note)
        except CheckpointError:
            self._acknowledged = None  # a witness stores heads before they have their quorum

    async def extend(self, batch: Batch) -> None:
        """Takes acknowledged entries from the sequencer, after checking that they extend what is here.

        Raises:
            CheckpointError: the checkpoint is not the log's, or has no quorum.
            ForkError: the checkpoint does not cover what is here and the new entries; the copy stops growing.
        """
        async with self._growing:
            if batch.start > self.size:
                raise ForkError("The sequencer left entries out.", where=f"index {self.size}", mend=FORK_ADVICE)
            self._take(batch.frames[self.size - batch.start :])
            if batch.checkpoint:
                checkpoint = self._replay.check_head(batch.checkpoint)
                if checkpoint.size == self.size:
                    await self._keep(batch.checkpoint)
                await self._acknowledge(Acknowledged(checkpoint, batch.checkpoint))

    async def prepare(self, asked: AddCheckpoint) -> None:
        """Stores entries that a witness is asked to cosign, after verifying them and the consistency proof.

        Raises:
            StaleError: the request begins at another size than this copy's (C2SP tlog-witness, 409).
            ProofError, CheckpointError, ForkError: the proof, the checkpoint or the entries do not fit (422).
        """
        async with self._growing:
            if asked.old_size != self.size:
                raise StaleError("The checkpoint starts at another size.", where=f"size {self.size}")
            old_root = self._replay.root
            self._take(asked.frames)
            checkpoint = self._replay.check_signed(asked.checkpoint)
            verify_consistency(asked.old_size, checkpoint.size, list(asked.proof), old_root, checkpoint.root)
            if checkpoint.size != self.size:
                raise ForkError("The checkpoint does not cover the entries beside it.", mend=FORK_ADVICE)
            await self._keep(asked.checkpoint)

    async def offer(self, frames: Sequence[bytes], sign: Callable[[Checkpoint], bytes]) -> list[Step]:
        """The sequencer's own growth: stores the entries without fault under one signed checkpoint.

        They are acknowledged by `acknowledge`, once that checkpoint has its quorum.
        """
        async with self._growing:
            outcomes = [self._replay.offer(frame) for frame in frames]
            kept = [(frame, step) for frame, step in zip(frames, outcomes, strict=True) if step.fault is None]
            self._steps += [step for _, step in kept]
            self._waiting += [frame for frame, _ in kept]
            if kept:
                self._check_genesis()
                await self._keep(sign(Checkpoint(self._origin, self.size, self._replay.root)))
            return outcomes

    async def adopt(self, frames: Sequence[bytes], note: bytes) -> None:
        """Takes entries that this sequencer had signed and lost, from a witness that kept them.

        Raises:
            CheckpointError, ForkError: they are not what the log signed.
        """
        async with self._growing:
            self._take(frames)
            self._replay.check_signed(note)
            await self._keep(note)

    async def acknowledge(self, note: bytes) -> None:
        """Makes a checkpoint that has its quorum the acknowledged one."""
        await self._acknowledge(Acknowledged(self._replay.check_head(note), note))

    def signed_by_log(self, note: bytes) -> Checkpoint:
        """The checkpoint of a note that the log signed and that this copy contains; see Replay.check_signed."""
        return self._replay.check_signed(note)

    @property
    def root(self) -> bytes:
        """The root of everything in this copy, acknowledged or not."""
        return self._replay.root

    def consistency_proof(self, old_size: int, new_size: int) -> list[bytes]:
        """The RFC 6962 consistency proof between two sizes of this copy."""
        return self._replay.tree.consistency_proof(old_size, new_size)

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

        The first batch comes at once, without entries if there are none, so that the caller knows the checkpoint.

        Raises:
            ForkError: `start` is beyond the log.
        """
        if start > self.size:
            raise ForkError("The log is shorter than the caller's copy.", where=f"size {self.size}", mend=FORK_ADVICE)
        await self.wait_for_size(start)
        while True:
            acknowledged = self._acknowledged
            if acknowledged is not None:
                async for batch in self._batches_up_to(start, acknowledged):
                    yield batch
                start = acknowledged.checkpoint.size
            await self.wait_for_size(start + 1)

    async def _batches_up_to(self, start: int, acknowledged: Acknowledged) -> AsyncIterator[Batch]:
        size = acknowledged.checkpoint.size
        while True:
            end = min(size, start + BATCH_ENTRIES_MAX)
            frames = tuple(await self._store.entries(start, end))
            yield Batch(start, frames, acknowledged.note if end == size else b"")
            start = end
            if start == size:
                return

    @property
    def acknowledged_size(self) -> int:
        """How many entries are stored under a checkpoint that has its quorum."""
        return 0 if self._acknowledged is None else self._acknowledged.checkpoint.size

    def _take(self, frames: Sequence[bytes]) -> None:
        for frame in frames:
            self._steps.append(self._replay.feed(frame))
        self._waiting += frames
        if frames:
            self._check_genesis()

    async def _keep(self, note: bytes) -> None:
        """Stores what is not stored yet, under a note that covers exactly all of it."""
        entries = [StoredEntry(self._stored + offset, frame) for offset, frame in enumerate(self._waiting)]
        await self._store.append(entries, note)
        self._waiting, self._stored = [], self.size

    async def _acknowledge(self, acknowledged: Acknowledged) -> None:
        async with self._grown:
            if acknowledged.checkpoint.size >= self.acknowledged_size:
                self._acknowledged = acknowledged
                self._grown.notify_all()

    def _check_genesis(self) -> None:
        step = self._steps[0]
        if step.fault is not None or step.entry is None or step.entry.frame.data != self._genesis:
            raise ForkError("The log begins with another genesis than this node joined.", where="index 0")
