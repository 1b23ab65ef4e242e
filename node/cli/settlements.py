"""Contribution scores, settlements and balances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from node.cli import control
from node.cli.entry import credits_app
from node.cli.options import HOME, AsJson, Home
from node.cli.output import emit, grouped, say, short, table

if TYPE_CHECKING:
    from consortium.encoding import Json


@credits_app.command()
def show(home: Home = HOME, as_json: AsJson = False) -> None:
    """Show the balances that the ledger's settlements add up to."""
    emit(control.ask(home, lambda node: node.show_credits()), _show_credits, as_json=as_json)


@credits_app.command()
def settle(
    job: Annotated[str, typer.Argument(help="Id of a training job with scores.")],
    amount: Annotated[str, typer.Argument(help="Credits in minor units, a whole number.")],
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Settle credits for a job under the charter's schedule (coordinator)."""
    emit(control.ask(home, lambda node: node.settle(job, amount)), _show_settlement, as_json=as_json)


def _show_credits(document: Json) -> None:
    rows = [
        (account["legal_name"] or account["account"], grouped(account["balance"])) for account in document["accounts"]
    ]
    table("Balances (minor units)", ("account", "balance"), rows, numeric=("balance",))
    for settlement in document["settlements"]:
        say(f"Entry {settlement['index']}: {grouped(settlement['amount'])} for job {short(settlement['job'])}")


def _show_settlement(document: Json) -> None:
    say(f"Settled {grouped(document['amount'])} for job {short(document['job'])} as entry {document['index']}.")
    rows = [(posting["account"], grouped(posting["amount"])) for posting in document["postings"]]
    table("Postings (sum zero)", ("account", "amount"), rows, numeric=("amount",))
