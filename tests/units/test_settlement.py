"""Settlement: the schedule's formula to the last credit, and every way to break it refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import policies
from consortium.encoding import digest_of
from consortium.errors import SettlementError
from consortium.incentives.contribution import METHOD, ContributionScores, Score
from consortium.incentives.schedule import Schedule
from consortium.incentives.settlement import Posting, Size, Standing, check_postings, settle

DOCUMENT = json.loads((Path(policies.__file__).parent / "incentives" / "standard.json").read_text())
STANDARD = Schedule.from_json(DOCUMENT)
PLAIN = Schedule.from_json(
    DOCUMENT
    | {"floor_pool_bp": 0, "platform_fee_bp": 0, "size_boost_bp": dict.fromkeys(DOCUMENT["size_boost_bp"], 10_000)}
)
FARM = {
    "a": Standing("large", "group-a", 10_000),
    "b": Standing("medium", "group-b", 10_000),
    "c": Standing("small", "group-c", 10_000),
    "d": Standing("small", "group-d", 10_000),
}


def scored(**micro: int) -> ContributionScores:
    return ContributionScores(METHOD, tuple(Score(member, value, 0) for member, value in micro.items()))


def alike(members: str, size: Size = "large") -> dict[str, Standing]:
    return {i: Standing(size, f"group-{i}", 10_000) for i in members}


def paid(postings: tuple[Posting, ...]) -> dict[str, int]:
    return {posting.account: posting.amount for posting in postings}


def test_a_golden_settlement_of_the_standard_schedule() -> None:
    postings = settle(STANDARD, "j", 100_000, scored(a=3_835, b=5_626, c=5_004, d=5_104), FARM)
    assert [(p.account, p.amount) for p in postings] == [
        ("escrow:j", -100000),
        ("fee:platform", 3000),
        ("member:a", 16705),
        ("member:b", 26516),
        ("member:c", 26647),
        ("member:d", 27132),
    ]


def test_the_formula_in_whole_credits() -> None:
    # fee 3,000; floors 9,700 / 4; the rest 87,300 by weight 1, 1.15, 1.3, 1.3, whose boosts move less than the cap.
    postings = paid(settle(STANDARD, "j", 100_000, scored(a=100, b=100, c=100, d=100), FARM))
    rest, whole = 87_300, 475
    expected = {i: 2_425 + rest * weight / whole for i, weight in zip("abcd", (100, 115, 130, 130), strict=True)}
    assert postings["escrow:j"] == -100_000
    assert postings["fee:platform"] == 3_000
    for member, amount in expected.items():
        assert abs(postings[f"member:{member}"] - amount) < 1
    assert sum(postings.values()) == 0


def test_quality_scales_pay() -> None:
    members = alike("ab") | {"b": Standing("large", "group-b", 5_000)}
    assert paid(settle(PLAIN, "j", 300, scored(a=7, b=7), members)) == {
        "escrow:j": -300,
        "member:a": 200,
        "member:b": 100,
    }


def test_boosts_move_no_more_than_the_cap() -> None:
    capped = Schedule.from_json(DOCUMENT | {"platform_fee_bp": 0, "floor_pool_bp": 0, "boost_pool_cap_bp": 1_000})
    members = alike("a") | alike("b", "small")
    # Uncapped, b's boost would move 0.3 / 2.3 = 13 %; with 10 % the other 90 % are shared by score.
    assert paid(settle(capped, "j", 1_000, scored(a=5, b=5), members))["member:b"] == 450 + 100


def test_a_schedule_without_boost_pool_pays_by_score_alone() -> None:
    unboosted = Schedule.from_json(DOCUMENT | {"platform_fee_bp": 0, "floor_pool_bp": 0, "boost_pool_cap_bp": 0})
    result = paid(settle(unboosted, "j", 1_000, scored(a=5, b=5), alike("a") | alike("b", "small")))
    assert result["member:a"] == result["member:b"] == 500


def test_a_negative_score_is_paid_nothing_and_has_no_posting() -> None:
    postings = paid(settle(STANDARD, "j", 100_000, scored(a=10, b=10, c=10, d=-1), FARM))
    assert "member:d" not in postings
    assert sum(postings.values()) == 0


def test_when_nobody_scores_above_zero_all_but_the_fee_returns_to_the_source() -> None:
    postings = settle(STANDARD, "j", 100_000, scored(a=0, b=-5, c=-1, d=0), FARM)
    assert postings == (Posting("escrow:j", -100_000), Posting("fee:platform", 3_000), Posting("source:j", 97_000))
    check_postings(postings)


def test_floors_need_a_score_above_the_threshold_and_unearned_floors_return_to_the_source() -> None:
    strict = Schedule.from_json(DOCUMENT | {"contribution_threshold_micro": 100, "platform_fee_bp": 0})
    one = paid(settle(strict, "j", 1_000, scored(a=101, b=100), alike("ab")))
    assert one["member:a"] == 100 + 452
    assert one["member:b"] == 448
    none = paid(settle(strict, "j", 1_000, scored(a=100, b=100), alike("ab")))
    assert none == {"escrow:j": -1_000, "member:a": 450, "member:b": 450, "source:j": 100}


def test_the_last_credits_go_to_the_largest_remainders_and_ties_to_the_first_group() -> None:
    assert paid(settle(PLAIN, "j", 100, scored(a=1, b=1, c=1), alike("abc")))["member:a"] == 34
    uneven = paid(settle(PLAIN, "j", 10, scored(a=54, b=27, c=19), alike("abc")))
    assert uneven == {"escrow:j": -10, "member:a": 5, "member:b": 3, "member:c": 2}  # of 5.4, 2.7 and 1.9


def test_a_shell_company_gets_neither_floor_nor_boost_of_its_own() -> None:
    honest = settle(STANDARD, "j", 100_000, scored(a=8_000, b=8_000), alike("ab"))
    shells = alike("b") | {
        "a1": Standing("large", "group-a", 10_000),
        "a2": Standing("small", "group-a", 10_000),
        "a3": Standing("small", "group-a", 10_000),
    }
    split = paid(settle(STANDARD, "j", 100_000, scored(b=8_000, a1=1, a2=3_999, a3=4_000), shells))
    assert sum(split[f"member:a{k}"] for k in (1, 2, 3)) == paid(honest)["member:a"]
    assert split["member:b"] == paid(honest)["member:b"]


def test_a_group_cannot_hide_harm_in_a_shell() -> None:
    members = alike("b") | {
        "a1": Standing("large", "group-a", 10_000),
        "a2": Standing("large", "group-a", 10_000),
    }
    result = paid(settle(PLAIN, "j", 1_000, scored(b=50, a1=150, a2=-100), members))
    assert result == {"escrow:j": -1_000, "member:a1": 500, "member:b": 500}


def test_one_credit_changed_in_any_posting_is_seen() -> None:
    postings = settle(STANDARD, "j", 100_000, scored(a=1, b=2, c=3, d=4), FARM)
    for number, posting in enumerate(postings):
        forged = [*postings[:number], Posting(posting.account, posting.amount + 1), *postings[number + 1 :]]
        with pytest.raises(SettlementError, match="sum to zero"):
            check_postings(forged)


def test_amounts_are_decimal_strings_in_entries() -> None:
    assert Posting("escrow:j", -100_000).to_json() == {"account": "escrow:j", "amount": "-100000"}


@pytest.mark.parametrize(
    ("postings", "message"),
    [
        ([Posting("escrow:j", -2), Posting("member:a", 1), Posting("member:a", 1)], "twice"),
        ([Posting("escrow:j", -1), Posting("member:b", -1), Posting("member:a", 2)], "one escrow"),
        ([Posting("escrow:j", -1), Posting("member:a", 1), Posting("member:b", 0)], "one escrow"),
        ([Posting("member:b", -1), Posting("member:a", 1)], "one escrow"),
        ([], "one escrow"),
        ([Posting("escrow:j", -2), Posting("member:a", 1)], "sum to zero"),
    ],
)
def test_postings_that_break_double_entry_are_refused(postings: list[Posting], message: str) -> None:
    with pytest.raises(SettlementError, match=message):
        check_postings(postings)


@pytest.mark.parametrize(
    ("amount", "scores", "members", "where"),
    [
        pytest.param(0, scored(a=1), alike("a"), "amount", id="nothing"),
        pytest.param(-5, scored(a=1), alike("a"), "amount", id="negative"),
        pytest.param(10**18 + 1, scored(a=1), alike("a"), "amount", id="too-much"),
        pytest.param(1.5, scored(a=1), alike("a"), "amount", id="float"),
        pytest.param(True, scored(a=1), alike("a"), "amount", id="boolean"),
        pytest.param(5, scored(a=1), alike("ab"), "scores", id="member-without-score"),
        pytest.param(5, scored(a=1, b=1), alike("a"), "scores", id="score-without-member"),
        pytest.param(5, scored(), {}, "scores", id="nobody"),
        pytest.param(
            5, ContributionScores(METHOD, (Score("a", 1, 0), Score("a", 9, 0))), alike("a"), "scores", id="twice"
        ),
        pytest.param(5, scored(a=1), {"a": Standing("large", "g", 4_999)}, "members.a.quality_bp", id="low-quality"),
        pytest.param(5, scored(a=1), {"a": Standing("large", "g", 10_001)}, "members.a.quality_bp", id="high-quality"),
        pytest.param(5, scored(a=1), {"a": Standing("huge", "g", 10_000)}, "members.a", id="unknown-size"),  # type: ignore[arg-type]
        pytest.param(5, scored(a=1), {"a": Standing("large", "", 10_000)}, "members.a", id="no-owner-group"),
    ],
)
def test_a_settlement_that_is_not_well_formed_is_refused_by_place(
    amount: Any, scores: ContributionScores, members: dict[str, Standing], where: str
) -> None:
    with pytest.raises(SettlementError) as caught:
        settle(STANDARD, "j", amount, scores, members)
    assert caught.value.where == where
    assert caught.value.mend


def test_a_schedule_reads_back_what_it_writes() -> None:
    assert STANDARD.to_json() == DOCUMENT
    assert digest_of(STANDARD.to_json()) == digest_of(DOCUMENT)


def test_a_schedule_does_not_change_with_the_document_it_was_read_from() -> None:
    document = copy.deepcopy(DOCUMENT)
    schedule = Schedule.from_json(document)
    document["size_boost_bp"]["small"] = 20_000
    assert schedule.size_boost_bp["small"] == 13_000
    with pytest.raises(TypeError):
        schedule.size_boost_bp["small"] = 1  # type: ignore[index]


def _set(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for parent in parents:
            document = document[parent]
        document[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (_set("platform_fee_bp", 501), "schedule.platform_fee_bp"),
        (_set("platform_fee_bp", -1), "schedule.platform_fee_bp"),
        (_set("platform_fee_bp", "300"), "schedule.platform_fee_bp"),
        (_set("platform_fee_bp", True), "schedule.platform_fee_bp"),
        (_set("floor_pool_bp", 10_001), "schedule.floor_pool_bp"),
        (_set("boost_pool_cap_bp", 10_001), "schedule.boost_pool_cap_bp"),
        (_set("contribution_threshold_micro", -1), "schedule.contribution_threshold_micro"),
        (_set("quality_bp.min", 0), "schedule.quality_bp.min"),
        (_set("quality_bp.min", 10_001), "schedule.quality_bp.min"),
        (_set("quality_bp.max", 10_001), "schedule.quality_bp.max"),
        (_set("size_boost_bp.large", 9_999), "schedule.size_boost_bp.large"),
        (_set("size_boost_bp.medium", 14_000), "schedule.size_boost_bp.small"),
        (_set("size_boost_bp.small", 20_001), "schedule.size_boost_bp.small"),
        (_set("size_boost_bp.tiny", 15_000), "schedule.size_boost_bp"),
        (_set("quality_bp", 5_000), "schedule.quality_bp"),
        (_set("version", 2), "schedule.version"),
        (_set("bonus", 1), "schedule"),
        (lambda document: document.pop("version"), "schedule"),
    ],
)
def test_a_schedule_out_of_its_limits_is_refused_by_place(change: Callable[[dict[str, Any]], None], where: str) -> None:
    document = copy.deepcopy(DOCUMENT)
    change(document)
    with pytest.raises(SettlementError) as caught:
        Schedule.from_json(document)
    assert caught.value.where == where
    assert caught.value.mend


def test_a_schedule_that_is_no_object_is_refused() -> None:
    with pytest.raises(SettlementError, match="object"):
        Schedule.from_json([])
