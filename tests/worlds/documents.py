"""The documents that go into entries, each valid as it stands; a test spoils one field."""

from __future__ import annotations

import json
from pathlib import Path

from consortium.encoding import Json, sha256
from consortium.jobs import TrainingRequest
from consortium.keys import SigningKey
from consortium.privacy.statistics import StatisticsRequest

SCHEDULE: Json = json.loads((Path(__file__).parents[2] / "policies/incentives/standard.json").read_text())
ORIGIN = "wind.example/consortium"
ROUNDS = 8
EXAMPLES_MAX = 1_000
APP = sha256(b"the app").hex()
HASH = sha256(b"some document").hex()
SEED = sha256(b"the seed of the run").hex()
CAP_RHO_MICRO = 400_000
DELTA = "1e-6"
POWER = {"lower": "0", "upper": "2000", "resolution": "1"}


def member_fields(key: SigningKey, name: str, size: str) -> dict[str, Json]:
    return {
        "legal_name": name,
        "public_key": key.public_key.hex(),
        "sector": "energy",
        "size": size,
        "tls_key_sha256": sha256(b"tls" + key.public_key).hex(),
    }


def genesis(coordinator: SigningKey) -> dict[str, Json]:
    return {
        "name": "Wind",
        "sectors": ["energy"],
        "coordinator": member_fields(coordinator, "Neutral body", "neutral"),
        "origin": ORIGIN,
        "schedule": SCHEDULE,
        "rule_version": 1,
        "members_min": 3,
        "quorum": {"admission": "coordinator", "votes_bp": 6_667},
    }


def enrolment(key: SigningKey, name: str, size: str) -> dict[str, Json]:
    flower = sha256(b"flower" + key.public_key).hex()
    return {**member_fields(key, name, size), "flower_key": flower, "owner_group": f"group {name}"}


def descriptor(dataset: str, lineage: str) -> dict[str, Json]:
    return {
        "dataset": dataset,
        "lineage": lineage,
        "sector": "energy",
        "grade": "general",
        "privacy_unit": "one 10-minute record",
        "row_count_band": "10k-100k",
        "key": ["time"],
        "columns": [
            {"name": "time", "type": "timestamp"},
            {"name": "power", "type": "number", "unit": "kW", **POWER},
            {"name": "wind", "type": "number", "unit": "m/s", "lower": "0", "upper": "40", "resolution": "0.1"},
        ],
    }


def offer(dataset: str = "scada", lineage: str = "turbine", cap: int = CAP_RHO_MICRO) -> dict[str, Json]:
    return {
        "dataset": dataset,
        "lineage": lineage,
        "descriptor": descriptor(dataset, lineage),
        "policy_sha256": HASH,
        "schema_sha256": HASH,
        "guard_sha256": HASH,
        "budget": {"rho_micro": cap, "delta": DELTA},
    }


def statistic(epsilon_milli: int = 1_000) -> dict[str, Json]:
    request = {
        "kind": "statistic",
        "columns": ["power"],
        "measures": ["count", "mean"],
        "bounds": {"power": POWER},
        "filters": [],
        "purpose": "benchmark",
        "release": "dp",
        "epsilon_milli": epsilon_milli,
        "delta": DELTA,
    }
    return StatisticsRequest.from_json(request).to_json()


def training(rounds: int = ROUNDS) -> dict[str, Json]:
    request = {
        "release": "exact_training",
        "app": APP,
        "purpose": "forecast",
        "columns": ["power", "wind"],
        "rounds": rounds,
        "examples_max": EXAMPLES_MAX,
        "train_metrics": ["loss"],
        "evaluate_metrics": [f"model-{number}" for number in range(rounds + 1)],
        "seed": SEED,
        "run_config": {"rate": "0.1", "steps": 3, "shuffle": True},
    }
    TrainingRequest.from_json(request)
    return request


def decision(job: str, outcome: str = "permit", stage: str = "run") -> dict[str, Json]:
    return {
        "job": job,
        "stage": stage,
        "outcome": outcome,
        "clauses": ["permit-benchmark" if outcome == "permit" else "purpose"],
        "reasons_sha256": HASH,
        "request_sha256": HASH,
        "policy_sha256": HASH,
        "schema_sha256": HASH,
        "entities_sha256": HASH,
        "engine": "cedar 4",
    }
