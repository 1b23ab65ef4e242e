"""Offering datasets in place, and their privacy budgets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli import control
from node.cli.entry import dataset_app
from node.cli.options import HOME, AsJson, Home
from node.cli.output import emit, grouped, say, short, table, yes

if TYPE_CHECKING:
    from consortium.encoding import Json


@dataset_app.command()
def offer(
    path: Annotated[Path, typer.Argument(help="CSV or Parquet file; it stays where it is.")],
    descriptor: Annotated[
        Path, typer.Option(help="Descriptor (TOML): columns, units, bounds declared by the steward.")
    ],
    policy: Annotated[Path, typer.Option(help="Sharing policy (Cedar).")],
    rho_micro: Annotated[int, typer.Option(min=1, help="Privacy budget of the lineage, micro-rho of zCDP.")],
    delta: Annotated[str, typer.Option(help="Delta beside it.")] = "1e-6",
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Offer a dataset: its description and the hash of its policy go on the ledger, no row does."""
    document = control.ask(
        home,
        lambda node: node.offer_dataset(path.absolute(), descriptor.absolute(), policy.absolute(), rho_micro, delta),
    )
    emit(document, _show_offer, as_json=as_json)


@dataset_app.command("list")
def list_datasets(home: Home = HOME, as_json: AsJson = False) -> None:
    """List the catalogue: what every member offers."""
    emit(control.ask(home, lambda node: node.list_datasets()), _show_catalogue, as_json=as_json)


@dataset_app.command()
def budget(home: Home = HOME, as_json: AsJson = False) -> None:
    """Show the privacy budget accounts of this node's datasets."""
    emit(control.ask(home, lambda node: node.show_budget()), _show_budget, as_json=as_json)


def _show_offer(offered: Json) -> None:
    say(f"Offered {offered['dataset']} as entry {offered['index']}; {offered['row_count_band']} rows.")
    problems = offered["problems"]
    say(f"At most {problems['left_out_percent']} % of the rows repeat a record's key or lack a part of theirs.")
    kinds = ("missing", "sentinel", "out_of_bounds")
    rows = [(column["name"], *(column[f"{kind}_percent"] for kind in kinds)) for column in problems["columns"]]
    headings = ("missing", "sentinel", "out of bounds")
    table("Percent of the rows, rounded up; only you see this", ("column", *headings), rows, numeric=headings)


def _show_catalogue(document: Json) -> None:
    rows = [
        (item["legal_name"], item["dataset"], item["grade"], item["row_count_band"], yes(item["own"]))
        for item in document["datasets"]
    ]
    table("Datasets", ("member", "dataset", "grade", "rows", "own"), rows)
    columns: dict[tuple[object, ...], int] = {}
    for item in document["datasets"]:
        for column in item["columns"]:
            key = (column["name"], column["type"], column["unit"], column["lower"], column["upper"])
            columns[key] = columns.get(key, 0) + 1
    table(
        "Columns",
        ("column", "type", "unit", "lower", "upper", "datasets"),
        [(*key, count) for key, count in columns.items()],
        numeric=("lower", "upper", "datasets"),
    )


@dataset_app.command("close-rounds")
def close_rounds(home: Home = HOME, as_json: AsJson = False) -> None:
    """Close rounds that ended jobs left unfinished; a requester that left 8 gets no more. Their cost stays spent."""
    document = control.ask(home, lambda node: node.close_rounds())
    emit(document, lambda done: say(f"{done['closed']} unfinished rounds are closed."), as_json=as_json)


def _show_budget(document: Json) -> None:
    table(
        "Privacy budgets (micro-rho of zCDP)",
        ("dataset", "cap", "spent", "left", "delta", "exact"),
        [
            (
                account["dataset"],
                grouped(account["cap_rho_micro"]),
                grouped(account["spent_rho_micro"]),
                grouped(account["left_rho_micro"]),
                account["delta"],
                yes(account["unbounded"]),
            )
            for account in document["accounts"]
        ],
        numeric=("cap", "spent", "left"),
    )
    spends = [
        (account["dataset"], short(spend["job"]), spend["round"], spend["rho_micro"])
        for account in document["accounts"]
        for spend in account["spends"]
    ]
    if spends:
        table("Spends", ("dataset", "job", "round", "micro-rho"), spends, numeric=("round", "micro-rho"))
