"""The offline audit: needs an export and the consortium's genesis, no account and no running node."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli.documents import read_bytes
from node.cli.entry import app
from node.cli.evidence import check_evidence
from node.cli.findings import show_findings
from node.cli.options import AsJson
from node.cli.output import emit, grouped, say, short, table, yes

if TYPE_CHECKING:
    from consortium.audit import Audit, AuditReport
    from consortium.encoding import Json

FILE_BYTES_MAX = 1 << 20
ROWS_MAX = 20
COLUMNS = 80
PROCESSES_MAX = 8


@app.command(rich_help_panel="Ledger")
def audit(
    export: Annotated[Path | None, typer.Argument(help="Folder written by `consortium ledger export`.")] = None,
    genesis: Annotated[Path | None, typer.Option(help="Genesis file that every member was given.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint that a member saved; shows truncation.")] = None,
    state: Annotated[
        Path | None, typer.Option(help="State of an earlier audit: goes on from there, and is brought up to date.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Folder for CSV tables of everything the report counts.")] = None,
    beancount: Annotated[Path | None, typer.Option(help="File for the credits as a beancount journal.")] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, max=64, help="Processor cores to use; all by default.")
    ] = None,
    evidence: Annotated[
        Path | None,
        typer.Option(
            help="File of evidence that a member wrote, instead of an export. Exit code 1 if it proves nothing."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify an export offline, and recompute its sums, scores and settlements. Exit code 1 if anything is found."""
    founding = None if genesis is None else read_bytes(genesis, FILE_BYTES_MAX)
    if evidence is not None:
        if not check_evidence(evidence, founding, as_json=as_json):
            raise typer.Exit(1)
        return
    if export is None or founding is None:
        raise typer.BadParameter("Name the folder of an export and --genesis, or a file of --evidence.")
    from node.audit import files  # noqa: PLC0415 -- numpy, only when an audit runs

    saved = None if checkpoint is None else read_bytes(checkpoint, FILE_BYTES_MAX)
    cores = processes or min(os.cpu_count() or 1, PROCESSES_MAX)
    running, report = _audited(export, founding, saved, state, cores, quiet=as_json)
    if csv is not None:
        files.write_tables(csv, running, report)
    if beancount is not None:
        files.write_journal(beancount, running)
    if state is not None and set(report.findings) <= set(running.found):  # never from a log that was cut or rewritten
        files.write_state(state, running)
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


def _audited(
    folder: Path, genesis: bytes, saved: bytes | None, state: Path | None, processes: int, *, quiet: bool
) -> tuple[Audit, AuditReport]:
    from consortium.audit import Audit  # noqa: PLC0415 -- numpy, only when an audit runs
    from consortium.ledger.merkle import leaf_hash  # noqa: PLC0415
    from node.audit.files import read_state  # noqa: PLC0415
    from node.audit.pipeline import feed_export  # noqa: PLC0415
    from node.cli.progress import counting  # noqa: PLC0415
    from node.export import read_export  # noqa: PLC0415

    export = read_export(folder)
    running = (None if state is None else read_state(state)) or Audit()
    with counting("entries", total=len(export.frames), quiet=quiet) as advance:
        feed_export(running, export.frames, processes, advance)
    return running, running.close(export.checkpoint, leaf_hash(genesis), export.transcripts, saved, export.contacts)


def _show_report(document: Json) -> None:
    figures = document["figures"]
    if "root" in figures:
        say(f"{figures['consortium']}: {grouped(figures['size'])} entries, root")
        say(figures["root"])
        say(f"Every figure below is of that tree, {figures['void']} of its entries void.")
        say("")
        _show_people(figures, f"at {grouped(figures['size'])} entries, root {short(figures['root'])}")
        _show_jobs(figures, f"at {grouped(figures['size'])} entries, root {short(figures['root'])}")
    for limit in document["not_evaluated"]:
        say(textwrap.fill(f"Not evaluated: {limit}", COLUMNS))
    if document["ok"]:
        say("The ledger is sound: everything that could be checked holds.")
        return
    show_findings(document["findings"])


