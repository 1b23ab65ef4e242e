"""Calibration of the noise, in exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

from consortium.errors import RequestError
from consortium.privacy.mechanisms import gap_rho_micro, gaussian_variance, honest_shares, share_variance


def test_variance_turns_back_into_the_rho_it_was_made_from() -> None:
    for sensitivity, rho_micro in ((1, 1), (2150, 3493), (2150**2, 17_468)):
        variance = gaussian_variance(sensitivity, rho_micro)
        assert Fraction(sensitivity**2) / (2 * variance) == Fraction(rho_micro, 10**6)


def test_one_of_the_survivors_is_not_counted_on() -> None:
    assert [honest_shares(threshold) for threshold in (2, 3, 7)] == [1, 2, 6]


@pytest.mark.parametrize("threshold", [1, 0, -1])
def test_a_threshold_without_an_honest_share_is_refused(threshold: int) -> None:
    with pytest.raises(RequestError, match="Too few members"):
        honest_shares(threshold)


def test_the_honest_shares_alone_reach_the_promised_variance() -> None:
    assert share_variance(Fraction(144), 2) * 2 == 144


def test_share_variance_below_four_is_refused_and_four_is_not() -> None:
    assert share_variance(Fraction(8), 2) == 4
    with pytest.raises(RequestError) as refusal:
        share_variance(Fraction(8) - Fraction(1, 10**9), 2)
    assert refusal.value.where == "epsilon_milli"


@pytest.mark.parametrize("honest", [2, 3, 9, 66])
def test_the_gap_bound_is_above_the_formula_of_kairouz_liu_steinke(honest: int) -> None:
    terms = (math.exp(-2 * math.pi**2 * 4 * k / (k + 1)) for k in range(1, honest))
    tau = 10 * sum(terms)
    assert tau * 131 / 4 * 1e6 <= gap_rho_micro(honest, 131) <= 1
