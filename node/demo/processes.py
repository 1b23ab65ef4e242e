"""The processes of a run: nodes, one-off commands, and the auditor in a clean environment."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from consortium.errors import ConsortiumError, UnavailableError

if TYPE_CHECKING:
    from consortium.encoding import Json

PROGRAM = (sys.executable, "-m", "node.cli")
READY_SECONDS_MAX = 60.0
COMMAND_SECONDS_MAX = 120.0
STOP_SECONDS_MAX = 15.0
SAMPLE_SECONDS = 0.25
MIB = 1 << 20
LOG_LINES_SHOWN = 5


class DemoError(ConsortiumError):
    """A step of the demonstration that did not end as it should."""

    code = "demo-failed"


@dataclass(frozen=True)
class NodeProcess:
    """A node that runs as a process of its own; what it prints goes to `log`."""

    name: str
    home: Path
    log: Path
    process: subprocess.Popen[bytes]

    def check(self) -> None:
        """Raises DemoError, with the end of its log, if the node has ended by itself."""
        code = self.process.poll()
        if code is not None:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES_SHOWN:]
            raise DemoError(
                f"The node '{self.name}' ended with exit code {code}: {' | '.join(lines)}", where=str(self.log)
            )


@dataclass
class Nodes:
    """All nodes of a run; leaving the block ends them and whatever they started."""

    logs: Path
    running: dict[str, NodeProcess] = field(default_factory=dict)

    def __enter__(self) -> Nodes:
        return self

    def __exit__(self, *_: object) -> None:
        stop(node.process.pid for node in self.running.values())
        for node in self.running.values():
            node.process.wait()

    def start(self, name: str, home: Path) -> NodeProcess:
        """Starts the node of a folder."""
        log = self.logs / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(  # noqa: S603 -- our own program
                [*PROGRAM, "serve", "--home", str(home)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a Ctrl-C in the terminal is for the harness, which then ends the nodes
            )
        node = NodeProcess(name, home, log, process)
        self.running[name] = node
        return node


def stop(pids: Iterable[int]) -> None:
    """Ends processes and their descendants by pid: SIGTERM to the named ones, and SIGKILL to who is left later."""
    heads = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    family = heads + [child for head in heads for child in _descendants(head)]
    for head in heads:
        _signal(head, signal.SIGTERM)
    _, left = psutil.wait_procs(heads, timeout=STOP_SECONDS_MAX)
    family += [child for head in left for child in _descendants(head)]
    for process in family:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(family, timeout=STOP_SECONDS_MAX)


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    # psutil checks that the pid still belongs to the process that it was made for.
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


async def command(*arguments: str) -> Json:
    """The JSON document of one `consortium` command that must succeed.

    Raises:
        DemoError: it was refused, or took too long.
    """
    code, document = await _run([*PROGRAM, *arguments, "--json"], None, None)
    if code != 0:
        fault = document["error"]
        raise DemoError(f"{fault['what']} {fault['mend']}", where=f"consortium {arguments[0]}: {fault['where']}")
    return document


async def audit(export: Path, genesis: Path, saved: Path | None) -> Json:
    """What `consortium audit` says in a clean process: empty environment, another folder, no node's folder named."""
    checkpoint = [] if saved is None else ["--checkpoint", str(saved)]
    arguments = [sys.executable, "-I", "-m", "node.cli", "audit", str(export), "--genesis", str(genesis), *checkpoint]
    with tempfile.TemporaryDirectory(prefix="auditor-") as elsewhere:
        _, document = await _run([*arguments, "--json"], {"PATH": os.defpath, "LANG": "C.UTF-8"}, Path(elsewhere))
    if "error" in document:
        raise DemoError(f"The audit could not run: {document['error']['what']}", where=document["error"]["where"])
    return document


async def _run(arguments: list[str], environment: dict[str, str] | None, folder: Path | None) -> tuple[int, Json]:
    process = await asyncio.create_subprocess_exec(
        *arguments,
        env=environment,
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(COMMAND_SECONDS_MAX):
            out, errors = await process.communicate()
    except TimeoutError as error:
        raise DemoError(f"A command took more than {COMMAND_SECONDS_MAX:.0f} s.", where=" ".join(arguments)) from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        return process.returncode or 0, json.loads(out)
    except json.JSONDecodeError as error:
        text = errors.decode(errors="replace").strip().splitlines()[-LOG_LINES_SHOWN:]
        raise DemoError(f"A command answered without JSON: {' | '.join(text)}", where=" ".join(arguments)) from error


async def until_ready(node: NodeProcess) -> Json:
    """The status of a node once it is connected.

    Raises:
        DemoError: it ended, or was not ready in time.
    """
    from node.rpc.client import ControlClient  # noqa: PLC0415 -- gRPC, only once nodes run

    deadline = time.monotonic() + READY_SECONDS_MAX
    why = "it did not answer"
    while time.monotonic() < deadline:
        node.check()
        try:
            async with ControlClient(node.home) as client:
                status = await client.status()
            if status["connected"]:
                return status
            why = "it is not connected to the coordinator"
        except UnavailableError as error:
            why = error.what
        await asyncio.sleep(0.2)
    raise DemoError(f"The node '{node.name}' was not ready in {READY_SECONDS_MAX:.0f} s: {why}", where=str(node.log))


class Meter:
    """Peak memory of this process and all that it started: the sum of resident sets, sampled four times a second."""

    def __init__(self) -> None:
        self._peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="meter", daemon=True)

    def __enter__(self) -> Meter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def take_mb(self) -> float:
        """The peak since the last call, in MiB."""
        self._sample()
        peak, self._peak = self._peak, 0
        return peak / MIB

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            self._sample()

    def _sample(self) -> None:
        myself = psutil.Process()
        total = 0
        for process in (myself, *_descendants(myself)):
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        self._peak = max(self._peak, total)
