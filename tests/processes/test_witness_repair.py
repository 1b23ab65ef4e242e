"""Nodes whose log was damaged behind their backs: they refuse to go on, say how to recover, and recover."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from node.demo.processes import Nodes
from node.rpc.python_client import Node
from tests.processes.cli_world import SEAT, Consortium, Json, consortium, good, ready, until
from tests.worlds.stores import SOAK

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(not SOAK, reason="minutes of processes; tests/units/test_witness_nodes.py is the same in one"),
]
NAMES = ("alpha", "beta", "gamma", "delta")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    """A coordinator and four members, all of them seated as witnesses."""
    folder = tmp_path_factory.mktemp("r")
    good("found", "Test commons", "--legal-name", "Office", "--sector", "energy", home=folder / SEAT)
    (folder / "logs").mkdir()
    with Nodes(folder / "logs") as nodes, ThreadPoolExecutor() as threads:
        world = Consortium(folder, nodes, {})
        ready(nodes.start(SEAT, world.home(SEAT)))
        statuses = list(threads.map(lambda name: _join(world, name), NAMES))
        world.member = dict(zip(NAMES, (status["member"] for status in statuses), strict=True))
        good("member", "seat-committee", *(status["fingerprint"] for status in statuses), home=world.home(SEAT))
        yield world


def _join(world: Consortium, name: str) -> Json:
    good("invite", name, "--out", world.invitation(name), home=world.home(SEAT))
    words = ("--legal-name", name, "--sector", "energy", "--size", "small", "--owner-group", name)
    good("join", world.invitation(name), *words, home=world.home(name))
    return ready(world.nodes.start(name, world.home(name)))


def end(world: Consortium, name: str) -> None:
    """Ends a node in order."""
    process = world.nodes.running.pop(name).process
    process.send_signal(signal.SIGTERM)
    process.wait(30)


def start(world: Consortium, name: str) -> Json:
    return ready(world.nodes.start(name, world.home(name)))


def append(world: Consortium) -> Json:
    """One more witnessed entry: an app for the catalogue."""
    fab = world.folder / "app.fab"
    with Node(world.home(SEAT)) as office:
        size = office.status()["ledger"]["size"]
    fab.write_bytes(b"app at %d" % size)
    with Node(world.home(SEAT)) as office:
        return office._document(office._control.catalogue_app(f"app-{size}", fab.read_bytes()))


def refused(world: Consortium, name: str) -> str:
    """What a node says that does not start."""
    done = consortium("serve", home=world.home(name))
    return str(done.fault["what"] + done.fault["mend"])


def flip(path: Path) -> None:
    """One bit of one entry."""
    connection = sqlite3.connect(path)
    frame = bytearray(connection.execute('SELECT frame FROM entry WHERE "index" = 3').fetchone()[0])
    frame[200] ^= 4
    connection.execute('UPDATE entry SET frame = ? WHERE "index" = 3', (bytes(frame),))
    connection.commit()
    connection.close()


def empty(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM entry")
    connection.commit()
    connection.close()


def overwrite(path: Path) -> None:
    """Half of the file is noise."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + b"\xa5" * (len(data) - len(data) // 2))


DAMAGES: dict[str, Callable[[Path], None]] = {
    "a flipped bit": flip,
    "no entries": empty,
    "no file": lambda path: path.unlink(),
    "noise": overwrite,
}


def heads(world: Consortium) -> list[tuple[int, str]]:
    found = []
    for name in (SEAT, *NAMES):
        with Node(world.home(name)) as node:
            ledger = node.status()["ledger"]
            found.append((ledger["size"], ledger["root"]))
    return found


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_coordinator_whose_log_is_damaged_refuses_and_is_repaired_from_its_witnesses(
    house: Consortium, damage: str
) -> None:
    append(house)
    until(lambda: len(set(heads(house))) == 1)
    before = heads(house)[0]
    end(house, SEAT)
    database = house.home(SEAT) / "node.db"
    DAMAGES[damage](database)
    assert "consortium ledger repair" in refused(house, SEAT)
    document = good("ledger", "repair", home=house.home(SEAT))
    assert (document["size"], document["root"], document["behind"]) == (*before, 0)
    assert document["heard"] >= 3
    assert Path(document["damaged"]).is_file()
    assert (document["lost"] == []) == (damage in ("a flipped bit", "no entries"))
    start(house, SEAT)
    until(lambda: _attending(house) == 4)
    append(house)
    until(lambda: set(heads(house)) == {(before[0] + 1, heads(house)[0][1])})


