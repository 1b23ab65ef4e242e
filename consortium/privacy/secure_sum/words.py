"""Vectors of 32-bit or 128-bit words, and arithmetic modulo the word.

A vector of 32-bit words is a uint32 array of shape (length,); of 128-bit words a uint64 array of shape (length, 2)
with the low limb first. On the wire both are little-endian.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from consortium.errors import SecureSumError
from consortium.privacy.secure_sum.spec import SumSpec, WordBits

Words = npt.NDArray[np.unsignedinteger[Any]]

_LIMB_MASK = (1 << 64) - 1


def check_words(vector: Words, spec: SumSpec) -> None:
    """Refuses a vector that is not of the spec's shape and word.

    Raises:
        SecureSumError: another dtype or shape.
    """
    dtype = np.uint32 if spec.word_bits == 32 else np.uint64
    shape = (spec.length,) if spec.word_bits == 32 else (spec.length, 2)
    if vector.dtype != dtype or vector.shape != shape:
        raise SecureSumError(
            f"The vector must be a {np.dtype(dtype).name} array of shape {shape}.",
            where="vector",
            mend="Encode it with encode_signed at the word size of the sum.",
        )


def wire_bytes(vector: Words) -> memoryview:
    """The little-endian bytes of a vector, without a copy where the machine is little-endian."""
    little = vector.dtype.newbyteorder("<")
    return np.ascontiguousarray(vector, dtype=little).data.cast("B")


def vector_digest(vector: Words) -> bytes:
    """SHA-256 of the little-endian bytes of a vector."""
    return hashlib.sha256(wire_bytes(vector)).digest()


def add_words(first: Words, second: Words) -> Words:
    """The sum of two vectors modulo the word, as a new array.

    Raises:
        SecureSumError: the vectors differ in shape or word, or are neither 32-bit nor 128-bit words.
    """
    if first.shape != second.shape or first.dtype != second.dtype or not (_is_32(first) or _is_128(first)):
        raise SecureSumError("Only two vectors of the same length and word size can be added.", where="vector")
    total = first.copy()
    add_in_place(total, second)
    return total


def add_in_place(target: Words, addend: Words) -> None:
    """Adds one vector to another in place, modulo the word; both of one shape."""
    if target.ndim == 1:
        np.add(target, addend, out=target)
        return
    low, high = target[:, 0], target[:, 1]
    np.add(low, addend[:, 0], out=low)
    carry = low < addend[:, 0]
    np.add(high, addend[:, 1], out=high)
    np.add(high, carry, out=high)


def subtract_in_place(target: Words, subtrahend: Words) -> None:
    """Subtracts one vector from another in place, modulo the word; both of one shape."""
    if target.ndim == 1:
        np.subtract(target, subtrahend, out=target)
        return
    low, high = target[:, 0], target[:, 1]
    borrow = low < subtrahend[:, 0]
    np.subtract(low, subtrahend[:, 0], out=low)
    np.subtract(high, subtrahend[:, 1], out=high)
    np.subtract(high, borrow, out=high)


def encode_signed(values: Sequence[int] | npt.NDArray[np.int64], word_bits: WordBits) -> Words:
    """Signed integers as two's-complement words: uint32 of shape (n,), or uint64 of shape (n, 2).

    Raises:
        SecureSumError: not a flat sequence of integers, or one does not fit the signed word.
    """
    if isinstance(values, np.ndarray):
        if values.ndim != 1 or values.dtype != np.int64:
            raise SecureSumError("Values must be a flat int64 array or a list of integers.", where="values")
        if word_bits == 32:
            _check_range(values.size == 0 or (values.min() >= -(1 << 31) and values.max() < 1 << 31), 32)
            return values.astype(np.uint32)
        return np.stack([values, values >> 63], axis=1).view(np.uint64)
    if not all(type(value) is int for value in values):
        raise SecureSumError("Values must be a flat int64 array or a list of integers.", where="values")
    bound = 1 << (word_bits - 1)
    _check_range(all(-bound <= value < bound for value in values), word_bits)
    if word_bits == 32:
        return np.array(values, dtype=np.int64).astype(np.uint32)
    limbs = [(value & _LIMB_MASK, (value >> 64) & _LIMB_MASK) for value in values]
    return np.array(limbs, dtype=np.uint64).reshape(len(limbs), 2)


@overload
def decode_signed(total: Words, word_bits: Literal[32]) -> npt.NDArray[np.int64]: ...
@overload
def decode_signed(total: Words, word_bits: Literal[128]) -> list[int]: ...


def decode_signed(total: Words, word_bits: WordBits) -> npt.NDArray[np.int64] | list[int]:
    """The signed integers of two's-complement words: an int64 array for 32 bits, a list of Python ints for 128.

    Raises:
        SecureSumError: the array is not a vector of such words.
    """
    if not (_is_32(total) if word_bits == 32 else _is_128(total)):
        raise SecureSumError(f"The array is not a vector of {word_bits}-bit words.", where="vector")
    if word_bits == 32:
        return total.astype(np.int32).astype(np.int64)
    lows: list[int] = total[:, 0].tolist()
    highs: list[int] = total[:, 1].astype(np.int64).tolist()
    return [(high << 64) + low for low, high in zip(lows, highs, strict=True)]


def _is_32(vector: Words) -> bool:
    return vector.dtype == np.uint32 and vector.ndim == 1


def _is_128(vector: Words) -> bool:
    return vector.dtype == np.uint64 and vector.ndim == 2 and vector.shape[1] == 2


def _check_range(fits: bool | np.bool_, word_bits: int) -> None:
    if not fits:
        raise SecureSumError(
            f"A value does not fit a signed {word_bits}-bit word.",
            where="values",
            mend="Clip and scale the values so that the sum over the whole roster fits too.",
        )
