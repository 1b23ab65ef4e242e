"""Who sees how a job is doing: progress documents, for those who watch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from consortium.encoding import Json

FINAL = frozenset({"done", "refused", "aborted", "failed"})


class Board:
    """The last progress document of each job; watchers get every change that they are fast enough to see."""

    def __init__(self) -> None:
        self._last: dict[str, Json] = {}
        self._changed = asyncio.Condition()

    def last(self, job: str) -> Json | None:
        return self._last.get(job)

    async def post(self, job: bytes, state: str, text: str, *, done: int = 0, of: int = 0, **more: Json) -> None:
        """Replaces a job's document and wakes its watchers."""
        async with self._changed:
            self._last[job.hex()] = {
                "job": job.hex(),
                "state": state,
                "text": text,
                "done": done,
                "of": of,
                **more,
            }
            self._changed.notify_all()

    async def watch(self, job: str) -> AsyncIterator[Json]:
        """The job's documents until its last; the job is on the board."""
        seen: Json | None = None
        while seen is None or seen["state"] not in FINAL:
            async with self._changed:
                while self._last[job] is seen:
                    await self._changed.wait()
                seen = self._last[job]
            yield seen
