"""Privacy budgets in integer micro-rho of zero-concentrated differential privacy (zCDP), beside a delta.

Every figure is the same on every machine: logarithms come from `decimal`, whose `ln` is correctly rounded, and all
comparisons are between exact fractions. Whatever must be rounded is rounded against the one who spends.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Literal

from consortium.encoding import Json
from consortium.errors import BudgetError, RequestError

MICRO = 1_000_000
EPSILON_MILLI_MAX = 20_000  # beyond epsilon = 20 the promise protects nobody
RHO_MICRO_MAX = 1 << 52

_DELTA = re.compile(r"1e-[1-9][0-9]?")
_LN = Context(prec=60, rounding=ROUND_HALF_EVEN)

Unbounded = Literal["unbounded"]


def rho_micro_for(epsilon_milli: int, delta: str) -> int:
    """The largest micro-rho whose zCDP guarantee implies (epsilon, delta)-differential privacy.

    rho-zCDP implies (rho + 2 sqrt(rho ln(1/delta)), delta)-DP: Bun & Steinke 2016, Proposition 1.3.

    Args:
        epsilon_milli: epsilon in thousandths, 1 to 20,000.
        delta: a power of ten from "1e-99" to "1e-3".

    Raises:
        RequestError: epsilon or delta out of range, or an epsilon too small for one micro-rho.
    """
    check_epsilon_milli(epsilon_milli)
    check_delta(delta)
    return _rho_micro(epsilon_milli, delta)


@lru_cache(maxsize=256)
def _rho_micro(epsilon_milli: int, delta: str) -> int:
    log = _log_inverse(delta)
    low, high = 0, epsilon_milli * (MICRO // 1000)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _implies(middle, epsilon_milli, log) else (low, middle - 1)
    if low == 0:
        raise RequestError(
            "The epsilon is too small to be expressed in the budget's unit, one micro-rho.",
            where="epsilon_milli",
            mend="Ask for a larger epsilon.",
        )
    return low


def epsilon_milli_for(rho_micro: int, delta: str) -> int:
    """The smallest epsilon, in whole thousandths, that `rho_micro` is known to imply at `delta` (rounded up).

    Raises:
        RequestError: delta out of range, or a rho that is negative or beyond 2**52 micro-rho.
    """
    if type(rho_micro) is not int or not 0 <= rho_micro <= RHO_MICRO_MAX:
        raise RequestError("The rho is out of range.", where="rho_micro", mend="Give micro-rho from 0 to 2**52.")
    check_delta(delta)
    log = _log_inverse(delta)
    low, high = 0, 1
    while not _implies(rho_micro, high, log):
        high *= 2
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _implies(rho_micro, middle, log) else (middle + 1, high)
    return low


def check_epsilon_milli(epsilon_milli: Json) -> None:
    """Raises RequestError unless epsilon is an integer number of thousandths, positive and at most 20."""
    if type(epsilon_milli) is not int or not 0 < epsilon_milli <= EPSILON_MILLI_MAX:
        raise RequestError(
            "The privacy parameter epsilon is not within 0.001 to 20.",
            where="epsilon_milli",
            mend="Give epsilon in thousandths, as an integer from 1 to 20000; 1000 is a usual choice.",
        )


def check_delta(delta: Json) -> None:
    """Raises RequestError unless delta is a power of ten, "1e-99" to "1e-3"."""
    if not isinstance(delta, str) or not _DELTA.fullmatch(delta) or Decimal(delta) > Decimal("1e-3"):
        raise RequestError(
            "The privacy parameter delta is not a power of ten within (0, 1e-3].",
            where="delta",
            mend='Give delta as a string such as "1e-6": well below one over the number of records.',
        )


@dataclass(frozen=True)
class Account:
    """The budget of one dataset lineage: a cap, and what was spent under it.

    Refusing the first spend that would pass the cap is a valid privacy filter for zCDP even when every request is
    chosen after seeing all earlier answers: rho adds up under fully adaptive composition (Feldman & Zrnic 2021,
    "Individual Privacy Accounting via a Renyi Filter"; Whitehouse, Ramdas, Rogers & Wu 2023, "Fully-Adaptive
    Composition in Differential Privacy").

    Attributes:
        lineage: the dataset lineage; a new version of a dataset inherits its account.
        cap_rho_micro: the most that may ever be spent, in micro-rho.
        spent_rho_micro: what is spent, in micro-rho; it never falls.
        unbounded_spends: releases without noise: no rho bounds them, so they are counted, not summed.
    """

    lineage: str
    cap_rho_micro: int
    spent_rho_micro: int = 0
    unbounded_spends: int = 0

    def __post_init__(self) -> None:
        assert 0 <= self.spent_rho_micro <= self.cap_rho_micro <= RHO_MICRO_MAX
        assert self.unbounded_spends >= 0

    @property
    def left_rho_micro(self) -> int:
        """Micro-rho that can still be spent."""
        return self.cap_rho_micro - self.spent_rho_micro

    @property
    def is_unbounded(self) -> bool:
        """Whether anything was released without noise, so that the account's rho does not bound the loss."""
        return self.unbounded_spends > 0

    def reserve(self, amount: int | Unbounded) -> Account:
        """The account after a spend, which is never given back.

        Raises:
            BudgetError: the amount is not positive, or more than what is left.
        """
        if amount == "unbounded":
            return replace(self, unbounded_spends=self.unbounded_spends + 1)
        if type(amount) is not int or amount <= 0:
            raise BudgetError(
                "A spend is a positive integer of micro-rho.", where=self.lineage, mend="Send the plan's own rho_micro."
            )
        if amount > self.left_rho_micro:
            raise BudgetError(
                f"The request spends {amount} micro-rho; {self.left_rho_micro} of {self.cap_rho_micro} are left.",
                where=self.lineage,
                mend="Ask for a smaller epsilon, or reuse the answers that were already paid for.",
            )
        return replace(self, spent_rho_micro=self.spent_rho_micro + amount)


def _implies(rho_micro: int, epsilon_milli: int, log: Fraction) -> bool:
    """Whether rho + 2 sqrt(rho log) <= epsilon, decided without a root: 4 rho log <= (epsilon - rho)^2."""
    rho, epsilon = Fraction(rho_micro, MICRO), Fraction(epsilon_milli, 1000)
    return rho <= epsilon and 4 * rho * log <= (epsilon - rho) ** 2


@lru_cache(maxsize=128)
def _log_inverse(delta: str) -> Fraction:
    """Slightly more than ln(1/delta)."""
    return Fraction((-Decimal(delta).ln(_LN)).next_plus(_LN))
