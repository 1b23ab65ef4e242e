"""The node's own share of the noise: OpenDP's exact integer sampler, fed by the operating system's randomness."""

from __future__ import annotations

import math
from fractions import Fraction

import opendp.prelude as dp

from consortium.errors import LimitError

COUNT_MAX = 1 << 20
VARIANCE_MAX = 1 << 112  # a share of 2**56 standard deviation stays 128 deviations away from the sampler's 64 bits

dp.enable_features("contrib")


def discrete_gaussian(count: int, variance: Fraction) -> list[int]:
    """Independent draws from the discrete Gaussian with variance parameter sigma^2 >= `variance`, centred at zero.

    P(x) is proportional to exp(-x^2 / (2 sigma^2)), sampled exactly in rational arithmetic (Canonne, Kamath & Steinke
    2020). The sampler takes a double as its scale, so sigma is the smallest double whose square is not below
    `variance`: never less noise than was asked for.

    Raises:
        LimitError: more draws or a larger variance than is ever needed.
    """
    if not 0 <= count <= COUNT_MAX or not 0 < variance <= VARIANCE_MAX:
        raise LimitError(
            "The noise that is asked for is out of range.",
            where="count or variance",
            mend=f"Ask for at most {COUNT_MAX} draws of a positive variance of at most 2**112.",
        )
    if count == 0:
        return []
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T="f64")
    measurement = dp.m.make_gaussian(*space, scale=scale_for(variance))
    draws: list[int] = measurement([0] * count)
    return draws


def scale_for(variance: Fraction) -> float:
    """The smallest double whose exact square is at least `variance`."""
    scale = math.sqrt(variance)
    while Fraction(scale) ** 2 < variance:
        scale = math.nextafter(scale, math.inf)
    while Fraction(math.nextafter(scale, 0.0)) ** 2 >= variance:
        scale = math.nextafter(scale, 0.0)
    return scale
