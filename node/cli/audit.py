"""The offline audit: needs an export and the consortium's genesis, no account and no running node."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli.documents import read_bytes
from node.cli.entry import app
from node.cli.options import AsJson
from node.cli.output import emit, say, table

if TYPE_CHECKING:
    from consortium.encoding import Json

FILE_BYTES_MAX = 1 << 20


@app.command(rich_help_panel="Ledger")
def audit(
    export: Annotated[Path, typer.Argument(help="Folder written by `consortium ledger export`.")],
    genesis: Annotated[Path, typer.Option(help="Genesis file that every member was given.")],
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint that a member saved; shows truncation.")] = None,
    as_json: AsJson = False,
) -> None:
    """Verify an export offline, and recompute its sums, scores and settlements. Exit code 1 if anything is found."""
    from consortium.audit import audit_export  # noqa: PLC0415 -- numpy, only when an audit runs
    from node.export import read_export  # noqa: PLC0415

    saved = None if checkpoint is None else read_bytes(checkpoint, FILE_BYTES_MAX)
    report = audit_export(read_export(export), read_bytes(genesis, FILE_BYTES_MAX), saved)
    findings = [{"code": found.code, "index": found.index, "text": found.text} for found in report.findings]
    document = {
        "ok": report.ok,
        "findings": findings,
        "figures": report.figures,
        "not_evaluated": list(report.not_evaluated),
    }
    emit(document, _show_report, as_json=as_json)
    if not report.ok:
        raise typer.Exit(1)


def _show_report(document: Json) -> None:
    table("Audit", ("figure", "value"), [(name, _text(value)) for name, value in document["figures"].items()])
    for limit in document["not_evaluated"]:
        say(f"Not evaluated: {limit}")
    if document["ok"]:
        say("The ledger is sound: everything that could be checked holds.")
        return
    rows = [
        ("-" if found["index"] is None else found["index"], found["code"], found["text"])
        for found in document["findings"]
    ]
    table("Findings", ("entry", "finding", "what is wrong"), rows, numeric=("entry",))


def _text(value: Json) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items())
    return str(len(value)) if isinstance(value, list) else str(value)
