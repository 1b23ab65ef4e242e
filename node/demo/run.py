"""The demonstration: five nodes and an auditor on one machine, eight steps, timed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from consortium.errors import ConfigError, ConsortiumError
from node.demo import steps, wind_farm
from node.demo.processes import DemoError, Meter, Nodes
from node.demo.screen import Lines, Live, Screen, live_progress
from node.demo.story import story_of
from node.report import render

if TYPE_CHECKING:
    from consortium.encoding import Json

CACHE = Path(".cache")
RUNS = Path("demo-runs")
SHOWN = ("members", "statistics", "refusal", "scores", "credits", "budgets", "audit")
SOCKET_PATH_BYTES_MAX = 107  # sun_path of unix(7) without its NUL
LONGEST_SOCKET = "coordinator/run/control.sock"


def run_demo(data: Path | None, out: Path | None) -> Json:
    """Runs all eight steps.

    Args:
        data: folder with the wind farm's data; without it the data is fetched once into ./.cache.
        out: new folder for everything of this run; a fresh one under ./demo-runs if None.

    Returns:
        {report, out, steps: [{number, title, wall_s, peak_mb}], members, statistics, refusal, comparison, scores,
        credits, budgets, audit}: the figures are those of `node.demo.story`.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; everything that was started has been ended.
        ConsortiumError: a step did not end as it should; its text names the step and the folder with the logs.
    """
    folder = _fresh_folder(out)
    progress = live_progress()
    screen: Screen = Lines() if progress is None else Live(progress)
    try:
        with progress or contextlib.nullcontext():
            return asyncio.run(_run(folder, data, screen))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _run(folder: Path, data: Path | None, screen: Screen) -> Json:
    _cancel_on_signals()
    (folder / "logs").mkdir()
    sys.stderr.write(f"Preparing the wind farm's data; this run is in {folder}\n")
    files = await asyncio.to_thread(wind_farm.prepare, CACHE, data)
    clock = Clock(screen, folder)
    # The nodes are ended last, after every client of them has gone and whatever went wrong.
    with Meter() as clock.meter, Nodes(folder / "logs") as nodes:
        bundle = asyncio.create_task(steps.build_bundle(folder))
        try:
            async with AsyncExitStack() as clients:
                run = steps.Run(folder, _homes(folder), files, nodes, clients, screen)
                await clock.step(1, "Found, invite, join, accept", steps.join_all(run))
                await clock.step(2, "Offer four datasets in place", steps.offer_all(run))
                await clock.step(3, "Ask: power curve with DP", steps.ask(run))
                await clock.step(4, "Be refused: column and purpose", steps.be_refused(run))
                await clock.step(5, "Train through Flower", steps.train(run, bundle))
                await clock.step(6, "Earn: scores and settlement", steps.earn(run))
                await clock.step(7, "Audit, and seven forgeries", steps.be_audited(run))
        finally:
            bundle.cancel()
            await asyncio.gather(bundle, return_exceptions=True)
    report = folder / "report.html"
    await clock.step(8, "Show: the report", _write_report(report, run, clock))
    story = story_of(run.record, clock.steps, datetime.now(UTC))
    figures = {name: story[name] for name in SHOWN} | {"comparison": story["training"]["comparison"]}
    return {"report": str(report), "out": str(folder), "steps": clock.steps, **figures}


class Clock:
    """Times the steps and says in which one something went wrong."""

    def __init__(self, screen: Screen, folder: Path) -> None:
        self.steps: list[dict[str, Json]] = []
        self.meter: Meter
        self._screen = screen
        self._folder = folder

    async def step(self, number: int, title: str, work: Awaitable[None]) -> None:
        """Does one step."""
        self._screen.begin(number, title)
        start = time.monotonic()
        self.meter.take_mb()
        try:
            await work
        except ConsortiumError as error:
            raise DemoError(
                f"Step {number} ({title}) failed: {error.what}",
                where=error.where,
                mend=f"{error.mend} Logs: {self._folder / 'logs'} and {self._folder / 'nodes'}/*/logs.".strip(),
            ) from error
        wall_s, peak_mb = time.monotonic() - start, self.meter.take_mb()
        self.steps.append({"number": number, "title": title, "wall_s": wall_s, "peak_mb": peak_mb})
        self._screen.end(wall_s, peak_mb)


async def _write_report(path: Path, run: steps.Run, clock: Clock) -> None:
    page = render(story_of(run.record, clock.steps, datetime.now(UTC)))
    await asyncio.to_thread(path.write_text, page, encoding="utf-8")


def _fresh_folder(out: Path | None) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = (out or RUNS / f"{stamp}-{secrets.token_hex(2)}").absolute()
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise ConfigError(
            "The folder of the run cannot be made.", where=str(folder), mend="Name a new folder with --out."
        ) from error
    return folder


def _homes(folder: Path) -> Path:
    """Where the nodes' folders go: into the run's, or, where that path is too long for a unix socket, a short one."""
    homes = folder / "nodes"
    if len(os.fsencode(homes / LONGEST_SOCKET)) > SOCKET_PATH_BYTES_MAX:
        homes = Path(tempfile.mkdtemp(prefix="consortium-"))
        (folder / "nodes").symlink_to(homes)
    homes.mkdir(mode=0o700, exist_ok=True)
    return homes


def _cancel_on_signals() -> None:
    """Lets Ctrl-C and SIGTERM cancel the run, so that it ends its nodes; also where a shell had SIGINT ignored."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
