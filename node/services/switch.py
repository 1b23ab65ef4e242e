"""The steward's switch: while a node is paused, it decides nothing and sends nothing."""

from __future__ import annotations

import asyncio

from consortium.errors import PausedError
from node.ports import Settings

_SETTING = "paused"


class Switch:
    """Durable, and looked at before each decision and each send."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open = asyncio.Event()

    async def load(self) -> None:
        if await self._settings.get(_SETTING) != "yes":
            self._open.set()

    @property
    def paused(self) -> bool:
        return not self._open.is_set()

    async def pause(self) -> None:
        self._open.clear()
        await self._settings.set(_SETTING, "yes")

    async def resume(self) -> None:
        await self._settings.set(_SETTING, "no")
        self._open.set()

    async def wait_until_open(self) -> None:
        await self._open.wait()

    def check(self) -> None:
        """Raises PausedError while the node is paused."""
        if self.paused:
            raise PausedError("The node is paused by its steward.", mend="Resume it there with 'consortium resume'.")
