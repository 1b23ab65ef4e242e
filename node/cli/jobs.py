"""Asking before submitting, submitting, watching and aborting jobs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli import control
from node.cli.documents import read_document
from node.cli.entry import job_app
from node.cli.options import HOME, AsJson, Home
from node.cli.output import console, emit, note, plain, say, short, table, yes
from node.cli.results import show_result

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from rich.progress import Progress

    from consortium.encoding import Json

JobFile = Annotated[Path, typer.Argument(help="Job document (JSON or TOML); - reads JSON from stdin.")]
JobId = Annotated[str, typer.Argument(help="Id of the job (64 hex digits).")]
DONE = "done"


@job_app.command()
def explain(job: JobFile, home: Home = HOME, as_json: AsJson = False) -> None:
    """Ask every member what it would decide; nothing is reserved. Exit code 1 if the job would not run."""
    body = read_document(job)
    document = control.ask(home, lambda node: node.explain_job(body))
    emit(document, _show_explanation, as_json=as_json)
    if not document["would_run"]:
        raise typer.Exit(1)


@job_app.command()
def submit(
    job: JobFile,
    detach: Annotated[bool, typer.Option("--detach", help="Return at once; see `job watch`.")] = False,
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Submit a job and follow it to its end. Exit code 1 if it was refused or failed."""
    body = read_document(job)
    submitted = control.ask(home, lambda node: node.submit_job(body))
    if detach:
        emit(submitted, lambda told: say(f"Job {told['job']} is entry {told['index']}."), as_json=as_json)
        return
    note(f"Job {submitted['job']} is entry {submitted['index']}.")
    _follow(home, submitted["job"], as_json=as_json)


@job_app.command()
def watch(job: JobId, home: Home = HOME, as_json: AsJson = False) -> None:
    """Follow a job to its end. Exit code 1 if it was refused or failed."""
    _follow(home, job, as_json=as_json)


@job_app.command()
def abort(job: JobId, home: Home = HOME, as_json: AsJson = False) -> None:
    """Stop a job everywhere; what its rounds spent stays spent."""
    document = control.ask(home, lambda node: node.abort_job(job))
    emit(document, lambda told: say(f"Job {short(told['job'])} is {told['state']}."), as_json=as_json)


@job_app.command("list")
def list_jobs(home: Home = HOME, as_json: AsJson = False) -> None:
    """List the jobs on the ledger."""
    emit(control.ask(home, lambda node: node.list_jobs()), _show_jobs, as_json=as_json)


class Follower(AbstractContextManager["Follower"]):
    """Live progress of one job on stderr: a bar on a terminal, else a line for each new step."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._last = ""

    def __enter__(self) -> Follower:
        screen = console(stderr=True)
        if screen.is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=screen, transient=True)
            self._bar.start()
            self._bar.add_task("waiting", total=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, progress: Json) -> None:
        """Shows one progress document."""
        line = plain(f"{progress['state']}: {progress['text']}")
        if self._bar is not None:
            (task,) = self._bar.task_ids
            total = progress["of"] or None
            self._bar.update(task, description=line[:50], completed=progress["done"], total=total)
        elif line != self._last:
            self._last = line
            note(line)


def _follow(home: Path, job: str, *, as_json: bool) -> None:
    with Follower() as follower:
        document = control.watch(home, lambda node: node.watch_job(job), follower.show)
    emit(document, _show_end, as_json=as_json)
    if document["state"] != DONE:
        raise typer.Exit(1)


def _show_end(document: Json) -> None:
    say(f"Job {short(document['job'])} is {document['state']}.")
    ends: dict[str, Callable[[], None]] = {
        "result": lambda: show_result(document["result"]),
        "refusals": lambda: show_refusals(document["refusals"]),
        "reason": lambda: say(f"Reason: {document['reason']}"),
    }
    for field, show in ends.items():
        if document.get(field):
            show()


def show_refusals(refusals: Json) -> None:
    """Who refused, and every clause that the job violated there."""
    rows = [
        (refusal["legal_name"], clause["id"], clause["reason"]) for refusal in refusals for clause in refusal["clauses"]
    ]
    table("Refusals", ("member", "clause", "reason"), rows)


def _show_explanation(document: Json) -> None:
    say("The job would run." if document["would_run"] else "The job would not run.")
    rows = [(member["legal_name"], member["dataset"], yes(member["permitted"])) for member in document["members"]]
    table("Decisions", ("member", "dataset", "permitted"), rows)
    refused = [member for member in document["members"] if not member["permitted"]]
    if refused:
        show_refusals(refused)


def _show_jobs(document: Json) -> None:
    rows = [
        (job["index"], short(job["job"]), job["kind"], job["purpose"], job["state"], job["members"])
        for job in document["jobs"]
    ]
    table("Jobs", ("entry", "job", "kind", "purpose", "state", "members"), rows, numeric=("entry", "members"))
