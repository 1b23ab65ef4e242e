"""A member that saw the log contradict itself: it stops, keeps the evidence, and says so until its steward settles it.

Local control goes on, so that the steward can ask what happened. The alarm outlives a restart: while a file of evidence
lies in the node's folder, nothing is followed, decided, computed or sent.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

from consortium.encoding import Json
from consortium.errors import CheckpointError, ConsortiumError, ForkError, ProofError
from consortium.evidence import Evidence, two_views, unproved, verify_evidence, write_evidence
from consortium.keys import Signer
from consortium.ledger.checkpoint import open_checkpoint
from consortium.ledger.merkle import leaf_hash
from consortium.ledger.tree import Tree
from node.log import log, log_refusal
from node.services.api import Batch
from node.services.mirror import Mirror, Stopped
from node.store.outside import sync_folder

GATHER_S = 60.0
SEEN = (ForkError, CheckpointError, ProofError)

Follow = Callable[[int], AsyncIterator[Batch]]


class Alarm:
    """What became of a member's trust in its log."""

    def __init__(self, folder: Path, signer: Signer, genesis: bytes, mirror: Mirror, follow: Follow) -> None:
        """Args: `folder` for the evidence; `follow` shows the coordinator's log from an index on."""
        self._folder = folder
        self._signer = signer
        self._genesis = genesis
        self._mirror = mirror
        self._follow = follow
        self._raised: Json = None

    @property
    def raised(self) -> Json:
        """{text, evidence, proved} of an alarm; None while there is none."""
        return self._raised

    async def load(self) -> None:
        """Raises the alarm that an earlier run of the node left; to be called before anything is served."""
        self._raised = self._found()
        if self._raised is not None:
            await self._mirror.stop(ForkError(self._raised["text"], where=self._raised["evidence"]))

    async def guard(self, work: Coroutine[None, None, None]) -> None:
        """Does the member's work until the log contradicts itself, and then nothing more until the node is stopped."""
        if self._raised is None:
            error = await self._contradiction(work)
            path = await self._keep(error)
            log_refusal("alarm.raised", error, size=self._mirror.acknowledged_size)
            log("alarm.evidence", digest=path.stem.rpartition("-")[2])
            self._raised = self._found()
        else:
            work.close()
            log("alarm.stands")
        await asyncio.Event().wait()

    async def _contradiction(self, work: Coroutine[None, None, None]) -> ConsortiumError:
        """Why the work ended; anything but a contradiction is raised as it is."""
        working = asyncio.create_task(work)
        stopping = asyncio.create_task(self._mirror.wait_until_stopped())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if self._mirror.stopped is not None:
                return self._mirror.stopped.error
            return _seen(working)
        finally:
            for task in (working, stopping):
                task.cancel()
            await asyncio.gather(working, stopping, return_exceptions=True)

    async def _keep(self, error: ConsortiumError) -> Path:
        if self._mirror.stopped is None:
            await self._mirror.stop(error)
        stopped = self._mirror.stopped
        assert stopped is not None
        held = (await self._mirror.position()).checkpoint
        evidence = stopped.evidence or await self._gathered(stopped, held) or unproved(held, *self._signed(stopped))
        text = f"{error.what} {error.where}".strip()
        return await asyncio.to_thread(self._write, write_evidence(evidence, text, self._genesis, self._signer))

    async def _gathered(self, stopped: Stopped, held: bytes) -> Evidence | None:
        """Asks the coordinator for the whole log that it now shows: its leaves prove that it is another one."""
        shown = self._signed(stopped)
        if not shown or not held:
            return None
        size = open_checkpoint(shown[0], [self._mirror.log_key]).size
        tree = Tree()
        try:
            async with asyncio.timeout(GATHER_S):
                async for batch in self._follow(0):
                    for frame in batch.frames[: size - tree.size]:
                        tree.append(leaf_hash(frame))
                    if tree.size >= size:
                        break
        except (ConsortiumError, TimeoutError) as error:
            log("alarm.not-gathered", kind=type(error).__name__.lower(), size=size)
            return None
        return two_views(self._mirror.log_key, held, self._mirror.tree, shown[0], tree)

    def _signed(self, stopped: Stopped) -> tuple[bytes, ...]:
        """The note that was shown, if the log signed it."""
        try:
            open_checkpoint(stopped.shown, [self._mirror.log_key])
        except CheckpointError:
            return ()
        return (stopped.shown,)

    def _write(self, data: bytes) -> Path:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path = self._folder / f"evidence-{leaf_hash(data).hex()}.json"
        fresh = path.with_suffix(".new")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        sync_folder(self._folder)
        return path

    def _found(self) -> Json:
        for path in sorted(self._folder.glob("*.json")) if self._folder.is_dir() else ():
            try:
                report = verify_evidence(path.read_bytes(), self._genesis)
            except ConsortiumError as error:
                return _document(f"A file in the folder of evidence is not readable. {error}", path, proved=False)
            return _document(f"{report.says} {report.text}", path, proved=report.proved)
        return None


def _document(text: str, path: Path, *, proved: bool) -> Json:
    return {"text": text, "evidence": str(path), "proved": proved}


def _seen(working: asyncio.Task[None]) -> ConsortiumError:
    try:
        working.result()
    except SEEN as error:
        return error
    except BaseExceptionGroup as failed:
        seen, others = failed.split(SEEN)
        if seen is None or others is not None:
            raise
        return _first(seen)
    raise AssertionError("a member's work never ends by itself")


def _first(group: BaseExceptionGroup[BaseException]) -> ConsortiumError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, ConsortiumError)
    return error
