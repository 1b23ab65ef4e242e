"""The parties of the ledger's bench: a coordinator, witnesses and authors, in folders as `consortium serve` reads them.

Everybody enrols, is admitted, offers a dataset and permits one job in this process, through the sequencer's own intake;
nodes are then started on what was stored.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from consortium.encoding import Json
from consortium.ledger.checkpoint import Checkpoint, sign_checkpoint
from consortium.ledger.merkle import leaf_hash
from consortium.privacy.accounting import rho_micro_for
from node.app.founding import found
from node.config import Addresses, NodeConfig, NodeHome, create_home, write_config
from node.identity import (
    certificate_request,
    client_certificate,
    create_ledger_key,
    create_tls_key,
    load_ca,
    load_ledger_key,
    write_private,
)
from node.services.mirror import Mirror
from node.store.database import Database
from node.store.ledger import SqlLedgerStore
from scripts.benches.ledger_audit import Author
from tests.worlds import documents

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HOST = "127.0.0.1"
NAME = "Bench"
DATASET = "scada"
RHO_MICRO = rho_micro_for(1_000, documents.DELTA)
GROUP = 100  # entries under one checkpoint where no network decides it


@dataclass(frozen=True)
class Party:
    """A member: its folder, what it signs entries with, and the body of its enrolment."""

    home: NodeHome
    author: Author
    enrolment: Json
    _rounds: Iterator[int] = field(default_factory=itertools.count)

    @property
    def id(self) -> str:
        return self.author.key_id.hex()

    def pay(self, genesis: str, job: str, head: Json) -> bytes:
        """The frame of a payment for one more round of the job: what members write most often."""
        body: Json = {
            "job": job,
            "dataset": DATASET,
            "round": next(self._rounds),
            "rho_micro": RHO_MICRO,
            "delta": documents.DELTA,
        }
        return self.author.write("spend", body, genesis, head)


class Log:
    """A log that grows in this process by the sequencer's intake, one signed and stored checkpoint a group."""

    def __init__(self, mirror: Mirror, signer: Author) -> None:
        self._mirror = mirror
        self._signer = signer

    @property
    def size(self) -> int:
        return self._mirror.size

    @property
    def head(self) -> Json:
        return {"root": self._mirror.root.hex(), "size": self._mirror.size}

    async def add(self, frames: Sequence[bytes]) -> None:
        """Stores entries under one checkpoint; none of them may be void."""
        steps = await self._mirror.offer(frames, self._sign)
        faults = [step.fault for step in steps if step.fault is not None]
        assert not faults, faults[0]

    def _sign(self, checkpoint: Checkpoint) -> bytes:
        return sign_checkpoint(checkpoint, self._signer, checkpoint.origin).encode()


@dataclass(frozen=True)
class World:
    """A consortium on disk, none of whose nodes runs yet."""

    coordinator: NodeHome
    addresses: Addresses
    genesis: str
    seat: Author
    witnesses: tuple[Party, ...]
    authors: tuple[Party, ...]
    job: str = ""

    @asynccontextmanager
    async def log(self, folder: NodeHome) -> AsyncIterator[Log]:
        """The log in a node's folder, while no node serves from it."""
        database = await Database.open(folder.database)
        try:
            mirror = Mirror(await SqlLedgerStore.open(database), self.coordinator.genesis.read_bytes())
            await mirror.load()
            yield Log(mirror, self.seat)
        finally:
            await database.close()

    def payments(self, count: int, head: Json) -> list[bytes]:
        """So many payments, of one author after another."""
        authors = itertools.islice(itertools.cycle(self.authors), count)
        return [author.pay(self.genesis, self.job, head) for author in authors]


async def found_world(folder: Path, *, witnesses: int, authors: int) -> World:
    """Founds a consortium in a folder and writes the entries with which it begins, as many as three a member.

    Args:
        folder: every party gets a folder in it.
        witnesses: size of the committee; 0 for none.
        authors: members that will write.
    """
    founded = found(
        folder / "office",
        name=NAME,
        legal_name="Office",
        sectors=["energy"],
        host=HOST,
        ports=(0, 0, 0),
        members_min=3,
        schedule=documents.SCHEDULE,
    )
    office = NodeHome(Path(founded["home"]))
    addresses = Addresses(members=founded["address"], fleet=founded["fleet_address"])
    parties = [make_party(folder / f"member-{place}", office, addresses) for place in range(witnesses + authors)]
    genesis = office.genesis.read_bytes()
    seat = Author(load_ledger_key(office.ledger_key).seed, seq=1, prev=leaf_hash(genesis))
    world = World(
        office, addresses, leaf_hash(genesis).hex(), seat, tuple(parties[:witnesses]), tuple(parties[witnesses:])
    )
    async with world.log(office) as log:
        await log.add([genesis])
        await _admit(world, log, parties)
        if witnesses:
            members = sorted(party.id for party in world.witnesses)
            await log.add([seat.write("committee", {"members": members}, world.genesis, log.head)])
        return await _with_job(world, log)


def make_party(path: Path, office: NodeHome, addresses: Addresses) -> Party:
    """A member's folder, with new keys and a certificate of the consortium's CA; enrolled by an entry of its own."""
    ca = load_ca(office.ca_key, office.ca_certificate)
    home = create_home(path)
    signer, tls = create_ledger_key(home.ledger_key), create_tls_key(home.tls_key)
    request = certificate_request(tls, signer.key_id)
    certificate = client_certificate(ca, request, signer.key_id, tls.spki_sha256, datetime.now(UTC))
    write_private(home.tls_certificate, certificate)
    write_private(home.ca_certificate, ca.certificate_pem)
    write_private(home.genesis, office.genesis.read_bytes())
    write_config(
        NodeConfig(
            home=home,
            role="member",
            consortium=NAME,
            legal_name=path.name,
            sector="energy",
            size="small",
            addresses=addresses,
        )
    )
    enrolment = {
        **documents.enrolment(signer, path.name, "small"),
        "tls_key_sha256": tls.spki_sha256.hex(),
    }
    return Party(home, Author(signer.seed), enrolment)


async def _admit(world: World, log: Log, parties: Sequence[Party]) -> None:
    head = log.head
    enrolments = [party.author.write("enrolment", party.enrolment, world.genesis, head) for party in parties]
    await log.add(enrolments)
    admissions = [
        {"member": party.id, "enrolment": leaf_hash(frame).hex()}
        for party, frame in zip(parties, enrolments, strict=True)
    ]
    await log.add([world.seat.write("admission", body, world.genesis, head) for body in admissions])


async def _with_job(world: World, log: Log) -> World:
    """The world with a job that every author permitted; it has ended, so that no node takes it up."""
    head, genesis = log.head, world.genesis
    offer = documents.offer(dataset=DATASET, cap=1 << 52)
    await log.add([party.author.write("dataset", offer, genesis, head) for party in world.authors])
    datasets = [{"member": member, "dataset": DATASET} for member in sorted(party.id for party in world.authors)]
    body = {"kind": "statistic", "datasets": datasets, "members_min": 3, "request": documents.statistic()}
    launched = world.seat.write("job", body, genesis, head)
    job = leaf_hash(launched).hex()
    decision = documents.decision(job)
    decisions = [party.author.write("decision", decision, genesis, head) for party in world.authors]
    await log.add([launched, *decisions])
    await log.add([world.seat.write("abort", {"job": job, "reason": "stopped"}, genesis, head)])
    return World(world.coordinator, world.addresses, genesis, world.seat, world.witnesses, world.authors, job)
