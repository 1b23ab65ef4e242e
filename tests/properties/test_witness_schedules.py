"""Whatever comes and goes in whatever order, nothing acknowledged is lost and nobody honest is shown two logs."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

import pytest

from consortium.errors import UnavailableError
from consortium.ledger.checkpoint import Checkpoint, sign_checkpoint
from consortium.ledger.cosignature import hearing
from node.services import witness as member_side
from node.services.api import Added, WitnessSays
from tests.units.test_sequencer import MemoryStore
from tests.worlds.committee import Committee, Seat, committee, when
from tests.worlds.stores import often

STEPS = 25


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member_side, "RECONNECT_S", 0.002)
    monkeypatch.setattr(member_side, "RECONNECT_MAX_S", 0.01)


def _spoiled(said: WitnessSays) -> WitnessSays:
    return Added(said.status, said.size, said.cosignature[:-5] + b"AAA=\n") if isinstance(said, Added) else said


@dataclass
class Schedule:
    """One run: who is up, and every receipt."""

    house: Committee
    dice: random.Random
    receipts: dict[int, bytes] = field(default_factory=dict)
    pending: list[tuple[bytes, asyncio.Task[tuple[int, bytes]]]] = field(default_factory=list)

    async def step(self) -> None:
        await self.dice.choice([self.append, self.append, self.append, self.toggle, self.restart, self.restore])()
        await asyncio.sleep(self.dice.choice([0, 0, 0.002, 0.01]))
        self.collect()

    async def append(self) -> None:
        """Authors write in order: not before the last entry was answered."""
        if not self.pending:
            frame = self.house.entry()
            self.pending.append((frame, asyncio.create_task(self._append(frame))))

    async def _append(self, frame: bytes) -> tuple[int, bytes]:
        while True:
            try:
                sequencer = self.house.desk.reached().sequencer
                assert sequencer is not None
                return await sequencer.append(None, frame)
            except UnavailableError:
                await asyncio.sleep(0.005)

    def collect(self) -> None:
        for frame, task in [item for item in self.pending if item[1].done()]:
            index, note = task.result()
            self.receipts[index] = frame
            self.house.ledger.replay.check_head(note)
            self.pending.remove((frame, task))

    async def toggle(self) -> None:
        seat = self.dice.choice(self.house.seats)
        if seat.work is None:
            await seat.start()
        else:
            await seat.stop()

    async def restart(self) -> None:
        await self.house.desk.stop()
        await self.house.desk.start()

    async def restore(self) -> None:
        """The coordinator's whole folder, as a backup had it some entries ago."""
        await self.house.desk.stop()
        mirror, store = self.house.desk.mirror, self.house.desk.store
        assert isinstance(store, MemoryStore)
        size = self.dice.randint(10, len(store.frames))
        # What it signed last and showed to fewer than are heard at a start is what no backup may forget.
        size = max(size, self._seen_by_few())
        head = Checkpoint(mirror.origin, size, mirror.root_at(size))
        note = sign_checkpoint(head, self.house.desk.signer, mirror.origin).encode()
        self.house.desk.store = MemoryStore(frames=store.frames[:size], notes=[note])
        await self.house.desk.start()

    def _seen_by_few(self) -> int:
        sizes = sorted((len(seat.store.frames) for seat in self.house.seats), reverse=True)  # type: ignore[attr-defined]
        unheard = len(sizes) - hearing(len(sizes))
        return sizes[0] if sizes[0] != sizes[unheard] else 10

    async def settle(self) -> None:
        for seat in self.house.seats:
            if seat.work is None:
                await seat.start()
        await when(lambda: self.house.desk.is_open)
        await when(lambda: all(task.done() for _, task in self.pending))
        self.collect()
        size = self.house.desk.mirror.size
        await when(lambda: all(seat.mirror.acknowledged_size == size for seat in self.house.seats))

    def check(self) -> None:
        store = self.house.desk.store
        assert isinstance(store, MemoryStore)
        for index, frame in self.receipts.items():
            assert store.frames[index] == frame
        assert store.frames == self.house.ledger.frames
        assert {seat.mirror.root for seat in self.house.seats} == {self.house.desk.mirror.root}
        assert not any(seat.mirror.stopped for seat in self.house.seats)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(often(100)))
async def test_nothing_acknowledged_is_lost_on_any_schedule(seed: int) -> None:
    async with committee(lambda _: MemoryStore()) as house:
        run = Schedule(house, random.Random(seed))
        liar: Seat = run.dice.choice(house.seats)
        if run.dice.random() < 0.5:
            liar.said = _spoiled
        for _ in range(STEPS):
            await run.step()
        await run.settle()
        run.check()
