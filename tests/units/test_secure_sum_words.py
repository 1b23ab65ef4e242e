"""Words of 32 and 128 bits: carries, borrows, and what the codec refuses."""

from __future__ import annotations

import numpy as np
import pytest

from consortium.errors import SecureSumError
from consortium.privacy.secure_sum import add_words, decode_signed, encode_signed
from consortium.privacy.secure_sum.words import subtract_in_place

TOP = (1 << 127) - 1
LOW = (1 << 64) - 1


@pytest.mark.parametrize(
    ("first", "second", "total"),
    [
        (LOW, 1, LOW + 1),
        (LOW, LOW, 2 * LOW),
        (-1, 1, 0),
        (-1, -1, -2),
        (TOP, 1, -TOP - 1),
        (-TOP - 1, -1, TOP),
        (-(1 << 64), LOW, -1),
    ],
)
def test_128_bit_addition_carries_into_the_high_limb(first: int, second: int, total: int) -> None:
    """Fails without the carry in `add_in_place`, and the inverse without the borrow in `subtract_in_place`."""
    result = add_words(encode_signed([first], 128), encode_signed([second], 128))
    assert decode_signed(result, 128) == [total]
    subtract_in_place(result, encode_signed([second], 128))
    assert decode_signed(result, 128) == [first]


def test_32_bit_addition_wraps() -> None:
    result = add_words(encode_signed([(1 << 31) - 1, -1], 32), encode_signed([1, 1], 32))
    np.testing.assert_array_equal(decode_signed(result, 32), [-(1 << 31), 0])


def test_integer_arrays_and_lists_encode_alike() -> None:
    values = [0, 1, -1, (1 << 31) - 1, -(1 << 31)]
    for word_bits in (32, 128):
        from_array = encode_signed(np.array(values, dtype=np.int64), word_bits)
        np.testing.assert_array_equal(from_array, encode_signed(values, word_bits))
    extremes = [(1 << 63) - 1, -(1 << 63)]
    assert decode_signed(encode_signed(np.array(extremes, dtype=np.int64), 128), 128) == extremes


def test_nothing_encodes_to_a_vector_of_no_words() -> None:
    assert encode_signed([], 32).shape == encode_signed(np.array([], dtype=np.int64), 32).shape == (0,)
    assert encode_signed([], 128).shape == (0, 2)


@pytest.mark.parametrize(
    ("values", "word_bits"),
    [
        ([1 << 31], 32),
        ([-(1 << 31) - 1], 32),
        ([1 << 127], 128),
        ([-(1 << 127) - 1], 128),
        (np.array([1 << 31]), 32),
        (np.array([-(1 << 31) - 1]), 32),
        ([1.5], 32),
        ([True], 128),
        (np.array([1.0]), 128),
        (np.array([1], dtype=np.uint64), 128),
        (np.array([[1]]), 32),
    ],
)
def test_value_that_is_no_signed_word_is_refused_without_repeating_it(values: object, word_bits: int) -> None:
    with pytest.raises(SecureSumError) as refused:
        encode_signed(values, word_bits)
    assert refused.value.where == "values"
    assert "2147483" not in str(refused.value)


def test_vectors_of_different_shapes_or_words_do_not_add() -> None:
    one = np.zeros(2, np.uint32)
    for other in (np.zeros(3, np.uint32), np.zeros(2, np.uint64)):
        with pytest.raises(SecureSumError, match="same length and word size"):
            add_words(one, other)
    for odd in (np.zeros((2, 3), np.uint64), np.zeros(2, np.uint8)):
        with pytest.raises(SecureSumError, match="same length and word size"):
            add_words(odd, odd)


def test_arrays_that_are_no_vector_of_words_do_not_decode() -> None:
    with pytest.raises(SecureSumError, match="32-bit"):
        decode_signed(np.zeros(2, np.uint64), 32)
    with pytest.raises(SecureSumError, match="128-bit"):
        decode_signed(np.zeros(2, np.uint32), 128)
