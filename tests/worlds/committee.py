"""A sequencer, its witnesses and the way between them in one process, each over stores that outlive it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from consortium.errors import UnavailableError
from consortium.keys import SigningKey
from node.coordinator.opening import open_sequencer
from node.coordinator.sequencer import Sequencer
from node.coordinator.witnesses import Witnesses
from node.ports import LedgerStore
from node.services.api import Batch, WitnessAsked, WitnessSays
from node.services.mirror import Mirror
from node.services.witness import WitnessDuty
from tests.worlds.ledger import Ledger
from tests.worlds.world import World

Store = LedgerStore


@dataclass
class SetClock:
    """Says what it is told."""

    time: int = 1_800_000_000

    def now(self) -> int:
        return self.time


@dataclass
class Desk:
    """The coordinator: a store that stays, and a sequencer that comes and goes."""

    signer: SigningKey
    genesis: bytes
    store: Store
    sequencer: Sequencer | None = None
    work: asyncio.Task[None] | None = None
    mirror: Mirror = field(init=False)
    witnesses: Witnesses = field(init=False)
    down: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        """Hears the witnesses, then sequences."""
        mirror = Mirror(self.store, self.genesis)
        await mirror.load()
        self.mirror, self.down = mirror, asyncio.Event()
        self.witnesses = Witnesses(self.mirror, self.store, self.signer)
        self.sequencer = Sequencer(self.mirror, self.signer, self.witnesses.witnessed)
        self.work = asyncio.create_task(self._run(self.sequencer))

    async def _run(self, sequencer: Sequencer) -> None:
        await open_sequencer(self.mirror, self.witnesses, self.signer)
        await sequencer.run()

    async def stop(self) -> None:
        self.down.set()
        if self.work is not None:
            self.work.cancel()
            await asyncio.gather(self.work, return_exceptions=True)

    @property
    def is_open(self) -> bool:
        return self.sequencer is not None and self.sequencer.open

    def reached(self) -> Desk:
        if self.down.is_set() or self.work is None:
            raise UnavailableError("The coordinator is down.")
        return self


class Seat:
    """A member that witnesses and follows; `asked` and `said` are what a test does to the messages on their way."""

    def __init__(self, key: SigningKey, genesis: bytes, store: Store, desk: Callable[[], Desk]) -> None:
        self.key, self.genesis, self.store, self.desk = key, genesis, store, desk
        self.clock = SetClock()
        self.asked: Callable[[WitnessAsked], WitnessAsked] = lambda message: message
        self.said: Callable[[WitnessSays], WitnessSays] = lambda message: message
        self.shown: Callable[[Batch], Batch] = lambda batch: batch
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.follows = True
        self.work: asyncio.Task[None] | None = None
        self.mirror: Mirror

    async def start(self) -> None:
        self.mirror = Mirror(self.store, self.genesis)
        await self.mirror.load()
        self.work = asyncio.create_task(self.run())

    async def run(self) -> None:
        """A member's work, but for its jobs."""
        duty = WitnessDuty(self.key, self.mirror, self.store, self.clock, self.attend)
        async with asyncio.TaskGroup() as group:
            group.create_task(duty.run())
            if self.follows:
                group.create_task(self._follow())

    async def stop(self) -> None:
        if self.work is not None:
            self.work.cancel()
            await asyncio.gather(self.work, return_exceptions=True)
            self.work = None

    async def attend(self, outgoing: AsyncIterator[WitnessSays]) -> AsyncIterator[WitnessAsked]:
        desk = self.desk().reached()

        async def leaving() -> AsyncIterator[WitnessSays]:
            async for message in outgoing:
                await self.flowing.wait()
                yield self.said(message)

        async for message in until(desk.down, desk.witnesses.attend(self.key.key_id, leaving())):
            yield self.asked(message)

    async def follow(self, start: int) -> AsyncIterator[Batch]:
        desk = self.desk().reached()
        assert desk.sequencer is not None
        async for batch in until(desk.down, desk.sequencer.follow(start)):
            yield self.shown(batch)

    async def _follow(self) -> None:
        while True:
            try:
                async for batch in self.follow(self.mirror.acknowledged_size):
                    await self.mirror.extend(batch)
            except UnavailableError:
                await asyncio.sleep(0.01)


async def until(down: asyncio.Event, stream: AsyncIterator[object]) -> AsyncIterator[object]:
    """The stream, until the coordinator goes down."""
    ended = asyncio.ensure_future(down.wait())
    try:
        while True:
            coming = asyncio.ensure_future(anext(stream))  # type: ignore[arg-type]  # a coroutine, all the same
            try:
                await asyncio.wait({coming, ended}, return_when=asyncio.FIRST_COMPLETED)
                if ended.done():
                    raise UnavailableError("The coordinator is down.")
                try:
                    message = coming.result()
                except StopAsyncIteration:
                    return
                yield message
            finally:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)
    finally:
        ended.cancel()
        await stream.aclose()  # type: ignore[attr-defined]  # all our streams are generators


class Committee:
    """A coordinator and members (in the order of their ids); the first `size` of them are seated as witnesses."""

    def __init__(self, stores: Callable[[str], Store], size: int = 4) -> None:
        self.world = World().found().join()
        self.ids = [member.key_id for member in self.world.members[:size]]
        body = {"members": [identity.hex() for identity in self.ids]}
        self.world.ledger.add(self.world.coordinator, "committee", body)
        self.genesis = self.world.ledger.frames[0]
        self.desk = Desk(self.world.coordinator, self.genesis, stores("coordinator"))
        self.seats = [
            Seat(key, self.genesis, stores(f"member-{place}"), lambda: self.desk)
            for place, key in enumerate(self.world.members)
        ]
        self._apps = 0

    @property
    def ledger(self) -> Ledger:
        return self.world.ledger

    def entry(self) -> bytes:
        """One more entry of the coordinator, signed in order."""
        self._apps += 1
        body = {"name": f"app-{self._apps}", "digest": f"{self._apps:064x}"}
        return self.ledger.add(self.world.coordinator, "app", body, key=f"app-{self._apps}").frame.data

    async def append(self, count: int = 1) -> tuple[int, bytes]:
        """The receipt of the last of some entries."""
        receipt = (0, b"")
        for _ in range(count):
            receipt = await self.desk.reached().sequencer.append(None, self.entry())  # type: ignore[union-attr]
        return receipt

    async def found(self) -> None:
        """Starts the coordinator and brings the world's entries into its log; the committee's own waits for it."""
        await self.desk.start()
        await when(lambda: self.desk.is_open)
        assert self.desk.sequencer is not None
        for frame in self.ledger.frames[:-1]:
            await self.desk.sequencer.append(None, frame)

    async def seat(self) -> None:
        assert self.desk.sequencer is not None
        await self.desk.sequencer.append(None, self.ledger.frames[len(self.ledger.frames) - 1])

    async def stop(self) -> None:
        for seat in self.seats:
            await seat.stop()
        await self.desk.stop()


@asynccontextmanager
async def committee(stores: Callable[[str], Store], size: int = 4) -> AsyncIterator[Committee]:
    """A consortium whose witnesses are seated and at work."""
    house = Committee(stores, size)
    try:
        await house.found()
        for seat in house.seats:
            await seat.start()
        await house.seat()
        yield house
    finally:
        await house.stop()


async def when(reached: Callable[[], bool], seconds: float = 10) -> None:
    """Waits for something that nobody announces."""
    async with asyncio.timeout(seconds):
        while not reached():  # noqa: ASYNC110 it is about other objects' plain attributes
            await asyncio.sleep(0.005)
