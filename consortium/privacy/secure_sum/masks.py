"""Keys and masks: X25519 (RFC 7748), HKDF-SHA256 (RFC 5869), and keystreams of AES-256 in counter mode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from consortium.encoding import sha256
from consortium.errors import SecureSumError
from consortium.privacy.secure_sum.spec import SumSpec
from consortium.privacy.secure_sum.words import Words, add_in_place, subtract_in_place

KEY_BYTES = 32
CHUNK_BYTES = 256 * 1024  # stays in the second-level cache; measured best (anchors/privacy.md, section 2)
_DOMAIN = b"consortium/secure-sum/v1/"

PublicMaskKey = tuple[bytes, bytes]  # key id of the member, and its X25519 public key of this sum


@dataclass(frozen=True)
class Mask:
    """One keystream to add to (or subtract from) a vector."""

    key: bytes = field(repr=False)
    negative: bool


def hkdf(secret: bytes, info: bytes) -> bytes:
    """32 bytes by HKDF-SHA256 (RFC 5869) without salt."""
    return HKDF(hashes.SHA256(), length=KEY_BYTES, salt=None, info=info).derive(secret)


def derive(secret: bytes, purpose: bytes, *context: bytes) -> bytes:
    """A 32-byte key for one purpose; the `context` fields are of fixed sizes, so that the info is unambiguous."""
    return hkdf(secret, _DOMAIN + purpose + b"\x00" + b"".join(context))


def commit(spec: SumSpec, purpose: bytes, *parts: bytes) -> bytes:
    """A SHA-256 commitment to a 256-bit secret within one session; `parts` are of fixed sizes."""
    return sha256(_DOMAIN + purpose + b"\x00" + spec.session + b"".join(parts))


def public_of(private_key: bytes) -> bytes:
    """The X25519 public key of 32 raw private bytes (clamped as RFC 7748 section 5 says)."""
    return X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


def agree(private_key: bytes, public_key: bytes) -> bytes:
    """The X25519 shared secret.

    Raises:
        SecureSumError: the public key is of small order, so that the secret would not be one (RFC 7748 section 6.1).
    """
    try:
        return X25519PrivateKey.from_private_bytes(private_key).exchange(X25519PublicKey.from_public_bytes(public_key))
    except ValueError as error:
        raise SecureSumError("An X25519 public key is of small order.", where="advert") from error


def self_mask(spec: SumSpec, owner: bytes, seed: bytes, *, negative: bool) -> Mask:
    """The mask that only the owner's seed makes (Bonawitz et al. 2017, section 6, PRG(b_u))."""
    return Mask(derive(seed, b"self-mask", spec.session, owner), negative)


def pair_mask(spec: SumSpec, owner: PublicMaskKey, other: PublicMaskKey, private_key: bytes) -> Mask:
    """The mask between two members, with the sign that the owner applies (the same section, PRG(s_u,v)).

    `private_key` is the owner's. The same pair seen from the other side gives the same keystream, other sign.
    """
    secret = agree(private_key, other[1])
    low, high = sorted((owner, other))
    return Mask(derive(secret, b"pair-mask", spec.session, *low, *high), negative=owner[0] > other[0])


def fold(vectors: Sequence[Words], masks: Sequence[Mask]) -> Words:
    """The sum of the vectors and of the masks with their signs, modulo the word, as a new array.

    All vectors are of one shape. Works chunk by chunk through one buffer, so that every keystream is added while
    it is in the cache.
    """
    out = np.empty(vectors[0].shape, vectors[0].dtype)
    row_bytes = out.nbytes // len(out)
    chunk_rows = min(CHUNK_BYTES // row_bytes, len(out))
    zeros, buffer = bytes(chunk_rows * row_bytes), bytearray(chunk_rows * row_bytes)
    stream = np.frombuffer(buffer, out.dtype.newbyteorder("<")).reshape(chunk_rows, *out.shape[1:])
    # The counter may start at zero: every key is derived for one keystream of one session.
    ciphers = [Cipher(algorithms.AES256(mask.key), modes.CTR(bytes(16))).encryptor() for mask in masks]
    for start in range(0, len(out), chunk_rows):
        part = out[start : start + chunk_rows]
        part[...] = vectors[0][start : start + chunk_rows]
        for vector in vectors[1:]:
            add_in_place(part, vector[start : start + chunk_rows])
        for mask, cipher in zip(masks, ciphers, strict=True):
            cipher.update_into(zeros, buffer)
            apply = subtract_in_place if mask.negative else add_in_place
            apply(part, stream[: len(part)])
    return out
