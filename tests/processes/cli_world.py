"""A consortium as its users run it: `consortium` processes, tiny CSV files, a coordinator and three members."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consortium.errors import UnavailableError
from node.demo.processes import NodeProcess, Nodes
from node.rpc.python_client import Node

Json = Any
ROOT = Path(__file__).parents[2]
NAMES = ("alpha", "beta", "gamma")
SEAT = "office"
BUDGET_RHO_MICRO = 40_000  # two questions at epsilon 1, and not a third
COMMAND_SECONDS_MAX = 60
FOLLOW_SECONDS_MAX = 90
BOUNDS = {"lower": "0", "upper": "2000", "resolution": "1"}

DESCRIPTOR = """
dataset = "turbine-{name}"
lineage = "turbine-{name}"
sector = "energy"
grade = "general"
privacy_unit = "one 10-minute record"
key = ["time"]

[[columns]]
name = "time"
type = "timestamp"

[[columns]]
name = "power"
type = "number"
unit = "kW"
lower = "0"
upper = "2000"
resolution = "1"

[[columns]]
name = "vibration"
type = "number"
lower = "0"
upper = "10"
resolution = "0.1"
"""

POLICY = """
@id("permit")
@reason("Members may run statistics.")
permit (
  principal is Consortium::Member,
  action in [Consortium::Action::"statistic", Consortium::Action::"release"],
  resource
)
when { ["dp"].contains(context.privacy) };

@id("purpose")
@reason("The purpose is not agreed.")
forbid (principal, action, resource)
unless { ["yield"].contains(context.purpose) };

@id("columns")
@reason("Vibration is ours alone.")
forbid (principal, action, resource)
unless { ["power"].containsAll(context.columns) };
"""


@dataclass(frozen=True)
class Done:
    """How one command ended; `document` is what it printed under --json."""

    code: int
    out: str
    errors: str

    @property
    def document(self) -> Json:
        assert self.out.count("\n") == 1, self.out + self.errors
        return json.loads(self.out)

    @property
    def fault(self) -> Json:
        assert self.code == 1, self.out + self.errors
        return self.document["error"]


def consortium(*words: str | Path, home: Path | None = None, folder: Path | None = None) -> Done:
    """Runs one `consortium` command with --json in a process of its own."""
    at = [] if home is None else ["--home", str(home)]
    line = [sys.executable, "-m", "node.cli", *map(str, words), *at, "--json"]
    done = subprocess.run(
        line, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX, cwd=folder or ROOT, check=False
    )
    return Done(done.returncode, done.stdout, done.stderr)


def good(*words: str | Path, home: Path | None = None) -> Json:
    """The document of a command that must succeed."""
    done = consortium(*words, home=home)
    assert done.code == 0, done.out + done.errors
    return done.document


def table(readings: int) -> str:
    """A CSV of 10-minute records, with a power between 100 and 1,900 kW."""
    lines = ["time,power,vibration"]
    for index in range(readings):
        day, minute = divmod(index * 10, 24 * 60)
        at = f"2026-01-{day + 1:02d} {minute // 60:02d}:{minute % 60:02d}:00"
        lines.append(f"{at},{100 + index * 37 % 1801},{index % 90 / 10}")
    return "\n".join(lines) + "\n"


@dataclass
class Consortium:
    """Where everything lies, and the nodes that run."""

    folder: Path
    nodes: Nodes
    member: dict[str, str]

    def home(self, name: str) -> Path:
        return self.folder / name

    def client(self, name: str) -> Node:
        return Node(self.home(name))

    def invitation(self, name: str) -> Path:
        """The invitation by which a member joined."""
        return self.folder / f"{name}.invitation"

    def terms(self, name: str) -> tuple[Path, Path, Path]:
        """Data, descriptor and policy of a member."""
        return tuple(self.folder / f"{name}.{ending}" for ending in ("csv", "toml", "cedar"))  # type: ignore[return-value]

    def statistic(self, **changed: Json) -> Json:
        """A job over all members' datasets; `changed` are fields of its request."""
        datasets = [{"member": member, "dataset": f"turbine-{name}"} for name, member in self.member.items()]
        request = {
            "kind": "statistic",
            "columns": ["power"],
            "measures": ["count", "mean"],
            "bounds": {"power": BOUNDS},
            "filters": [],
            "purpose": "yield",
            "release": "dp",
            "epsilon_milli": 1000,
            "delta": "1e-6",
            **changed,
        }
        return {
            "kind": "statistic",
            "datasets": sorted(datasets, key=lambda item: item["member"]),
            "members_min": 3,
            "request": request,
        }

    def written(self, job: Json) -> Path:
        """The job as a file."""
        path = self.folder / f"job-{time.monotonic_ns()}.json"
        path.write_text(json.dumps(job))
        return path


@contextmanager
def running(folder: Path) -> Iterator[Consortium]:
    """Founds, joins, accepts and offers; ends every process at the end."""
    seat = folder / SEAT
    good("found", "Test commons", "--legal-name", "Office", "--sector", "energy", home=seat)
    (folder / "logs").mkdir()
    with Nodes(folder / "logs") as nodes, ThreadPoolExecutor() as threads:
        world = Consortium(folder, nodes, {})
        ready(nodes.start(SEAT, seat))
        statuses = dict(zip(NAMES, threads.map(lambda name: _join(world, name), NAMES), strict=True))
        world.member = {name: status["member"] for name, status in statuses.items()}
        told = {status["fingerprint"] for status in statuses.values()}
        list(threads.map(lambda name: _accept_and_offer(world, name, told), NAMES))
        with world.client(SEAT) as office:
            until(lambda: len(office.datasets()) == len(NAMES))
        yield world


def ready(node: NodeProcess) -> Json:
    """The status of a node once it is connected."""

    def connected() -> bool:
        node.check()
        try:
            with Node(node.home) as client:
                return bool(client.status()["connected"])
        except UnavailableError:
            return False

    until(connected)
    with Node(node.home) as client:
        return client.status()


def until(condition: Callable[[], object]) -> None:
    """Waits until it holds; nodes follow the ledger, so they see an entry a little later."""
    deadline = time.monotonic() + FOLLOW_SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, "the nodes did not get there in time"
        time.sleep(0.1)


def _join(world: Consortium, name: str) -> Json:
    good("invite", name, "--out", world.invitation(name), home=world.home(SEAT))
    words = ("--legal-name", name, "--sector", "energy", "--size", "small", "--owner-group", name)
    good("join", world.invitation(name), *words, home=world.home(name))
    return ready(world.nodes.start(name, world.home(name)))


def _accept_and_offer(world: Consortium, name: str, told: set[str]) -> None:
    data, descriptor, policy = world.terms(name)
    data.write_text(table(900))
    descriptor.write_text(DESCRIPTOR.format(name=name))
    policy.write_text(POLICY)
    with world.client(name) as node:
        until(lambda: told <= set(node.members().query("since.notna()")["fingerprint"]))
        for fingerprint in told - {node.status()["fingerprint"]}:
            node.accept_member(fingerprint)
        node.offer_dataset(data, descriptor, policy, BUDGET_RHO_MICRO, "1e-6")
