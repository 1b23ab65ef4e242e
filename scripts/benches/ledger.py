"""The ledger's speed: durable witnessed appends over mutual TLS, catching up, auditing and proving; see the README."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from node.demo.processes import NodeProcess, Nodes, until_ready
from node.rpc.client import ControlClient
from scripts.benches import ledger_audit
from scripts.benches.ledger_authors import append_for
from scripts.benches.ledger_parties import GROUP, World, found_world

AUTHORS = 100
WITNESSES = 4
SECONDS = 15.0
ALONE_SECONDS = 5.0
ONE_PROCESS_ENTRIES = 10_000
CATCH_UP_ENTRIES = 100_000
CATCH_UP_SECONDS_MAX = 300.0
LOG_ENTRIES = 1_000_000

OFFICE = "office"
AUTHORS_PROCESS = "authors"

Figures = dict[str, float]


async def one_process(folder: Path) -> Figures:
    """The same work without network, TLS and witnesses: verify, parse, hash, fold, group commit, sign."""
    world = await found_world(folder, witnesses=WITNESSES, authors=AUTHORS)
    async with world.log(world.coordinator) as log:
        frames = world.payments(ONE_PROCESS_ENTRIES, log.head)
        begun = time.perf_counter()
        for start in range(0, len(frames), GROUP):
            await log.add(frames[start : start + GROUP])
        return {"one_process_appends_per_s": len(frames) / (time.perf_counter() - begun)}


async def witnessed(folder: Path) -> Figures:
    """A hundred authors at a coordinator with four witnesses, then one author alone."""
    world = await found_world(folder, witnesses=WITNESSES, authors=AUTHORS)
    async with _running(world, folder) as nodes:
        before = _cpu_seconds(nodes)
        load = await append_for(world, world.authors, SECONDS)
        busy = {name: seconds - before[name] for name, seconds in _cpu_seconds(nodes).items()}
        alone = await append_for(world, world.authors[:1], ALONE_SECONDS)
    witness = sum(busy[party.home.path.name] for party in world.witnesses) / len(world.witnesses)
    return {
        "appends_per_s_100_clients": load.rate,
        "append_p50_ms_100_clients": load.quantile_ms(0.5),
        "append_p99_ms_100_clients": load.quantile_ms(0.99),
        "cpu_us_per_append_coordinator": busy[OFFICE] / load.all * 1e6,
        "cpu_us_per_append_each_witness": witness / load.all * 1e6,
        "cpu_us_per_append_authors": busy[AUTHORS_PROCESS] / load.all * 1e6,
        "append_p50_ms_1_client": alone.quantile_ms(0.5),
        "append_p99_ms_1_client": alone.quantile_ms(0.99),
    }


async def unwitnessed(folder: Path) -> Figures:
    """The same authors at a coordinator whose consortium has no committee."""
    world = await found_world(folder, witnesses=0, authors=AUTHORS)
    async with _running(world, folder):
        load = await append_for(world, world.authors, SECONDS)
    return {"appends_per_s_no_witness": load.rate, "append_p99_ms_no_witness": load.quantile_ms(0.99)}


async def caught_up(folder: Path) -> Figures:
    """From the start of a new member's process until it has verified and stored a long log."""
    world = await found_world(folder, witnesses=0, authors=AUTHORS)
    async with world.log(world.coordinator) as log:
        while (missing := CATCH_UP_ENTRIES - log.size) > 0:
            await log.add(world.payments(min(missing, 10 * GROUP), log.head))
    async with _running(world, folder) as nodes:
        begun = time.perf_counter()
        newcomer = nodes.start("newcomer", world.authors[0].home.path)
        await until_ready(newcomer)
        await _until_size(newcomer, CATCH_UP_ENTRIES)
        return {"catch_up_100k_s": time.perf_counter() - begun}


async def audited(folder: Path) -> Figures:
    """An offline audit of a long log in two processes, and proofs of its entries."""
    return await asyncio.to_thread(ledger_audit.measure, LOG_ENTRIES, folder)


@asynccontextmanager
async def _running(world: World, folder: Path) -> AsyncIterator[Nodes]:
    """The coordinator and the witnesses as processes, once entries are sequenced."""
    logs = folder / "logs"
    logs.mkdir()
    with Nodes(logs) as nodes:
        started = [nodes.start(OFFICE, world.coordinator.path)]
        started += [nodes.start(party.home.path.name, party.home.path) for party in world.witnesses]
        for node in started:
            await until_ready(node)
        yield nodes


def _cpu_seconds(nodes: Nodes) -> dict[str, float]:
    """Processor time so far of each node, and of this process, in which the authors are."""
    times = {name: psutil.Process(node.process.pid).cpu_times() for name, node in nodes.running.items()}
    times[AUTHORS_PROCESS] = psutil.Process().cpu_times()
    return {name: each.user + each.system for name, each in times.items()}


async def _until_size(node: NodeProcess, size: int) -> None:
    async with asyncio.timeout(CATCH_UP_SECONDS_MAX), ControlClient(node.home) as client:
        while (await client.status())["ledger"]["size"] < size:
            node.check()
            await asyncio.sleep(0.1)


PARTS: dict[str, Callable[[Path], Awaitable[Figures]]] = {
    "one-process": one_process,
    "witnessed": witnessed,
    "unwitnessed": unwitnessed,
    "catch-up": caught_up,
    "audit": audited,
}


async def measure(parts: list[str]) -> Figures:
    """The figures of some parts, one after another, each in a temporary folder of its own."""
    figures: Figures = {}
    for number, part in enumerate(parts, start=1):
        busy = os.getloadavg()[0]
        print(f"[{number}/{len(parts)}] {part} (load average {busy:.1f})", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="ledger-bench-") as folder:
            figures |= await PARTS[part](Path(folder))
    if {"one-process", "witnessed"} <= set(parts):
        figures["ratio_to_one_process"] = figures["appends_per_s_100_clients"] / figures["one_process_appends_per_s"]
    return {name: round(value, 3) for name, value in figures.items()}


def main() -> None:
    """The last line of stdout is the bench's JSON object under --json."""
    parser = argparse.ArgumentParser(prog="bench ledger", description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", action="append", choices=list(PARTS), help="Measure this part only; may be repeated.")
    options = parser.parse_args()
    figures = asyncio.run(measure(options.only or list(PARTS)))
    if options.json:
        print(json.dumps({"bench": "ledger", "figures": figures}))
    else:
        print("\n".join(f"{name:34} {value:14,.3f}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
