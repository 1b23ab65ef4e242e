"""Sharing policies and approved apps."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from consortium.errors import NotFoundError
from node.cli import control
from node.cli.documents import read_bytes
from node.cli.entry import policy_app
from node.cli.options import HOME, AsJson, Home
from node.cli.output import emit, say, table

if TYPE_CHECKING:
    from consortium.encoding import Json

FAB_BYTES_MAX = 10 << 20


@policy_app.command()
def check(
    policy: Annotated[Path, typer.Argument(help="Cedar policy file.")], home: Home = HOME, as_json: AsJson = False
) -> None:
    """Check a sharing policy against the schema, without applying it."""
    document = control.ask(home, lambda node: node.check_policy(policy.absolute()))
    emit(document, _show_clauses, as_json=as_json)


@policy_app.command()
def template(
    name: Annotated[str, typer.Argument(help="Name of the template; without one, their list.")] = "",
    as_json: AsJson = False,
) -> None:
    """Print a policy template to start from."""
    templates = {
        item.name.removesuffix(".cedar"): item
        for item in sorted((resources.files("policies") / "templates").iterdir(), key=lambda item: item.name)
        if item.name.endswith(".cedar")
    }
    if not name:
        emit({"templates": list(templates)}, lambda _: say("\n".join(templates)), as_json=as_json)
        return
    if name not in templates:
        raise NotFoundError("There is no such template.", where=name, mend="`consortium policy template` lists them.")
    text = templates[name].read_text(encoding="utf-8")
    emit({"name": name, "policy": text}, lambda _: typer.echo(text, nl=False), as_json=as_json)


@policy_app.command("catalogue-app")
def catalogue_app(
    fab: Annotated[Path, typer.Argument(help="Flower app bundle (FAB).")],
    name: Annotated[str, typer.Option(help="Name in the catalogue.")],
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Put a Flower app into the catalogue by its digest (coordinator)."""
    bundle = read_bytes(fab, FAB_BYTES_MAX)
    document = control.ask(home, lambda node: node.catalogue_app(name, bundle))
    emit(
        document, lambda found: say(f"{found['name']} is {found['digest']} (entry {found['index']})."), as_json=as_json
    )


@policy_app.command("approve-app")
def approve_app(
    digest: Annotated[str, typer.Argument(help="SHA-256 of the app, from the catalogue.")],
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Approve an app for this node: it refuses every other."""
    document = control.ask(home, lambda node: node.approve_app(digest))
    emit(document, lambda found: say(f"Approved {found['digest']} (entry {found['index']})."), as_json=as_json)


def _show_clauses(document: Json) -> None:
    say(f"The policy is valid; its SHA-256 is {document['policy_sha256']}.")
    table("Clauses", ("clause", "reason"), [(clause["id"], clause["reason"]) for clause in document["clauses"]])
