"""Flower's Runtime API as the ServerApp of one run sees it: its task, its grid, its heartbeat."""

from __future__ import annotations

from dataclasses import dataclass

import httpx
from flwr.app import Context
from flwr.common.serde import context_from_proto, fab_from_proto, run_from_proto
from flwr.proto.runtime_pb2 import (
    PullTaskInputRequest,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.superlink.grid import HttpGrid

from node.training.flwr_private.apps import identify
from node.training.flwr_private.pulls import quicken_object_pulls


@dataclass(frozen=True)
class Task:
    """The one task of a ServerApp process."""

    grid: HttpGrid
    context: Context
    fab: bytes


def begin_task(address: str, token: str) -> Task:
    """Claims the task that belongs to the token and keeps it alive from a thread of its own.

    Args:
        address: host:port of the Runtime API on the loopback interface (no TLS there).
        token: the task's token.
    """
    quicken_object_pulls()
    grid = HttpGrid(runtime_api_address=address, insecure=True, token=token)
    client = grid._runtime_client
    HeartbeatSender(lambda: _heartbeat(client)).start()
    answer = client.PullTaskInput(PullTaskInputRequest())
    run = run_from_proto(answer.run)
    context = context_from_proto(answer.context)
    identify(run.run_id, context.node_id)
    grid.set_run(run)
    return Task(grid, context, fab_from_proto(answer.fab).content)


def end_task(task: Task, *, completed: bool) -> None:
    """Tells the SuperLink that the run has ended; no detail goes with it."""
    status = "completed" if completed else "failed"
    task.grid._runtime_client.PushTaskOutput(PushTaskOutputRequest(sub_status=status, details=""))
    task.grid.close()


def _heartbeat(client: object) -> bool:
    """One heartbeat. A refused one is no failure: the SuperLink's child ends this process when it stops a run."""
    try:
        client.SendTaskHeartbeat(SendTaskHeartbeatRequest())  # type: ignore[attr-defined]
    except httpx.HTTPError:
        return False
    return True
