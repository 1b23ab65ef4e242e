"""The two kinds of node, each over its own folder as in production, with taps between the parts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from consortium.encoding import Json, canonical
from consortium.keys import SigningKey
from consortium.privacy.descriptor import DatasetDescriptor
from consortium.privacy.secure_sum import SumSpec
from node.app.serving import Core, core_of
from node.config import Addresses, NodeConfig, NodeHome
from node.coordinator.hub import Hub
from node.coordinator.jobs import Jobs, Patience, record_sum
from node.coordinator.sequencer import Sequencer
from node.coordinator.sum_run import SumRun
from node.coordinator.training import Training
from node.coordinator.witnesses import Witnesses
from node.data.noise import discrete_gaussian
from node.services.author import Author
from node.services.computation import Noise, Rows
from node.services.decisions import Decisions
from node.services.member import MemberService
from node.services.member_sum import Surroundings
from node.store.journal import SqlRoundJournal
from node.store.registry import SqlAnswers
from tests.simulator.link import Happened, Link
from tests.simulator.training import SimulatedFlower
from tests.worlds import documents

DATASET = "scada"


def home_of(folder: Path, key: SigningKey, genesis: bytes) -> NodeHome:
    """A node's folder with its ledger key and its genesis; one that exists is kept."""
    home = NodeHome(folder)
    for part in home.folders:
        part.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not home.ledger_key.exists():
        private = Ed25519PrivateKey.from_private_bytes(key.seed)
        home.ledger_key.touch(mode=0o600)
        home.ledger_key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        home.genesis.write_bytes(genesis)
    return home


def config_of(home: NodeHome, role: Any, size: Any = "medium") -> NodeConfig:
    return NodeConfig(home, role, "Wind", "A party", "energy", size, Addresses("localhost:1", "localhost:2"))


class Tapped:
    """A part of a node whose calls of one method are reported before and after."""

    def __init__(self, part: Any, method: str, happened: Happened) -> None:
        self._part, self._method, self._happened = part, method, happened

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._part, name)
        if name != self._method:
            return call

        async def tapped(*args: Any, **named: Any) -> Any:
            await self._happened(f"begin {name}")
            answer = await call(*args, **named)
            await self._happened(f"end {name}")
            return answer

        return tapped


