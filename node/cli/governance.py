"""Proposals and votes: how the members change who they are and what they agreed on."""

from __future__ import annotations

import textwrap
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli import control
from node.cli.documents import read_document
from node.cli.entry import governance_app
from node.cli.options import HOME, AsJson, Home
from node.cli.output import emit, say, short, table

if TYPE_CHECKING:
    from consortium.encoding import Json


COLUMNS = 80


class ChangeType(StrEnum):
    """What can be proposed."""

    admit = "admit"
    suspend = "suspend"
    reinstate = "reinstate"
    remove = "remove"
    rotate = "rotate"
    committee = "committee"
    charter = "charter"
    rules = "rules"


TYPES = ", ".join(ChangeType)


class Choice(StrEnum):
    """A vote."""

    for_ = "for"
    against = "against"


@governance_app.command()
def propose(
    change: Annotated[ChangeType, typer.Argument(metavar="TYPE", help=f"What is to change: {TYPES}.")],
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="WHAT",
            help="A member's fingerprint (admit, suspend, reinstate, remove); the fingerprints of all witnesses"
            " (committee); the file that `member new-key` wrote (rotate); a JSON file with the new fields (charter);"
            " a version (rules).",
        ),
    ],
    from_index: Annotated[
        int, typer.Option("--from", min=0, help="First entry that it counts for; 0: as soon as it is accepted.")
    ] = 0,
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Propose a change; the members of record at this entry vote on it.

    TYPE and WHAT: admit, suspend, reinstate or remove FINGERPRINT; committee FINGERPRINT... of all witnesses; rotate
    FILE from `member new-key`; charter FILE with the new fields (JSON); rules VERSION.
    """
    document = _document(change, what)
    emit(control.ask(home, lambda node: node.propose(document, from_index)), _show_proposal, as_json=as_json)


@governance_app.command()
def vote(
    proposal: Annotated[str, typer.Argument(help="Id of the proposal, or its first 8 digits or more.")],
    choice: Annotated[Choice, typer.Argument(metavar="CHOICE", help="`for` or `against`; a vote is not taken back.")],
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Vote for or against a proposal, in the name of this node's member."""
    emit(control.ask(home, lambda node: node.vote(proposal, choice.value)), _show_proposal, as_json=as_json)


@governance_app.command("list")
def list_proposals(home: Home = HOME, as_json: AsJson = False) -> None:
    """List the proposals, and who voted what."""
    emit(control.ask(home, lambda node: node.list_proposals()), _show_proposals, as_json=as_json)


def _document(change: ChangeType, what: list[str]) -> Json:
    """The change as it goes on the ledger, but for members, which the node names by id."""
    if change is ChangeType.committee:
        return {"type": "committee", "members": what}
    if len(what) != 1:
        raise typer.BadParameter(f"'{change}' is about exactly one thing.")
    if change is ChangeType.rules:
        if not what[0].isdigit():
            raise typer.BadParameter("A rule version is a whole number.")
        return {"type": "rules", "version": int(what[0])}
    if change is ChangeType.charter:
        return {"type": "charter", "fields": read_document(Path(what[0]))}
    if change is ChangeType.rotate:
        key = read_document(Path(what[0]))
        named = key if isinstance(key, dict) else {}
        return {"type": "rotate", **{name: named.get(name) for name in ("member", "public_key", "proof")}}
    return {"type": change.value, "member": what[0]}


def _show_proposals(document: Json) -> None:
    if not document["proposals"]:
        say("Nothing was proposed.")
    for proposal in document["proposals"]:
        _show_proposal(proposal)


def _show_proposal(proposal: Json) -> None:
    _say(f"{short(proposal['proposal'])}  {proposal['text']}  (entry {proposal['index']}, {proposal['legal_name']})")
    _say(f"  {_outcome(proposal)}")
    rows = [(vote["legal_name"], vote["choice"], vote["index"]) for vote in proposal["votes"]]
    table("", ("member", "vote", "entry"), rows, numeric=("entry",))


def _say(line: str) -> None:
    say(textwrap.fill(line, COLUMNS, subsequent_indent="  "))


def _outcome(proposal: Json) -> str:
    counted = (
        f"{proposal['for']} for, {proposal['against']} against;"
        f" {proposal['needed']} of {proposal['electorate']} are needed"
    )
    match proposal["outcome"]:
        case "open":
            return f"Open: {counted}."
        case "rejected":
            return f"Rejected at entry {proposal['decided']}: {counted}."
        case "failed":
            return f"Accepted at entry {proposal['decided']}, and failed: {proposal['failure']}"
        case "accepted":
            return f"Accepted at entry {proposal['decided']}; counts from entry {proposal['effect']} on. {counted}."
        case _:
            return f"Counts from entry {proposal['effect']} on; decided at entry {proposal['decided']}. {counted}."
