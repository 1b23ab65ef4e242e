from __future__ import annotations

import re
from pathlib import Path

import pytest

import policies
from consortium.encoding import canonical
from consortium.errors import NotFoundError
from consortium.incentives.schedule import Schedule
from node.authorisation.cedar import CedarEngine

CLAUSES = ("permit", "purpose", "columns", "measures", "epsilon-cap", "members-min", "cohort-min")
GUARDS = (
    "guard-grade-known",
    "guard-grade-core",
    "guard-important-kind",
    "guard-important-aggregation",
    "guard-important-approval",
    "guard-columns",
    "guard-members",
    "guard-members-min",
    "guard-app",
    "guard-exact-kind",
    "guard-dp-spend",
    "guard-budget",
    "guard-release-terms",
    "guard-release-columns",
    "guard-release-measures",
    "guard-release-members",
    "guard-release-cohort",
    "guard-release-spend",
)


@pytest.fixture(scope="module")
def engine() -> CedarEngine:
    return CedarEngine(policies.schema(), policies.guard())


@pytest.mark.parametrize(
    ("size", "clauses"), [("large", CLAUSES), ("medium", CLAUSES), ("small", (*CLAUSES, "grade-general"))]
)
def test_a_template_is_valid_and_exact_training_is_one_edit_away(
    engine: CedarEngine, size: str, clauses: tuple[str, ...]
) -> None:
    text = policies.template(size)
    assert tuple(clause.id for clause in engine.check(text).clauses) == GUARDS + clauses
    assert text.count('["dp"]') == 1
    edited = engine.check(text.replace('["dp"]', '["dp", "exact_training"]'))
    assert edited.policy_sha256 != engine.check(text).policy_sha256


def test_the_templates_differ() -> None:
    assert len({policies.template(size) for size in policies.TEMPLATES}) == 3


@pytest.mark.parametrize("name", ["", "huge", "../guard", "large.cedar"])
def test_an_unknown_template_or_schedule_is_refused(name: str) -> None:
    with pytest.raises(NotFoundError):
        policies.template(name)
    with pytest.raises(NotFoundError):
        policies.incentive_schedule(name)


def test_the_incentive_schedule_is_canonical_and_the_charter_accepts_it() -> None:
    document = policies.incentive_schedule("standard")
    assert canonical(document)
    assert document["platform_fee_bp"] <= 500
    assert document["floor_pool_bp"] == 1_000
    assert Schedule.from_json(document)


def test_the_examples_of_the_readme_are_valid(engine: CedarEngine) -> None:
    readme = (Path(policies.__file__).parent / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```cedar\n(.*?)```", readme, re.DOTALL)
    assert blocks
    for block in blocks:
        assert engine.check(block).clauses
    for clause in GUARDS:
        assert f"`{clause}`" in readme
