from __future__ import annotations

from dataclasses import replace

import cedarpy
import pytest

import policies
from consortium.errors import LimitError, PolicyError, RequestError
from consortium.policy.engine import PolicyEngine
from consortium.policy.request import AuthorisationRequest, DatasetAttributes, Requester
from node.authorisation import cedar
from node.authorisation.cedar import CedarEngine

APP = "cd" * 32
PERMIT = """@id("permit") @reason("The consortium's jobs.") @obligation("approve")
permit (principal is Consortium::Member,
  action in [Consortium::Action::"statistic", Consortium::Action::"fl_train", Consortium::Action::"release"],
  resource)
when { ["dp"].contains(context.privacy) };
"""
PURPOSE = """@id("purpose") @reason("Not agreed.")
forbid (principal, action, resource) unless { ["power_curve"].contains(context.purpose) };
"""
# Adding overflows for a spend of 100; Cedar then skips the clause and allows.
OVERFLOW = """@id("sum") @reason("Too much.")
forbid (principal, action, resource) when { context.rho_micro + 9223372036854775807 > 5 };
"""
REQUEST = AuthorisationRequest(
    requester=Requester("ab" * 32, "energy", "large"),
    action="statistic",
    dataset="scada",
    purpose="power_curve",
    columns=("P_avg",),
    measures=("mean",),
    privacy="dp",
    epsilon_milli=500,
    rho_micro=100,
    rho_micro_left=1_000,
    members=4,
    members_min=3,
    cohort=1_000,
    secure_aggregation=True,
    app="",
    now=1_764_000_000,
)
RELEASE = replace(REQUEST, action="release", declared=REQUEST)
DATASET = DatasetAttributes("scada", ("P_avg", "Ws_avg"), "energy", "general", apps=(APP,))


@pytest.fixture(scope="module")
def engine() -> CedarEngine:
    return CedarEngine(policies.schema(), policies.guard())


def refused(
    engine: CedarEngine, text: str, request: AuthorisationRequest, dataset: DatasetAttributes = DATASET
) -> tuple[str, ...]:
    decision = engine.decide(engine.check(text), request, dataset)
    assert decision.outcome == "refuse"
    return decision.clause_ids


def test_a_request_that_violates_nothing_is_permitted_with_its_obligation(engine: CedarEngine) -> None:
    protocol: PolicyEngine = engine
    checked = protocol.check(PERMIT + PURPOSE)
    decision = protocol.decide(checked, REQUEST, DATASET)
    assert decision.permitted
    assert [(clause.id, clause.obligation) for clause in decision.clauses] == [("permit", "approve")]
    assert decision.engine == "cedarpy 4.12.2"
    assert decision.request_sha256 == REQUEST.sha256
    assert (decision.policy_sha256, decision.schema_sha256) == (checked.policy_sha256, checked.schema_sha256)
    assert protocol.decide(checked, RELEASE, DATASET).permitted


@pytest.mark.parametrize("text", ["", "// nothing is shared\n", PURPOSE])
def test_without_a_permit_everything_is_refused(engine: CedarEngine, text: str) -> None:
    assert refused(engine, text, REQUEST) == ("no-permit",)


def test_a_kind_of_job_or_privacy_mode_that_the_permit_does_not_name_is_refused(engine: CedarEngine) -> None:
    evaluate = replace(REQUEST, action="evaluate", app=APP)
    assert refused(engine, PERMIT, evaluate) == ("no-permit",)
    exact = replace(
        REQUEST, action="fl_train", app=APP, privacy="exact_training", epsilon_milli=0, rho_micro=0, purpose="ads"
    )
    assert refused(engine, PERMIT + PURPOSE, exact) == ("purpose", "no-permit")
    explicit = PERMIT.replace('["dp"]', '["dp", "exact_training"]')
    assert engine.decide(engine.check(explicit), exact, DATASET).permitted


def test_a_forbid_that_fails_to_evaluate_refuses_although_cedar_allows(engine: CedarEngine) -> None:
    raw = cedarpy.is_authorized(
        cedar._query(REQUEST),
        PERMIT + OVERFLOW,
        cedar._entities(REQUEST, DATASET).decode(),
        policies.schema(),
    )
    assert raw.allowed, "Cedar no longer fails open: the trap is gone"
    assert raw.diagnostics.errors
    assert refused(engine, PERMIT + OVERFLOW, REQUEST) == ("evaluation-error",)
    assert refused(engine, PERMIT + OVERFLOW + PURPOSE, replace(REQUEST, purpose="ads")) == (
        "purpose",
        "evaluation-error",
    )


