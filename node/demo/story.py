"""From what a run recorded to what its report shows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from consortium.incentives.settlement import PLATFORM_ACCOUNT
from node.demo import questions, wind_farm

if TYPE_CHECKING:
    from consortium.encoding import Json

HARNESS = "demo harness, outside the nodes"
NOTE = (
    "No noise yet: the policies permit exact training, the spend is recorded as unbounded, "
    "and members who collude learn the sum of the others."
)


def story_of(record: dict[str, Any], steps: Sequence[Json], now: datetime) -> Json:
    """The story that `node.report.render` shows."""
    names = {member["member"]: member["legal_name"] for member in record["members"]}
    return {
        "title": "A wind data commons, from genesis to audit",
        "consortium": questions.CONSORTIUM,
        "created": now.strftime("%Y-%m-%d %H:%M UTC"),
        "genesis": record["status"]["genesis"],
        "attribution": wind_farm.ATTRIBUTION,
        "members": _members(record),
        "steps": list(steps),
        "statistics": _statistics(record),
        "refusal": _refusal(record),
        "training": _training(record),
        "scores": _scores(record, names),
        "credits": _credits(record["settlement"], names),
        "budgets": [_budget(questions.LEGAL_NAMES[name], shown) for name, shown in record["budgets"].items()],
        "ledger": {
            "size": record["export"]["size"],
            "root": record["export"]["root"],
            "entries": record["entries"],
        },
        "audit": _audit(record),
    }


def _members(record: dict[str, Any]) -> list[Json]:
    offers = {offer["member"]: offer for offer in record["datasets"]}
    return [
        {
            "legal_name": member["legal_name"],
            "fingerprint": member["fingerprint"],
            "size": member["size"],
            "role": member["role"],
            "dataset": offers.get(member["member"], {}).get("dataset", ""),
            "rows": offers.get(member["member"], {}).get("row_count_band", ""),
        }
        for member in record["members"]
    ]


def _statistics(record: dict[str, Any]) -> Json:
    request, result = record["statistics_job"]["request"], record["statistics"]["result"]
    spends = [
        spend["rho_micro"]
        for shown in record["budgets_after_statistics"].values()
        for account in shown["accounts"]
        for spend in account["spends"]
        if spend["job"] == record["statistics"]["job"]
    ]
    answer = result["estimates"]
    return {
        "purpose": request["purpose"],
        "epsilon_milli": request["epsilon_milli"],
        "delta": request["delta"],
        "rho_micro": max(spends),
        "members_in_sum": len(result["survivors"]),
        "measures": [
            _measure("records", "", answer["count"]),
            _measure("mean power", "kW", answer["mean"]),
            _measure("standard deviation of power", "kW", answer["std"]),
        ],
        "bins": [_bin(item) for item in answer["bins"]],
    }


def _measure(name: str, unit: str, estimate: Json) -> Json:
    """A figure with its interval; without them where the noise hides it."""
    if estimate is None:
        return {"name": name, "unit": unit, "value": None, "low": None, "high": None}
    low, high = float(estimate["lower"]), float(estimate["upper"])
    return {"name": name, "unit": unit, "value": float(estimate["value"]), "low": low, "high": high}


def _bin(item: Json) -> Json:
    mean = item["mean"]
    return {
        "low": float(item["lower_edge"]),
        "high": float(item["upper_edge"]),
        "count": item["noisy_count"],
        "enough": not item["too_few"],
        "mean": float(mean["value"]) if mean else None,
        "mean_low": float(mean["lower"]) if mean else None,
        "mean_high": float(mean["upper"]) if mean else None,
    }


def _refusal(record: dict[str, Any]) -> Json:
    request = record["refused_job"]["request"]
    nodes = [{"legal_name": r["legal_name"], "clauses": r["clauses"]} for r in record["refusal"]["refusals"]]
    return {"columns": request["columns"], "purpose": request["purpose"], "nodes": nodes}


def _training(record: dict[str, Any]) -> Json:
    """The curves: held-out error of each round's model, and what the members' own rows say of it (from sums)."""
    result, comparison = record["training"]["result"], record["comparison"]
    scale = comparison["target_scale_kw"]
    held_out = comparison["rounds"]
    own = [scale * (1 - utility / 1_000_000) for utility in result["utilities_micro"]]
    survivors = [""] + [len(item["survivors"]) for item in result["rounds"]]
    alone = [
        {"name": f"{questions.LEGAL_NAMES[name]} alone", "kind": "alone", "mae_kw": error, "computed_by": HARNESS}
        for name, error in comparison["alone"].items()
    ]
    pooled = {"name": "all rows pooled", "kind": "pooled", "mae_kw": comparison["pooled"], "computed_by": HARNESS}
    federated = {
        "name": "federated",
        "kind": "federated",
        "mae_kw": held_out[-1],
        "computed_by": "the consortium; error measured by the demo harness",
    }
    return {
        "note": NOTE,
        "federated_mae_kw": held_out[-1],
        "curves": [
            {"name": "held out (harness)", "points": [[n, error] for n, error in enumerate(held_out)][1:]},
            {"name": "members' rows (sums)", "points": [[n, error] for n, error in enumerate(own)][1:]},
        ],
        "rounds": [
            {"round": n, "members": survivors[n], "values": [held_out[n], own[n]]} for n in range(1, len(held_out))
        ],
        "comparison": [*alone, federated, pooled],
    }


def _scores(record: dict[str, Any], names: dict[str, str]) -> Json:
    (entry,) = record["credits"]["scores"]
    return {
        "method": entry["method"],
        "seed": entry["seed"],
        "members": [
            {
                "legal_name": names[score["member"]],
                "score_micro": score["score_micro"],
                "error_micro": score["error_micro"],
            }
            for score in entry["scores"]
        ],
    }


def _credits(settlement: Json, names: dict[str, str]) -> Json:
    return {
        "amount": settlement["amount"],
        "sum": sum(int(posting["amount"]) for posting in settlement["postings"]),
        "postings": [
            {
                "name": account_name(posting["account"], names),
                "amount": posting["amount"],
                "is_member": posting["account"].startswith("member:"),
            }
            for posting in settlement["postings"]
        ],
    }


def account_name(account: str, names: dict[str, str]) -> str:
    """A ledger account as people call it: a member's legal name, or the kind of account."""
    kind, _, owner = account.partition(":")
    if kind == "member":
        return names[owner]
    return "platform fee" if account == PLATFORM_ACCOUNT else f"{kind} of job {owner[:8]}"


def _budget(legal_name: str, shown: Json) -> Json:
    (account,) = shown["accounts"]
    return {"legal_name": legal_name, **{key: account[key] for key in _BUDGET_FIELDS}}


_BUDGET_FIELDS = ("dataset", "cap_rho_micro", "spent_rho_micro", "left_rho_micro", "unbounded")


def _audit(record: dict[str, Any]) -> Json:
    figures = record["audit"]["figures"]
    plain = {key: value for key, value in figures.items() if isinstance(value, int | str)}
    plain["entries by kind"] = ", ".join(f"{count} {kind}" for kind, count in figures["entries"].items())
    return {
        "ok": record["audit"]["ok"],
        "findings": record["audit"]["findings"],
        "not_evaluated": record["audit"]["not_evaluated"],
        "figures": plain,
        "forgeries": record["forgeries"],
    }
