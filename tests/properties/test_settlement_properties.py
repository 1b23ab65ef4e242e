"""What holds for every settlement: no credit is made, lost, or won by splitting a company."""

from __future__ import annotations

from fractions import Fraction
from random import Random

from hypothesis import assume, given
from hypothesis import strategies as st

from consortium.incentives.contribution import METHOD, ContributionScores, Score
from consortium.incentives.schedule import SIZES, Schedule
from consortium.incentives.settlement import Posting, Standing, check_postings, settle

AMOUNTS = st.integers(1, 10**9)


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    small, medium, large = sorted((draw(st.integers(10_000, 20_000)) for _ in SIZES), reverse=True)
    lowest, highest = sorted((draw(st.integers(1, 10_000)), draw(st.integers(1, 10_000))))
    return Schedule.from_json(
        {
            "boost_pool_cap_bp": draw(st.integers(0, 10_000)),
            "contribution_threshold_micro": draw(st.sampled_from((0, 1, 40_000))),
            "floor_pool_bp": draw(st.integers(0, 10_000)),
            "platform_fee_bp": draw(st.integers(0, 500)),
            "quality_bp": {"max": highest, "min": lowest},
            "size_boost_bp": {"large": large, "medium": medium, "small": small},
            "version": 1,
        }
    )


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Schedule, ContributionScores, dict[str, Standing]]:
    schedule = draw(schedules())
    ids = [f"m{k}" for k in range(draw(st.integers(1, 8)))]
    members = {
        member: Standing(
            draw(st.sampled_from(SIZES)),  # type: ignore[arg-type]
            draw(st.sampled_from(("g0", "g1", "g2", "g3", "g4"))),
            draw(st.integers(schedule.quality_bp_min, schedule.quality_bp_max)),
        )
        for member in ids
    }
    scores = tuple(Score(member, draw(st.integers(-100_000, 100_000)), 0) for member in ids)
    return schedule, ContributionScores(METHOD, scores), members


def pay(postings: tuple[Posting, ...]) -> dict[str, int]:
    return {p.account.removeprefix("member:"): p.amount for p in postings if p.account.startswith("member:")}


def group_pay(postings: tuple[Posting, ...], members: dict[str, Standing]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for member, amount in pay(postings).items():
        totals[members[member].owner_group] = totals.get(members[member].owner_group, 0) + amount
    return totals


@given(worlds(), AMOUNTS)
def test_postings_sum_to_zero_and_nobody_without_a_positive_score_is_paid(
    world: tuple[Schedule, ContributionScores, dict[str, Standing]], amount: int
) -> None:
    schedule, scores, members = world
    postings = settle(schedule, "j", amount, scores, members)
    check_postings(postings)
    assert postings[0] == Posting("escrow:j", -amount)
    positive = {score.member for score in scores.scores if score.score_micro > 0}
    assert pay(postings).keys() <= positive


@given(worlds(), AMOUNTS, st.randoms(use_true_random=False))
def test_the_order_of_the_input_changes_nothing(
    world: tuple[Schedule, ContributionScores, dict[str, Standing]], amount: int, random: Random
) -> None:
    schedule, scores, members = world
    listed, standings = list(scores.scores), list(members.items())
    random.shuffle(listed)
    random.shuffle(standings)
    shuffled = settle(schedule, "j", amount, ContributionScores(METHOD, tuple(listed)), dict(standings))
    assert shuffled == settle(schedule, "j", amount, scores, members)


@given(worlds(), AMOUNTS, st.data())
def test_splitting_a_member_into_shells_of_its_owner_group_gains_and_costs_nobody_a_credit(
    world: tuple[Schedule, ContributionScores, dict[str, Standing]], amount: int, data: st.DataObject
) -> None:
    schedule, scores, members = world
    victim = data.draw(st.sampled_from(scores.scores))
    assume(victim.score_micro > 1)
    part = data.draw(st.integers(1, victim.score_micro - 1))
    own = members[victim.member]
    shell = Standing("small", own.owner_group, own.quality_bp)
    rest = tuple(score for score in scores.scores if score is not victim)
    split = (Score(victim.member, victim.score_micro - part, 0), Score("shell", part, 0))
    after = settle(schedule, "j", amount, ContributionScores(METHOD, (*rest, *split)), members | {"shell": shell})
    before = settle(schedule, "j", amount, scores, members)
    assert group_pay(after, members | {"shell": shell}) == group_pay(before, members)


@given(worlds(), AMOUNTS, st.integers(1, 1_000))
def test_only_the_proportions_of_scores_count_above_the_threshold(
    world: tuple[Schedule, ContributionScores, dict[str, Standing]], amount: int, factor: int
) -> None:
    schedule, scores, members = world
    assume(schedule.contribution_threshold_micro == 0)
    scaled = tuple(Score(score.member, score.score_micro * factor, 0) for score in scores.scores)
    assert settle(schedule, "j", amount, ContributionScores(METHOD, scaled), members) == settle(
        schedule, "j", amount, scores, members
    )


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=9), AMOUNTS)
def test_everyone_is_within_one_credit_of_an_exact_share(micro: list[int], amount: int) -> None:
    plain = Schedule.from_json(
        {
            "boost_pool_cap_bp": 0,
            "contribution_threshold_micro": 0,
            "floor_pool_bp": 2_000,
            "platform_fee_bp": 0,
            "quality_bp": {"max": 10_000, "min": 10_000},
            "size_boost_bp": dict.fromkeys(SIZES, 10_000),
            "version": 1,
        }
    )
    scores = ContributionScores(METHOD, tuple(Score(str(k), value, 0) for k, value in enumerate(micro)))
    members = {str(k): Standing("large", f"g{k}", 10_000) for k in range(len(micro))}
    result = pay(settle(plain, "j", amount, scores, members))
    for k, value in enumerate(micro):
        exact = amount * (Fraction(2, 10 * len(micro)) + Fraction(8 * value, 10 * sum(micro)))
        assert abs(result.get(str(k), 0) - exact) < 1


@given(worlds(), AMOUNTS)
def test_boosts_move_at_most_the_capped_share(
    world: tuple[Schedule, ContributionScores, dict[str, Standing]], amount: int
) -> None:
    schedule, scores, members = world
    document = schedule.to_json() | {"boost_pool_cap_bp": 0}
    plain = group_pay(settle(Schedule.from_json(document), "j", amount, scores, members), members)
    boosted = group_pay(settle(schedule, "j", amount, scores, members), members)
    gained = sum(max(boosted.get(group, 0) - plain.get(group, 0), 0) for group in boosted)
    assert gained <= Fraction(amount * schedule.boost_pool_cap_bp, 10_000) + len(boosted)
