"""The statistics request: what is accepted, and that everything else is refused with its place."""

from __future__ import annotations

from typing import Any

import pytest

from consortium.encoding import canonical, parse
from consortium.errors import RequestError
from consortium.privacy.descriptor import DatasetDescriptor
from consortium.privacy.plan import Plan
from consortium.privacy.statistics import StatisticsRequest
from tests.units.wind import DESCRIPTOR, descriptor_body, number, plain, plan, request_body

INSTANT = {"column": "time", "op": ">=", "value": "2015-01-01T00:00:00Z"}


def request_of(**changes: Any) -> StatisticsRequest:
    return StatisticsRequest.from_json(request_body(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"measures": ["std", "count"], "bin": None},
        {"measures": ["mean_by_bin"]},
        {"filters": [INSTANT, {"column": "wind", "op": "<", "value": "12.5"}]},
    ],
)
def test_a_request_survives_its_canonical_json(changes: dict[str, Any]) -> None:
    request = request_of(**changes)
    assert StatisticsRequest.from_json(parse(canonical(request.to_json()))) == request
    request.check_against(DESCRIPTOR)


def test_the_order_of_measures_does_not_make_another_request() -> None:
    one, other = (request_of(measures=order, bin=None) for order in (["mean", "count"], ["count", "mean"]))
    assert canonical(one.to_json()) == canonical(other.to_json())


def test_columns_read_are_target_bins_and_filters_each_once() -> None:
    request = request_of(filters=[INSTANT, {"column": "wind", "op": "<", "value": "12.5"}])
    assert request.columns_read == ("power", "wind", "time")
    assert request_of(measures=["count"], bin=None).columns_read == ("power",)


BOUNDS = {"lower": "-50", "upper": "2100", "resolution": "0.5"}
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("another kind", {"kind": "training"}, "kind"),
    ("exact release", {"release": "exact"}, "release"),
    ("missing field", {"purpose": None}, "purpose"),
    ("unknown field", {"sql": "select 1"}, "request"),
    ("no column", {"columns": []}, "columns"),
    ("two columns", {"columns": ["power", "wind"]}, "columns"),
    ("column that quotes", {"columns": ['power" FROM x --']}, "columns[0]"),
    ("column that is no text", {"columns": [7]}, "columns[0]"),
    ("no measure", {"measures": []}, "measures"),
    ("unknown measure", {"measures": ["max"]}, "measures"),
    ("measure no text", {"measures": [["count"]]}, "measures"),
    ("measure twice", {"measures": ["count", "count"], "bin": None}, "measures"),
    ("bins without their measure", {"measures": ["count"]}, "bin"),
    ("measure without bins", {"bin": None}, "bin"),
    ("zero epsilon", {"epsilon_milli": 0}, "epsilon_milli"),
    ("negative epsilon", {"epsilon_milli": -1000}, "epsilon_milli"),
    ("float epsilon", {"epsilon_milli": 0.5}, "epsilon_milli"),
    ("delta of one", {"delta": "1"}, "delta"),
    ("purpose with blanks", {"purpose": "Power curve"}, "purpose"),
    ("purpose no text", {"purpose": 1}, "purpose"),
    ("bins no object", {"bin": ["wind"]}, "bin"),
    ("bins without column", {"bin": {"edges": ["0", "1"]}}, "bin.column"),
    ("one edge", {"bin": {"column": "wind", "edges": ["0"]}}, "bin.edges"),
    ("65 bins", {"bin": {"column": "wind", "edges": [str(i) for i in range(66)]}}, "bin.edges"),
    ("edges not increasing", {"bin": {"column": "wind", "edges": ["0", "1", "1"]}}, "bin.edges"),
    ("edge no decimal", {"bin": {"column": "wind", "edges": ["0", "1e3"]}}, "bin.edges[1]"),
    ("edge a float", {"bin": {"column": "wind", "edges": ["0", 1.5]}}, "bin.edges[1]"),
    ("bounds of another column", {"bounds": {"wind": BOUNDS}}, "bounds.power"),
    ("bounds of two columns", {"bounds": {"power": BOUNDS, "wind": BOUNDS}}, "bounds"),
    ("bounds incomplete", {"bounds": {"power": {"lower": "0", "upper": "1"}}}, "bounds.power.resolution"),
    ("bounds reversed", {"bounds": {"power": {**BOUNDS, "upper": "-51"}}}, "bounds.power"),
    ("resolution zero", {"bounds": {"power": {**BOUNDS, "resolution": "0"}}}, "bounds.power"),
    ("resolution does not divide", {"bounds": {"power": {**BOUNDS, "resolution": "0.7"}}}, "bounds.power"),
    ("too many steps", {"bounds": {"power": {**BOUNDS, "resolution": "0.001"}}}, "bounds.power"),
    ("filters no list", {"filters": {}}, "filters"),
    ("nine filters", {"filters": [INSTANT] * 9}, "filters"),
    ("filter operator", {"filters": [{**INSTANT, "op": "="}]}, "filters[0].op"),
    ("filter value", {"filters": [{**INSTANT, "value": "2015-13-01T00:00:00Z"}]}, "filters[0].value"),
    ("filter value no text", {"filters": [{**INSTANT, "value": 5}]}, "filters[0].value"),
    ("filter column", {"filters": [{**INSTANT, "column": "a;b"}]}, "filters[0].column"),
]


