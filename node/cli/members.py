"""Inviting members, and accepting the fingerprints of others."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli import control
from node.cli.documents import write_private
from node.cli.entry import app, member_app
from node.cli.options import HOME, AsJson, Home
from node.cli.output import emit, say, table, yes

if TYPE_CHECKING:
    from consortium.encoding import Json


@app.command(rich_help_panel="Members")
def invite(
    legal_name: Annotated[str, typer.Argument(help="Legal name of the enterprise that is invited.")],
    out: Annotated[Path, typer.Option(help="New file for the invitation; hand it over on a trusted path.")],
    hours: Annotated[int, typer.Option(min=1, max=720, help="Hours until it expires.")] = 72,
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Write an invitation file: it holds a one-time secret."""
    invitation = control.ask(home, lambda node: node.invite(legal_name, hours))
    write_private(out, (json.dumps(invitation, ensure_ascii=False, sort_keys=True) + "\n").encode())
    told = {key: value for key, value in invitation.items() if key != "secret"} | {"file": str(out)}
    emit(told, _show_invitation, as_json=as_json)


@member_app.command("list")
def list_members(home: Home = HOME, as_json: AsJson = False) -> None:
    """List the members, and whom the steward of this node accepted."""
    emit(control.ask(home, lambda node: node.list_members()), _show_members, as_json=as_json)


@member_app.command()
def accept(
    fingerprint: Annotated[str, typer.Argument(help="Fingerprint that the member told you on a trusted path.")],
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Accept a member: only accepted ones count towards this node's minimum of participants."""
    document = control.ask(home, lambda node: node.accept_member(fingerprint))
    emit(document, lambda member: say(f"Accepted {member['legal_name']} ({member['fingerprint']})."), as_json=as_json)


@member_app.command("seat-committee")
def seat_committee(
    fingerprints: Annotated[list[str], typer.Argument(help="Fingerprints of 3, 4, 7 or 10 members.")],
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Seat the first committee of witnesses; later changes are voted. Coordinator only."""
    members = control.ask(home, lambda node: node.list_members())["members"]
    by_fingerprint = {member["fingerprint"]: member["member"] for member in members}
    ids = [by_fingerprint.get(fingerprint, fingerprint) for fingerprint in fingerprints]
    document = control.ask(home, lambda node: node.seat_committee(ids))
    emit(
        document,
        lambda seated: say(f"{len(ids)} witnesses are seated; {seated['quorum']} must cosign every checkpoint."),
        as_json=as_json,
    )


@member_app.command("rotate-key")
def rotate_key(home: Home = HOME, as_json: AsJson = False) -> None:
    """Replace this node's ledger key by a new one, made here; the old one signs for it."""
    document = control.ask(home, lambda node: node.rotate_key())
    emit(
        document,
        lambda key: say(f"The new key {key['fingerprint']} signs from entry {key['index'] + 1} on."),
        as_json=as_json,
    )


@member_app.command("new-key")
def new_key(
    out: Annotated[Path, typer.Option(help="New file for the public key and its proof; it holds no secret.")],
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Make a new ledger key after the old one was lost; the members then vote it in. Works while the node is down."""
    from node.app.keys import new_key as make  # noqa: PLC0415 -- only what a command needs

    document = make(home)
    write_private(out, (json.dumps(document, sort_keys=True) + "\n").encode())
    emit(
        document | {"file": str(out)},
        lambda key: say(
            f"New key {key['fingerprint']}; give {key['file']} to a member, and tell all of them the fingerprint."
        ),
        as_json=as_json,
    )


@app.command(rich_help_panel="Members")
def erase(
    member: Annotated[str, typer.Argument(help="Fingerprint or id of the member whose contact record is to go.")],
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Erase this node's copy of a member's contact record, salt included; the ledger keeps a hash of nothing."""
    emit(control.ask(home, lambda node: node.erase(member)), _show_erased, as_json=as_json)


def _show_erased(document: Json) -> None:
    done = "is erased here" if document["erased"] else "was not here any more"
    say(f"The contact record of {document['legal_name']} {done}.")
    say("Erase it also where else it is: at the coordinator, and at the member's node.")


def _show_invitation(invitation: Json) -> None:
    expires = datetime.fromtimestamp(invitation["expires"], UTC).strftime("%Y-%m-%d %H:%M UTC")
    say(f"Invitation for {invitation['legal_name']} in {invitation['file']}; it works once, until {expires}.")


def _show_members(document: Json) -> None:
    rows = [
        (
            member["fingerprint"],
            member["legal_name"],
            member["size"],
            member["standing"],
            yes(member["accepted"]),
            yes(member["attending"]),
        )
        for member in document["members"]
    ]
    table("Members", ("fingerprint", "legal name", "size", "standing", "accepted", "up"), rows)
