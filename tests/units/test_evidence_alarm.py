"""A member before a malicious coordinator: it stops, says so, keeps evidence, and sends nothing more."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from consortium.errors import ConfigError, ForkError
from consortium.evidence import verify_evidence
from consortium.ledger.entry import Draft
from node.app.alarm import Alarm
from node.services import witness as member_side
from node.services.api import AddCheckpoint, Batch, Position, WitnessAsked, WitnessSays
from node.services.author import Author
from node.services.mirror import Mirror
from node.services.witness import WitnessDuty
from tests.units.test_sequencer import MemoryStore
from tests.worlds import Ledger, World
from tests.worlds.committee import SetClock, when


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member_side, "RECONNECT_S", 0.01)
    monkeypatch.setattr("node.app.alarm.GATHER_S", 0.3)


@dataclass
class Liar:
    """A coordinator that shows what a test tells it to.

    Attributes:
        batches: what it shows to whoever follows.
        whole: the log that it shows to whoever follows from the beginning; nothing if None.
        questions: what it asks its witness.
    """

    batches: list[Batch] = field(default_factory=list)
    whole: Batch | None = None
    questions: list[AddCheckpoint] = field(default_factory=list)
    refusal: Exception | None = None
    answers: list[WitnessSays] = field(default_factory=list)
    appended: list[bytes] = field(default_factory=list)

    async def follow(self, start: int) -> AsyncIterator[Batch]:
        if start == 0 and self.whole is not None:
            yield self.whole
        if start:
            for batch in self.batches:
                yield batch
            if self.refusal is not None:
                raise self.refusal
        await asyncio.Event().wait()

    async def attend(self, outgoing: AsyncIterator[WitnessSays]) -> AsyncIterator[WitnessAsked]:
        self.answers.append(await anext(aiter(outgoing)))
        for question in self.questions:
            yield question
        async for answer in outgoing:
            self.answers.append(answer)

    async def append(self, frame: bytes) -> tuple[int, bytes]:
        self.appended.append(frame)
        return len(self.appended), b""


class Member:
    """A member that stands at some size of the honest log."""

    def __init__(self, world: World, folder: Path, liar: Liar, store: MemoryStore) -> None:
        self.world, self.liar = world, liar
        self.key = world.members[0]
        genesis = world.ledger.frames[0]
        self.mirror = Mirror(store, genesis)
        self.folder = folder
        self.alarm = Alarm(folder, self.key, genesis, self.mirror, liar.follow)
        self.author = Author(self.key, self.mirror, liar.append)
        self.duty = WitnessDuty(self.key, self.mirror, store, SetClock(), liar.attend)

    async def work(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.duty.run())
            group.create_task(self._follow())

    async def _follow(self) -> None:
        async for batch in self.liar.follow(self.mirror.acknowledged_size):
            await self.mirror.extend(batch)

    @property
    def file(self) -> Path:
        (file,) = self.folder.glob("*.json")
        return file


def app(ledger: Ledger, world: World, number: int) -> None:
    ledger.add(world.coordinator, "app", {"name": f"app-{number}", "digest": f"{number:064x}"}, key=f"app-{number}")


def other(world: World, common: int, size: int) -> Ledger:
    """Another log of this size, equal up to `common`, cosigned by the same witnesses."""
    ledger = Ledger.of(world.ledger.frames[:common])
    ledger.witnesses = world.ledger.witnesses
    while ledger.state.size < size:
        app(ledger, world, 100 + ledger.state.size)
    return ledger


STANDS = 12


def honest() -> World:
    """Ten entries, a committee, and four apps."""
    world = World().found().join().seat()
    for number in range(4):
        app(world.ledger, world, number)
    return world


@asynccontextmanager
async def before(world: World, liar: Liar, folder: Path, size: int = STANDS) -> AsyncIterator[Member]:
    """The member at work, with `size` entries of the honest log."""
    store = MemoryStore(frames=world.ledger.frames[:size], notes=[world.note(size)])
    member = Member(world, folder, liar, store)
    await member.mirror.load()
    await member.alarm.load()
    assert member.alarm.raised is None
    working = asyncio.create_task(member.alarm.guard(member.work()))
    try:
        yield member
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


def shown(ledger: Ledger, world: World, start: int, size: int | None = None, *, by: int | None = None) -> Batch:
    size = ledger.state.size if size is None else size
    if by is not None:
        ledger.witnesses = tuple(world.members[:by])
    return Batch(start, tuple(ledger.frames[start:size]), ledger.note(world.coordinator, size=size))


def asked(ledger: Ledger, world: World, start: int, size: int) -> AddCheckpoint:
    proof = tuple(ledger.replay.tree.consistency_proof(start, size))
    return AddCheckpoint(start, proof, ledger.note(world.coordinator, size=size), tuple(ledger.frames[start:size]))


def withholding(world: World) -> Ledger:
    """A log that lacks an entry between two of one author."""
    ledger = Ledger.of(world.ledger.frames[:STANDS])
    ledger.witnesses = world.ledger.witnesses
    assert ledger.force(world.ledger.frames[STANDS + 1]) == "broken-chain"
    return ledger


def misled(world: World) -> Ledger:
    """A log with an entry whose author was shown another one."""
    ledger = Ledger.of(world.ledger.frames[:STANDS])
    ledger.witnesses = world.ledger.witnesses
    head = other(world, 11, STANDS).head
    entry = ledger.sign(world.coordinator, "app", {"name": "odd", "digest": "ab" * 32}, head=head)
    assert ledger.force(entry.frame.data) == "other-history"
    return ledger


def _equal(world: World) -> Liar:
    return Liar([shown(other(world, 11, STANDS), world, STANDS)])


def _shrunk(world: World) -> Liar:
    return Liar([shown(other(world, 10, 11), world, 11)])


def _larger(world: World) -> Liar:
    fork = other(world, 10, 15)
    return Liar([shown(fork, world, STANDS)], whole=shown(fork, world, 0))


def _rewritten(world: World) -> Liar:
    fork = other(world, 11, 14)
    return Liar([shown(fork, world, 9)], whole=shown(fork, world, 0))


def _to_witness(world: World) -> Liar:
    return Liar(questions=[asked(other(world, 11, STANDS), world, STANDS, STANDS)])


def _larger_to_witness(world: World) -> Liar:
    fork = other(world, 10, 14)
    return Liar(questions=[asked(fork, world, STANDS, 14)], whole=shown(fork, world, 0))


def _withheld(world: World) -> Liar:
    return Liar([shown(withholding(world), world, STANDS)])


def _withheld_from_witness(world: World) -> Liar:
    return Liar(questions=[asked(withholding(world), world, STANDS, STANDS + 1)])


def _misled(world: World) -> Liar:
    return Liar([shown(misled(world), world, STANDS)])


PROVED: dict[str, tuple[Callable[[World], Liar], str]] = {
    "another log of one size": (_equal, "two-views"),
    "a shrunk log that was rewritten": (_shrunk, "two-views"),
    "a larger log without ours": (_larger, "two-views"),
    "a rewritten entry": (_rewritten, "two-views"),
    "another log for the witness": (_to_witness, "two-views"),
    "a larger log for the witness": (_larger_to_witness, "two-views"),
    "a withheld entry": (_withheld, "withheld-entry"),
    "a withheld entry for the witness": (_withheld_from_witness, "withheld-entry"),
    "an author who saw another log": (_misled, "other-history"),
}


@pytest.mark.parametrize("attack", PROVED)
async def test_what_the_coordinator_signed_is_proved(attack: str, tmp_path: Path) -> None:
    """Fails without the check that finds it: the member would go on, or stop without a proof."""
    world = honest()
    lie, kind = PROVED[attack]
    async with before(world, lie(world), tmp_path / "evidence") as member:
        await when(lambda: member.alarm.raised is not None)
        assert member.mirror.acknowledged_size == STANDS
        assert stat.S_IMODE(member.file.stat().st_mode) == 0o600
        found = verify_evidence(member.file.read_bytes(), world.ledger.frames[0])
        assert (found.kind, found.proved, found.member) == (kind, True, member.key.key_id)
        assert member.alarm.raised["evidence"] == str(member.file)
        assert member.alarm.raised["proved"]


def _gap(world: World) -> Liar:
    return Liar([shown(world.ledger, world, STANDS + 1)])


def _told_shorter(_world: World) -> Liar:
    return Liar(refusal=ForkError("The log is shorter than the caller's copy.", where="size 3"))


def _unwitnessed(world: World) -> Liar:
    return Liar([shown(world.ledger, world, STANDS, by=2)])


def _hidden(world: World) -> Liar:
    """A larger log without ours, whose leaves it does not show."""
    return Liar([shown(other(world, 10, 15), world, STANDS)])


def _garbage(_world: World) -> Liar:
    return Liar([Batch(STANDS, (), b"garbage")])


def _more_than_shown(world: World) -> Liar:
    whole = world.ledger
    return Liar([Batch(STANDS, tuple(whole.frames[STANDS:13]), whole.note(world.coordinator, size=14))])


def _bad_proof(world: World) -> Liar:
    good = asked(world.ledger, world, STANDS, 14)
    return Liar(questions=[AddCheckpoint(good.old_size, (*good.proof[::-1], bytes(32)), good.checkpoint, good.frames)])


TOLD: dict[str, Callable[[World], Liar]] = {
    "entries left out": _gap,
    "a shorter log": _told_shorter,
    "a head without its quorum": _unwitnessed,
    "another log whose leaves are hidden": _hidden,
    "garbage": _garbage,
    "a head over more than is shown": _more_than_shown,
    "a consistency proof that proves nothing": _bad_proof,
}


@pytest.mark.parametrize("attack", TOLD)
async def test_what_only_the_member_saw_is_its_word(attack: str, tmp_path: Path) -> None:
    """It stops all the same; the file does not claim to prove what it cannot."""
    world = honest()
    async with before(world, TOLD[attack](world), tmp_path / "evidence") as member:
        await when(lambda: member.alarm.raised is not None)
        assert member.mirror.acknowledged_size == STANDS
        found = verify_evidence(member.file.read_bytes(), world.ledger.frames[0])
        assert (found.kind, found.proved) == ("testimony", False)
        assert found.says
        assert not member.alarm.raised["proved"]


async def test_an_honest_log_raises_no_alarm(tmp_path: Path) -> None:
    world = honest()
    liar = Liar([shown(world.ledger, world, 11, 13), shown(world.ledger, world, 13)])
    liar.questions = [asked(world.ledger, world, 9, STANDS)]
    async with before(world, liar, tmp_path / "evidence") as member:
        await when(lambda: member.mirror.acknowledged_size == 14)
        assert member.alarm.raised is None
        assert not (tmp_path / "evidence").exists()


async def test_nothing_is_said_after_an_alarm(tmp_path: Path) -> None:
    """Fails when the author still writes, or the copy still grows or cosigns."""
    world = honest()
    liar = _equal(world)
    async with before(world, liar, tmp_path / "evidence") as member:
        await when(lambda: member.alarm.raised is not None)
        said = len(liar.answers)
        with pytest.raises(ForkError, match="stopped following"):
            await member.author.say(Draft("approval", "approval", {"digest": "00" * 32}))
        with pytest.raises(ForkError, match="stopped following"):
            await member.mirror.extend(shown(world.ledger, world, STANDS))
        with pytest.raises(ForkError, match="stopped following"):
            await member.mirror.prepare(asked(world.ledger, world, STANDS, 14))
        with pytest.raises(ForkError, match="stopped following"):
            await member.mirror.wait_for_size(99)
        assert liar.appended == []
        assert len(liar.answers) == said
        assert all(isinstance(answer, Position) for answer in liar.answers)


async def test_an_alarm_outlives_a_restart_until_its_steward_settles_it(tmp_path: Path) -> None:
    world, folder = honest(), tmp_path / "evidence"
    async with before(world, _equal(world), folder) as member:
        await when(lambda: member.alarm.raised is not None)
        told, file = member.alarm.raised, member.file
    store = MemoryStore(frames=world.ledger.frames[:STANDS], notes=[world.note(STANDS)])
    good = Liar([shown(world.ledger, world, STANDS)])
    again = Member(world, folder, good, store)
    await again.mirror.load()
    await again.alarm.load()
    assert again.alarm.raised == told
    with pytest.raises(ForkError, match="stopped following"):
        await again.author.say(Draft("approval", "approval", {"digest": "00" * 32}))
    working = asyncio.create_task(again.alarm.guard(again.work()))
    await asyncio.sleep(0.05)
    assert good.answers == []
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    file.rename(tmp_path / "settled.json")
    async with before(world, good, folder) as member:
        await when(lambda: member.mirror.acknowledged_size == 14)


async def test_a_damaged_file_of_evidence_keeps_the_alarm(tmp_path: Path) -> None:
    """Fails when a file that cannot be read counts as none."""
    world, folder = honest(), tmp_path / "evidence"
    folder.mkdir()
    (folder / "evidence.json").write_bytes(b"{}")
    member = Member(world, folder, Liar(), MemoryStore())
    await member.alarm.load()
    assert "not readable" in member.alarm.raised["text"]
    assert member.mirror.stopped is not None


async def test_other_faults_end_the_node_as_before(tmp_path: Path) -> None:
    """An alarm is about the log; anything else is not hidden behind one."""
    world = honest()
    member = Member(world, tmp_path / "evidence", Liar(), MemoryStore())

    async def fail() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(_raise())

    async def _raise() -> None:
        raise ConfigError("The certificate is not of this consortium.")

    with pytest.raises(ExceptionGroup):
        await member.alarm.guard(fail())
    assert member.alarm.raised is None


async def test_a_receipt_for_another_log_is_proved(tmp_path: Path) -> None:
    """Fails without the check of receipts against the member's own copy."""
    world = honest()
    fork = other(world, 10, STANDS)
    async with before(world, Liar(), tmp_path / "evidence") as member:

        async def lie(_frame: bytes) -> tuple[int, bytes]:
            return 11, fork.note(world.coordinator)

        with pytest.raises(ForkError):
            await Author(member.key, member.mirror, lie).say(Draft("approval", "approval", {"digest": "00" * 32}))
        await when(lambda: member.alarm.raised is not None)
        assert verify_evidence(member.file.read_bytes(), world.ledger.frames[0]).proved
