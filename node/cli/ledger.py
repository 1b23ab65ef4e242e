"""The ledger: reading it, exporting it for an auditor, and saving a checkpoint against truncation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli import control
from node.cli.entry import ledger_app
from node.cli.options import HOME, AsJson, Home
from node.cli.output import emit, say, table

if TYPE_CHECKING:
    from consortium.encoding import Json


@ledger_app.command("list")
def list_entries(
    start: Annotated[int, typer.Option(min=0, help="Index of the first entry.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Number of entries.")] = 100,
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """List entries of the ledger."""
    emit(control.ask(home, lambda node: node.list_entries(start, limit)), _show_entries, as_json=as_json)


@ledger_app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="New folder for the export.")],
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Export the ledger and the transcripts of its sums, for an auditor."""
    document = control.ask(home, lambda node: node.export_ledger(folder.absolute()))
    emit(
        document,
        lambda told: say(f"{told['size']} entries and {told['transcripts']} transcripts in {told['folder']}."),
        as_json=as_json,
    )


@ledger_app.command()
def checkpoint(
    path: Annotated[Path, typer.Argument(help="New file for the checkpoint.")],
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Save the checkpoint that this node last verified; keep it where the coordinator cannot reach it."""
    document = control.ask(home, lambda node: node.save_checkpoint(path.absolute()))
    emit(document, lambda told: say(f"Checkpoint of {told['size']} entries in {told['path']}."), as_json=as_json)


def _show_entries(document: Json) -> None:
    rows = [
        (
            entry["index"],
            f"{entry['kind']}{' (void)' if entry['void'] else ''}",
            entry["legal_name"],
            entry["summary"],
        )
        for entry in document["entries"]
    ]
    table(f"Ledger of {document['size']} entries", ("entry", "kind", "by", "says"), rows, numeric=("entry",))
