"""The process of the coordinator's Flower SuperLink.

Two listeners serve one application: a public one with TLS for the ten Fleet calls that a SuperNode makes, and one on
the loopback interface for the eight Runtime calls that a ServerApp makes with its task's token. Flower's Control API,
which knows no authentication, is on neither: the parent starts and stops runs through this process's stdin.
"""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn

from consortium.errors import ConsortiumError, NotFoundError
from node.training.flwr_private.superlink import SuperLink
from node.training.parent_link import ParentLink, adopt
from node.training.ports import TrainingError

_SHARED = ("push-object", "pull-object", "push-messages", "pull-messages", "confirm-message-received")
FLEET_PATHS = frozenset(
    {"/health"}
    | {f"/v1/fleet/{call}" for call in _SHARED}
    | {
        f"/v1/fleet/{call}"
        for call in ("activate-node", "deactivate-node", "send-node-heartbeat", "get-run", "get-fab")
    }
)
RUNTIME_PATHS = frozenset(
    {f"/v1/runtime/{call}" for call in _SHARED}
    | {f"/v1/runtime/{call}" for call in ("send-task-heartbeat", "pull-task-input", "push-task-output")}
)
REQUEST_BYTES_MAX = 16 << 20
_START_SECONDS = 30.0

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Exposed:
    """An ASGI application behind a list of exact paths: 404 for any other, 413 for a body too large or unbounded."""

    def __init__(self, application: Any, paths: frozenset[str]) -> None:
        self._application = application
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
        elif scope["type"] != "http" or scope["path"] not in self._paths:
            await _plain(scope, send, 404)
        elif scope["method"] == "POST" and not _bounded(scope):
            await _plain(scope, send, 413)
        else:
            await self._application(scope, receive, send)


class Superlink:
    """The commands of the parent, and the ServerApp processes of the runs."""

    def __init__(self, link: ParentLink, flower: SuperLink, runtime_port: int) -> None:
        self._link = link
        self._flower = flower
        self._runtime = f"127.0.0.1:{runtime_port}"
        self._runs: dict[str, tuple[int, subprocess.Popen[str]]] = {}
        self._closing = False
        self._spare: subprocess.Popen[str] | None = self._spawn()

    def command(self, value: dict[str, Any]) -> dict[str, Any]:
        """Does what a command says and returns its result.

        Raises:
            ConsortiumError: it cannot be done.
        """
        match value["do"]:
            case "register":
                return {"nodes": [self._flower.register(bytes.fromhex(key)) for key in value["keys"]]}
            case "online":
                keys = [bytes.fromhex(key) for key in value["keys"]]
                return {"keys": [key.hex() for key in self._flower.online(keys)]}
            case "start_run":
                return self._start_run(value)
            case "stop_run":
                return self._stop_run(value["job"])
            case other:
                raise TrainingError("The SuperLink knows no such command.", where=str(other))

    def _start_run(self, value: dict[str, Any]) -> dict[str, Any]:
        job = value["job"]
        if job in self._runs:
            raise TrainingError("The job runs already.", where=job)
        members = {member: self._flower.register(bytes.fromhex(key)) for member, key in value["members"].items()}
        run_id, token = self._flower.start_run(base64.b64decode(value["fab"]))
        config = {name: value[name] for name in ("job", "plan", "roster_seed", "progress_seconds")}
        config |= {"members": members, "runtime": self._runtime, "token": token, "home": self._link.config["home"]}
        process, self._spare = self._spare or self._spawn(), None
        assert process.stdin is not None
        process.stdin.write(json.dumps(config) + "\n")
        process.stdin.flush()
        self._runs[job] = (run_id, process)
        threading.Thread(target=self._watch, args=(job, run_id, process), daemon=True).start()
        return {"run": run_id}

    def close(self) -> None:
        """Ends and reaps every ServerApp process."""
        self._closing = True
        spare = [self._spare] if self._spare else []
        for process in [process for _, process in list(self._runs.values())] + spare:
            process.kill()
            process.wait()

    def _spawn(self) -> subprocess.Popen[str]:
        """A ServerApp process that waits for its run; its imports take seconds, so one is kept ready."""
        return subprocess.Popen(  # noqa: S603 the command comes from our own parent
            self._link.config["serverapp_command"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._link.log_descriptor,
            text=True,
        )

    def _stop_run(self, job: str) -> dict[str, Any]:
        if job not in self._runs:
            raise NotFoundError("No such job runs.", where=job)
        run_id, process = self._runs[job]
        process.kill()
        self._flower.stop_run(run_id)
        return {"run": run_id}

    def _watch(self, job: str, run_id: int, process: subprocess.Popen[str]) -> None:
        """Waits for a ServerApp process; its last word is a code, a process that dies wordless was killed."""
        assert process.stdout is not None
        words = process.stdout.read().splitlines()
        process.wait()
        code = json.loads(words[-1])["code"] if words else "run-killed"
        self._flower.stop_run(run_id)
        del self._runs[job]
        if not self._closing:
            self._spare = self._spare or self._spawn()
        self._link.send({"event": "run-ended", "job": job, "code": code})


def main() -> None:
    """Serves until the parent closes the channel."""
    link = adopt()
    config = link.config
    flower = SuperLink(config["database"])
    public = _listen(config["host"], config["port"])
    runtime = _listen("127.0.0.1", 0)
    tls = {"ssl_certfile": config["cert_file"], "ssl_keyfile": config["key_file"]}
    _serve(Exposed(flower.application, FLEET_PATHS), public, lifespan="on", **tls)
    _serve(Exposed(flower.application, RUNTIME_PATHS), runtime, lifespan="off")
    superlink = Superlink(link, flower, runtime.getsockname()[1])
    link.send({"event": "ready", "port": public.getsockname()[1]})
    for value in link.commands():
        try:
            link.send({"id": value["id"], "result": superlink.command(value)})
        except ConsortiumError as error:
            fault = {"code": error.code, "what": error.what, "where": error.where, "mend": error.mend}
            link.send({"id": value["id"], "error": fault})
    superlink.close()


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener


def _serve(application: Exposed, listener: socket.socket, **options: Any) -> None:
    """Serves from a thread (where uvicorn leaves the signals alone) and returns when it listens."""
    config = uvicorn.Config(application, access_log=False, log_config=None, workers=1, **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + _START_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise TrainingError("The SuperLink's listener did not start.", where="uvicorn")
        time.sleep(0.01)


def _bounded(scope: Scope) -> bool:
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    return len(lengths) == 1 and lengths[0].isdigit() and int(lengths[0]) <= REQUEST_BYTES_MAX


async def _plain(scope: Scope, send: Send, status: int) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close"})
        return
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})
