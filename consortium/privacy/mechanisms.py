"""How much noise a release needs: the discrete Gaussian mechanism, its noise drawn in shares by several members.

Only figures are computed here, exactly; the noise itself is drawn on the nodes (`node.data.noise`).
"""

from __future__ import annotations

from fractions import Fraction

from consortium.errors import RequestError
from consortium.privacy.accounting import MICRO

SHARE_VARIANCE_MIN = 4
COLLUDERS_TOLERATED = 1
GAP_RHO_MICRO = 1
"""Micro-rho that a plan keeps back for the distance between a sum of discrete Gaussians and a discrete Gaussian."""


def gaussian_variance(sensitivity: int, rho_micro: int) -> Fraction:
    """The variance parameter sigma^2 of the discrete Gaussian that makes an integer vector rho-zCDP.

    rho = sensitivity^2 / (2 sigma^2): Canonne, Kamath & Steinke 2020, Theorem 4.

    Args:
        sensitivity: L2 distance by which one record, added or removed, can move the vector; at least 1.
        rho_micro: micro-rho, at least 1.
    """
    assert sensitivity >= 1
    assert rho_micro >= 1
    return Fraction(sensitivity * sensitivity * MICRO, 2 * rho_micro)


def honest_shares(threshold: int) -> int:
    """h: the shares of noise that are surely there and surely unknown to a colluder, of at least `threshold` survivors.

    Raises:
        RequestError: the threshold leaves fewer than one honest share.
    """
    if threshold <= COLLUDERS_TOLERATED:
        raise RequestError(
            "Too few members take part for the noise to hide anything from a colluding one.",
            where="members_min",
            mend="Ask at least three members.",
        )
    return threshold - COLLUDERS_TOLERATED


def share_variance(variance: Fraction, honest: int) -> Fraction:
    """The variance of every member's own noise share, so that `honest` of them reach `variance` together.

    Below a share variance of 4 a sum of discrete Gaussians is measurably not a discrete Gaussian, so it is refused.

    Raises:
        RequestError: the shares would be too small.
    """
    share = variance / honest
    if share < SHARE_VARIANCE_MIN:
        raise RequestError(
            "The noise shares would be too small to add up to the promised distribution.",
            where="epsilon_milli",
            mend="Ask for a smaller epsilon.",
        )
    return share


def gap_rho_micro(honest: int, dimension: int) -> Fraction:
    """An upper bound, in micro-rho, on what the sum of `honest` shares loses against one discrete Gaussian.

    Kairouz, Liu & Steinke 2021, Proposition 14: the sum is (epsilon^2 / 2)-zCDP with
    epsilon^2 = D^2 / (h s^2) + tau d / 2 and tau = 10 sum_k exp(-2 pi^2 s^2 k / (k + 1)) for k from 1 to h - 1;
    at s^2 >= 4 every term is below exp(-4 pi^2) < 1e-17.
    """
    tau = Fraction(10 * (honest - 1), 10**17)
    return tau * dimension / 4 * MICRO
