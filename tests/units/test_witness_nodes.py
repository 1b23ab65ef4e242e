"""Whole nodes over gRPC: witnessed appends, alarms that their stewards see, and logs that are repaired."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from consortium.errors import ConfigError, ConsortiumError, ForkError
from consortium.evidence import unproved, write_evidence
from consortium.ledger.checkpoint import Checkpoint, parse_note, sign_checkpoint
from consortium.ledger.entry import Head
from node.app.doctor import doctor
from node.app.repair import repair
from node.cli.entry import run
from node.rpc.client import ControlClient
from node.services import member as following
from node.services import witness as witnessing
from node.services.api import Batch
from node.store.head import HeadFile
from tests.worlds.committee import when
from tests.worlds.nodes import OFFICE, Nodes

NAMES = ("alpha", "beta", "gamma", "delta")


@pytest.fixture
async def nodes(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Nodes]:
    for module in (following, witnessing):
        monkeypatch.setattr(module, "RECONNECT_S", 0.05)
        monkeypatch.setattr(module, "RECONNECT_MAX_S", 0.2)
    made = Nodes(tmp_path_factory.mktemp("n"))
    try:
        await made.found(NAMES)
        yield made
    finally:
        await made.stop_all()


def flip(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        frame = bytearray(connection.execute('SELECT frame FROM entry WHERE "index" = 3').fetchone()[0])
        frame[200] ^= 4
        connection.execute('UPDATE entry SET frame = ? WHERE "index" = 3', (bytes(frame),))
    connection.close()


def noise(path: Path) -> None:
    path.write_bytes(b"\xa5" * 20_000)


def no_file(path: Path) -> None:
    path.unlink()


async def test_appends_are_witnessed_while_k_of_n_are_there(nodes: Nodes) -> None:
    await nodes.append("one")
    size, _ = await nodes.level()
    acknowledged = nodes.running["delta"].core.mirror.acknowledged
    assert acknowledged is not None
    assert len(parse_note(acknowledged.note).signatures) >= 4
    await nodes.stop("alpha")
    await asyncio.wait_for(nodes.append("two"), 10)
    await nodes.stop("beta")
    appending = asyncio.create_task(nodes.append("three"))
    await asyncio.sleep(0.5)
    assert not appending.done()
    await nodes.start("alpha")
    assert await asyncio.wait_for(appending, 10) == size + 1
    await nodes.start("beta")
    assert (await nodes.level())[0] == size + 2


@pytest.mark.parametrize("damage", [flip, noise])
async def test_a_coordinator_is_repaired_from_its_witnesses(nodes: Nodes, damage: Callable[[Path], None]) -> None:
    """Fails without `ledger repair`, or when it loses, invents or does not verify entries."""
    await nodes.append("one")
    before = await nodes.level()
    await nodes.stop(OFFICE)
    damage(nodes.database(OFFICE))
    with pytest.raises(ConsortiumError, match="consortium ledger repair"):
        await nodes.start(OFFICE)
    said: list[str] = []
    document = await asyncio.wait_for(repair(nodes.home(OFFICE), said.append), 20)
    assert (document["size"], bytes.fromhex(document["root"]), document["behind"]) == (*before, 0)
    assert document["heard"] >= 3
    assert document["lost"] == [] if damage is flip else "invitation" in document["lost"]
    await nodes.start(OFFICE)
    await when(lambda: nodes.running[OFFICE].core.mirror.acknowledged_size == before[0])
    await asyncio.wait_for(nodes.append("two"), 20)
    assert (await nodes.level())[0] == before[0] + 1


async def test_a_repair_waits_for_as_many_witnesses_as_a_start_does(nodes: Nodes) -> None:
    """Fails when it takes the word of two: one may lie, one may be behind."""
    await nodes.append("one")
    before = await nodes.level()
    await nodes.stop(OFFICE)
    for name in NAMES[2:]:
        await nodes.stop(name)
    flip(nodes.database(OFFICE))
    said: list[str] = []
    repairing = asyncio.create_task(repair(nodes.home(OFFICE), said.append))
    await when(lambda: any("2 members are heard" in text for text in said), 20)
    assert not repairing.done()
    await nodes.start(NAMES[2])
    document = await asyncio.wait_for(repairing, 20)
    assert (document["size"], bytes.fromhex(document["root"])) == before


async def test_a_head_file_that_knows_more_asks_for_every_witness(nodes: Nodes) -> None:
    """A crash after the head was noted and before a witness saw it; nobody else knows of the entry."""
    before = await nodes.level()
    await nodes.stop(OFFICE)
    await nodes.stop(NAMES[0])
    flip(nodes.database(OFFICE))
    HeadFile(nodes.home(OFFICE) / "head").write(Head(before[0] + 1, bytes(32)))
    said: list[str] = []
    repairing = asyncio.create_task(repair(nodes.home(OFFICE), said.append))
    await when(lambda: any("3 members are heard" in text for text in said), 20)
    await asyncio.sleep(0.2)
    assert not repairing.done()
    await nodes.start(NAMES[0])
    assert (await asyncio.wait_for(repairing, 20))["behind"] == 1
    await nodes.start(OFFICE)
    await asyncio.wait_for(nodes.append("one"), 20)


async def test_a_head_of_this_key_that_nobody_has_is_not_papered_over(nodes: Nodes) -> None:
    await nodes.stop(OFFICE)
    HeadFile(nodes.home(OFFICE) / "head").write(Head(5, bytes(32)))
    with pytest.raises(ForkError, match="two different logs"):
        await asyncio.wait_for(repair(nodes.home(OFFICE), lambda _: None), 20)


async def test_a_restored_backup_of_the_whole_folder_adopts_what_its_witnesses_kept(nodes: Nodes) -> None:
    """Fails without the hearing at start: nothing in the folder says that it is old."""
    await nodes.append("one")
    await nodes.level()
    await nodes.stop(OFFICE)
    home, backup = nodes.home(OFFICE), nodes.home("backup")
    await asyncio.to_thread(shutil.copytree, home, backup, ignore=shutil.ignore_patterns("run"))
    await nodes.start(OFFICE)
    await asyncio.wait_for(nodes.append("two"), 20)
    before = await nodes.level()
    await nodes.stop(OFFICE)
    for name in ("node.db", "head", "seal"):
        shutil.copy2(backup / name, home / name)
    await nodes.start(OFFICE)
    await when(lambda: nodes.running[OFFICE].core.mirror.acknowledged_size == before[0], 20)
    await asyncio.wait_for(nodes.append("three"), 20)
    assert (await nodes.level())[0] == before[0] + 1
    assert [(await node.status())["alarm"] for node in nodes.running.values()] == [None] * 5


async def test_a_member_is_repaired_from_the_coordinator(nodes: Nodes) -> None:
    before = await nodes.level()
    await nodes.stop("beta")
    flip(nodes.database("beta"))
    with pytest.raises(ForkError, match="consortium ledger repair"):
        await nodes.start("beta")
    document = await asyncio.wait_for(repair(nodes.home("beta"), lambda _: None), 20)
    assert (document["role"], document["size"], bytes.fromhex(document["root"])) == ("member", *before)
    await nodes.start("beta")
    await nodes.append("one")
    await nodes.level()


async def test_a_member_that_forgot_what_it_voted_is_not_repaired(nodes: Nodes) -> None:
    """Fails when a member gets a fresh database beside its old keys: it could vote, spend or cosign twice."""
    await nodes.level()
    await nodes.stop("gamma")
    no_file(nodes.database("gamma"))
    with pytest.raises(ConfigError, match="join again"):
        await asyncio.wait_for(repair(nodes.home("gamma"), lambda _: None), 20)
    assert not nodes.database("gamma").exists()


async def test_a_member_that_holds_another_log_than_the_coordinator_is_not_repaired(nodes: Nodes) -> None:
    """Fails without the comparison with the head file: a witness would forget what it cosigned."""
    await nodes.level()
    await nodes.stop("gamma")
    flip(nodes.database("gamma"))
    HeadFile(nodes.home("gamma") / "head").write(Head(5, bytes(32)))
    with pytest.raises(ForkError, match="another log"):
        await asyncio.wait_for(repair(nodes.home("gamma"), lambda _: None), 20)


async def test_a_running_node_is_not_repaired(nodes: Nodes) -> None:
    with pytest.raises(ConfigError, match="running node"):
        await repair(nodes.home("alpha"), lambda _: None)


async def test_a_node_that_is_shown_another_log_says_so_and_stops(
    nodes: Nodes, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status, doctor and the auditor's command agree; local control goes on."""
    size, _ = await nodes.level()
    office, alpha = nodes.running[OFFICE].core, nodes.running["alpha"]
    forged = sign_checkpoint(
        Checkpoint(office.mirror.origin, size, bytes(32)), office.signer, office.mirror.origin
    ).encode()
    with pytest.raises(ForkError):
        await alpha.core.mirror.extend(Batch(size, (), forged))
    for _ in range(200):
        if (status := await alpha.status())["alarm"] is not None:
            break
        await asyncio.sleep(0.05)
    assert (status["connected"], status["alarm"]["proved"]) == (False, True)
    async with ControlClient(nodes.home(OFFICE)) as control:
        await _gone(control, status["member"])
    found = {check["check"]: check for check in (await doctor(nodes.home("alpha")))["checks"]}
    assert not found["running node"]["ok"]
    assert "consortium audit --evidence" in found["running node"]["mend"]
    async with ControlClient(nodes.home("alpha")) as control:
        with pytest.raises(ForkError, match="stopped following"):
            await control.approve_app("00" * 32)
        assert (await control.list_members())["members"]
    await nodes.append("one")  # the others go on
    genesis = str(nodes.home("alpha") / "genesis.frame")
    assert run(["audit", "--evidence", status["alarm"]["evidence"], "--genesis", genesis]) == 0
    assert "Proved: The coordinator signed two different logs" in " ".join(capsys.readouterr().out.split())


async def _gone(control: ControlClient, member: str) -> None:
    async with asyncio.timeout(10):
        while member in (await control.status())["attending"]:  # noqa: ASYNC110 it is asked over a socket
            await asyncio.sleep(0.05)


async def test_the_auditor_s_command_says_what_is_only_a_word(
    tmp_path: Path, nodes: Nodes, capsys: pytest.CaptureFixture[str]
) -> None:
    core = nodes.running["alpha"].core
    file = tmp_path / "evidence.json"
    file.write_bytes(write_evidence(unproved(), "I was shown less.", core.genesis, core.signer))
    assert run(["audit", "--evidence", str(file)]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "Nothing is proved" in said
    assert "Compare the consortium's genesis" in said
    file.write_bytes(b"{}")
    assert run(["audit", "--evidence", str(file), "--json"]) == 1
    assert '"malformed"' in capsys.readouterr().out
    assert run(["audit", str(tmp_path)]) == 2