def _attending(world: Consortium) -> int:
    with Node(world.home(SEAT)) as office:
        return len(office.status()["attending"])


def test_a_restored_backup_of_the_whole_folder_goes_on_where_its_witnesses_are(house: Consortium) -> None:
    """Fails without the hearing at start: nothing in the folder says that it is old."""
    append(house)
    home, backup = house.home(SEAT), house.folder / "backup"
    end(house, SEAT)
    shutil.copytree(home, backup, ignore=shutil.ignore_patterns("run"))
    start(house, SEAT)
    append(house)
    append(house)
    until(lambda: len(set(heads(house))) == 1)
    before = heads(house)[0]
    end(house, SEAT)
    for name in ("node.db", "node.db-wal", "node.db-shm", "head", "seal"):
        (home / name).unlink(missing_ok=True)
        if (backup / name).exists():
            shutil.copy2(backup / name, home / name)
    start(house, SEAT)
    until(lambda: heads(house)[0] == before)
    append(house)
    until(lambda: len(set(heads(house))) == 1)
    with Node(house.home("alpha")) as member:
        assert member.status()["alarm"] is None


def test_an_older_database_is_repaired(house: Consortium) -> None:
    """The folder's head file knows better than its database."""
    home = house.home(SEAT)
    end(house, SEAT)
    shutil.copy2(home / "node.db", house.folder / "older.db")
    start(house, SEAT)
    until(lambda: _attending(house) == 4)
    append(house)
    until(lambda: len(set(heads(house))) == 1)
    before = heads(house)[0]
    end(house, SEAT)
    shutil.copy2(house.folder / "older.db", home / "node.db")
    assert "consortium ledger repair" in refused(house, SEAT)
    document = good("ledger", "repair", home=home)
    assert (document["size"], document["root"]) == before
    assert document["lost"] == []
    start(house, SEAT)
    until(lambda: len(set(heads(house))) == 1)


def test_a_member_is_repaired_from_the_coordinator(house: Consortium) -> None:
    append(house)
    until(lambda: len(set(heads(house))) == 1)
    before = heads(house)[0]
    end(house, "beta")
    flip(house.home("beta") / "node.db")
    assert "consortium ledger repair" in refused(house, "beta")
    document = good("ledger", "repair", home=house.home("beta"))
    assert (document["role"], document["size"], document["root"]) == ("member", *before)
    start(house, "beta")
    append(house)
    until(lambda: len(set(heads(house))) == 1)


def test_a_member_that_forgot_what_it_voted_is_not_repaired(house: Consortium) -> None:
    """Fails when a member gets a fresh database beside its old keys: it could vote or spend twice."""
    end(house, "gamma")
    database = house.home("gamma") / "node.db"
    kept = database.read_bytes()
    database.unlink()
    fault = consortium("ledger", "repair", home=house.home("gamma")).fault
    assert fault["code"] == "bad-config"
    assert "join again" in fault["mend"]
    assert not database.exists()
    database.write_bytes(kept)
    start(house, "gamma")


def test_a_running_node_is_not_repaired(house: Consortium) -> None:
    assert "running node" in consortium("ledger", "repair", home=house.home("delta")).fault["mend"]


def test_a_head_of_ours_that_is_not_in_the_witnesses_log_is_not_papered_over(house: Consortium) -> None:
    """The head file of another log of this key: no repair decides which one stands."""
    home = house.home(SEAT)
    end(house, SEAT)
    kept = (home / "head").read_bytes()
    program = (
        "import sys; from pathlib import Path; from node.store.head import HeadFile;"
        "from consortium.ledger.entry import Head; HeadFile(Path(sys.argv[1])).write(Head(5, bytes(32)))"
    )
    subprocess.run([sys.executable, "-c", program, str(home / "head")], check=True)
    fault = consortium("ledger", "repair", home=home).fault
    assert fault["code"] == "fork"
    (home / "head").write_bytes(kept)
    start(house, SEAT)
