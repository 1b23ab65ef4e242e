"""The demonstration: a consortium of five parties on one machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli.entry import app
from node.cli.options import AsJson
from node.cli.output import emit, grouped, say, table

if TYPE_CHECKING:
    from consortium.encoding import Json


@app.command(rich_help_panel="Demonstration")
def demo(
    data: Annotated[
        Path | None, typer.Option(help="Folder with la_haute_borne.zip or its CSV; fetched once if not given.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="New folder for this run; ./demo-runs/... if not given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run a consortium of five parties and an auditor on real wind-farm data, in eight steps."""
    from node.demo.run import run_demo  # noqa: PLC0415 -- everything, only when the demo runs

    document = run_demo(data, out)
    emit(document, _show_demo, as_json=as_json)


def _show_demo(document: Json) -> None:
    rows = [(member["legal_name"], member["size"], member["dataset"], member["rows"]) for member in document["members"]]
    table("1-2  Parties and what they offer", ("member", "size", "dataset", "rows"), rows)
    _show_statistics(document["statistics"], document["budgets"])
    table(
        f"4  Refused: {', '.join(document['refusal']['columns'])} for {document['refusal']['purpose']}",
        ("member", "clauses violated"),
        [(node["legal_name"], _ids(node["clauses"])) for node in document["refusal"]["nodes"]],
    )
    table(
        "5  Mean absolute error on the held-out half year",
        ("model", "kW", "computed by"),
        [(model["name"], f"{model['mae_kw']:.1f}", model["computed_by"]) for model in document["comparison"]],
        numeric=("kW",),
    )
    _show_earnings(document["scores"]["members"], document["credits"])
    table(
        f"7  Audit: {'sound' if document['audit']['ok'] else 'FINDINGS'}; forgeries on purpose",
        ("forgery", "named by the audit as"),
        [(one["name"], one["expected"] if one["named"] else "NOT NAMED") for one in document["audit"]["forgeries"]],
    )
    steps = [
        (step["number"], step["title"], f"{step['wall_s']:.1f}", grouped(round(step["peak_mb"])))
        for step in document["steps"]
    ]
    table("Steps", ("step", "what", "seconds", "peak MB"), steps, numeric=("seconds", "peak MB"))
    say(document["report"])


def _show_statistics(statistics: Json, budgets: Json) -> None:
    named = [(one["name"], one["unit"], one["value"], one["low"], one["high"]) for one in statistics["measures"]]
    named += [
        (f"power at {one['low']:g}-{one['high']:g} m/s", "kW", one["mean"], one["mean_low"], one["mean_high"])
        for one in statistics["bins"]
    ]
    rows = [_estimate(*figure) for figure in named]
    title = f"3  Power curve, epsilon {statistics['epsilon_milli'] / 1000:g}, delta {statistics['delta']}"
    table(title, ("figure", "value", "95 % interval"), rows, numeric=("value",))
    accounts = [
        (
            one["legal_name"],
            grouped(one["cap_rho_micro"]),
            grouped(one["spent_rho_micro"]),
            grouped(one["left_rho_micro"]),
        )
        for one in budgets
    ]
    table("Budgets, micro-rho of zCDP", ("member", "cap", "spent", "left"), accounts, numeric=("cap", "spent", "left"))


def _show_earnings(scores: Json, credits_paid: Json) -> None:
    rows = [(one["legal_name"], grouped(one["score_micro"]), grouped(one["error_micro"])) for one in scores]
    table("6  Contribution scores, micro-utility", ("member", "score", "error"), rows, numeric=("score", "error"))
    postings = [(one["name"], grouped(one["amount"])) for one in credits_paid["postings"]]
    title = f"Settlement of {grouped(credits_paid['amount'])}; the postings sum to {credits_paid['sum']}"
    table(title, ("account", "credits"), postings, numeric=("credits",))


def _estimate(name: str, unit: str, value: float | None, low: float, high: float) -> tuple[str, str, str]:
    if value is None:
        return name, "-", "too few records under the noise"
    return name, f"{value:,.1f} {unit}".strip(), f"{low:,.1f} to {high:,.1f}"


def _ids(clauses: Json) -> str:
    return ", ".join(clause["id"] for clause in clauses)
