"""Founding, joining, running and pausing a node."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli import control
from node.cli.documents import read_document
from node.cli.entry import app
from node.cli.options import HOME, AsJson, Home
from node.cli.output import emit, note, say, table, yes

if TYPE_CHECKING:
    from consortium.encoding import Json

HERE = "Founding and running"
CHARTER = Path(__file__).resolve().parents[2] / "policies" / "incentives" / "standard.json"


@app.command(rich_help_panel=HERE)
def found(
    name: Annotated[str, typer.Argument(help="Name of the consortium.")],
    legal_name: Annotated[str, typer.Option(help="Legal name of the coordinator.")],
    sector: Annotated[list[str], typer.Option(help="Sector of the consortium; may be given again.")],
    host: Annotated[str, typer.Option(help="Name or address that members reach this machine by.")] = "127.0.0.1",
    ports: Annotated[
        tuple[int, int, int],
        typer.Option(metavar="MEMBERS INVITATIONS TRAINING", help="Ports of the three listeners (0: any free)."),
    ] = (0, 0, 0),
    members_min: Annotated[int, typer.Option(min=3, max=64, help="Fewest members of a job.")] = 3,
    voted_admission: Annotated[
        bool, typer.Option(help="After the founding members, who joins is voted, not only invited.")
    ] = False,
    schedule: Annotated[
        Path, typer.Option(help="Incentive schedule of the charter (JSON).", show_default="standard")
    ] = CHARTER,
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Found a consortium: write its genesis and the coordinator's node."""
    from node.app.founding import found as found_node  # noqa: PLC0415 -- only what a command needs

    document = found_node(
        home,
        name=name,
        legal_name=legal_name,
        sectors=sector,
        host=host,
        ports=ports,
        members_min=members_min,
        schedule=read_document(schedule),
        admission="vote" if voted_admission else "coordinator",
    )
    emit(document, lambda found: _show_fields(f"Founded {name} in {home}", found), as_json=as_json)


@app.command(rich_help_panel=HERE)
def join(
    invitation: Annotated[Path, typer.Argument(help="Invitation file from the coordinator.")],
    legal_name: Annotated[str, typer.Option(help="Legal name of this enterprise.")],
    sector: Annotated[str, typer.Option(help="Its sector.")],
    size: Annotated[str, typer.Option(help="large, medium or small.")],
    owner_group: Annotated[str, typer.Option(help="Group that owns it; its own name if none.")],
    contact: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="NAME MAIL", help="Whom to ask; stays off the ledger, see `erase`.", show_default=False),
    ] = None,
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Join a consortium: make keys on this machine and enrol them with an invitation."""
    from node.app.joining import join as join_node  # noqa: PLC0415

    document = asyncio.run(
        join_node(
            home,
            invitation,
            legal_name=legal_name,
            sector=sector,
            size=size,
            owner_group=owner_group,
            contact=contact,
        )
    )
    emit(document, lambda joined: _show_fields(f"Joined; the node lives in {home}", joined), as_json=as_json)


@app.command(rich_help_panel=HERE)
def serve(home: Home = HOME, as_json: AsJson = False) -> None:
    """Run the node of a folder until it is told to stop."""
    # gRPC reports a caller that it refused during the TLS handshake at this level only, and the log must show it.
    os.environ["GRPC_VERBOSITY"] = "INFO"
    from node.app.serving import serve as serve_node  # noqa: PLC0415

    note(f"Serving {home}; stop with Ctrl-C.")
    asyncio.run(serve_node(home))
    emit({"stopped": True}, lambda _: note("Stopped."), as_json=as_json)


@app.command(rich_help_panel=HERE)
def status(home: Home = HOME, as_json: AsJson = False) -> None:
    """Show who this node is and how it is doing."""
    emit(control.ask(home, lambda node: node.status()), _show_status, as_json=as_json)


@app.command(rich_help_panel=HERE)
def doctor(home: Home = HOME, as_json: AsJson = False) -> None:
    """Check everything that a node needs; exit code 1 if something must be mended."""
    from node.app.doctor import doctor as look_over  # noqa: PLC0415

    document = asyncio.run(look_over(home))
    emit(document, _show_checks, as_json=as_json)
    if not all(check["ok"] for check in document["checks"]):
        raise typer.Exit(1)


@app.command(rich_help_panel=HERE)
def pause(home: Home = HOME, as_json: AsJson = False) -> None:
    """Pause at once: decide nothing and send nothing until `resume`."""
    document = control.ask(home, lambda node: node.pause())
    emit(document, lambda _: say("Paused: nothing is decided and nothing is sent."), as_json=as_json)


@app.command(rich_help_panel=HERE)
def resume(home: Home = HOME, as_json: AsJson = False) -> None:
    """Go on after `pause`."""
    emit(control.ask(home, lambda node: node.resume()), lambda _: say("Running again."), as_json=as_json)


def _show_fields(title: str, document: Json) -> None:
    table(title, ("field", "value"), [(key, value) for key, value in document.items() if not isinstance(value, dict)])


def _show_status(status: Json) -> None:
    ledger, jobs = status["ledger"], status["jobs"]
    rows = [
        ("consortium", status["consortium"]),
        ("legal name", f"{status['legal_name']} ({status['role']})"),
        ("fingerprint", status["fingerprint"]),
        ("connected", yes(status["connected"])),
        ("alarm", f"{status['alarm']['text']} {status['alarm']['evidence']}" if status["alarm"] else "none"),
        ("paused", yes(status["paused"])),
        ("members", status["members"]),
        ("ledger", f"{ledger['size']} entries, root {ledger['root'][:16]}"),
        ("jobs", f"{jobs['open']} open, {jobs['done']} done, {jobs['refused']} refused"),
        ("version", status["version"]),
    ]
    if status["attending"] is not None:
        rows.append(("attending", f"{len(status['attending'])} member streams"))
    table("Node", ("field", "value"), rows)


def _show_checks(document: Json) -> None:
    rows = [
        ("ok" if check["ok"] else "MEND", check["check"], f"{check['text']} {'' if check['ok'] else check['mend']}")
        for check in document["checks"]
    ]
    table("Doctor", ("", "check", "finding"), rows)