class MemberSeat:
    """A member's node.

    Attributes:
        events: what it did, in order: appends, sends, reservations, computations, journal entries.
        at: what to do when an event happens, by the event's name.
    """

    def __init__(
        self,
        key: SigningKey,
        home: NodeHome,
        link_to: Callable[[], CoordinatorSeat],
        *,
        rows: Rows,
        policy: str,
        accepts: frozenset[bytes],
        noise: Noise = discrete_gaussian,
        path: str = "/absent/scada.parquet",
        members_min: int = 3,
    ) -> None:
        self.key, self.id, self.home = key, key.key_id, home
        self.link = Link(self.id, link_to, self.happened)
        self.rows, self.policy, self.accepts, self.noise = rows, policy, accepts, noise
        self.path, self.members_min = path, members_min
        self.events: list[str] = []
        self.at: dict[str, Callable[[], Awaitable[None]]] = {}
        self.child = SimulatedChild()
        self.core: Core
        self.service: MemberService
        self._work: asyncio.Task[None] | None = None
        self._stack = AsyncExitStack()

    async def happened(self, event: str) -> None:
        self.events.append(event)
        if event in self.at:
            await self.at[event]()

    async def start(self) -> None:
        """Starts the node, or starts it again over what its folder holds."""
        self.core = core = await self._stack.enter_async_context(core_of(config_of(self.home, "member")))
        descriptor = DatasetDescriptor.from_json(documents.descriptor(DATASET, "turbine"))
        text = canonical(descriptor.to_json()).decode()
        await core.datasets.put(DATASET, self.path, text, self.policy)
        for member in self.accepts:
            await core.members.accept(member)
        self.service = MemberService(self._surroundings(core), self.link, self.child, "1")
        self._work = asyncio.create_task(self.service.run())

    def _surroundings(self, core: Core) -> Surroundings:
        return Surroundings(
            signer=core.signer,
            mirror=core.mirror,
            author=Author(core.signer, core.mirror, self.link.append),
            decisions=Tapped(self._decisions(core), "before_run", self.happened),  # type: ignore[arg-type]
            journal=Tapped(SqlRoundJournal(core.database), "record_input", self.happened),  # type: ignore[arg-type]
            accounts=Tapped(core.accounts, "reserve", self.happened),  # type: ignore[arg-type]
            members=core.members,
            datasets=core.datasets,
            rows=Tapped(self.rows, "partial_sums", self.happened),  # type: ignore[arg-type]
            noise=self.noise,
            switch=core.switch,
            members_min=self.members_min,
        )

    def _decisions(self, core: Core) -> Decisions:
        return Decisions(
            self.id,
            engine=core.engine,
            datasets=core.datasets,
            accounts=core.accounts,
            members=core.members,
            clock=core.clock,
        )

    @property
    def work(self) -> asyncio.Task[None]:
        assert self._work is not None
        return self._work

    async def kill(self) -> None:
        """Ends the node within whatever it is doing; may be called by its own hooks."""
        self.link.cut(down=True)
        self.work.cancel()

    async def stop(self) -> None:
        """Ends the node at once; its folder stays."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
            self._work = None
        await self._stack.aclose()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    def sent(self, kind: type) -> list[Any]:
        """What it sent of one kind of message."""
        return [message for message in self.link.sent if isinstance(message, kind)]

    async def spent(self) -> int:
        return await self.core.accounts.spent("turbine")


class SimulatedChild:
    """A training child that only knows whether it runs."""

    def __init__(self) -> None:
        self.running = False

    async def start(self) -> None:
        self.running = True

    async def stop(self) -> None:
        self.running = False


class CoordinatorSeat:
    """The coordinator's node."""

    def __init__(self, home: NodeHome, patience: Patience, flower: SimulatedFlower) -> None:
        self.home, self.patience, self.flower = home, patience, flower
        self._stack = AsyncExitStack()
        self._work: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Starts the node, or starts it again over what its folder holds; open jobs are not taken up yet."""
        self.core = core = await self._stack.enter_async_context(
            core_of(config_of(self.home, "coordinator", "neutral"))
        )
        self.sequencer = Sequencer(core.mirror, core.signer, Witnesses(core.mirror, core.ledger, core.signer).witnessed)
        self.author = Author(core.signer, core.mirror, self._append)
        self.hub = Hub()
        self.training = Training(
            self.home.path, core.mirror, self.author, self.flower, open_sum=self.open_sum, record_sum=self._record_sum
        )
        self.jobs = Jobs(
            core.mirror,
            self.author,
            self.hub,
            transcripts=core.transcripts,
            answers=SqlAnswers(core.database),
            training=self.training,
            open_sum=self.open_sum,
            patience=self.patience,
        )
        self._work = asyncio.create_task(self.sequencer.run())
        await asyncio.sleep(0)  # the sequencer is open once it runs

    async def _append(self, frame: bytes) -> tuple[int, bytes]:
        return await self.sequencer.append(None, frame)

    def open_sum(self, spec: SumSpec) -> SumRun:
        state = self.core.mirror.state
        keys = {member: state.members[member].public_key for member in spec.roster}
        return SumRun(spec, keys, self.hub, ledger_size=state.size, progress_s=self.patience.sum_s)

    def _record_sum(self, *what: Any) -> Coroutine[Any, Any, None]:
        return record_sum(self.author, self.core.transcripts, *what)

    async def last(self, job: bytes) -> Json:
        """The last progress document of a job."""
        async with asyncio.timeout(120):
            documents = [document async for document in self.jobs.watch(job.hex())]
        return documents[-1]

    async def stop(self) -> None:
        """Ends the node at once; its folder stays."""
        await self.jobs.stop()
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
            self._work = None
        await self._stack.aclose()
