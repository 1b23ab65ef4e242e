"""The jobs that the demonstration asks for, and under which terms the operators offer."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from node.demo.wind_farm import Holding

if TYPE_CHECKING:
    from consortium.encoding import Json

CONSORTIUM = "Haute Borne wind data commons"
COORDINATOR = "Neutral Data Office"
LEGAL_NAMES = {
    "large": "Hauts Vents SA",
    "medium": "Meuse Energie",
    "winter": "Vent d'Hiver",
    "autumn": "Vent d'Automne",
}
SECTOR = "energy"
BUDGET_RHO_MICRO = 100_000
DELTA = "1e-6"
EPSILON_MILLI = 1_000
AMOUNT = "100000"
APP_NAME = "power"
ROUNDS = 24
EXAMPLES_MAX = 200_000
FEATURES = ("Ws_avg", "Ba_avg", "Va_avg", "Ot_avg")
TARGET = "P_avg"
WIND_BINS = 20
REFUSED_COLUMN = "Ya_avg"
REFUSED_PURPOSE = "marketing"

Roster = Sequence[tuple[str, str]]  # (member hex, dataset) of each operator


def dataset_name(holding: Holding) -> str:
    """The name of an operator's dataset in the catalogue."""
    return f"wind-{holding.name}"


def write_terms(holding: Holding, folder: Path) -> tuple[Path, Path]:
    """Writes an operator's descriptor and sharing policy; returns their paths.

    The policy is the template for the operator's size, with training without noise permitted in its last line.
    """
    name = dataset_name(holding)
    head = f'dataset = "{name}"\nlineage = "{name}"\n'
    descriptor, policy = folder / f"{holding.name}.toml", folder / f"{holding.name}.cedar"
    descriptor.write_text(head + _descriptor(), encoding="utf-8")
    template = resources.files("policies") / "templates" / f"{holding.size}.cedar"
    text = template.read_text(encoding="utf-8")
    noise_only, both = '["dp"].contains(context.privacy)', '["dp", "exact_training"].contains(context.privacy)'
    assert text.count(noise_only) == 1
    policy.write_text(text.replace(noise_only, both), encoding="utf-8")
    return descriptor, policy


def power_curve(roster: Roster) -> Json:
    """Count, mean and standard deviation of the power, and its mean by wind speed."""
    request = _statistic(TARGET, "power_curve", ["count", "mean", "std", "mean_by_bin"])
    edges = [str(edge) for edge in range(WIND_BINS + 1)]
    return _job("statistic", roster, {**request, "bin": {"column": "Ws_avg", "edges": edges}})


def not_allowed(roster: Roster) -> Json:
    """A column and a purpose that no policy of the operators allows."""
    return _job("statistic", roster, _statistic(REFUSED_COLUMN, REFUSED_PURPOSE, ["mean"]))


def training(roster: Roster, digest: str) -> Json:
    """Training of the approved app; who sits out in which round follows from a public seed."""
    request = {
        "release": "exact_training",
        "app": digest,
        "purpose": "power_model",
        "columns": [TARGET, *FEATURES],
        "rounds": ROUNDS,
        "examples_max": EXAMPLES_MAX,
        "train_metrics": ["utility"],
        "evaluate_metrics": [f"utility-{index:03d}" for index in range(ROUNDS + 1)],
        "seed": hashlib.sha256(digest.encode() + str(sorted(roster)).encode()).hexdigest(),
        "run_config": {"rounds": ROUNDS},
    }
    return _job("training", roster, request)


def _job(kind: str, roster: Roster, request: Json) -> Json:
    datasets = [{"member": member, "dataset": dataset} for member, dataset in sorted(roster)]
    return {"kind": kind, "datasets": datasets, "members_min": 3, "request": request}


def _statistic(column: str, purpose: str, measures: list[str]) -> Json:
    declared = next(item for item in tomllib.loads(_descriptor())["columns"] if item["name"] == column)
    return {
        "kind": "statistic",
        "columns": [column],
        "measures": measures,
        "bounds": {column: {key: declared[key] for key in ("lower", "upper", "resolution")}},
        "filters": [],
        "purpose": purpose,
        "release": "dp",
        "epsilon_milli": EPSILON_MILLI,
        "delta": DELTA,
    }


def _descriptor() -> str:
    return (resources.files("node.demo") / "configs" / "wind_turbine.toml").read_text(encoding="utf-8")
