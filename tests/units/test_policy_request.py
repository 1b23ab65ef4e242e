from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from consortium.encoding import canonical, parse
from consortium.errors import RequestError
from consortium.policy.decision import Clause, Decision, policy_digest, schema_digest
from consortium.policy.request import AuthorisationRequest, DatasetAttributes, Requester

REQUEST = AuthorisationRequest(
    requester=Requester("ab" * 32, "energy", "large"),
    action="statistic",
    dataset="scada",
    purpose="power_curve",
    columns=("P_avg", "Ws_avg"),
    measures=("mean",),
    privacy="dp",
    epsilon_milli=500,
    rho_micro=100,
    rho_micro_left=1_000,
    members=4,
    members_min=3,
    cohort=0,
    secure_aggregation=True,
    app="",
    now=1_764_000_000,
)
DATASET = DatasetAttributes("scada", ("P_avg",), "energy", "general")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("action", "delete"),
        ("dataset", ""),
        ("purpose", "a\nb"),
        ("purpose", 7),
        ("columns", ["P_avg"]),
        ("columns", ("",)),
        ("columns", tuple(f"c{i}" for i in range(257))),
        ("measures", ("m" * 129,)),
        ("privacy", "exact"),
        ("epsilon_milli", -1),
        ("epsilon_milli", 0.5),
        ("rho_micro", True),
        ("rho_micro_left", 1 << 53),
        ("members", "4"),
        ("cohort", None),
        ("now", 253_402_300_800),
        ("secure_aggregation", 1),
        ("app", "AB" * 32),
        ("app", "ab"),
    ],
)
def test_a_request_with_a_malformed_field_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(RequestError) as caught:
        replace(REQUEST, **{field: value})
    assert caught.value.where == field
    assert caught.value.mend


def test_exact_training_has_neither_epsilon_nor_rho() -> None:
    exact = {"privacy": "exact_training", "action": "fl_train"}
    with pytest.raises(RequestError):
        replace(REQUEST, **exact, epsilon_milli=0)
    with pytest.raises(RequestError):
        replace(REQUEST, **exact, rho_micro=0)
    assert replace(REQUEST, **exact, epsilon_milli=0, rho_micro=0).kind == "fl_train"


def test_a_release_carries_the_permitted_request_of_the_same_requester_and_dataset() -> None:
    release = replace(REQUEST, action="release", declared=REQUEST)
    assert release.kind == "statistic"
    for wrong in (
        {"declared": None},
        {"declared": release},
        {"declared": replace(REQUEST, dataset="other")},
        {"declared": replace(REQUEST, requester=Requester("cd" * 32, "energy", "large"))},
        {"action": "statistic"},
    ):
        with pytest.raises(RequestError) as caught:
            replace(release, **wrong)
        assert caught.value.where == "declared"


@pytest.mark.parametrize(
    ("member", "sector", "size"), [("ab", "energy", "large"), ("ab" * 32, "", "large"), ("ab" * 32, "energy", "huge")]
)
def test_a_malformed_requester_is_refused(member: str, sector: str, size: str) -> None:
    with pytest.raises(RequestError):
        Requester(member, sector, size)


@pytest.mark.parametrize(
    "wrong",
    [{"name": ""}, {"columns": "P_avg"}, {"grade": ""}, {"apps": ("x",)}, {"approver": "\t"}, {"risk_assessment": "x"}],
)
def test_malformed_dataset_attributes_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        replace(DATASET, **wrong)
    assert replace(DATASET, approver="Li Wei", risk_assessment="cd" * 32).approver == "Li Wei"


def test_the_recorded_form_is_canonical_json_in_which_columns_are_a_set() -> None:
    release = replace(REQUEST, action="release", declared=REQUEST)
    assert parse(canonical(release.document())) == release.document()
    shuffled = replace(REQUEST, columns=("Ws_avg", "P_avg", "P_avg"))
    assert shuffled.sha256 == REQUEST.sha256
    assert replace(REQUEST, now=REQUEST.now + 1).sha256 != REQUEST.sha256
    assert release.sha256 != REQUEST.sha256


def test_the_record_of_a_decision_has_no_reason_text() -> None:
    decision = Decision("refuse", (Clause("purpose", "secret words"),), "engine 1", *(x * 64 for x in "01234"))
    assert not decision.permitted
    assert decision.record()["clauses"] == ["purpose"]
    assert b"secret" not in canonical(decision.record())


def test_digests_count_content_and_not_key_order() -> None:
    assert policy_digest({"a": {"x": 1, "y": 2}, "b": 3}) == policy_digest({"b": 3, "a": {"y": 2, "x": 1}})
    assert policy_digest({"a": 1 << 62}) != policy_digest({"a": (1 << 62) + 1})
    assert schema_digest("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
