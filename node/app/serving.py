"""Runs a node until it is told to stop: builds the adapters of its role and joins them to the services."""

from __future__ import annotations

import asyncio
import gc
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import policies
from consortium.encoding import Json
from consortium.ledger.merkle import leaf_hash
from consortium.privacy.secure_sum import SumSpec
from node.app.alarm import Alarm
from node.app.control import NodeControl
from node.app.flower import CoordinatorFlower, MemberFlower
from node.app.keys import load_keyring
from node.app.seat import Seat
from node.authorisation.cedar import CedarEngine
from node.config import NodeConfig, node_home, read_config
from node.coordinator.enrolment import Enrolment
from node.coordinator.governing import Governing
from node.coordinator.hub import Hub
from node.coordinator.jobs import Jobs, Patience, record_sum
from node.coordinator.opening import open_sequencer
from node.coordinator.sequencer import Sequencer
from node.coordinator.sum_run import SumRun
from node.coordinator.training import Training
from node.coordinator.witnesses import Witnesses
from node.data.datasets import DuckDbDatasets
from node.data.noise import discrete_gaussian
from node.identity import client_certificate, load_ca, load_tls_key
from node.log import close_log, log, open_log
from node.rpc.auth import MemberOfKey
from node.rpc.channels import ClientTls
from node.rpc.handshakes import handshakes_logged
from node.rpc.member_client import CoordinatorClient
from node.rpc.server import (
    ServerTls,
    enrolment_server,
    local_server,
    network_server,
    rounds_server,
    trainer_server,
)
from node.services.author import Append, Author
from node.services.decisions import Decisions
from node.services.keyring import KeyRing
from node.services.member import MemberService
from node.services.member_sum import Surroundings
from node.services.mirror import Mirror
from node.services.switch import Switch
from node.services.witness import WitnessDuty
from node.store.accounts import SqlAccounts
from node.store.contacts import FileContacts
from node.store.database import Database
from node.store.journal import SqlRoundJournal
from node.store.ledger import SqlLedgerStore
from node.store.registry import (
    SqlAnswers,
    SqlDatasets,
    SqlInvitations,
    SqlMembers,
    SqlSettings,
    SqlTranscripts,
)

GC_THRESHOLDS = (50_000, 20, 20)


class SystemClock:
    """The wall clock of the machine."""

    def now(self) -> int:
        return int(time.time())


@dataclass(frozen=True)
class Core:
    """What both roles have."""

    config: NodeConfig
    signer: KeyRing
    genesis: bytes
    clock: SystemClock
    ledger: SqlLedgerStore
    mirror: Mirror
    switch: Switch
    engine: CedarEngine
    rows: DuckDbDatasets
    accounts: SqlAccounts
    members: SqlMembers
    datasets: SqlDatasets
    transcripts: SqlTranscripts
    contacts: FileContacts
    database: Database


