"""Keys that no honest party makes: points of small order, and a key with a part of small order that can still sign."""

from __future__ import annotations

import hashlib

import nacl.bindings as sodium

from consortium.keys import key_id

ORDER_TWO = ((1 << 255) - 20).to_bytes(32, "little")  # (0, -1)
SMALL_ORDER = (
    (1).to_bytes(32, "little"),  # the neutral element
    ORDER_TWO,
    bytes(32),  # order 4
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),  # order 8
)


class MixedOrderKey:
    """An Ed25519 key plus a point of order two: libsodium takes half of the signatures that its owner can make."""

    def __init__(self, number: int) -> None:
        digest = hashlib.sha512(number.to_bytes(32, "big")).digest()
        self._scalar = sodium.crypto_core_ed25519_scalar_reduce(digest)
        honest = sodium.crypto_scalarmult_ed25519_base_noclamp(self._scalar)
        self.public_key = sodium.crypto_core_ed25519_add(honest, ORDER_TWO)

    @property
    def key_id(self) -> bytes:
        return key_id(self.public_key)

    def sign(self, message: bytes) -> bytes:
        """Tries nonces until the challenge is even, so that the point of order two drops out."""
        attempt = 0
        while True:
            nonce = sodium.crypto_core_ed25519_scalar_reduce(hashlib.sha512(b"%d" % attempt + message).digest())
            commitment = sodium.crypto_scalarmult_ed25519_base_noclamp(nonce)
            challenge = sodium.crypto_core_ed25519_scalar_reduce(
                hashlib.sha512(commitment + self.public_key + message).digest()
            )
            if challenge[0] % 2 == 0:
                product = sodium.crypto_core_ed25519_scalar_mul(challenge, self._scalar)
                return commitment + sodium.crypto_core_ed25519_scalar_add(nonce, product)
            attempt += 1
