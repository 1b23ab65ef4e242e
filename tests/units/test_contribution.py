"""Participation regression: exact on known games, refused where it would guess."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consortium.errors import ContributionError
from consortium.incentives.contribution import (
    METHOD,
    UTILITY_MICRO_MAX,
    ContributionScores,
    Score,
    participation_scores,
)
from consortium.jobs import round_roster

MEMBERS = ("a", "b", "c", "d")
EVERYONE = frozenset(MEMBERS)
PLAN = tuple(
    frozenset(member.decode() for member in round_roster(b"seed", number, [name.encode() for name in MEMBERS]))
    for number in range(1, 22)
)


def play(game: Callable[[frozenset[str]], int], rosters: tuple[frozenset[str], ...] = PLAN) -> list[int]:
    """The utilities of a training whose every round gains the worth of its roster."""
    utilities = [0]
    for roster in rosters:
        utilities.append(utilities[-1] + game(roster))
    return utilities


def as_dict(scores: ContributionScores) -> dict[str, int]:
    return {score.member: score.score_micro for score in scores.scores}


def test_worths_that_add_up_are_recovered_without_error() -> None:
    worth = {"a": 5_000, "b": 2_500, "c": 0, "d": -40}
    scores = participation_scores(MEMBERS, PLAN, play(lambda roster: sum(worth[i] for i in roster)))
    assert scores == ContributionScores(METHOD, tuple(Score(i, worth[i], 0) for i in MEMBERS))


def test_the_airport_game_gives_its_egalitarian_non_separable_value() -> None:
    cost = {"a": 1_000, "b": 3_000, "c": 4_000, "d": 10_000}
    scores = participation_scores(MEMBERS, PLAN, play(lambda roster: max(cost[i] for i in roster)))
    # Separable parts 0, 0, 0, 6,000; the other 4,000 of the runway is shared by four.
    assert as_dict(scores) == {"a": 1_000, "b": 1_000, "c": 1_000, "d": 7_000}


@given(st.lists(st.integers(0, 20_000), min_size=5, max_size=5))
def test_any_game_gives_its_egalitarian_non_separable_value_rounded_half_even(worths: list[int]) -> None:
    game = {EVERYONE: worths[4]} | {EVERYONE - {i}: worths[k] for k, i in enumerate(MEMBERS)}
    separable = {i: worths[4] - worths[k] for k, i in enumerate(MEMBERS)}
    rest = Fraction(worths[4] - sum(separable.values()), 4)
    scores = participation_scores(MEMBERS, PLAN, [u + 500_000 for u in play(lambda r: game[r] - 15_000)])
    assert as_dict(scores) == {i: round(separable[i] + rest - Fraction(15_000, 4)) for i in MEMBERS}
    assert {score.error_micro for score in scores.scores} == {0}


def test_halves_go_to_the_even_number() -> None:
    scores = participation_scores(MEMBERS, PLAN, play(lambda roster: 2 + ("b" in roster)))
    assert as_dict(scores) == {"a": 0, "b": 2, "c": 0, "d": 0}


def test_a_member_that_does_harm_scores_below_zero_and_one_that_adds_nothing_gets_the_equal_share() -> None:
    utilities = [100_000 + u for u in play(lambda roster: 8_000 - (9_000 if "d" in roster else 0))]
    scores = as_dict(participation_scores(MEMBERS, PLAN, utilities))
    assert scores == {"a": 2_000, "b": 2_000, "c": 2_000, "d": -7_000}


def oracle(rosters: tuple[frozenset[str], ...], utilities: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """The same regression in floats by another algorithm (QR), on standardised columns."""
    before, moves = np.array(utilities[:-1], float), np.diff(np.array(utilities, float))
    terms = [before, 1_000_000 // np.arange(1, len(moves) + 1)]
    curve = [(term - term.mean()) / term.std() for term in terms if term.std() > 0]
    presence = [np.array([float(i in roster) for roster in rosters]) for i in MEMBERS]
    design = np.stack([np.ones(len(moves)), *curve, *presence], axis=1)
    contrast = np.zeros((4, design.shape[1]))
    contrast[:, 0] = 1 / 4
    contrast[:, 1 + len(curve) :] += np.eye(4)
    q, r = np.linalg.qr(design)
    solution = np.linalg.solve(r, q.T @ moves)
    variance = ((moves - design @ solution) ** 2).sum() / (len(moves) - design.shape[1])
    root = np.linalg.solve(r.T, contrast.T)
    return contrast @ solution, np.sqrt(variance * (root**2).sum(axis=0))


@settings(max_examples=40)
@given(st.lists(st.integers(0, UTILITY_MICRO_MAX), min_size=22, max_size=22))
def test_scores_and_errors_agree_with_floating_point_least_squares(utilities: list[int]) -> None:
    values, errors = oracle(PLAN, utilities)
    scores = participation_scores(MEMBERS, PLAN, utilities).scores
    for score, value, error in zip(scores, values, errors, strict=True):
        assert abs(score.score_micro - value) <= 0.51
        assert error - 0.01 <= score.error_micro <= math.ceil(error + 0.01)


def test_a_learning_curve_does_not_hide_who_helps() -> None:
    worth = {"a": 4_000, "b": 4_000, "c": 4_000, "d": 0}
    utilities = [100_000]
    for roster in PLAN:
        pull = (800_000 - utilities[-1]) * 2 // 5
        utilities.append(utilities[-1] + pull + sum(worth[i] for i in roster))
    scores = {score.member: score for score in participation_scores(MEMBERS, PLAN, utilities).scores}
    for better in "abc":
        difference = scores[better].score_micro - scores["d"].score_micro
        assert abs(difference - 4_000) <= 10


def test_names_change_nothing_but_names() -> None:
    utilities = play(lambda roster: max({"a": 10, "b": 333, "c": 41, "d": 700}[i] for i in roster))
    utilities[7] += 55
    renamed = dict(zip("abcd", "zyxw", strict=True))
    straight = {s.member: s for s in participation_scores(MEMBERS, PLAN, utilities).scores}
    plan = tuple(frozenset(renamed[i] for i in roster) for roster in PLAN)
    for score in participation_scores(("x", "z", "w", "y"), plan, utilities).scores:
        twin = straight[next(i for i in MEMBERS if renamed[i] == score.member)]
        assert (score.score_micro, score.error_micro) == (twin.score_micro, twin.error_micro)


def test_members_come_back_in_ascending_order_and_as_entry_json() -> None:
    scores = participation_scores(("d", "b", "a", "c"), PLAN, play(lambda roster: 3 * len(roster)))
    assert scores.to_json() == [{"error_micro": 0, "member": i, "score_micro": 3} for i in "abcd"]


def test_a_golden_vector_fixes_the_bits() -> None:
    utilities = [344178, 708674, 824528, 861003, 880112, 893120, 900007, 911871, 915044, 918000, 921113]
    rosters = [frozenset(names) for names in ["abcd", "abcd", "acd", "abd", "bcd", "abc", "abcd", "bcd", "abd", "acd"]]
    scores = participation_scores(MEMBERS, rosters, utilities)
    assert [(s.score_micro, s.error_micro) for s in scores.scores] == [
        (14310, 900),
        (13497, 900),
        (14698, 893),
        (17412, 1123),
    ]


def test_a_utility_that_never_moves_scores_zero() -> None:
    scores = participation_scores(MEMBERS, PLAN, [700_000] * 22)
    assert {(s.score_micro, s.error_micro) for s in scores.scores} == {(0, 0)}


def test_one_micro_unit_of_one_utility_changes_the_scores() -> None:
    utilities = play(lambda roster: 1_000 * len(roster))
    straight = participation_scores(MEMBERS, PLAN, utilities)
    utilities[9] += 1
    assert participation_scores(MEMBERS, PLAN, utilities) != straight


@pytest.mark.parametrize(
    "rosters",
    [
        pytest.param((EVERYONE,) * 12, id="nobody-ever-absent"),
        pytest.param((EVERYONE, EVERYONE - {"a"}, EVERYONE - {"b"}, EVERYONE - {"c"}) * 3, id="one-never-absent"),
        pytest.param((EVERYONE, EVERYONE - {"a"}, EVERYONE - {"b"}, EVERYONE - {"c", "d"}) * 3, id="absent-together"),
        pytest.param(tuple(EVERYONE - {i} for i in MEMBERS) * 3, id="never-all"),
    ],
)
def test_rosters_that_do_not_tell_members_apart_are_refused(rosters: tuple[frozenset[str], ...]) -> None:
    utilities = [(7919 * k * k) % 1_000_000 for k in range(len(rosters) + 1)]
    with pytest.raises(ContributionError, match="do not tell the members apart"):
        participation_scores(MEMBERS, rosters, utilities)


def test_scores_need_one_round_more_than_unknowns() -> None:
    utilities = [0, 500, 700, 800, 870, 910, 930, 945, 950]
    with pytest.raises(ContributionError, match=r"7 rounds are too few.*at least 8"):
        participation_scores(MEMBERS, PLAN[:7], utilities[:8])
    assert len(participation_scores(MEMBERS, PLAN[:8], utilities).scores) == 4


@pytest.mark.parametrize(
    ("members", "rosters", "utilities", "where"),
    [
        pytest.param(("a", "b", "c"), PLAN, [0] * 22, "members", id="three-members"),
        pytest.param(("a", "b", "c", "d", "d"), PLAN, [0] * 22, "members", id="repeated-member"),
        pytest.param(tuple(map(str, range(65))), PLAN, [0] * 22, "members", id="65-members"),
        pytest.param(MEMBERS, (), [0], "rosters", id="no-round"),
        pytest.param(MEMBERS, PLAN * 48, [0] * 1009, "rosters", id="1008-rounds"),
        pytest.param(MEMBERS, PLAN, [0] * 21, "utilities", id="a-utility-missing"),
        pytest.param(MEMBERS, PLAN, [0] * 5 + [-1] + [0] * 16, "utilities[5]", id="negative-utility"),
        pytest.param(MEMBERS, PLAN, [0] * 5 + [1_000_001] + [0] * 16, "utilities[5]", id="utility-over-one"),
        pytest.param(MEMBERS, PLAN, [0] * 5 + [True] + [0] * 16, "utilities[5]", id="utility-not-an-integer"),
        pytest.param(MEMBERS, (*PLAN[:20], frozenset("abe")), [0] * 22, "rosters[20]", id="stranger"),
        pytest.param(MEMBERS, (*PLAN[:20], frozenset()), [0] * 22, "rosters[20]", id="empty-roster"),
    ],
)
def test_input_out_of_range_is_refused_by_place(
    members: tuple[str, ...], rosters: tuple[frozenset[str], ...], utilities: list[int], where: str
) -> None:
    with pytest.raises(ContributionError) as caught:
        participation_scores(members, rosters, utilities)
    assert caught.value.where == where
    assert caught.value.mend
