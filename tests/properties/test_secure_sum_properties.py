"""Properties of the secure sum against plain arithmetic, and what malformed input raises."""

from __future__ import annotations

import itertools
import os
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from consortium.encoding import canonical
from consortium.errors import SecureSumError
from consortium.keys import sign_frame
from consortium.privacy.secure_sum import (
    Aggregator,
    SumSpec,
    Transcript,
    add_words,
    decode_signed,
    encode_signed,
    minimum_threshold,
    verify_transcript,
)
from consortium.privacy.secure_sum.shamir import combine, split
from tests.units.secure_sum_party import Party

SIGNED = {32: st.integers(-(1 << 31), (1 << 31) - 1), 128: st.integers(-(1 << 127), (1 << 127) - 1)}


def wrap(value: int, word_bits: int) -> int:
    half = 1 << (word_bits - 1)
    return (value + half) % (2 * half) - half


@settings(max_examples=25, deadline=None)
@given(st.data(), st.integers(3, 6), st.sampled_from([32, 128]))
def test_total_equals_the_plain_sum_of_the_survivors(data: st.DataObject, n: int, word_bits: int) -> None:
    t = data.draw(st.integers(minimum_threshold(n), n))
    masking = data.draw(st.lists(st.sampled_from(range(n)), min_size=t, max_size=n, unique=True))
    voting = data.draw(st.lists(st.sampled_from(masking), min_size=t, max_size=len(masking), unique=True))
    party = Party(n, word_bits=word_bits, length=3, threshold=t)
    party.values = data.draw(st.lists(st.lists(SIGNED[word_bits], min_size=3, max_size=3), min_size=n, max_size=n))
    party.reveal(voting, masking=masking)
    expected = [wrap(value, word_bits) for value in party.plain_sum(masking)]
    assert list(decode_signed(party.server.total(), word_bits)) == expected
    again = verify_transcript(party.server.transcript(), party.spec, party.public_keys)
    assert list(decode_signed(again, word_bits)) == expected


@settings(max_examples=50, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.integers(1, 7), st.data())
def test_any_threshold_of_shares_give_the_secret_and_fewer_give_another(
    secret: bytes, count: int, data: st.DataObject
) -> None:
    threshold = data.draw(st.integers(1, count))
    shares = split(secret, threshold, count, os.urandom)
    for subset in itertools.combinations(range(count), threshold):
        assert combine({i: shares[i] for i in subset}) == secret
    if threshold > 1:
        assert combine({i: shares[i] for i in range(threshold - 1)}) != secret


def test_shares_of_the_extreme_secrets_and_of_a_hundred() -> None:
    for secret in (bytes(32), b"\xff" * 32):
        shares = split(secret, 67, 100, os.urandom)
        assert combine({i: shares[i] for i in range(33, 100)}) == secret


@given(st.sampled_from([32, 128]), st.data())
def test_signed_codec_round_trip(word_bits: Any, data: st.DataObject) -> None:
    values = data.draw(st.lists(SIGNED[word_bits], max_size=20))
    assert list(decode_signed(encode_signed(values, word_bits), word_bits)) == values


@given(st.sampled_from([32, 128]), st.data())
def test_addition_agrees_with_python_integers(word_bits: Any, data: st.DataObject) -> None:
    pairs = data.draw(st.lists(st.tuples(SIGNED[word_bits], SIGNED[word_bits]), max_size=20))
    first, second = (encode_signed([pair[i] for pair in pairs], word_bits) for i in (0, 1))
    assert list(decode_signed(add_words(first, second), word_bits)) == [wrap(a + b, word_bits) for a, b in pairs]


FINISHED = Party(4)
FINISHED.reveal([0, 1, 2])
RECORD = FINISHED.server.transcript()
DATA = RECORD.to_bytes()
FRAMES = {
    "advert": RECORD.adverts[3],
    "shares": RECORD.shares[3],
    "masked": RECORD.masked[0],
    "vote": RECORD.votes[0],
    "reveal": RECORD.reveals[0],
}


