"""How a request becomes integers: what every record adds to which coordinate, and how much noise hides it.

Each record is clipped to the declared bounds and rounded to the declared grid *before* anything is summed, so that
the sensitivity of every sum is an exact integer.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction

from consortium.errors import RequestError
from consortium.privacy.accounting import rho_micro_for
from consortium.privacy.mechanisms import (
    COLLUDERS_TOLERATED,
    GAP_RHO_MICRO,
    gap_rho_micro,
    gaussian_variance,
    honest_shares,
    share_variance,
)
from consortium.privacy.statistics import StatisticsRequest


@dataclass(frozen=True)
class Vector:
    """Sums that share their noise: a run of coordinates of the plan.

    Attributes:
        name: "count", "sum", "square_sum", "bin_counts" or "bin_sums".
        offset: index of its first coordinate.
        length: how many coordinates it has.
        sensitivity: L2 distance that one record, added or removed, moves it at most.
        rho_micro: its share of the plan's budget.
        variance: variance parameter sigma^2 of the noise that this share buys.
        share_variance: variance parameter of each member's own noise, sigma^2 / h.
    """

    name: str
    offset: int
    length: int
    sensitivity: int
    rho_micro: int
    variance: Fraction
    share_variance: Fraction

    @property
    def is_binned(self) -> bool:
        """Whether there is a coordinate for every bin, and not a single one."""
        return self.name.startswith("bin_")


@dataclass(frozen=True)
class Plan:
    """The measured integer vector of a request, the same for every member of a roster.

    A value v of the target column is measured as x = round((clip(v) - lower) / resolution) - centre, an integer of
    magnitude at most `level_max`; rounding is half away from zero, in IEEE 754 doubles.

    Attributes:
        request: what was asked.
        honest: h, the shares of noise that the guarantee counts on.
        rho_micro: what every member's account is charged, in micro-rho.
        vectors: in coordinate order.
    """

    request: StatisticsRequest
    honest: int
    rho_micro: int
    vectors: tuple[Vector, ...]

    @classmethod
    def of(cls, request: StatisticsRequest, threshold: int) -> Plan:
        """The plan of a request for a secure sum that ends with at least `threshold` survivors.

        Raises:
            RequestError: epsilon is too small to be divided, so large that the shares of noise would be too small, or
                too few members take part.
        """
        honest = honest_shares(threshold)
        rho_micro = rho_micro_for(request.epsilon_milli, request.delta)
        shapes = _shapes(request)
        portion = (rho_micro - GAP_RHO_MICRO) // len(shapes)
        if portion < 1:
            raise RequestError(
                "The epsilon is too small to be divided among the measures.",
                where="epsilon_milli",
                mend="Ask for a larger epsilon or for fewer measures.",
            )
        vectors, offset = [], 0
        for name, length, sensitivity in shapes:
            variance = gaussian_variance(sensitivity, portion)
            share = share_variance(variance, honest)
            vectors.append(Vector(name, offset, length, sensitivity, portion, variance, share))
            offset += length
        assert gap_rho_micro(honest, offset) <= GAP_RHO_MICRO
        return cls(request, honest, rho_micro, tuple(vectors))

    @property
    def threshold(self) -> int:
        """The least number of survivors that the plan was made for."""
        return self.honest + COLLUDERS_TOLERATED

    @property
    def length(self) -> int:
        """How many coordinates, each a signed integer, the plan has."""
        return sum(vector.length for vector in self.vectors)

    @property
    def steps(self) -> int:
        """How many grid steps lie between the bounds."""
        return self.request.bounds.steps

    @property
    def centre(self) -> int:
        """The grid step that is measured as zero."""
        return self.steps // 2

    @property
    def level_max(self) -> int:
        """The largest magnitude of a measured value."""
        return self.steps - self.centre

    def vector(self, name: str) -> Vector | None:
        """The vector of that name, None if the request does not need it."""
        return next((vector for vector in self.vectors if vector.name == name), None)

    def total_variance(self, vector: Vector, survivors: int) -> Fraction:
        """Variance of the noise in the sum of `survivors` members: all shares that arrived, |U| sigma^2 / h."""
        return vector.share_variance * survivors

    def level(self, value: float) -> int:
        """The integer that a value of the target column is measured as; `value` is not NaN."""
        bounds = self.request.bounds
        position = (value - float(bounds.lower)) / float(bounds.resolution)
        position = min(max(position, 0.0), float(self.steps))
        whole = math.floor(position)
        return whole + (position - whole >= 0.5) - self.centre

    def bin_of(self, value: float) -> int | None:
        """The index of the bin that holds a value of the bins' column; None outside of all, or without bins."""
        bins = self.request.bins
        if bins is None:
            return None
        index = bisect_right([float(edge) for edge in bins.edges], value) - 1
        return index if 0 <= index < bins.count else None

    def contribution(self, value: float, bin_value: float | None = None) -> list[int]:
        """What one record adds to the coordinates: the reference for any faster implementation."""
        level = self.level(value)
        index = None if bin_value is None else self.bin_of(bin_value)
        result = [0] * self.length
        for vector in self.vectors:
            if not vector.is_binned:
                result[vector.offset] = {"count": 1, "sum": level, "square_sum": level * level}[vector.name]
            elif index is not None:
                result[vector.offset + index] = 1 if vector.name == "bin_counts" else level
        return result


def _shapes(request: StatisticsRequest) -> list[tuple[str, int, int]]:
    """Name, length and L2 sensitivity of every vector that the measures need.

    A record falls into one bin at most, so a vector over bins has the sensitivity of a single coordinate.
    """
    steps = request.bounds.steps
    level_max = steps - steps // 2
    shapes = []
    if {"count", "mean", "std"} & set(request.measures):
        shapes.append(("count", 1, 1))
    if {"mean", "std"} & set(request.measures):
        shapes.append(("sum", 1, level_max))
    if "std" in request.measures:
        shapes.append(("square_sum", 1, level_max * level_max))
    if request.bins is not None:
        shapes.append(("bin_counts", request.bins.count, 1))
        shapes.append(("bin_sums", request.bins.count, level_max))
    return shapes
