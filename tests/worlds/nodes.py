"""Whole nodes in one process: real folders, databases, certificates and gRPC, no child processes."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

from consortium.encoding import Json
from node.app.founding import found
from node.app.joining import join
from node.app.serving import Core, coordinator, core_of, member
from node.config import node_home, read_config
from node.rpc.client import ControlClient
from tests.worlds import documents
from tests.worlds.committee import when

OFFICE = "office"


class RunningNode:
    """The node of a folder, while it serves."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.core: Core
        self.work: asyncio.Task[None]
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        config = read_config(node_home(self.home))
        role = coordinator if config.role == "coordinator" else member
        try:
            self.core = await self._stack.enter_async_context(core_of(config))
            self.work = await self._stack.enter_async_context(role(self.core))
        except BaseException:
            await self._stack.aclose()
            raise

    async def stop(self) -> None:
        await self._stack.aclose()

    async def status(self) -> Json:
        async with ControlClient(self.home) as control:
            return await control.status()


class Nodes:
    """A coordinator and members, by name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.running: dict[str, RunningNode] = {}

    def home(self, name: str) -> Path:
        return self._folder / name

    def database(self, name: str) -> Path:
        return self.home(name) / "node.db"

    async def start(self, name: str) -> RunningNode:
        node = RunningNode(self.home(name))
        await node.start()
        self.running[name] = node
        return node

    async def stop(self, name: str) -> None:
        await self.running.pop(name).stop()

    async def stop_all(self) -> None:
        for name in sorted(self.running, key=lambda name: name == OFFICE):
            await self.stop(name)

    async def found(self, names: tuple[str, ...]) -> None:
        """Founds, joins and seats everybody as a witness."""
        found(
            self.home(OFFICE),
            name="Test commons",
            legal_name="Office",
            sectors=["energy"],
            host="127.0.0.1",
            ports=(0, 0, 0),
            members_min=3,
            schedule=documents.SCHEDULE,
        )
        await self.start(OFFICE)
        joined = [await self._join(name) for name in names]
        async with ControlClient(self.home(OFFICE)) as control:
            await control.seat_committee(joined)

    async def _join(self, name: str) -> str:
        async with ControlClient(self.home(OFFICE)) as control:
            invited = await control.invite(name, 1)
        invitation = self._folder / f"{name}.invitation"
        invitation.touch(mode=0o600)
        invitation.write_text(json.dumps(invited))
        document = await join(
            self.home(name), invitation, legal_name=name, sector="energy", size="small", owner_group=name
        )
        await self.start(name)
        return str(document["member"])

    async def append(self, text: str) -> int:
        """The index of one more witnessed entry."""
        async with ControlClient(self.home(OFFICE)) as control:
            return int((await control.catalogue_app(text, text.encode()))["index"])

    async def level(self, seconds: float = 20) -> tuple[int, bytes]:
        """The head, once everybody has it."""
        office = self.running[OFFICE].core.mirror
        await when(
            lambda: all(
                node.core.mirror.acknowledged_size == office.acknowledged_size == office.size
                for node in self.running.values()
            ),
            seconds,
        )
        return office.size, office.root
