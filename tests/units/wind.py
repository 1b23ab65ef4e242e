"""A small wind farm for tests: its description and requests about it."""

from __future__ import annotations

from typing import Any

from consortium.privacy.descriptor import DatasetDescriptor
from consortium.privacy.plan import Plan
from consortium.privacy.statistics import StatisticsRequest


def number(name: str, lower: str, upper: str, resolution: str, **more: Any) -> dict[str, Any]:
    bounds = {"lower": lower, "upper": upper, "resolution": resolution}
    return {"name": name, "type": "number", "unit": "", "missing": [], "description": "", **bounds, **more}


def plain(name: str, kind: str) -> dict[str, Any]:
    return {"name": name, "type": kind, "unit": "", "missing": [], "description": ""}


def descriptor_body(**changes: Any) -> dict[str, Any]:
    body = {
        "dataset": "farm-a",
        "lineage": "farm-a/scada",
        "sector": "energy",
        "grade": "general",
        "privacy_unit": "one 10-minute record",
        "row_count_band": "",
        "key": ["turbine", "time"],
        "columns": [
            plain("turbine", "text"),
            plain("time", "timestamp"),
            number("power", "-50", "2100", "0.5", missing=["-999"]),
            number("wind", "0", "30", "0.1", missing=["-273.2"]),
        ],
    }
    return {**body, **changes}


DESCRIPTOR = DatasetDescriptor.from_json(descriptor_body())


def request_body(**changes: Any) -> dict[str, Any]:
    body = {
        "kind": "statistic",
        "columns": ["power"],
        "measures": ["count", "mean", "std", "mean_by_bin"],
        "bin": {"column": "wind", "edges": ["0", "3", "6", "9", "12", "25"]},
        "bounds": {"power": {"lower": "-50", "upper": "2100", "resolution": "0.5"}},
        "filters": [],
        "purpose": "power_curve",
        "release": "dp",
        "epsilon_milli": 1000,
        "delta": "1e-6",
    }
    return {key: value for key, value in {**body, **changes}.items() if value is not None}


def plan(threshold: int = 3, **changes: Any) -> Plan:
    return Plan.of(StatisticsRequest.from_json(request_body(**changes)), threshold)
