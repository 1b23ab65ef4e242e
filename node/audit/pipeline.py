"""An audit on several processor cores: the others verify signatures while this process folds the entries in order.

The fold is bit for bit that of one process: a signature that another process has found sound is not checked twice, and
every doubt (a key that was not known yet) is settled here. Each file is read once, so that what was verified is what is
folded.
"""

from __future__ import annotations

import gc
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from consortium.audit import Audit
from consortium.keys import KEY_ID_BYTES, key_id
from consortium.ledger.tiles import TILE_WIDTH
from node.audit.signatures import verify_bundles
from node.export import BundledFrames

RUN_BUNDLES = 4
RUNS_AHEAD = 3  # for each other process: enough that none waits, few enough that new members' keys arrive in time
UNFOLDED_MAX = 32
PARALLEL_MIN = 20_000  # entries; fewer are done before another process has started

Progress = Callable[[int], None]


@dataclass
class _Run:
    first: int  # index of its first entry
    bundles: list[list[bytes]]
    verified: Future[list[bytes]] | list[bytes]

    def ready(self) -> bool:
        return isinstance(self.verified, list) or self.verified.done()

    def result(self) -> list[bytes]:
        return self.verified if isinstance(self.verified, list) else self.verified.result()


def feed_export(audit: Audit, frames: BundledFrames, processes: int, progress: Progress) -> None:
    """Feeds an audit all entries beyond those that it has.

    Args:
        processes: at most so many work on it, this one included.
        progress: told how many entries were fed.

    Raises:
        ConfigError, EncodingError: a bundle cannot be read.
    """
    if processes < 2 or len(frames) - audit.size < PARALLEL_MIN:
        for number in range(audit.size // TILE_WIDTH, frames.bundles):
            for frame in frames.bundle(number)[1][audit.size - number * TILE_WIDTH :]:
                audit.feed(frame)
            progress(audit.size)
        return
    with _pool(processes - 1) as pool, _without_garbage_collection():
        _Pipeline(audit, frames, pool, RUNS_AHEAD * (processes - 1)).run(progress)


class _Pipeline:
    def __init__(self, audit: Audit, frames: BundledFrames, pool: ProcessPoolExecutor, ahead: int) -> None:
        self._audit = audit
        self._frames = frames
        self._pool = pool
        self._ahead = ahead
        self._keys = dict(_known_keys(audit))
        self._unfolded: deque[_Run] = deque()
        first = audit.size // TILE_WIDTH
        self._unassigned = deque(
            range(start, min(start + RUN_BUNDLES, frames.bundles))
            for start in range(first, frames.bundles, RUN_BUNDLES)
        )

    def run(self, progress: Progress) -> None:
        while self._unassigned or self._unfolded:
            self._hand_out()
            run = self._unfolded[0]
            if run.ready() or not self._unassigned or len(self._unfolded) >= UNFOLDED_MAX:
                self._unfolded.popleft()
                self._fold(run)
                progress(self._audit.size)
            else:
                first, bundles, data = self._read()
                self._unfolded.append(_Run(first, bundles, verify_bundles(data, self._keys)))

    def _hand_out(self) -> None:
        waiting = sum(not run.ready() for run in self._unfolded)
        while self._unassigned and waiting < self._ahead:
            first, bundles, data = self._read()
            self._unfolded.append(_Run(first, bundles, self._pool.submit(verify_bundles, data, dict(self._keys))))
            waiting += 1

    def _read(self) -> tuple[int, list[list[bytes]], list[tuple[bytes, int]]]:
        numbers = self._unassigned.popleft()
        read = [self._frames.bundle(number) for number in numbers]
        first = numbers.start * TILE_WIDTH
        return first, [frames for _, frames in read], [(data, len(frames)) for data, frames in read]

    def _fold(self, run: _Run) -> None:
        feed, keys = self._audit.feed, self._keys
        known = self._audit.size - run.first  # of a bundle that was partly audited before
        frames = [frame for bundle in run.bundles for frame in bundle][known:]
        for frame, is_sound in zip(frames, b"".join(run.result())[known:], strict=True):
            entry = feed(frame, keys[frame[1 : 1 + KEY_ID_BYTES]] if is_sound else None).entry
            if entry is not None and "public_key" in entry.body:
                key = bytes.fromhex(entry.body["public_key"])
                keys[key_id(key)] = key


def _known_keys(audit: Audit) -> Iterator[tuple[bytes, bytes]]:
    for member in audit.replay.state.members.values():
        yield key_id(member.public_key), member.public_key


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """A fold keeps almost all that it makes and makes no cycles; looking for them again and again is a fifth of it."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