@pytest.mark.parametrize("change", [{"cohort": None}, {"unknown": 1}, {"cohort": "many"}, {"cohort": 1 << 70}])
def test_a_context_that_does_not_fit_the_schema_is_refused(
    engine: CedarEngine, monkeypatch: pytest.MonkeyPatch, change: dict[str, object]
) -> None:
    terms = cedar._terms

    def broken(request: AuthorisationRequest) -> dict[str, object]:
        context = terms(request) | change
        return {key: value for key, value in context.items() if value is not None}

    monkeypatch.setattr(cedar, "_terms", broken)
    assert refused(engine, PERMIT + PURPOSE, REQUEST) == ("evaluation-error",)


def test_the_schema_is_passed_whenever_cedar_is_asked(engine: CedarEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = cedarpy.is_authorized
    schemas: list[object] = []

    def watched(
        query: dict[str, object], handle: cedarpy.PolicySet, entities: str, schema: object = None
    ) -> cedarpy.AuthzResult:
        schemas.append(schema)
        del query["context"]["cohort"]  # type: ignore[attr-defined]
        result = ask(query, handle, entities, schema)  # type: ignore[arg-type]
        query["context"]["cohort"] = 1  # type: ignore[index]
        return result

    monkeypatch.setattr(cedarpy, "is_authorized", watched)
    # No clause reads the cohort at a run: without the schema, Cedar would allow this request without any error.
    assert refused(engine, PERMIT + PURPOSE, REQUEST) == ("evaluation-error",)
    assert len(schemas) == 2
    assert all(isinstance(schema, cedarpy.Schema) for schema in schemas)


SYNTAX = [
    ('@id("a") @reason("r")\nforbid (principal, action, resource)\n  when { context.cohorts < 3 };', 3, 18),
    ('@id("a") @reason("r")\nforbid (principal, action, resource)\n  when { context.cohort < "3" };', 1, 1),
    ('@id("a") @reason("r") forbid (principal, action, resource)\n  unless { resource["colums"].isEmpty() };', 2, 21),
    ('@id("a") @reason("r") forbid (principal,\n  action == Consortium::Action::"sell", resource);', 2, 33),
    ('@id("a") @reason("r") forbid (\n  principal is Consortium::Person, action, resource);', 2, 28),
    ("\n" + PURPOSE + '@id("b") @reason("r") forbid (principal, action resource);', 4, 49),
    (PURPOSE + '@id("b") @reason("r") forbid (principal, action, resource)', 3, 59),
    ('@id("b") @reason("r") forbid (principal, action, resource) when { "abc };', 1, 67),
    ('@id("b") @reason("r") forbid (principal, action, resource)\nwhen { sum(1) };', 2, 8),
    ('@id("b") @id("c") @reason("r") forbid (principal, action, resource);', 1, 1),
    (PERMIT + "permits;", 6, 8),
    (PURPOSE + ";", 3, 1),
]


@pytest.mark.parametrize(("text", "line", "column"), SYNTAX)
def test_an_invalid_policy_is_refused_with_its_line_and_column(
    engine: CedarEngine, text: str, line: int, column: int
) -> None:
    with pytest.raises(PolicyError) as caught:
        engine.check(text)
    assert caught.value.where == f"line {line}, column {column}"
    assert caught.value.mend


def permit_with(old: str, new: str) -> str:
    assert old in PERMIT
    return "\n" + PERMIT.replace(old, new)


UNCLEAR = [
    "\nforbid (principal, action, resource);",
    '\n@id @reason("r") forbid (principal, action, resource);',
    '\n@id("Purpose") @reason("r") forbid (principal, action, resource);',
    '\n@id("a") forbid (principal, action, resource);',
    '\n@id("a") @reason("") forbid (principal, action, resource);',
    '\n@id("a") @reason("r") @advice("x") forbid (principal, action, resource);',
    f'\n@id("a") @reason("{"r" * 301}") forbid (principal, action, resource);',
    '\n@id("guard-members") @reason("r") forbid (principal, action, resource);',
    '\n@id("guard-mine") @reason("r") forbid (principal, action, resource);',
    '\n@id("no-permit") @reason("r") forbid (principal, action, resource);',
    '\n@id("a") @reason("r") forbid (principal == ?principal, action, resource);',
    "\n"
    + PERMIT.replace('@id("permit")', '@id("permit-all")').replace('when { ["dp"].contains(context.privacy) }', ""),
    permit_with("principal is Consortium::Member", "principal"),
    permit_with(', Consortium::Action::"release"', ""),
    permit_with(",\n  resource)", ',\n  resource == Consortium::Dataset::"scada")'),
    permit_with('["dp"]', '["dp", "none"]'),
    permit_with("when {", "when { true } when {"),
    permit_with("context.privacy)", "context.privacy) || context.cohort > 0"),
    permit_with("when {", "unless {"),
]


@pytest.mark.parametrize("text", UNCLEAR)
def test_a_clause_that_is_not_named_or_permits_more_is_refused_at_its_line(engine: CedarEngine, text: str) -> None:
    with pytest.raises(PolicyError) as caught:
        engine.check(text)
    assert caught.value.where == "line 2, column 1"
    assert caught.value.mend


def test_two_clauses_of_one_id_and_a_second_permit_are_refused(engine: CedarEngine) -> None:
    with pytest.raises(PolicyError) as caught:
        engine.check(PURPOSE + PURPOSE)
    assert caught.value.where == "line 3, column 1"
    with pytest.raises(PolicyError) as caught:
        engine.check(PERMIT + PURPOSE + PERMIT.replace('@id("permit")', '@id("other")'))
    assert caught.value.where == "line 8, column 1"


@pytest.mark.parametrize("bracket", ["(", "[", "{a: "])
def test_nesting_that_would_crash_the_parser_is_refused_before_it_is_parsed(engine: CedarEngine, bracket: str) -> None:
    with pytest.raises(PolicyError, match="nested deeper"):
        engine.check('@id("a") @reason("r") forbid (principal, action, resource) when { ' + bracket * 5_000)


def test_a_policy_has_limits(engine: CedarEngine) -> None:
    start = '@id("a") @reason("r") forbid (principal, action, resource) when { '
    with pytest.raises(LimitError):
        engine.check("/" * 65_537)
    with pytest.raises(LimitError):
        engine.check(start + "true && " * 1_000 + "true };")
    with pytest.raises(LimitError):
        engine.check("".join(PURPOSE.replace('"purpose"', f'"p{i}"') for i in range(257)))
    for levels in (200, 490):
        with pytest.raises(PolicyError, match="too deep"):
            engine.check(start + "context.secure_aggregation && " * levels + "true };")
    with pytest.raises(PolicyError, match="too deep"):
        engine.check(start + "true && " * 900 + "true };")


def test_a_permit_of_the_steward_does_not_override_a_guard(engine: CedarEngine) -> None:
    text = PERMIT.replace('["dp"]', '["exact_training", "dp"]')
    core = replace(DATASET, grade="core")
    assert refused(engine, text, REQUEST, core) == ("guard-grade-core",)
    assert refused(engine, text, REQUEST, replace(DATASET, grade="secret")) == ("guard-grade-known",)
    assert refused(engine, text, replace(REQUEST, members=2)) == ("guard-members",)


def test_important_data_only_trains_under_secure_aggregation_with_an_approver(engine: CedarEngine) -> None:
    important = replace(DATASET, grade="important")
    assert refused(engine, PERMIT, replace(REQUEST, secure_aggregation=False), important) == (
        "guard-important-kind",
        "guard-important-aggregation",
        "guard-important-approval",
    )
    approved = replace(important, approver="Li Wei", risk_assessment="ef" * 32)
    train = replace(REQUEST, action="fl_train", app=APP)
    assert engine.decide(engine.check(PERMIT), train, approved).permitted
    for missing in ({"approver": ""}, {"risk_assessment": ""}):
        assert refused(engine, PERMIT, train, replace(approved, **missing)) == ("guard-important-approval",)


@pytest.mark.parametrize(
    ("request_", "clauses"),
    [
        (replace(REQUEST, columns=("Wa_avg",)), ("guard-columns",)),
        (replace(REQUEST, members_min=2), ("guard-members-min",)),
        (replace(REQUEST, action="fl_train", app="ee" * 32), ("guard-app",)),
        (replace(REQUEST, action="fl_train"), ("guard-app",)),
        (replace(REQUEST, rho_micro=0), ("guard-dp-spend",)),
        (replace(REQUEST, epsilon_milli=0), ("guard-dp-spend",)),
        (replace(REQUEST, rho_micro=1_001), ("guard-budget",)),
        (replace(RELEASE, purpose="other"), ("guard-release-terms",)),
        (replace(RELEASE, epsilon_milli=501), ("guard-release-terms",)),
        (replace(RELEASE, app=APP), ("guard-release-terms",)),
        (replace(RELEASE, secure_aggregation=False), ("guard-release-terms",)),
        (replace(RELEASE, columns=("P_avg", "Ws_avg")), ("guard-release-columns",)),
        (replace(RELEASE, measures=("std",)), ("guard-release-measures",)),
        (replace(RELEASE, members=3), ("guard-release-members",)),
        (replace(RELEASE, cohort=999), ("guard-release-cohort",)),
        (replace(RELEASE, rho_micro=99), ("guard-release-spend",)),
        (replace(RELEASE, rho_micro=101), ("guard-release-spend",)),
    ],
)
def test_each_guard_clause_fires_alone(
    engine: CedarEngine, request_: AuthorisationRequest, clauses: tuple[str, ...]
) -> None:
    assert refused(engine, PERMIT, request_) == clauses


def test_a_release_does_not_need_the_budget_twice(engine: CedarEngine) -> None:
    assert engine.decide(engine.check(PERMIT), replace(RELEASE, rho_micro_left=0), DATASET).permitted


def test_a_release_without_noise_of_a_job_that_promised_noise_is_refused(engine: CedarEngine) -> None:
    text = PERMIT.replace('["dp"]', '["dp", "exact_training"]')
    run = replace(REQUEST, action="fl_train", app=APP)
    bare = replace(run, action="release", declared=run, privacy="exact_training", epsilon_milli=0, rho_micro=0)
    assert refused(engine, text, bare) == ("guard-release-terms", "guard-release-spend")


def test_a_date_is_compared_with_the_recorded_time(engine: CedarEngine) -> None:
    text = PERMIT + (
        '@id("expiry") @reason("Expired.") forbid (principal, action, resource)\n'
        'when { context.now >= datetime("2026-12-31") };'
    )
    assert refused(engine, text, replace(REQUEST, now=1_798_675_200)) == ("expiry",)
    assert engine.decide(engine.check(text), replace(REQUEST, now=1_798_675_199), DATASET).permitted


def test_the_policy_hash_ignores_layout_and_order_and_changes_with_a_number(engine: CedarEngine) -> None:
    text = policies.template("small")
    digest = engine.check(text).policy_sha256
    bare = "\n".join(line for line in text.splitlines() if not line.startswith("//"))
    assert engine.check(bare).policy_sha256 == digest
    assert engine.check("// 注释\n" + " ".join(bare.split())).policy_sha256 == digest
    assert engine.check(PERMIT + PURPOSE).policy_sha256 == engine.check(PURPOSE + PERMIT).policy_sha256
    assert engine.check(text.replace("> 1000", "> 1001")).policy_sha256 != digest
    assert engine.check(text.replace("Too few local", "Few local")).policy_sha256 != digest


def test_a_policy_set_of_another_guard_or_a_changed_hash_is_not_used(engine: CedarEngine) -> None:
    checked = engine.check(PERMIT)
    other = CedarEngine(policies.schema(), "")
    assert other.check(PERMIT).guard_sha256 != checked.guard_sha256
    for forged in (other.check(PERMIT), replace(checked, text=""), replace(checked, policy_sha256="0" * 64)):
        with pytest.raises(PolicyError):
            engine.decide(forged, REQUEST, DATASET)
    with pytest.raises(RequestError):
        engine.decide(checked, REQUEST, replace(DATASET, name="other"))


def test_an_engine_needs_a_valid_schema_and_a_guard_that_only_forbids() -> None:
    with pytest.raises(PolicyError):
        CedarEngine("namespace {", policies.guard())
    for guard in (PERMIT, PURPOSE):
        with pytest.raises(PolicyError):
            CedarEngine(policies.schema(), guard)


def test_a_decision_does_not_parse_the_policy_again(engine: CedarEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = engine.check(PERMIT)
    for parser in ("policies_to_json_str", "validate_policies"):
        monkeypatch.setattr(cedarpy, parser, None)
    monkeypatch.setattr(cedar, "_handle", None)
    assert engine.decide(checked, REQUEST, DATASET).permitted
