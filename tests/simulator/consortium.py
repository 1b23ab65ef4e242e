"""A consortium as a test gets it: founded, joined, its data offered, everybody attending."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from consortium.encoding import Json
from consortium.state import Job, State
from node.authorisation.cedar import CedarEngine
from node.coordinator.jobs import Patience
from node.services.computation import Noise, Rows
from tests.simulator.rows import POLICY, SimulatedRows
from tests.simulator.seats import DATASET, CoordinatorSeat, MemberSeat, home_of
from tests.simulator.training import SimulatedFlower
from tests.worlds import World, documents

RECORDS = 200
PATIENCE = Patience(decision_s=60.0, sum_s=60.0, reasons_s=20.0)
SHORT_PATIENCE = Patience(decision_s=60.0, sum_s=4.0, reasons_s=20.0)  # a slow machine must not look like a lost link


_engine = functools.cache(CedarEngine)  # it may be shared, and takes longer to make than all else here


@functools.cache
def _founded() -> tuple[bytes, ...]:
    return tuple(World().found().join().offer().approve().ledger.frames)


class Consortium:
    """`coordinator` and `members` (in the order of their ids)."""

    def __init__(self, coordinator: CoordinatorSeat, members: list[MemberSeat]) -> None:
        self.coordinator = coordinator
        self.members = members

    @property
    def state(self) -> State:
        return self.coordinator.core.mirror.state

    @property
    def ids(self) -> tuple[bytes, ...]:
        return tuple(member.id for member in self.members)

    def job(self, identity: bytes) -> Job:
        return self.state.jobs[identity]

    def body(self, request: Json, *, kind: str = "statistic", members_min: int = 3) -> dict[str, Json]:
        datasets = [{"member": identity.hex(), "dataset": DATASET} for identity in self.ids]
        return {"kind": kind, "datasets": datasets, "members_min": members_min, "request": request}

    async def ask(self, epsilon_milli: int = 1_000, **changes: Any) -> Json:
        """The last document of a statistics job."""
        said = await self.coordinator.jobs.submit(self.body(documents.statistic(epsilon_milli) | changes))
        return await self.coordinator.last(said.leaf)

    async def everybody(self) -> None:
        """Waits until every member attends and has the whole log."""
        size = self.coordinator.core.mirror.acknowledged_size
        await until(lambda: self.coordinator.hub.attending >= set(self.ids))
        for member in self.members:
            async with asyncio.timeout(60):
                await member.core.mirror.wait_for_size(size)

    async def ledger(self) -> list[bytes]:
        core = self.coordinator.core
        return await core.ledger.entries(0, await core.ledger.size())

    async def restart_coordinator(self) -> None:
        """The coordinator's process ends and comes back; the members find it again."""
        for member in self.members:
            member.link.cut(down=True)
        await self.coordinator.stop()
        self.coordinator = CoordinatorSeat(self.coordinator.home, self.coordinator.patience, self.coordinator.flower)
        await self.coordinator.start()
        for member in self.members:
            member.link.mend()
        await self.everybody()

    async def stop(self) -> None:
        for member in self.members:
            await member.stop()
        await self.coordinator.stop()


async def until(reached: Callable[[], bool]) -> None:
    """Waits for something that nobody announces."""
    async with asyncio.timeout(60):
        while not reached():  # noqa: ASYNC110 it is about other objects' plain attributes
            await asyncio.sleep(0.005)


def records_of(place: int, count: int = RECORDS) -> list[tuple[float, float]]:
    """Some records of the member at a place: powers and winds that differ between members."""
    return [(100.0 * place + number % 97, 3.0 + place + number % 5) for number in range(count)]


def build(
    folder: Path,
    *,
    count: int = 4,
    patience: Patience = PATIENCE,
    noise: Noise | None = None,
    policies: Mapping[int, str] | None = None,
    accepts: Mapping[int, frozenset[bytes]] | None = None,
    rows: Callable[[int], Rows] | None = None,
) -> Consortium:
    """The nodes of a consortium over `folder`, not yet started. Only the first `count` members take part."""
    world = World()
    genesis = _founded()[0]
    home = home_of(folder / "coordinator", world.coordinator, genesis)
    house = Consortium(CoordinatorSeat(home, patience, SimulatedFlower()), [])
    house.coordinator.flower.house = house
    for place, key in enumerate(world.members[:count]):
        seat = MemberSeat(
            key,
            home_of(folder / f"member-{place}", key, genesis),
            lambda: house.coordinator,
            rows=SimulatedRows(records_of(place)) if rows is None else rows(place),
            policy=(policies or {}).get(place, POLICY),
            accepts=(accepts or {}).get(place, frozenset(world.ids)),
            **({} if noise is None else {"noise": noise}),
        )
        house.members.append(seat)
    return house


@asynccontextmanager
async def consortium(folder: Path, **options: Any) -> AsyncIterator[Consortium]:
    """A consortium at work; see `build`."""
    with (
        patch("node.services.member.RECONNECT_S", 0.02),
        patch("node.services.author.RETRY_S", 0.02),
        patch("node.app.serving.CedarEngine", _engine),
    ):
        async with _at_work(build(folder, **options)) as house:
            yield house


@asynccontextmanager
async def _at_work(house: Consortium) -> AsyncIterator[Consortium]:
    try:
        await house.coordinator.start()
        if house.coordinator.core.mirror.size == 0:
            await asyncio.gather(*(house.coordinator.sequencer.append(None, frame) for frame in _founded()))
        for member in house.members:
            await member.start()
        await house.everybody()
        yield house
    finally:
        await house.stop()