async def serve(home: Path) -> None:
    """Serves the node of a folder until SIGTERM or SIGINT.

    Raises:
        ConfigError: no node there, or its files or addresses cannot be used.
        ForkError: the stored log is not the one that was acknowledged; nothing is served.
    """
    config = read_config(node_home(home))
    gc.set_threshold(*GC_THRESHOLDS)  # the log stays in memory: looking through it after each 700 objects costs a fifth
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    open_log(config.home.logs)
    try:
        role = coordinator if config.role == "coordinator" else member
        async with core_of(config) as core, role(core) as work:
            log("node.serves", kind=config.role, version=version("consortium-node"))
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({stopping, work}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if work.done():
                work.result()
    finally:
        log("node.stopped", kind=config.role)
        close_log()


@asynccontextmanager
async def core_of(config: NodeConfig) -> AsyncIterator[Core]:
    """Opens the store and replays the log."""
    home = config.home
    genesis = home.genesis.read_bytes()
    database = await Database.open(home.database, config.database)
    try:
        ledger = await SqlLedgerStore.open(database)
        mirror = Mirror(ledger, genesis)
        await mirror.load()
        switch = Switch(SqlSettings(database))
        await switch.load()
        core = Core(
            config=config,
            signer=load_keyring(home, mirror),
            genesis=genesis,
            clock=SystemClock(),
            ledger=ledger,
            mirror=mirror,
            switch=switch,
            engine=CedarEngine(policies.schema(), policies.guard()),
            rows=DuckDbDatasets(),
            accounts=SqlAccounts(database),
            members=SqlMembers(database),
            datasets=SqlDatasets(database),
            transcripts=SqlTranscripts(database),
            contacts=FileContacts(home.contacts),
            database=database,
        )
        await _raise_accounts(core)
        yield core
    finally:
        await database.close()


async def _raise_accounts(core: Core) -> None:
    """At start an account is the larger of local and ledger."""
    for (owner, lineage), spent in core.mirror.state.spent.items():
        if owner == core.signer.member:
            await core.accounts.raise_to(lineage, spent)


@asynccontextmanager
async def member(core: Core) -> AsyncIterator[asyncio.Task[None]]:
    """A member: an outbound connection and unix sockets, no port."""
    home = core.config.home
    tls = ClientTls(home.tls_key, home.tls_certificate, home.ca_certificate)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(CoordinatorClient(core.config.addresses.members, tls))
        author = Author(core.signer, core.mirror, client.append)
        alarm = Alarm(home.evidence, core.signer, core.genesis, core.mirror, client.follow)
        await alarm.load()
        service = _member_service(core, author, client)
        trainer = await trainer_server(home.trainer_socket, service, core.config.limits)
        stack.push_async_callback(trainer.stop)
        control = _control(
            core,
            author,
            connected=lambda: service.connected.is_set() and core.mirror.stopped is None,
            alarm=lambda: alarm.raised,
            seat=None,
        )
        local = await local_server(home.control_socket, control, core.config.limits)
        stack.push_async_callback(local.stop)
        duty = WitnessDuty(core.signer, core.mirror, core.ledger, core.clock, client.witness)
        yield await _supervised(stack, alarm.guard(_take_part(service, duty)))


async def _take_part(service: MemberService, duty: WitnessDuty) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(service.run())
        group.create_task(duty.run())


def _member_service(core: Core, author: Author, client: CoordinatorClient) -> MemberService:
    surroundings = Surroundings(
        signer=core.signer,
        mirror=core.mirror,
        author=author,
        decisions=Decisions(
            core.signer.member,
            engine=core.engine,
            datasets=core.datasets,
            accounts=core.accounts,
            members=core.members,
            clock=core.clock,
        ),
        journal=SqlRoundJournal(core.database),
        accounts=core.accounts,
        members=core.members,
        datasets=core.datasets,
        rows=core.rows,
        noise=discrete_gaussian,
        switch=core.switch,
        members_min=core.config.members_min,
    )
    return MemberService(surroundings, client, MemberFlower(core.config), version("consortium-node"))


@asynccontextmanager
async def coordinator(core: Core) -> AsyncIterator[asyncio.Task[None]]:
    """The coordinator: sequencer, hub, jobs, and three listeners."""
    config, home = core.config, core.config.home
    witnesses = Witnesses(core.mirror, core.ledger, core.signer)
    sequencer = Sequencer(core.mirror, core.signer, witnesses.witnessed)
    author = Author(core.signer, core.mirror, _own_append(sequencer))
    hub = Hub()
    patience = Patience()
    flower = CoordinatorFlower(config)

    def open_sum(spec: SumSpec) -> SumRun:
        keys = {member: core.mirror.state.members[member].public_key for member in spec.roster}
        return SumRun(spec, keys, hub, ledger_size=core.mirror.size, progress_s=patience.sum_s)

    training = Training(
        home.path,
        core.mirror,
        author,
        flower,
        open_sum=open_sum,
        record_sum=lambda *what: record_sum(author, core.transcripts, *what),
    )
    jobs = Jobs(
        core.mirror,
        author,
        hub,
        transcripts=core.transcripts,
        answers=SqlAnswers(core.database),
        training=training,
        open_sum=open_sum,
        patience=patience,
    )
    tls_key, ca = load_tls_key(home.tls_key), load_ca(home.ca_key, home.ca_certificate)
    tls = ServerTls(tls_key.pem, home.tls_certificate.read_bytes(), ca.certificate_pem)
    invitations = SqlInvitations(core.database, core.clock)
    enrolment = Enrolment(
        core.mirror,
        author,
        sequencer,
        invitations,
        core.contacts,
        genesis=core.genesis,
        ca_certificate=ca.certificate_pem,
        certify=lambda csr, who, key: client_certificate(ca, csr, who, key, datetime.now(UTC)),
    )
    seat = Seat(
        core.mirror,
        author,
        hub,
        jobs,
        training,
        invitations,
        core.clock,
        {
            "consortium": config.consortium,
            "genesis": leaf_hash(core.genesis).hex(),
            "enrolment_address": config.addresses.enrolment,
            "address": config.addresses.members,
            "fleet_address": config.addresses.fleet,
            "server_pin": tls_key.spki_sha256.hex(),
        },
    )
    governing = Governing(core.mirror, author, hub, witnesses, jobs)
    async with AsyncExitStack() as stack:
        stack.enter_context(handshakes_logged())
        stack.push_async_callback(flower.stop)
        stack.push_async_callback(jobs.stop)
        control = _control(core, author, connected=lambda: sequencer.open, alarm=lambda: None, seat=seat)
        for listener in (
            await network_server(
                config.addresses.members, tls, sequencer, hub, witnesses, _member_of_key(core), config.limits
            ),
            await enrolment_server(config.addresses.enrolment, tls, enrolment),
            await rounds_server(home.rounds_socket, training, config.limits),
            await local_server(home.control_socket, control, config.limits),
        ):
            stack.push_async_callback(listener.stop)
        yield await _supervised(stack, _coordinate(core, sequencer, witnesses, jobs, governing))


async def _coordinate(core: Core, sequencer: Sequencer, witnesses: Witnesses, jobs: Jobs, governing: Governing) -> None:
    """Hears the witnesses, then sequences, and takes up what a restart interrupted."""
    await open_sequencer(core.mirror, witnesses, core.signer)
    async with asyncio.TaskGroup() as group:
        group.create_task(sequencer.run())
        await asyncio.sleep(0)  # the sequencer is open once it runs
        if core.mirror.size == 0:
            await sequencer.append(None, core.genesis)
        await jobs.resume()
        group.create_task(governing.run())


def _own_append(sequencer: Sequencer) -> Append:
    async def append(frame: bytes) -> tuple[int, bytes]:
        return await sequencer.append(None, frame)

    return append


def _member_of_key(core: Core) -> MemberOfKey:
    known: dict[bytes, bytes] = {}  # asked for at every message of every stream: a search among all would be felt

    def find(key_sha256: bytes) -> bytes | None:
        members = core.mirror.state.members
        if key_sha256 not in known:
            known.update((member.tls_key_sha256, member.id) for member in members.values())
        found = members.get(known.get(key_sha256, b""))
        return found.id if found is not None and found.tls_key_sha256 == key_sha256 and found.active else None

    return find


async def _supervised(stack: AsyncExitStack, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
    task = asyncio.create_task(work)

    async def end() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    stack.push_async_callback(end)
    return task


def _control(
    core: Core, author: Author, *, connected: Callable[[], bool], alarm: Callable[[], Json], seat: Seat | None
) -> NodeControl:
    return NodeControl(
        core.config,
        version("consortium-node"),
        keys=core.signer,
        contacts=core.contacts,
        mirror=core.mirror,
        author=author,
        switch=core.switch,
        engine=core.engine,
        rows=core.rows,
        ledger=core.ledger,
        datasets=core.datasets,
        accounts=core.accounts,
        members=core.members,
        transcripts=core.transcripts,
        connected=connected,
        alarm=alarm,
        seat=seat,
    )
