"""Shamir's secret sharing (1979) of 32-byte secrets over the prime field of 2**256 + 297 elements.

The share of the member at position i of the roster is the polynomial's value at x = i + 1, so a share never carries
its own x: a sender cannot claim another's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

PRIME = (1 << 256) + 297  # the smallest prime above 2**256
SECRET_BYTES = 32
SHARE_BYTES = 33
_WIDE_BYTES = 64  # reduced modulo PRIME: a bias below 2**-255

RandomBytes = Callable[[int], bytes]


def draw(random: RandomBytes, count: int) -> bytes:
    """`count` bytes from an injected source; a source that returns another number is a bug."""
    data = random(count)
    assert len(data) == count, "the random source returned a wrong number of bytes"
    return data


def split(secret: bytes, threshold: int, count: int, random: RandomBytes) -> list[bytes]:
    """`count` shares of 33 bytes, any `threshold` of which give the 32-byte secret back."""
    assert len(secret) == SECRET_BYTES, "a secret has 32 bytes"
    assert 1 <= threshold <= count, "the threshold lies between one and the number of shares"
    coefficients = [int.from_bytes(draw(random, _WIDE_BYTES)) % PRIME for _ in range(threshold - 1)]
    coefficients.append(int.from_bytes(secret))
    return [_evaluate(coefficients, x).to_bytes(SHARE_BYTES) for x in range(1, count + 1)]


def combine(shares: Mapping[int, bytes]) -> bytes | None:
    """The secret whose shares at the given positions (from 0) these are; exactly `threshold` of them.

    None if they are not shares of one 32-byte secret, as far as that shows; the caller holds a commitment to it.
    """
    total = 0
    for position, weight in _weights_at_zero(tuple(sorted(shares))):
        total += weight * int.from_bytes(shares[position])
    total %= PRIME
    return None if total >> (8 * SECRET_BYTES) else total.to_bytes(SECRET_BYTES)


def _evaluate(coefficients: list[int], x: int) -> int:
    value = 0
    for coefficient in coefficients:
        value = (value * x + coefficient) % PRIME
    return value


@functools.lru_cache(maxsize=256)
def _weights_at_zero(positions: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    weights = []
    for position in positions:
        numerator, denominator = 1, 1
        for other in positions:
            if other != position:
                numerator = numerator * (other + 1) % PRIME
                denominator = denominator * (other - position) % PRIME
        weights.append((position, numerator * pow(denominator, -1, PRIME) % PRIME))
    return tuple(weights)
