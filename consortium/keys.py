"""Ed25519 identities, and the signed frame in which everything that is signed here travels.

One verification rule for everybody: libsodium's (PyNaCl). OpenSSL and libsodium disagree on small-order keys, so a
key of small order is refused where it is registered.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import NamedTuple, Protocol

import nacl.bindings
import nacl.exceptions

from consortium.errors import SignatureError

KEY_BYTES = 32
KEY_ID_BYTES = 32
SIGNATURE_BYTES = 64
FRAME_VERSION = b"\x01"
PREFIX_BYTES = 1 + KEY_ID_BYTES + SIGNATURE_BYTES


class Signer(Protocol):
    """Something that holds an Ed25519 private key."""

    @property
    def public_key(self) -> bytes: ...

    @property
    def key_id(self) -> bytes: ...

    def sign(self, message: bytes) -> bytes: ...


@dataclass(frozen=True, repr=False)
class SigningKey:
    """An Ed25519 private key (RFC 8032), from its 32-byte seed."""

    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.seed) != KEY_BYTES:
            raise SignatureError("An Ed25519 seed has 32 bytes.", mend="Generate the key anew.")

    def __repr__(self) -> str:
        return f"SigningKey(key_id={self.key_id.hex()})"

    @property
    def public_key(self) -> bytes:
        """The 32-byte public key."""
        return self._pair[0]

    @cached_property
    def key_id(self) -> bytes:
        """SHA-256 of the public key: what names a member on the ledger."""
        return key_id(self.public_key)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature over `message`."""
        return nacl.bindings.crypto_sign(message, self._pair[1])[:SIGNATURE_BYTES]

    @cached_property
    def _pair(self) -> tuple[bytes, bytes]:
        """Public key, and what libsodium signs with: working it out takes as long as a signature."""
        return nacl.bindings.crypto_sign_seed_keypair(self.seed)


def key_id(public_key: bytes) -> bytes:
    """SHA-256 of a public key."""
    return hashlib.sha256(public_key).digest()


def fingerprint(identity: bytes) -> str:
    """A key id as people compare it: eight groups of four hex digits (128 bits)."""
    text = identity.hex()[:32]
    return "-".join(text[i : i + 4] for i in range(0, 32, 4))


def check_public_key(public_key: bytes) -> None:
    """Refuses what no honest member would register.

    Raises:
        SignatureError: wrong length, not a canonical point, or a point of small order.
    """
    if len(public_key) != KEY_BYTES or not _is_sound_point(public_key):
        raise SignatureError(
            "The Ed25519 public key is not a point of the prime-order group.",
            mend="Generate the key pair with the consortium program.",
        )


@lru_cache(maxsize=256)  # of the few keys that sign checkpoints, each checked at every checkpoint
def _is_sound_point(public_key: bytes) -> bool:
    return nacl.bindings.crypto_core_ed25519_is_valid_point(public_key)


def verify(public_key: bytes, message: bytes, signature: bytes) -> None:
    """Checks an Ed25519 signature by libsodium's rule.

    Raises:
        SignatureError: it does not verify.
    """
    if len(signature) != SIGNATURE_BYTES:
        raise SignatureError("The signature has a wrong length.")
    verify_signed(public_key, signature + message)


def verify_signed(public_key: bytes, signed: bytes) -> None:
    """Checks an Ed25519 signature that stands before its message, as in a frame, by libsodium's rule.

    Raises:
        SignatureError: it does not verify.
    """
    if len(signed) < SIGNATURE_BYTES or len(public_key) != KEY_BYTES:
        raise SignatureError("The signature or key has a wrong length.")
    try:
        nacl.bindings.crypto_sign_open(signed, public_key)
    except nacl.exceptions.BadSignatureError as error:
        raise SignatureError(
            "The signature does not verify.", mend="The bytes were changed, or another key signed them."
        ) from error


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE v1 pre-authentication encoding of a typed payload."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


class Frame(NamedTuple):
    """A signed, typed payload as it is stored and sent: `0x01 | key id | signature | PAE`.

    Attributes:
        data: all its bytes.
        payload_type: as the PAE states it.
        payload_at: where in `data` the payload starts; it goes to the end.
    """

    data: bytes
    payload_type: str
    payload_at: int

    @property
    def key_id(self) -> bytes:
        """Id of the key that is said to have signed."""
        return self.data[1 : 1 + KEY_ID_BYTES]

    @property
    def signature(self) -> bytes:
        """The 64 bytes of the signature."""
        return self.data[1 + KEY_ID_BYTES : PREFIX_BYTES]

    @property
    def payload(self) -> bytes:
        """What was signed, with its type."""
        return self.data[self.payload_at :]

    def __repr__(self) -> str:
        return f"Frame(payload_type={self.payload_type!r}, {len(self.data)} bytes)"

    def verify(self, public_key: bytes) -> None:
        """Raises SignatureError unless `public_key` is the one named by `key_id` and signed these bytes."""
        if key_id(public_key) != self.key_id:
            raise SignatureError("The frame names another key than the one it is checked with.")
        verify_signed(public_key, self.data[1 + KEY_ID_BYTES :])


def sign_frame(signer: Signer, payload_type: str, payload: bytes) -> Frame:
    """Signs a payload once; the bytes are never serialised again."""
    message = pae(payload_type, payload)
    signature = signer.sign(message)
    data = FRAME_VERSION + signer.key_id + signature + message
    return Frame(data, payload_type, len(data) - len(payload))


def open_frame(data: bytes) -> Frame:
    """Splits the bytes of a frame; the signature is not checked here.

    Raises:
        SignatureError: the bytes are not a frame.
    """
    if len(data) < PREFIX_BYTES or data[:1] != FRAME_VERSION:
        raise SignatureError("The bytes are not a signed frame.", mend="Send the frame as it was signed.")
    payload_type, payload = _split_pae(data[PREFIX_BYTES:])
    return Frame(data, payload_type, len(data) - len(payload))


def _split_pae(message: bytes) -> tuple[str, bytes]:
    malformed = SignatureError("The frame's DSSE encoding is malformed.", mend="Send the frame as it was signed.")
    parts = message.split(b" ", 3)
    if len(parts) != 4 or parts[0] != b"DSSEv1" or not _is_length(parts[1]):
        raise malformed
    kind_length = int(parts[1])
    rest = message[len(b"DSSEv1 ") + len(parts[1]) + 1 :]
    kind, separator, tail = rest[:kind_length], rest[kind_length : kind_length + 1], rest[kind_length + 1 :]
    length, _, payload = tail.partition(b" ")
    if separator != b" " or not _is_length(length) or int(length) != len(payload):
        raise malformed
    try:
        payload_type = kind.decode("ascii")
    except UnicodeDecodeError as error:
        raise malformed from error
    if pae(payload_type, payload) != message:
        raise malformed
    return payload_type, payload


def _is_length(text: bytes) -> bool:
    return text.isdigit() and len(text) <= 10
