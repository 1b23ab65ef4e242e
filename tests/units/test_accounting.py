"""Micro-rho arithmetic: against the defining inequality in high precision, and against OpenDP's own accounting."""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Any

import opendp.prelude as dp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consortium.errors import BudgetError, RequestError
from consortium.privacy.accounting import Account, epsilon_milli_for, rho_micro_for
from consortium.privacy.descriptor import row_count_band

DELTAS = st.integers(3, 99).map(lambda exponent: f"1e-{exponent}")


def implied_epsilon(rho_micro: int, delta: str) -> Decimal:
    """The implied epsilon with 80 digits, straight from Bun & Steinke 2016, Proposition 1.3."""
    with localcontext() as context:
        context.prec = 80
        rho = Decimal(rho_micro) / 1_000_000
        return rho + 2 * (rho * -Decimal(delta).ln()).sqrt()


@given(st.integers(100, 20_000), DELTAS)
def test_rho_is_the_largest_that_keeps_the_promised_epsilon(epsilon_milli: int, delta: str) -> None:
    rho = rho_micro_for(epsilon_milli, delta)
    assert implied_epsilon(rho, delta) <= Decimal(epsilon_milli) / 1000 < implied_epsilon(rho + 1, delta)


@given(st.integers(0, 10_000_000), DELTAS)
def test_reported_epsilon_is_never_too_small_and_tight_to_a_thousandth(rho_micro: int, delta: str) -> None:
    exact = implied_epsilon(rho_micro, delta) * 1000
    assert exact <= epsilon_milli_for(rho_micro, delta) < exact + 1


@given(st.integers(100, 20_000), DELTAS)
def test_spending_what_an_epsilon_buys_reports_no_more_than_that_epsilon(epsilon_milli: int, delta: str) -> None:
    assert epsilon_milli_for(rho_micro_for(epsilon_milli, delta), delta) <= epsilon_milli


def test_known_values() -> None:
    assert rho_micro_for(1000, "1e-6") == 17_468
    assert epsilon_milli_for(0, "1e-6") == 0
    assert epsilon_milli_for(125_000, "1e-6") == 2754  # 2.753 by this formula, anchors of the design


@pytest.mark.parametrize("rho_micro", [1_000, 17_468, 125_000, 2_000_000])
def test_opendp_never_reports_a_larger_epsilon_than_ours(rho_micro: int) -> None:
    dp.enable_features("contrib")
    space = dp.atom_domain(T="i64"), dp.absolute_distance(T="f64")
    measurement = dp.c.make_zCDP_to_approxDP(dp.m.make_gaussian(*space, scale=(0.5e6 / rho_micro) ** 0.5))
    theirs = measurement.map(1.0).epsilon(1e-6)
    assert theirs <= epsilon_milli_for(rho_micro, "1e-6") / 1000


@pytest.mark.parametrize("epsilon_milli", [0, -1, 20_001, 10**30, True, 1.5, "1000", None])
def test_epsilon_that_is_zero_negative_absurd_or_no_integer_is_refused(epsilon_milli: Any) -> None:
    with pytest.raises(RequestError) as refusal:
        rho_micro_for(epsilon_milli, "1e-6")
    assert refusal.value.where == "epsilon_milli"
    assert "1 to 20000" in refusal.value.mend


DELTAS_REFUSED = ["0", "1", "1e-2", "1e-0", "-1e-6", "1e-100", "1E-6", "0.000001", "nan", "", 1e-6, None, []]


@pytest.mark.parametrize("delta", DELTAS_REFUSED)
def test_delta_outside_its_range_or_notation_is_refused(delta: Any) -> None:
    with pytest.raises(RequestError) as refusal:
        rho_micro_for(1000, delta)
    assert refusal.value.where == "delta"
    with pytest.raises(RequestError):
        epsilon_milli_for(1000, delta)


def test_epsilon_below_one_micro_rho_is_refused() -> None:
    with pytest.raises(RequestError, match="too small"):
        rho_micro_for(1, "1e-6")


@pytest.mark.parametrize("rho_micro", [-1, (1 << 52) + 1, True, "1"])
def test_rho_out_of_range_is_refused(rho_micro: Any) -> None:
    with pytest.raises(RequestError):
        epsilon_milli_for(rho_micro, "1e-6")


@given(st.integers(0, 10**6), st.lists(st.integers(1, 10**5), max_size=30))
def test_an_account_never_passes_its_cap_and_never_regains_anything(cap: int, amounts: list[int]) -> None:
    account = Account("farm-a/scada", cap)
    spent = 0
    for amount in amounts:
        if spent + amount <= cap:
            account = account.reserve(amount)
            spent += amount
        else:
            with pytest.raises(BudgetError):
                account.reserve(amount)
        assert account.spent_rho_micro == spent <= cap
        assert account.left_rho_micro == cap - spent


def test_budget_refusal_says_what_remains_and_how_to_mend() -> None:
    with pytest.raises(BudgetError) as refusal:
        Account("farm-a/scada", 100, 70).reserve(31)
    assert "31 micro-rho; 30 of 100" in refusal.value.what
    assert refusal.value.where == "farm-a/scada"
    assert "smaller epsilon" in refusal.value.mend


@pytest.mark.parametrize("amount", [0, -5, True, 1.0, "5"])
def test_an_amount_that_is_no_positive_integer_cannot_be_spent(amount: Any) -> None:
    with pytest.raises(BudgetError):
        Account("farm-a/scada", 100, 70).reserve(amount)


def test_unbounded_spends_are_flagged_and_never_hidden_in_rho() -> None:
    account = Account("farm-a/scada", 100, 70)
    assert not account.is_unbounded
    after = account.reserve("unbounded")
    assert (after.spent_rho_micro, after.unbounded_spends, after.is_unbounded) == (70, 1, True)
    assert after.reserve(30).unbounded_spends == 1


@pytest.mark.parametrize(
    ("rows", "band"), [(0, "under 1k"), (999, "under 1k"), (1000, "1k-10k"), (999_999, "100k-1M"), (10**8, "over 10M")]
)
def test_row_counts_leave_only_as_a_band(rows: int, band: str) -> None:
    assert row_count_band(rows) == band
