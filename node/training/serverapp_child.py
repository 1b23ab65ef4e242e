"""The process of one run's ServerApp, on top of a grid that gives it sums only."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flwr.serverapp import ServerApp

from consortium.errors import ConsortiumError
from node.training.flwr_private import apps, serverapp
from node.training.parent_link import adopt
from node.training.ports import Plan, RoundRoster, Rounds, TrainingError
from node.training.summing_grid import Run, SummingGrid

_log = logging.getLogger("node.training.serverapp")


def main(connect_rounds: Callable[[], Rounds], round_roster: RoundRoster) -> None:
    """Runs the app, hands over the outcome and reports a code ("" when all went well)."""
    link = adopt()
    link.follow(lambda _: None)
    config = link.config
    task = serverapp.begin_task(config["runtime"], config["token"])
    rounds = connect_rounds()
    code = ""
    try:
        grid = SummingGrid(task.grid, _run(config), rounds, round_roster)
        _run_app(task, grid, Path(config["home"]), Plan.from_dict(config["plan"]))
        rounds.finish(bytes.fromhex(config["job"]), grid.outcome())
    except ConsortiumError as error:
        _log.warning("the run ends: %s", error)
        code = error.code
    except Exception:  # noqa: BLE001 whatever an app raises ends its run
        _log.exception("the ServerApp failed")
        code = "app-failed"
    serverapp.end_task(task, completed=not code)
    link.send({"code": code})


def _run(config: dict[str, Any]) -> Run:
    return Run(
        job=bytes.fromhex(config["job"]),
        plan=Plan.from_dict(config["plan"]),
        members={bytes.fromhex(member): node for member, node in config["members"].items()},
        roster_seed=bytes.fromhex(config["roster_seed"]),
        progress_seconds=config["progress_seconds"],
    )


def _run_app(task: serverapp.Task, grid: SummingGrid, home: Path, plan: Plan) -> None:
    with tempfile.TemporaryDirectory(prefix="serverapp-", dir=home) as folder:
        app_folder = apps.unpack(task.fab, Path(folder))
        app = apps.load(app_folder, "serverapp")
        if not isinstance(app, ServerApp):
            raise TrainingError("The app has no ServerApp.", where="pyproject.toml")
        task.context.run_config = apps.run_config(app_folder, plan.run_config)
        app(grid, task.context)
