"""From the noisy integer totals of a plan to figures with 95 % intervals.

The intervals speak about the statistic of the clipped and rounded records that took part, and cover the noise that was
added for privacy: neither sampling error nor what clipping changed. Floats are welcome here: results are off the
ledger.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from consortium.encoding import Json
from consortium.errors import RequestError
from consortium.privacy.plan import Plan

Z_95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""
TOO_FEW_DEVIATIONS = 5
"""A noisy count below this many standard deviations of its noise says too little to divide by."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval, in the unit of the column (counts: records)."""

    value: float
    lower: float
    upper: float

    def to_json(self) -> Json:
        """Decimal strings of twelve significant digits."""
        return {"value": _text(self.value), "lower": _text(self.lower), "upper": _text(self.upper)}


@dataclass(frozen=True)
class BinEstimate:
    """One bin [lower_edge, upper_edge): the noisy number of its records and the mean of the target column.

    `too_few`: the noisy count is below 5 standard deviations of its noise; then there is no interval and no mean.
    """

    lower_edge: str
    upper_edge: str
    noisy_count: int
    too_few: bool
    count: Estimate | None
    mean: Estimate | None

    def to_json(self) -> Json:
        """Counts are integers, figures decimal strings, absent figures null."""
        return {
            "lower_edge": self.lower_edge,
            "upper_edge": self.upper_edge,
            "noisy_count": self.noisy_count,
            "too_few": self.too_few,
            "count": self.count.to_json() if self.count else None,
            "mean": self.mean.to_json() if self.mean else None,
        }


@dataclass(frozen=True)
class StatisticsResult:
    """The answer to a statistics request; what was not asked for is None or empty.

    Attributes:
        count: number of records with every column that was read.
        mean: mean of the clipped, rounded target column.
        std: population standard deviation of the same.
        bins: one estimate for every bin, or ().
        too_few: the records are too few against the noise for a mean or a standard deviation.
    """

    count: Estimate | None
    mean: Estimate | None
    std: Estimate | None
    bins: tuple[BinEstimate, ...]
    too_few: bool

    def to_json(self) -> Json:
        """A canonical JSON value (decimal strings, no floats)."""
        return {
            "count": self.count.to_json() if self.count else None,
            "mean": self.mean.to_json() if self.mean else None,
            "std": self.std.to_json() if self.std else None,
            "bins": [item.to_json() for item in self.bins],
            "too_few": self.too_few,
        }


@dataclass(frozen=True)
class _Noisy:
    """A total and the variance of the noise within it."""

    total: int
    variance: float

    @property
    def is_few(self) -> bool:
        return self.total <= 0 or self.total < TOO_FEW_DEVIATIONS * math.sqrt(self.variance)


def estimate(plan: Plan, totals: Sequence[int], survivors: int) -> StatisticsResult:
    """Estimates with 95 % intervals from the sum of the survivors' noisy vectors.

    Args:
        plan: what was summed.
        totals: the `plan.length` signed totals.
        survivors: |U|, how many members' vectors and noise are in the totals.

    Raises:
        RequestError: the totals do not have the plan's length, or fewer survived than the plan promises.
    """
    if len(totals) != plan.length or survivors < plan.threshold:
        raise RequestError(
            "The totals do not belong to this plan.",
            where=f"{len(totals)} coordinates of {survivors} survivors",
            mend="Derive the plan from the job's own request and threshold.",
        )
    return _estimate(
        plan, [_Noisy(total, variance) for total, variance in zip(totals, _variances(plan, survivors), strict=True)]
    )


def noise_free(plan: Plan, totals: Sequence[int]) -> StatisticsResult:
    """The clipped statistics of totals without noise, with intervals of no width: what an estimate is about."""
    assert len(totals) == plan.length
    return _estimate(plan, [_Noisy(total, 0.0) for total in totals])


def _variances(plan: Plan, survivors: int) -> list[float]:
    return [float(plan.total_variance(vector, survivors)) for vector in plan.vectors for _ in range(vector.length)]


def _estimate(plan: Plan, noisy: list[_Noisy]) -> StatisticsResult:
    named = {vector.name: noisy[vector.offset : vector.offset + vector.length] for vector in plan.vectors}
    measures = plan.request.measures
    count = named["count"][0] if "count" in named else None
    enough = count is not None and not count.is_few
    mean = std = None
    if count is not None and enough and "mean" in measures:
        mean = _mean(plan, count, named["sum"][0])
    if count is not None and enough and "std" in measures:
        std = _std(plan, count, named["sum"][0], named["square_sum"][0])
    return StatisticsResult(
        count=_count(count) if count is not None and "count" in measures else None,
        mean=mean,
        std=std,
        bins=_bins(plan, named),
        too_few=count is not None and not enough,
    )


def _bins(plan: Plan, named: dict[str, list[_Noisy]]) -> tuple[BinEstimate, ...]:
    bins = plan.request.bins
    if bins is None:
        return ()
    edges = [f"{edge:f}" for edge in bins.edges]
    pairs = zip(named["bin_counts"], named["bin_sums"], strict=True)
    return tuple(
        BinEstimate(
            lower_edge=edges[i],
            upper_edge=edges[i + 1],
            noisy_count=count.total,
            too_few=count.is_few,
            count=None if count.is_few else _count(count),
            mean=None if count.is_few else _mean(plan, count, total),
        )
        for i, (count, total) in enumerate(pairs)
    )


def _count(count: _Noisy) -> Estimate:
    half = Z_95 * math.sqrt(count.variance)
    return Estimate(count.total, count.total - half, count.total + half)


def _mean(plan: Plan, count: _Noisy, total: _Noisy) -> Estimate:
    """The ratio of two totals with Fieller's interval (Fieller 1954): all m with (S - m N)^2 <= z^2 (v_S + m^2 v_N).

    It is exact for normal noise, also for the small counts where the delta method's interval, which it approaches for
    large ones, is too narrow. It is bounded because N is at least 5 standard deviations from zero.
    """
    square = Z_95 * Z_95
    a = float(count.total) ** 2 - square * count.variance
    b = float(count.total) * float(total.total)
    spread = square * (
        count.total**2 * total.variance + total.total**2 * count.variance - square * count.variance * total.variance
    )
    half = math.sqrt(spread) / a
    value = total.total / count.total
    return Estimate(_in_unit(plan, value), _in_unit(plan, b / a - half), _in_unit(plan, b / a + half))


def _std(plan: Plan, count: _Noisy, total: _Noisy, square_total: _Noisy) -> Estimate | None:
    """The population standard deviation, its interval by the delta method; None if the noise hides it altogether."""
    mean, square_mean = total.total / count.total, square_total.total / count.total
    variance = square_mean - mean * mean
    if variance <= 0:
        return Estimate(0.0, 0.0, 0.0) if square_total.variance == 0 else None
    by_count, by_total = 2 * mean * mean - square_mean, -2 * mean
    noise = by_count**2 * count.variance + by_total**2 * total.variance + square_total.variance
    std = math.sqrt(variance)
    half = Z_95 * math.sqrt(noise) / (2 * std * count.total)
    scale = float(plan.request.bounds.resolution)
    return Estimate(std * scale, max(0.0, std - half) * scale, (std + half) * scale)


def _in_unit(plan: Plan, level: float) -> float:
    bounds = plan.request.bounds
    return float(bounds.lower) + (level + plan.centre) * float(bounds.resolution)


def _text(value: float) -> str:
    return f"{value:.12g}"
