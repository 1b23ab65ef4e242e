"""An audit on several processor cores: the others verify signatures while this process folds the entries in order.

The fold is bit for bit that of one process: a signature that another process has found sound is not checked twice, and
every doubt (a key that was not known yet) is settled here. Each file is read once, so that what was verified is what is
folded.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from select import select
from threading import Thread

from consortium.audit import Audit
from consortium.errors import ConfigError
from consortium.keys import KEY_ID_BYTES, key_id
from consortium.ledger.tiles import TILE_WIDTH
from node.audit.signatures import request, verify_bundles
from node.export import BundledFrames

RUN_BUNDLES = 4
RUNS_AHEAD = 2  # for each other process: enough that none waits, few enough that all end together
UNFOLDED_MAX = 16  # runs in memory, however much faster some process is than another
WORKER = "node.audit.signatures"
PARALLEL_MIN = 20_000  # entries; fewer are done before another process has started

Progress = Callable[[int], None]


class Verifier:
    """Another process that verifies signatures; it answers requests in order.

    A thread writes the requests, so that neither process ever waits for the other to take what it sends.
    """

    def __init__(self) -> None:
        # -P: an auditor may stand in a folder that somebody else filled; nothing in it is ever imported.
        command = [sys.executable, "-P", "-m", WORKER]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests = self._process.stdin.fileno()
        self._answers = self._process.stdout.fileno()  # never by way of a buffer: `select` looks at the pipe
        self._asked: deque[int] = deque()  # the number of entries of each request that was not answered
        self._answered: deque[bytes] = deque()
        self._unsent: SimpleQueue[list[bytes] | None] = SimpleQueue()
        self._writer = Thread(target=self._write, daemon=True)
        self._writer.start()

    def ask(self, bundles: Sequence[tuple[bytes, int]], keys: Collection[bytes]) -> None:
        """Sends a request."""
        self._asked.append(sum(count for _, count in bundles))
        self._unsent.put(request(bundles, keys))

    def waiting(self) -> int:
        """The number of requests that were not answered."""
        while self._asked and select([self._answers], [], [], 0)[0]:
            self._answered.append(self._read(self._asked.popleft()))
        return len(self._asked)

    def has_answered(self) -> bool:
        """Whether the next answer can be taken without waiting."""
        self.waiting()
        return bool(self._answered)

    def answer(self) -> bytes:
        """The next answer.

        Raises:
            ConfigError: the process has ended.
        """
        return self._answered.popleft() if self._answered else self._read(self._asked.popleft())

    def _read(self, entries: int) -> bytes:
        answer = b""
        while len(answer) < entries:
            part = os.read(self._answers, entries - len(answer))
            if not part:
                raise ConfigError(
                    "The process that verifies signatures has ended.",
                    mend="See that there is memory for it, or audit with '--processes 1'.",
                )
            answer += part
        return answer

    def close(self) -> None:
        """Ends the process, whatever it is doing."""
        self._process.kill()
        self._unsent.put(None)
        self._writer.join()
        self._process.communicate()

    def _write(self) -> None:
        while (message := self._unsent.get()) is not None:
            try:
                sent = os.writev(self._requests, message)  # a blocking pipe takes all, unless a signal came between
                while sent < sum(map(len, message)):
                    sent += os.write(self._requests, b"".join(message)[sent:])
            except OSError:
                return  # it has ended, and `answer` says so


@dataclass
class _Run:
    first: int  # index of its first entry
    bundles: list[list[bytes]]
    verified: bytes | Verifier  # or who will say it

    def ready(self) -> bool:
        return isinstance(self.verified, bytes) or self.verified.has_answered()

    def result(self) -> bytes:
        return self.verified if isinstance(self.verified, bytes) else self.verified.answer()


def feed_export(audit: Audit, frames: BundledFrames, processes: int, progress: Progress) -> None:
    """Feeds an audit all entries beyond those that it has.

    Args:
        processes: at most so many work on it, this one included.
        progress: told how many entries were fed.

    Raises:
        ConfigError, EncodingError: a bundle cannot be read, or another process has ended.
    """
    if processes < 2 or len(frames) - audit.size < PARALLEL_MIN:
        for number in range(audit.size // TILE_WIDTH, frames.bundles):
            for frame in frames.bundle(number)[1][audit.size - number * TILE_WIDTH :]:
                audit.feed(frame)
            progress(audit.size)
        return
    with _verifiers(processes - 1) as verifiers, _without_garbage_collection():
        _Pipeline(audit, frames, verifiers).run(progress)


class _Pipeline:
    def __init__(self, audit: Audit, frames: BundledFrames, verifiers: Sequence[Verifier]) -> None:
        self._audit = audit
        self._frames = frames
        self._verifiers = verifiers
        self._learn_keys()
        self._unfolded: deque[_Run] = deque()
        first = audit.size // TILE_WIDTH
        self._unassigned = deque(
            range(start, min(start + RUN_BUNDLES, frames.bundles))
            for start in range(first, frames.bundles, RUN_BUNDLES)
        )

    def run(self, progress: Progress) -> None:
        if not self._keys:  # the founders' keys are in the first run, which nobody could verify without them
            first, bundles, _ = self._read()
            self._fold(_Run(first, bundles, bytes(sum(map(len, bundles)))))
            progress(self._audit.size)
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
        for verifier in self._verifiers:
            while self._unassigned and verifier.waiting() < RUNS_AHEAD and len(self._unfolded) < UNFOLDED_MAX:
                first, bundles, data = self._read()
                verifier.ask(data, self._keys.values())
                self._unfolded.append(_Run(first, bundles, verifier))

    def _read(self) -> tuple[int, list[list[bytes]], list[tuple[bytes, int]]]:
        numbers = self._unassigned.popleft()
        read = [self._frames.bundle(number) for number in numbers]
        first = numbers.start * TILE_WIDTH
        return first, [frames for _, frames in read], [(data, len(frames)) for data, frames in read]

    def _learn_keys(self) -> None:
        state = self._audit.replay.state
        self._identities = len(state.identities)  # every key that ever was has one
        self._keys = {key_id(member.public_key): member.public_key for member in state.members.values()}

    def _fold(self, run: _Run) -> None:
        feed, keys = self._audit.feed, self._keys
        known = self._audit.size - run.first  # of a bundle that was partly audited before
        frames = [frame for bundle in run.bundles for frame in bundle][known:]
        for frame, is_sound in zip(frames, run.result()[known:], strict=True):
            feed(frame, keys[frame[1 : 1 + KEY_ID_BYTES]] if is_sound else None)
        if len(self._audit.replay.state.identities) != self._identities:
            self._learn_keys()


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
def _verifiers(number: int) -> Iterator[list[Verifier]]:
    started: list[Verifier] = []
    try:
        while len(started) < number:
            started.append(Verifier())
        yield started
    finally:
        for verifier in started:
            verifier.close()
