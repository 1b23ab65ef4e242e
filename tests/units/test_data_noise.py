"""OpenDP's sampler as we call it: the right distribution, and never less variance than was asked for."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consortium.errors import LimitError
from node.data.noise import discrete_gaussian, scale_for

DRAWS = 100_000


@given(st.fractions(min_value=Fraction(1, 100), max_value=1 << 112))
def test_the_scale_is_the_smallest_double_that_reaches_the_variance(variance: Fraction) -> None:
    scale = scale_for(variance)
    assert Fraction(scale) ** 2 >= variance > Fraction(math.nextafter(scale, 0.0)) ** 2


@pytest.mark.statistical
def test_draws_fit_the_discrete_gaussian_by_chi_square() -> None:
    """False alarm about 1e-6: Wilson & Hilferty's approximation of the chi-square quantile at 4.753 deviations."""
    variance, cut = 9, 10
    weights = {x: math.exp(-x * x / (2 * variance)) for x in range(-200, 201)}
    whole = sum(weights.values())
    drawn = Counter(max(-cut, min(cut, x)) for x in discrete_gaussian(DRAWS, Fraction(variance)))
    expected = Counter[int]()
    for x, weight in weights.items():
        expected[max(-cut, min(cut, x))] += DRAWS * weight / whole  # type: ignore[assignment]
    statistic = sum((drawn[x] - expected[x]) ** 2 / expected[x] for x in expected)
    freedom = len(expected) - 1
    assert statistic < freedom * (1 - 2 / (9 * freedom) + 4.753 * math.sqrt(2 / (9 * freedom))) ** 3


@pytest.mark.statistical
@pytest.mark.parametrize("variance", [Fraction(4), Fraction(10**6, 7), Fraction(2**90)])
def test_mean_and_variance_of_draws(variance: Fraction) -> None:
    """False alarm below 2e-6 for each of the two, at 4.9 standard errors."""
    count = 50_000
    draws = discrete_gaussian(count, variance)
    sigma = math.sqrt(variance)
    mean = sum(draws) / count
    second = sum(x * x for x in draws) / count
    assert abs(mean) < 4.9 * sigma / math.sqrt(count)
    assert abs(second / float(variance) - 1) < 4.9 * math.sqrt(2 / count)


def test_two_calls_do_not_repeat_each_other() -> None:
    assert discrete_gaussian(64, Fraction(10**12)) != discrete_gaussian(64, Fraction(10**12))


def test_draws_never_saturate_at_the_sampler_s_64_bits() -> None:
    assert max(map(abs, discrete_gaussian(1000, Fraction(1 << 112)))) < 1 << 62
    assert discrete_gaussian(0, Fraction(1)) == []


@pytest.mark.parametrize(("count", "variance"), [(-1, 4), ((1 << 20) + 1, 4), (1, 0), (1, -1), (1, (1 << 112) + 1)])
def test_senseless_noise_is_refused(count: int, variance: int) -> None:
    with pytest.raises(LimitError):
        discrete_gaussian(count, Fraction(variance))
