"""Published answers: RFC 7748, RFC 5869, and AES-256 with the zero key (McGrew and Viega, GCM, cases 13 and 14)."""

from __future__ import annotations

import numpy as np

from consortium.privacy.secure_sum.masks import Mask, agree, fold, hkdf, pair_mask, public_of, self_mask
from consortium.privacy.secure_sum.words import wire_bytes
from tests.units.secure_sum_party import make_signers, make_spec

# RFC 7748 section 6.1
ALICE = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
ALICE_PUBLIC = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
BOB = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
BOB_PUBLIC = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
SHARED = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")

# AES-256 under the zero key of the counter blocks 0, 1, 2: H, the tag of case 13, the ciphertext of case 14
ZERO_KEY_STREAM = bytes.fromhex(
    "dc95c078a2408989ad48a21492842087530f8afbc74536b9a963b4f1c4cb738bcea7403d4d606b6e074ec5d3baf39d18"
)


def test_x25519_of_rfc_7748() -> None:
    assert public_of(ALICE) == ALICE_PUBLIC
    assert public_of(BOB) == BOB_PUBLIC
    assert agree(ALICE, BOB_PUBLIC) == agree(BOB, ALICE_PUBLIC) == SHARED


def test_hkdf_of_rfc_5869_case_3() -> None:
    okm = bytes.fromhex("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8")
    assert hkdf(b"\x0b" * 22, b"") == okm[:32]


def test_keystream_is_aes_256_in_counter_mode_from_zero() -> None:
    added = fold([np.zeros(12, np.uint32)], [Mask(bytes(32), negative=False)])
    assert bytes(wire_bytes(added)) == ZERO_KEY_STREAM
    assert bytes(wire_bytes(fold([np.zeros((3, 2), np.uint64)], [Mask(bytes(32), negative=False)]))) == ZERO_KEY_STREAM
    subtracted = fold([added], [Mask(bytes(32), negative=True)])
    assert not subtracted.any()


def test_keystream_goes_on_across_chunks() -> None:
    whole = fold([np.zeros(200_000, np.uint32)], [Mask(b"k" * 32, negative=False)])
    wide = fold([np.zeros((50_000, 2), np.uint64)], [Mask(b"k" * 32, negative=False)])
    assert bytes(wire_bytes(whole)) == bytes(wire_bytes(wide))
    assert len({bytes(wire_bytes(whole[start : start + 4])) for start in range(0, 200_000, 4)}) == 50_000


def test_both_ends_of_a_pair_derive_one_mask_with_opposite_signs() -> None:
    signers = make_signers(3)
    spec = make_spec(signers)
    alice, bob = (signers[0].key_id, ALICE_PUBLIC), (signers[1].key_id, BOB_PUBLIC)
    one, other = pair_mask(spec, alice, bob, ALICE), pair_mask(spec, bob, alice, BOB)
    assert one.key == other.key
    assert (one.negative, other.negative) == (False, True)


def test_masks_of_two_sessions_differ_even_for_the_same_keys() -> None:
    """Fails if the session is not in the key derivation: one keystream would mask two vectors."""
    signers = make_signers(3)
    alice, bob = (signers[0].key_id, ALICE_PUBLIC), (signers[1].key_id, BOB_PUBLIC)
    specs = [make_spec(signers), make_spec(signers, round=2), make_spec(signers, input_model=b"m" * 32)]
    pairs = {pair_mask(spec, alice, bob, ALICE).key for spec in specs}
    selves = {self_mask(spec, alice[0], b"s" * 32, negative=False).key for spec in specs}
    assert len(pairs | selves) == 6