def _account(account: str, names: dict[str, str]) -> str:
    kind, _, name = account.partition(":")
    return names.get(name) or f"{kind}:{short(name)}"


def _standing(member: Json) -> str:
    for word in ("removed", "suspended", "admitted"):
        if member[word] is not None:
            return f"{word} at {grouped(member[word])}"
    return "enrolled"


def _show_people(figures: Json, at: str) -> None:
    names = {member["member"]: member["legal_name"] for member in figures["members"]}
    members = [(short(m["member"]), m["legal_name"], _standing(m)) for m in figures["members"]]
    _show_last(f"Members {at}", ("member", "legal name", "standing"), members)
    contacts = [(each["legal_name"], each["contact"]) for each in figures["contacts"]]
    _show_last(f"Contact records {at}", ("member", "contact record"), contacts)
    _show_last(f"Entries {at}", ("kind", "number"), list(figures["entries"].items()), numeric=("number",))
    votes = [
        (vote["index"], vote["kind"], names.get(vote["author"], "-"), yes(vote["void"])) for vote in figures["votes"]
    ]
    _show_last(f"Committees and votes {at}", ("entry", "kind", "by", "void"), votes)
    proposals = [
        (each["index"], each["change"], f"{each['for']} of {each['needed']}", each["against"], each["outcome"])
        for each in figures["proposals"]
    ]
    headings = ("entry", "change", "for", "against", "outcome")
    _show_last(f"Proposals {at}", headings, proposals, numeric=("entry", "against"))
    credits_ = [(_account(account, names), grouped(balance)) for account, balance in figures["credits"].items()]
    _show_last(f"Credits in minor units {at}", ("account", "balance"), credits_, numeric=("balance",))
    spent = [
        (
            names.get(account["member"], short(account["member"])),
            account["lineage"],
            grouped(account["spent_rho_micro"]),
            "unbounded" if account["unbounded"] else grouped(account["cap_rho_micro"]),
        )
        for account in figures["accounts"]
    ]
    _show_last(
        f"Privacy budgets in micro-rho {at}", ("member", "lineage", "spent", "cap"), spent, numeric=("spent", "cap")
    )


def _show_jobs(figures: Json, at: str) -> None:
    rows = [
        (job["index"], job["kind"], job["purpose"], job["permitted"], job["refused"], job["sums"], job["ended"])
        for job in figures["jobs"]
    ]
    headings = ("entry", "kind", "purpose", "permits", "refusals", "sums", "ended")
    _show_last(f"Jobs {at}", headings, rows, numeric=("entry", "permits", "refusals", "sums"))
    say(
        f"{grouped(figures['refusals'])} refusals, {grouped(figures['spends'])} spends, "
        f"{grouped(figures['sums_recomputed'])} secure sums recomputed."
    )
    clauses = list(figures["refusals_by_clause"].items())
    _show_last(f"Refusals by clause {at}", ("clause", "refusals"), clauses, numeric=("refusals",))
    names = {member["member"]: member["legal_name"] for member in figures["members"]}
    scores = [
        (job["index"], names[score["member"]], grouped(score["score_micro"]), grouped(score["error_micro"]))
        for job in figures["jobs"]
        for score in job["scores"]
    ]
    _show_last(f"Scores in micro-units {at}", ("job", "member", "score", "error"), scores, numeric=("score", "error"))


def _show_last(
    title: str, headings: tuple[str, ...], rows: Sequence[tuple[object, ...]], *, numeric: tuple[str, ...] = ()
) -> None:
    """A table of the last rows; those before are in the CSV files and the JSON document."""
    if not rows:
        return
    say(title)
    table("", headings, rows[-ROWS_MAX:], numeric=numeric)
    if len(rows) > ROWS_MAX:
        say(f"{len(rows) - ROWS_MAX} earlier rows are left out here; --csv and --json have all.")