@pytest.mark.parametrize(("changes", "where"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_a_malformed_request_is_refused_with_its_place(changes: dict[str, Any], where: str) -> None:
    with pytest.raises(RequestError) as refusal:
        request_of(**changes)
    assert refusal.value.where == where
    assert refusal.value.mend


def test_something_that_is_no_object_is_refused() -> None:
    with pytest.raises(RequestError, match="object is expected"):
        StatisticsRequest.from_json(["statistic"])


CATALOGUE: list[tuple[str, dict[str, Any], str]] = [
    ("unknown target", {"columns": ["torque"], "bounds": {"torque": BOUNDS}}, "columns[0]"),
    ("target without bounds", {"columns": ["time"], "bounds": {"time": BOUNDS}}, "columns[0]"),
    ("other bounds than declared", {"bounds": {"power": {**BOUNDS, "upper": "2000"}}}, "bounds.power"),
    ("unknown bin column", {"bin": {"column": "torque", "edges": ["0", "1"]}}, "bin.column"),
    ("bins of a text", {"bin": {"column": "turbine", "edges": ["0", "1"]}}, "bin.column"),
    ("unknown filter column", {"filters": [{**INSTANT, "column": "date"}]}, "filters[0].column"),
    ("instant for a number", {"filters": [{**INSTANT, "column": "wind"}]}, "filters[0].value"),
    ("number for a timestamp", {"filters": [{**INSTANT, "value": "5"}]}, "filters[0].value"),
]


@pytest.mark.parametrize(("changes", "where"), [case[1:] for case in CATALOGUE], ids=[case[0] for case in CATALOGUE])
def test_a_request_that_the_catalogue_cannot_answer_is_refused(changes: dict[str, Any], where: str) -> None:
    with pytest.raises(RequestError) as refusal:
        request_of(**changes).check_against(DESCRIPTOR)
    assert refusal.value.where == where


def test_bounds_are_compared_as_numbers_not_as_texts() -> None:
    columns = [plain("turbine", "text"), plain("time", "timestamp"), number("power", "-50.0", "2100", "0.50")]
    other = DatasetDescriptor.from_json(descriptor_body(columns=columns))
    request_of(measures=["mean"], bin=None).check_against(other)


def test_the_plan_never_spends_more_than_the_epsilon_buys_and_keeps_back_the_gap() -> None:
    whole = plan()
    assert whole.rho_micro == 17_468
    assert sum(vector.rho_micro for vector in whole.vectors) <= whole.rho_micro - 1
    for vector in whole.vectors:
        assert vector.share_variance * whole.honest == vector.variance
        assert vector.variance * 2 * vector.rho_micro == vector.sensitivity**2 * 10**6
        assert whole.total_variance(vector, 4) == vector.share_variance * 4


def test_the_plan_measures_only_what_the_measures_need() -> None:
    names = {
        ("count",): ["count"],
        ("mean",): ["count", "sum"],
        ("std",): ["count", "sum", "square_sum"],
        ("mean_by_bin",): ["bin_counts", "bin_sums"],
    }
    for measures, expected in names.items():
        bins = request_body()["bin"] if measures == ("mean_by_bin",) else None
        made = plan(measures=list(measures), bin=bins)
        assert [vector.name for vector in made.vectors] == expected
        assert made.length == sum(vector.length for vector in made.vectors)
    assert plan(measures=["count"], bin=None).vector("sum") is None
    assert plan(measures=["count"], bin=None).bin_of(1.0) is None


def test_values_are_clipped_rounded_and_centred() -> None:
    whole = plan()
    levels = {
        -50.0: -2150,
        -1e9: -2150,
        2100.0: 2150,
        float("inf"): 2150,
        1025.0: 0,
        1025.24: 0,
        1025.25: 1,
        1024.75: 0,
    }
    assert {value: whole.level(value) for value in levels} == levels
    assert whole.level_max == 2150


def test_a_record_contributes_to_the_bin_that_holds_it() -> None:
    assert plan().contribution(1025.5, 3.0) == [1, 1, 1, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0]
    assert plan().contribution(1025.5, 25.0) == [1, 1, 1] + [0] * 10
    assert plan().contribution(1025.5) == [1, 1, 1] + [0] * 10


@pytest.mark.parametrize(
    ("changes", "what"), [({"epsilon_milli": 10}, "divided"), ({"epsilon_milli": 20_000}, "shares")]
)
def test_an_epsilon_that_cannot_be_planned_is_refused(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(RequestError, match=what):
        plan(**changes)


def test_two_members_are_too_few_for_a_plan_that_tolerates_one_colluder() -> None:
    with pytest.raises(RequestError, match="Too few members"):
        Plan.of(request_of(), threshold=1)
