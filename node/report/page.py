"""The report's page: tables and plots of one story, in one HTML file that loads nothing from anywhere."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from consortium.encoding import Json
from node.report import plots
from node.report.axes import number

RHO_MICRO = 1_000_000
KINDS = {
    "genesis": "k0", "enrolment": "k0", "admission": "k0", "committee": "k0",
    "proposal": "k0", "vote": "k0", "rotation": "k0", "handover": "k0",
    "dataset": "k1", "app": "k1", "approval": "k1",
    "job": "k2", "decision": "k2",
    "spend": "k3",
    "sum": "k4", "result": "k4", "abort": "k4",
    "scores": "k5", "settlement": "k5",
    "unreadable": "void",
}  # fmt: skip


def render(story: Json) -> str:
    """The HTML of a run.

    Args:
        story: title, consortium, created, genesis, attribution, members, steps, statistics, refusal, training, scores,
            credits, budgets, ledger and audit, as `node.demo.story` writes them. Texts are escaped here.
    """
    environment = Environment(
        loader=PackageLoader("node.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.filters["group"] = lambda value: f"{int(value):,}"
    environment.filters["rho"] = lambda value: f"{int(value) / RHO_MICRO:.4f}"
    environment.filters["epsilon"] = lambda value: f"{int(value) / 1000:g}"
    return environment.get_template("page.html.j2").render(story=story, plots=draw(story), kinds=KINDS)


def draw(story: Json) -> dict[str, Markup]:
    """The plots of a story, by section."""
    return {
        "power_curve": _power_curve(story["statistics"]["bins"]),
        "training": _training(story["training"]["curves"]),
        "comparison": _comparison(story["training"]["comparison"]),
        "scores": _scores(story["scores"]["members"]),
        "credits": _credits(story["credits"]["postings"]),
        "budgets": _budgets(story["budgets"]),
        "ledger": _timeline(story["ledger"]["entries"]),
    }


def _power_curve(bins: list[dict[str, Any]]) -> Markup:
    points = [plots.Point((b["low"] + b["high"]) / 2, b["mean"] or 0.0, b["mean_low"], b["mean_high"]) for b in bins]
    return plots.intervals(
        "Mean power by wind speed with 95 % intervals", points, x_label="wind speed, m/s", y_label="mean power, kW"
    )


def _training(curves: list[dict[str, Any]]) -> Markup:
    series = [plots.Series(curve["name"], [(x, y) for x, y in curve["points"]]) for curve in curves]
    return plots.lines("Error of the shared model by round", series, x_label="round", y_label="mean error, kW")


def _comparison(models: list[dict[str, Any]]) -> Markup:
    looks = {"federated": "own", "pooled": "good"}
    rows = [
        plots.Bar(m["name"], m["mae_kw"], look=looks.get(m["kind"], "plain"), text=f"{m['mae_kw']:.1f}") for m in models
    ]
    return plots.bars("Error on the held-out half year", rows, x_label="mean absolute error, kW (shorter is better)")


def _scores(members: list[dict[str, Any]]) -> Markup:
    rows = [
        plots.Bar(m["legal_name"], m["score_micro"], error=m["error_micro"], look="own", text=f"{m['score_micro']:,}")
        for m in members
    ]
    return plots.bars(
        "Contribution scores with one standard error", rows, x_label="micro-utility per round, bar: one standard error"
    )


def _credits(postings: list[dict[str, Any]]) -> Markup:
    rows = [
        plots.Bar(p["name"], int(p["amount"]), look="good" if p["is_member"] else "plain", text=f"{int(p['amount']):,}")
        for p in postings
        if int(p["amount"]) > 0
    ]
    return plots.bars("Credits paid", rows, x_label="credits")


def _budgets(accounts: list[dict[str, Any]]) -> Markup:
    rows = [
        plots.Bar(
            a["legal_name"],
            100 * a["spent_rho_micro"] / a["cap_rho_micro"],
            look="own",
            text=f"{100 * a['spent_rho_micro'] / a['cap_rho_micro']:.1f} %",
        )
        for a in accounts
    ]
    return plots.bars("Privacy budget spent", rows, x_label="share of the budget that is spent, %")


def _timeline(entries: list[dict[str, Any]]) -> Markup:
    names = list(dict.fromkeys(entry["legal_name"] for entry in entries))
    marks = [
        plots.Mark(
            entry["index"],
            names.index(entry["legal_name"]),
            "void" if entry["void"] else KINDS[entry["kind"]],
            f"{entry['index']} {entry['kind']}: {entry['summary']}",
        )
        for entry in entries
    ]
    return plots.lanes("Entries of the ledger by author", names, marks, x_label="entry")
