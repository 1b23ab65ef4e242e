"""What one record can change, for any record and any bounds: the claim that the whole privacy guarantee rests on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.units.wind import plan

RECORD = st.tuples(
    st.floats(allow_nan=False, allow_infinity=True),
    st.one_of(st.floats(-5, 40), st.floats(allow_nan=False), st.just(3.0)),
)
STEPS = st.tuples(st.integers(-1000, 1000), st.integers(1, 2000), st.sampled_from(["1", "0.5", "0.125", "0.1"]))


@given(RECORD, STEPS)
def test_adding_or_removing_any_record_moves_each_vector_by_at_most_its_sensitivity(
    record: tuple[float, float], steps: tuple[int, int, str]
) -> None:
    lower, width, resolution = steps
    bounds = {"power": {"lower": str(lower), "upper": str(lower + width), "resolution": resolution}}
    whole = plan(bounds=bounds)
    moved = whole.contribution(*record)
    assert len(moved) == whole.length
    for vector in whole.vectors:
        part = moved[vector.offset : vector.offset + vector.length]
        assert sum(x * x for x in part) <= vector.sensitivity**2


def test_every_vector_can_reach_its_sensitivity_so_none_is_noised_too_much() -> None:
    whole = plan()
    low, high = whole.contribution(float("-inf"), 3.0), whole.contribution(float("inf"), 3.0)
    for vector in whole.vectors:
        parts = [moved[vector.offset : vector.offset + vector.length] for moved in (low, high)]
        assert max(sum(x * x for x in part) for part in parts) == vector.sensitivity**2