def offer(kind: str, frame: bytes) -> None:
    """Gives a frame to a coordinator and, where nodes read that kind, to a node that waits for it."""
    server = Aggregator(FINISHED.spec, FINISHED.public_keys)
    for advert in RECORD.adverts if kind != "advert" else ():
        server.add_advert(advert)
    if kind != "advert":
        server.adverts()
        for shares in RECORD.shares if kind != "shares" else ():
            server.add_shares(shares)
    if kind in ("masked", "vote", "reveal"):
        server.shares()
        for masked, vector in zip(RECORD.masked, RECORD.vectors, strict=True):
            if kind != "masked":
                server.add_masked(masked, vector)
        if kind != "masked":
            server.survivors()
    if kind == "masked":
        server.add_masked(frame, RECORD.vectors[0])
    else:
        {
            "advert": server.add_advert,
            "shares": server.add_shares,
            "vote": server.add_vote,
            "reveal": server.add_reveal,
        }[kind](frame)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(FRAMES)), st.data())
def test_spoiled_frame_raises_a_declared_error(kind: str, data: st.DataObject) -> None:
    frame = bytearray(FRAMES[kind])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(frame) - 1))
        frame[at] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(frame)))
    for spoiled in (bytes(frame), bytes(frame[:cut])):
        if spoiled != FRAMES[kind]:
            assert refuses(kind, spoiled)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 53) + 1, (1 << 53) - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=8,
)
HEX = st.binary(max_size=40).map(bytes.hex) | st.just("AB" * 32) | st.just("zz" * 32)
FIELDS = {
    "advert": ("mask_key", "sealing_key", "seed_commitment"),
    "shares": ("adverts", "sealed", "seed_commitments", "key_commitments"),
    "masked": ("setup", "vector"),
    "vote": ("setup", "survivors"),
    "reveal": ("setup", "seed_shares", "key_shares"),
}


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(FIELDS)), st.data())
def test_well_signed_nonsense_raises_a_declared_error(kind: str, data: st.DataObject) -> None:
    value = JSON | HEX | st.lists(HEX, max_size=4) | st.dictionaries(HEX, HEX, max_size=3)
    body = {name: data.draw(value) for name in FIELDS[kind]} if data.draw(st.booleans()) else data.draw(JSON)
    if isinstance(body, dict):
        body["session"] = FINISHED.spec.session.hex()
    payload = canonical(body)
    frame = sign_frame(FINISHED.signers[0], f"application/vnd.consortium.secure-sum-{kind}.v1+json", payload).data
    assert refuses(kind, frame)


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=300))
def test_noise_raises_a_declared_error(data: bytes) -> None:
    assert all(refuses(kind, data) for kind in FRAMES)


def test_frame_above_the_limit_raises_a_declared_error() -> None:
    assert all(refuses(kind, frame + bytes(1 << 16)) for kind, frame in FRAMES.items())


def refuses(kind: str, frame: bytes) -> bool:
    try:
        offer(kind, frame)
    except SecureSumError:
        return True
    return False


def test_honest_frames_are_not_refused() -> None:
    assert not any(refuses(kind, frame) for kind, frame in FRAMES.items())


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_every_changed_byte_of_a_transcript_is_found(at: int, flip: int) -> None:
    spoiled = bytearray(DATA)
    spoiled[at] ^= flip
    try:
        verify_transcript(Transcript.from_bytes(bytes(spoiled)), FINISHED.spec, FINISHED.public_keys)
    except SecureSumError:
        return
    raise AssertionError(f"A changed byte at {at} went unnoticed.")


@given(JSON)
def test_spec_of_any_json_raises_a_declared_error(value: Any) -> None:
    for document in (value, {**FINISHED.spec.to_json(), "roster": value}, {**FINISHED.spec.to_json(), "length": value}):
        try:
            spec = SumSpec.from_json(document)
        except SecureSumError:
            continue
        assert spec.to_json() == document


def test_masked_vectors_are_not_the_plain_ones() -> None:
    for i, vector in enumerate(RECORD.vectors):
        assert not np.array_equal(vector, FINISHED.vector(i))
