"""Flower as it is: SuperLink, SuperNodes and ServerApps in processes of their own, over TLS, with a fake secure sum."""

from __future__ import annotations

import asyncio
import hashlib
import os
import pickle
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
import pytest_asyncio

from node.training.fixed_point import decode
from node.training.model_digest import load_archive, model_digest
from node.training.ports import Plan
from node.training.supervisor import SuperLinkProcess, SuperNodeProcess
from tests.processes.flower_world import Switchboard, World, certificate, command, flower_key, turbine_table
from tests.units.flower_apps import POWER, apps, small_app

together = pytest.mark.asyncio(loop_scope="module")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of the path patterns in Flower's builder
]

CANARY = "canary-92b1d4"
MEMBERS = [bytes([index]) * 32 for index in (1, 2, 3)]
LEAKY = f"""
from flwr.serverapp.strategy import FedAvg
import numpy as np
@client.train()
def train(message, context):
    print("{CANARY}", file=sys.stderr)
    logging.getLogger("flwr").error("{CANARY}")
    arrays = {{name: Array(array.numpy() + np.float32(1)) for name, array in message.content["arrays"].items()}}
    metrics = MetricRecord({{"num-examples": 10, "utility": 0.5, "{CANARY}": 1.0}})
    config = ConfigRecord({{"{CANARY}": "{CANARY}"}})
    return Message(RecordDict({{"arrays": ArrayRecord(arrays), "{CANARY}": metrics, "c": config}}), reply_to=message)
@client.evaluate()
def evaluate(message, context):
    raise ValueError("{CANARY}")
@server.main()
def main(grid, context):
    start = ArrayRecord({{"w": Array(np.zeros(4, np.float32))}})
    FedAvg(fraction_evaluate=0.0).start(grid=grid, initial_arrays=start, num_rounds=1)
    messages = [
        Message(RecordDict({{"arrays": start}}), dst_node_id=node, message_type="evaluate")
        for node in grid.get_node_ids()
    ]
    grid.send_and_receive(messages)
"""


@dataclass
class Site:
    folder: Path
    world: World
    superlink: SuperLinkProcess
    nodes: dict[bytes, SuperNodeProcess]
    keys: dict[bytes, bytes]

    def offer(self, fab: bytes, plan: Plan) -> None:
        """Makes the fakes permit this app under this plan, and forget what was."""
        fresh = World(MEMBERS, plan, self.world.table, hashlib.sha256(fab).digest())
        for name in ("plan", "permitted", "begun", "opened", "sums", "plain", "outcome"):
            setattr(self.world, name, getattr(fresh, name))

    def pids(self) -> list[int]:
        return [child.pid for child in (self.superlink, *self.nodes.values()) if child.pid is not None]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("flower")
    world = World(MEMBERS, Plan(1, 3, 1, (), ()), turbine_table(2000, 1), b"")
    switchboard = Switchboard(world, folder / "s")
    cert_file, key_file = certificate(folder)
    superlink = SuperLinkProcess(
        folder / "superlink",
        "127.0.0.1",
        0,
        cert_file,
        key_file,
        database=str(folder / "superlink.db"),
        command=command("superlink", switchboard, "-"),
        serverapp_command=command("serverapp", switchboard, "coordinator"),
    )
    starting = asyncio.create_task(superlink.start())
    keys = {member: flower_key(folder / f"{member[0]}.key") for member in MEMBERS}
    await starting
    await superlink.register(list(keys.values()))
    nodes = {
        member: SuperNodeProcess(
            folder / f"node{member[0]}",
            f"127.0.0.1:{superlink.port}",
            cert_file,
            folder / f"{member[0]}.key",
            command=command("supernode", switchboard, member.hex()),
        )
        for member in MEMBERS
    }
    for node in nodes.values():
        node.start()
    made = Site(folder, world, superlink, nodes, keys)
    await until_async(lambda: superlink.online(list(keys.values())), set(keys.values()))
    yield made
    await asyncio.gather(*(node.stop() for node in nodes.values()))
    await superlink.stop()
    switchboard.close()


