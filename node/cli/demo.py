"""The demonstration: a consortium of five parties on one machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli import control
from node.cli.entry import app
from node.cli.options import AsJson
from node.cli.output import emit, grouped, say, table

if TYPE_CHECKING:
    from consortium.encoding import Json


@app.command(rich_help_panel="Demonstration")
def demo(
    data: Annotated[
        Path | None, typer.Option(help="Folder with la_haute_borne.zip or its CSV; fetched once if not given.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="New folder for this run; ./demo-runs/... if not given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run a consortium of five parties and an auditor on real wind-farm data, in eight steps."""
    control.quieten_grpc()
    from node.demo.run import run_demo  # noqa: PLC0415 -- everything, only when the demo runs

    document = run_demo(data, out)
    emit(document, _show_demo, as_json=as_json)


def _show_demo(document: Json) -> None:
    rows = [
        (step["number"], step["title"], f"{step['wall_s']:.1f}", grouped(round(step["peak_mb"])))
        for step in document["steps"]
    ]
    table("Steps", ("step", "what", "seconds", "peak MB"), rows, numeric=("seconds", "peak MB"))
    say(document["report"])
