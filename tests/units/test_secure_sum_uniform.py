"""What the coordinator receives is uniform: chi-square over the values of every byte position of all words.

Unseeded: a position raises a false alarm once in 1e9; the whole file, with 124 statistics, once in 8 million runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import pytest

from consortium.privacy.secure_sum import Words, add_words, encode_signed
from consortium.privacy.secure_sum.masks import Mask, fold, pair_mask, public_of
from consortium.privacy.secure_sum.messages import Advert, open_message
from consortium.privacy.secure_sum.words import subtract_in_place, wire_bytes
from tests.units.secure_sum_party import Party

WORDS = 1 << 16
CHI_SQUARE_255 = 414.6  # the upper 1e-9 quantile at 255 degrees of freedom is 414.55


def chi_squares(vector: Words) -> np.ndarray:
    """One statistic for each byte position of a word."""
    rows = np.frombuffer(wire_bytes(vector), np.uint8).reshape(len(vector), -1)
    expected = len(vector) / 256
    counts = np.stack([np.bincount(column, minlength=256) for column in rows.T])
    return ((counts - expected) ** 2 / expected).sum(axis=1)


def one_vector(word_bits: int, **fields: object) -> Words:
    """What node 0 sends of data that is far from uniform: the constant -7."""
    party = Party(4, length=WORDS, word_bits=word_bits, **fields)
    _, masked = party.nodes[0].mask(party.shares(), constant(word_bits))
    return masked


def constant(word_bits: int) -> Words:
    return encode_signed(np.full(WORDS, -7, np.int64), word_bits)


def difference(first: Words, second: Words) -> Words:
    result = first.copy()
    subtract_in_place(result, second)
    return result


def test_the_statistic_sees_data_and_small_noise() -> None:
    noise = np.random.default_rng(1).integers(0, 1 << 24, WORDS, dtype=np.uint32)
    assert chi_squares(np.full(WORDS, 7, np.uint32)).min() > 1e6
    assert chi_squares(noise)[3] > 1e6


@pytest.mark.statistical
@pytest.mark.parametrize("word_bits", [32, 128])
def test_vector_of_one_node_is_uniform(word_bits: int) -> None:
    """Fails without the masks."""
    masked = one_vector(word_bits)
    assert chi_squares(masked).max() < CHI_SQUARE_255
    assert chi_squares(difference(masked, constant(word_bits))).max() < CHI_SQUARE_255


@pytest.mark.statistical
@pytest.mark.parametrize("word_bits", [32, 128])
@pytest.mark.parametrize("changed", [{"round": 2}, {"input_model": b"m" * 32}])
def test_difference_of_two_sums_over_the_same_data_is_uniform(word_bits: int, changed: dict[str, object]) -> None:
    """Fails if masks are reused: here even the nodes' randomness repeats, so that only the session differs."""

    def repeating() -> Callable[[int], bytes]:
        return np.random.default_rng(5).bytes

    first = one_vector(word_bits, random=repeating())
    second = one_vector(word_bits, random=repeating(), **changed)
    assert chi_squares(difference(first, second)).max() < CHI_SQUARE_255
    fresh = one_vector(word_bits, random=os.urandom, **changed)
    assert chi_squares(difference(first, fresh)).max() < CHI_SQUARE_255


@pytest.mark.statistical
def test_vector_of_a_node_that_is_called_dropped_stays_uniform_without_its_pair_masks() -> None:
    """Fails without the self mask: a coordinator that has the vector and claims a drop-out learns the mask key."""
    party = Party(4, length=WORDS)
    party.nodes[0] = party.node(0, random=np.random.default_rng(5).bytes)
    mask_key = np.random.default_rng(5).bytes(32)  # the first thing that a node draws
    frames = party.shares()
    _, masked = party.nodes[0].mask(frames, constant(32))
    keys = {}
    for frame in party.server.adverts():
        sender, advert = open_message(frame, party.spec, party.public_keys, Advert)
        keys[sender] = advert.mask_key
    me, *others = keys.items()
    assert public_of(mask_key) == me[1]
    pairs = [pair_mask(party.spec, me, other, mask_key) for other in others]
    without_pairs = fold([masked], [Mask(mask.key, not mask.negative) for mask in pairs])
    assert chi_squares(without_pairs).max() < CHI_SQUARE_255


def test_exact_values_occur_in_nothing_that_leaves_a_node() -> None:
    """The known value of a node, binary or decimal, in no frame and no vector (chance below 1e-30)."""
    canary = 0x5EC2E75A1E0FAC0DEC0FFEE123456789
    party = Party(4, length=8, word_bits=128)
    party.values[0] = [canary] * 8
    party.reveal([0, 1, 2], masking=[0, 1, 2, 3])
    record = party.server.transcript().to_bytes()
    for form in (
        canary.to_bytes(16, "little"),
        canary.to_bytes(16, "big"),
        canary.to_bytes(16)[:8],
        canary.to_bytes(16, "little")[:8],
        str(canary).encode(),
        f"{canary:x}".encode(),
    ):
        assert form not in record


def test_masked_vectors_of_all_nodes_still_hold_the_self_masks() -> None:
    """The pair masks cancel; what remains without the revealed seeds is not the sum."""
    party = Party(4)
    sent = [vector for _, vector in party.mask(range(4))]
    total = sent[0]
    for vector in sent[1:]:
        total = add_words(total, vector)
    plain = fold([party.vector(i) for i in range(4)], [])
    assert not np.array_equal(total, plain)