async def until_async(question: Callable[[], object], answer: object, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while await question() != answer:  # type: ignore[misc]
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.1)


async def run_to_end(site: Site, job: bytes, fab: bytes, progress_seconds: float = 20.0) -> str:
    await site.superlink.start_run(job, fab, site.world.plan, site.keys, b"seed", progress_seconds)
    return await asyncio.wait_for(site.superlink.wait_run(job), 60)


@together
async def test_only_the_fleet_paths_and_health_answer_on_the_public_port(site: Site) -> None:
    trust = ssl.create_default_context(cafile=str(site.folder / "tls.pem"))

    def status(path: str, *, post: bool = True) -> int:
        request = urllib.request.Request(f"https://127.0.0.1:{site.superlink.port}{path}", data=b"" if post else None)
        request.add_header("Content-Type", "application/x-protobuf")
        try:
            with urllib.request.urlopen(request, context=trust, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def statuses() -> dict[str, int]:
        hidden = ("control/start-run", "control/stop-run", "control/register-node", "control/list-nodes")
        hidden += ("runtime/acquire-task", "runtime/pull-messages", "fleet/register-node", "fleet/unregister-node")
        paths = [f"/v1/{path}" for path in hidden] + ["/docs", "/openapi.json", "/v1/fleet/../control/start-run"]
        return {path: status(path) for path in paths} | {"/health": status("/health", post=False)}

    found = await asyncio.to_thread(statuses)
    assert found.pop("/health") == 200
    assert set(found.values()) == {404}, found
    assert await asyncio.to_thread(status, "/v1/fleet/pull-messages") in (400, 401, 415, 422)


@together
async def test_three_rounds_and_one_evaluation_give_the_serverapp_weighted_means_only(site: Site) -> None:
    fab = apps.build_fab(POWER)
    site.offer(fab, Plan(3, 3, 5000, ("utility",), tuple(f"utility-{i:03d}" for i in range(4)), {"rounds": 3}))
    job = b"A" * 32
    began = time.monotonic()
    assert await run_to_end(site, job, fab) == ""
    world, outcome = site.world, site.world.outcome
    assert outcome is not None
    print(f"four rounds in {time.monotonic() - began:.1f} s with the start of the ServerApp")
    assert [record.round for record in outcome.rounds] == [1, 2, 3, 4]
    assert all(set(record.survivors) == set(record.roster) == set(MEMBERS) for record in outcome.rounds)
    assert len(world.opened) == len(world.sums) == 4
    models = [load_archive(data) for data in outcome.models]
    assert [record.model_sha256 for record in outcome.rounds[:3]] == [model_digest(m) for m in models[:3]]
    for number in (1, 2, 3):
        plain = [world.plain[member, number] for member in MEMBERS]
        for member in MEMBERS:
            assert not np.array_equal(world.sums[number][member], world.plain[member, number])
        mean = decode(world.plan, np.sum(plain, axis=0, dtype=np.uint32), 1)
        assert np.allclose(models[number]["parameters"], mean.weights, atol=1e-6)
    assert [begun for begun in world.begun if begun[2]] == [(m, 1, True) for m, _, new in world.begun if new]
    utilities = list(outcome.rounds[3].metrics.values())
    assert len(utilities) == 4
    assert utilities[3] > utilities[0] + 0.1
    assert [list((site.folder / f"node{m[0]}" / "jobs").iterdir()) for m in MEMBERS] == [[], [], []]


@together
async def test_what_a_clientapp_says_beside_its_vector_reaches_no_wire_log_database_or_serverapp(site: Site) -> None:
    fab = small_app(site.folder / "leaky", LEAKY)
    site.offer(fab, Plan(1, 3, 100, ("utility",), ()))
    job = b"B" * 32
    assert await run_to_end(site, job, fab) == "fake-refused"  # nobody answers the evaluation
    world = site.world
    assert sorted(world.sums) == [1, 2]
    assert world.sums[2] == {}
    plain = [world.plain[member, 1] for member in MEMBERS]
    mean = decode(world.plan, np.sum(plain, axis=0, dtype=np.uint32), 1)
    assert (mean.examples, mean.metrics) == (30, pytest.approx((0.5,), abs=1e-6))
    assert CANARY.encode() not in pickle.dumps((world.sums, world.outcome))
    written = [path for path in site.folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    assert {"superlink.db", "flower.log"} <= {path.name for path in written}
    source = hashlib.sha256(fab).hexdigest()
    for path in written:
        content = path.read_bytes().replace(fab, source.encode())
        assert CANARY.encode() not in content, path


@together
async def test_a_fab_that_no_node_approved_runs_nowhere(site: Site) -> None:
    approved = apps.build_fab(POWER)
    other = small_app(site.folder / "other", LEAKY)
    site.offer(approved, Plan(1, 3, 100, ("utility",), ()))
    assert await run_to_end(site, b"C" * 32, other) == "fake-refused"
    assert site.world.sums == {1: {}}
    assert site.world.plain == {}


@together
async def test_a_round_goes_on_without_a_node_that_was_killed_and_a_stopped_run_dies(site: Site) -> None:
    fab = apps.build_fab(POWER)
    site.offer(fab, Plan(29, 3, 5000, ("utility",), (), {"rounds": 29}))
    job, victim = b"D" * 32, MEMBERS[0]
    await site.superlink.start_run(job, fab, site.world.plan, site.keys, b"seed", 1.0)
    await asyncio.to_thread(wait_for_sums, site.world, 2)
    pid = site.nodes[victim].pid
    assert pid is not None
    os.killpg(pid, signal.SIGKILL)
    seen = len(site.world.sums)
    await asyncio.to_thread(wait_for_sums, site.world, seen + 2)
    last = max(site.world.sums)
    assert set(site.world.sums[last]) == set(MEMBERS) - {victim}
    children = psutil.Process(site.superlink.pid).children(recursive=True)
    assert len(children) == 1, "the run's ServerApp; the next one is made ready when it has ended"
    await site.superlink.stop_run(job)
    assert await asyncio.wait_for(site.superlink.wait_run(job), 10) == "run-killed"
    assert not children[0].is_running()
    after = len(site.world.sums)
    await asyncio.sleep(1.0)
    assert len(site.world.sums) == after
    await site.nodes[MEMBERS[1]].forget(job)
    folder = site.folder / f"node{MEMBERS[1][0]}" / "jobs"
    await until_async(lambda: listed(folder), [], 10)
    await until_async(lambda: restarts(site, victim), True, 20)


async def listed(folder: Path) -> list[str]:
    return os.listdir(folder)  # noqa: PTH208


async def restarts(site: Site, member: bytes) -> bool:
    return site.nodes[member].starts > 1 and site.nodes[member].alive


def wait_for_sums(world: World, count: int) -> None:
    with world.changed:
        assert world.changed.wait_for(lambda: len(world.sums) >= count, 60)


@together
async def test_stopping_leaves_no_process_behind(site: Site) -> None:
    pids = site.pids()
    assert len(pids) == 4
    family = [child for pid in pids for child in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))]
    await asyncio.gather(*(node.stop() for node in site.nodes.values()), site.superlink.stop())
    assert [process for process in family if process.is_running()] == []
    assert site.pids() == []


def test_children_end_by_themselves_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys; from pathlib import Path\n"
        "from node.training.supervisor import Child\n"
        "async def main():\n"
        "    child = 'from node.training.parent_link import adopt; import time; link = adopt();'\n"
        "    child += 'link.follow(print); link.send({}); time.sleep(60)'\n"
        "    told = asyncio.Event()\n"
        "    one = Child([sys.executable, '-c', child], Path(sys.argv[1]), {}, lambda _: told.set(), lambda: None)\n"
        "    one.start(); await told.wait(); print(one.pid, flush=True); await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=root
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        gone, _ = psutil.wait_procs([child], 10)
        assert gone == [child]
