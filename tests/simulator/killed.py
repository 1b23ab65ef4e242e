"""Runs consortia whose first member's process is killed (SIGKILL) at a named point; see tests/processes.

Usage: python -m tests.simulator.killed FOLDER POINT... Each point gets a process of its own, forked from this one, and
the folder FOLDER/<number>; the statuses with which they ended are printed as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from tests.simulator.consortium import consortium
from tests.simulator.rows import Noiseless
from tests.worlds import documents

NOT_KILLED = 3


async def run_until_killed(folder: Path, point: str) -> None:
    """A statistics job, in which this process ends at `point` without any warning."""
    async with consortium(folder, noise=Noiseless()) as house:
        house.members[0].at[point] = kill
        said = await house.coordinator.jobs.submit(house.body(documents.statistic()))
        await house.coordinator.last(said.leaf)


async def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(folder: Path, points: list[str]) -> None:
    children = []
    for number, point in enumerate(points):
        child = os.fork()  # nothing runs here yet: no loop, no thread of ours
        if child == 0:
            asyncio.run(run_until_killed(folder / str(number), point))
            os._exit(NOT_KILLED)
        children.append(child)
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
