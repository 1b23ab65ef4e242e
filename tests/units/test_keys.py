"""Keys and signed frames: one verification rule, no weak key, no second reading of the same bytes."""

from __future__ import annotations

import pytest

from consortium.errors import SignatureError
from consortium.keys import (
    SigningKey,
    check_public_key,
    fingerprint,
    key_id,
    open_frame,
    pae,
    sign_frame,
    verify,
)
from tests.worlds.weak_keys import SMALL_ORDER, MixedOrderKey

KEY = SigningKey(b"\x07" * 32)
OTHER = SigningKey(b"\x08" * 32)
# RFC 8032, 7.1, test 2
RFC_SEED = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
RFC_PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
RFC_SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


def test_the_vector_of_rfc_8032_is_reproduced() -> None:
    key = SigningKey(RFC_SEED)
    assert key.public_key == RFC_PUBLIC
    assert key.sign(b"\x72") == RFC_SIGNATURE
    verify(RFC_PUBLIC, b"\x72", RFC_SIGNATURE)


def test_a_key_never_shows_its_seed() -> None:
    assert repr(KEY) == f"SigningKey(key_id={KEY.key_id.hex()})"
    assert KEY.seed.hex() not in repr(KEY)


def test_a_fingerprint_is_eight_groups_of_the_key_id() -> None:
    assert fingerprint(bytes(range(32))) == "0001-0203-0405-0607-0809-0a0b-0c0d-0e0f"
    assert key_id(KEY.public_key) == KEY.key_id


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_seed_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(SignatureError, match="32 bytes"):
        SigningKey(bytes(length))


@pytest.mark.parametrize(
    "public_key",
    [
        *(pytest.param(point, id=f"small-order-{i}") for i, point in enumerate(SMALL_ORDER)),
        pytest.param(MixedOrderKey(1).public_key, id="mixed-order"),
        pytest.param(b"\xff" * 32, id="not-canonical"),
        pytest.param(KEY.public_key[:31], id="short"),
        pytest.param(KEY.public_key + b"\0", id="long"),
    ],
)
def test_a_weak_public_key_is_refused(public_key: bytes) -> None:
    with pytest.raises(SignatureError, match="prime-order group"):
        check_public_key(public_key)


def test_a_key_of_mixed_order_can_sign_so_it_must_be_refused_where_it_is_registered() -> None:
    key = MixedOrderKey(1)
    verify(key.public_key, b"m", key.sign(b"m"))


@pytest.mark.parametrize(
    ("public_key", "message", "signature"),
    [
        pytest.param(OTHER.public_key, b"m", KEY.sign(b"m"), id="another-key"),
        pytest.param(KEY.public_key, b"n", KEY.sign(b"m"), id="another-message"),
        pytest.param(KEY.public_key, b"m", KEY.sign(b"m")[:63], id="short-signature"),
        pytest.param(KEY.public_key[:31], b"m", KEY.sign(b"m"), id="short-key"),
        pytest.param(SMALL_ORDER[0], b"m", bytes(64), id="small-order-key"),
    ],
)
def test_a_signature_that_does_not_verify_is_refused(public_key: bytes, message: bytes, signature: bytes) -> None:
    with pytest.raises(SignatureError):
        verify(public_key, message, signature)


def test_a_signature_is_not_malleable() -> None:
    order = (1 << 252) + 27742317777372353535851937790883648493
    signature = KEY.sign(b"m")
    other = signature[:32] + (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
    with pytest.raises(SignatureError):
        verify(KEY.public_key, b"m", other)


def test_the_pre_authentication_encoding_is_that_of_dsse() -> None:
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_a_frame_is_read_as_it_was_signed() -> None:
    frame = sign_frame(KEY, "text/plain", b"with spaces 7 ")
    assert open_frame(frame.data) == frame
    frame.verify(KEY.public_key)


def test_a_frame_is_bound_to_the_key_that_it_names() -> None:
    frame = sign_frame(KEY, "text/plain", b"hello")
    with pytest.raises(SignatureError, match="names another key"):
        frame.verify(OTHER.public_key)
    renamed = open_frame(frame.data[:1] + OTHER.key_id + frame.data[33:])
    with pytest.raises(SignatureError, match="does not verify"):
        renamed.verify(OTHER.public_key)


PREFIX = sign_frame(KEY, "a", b"b").data[:97]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(PREFIX[:96], id="cut-in-the-signature"),
        pytest.param(b"\x02" + PREFIX[1:] + b"DSSEv1 1 a 1 b", id="another-version"),
        pytest.param(PREFIX, id="nothing-signed"),
        pytest.param(PREFIX + b"DSSEv2 1 a 1 b", id="another-dsse"),
        pytest.param(PREFIX + b"DSSEv1 x a 1 b", id="length-not-a-number"),
        pytest.param(PREFIX + b"DSSEv1 01 a 1 b", id="length-with-a-leading-zero"),
        pytest.param(PREFIX + b"DSSEv1 11111111111 a 1 b", id="length-of-eleven-digits"),
        pytest.param(PREFIX + b"DSSEv1 2 a 1 b", id="type-length-too-long"),
        pytest.param(PREFIX + b"DSSEv1 1 a x b", id="payload-length-not-a-number"),
        pytest.param(PREFIX + b"DSSEv1 1 a 2 b", id="payload-too-short"),
        pytest.param(PREFIX + b"DSSEv1 1 a 1 bb", id="payload-too-long"),
        pytest.param(PREFIX + b"DSSEv1 1 a 01 b", id="payload-length-with-a-leading-zero"),
        pytest.param(PREFIX + b"DSSEv1 1 \xff 1 b", id="type-not-ascii"),
    ],
)
def test_bytes_that_are_not_a_frame_are_refused(data: bytes) -> None:
    with pytest.raises(SignatureError) as caught:
        open_frame(data)
    assert caught.value.mend
