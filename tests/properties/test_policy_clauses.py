"""The clauses stated a second time, in Python: over random requests a refusal must name exactly the violated ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import policies
from consortium.policy.request import AuthorisationRequest, DatasetAttributes, Requester
from node.authorisation.cedar import CedarEngine

APPS = ("aa" * 32, "bb" * 32)
SHARED = {"time", "P_avg", "Ws_avg", "Ba_avg", "Va_avg", "Ot_avg"}
PURPOSES = {
    "large": {"power_curve", "power_model", "benchmark"},
    "medium": {"power_curve", "power_model"},
    "small": {"power_curve", "power_model"},
}
EPSILON_CAP = {"large": 2_000, "medium": 1_500, "small": 1_000}
COHORT_MIN = {"large": 500, "medium": 1_000, "small": 2_000}
DP_ONLY, WITH_EXACT = '["dp"]', '["dp", "exact_training"]'

ENGINE = CedarEngine(policies.schema(), policies.guard())


def names(*values: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), max_size=3).map(tuple)


# Values on both sides of every limit, most of them harmless, so that single violations are as common as many.
COLUMNS = names("P_avg", "P_avg", "Ws_avg", "time", "Ot_avg", "Wa_avg")
MEASURES = names("count", "mean", "mean", "std", "median")


@st.composite
def runs(draw: st.DrawFn) -> AuthorisationRequest:
    exact = draw(st.integers(0, 3)) == 0
    return AuthorisationRequest(
        requester=Requester("ab" * 32, draw(st.sampled_from(["energy", "retail"])), "small"),
        action=draw(st.sampled_from(["statistic", "fl_train", "evaluate"])),
        dataset="scada",
        purpose=draw(st.sampled_from(["power_curve", "power_model", "benchmark", "marketing"])),
        columns=draw(COLUMNS),
        measures=draw(MEASURES),
        privacy="exact_training" if exact else "dp",
        epsilon_milli=0 if exact else draw(st.sampled_from([0, 500, 1_000, 1_001, 1_500, 1_501, 2_000, 2_001])),
        rho_micro=0 if exact else draw(st.sampled_from([0, 1, 100, 1_000])),
        rho_micro_left=draw(st.sampled_from([0, 100, 1_000, 5_000])),
        members=draw(st.sampled_from([2, 3, 4, 4])),
        members_min=draw(st.sampled_from([0, 2, 3, 3, 4])),
        cohort=draw(st.sampled_from([0, 1_000])),
        secure_aggregation=draw(st.sampled_from([True, True, False])),
        app=draw(st.sampled_from(["", *APPS])),
        now=draw(st.integers(0, 4_000_000_000)),
    )


@st.composite
def requests(draw: st.DrawFn) -> AuthorisationRequest:
    run = draw(runs())
    if draw(st.booleans()):
        return run
    actual = draw(runs()) if draw(st.integers(0, 3)) == 0 else run
    return replace(
        actual,
        requester=run.requester,
        action="release",
        declared=run,
        columns=draw(st.sampled_from([run.columns, run.columns[:1], (*run.columns, "Ws_avg")])),
        cohort=draw(st.sampled_from([0, 499, 500, 999, 1_000, 1_999, 2_000])),
    )


DATASETS = st.builds(
    DatasetAttributes,
    name=st.just("scada"),
    columns=st.sampled_from([("time", "P_avg", "Ws_avg", "Ot_avg", "Wa_avg"), ("P_avg",)]),
    sector=st.just("energy"),
    grade=st.sampled_from(["general", "general", "important", "core", "other"]),
    apps=st.sampled_from([APPS[:1], APPS, ()]),
    approver=st.sampled_from(["", "Li Wei"]),
    risk_assessment=st.sampled_from(["", "cc" * 32]),
)


def guard_violations(request: AuthorisationRequest, dataset: DatasetAttributes) -> set[str]:
    important, dp = dataset.grade == "important", request.privacy == "dp"
    violated = {
        "guard-grade-known": dataset.grade not in {"core", "important", "general"},
        "guard-grade-core": dataset.grade == "core",
        "guard-important-kind": important and request.kind != "fl_train",
        "guard-important-aggregation": important and not request.secure_aggregation,
        "guard-important-approval": important and not (dataset.approver and dataset.risk_assessment),
        "guard-columns": not set(request.columns) <= set(dataset.columns),
        "guard-members": request.members < 3,
        "guard-members-min": request.members_min < 3,
        "guard-app": request.kind != "statistic" and request.app not in dataset.apps,
        "guard-exact-kind": not dp and request.kind != "fl_train",
        "guard-dp-spend": dp and min(request.rho_micro, request.epsilon_milli) == 0,
        "guard-budget": request.declared is None and dp and request.rho_micro > request.rho_micro_left,
    }
    if request.declared is not None:
        declared = request.declared
        terms = ("purpose", "privacy", "epsilon_milli", "app", "secure_aggregation")
        violated |= {
            "guard-release-terms": any(getattr(request, term) != getattr(declared, term) for term in terms),
            "guard-release-columns": bool(set(request.columns) - set(declared.columns)),
            "guard-release-measures": bool(set(request.measures) - set(declared.measures)),
            "guard-release-members": request.members < declared.members or request.members_min < declared.members_min,
            "guard-release-cohort": request.cohort < declared.cohort,
            "guard-release-spend": request.rho_micro != declared.rho_micro,
        }
    return {clause for clause, fires in violated.items() if fires}


def steward_violations(size: str, modes: str, request: AuthorisationRequest, dataset: DatasetAttributes) -> set[str]:
    violated = {
        "purpose": request.purpose not in PURPOSES[size],
        "columns": not set(request.columns) <= SHARED,
        "measures": not set(request.measures) <= {"count", "mean", "std", "mean_by_bin"},
        "epsilon-cap": request.epsilon_milli > EPSILON_CAP[size],
        "members-min": request.members_min < 3,
        "cohort-min": request.declared is not None and request.cohort < COHORT_MIN[size],
        "grade-general": size == "small" and dataset.grade != "general",
        "no-permit": request.privacy == "exact_training" and modes == DP_ONLY,
    }
    return {clause for clause, fires in violated.items() if fires}


@pytest.mark.parametrize("modes", [DP_ONLY, WITH_EXACT])
@pytest.mark.parametrize("size", policies.TEMPLATES)
def test_a_refusal_names_exactly_the_violated_clauses(size: str, modes: str) -> None:
    checked = ENGINE.check(policies.template(size).replace(DP_ONLY, modes))

    @settings(max_examples=150, deadline=None, database=None)
    @given(request=requests(), dataset=DATASETS)
    def agrees(request: AuthorisationRequest, dataset: DatasetAttributes) -> None:
        expected = guard_violations(request, dataset) | steward_violations(size, modes, request, dataset)
        decision = ENGINE.decide(checked, request, dataset)
        assert set(decision.clause_ids) == (expected or {"permit"})
        assert len(decision.clause_ids) == len(set(decision.clause_ids))
        assert decision.permitted == (not expected)

    agrees()


def test_the_second_statement_knows_every_clause() -> None:
    texts = [ENGINE.check(policies.template(size)) for size in policies.TEMPLATES]
    known = {clause.id for checked in texts for clause in checked.clauses} - {"permit"}
    stated: set[str] = set()
    for request, dataset in _worst():
        stated |= guard_violations(request, dataset) | steward_violations("small", DP_ONLY, request, dataset)
    assert stated - {"no-permit"} == known


def _worst() -> list[tuple[AuthorisationRequest, DatasetAttributes]]:
    run = AuthorisationRequest(
        Requester("ab" * 32, "energy", "large"),
        "evaluate",
        "scada",
        "marketing",
        ("Wa_avg",),
        ("median",),
        "dp",
        2_001,
        10,
        0,
        2,
        2,
        9,
        False,
        "",
        0,
    )
    release = replace(
        run,
        action="release",
        declared=replace(run, app=APPS[0], columns=(), measures=(), members=3, cohort=10),
        rho_micro=0,
    )
    exact = replace(run, privacy="exact_training", epsilon_milli=0, rho_micro=0)
    grades = [DatasetAttributes("scada", ("P_avg",), "energy", grade) for grade in ("core", "important", "other")]
    return [(request, dataset) for request in (run, release, exact) for dataset in grades]
