"""The parent's side of Flower's children: start, watch, restart, stop. Never imports Flower.

Each child leads a process group of its own, so that stopping it stops whatever it started. A child whose parent dies
reads end of file and ends itself.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from consortium.errors import NotFoundError, UnavailableError
from node.training.ports import Plan, TrainingError

FLOWER_APP = (sys.executable, "-m", "node.flower_app")
IN_MEMORY = ":flwr-in-memory:"
_LINE_BYTES_MAX = 1 << 20
_LOG_BYTES_MAX = 4 << 20
_START_SECONDS = 90.0
_COMMAND_SECONDS = 30.0
_GRACE_SECONDS = 3.0
_BACKOFF_MAX = 15.0
_SETTLED_SECONDS = 60.0
_log = logging.getLogger("node.training.supervisor")


class Child:
    """One supervised process: restarted with back-off whenever it ends by itself."""

    def __init__(
        self,
        command: Sequence[str],
        home: Path,
        config: Mapping[str, Any],
        on_event: Callable[[dict[str, Any]], None],
        on_exit: Callable[[], None],
    ) -> None:
        self._command = tuple(command)
        self._home = home
        self._config = dict(config)
        self._on_event = on_event
        self._on_exit = on_exit
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self.starts = 0

    @property
    def alive(self) -> bool:
        """Whether the process runs now."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        """The process id (and process group id) while it runs."""
        return self._process.pid if self._process is not None and self.alive else None

    def start(self) -> None:
        """Begins supervision; the child comes up in the background."""
        assert self._keeper is None, "a child is started once"
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Ends supervision and the whole process group: end of file, then SIGTERM, then SIGKILL, 3 s apart."""
        self._stopping.set()
        if self._keeper is not None:
            await self._keeper

    async def send(self, message: Mapping[str, Any]) -> None:
        """One command to the child.

        Raises:
            UnavailableError: it is not running.
        """
        if self._process is None or self._process.stdin is None or not self.alive:
            raise UnavailableError("The Flower process is not running.", mend="It restarts by itself; try again.")
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            await self._process.stdin.drain()
        except ConnectionError as error:
            raise UnavailableError("The Flower process has gone.", mend="It restarts by itself; try again.") from error

    async def _keep(self) -> None:
        delay = 1.0
        while not self._stopping.is_set():
            began = time.monotonic()
            await self._live()
            self._on_exit()
            if self._stopping.is_set():
                break
            delay = 1.0 if time.monotonic() - began > _SETTLED_SECONDS else min(2 * delay, _BACKOFF_MAX)
            _log.warning("a Flower process ended; it restarts in %.0f s", delay)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay)

    async def _live(self) -> None:
        """One life of the child, until it ends or shall end."""
        with self._open_log() as log:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._environment(),
                limit=_LINE_BYTES_MAX,
                start_new_session=True,
            )
        self._process = process
        self.starts += 1
        reader = asyncio.create_task(self._read(process))
        with suppress(UnavailableError):
            await self.send(self._config)
        ended, stop = asyncio.create_task(process.wait()), asyncio.create_task(self._stopping.wait())
        await asyncio.wait({ended, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        await _end(process, ended)
        await reader

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self._on_event(json.loads(line))

    def _open_log(self) -> Any:
        path = self._home / "flower.log"
        full = path.exists() and path.stat().st_size > _LOG_BYTES_MAX
        flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if full else os.O_APPEND)
        return os.fdopen(os.open(path, flags, 0o600), "wb")

    def _environment(self) -> dict[str, str]:
        """Ours, with Flower's calls home off, its files in the node's folder, and one thread per process."""
        bypass = ",".join(filter(None, [os.environ.get("NO_PROXY", ""), "127.0.0.1", "localhost"]))
        return {
            **os.environ,
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "FLWR_HOME": str(self._home / "flwr"),
            "NO_PROXY": bypass,
            "no_proxy": bypass,
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }


class SuperNodeProcess:
    """A member's SuperNode.

    Args:
        home: a folder of its own in the node's folder; also holds `flower.log`.
        superlink: host:port of the coordinator's SuperLink.
        ca_file: PEM certificate that signed the SuperLink's.
        key_file: PKCS#8 PEM of this node's EC key (0600).
        command: what to run.
    """

    def __init__(
        self,
        home: Path,
        superlink: str,
        ca_file: Path,
        key_file: Path,
        command: Sequence[str] = (*FLOWER_APP, "supernode"),
    ) -> None:
        config = {"home": str(home), "superlink": superlink, "ca_file": str(ca_file), "key_file": str(key_file)}
        self._child = Child(command, home, config, lambda _: None, lambda: None)

    @property
    def alive(self) -> bool:
        """Whether the process runs now; whether it is connected, the coordinator knows (`SuperLinkProcess.online`)."""
        return self._child.alive

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._child.pid

    @property
    def starts(self) -> int:
        """How often it was started."""
        return self._child.starts

    def start(self) -> None:
        """Starts it in the background; it is restarted until `stop`."""
        self._child.start()

    async def forget(self, job: bytes) -> None:
        """Deletes the job's table and app at the child, if it is still there: call it when a job ends or aborts."""
        with suppress(UnavailableError):
            await self._child.send({"do": "forget", "job": job.hex()})

    async def stop(self) -> None:
        """Ends it and all its children."""
        await self._child.stop()


class SuperLinkProcess:
    """The coordinator's SuperLink and the ServerApps of its runs.

    Args:
        home: a folder of its own in the node's folder; also holds `flower.log`.
        host: where SuperNodes connect (TLS).
        port: 0 for any free one, see `port` after `start`.
        cert_file: PEM certificate chain of the listener.
        key_file: its private key (PEM).
        database: a SQLite file, or in memory.
        command: what to run for the SuperLink.
        serverapp_command: what the SuperLink's child runs for each ServerApp.
    """

    def __init__(
        self,
        home: Path,
        host: str,
        port: int,
        cert_file: Path,
        key_file: Path,
        database: str = IN_MEMORY,
        command: Sequence[str] = (*FLOWER_APP, "superlink"),
        serverapp_command: Sequence[str] = (*FLOWER_APP, "serverapp"),
    ) -> None:
        config = {
            "home": str(home),
            "host": host,
            "port": port,
            "cert_file": str(cert_file),
            "key_file": str(key_file),
            "database": database,
            "serverapp_command": list(serverapp_command),
        }
        self.port = port
        self._child = Child(command, home, config, self._event, self._lost)
        self._ready = asyncio.Event()
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._ends: dict[str, asyncio.Future[str]] = {}
        self._last_id = 0

    @property
    def alive(self) -> bool:
        """Whether the process runs now."""
        return self._child.alive

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._child.pid

    async def start(self) -> None:
        """Starts it and waits until it listens.

        Raises:
            UnavailableError: it did not come up in 90 s; its log says why.
        """
        self._child.start()
        try:
            await asyncio.wait_for(self._ready.wait(), _START_SECONDS)
        except TimeoutError as error:
            await self.stop()
            raise UnavailableError("The SuperLink did not start.", where="flower.log") from error

    async def register(self, public_keys: Sequence[bytes]) -> None:
        """Admits SuperNodes by their EC public keys (DER SubjectPublicKeyInfo). Idempotent."""
        await self._command({"do": "register", "keys": [key.hex() for key in public_keys]})

    async def online(self, public_keys: Sequence[bytes]) -> frozenset[bytes]:
        """Those of the keys whose SuperNodes are connected."""
        result = await self._command({"do": "online", "keys": [key.hex() for key in public_keys]})
        return frozenset(bytes.fromhex(key) for key in result["keys"])

    async def start_run(
        self,
        job: bytes,
        fab: bytes,
        plan: Plan,
        members: Mapping[bytes, bytes],
        roster_seed: bytes,
        progress_seconds: float = 30.0,
    ) -> None:
        """Starts a run of an app; `wait_run` says how it ends.

        Args:
            job: the job's id.
            fab: the app.
            plan: what the job declares.
            members: the SuperNode's public key (DER) by member.
            roster_seed: seed of the rosters.
            progress_seconds: how long a round waits for the next masked array.

        Raises:
            TrainingError: the job runs already, or Flower refuses the app.
        """
        if job.hex() in self._ends and not self._ends[job.hex()].done():
            raise TrainingError("The job runs already.", where=job.hex())
        self._ends[job.hex()] = asyncio.get_running_loop().create_future()
        command = {
            "do": "start_run",
            "job": job.hex(),
            "fab": base64.b64encode(fab).decode(),
            "plan": plan.to_dict(),
            "members": {member.hex(): key.hex() for member, key in members.items()},
            "roster_seed": roster_seed.hex(),
            "progress_seconds": progress_seconds,
        }
        try:
            await self._command(command)
        except BaseException:
            del self._ends[job.hex()]
            raise

    async def wait_run(self, job: bytes) -> str:
        """Waits for the end of a run: "" when it finished, else a code.

        Raises:
            NotFoundError: no such run was started.
        """
        if job.hex() not in self._ends:
            raise NotFoundError("No run of this job was started.", where=job.hex())
        return await asyncio.shield(self._ends[job.hex()])

    async def stop_run(self, job: bytes) -> None:
        """Kills the run's ServerApp process; `wait_run` then says "run-killed". A run that has ended stays as it is."""
        with suppress(NotFoundError):
            await self._command({"do": "stop_run", "job": job.hex()})

    async def stop(self) -> None:
        """Ends it and all its ServerApps."""
        await self._child.stop()

    async def _command(self, command: dict[str, Any]) -> dict[str, Any]:
        self._last_id += 1
        number = self._last_id
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            await self._child.send({**command, "id": number})
            return await asyncio.wait_for(answer, _COMMAND_SECONDS)
        except TimeoutError as error:
            raise UnavailableError("The SuperLink does not answer.", where="flower.log") from error
        finally:
            del self._answers[number]

    def _event(self, event: dict[str, Any]) -> None:
        if "id" in event:
            answer = self._answers.get(event["id"])
            if answer is None or answer.done():
                return
            if "error" in event:
                answer.set_exception(_error(event["error"]))
            else:
                answer.set_result(event["result"])
        elif event["event"] == "ready":
            self.port = event["port"]
            self._ready.set()
        elif event["event"] == "run-ended":
            self._end(event["job"], event["code"])

    def _lost(self) -> None:
        """The child has ended, and with it all its runs."""
        self._ready.clear()
        for job in self._ends:
            self._end(job, "superlink-lost")
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(UnavailableError("The SuperLink has ended.", where="flower.log"))

    def _end(self, job: str, code: str) -> None:
        future = self._ends.get(job)
        if future is not None and not future.done():
            future.set_result(code)


def _error(fault: Mapping[str, str]) -> TrainingError | NotFoundError:
    kind = NotFoundError if fault["code"] == NotFoundError.code else TrainingError
    return kind(fault["what"], where=fault["where"], mend=fault["mend"])


async def _end(process: asyncio.subprocess.Process, ended: asyncio.Task[int]) -> None:
    """Ends a process group, gently first; also when its leader has ended and others of it are left."""
    if process.stdin is not None:
        process.stdin.close()
    for signal_number in (None, signal.SIGTERM, signal.SIGKILL):
        if signal_number is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal_number)
        await asyncio.wait({ended}, timeout=_GRACE_SECONDS)
        if ended.done():
            break
    await ended
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
