"""The node's own verified copy of the log, and the state that follows from it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from consortium.errors import CheckpointError, ConsortiumError, ForkError, ProofError, StaleError
from consortium.evidence import Evidence, disorder, two_views
from consortium.ledger.checkpoint import Checkpoint, NoteKey, open_checkpoint
from consortium.ledger.entry import Head, read_entry
from consortium.ledger.merkle import EMPTY_ROOT, HASH_BYTES, Frontier, leaf_hash, verify_consistency
from consortium.ledger.tree import Tree
from consortium.replay import Replay, Step
from consortium.state import State
from node.ports import LedgerStore, StoredEntry
from node.services.api import AddCheckpoint, Batch, Position

BATCH_ENTRIES_MAX = 1_000
ORDER_FAULTS = frozenset({"broken-chain", "other-history"})
FORK_ADVICE = "Keep this folder as evidence, stop the node, and compare checkpoints with the other members."
REPAIR_ADVICE = (
    "Stop the node, keep its folder as evidence, and run `consortium ledger repair`: it refills the log from what the"
    " other members verified."
)


@dataclass(frozen=True)
class Acknowledged:
    """The last checkpoint that was verified, and its signed note."""

    checkpoint: Checkpoint
    note: bytes


@dataclass(frozen=True)
class Stopped:
    """Why a copy of the log stopped growing.

    Attributes:
        error: what is wrong.
        shown: the log's signed note that shows it; empty if none does.
        evidence: what proves it, if the copy alone suffices.
    """

    error: ConsortiumError
    shown: bytes
    evidence: Evidence | None


class Mirror:
    """A copy of the log that only ever grows, each growth under a verified checkpoint.

    Once it was shown something that contradicts what it holds, it stops: nothing more is taken or said.
    """

    def __init__(self, store: LedgerStore, genesis: bytes) -> None:
        """Args: the store of the entries, and the frame of the genesis, which is trusted."""
        self._genesis = genesis
        self._store = store
        founding = read_entry(genesis)
        self._origin = str(founding.body["origin"])
        self._log_key = NoteKey(self._origin, bytes.fromhex(founding.body["coordinator"]["public_key"]))
        self._replay = Replay()
        self._void: dict[int, Step] = {}  # the entries without effect, by index
        self._unstored: list[tuple[bytes, Step]] = []  # fed to the replay, not yet stored
        self._recent: deque[Step] = deque(maxlen=BATCH_ENTRIES_MAX)  # the last that were stored
        self._acknowledged: Acknowledged | None = None
        self._grown = asyncio.Condition()
        self._growing = asyncio.Lock()
        self._stopped: Stopped | None = None

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
            self._unstored.clear()
        self._replay.check_signed(note)
        try:
            self._acknowledged = Acknowledged(self._replay.check_head(note), note)
        except CheckpointError:
            self._acknowledged = None  # a witness stores heads before they have their quorum

    async def extend(self, batch: Batch) -> None:
        """Takes acknowledged entries from the sequencer, after checking that they extend what is here.

        Raises:
            CheckpointError: the checkpoint is not the log's, or has no quorum; the copy stops growing.
            ForkError: the checkpoint does not cover what is here and the new entries; the copy stops growing.
        """
        async with self._growing:
            self.check_going()
            try:
                checkpoint = self._extended(batch)
            except (CheckpointError, ForkError) as error:
                await self.stop(error, batch.checkpoint)
                raise
            if checkpoint is not None:
                if checkpoint.size == self.size:
                    await self._keep(batch.checkpoint)
                await self._acknowledge(Acknowledged(checkpoint, batch.checkpoint))

    def _extended(self, batch: Batch) -> Checkpoint | None:
        if batch.start > self.size:
            raise ForkError("The sequencer left entries out.", where=f"index {self.size}", mend=FORK_ADVICE)
        self._take(batch.frames[self.size - batch.start :])
        if not batch.checkpoint:
            return None
        self._check_begun()
        checkpoint = self._replay.check_head(batch.checkpoint)
        self._check_order()
        return checkpoint

    async def prepare(self, asked: AddCheckpoint) -> None:
        """Stores entries that a witness is asked to cosign, after verifying them and the consistency proof.

        Raises:
            StaleError: the request begins at another size than this copy's (C2SP tlog-witness, 409).
            ProofError, CheckpointError, ForkError: the proof, the checkpoint or the entries do not fit (422); the copy
                stops growing.
        """
        async with self._growing:
            self.check_going()
            if asked.old_size != self.size:
                raise StaleError("The checkpoint starts at another size.", where=f"size {self.size}")
            try:
                self._prepared(asked)
            except (ProofError, CheckpointError, ForkError) as error:
                await self.stop(error, asked.checkpoint)
                raise
            await self._keep(asked.checkpoint)

    def _prepared(self, asked: AddCheckpoint) -> None:
        head = open_checkpoint(asked.checkpoint, [self._log_key])
        verify_consistency(asked.old_size, head.size, list(asked.proof), self._replay.root, head.root)
        self._take(asked.frames)
        self._check_begun()
        if self._replay.check_signed(asked.checkpoint).size != self.size:
            raise ForkError("The checkpoint does not cover the entries beside it.", mend=FORK_ADVICE)
        self._check_order()

    async def check_receipt(self, note: bytes, index: int) -> None:
        """Waits until this copy holds all that a receipt covers, and checks that it is of this log, with its quorum.

        Raises:
            CheckpointError: not signed by the log, without its quorum, or it does not cover the index.
            ForkError: it is of other entries than this copy's; the copy stops growing.
        """
        covered = open_checkpoint(note, [self._log_key]).size
        if covered <= index:
            raise CheckpointError("The receipt does not cover the entry.", where=f"index {index}")
        await self.wait_for_size(covered)
        try:
            self._replay.check_head(note)
        except (CheckpointError, ForkError) as error:
            await self.stop(error, note)
            raise

    async def stop(self, error: ConsortiumError, shown: bytes = b"") -> None:
        """Stops the copy for good, over something that contradicts it. `shown` is the signed note that does."""
        if self._stopped is None:
            held = await self._store.checkpoint() or b""
            evidence = two_views(self._log_key, held, self._replay.tree, shown) or self._disorder(shown)
            async with self._grown:
                self._stopped = Stopped(error, shown, evidence)
                self._grown.notify_all()

    def check_going(self) -> None:
        """Raises ForkError once the copy has stopped."""
        if self._stopped is not None:
            raise ForkError(
                "This node has stopped following the log, since it contradicts itself.",
                where=self._stopped.error.where,
                mend="See `consortium status` for the alarm and the evidence.",
            )

    @property
    def log_key(self) -> NoteKey:
        """The key that signs the log's checkpoints."""
        return self._log_key

    @property
    def tree(self) -> Tree:
        """The Merkle tree of everything in this copy."""
        return self._replay.tree

    @property
    def stopped(self) -> Stopped | None:
        """Why the copy stopped, if it has."""
        return self._stopped

    async def wait_until_stopped(self) -> Stopped:
        """Waits until the copy stops over a contradiction."""
        async with self._grown:
            await self._grown.wait_for(lambda: self._stopped is not None)
        assert self._stopped is not None
        return self._stopped

    async def position(self) -> Position:
        """What is stored, and the log's note that covers it."""
        note = await self._store.checkpoint() or b""
        return Position(open_checkpoint(note, [self._log_key]).size if note else 0, note)

    def head_of(self, position: Position) -> Checkpoint | None:
        """The head that the log signed where a member says it stands; None if the member holds nothing.

        Raises:
            CheckpointError: the log signed no such head.
        """
        if not position.checkpoint and position.size == 0:
            return None
        head = open_checkpoint(position.checkpoint, [self._log_key])
        if (head.origin, head.size) != (self._origin, position.size):
            raise CheckpointError("The position is another than its checkpoint's.", where=f"size {position.size}")
        return head

    def contains(self, head: Checkpoint) -> bool:
        """Whether a head is one of this copy's."""
        return head.size <= self.size and self._replay.tree.root(head.size) == head.root

    async def offer(self, frames: Sequence[bytes], sign: Callable[[Checkpoint], bytes]) -> list[Step]:
        """The sequencer's own growth: stores the entries without fault under one signed checkpoint.

        They are acknowledged by `acknowledge`, once that checkpoint has its quorum.
        """
        async with self._growing:
            outcomes = [self._replay.offer(frame) for frame in frames]
            kept = [(frame, step) for frame, step in zip(frames, outcomes, strict=True) if step.fault is None]
            self._unstored += kept
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

    @property
    def root(self) -> bytes:
        """The root of everything in this copy, acknowledged or not."""
        return self._replay.root

    def root_at(self, size: int) -> bytes:
        """The root of the first `size` entries of this copy."""
        return self._replay.tree.root(size)

    def root_with(self, frames: Sequence[bytes]) -> bytes:
        """The root that this copy would have with more entries."""
        leaves = self._replay.tree.leaves()
        hashes = [leaves[at : at + HASH_BYTES] for at in range(0, len(leaves), HASH_BYTES)]
        return Frontier().extend([*hashes, *map(leaf_hash, frames)]).root()

    def consistency_proof(self, old_size: int, new_size: int) -> list[bytes]:
        """The RFC 6962 consistency proof between two sizes of this copy."""
        return self._replay.tree.consistency_proof(old_size, new_size)

    async def wait_for(self, reached: Callable[[], bool]) -> None:
        """Waits until a condition on the state holds; it is tried after every growth.

        Raises:
            ForkError: the copy stopped before.
        """
        async with self._grown:
            await self._grown.wait_for(lambda: reached() or self._stopped is not None)
            if not reached():
                self.check_going()

    async def wait_for_size(self, size: int) -> None:
        """Waits until at least `size` entries are acknowledged."""
        await self.wait_for(lambda: self.acknowledged_size >= size)

    async def follow(self, start: int) -> AsyncIterator[Step]:
        """What became of each acknowledged entry from `start` on, as the copy grows; never ends."""
        index = start
        while True:
            await self.wait_for_size(index + 1)
            for step in await self.steps(index, min(self.acknowledged_size, index + BATCH_ENTRIES_MAX)):
                yield step
                index += 1

    async def steps(self, start: int, end: int) -> list[Step]:
        """What became of the acknowledged entries from `start` up to, not including, `end`; read from the store.

        A node keeps its log on disk: a million entries with their bodies would take gigabytes of memory.
        """
        if self._recent and self._recent[0].index <= start:
            return list(islice(self._recent, start - self._recent[0].index, end - self._recent[0].index))
        frames = await self._store.entries(start, end)
        return [self._void.get(index) or self._replay.recall(index, frame) for index, frame in enumerate(frames, start)]

    async def batches(self, start: int) -> AsyncGenerator[Batch, None]:
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
            step = self._replay.feed(frame)
            self._unstored.append((frame, step))
            if step.fault is not None:
                self._void[step.index] = step
        if frames:
            self._check_genesis()

    def _check_order(self) -> None:
        """What the log signs has no new entry that an honest sequencer refuses over its place in the order."""
        step = self._disordered()
        if step is not None:
            assert step.fault is not None
            raise ForkError(
                f"The log holds an entry that is not in its place. {step.fault.text}",
                where=f"index {step.index}",
                mend=FORK_ADVICE,
            )

    def _disordered(self) -> Step | None:
        fresh = (step for _, step in self._unstored)
        return next((step for step in fresh if step.fault is not None and step.fault.code in ORDER_FAULTS), None)

    def _disorder(self, shown: bytes) -> Evidence | None:
        step = self._disordered()
        if step is None or step.entry is None:
            return None
        member = self.state.members.get(step.entry.author)
        keys = () if member is None else tuple(held.public_key for held in member.keys)
        return disorder(self._log_key, shown, self._replay.tree, step.index, step.entry, keys)

    async def _keep(self, note: bytes) -> None:
        """Stores what is not stored yet, under a note that covers exactly all of it."""
        await self._store.append([StoredEntry(step.index, frame) for frame, step in self._unstored], note)
        self._recent.extend(step for _, step in self._unstored)
        self._unstored.clear()

    async def _acknowledge(self, acknowledged: Acknowledged) -> None:
        async with self._grown:
            if acknowledged.checkpoint.size >= self.acknowledged_size:
                self._acknowledged = acknowledged
                self._grown.notify_all()

    def _check_begun(self) -> None:
        if not self.size:
            raise CheckpointError("The checkpoint covers no entry.", where="size 0")

    def _check_genesis(self) -> None:
        if self.state.genesis != leaf_hash(self._genesis):
            raise ForkError("The log begins with another genesis than this node joined.", where="index 0")
