"""Canonical JSON over all values: one value, one text."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from consortium.encoding import canonical, parse
from consortium.errors import EncodingError

SAFE = st.integers(-(1 << 53) + 1, (1 << 53) - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | SAFE | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_a_value_survives_the_round_trip_and_is_plain_json(value: Any) -> None:
    data = canonical(value)
    assert parse(data) == value
    assert json.loads(data) == value


@given(VALUES, st.randoms(use_true_random=False))
def test_the_order_in_which_keys_came_does_not_matter(value: Any, random: Any) -> None:
    def shuffled(part: Any) -> Any:
        if isinstance(part, dict):
            names = list(part)
            random.shuffle(names)
            return {name: shuffled(part[name]) for name in names}
        return [shuffled(item) for item in part] if isinstance(part, list) else part

    assert canonical(shuffled(value)) == canonical(value)


@given(st.binary(max_size=40) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_whatever_is_parsed_is_exactly_what_would_be_written(data: bytes) -> None:
    try:
        value = parse(data)
    except EncodingError:
        return
    assert canonical(value) == data
