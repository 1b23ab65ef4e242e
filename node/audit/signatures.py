"""What the second process of an audit does: it verifies signatures, and imports nothing that it can do without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from consortium.errors import SignatureError
from consortium.keys import FRAME_VERSION, KEY_ID_BYTES, PREFIX_BYTES, key_id, verify
from consortium.ledger.tiles import decode_bundle


def verify_bundles(bundles: Sequence[tuple[bytes, int]], keys: Mapping[bytes, bytes]) -> list[bytes]:
    """For each bundle (its bytes and number of entries) one byte for each frame: 1 if it is known to verify, else 0.

    Args:
        keys: public keys by key id; a key under another id than its own is not used.

    Raises:
        EncodingError: a bundle does not hold whole entries.
    """
    own = {identity: key for identity, key in keys.items() if key_id(key) == identity}
    return [bytes(_is_sound(frame, own) for frame in decode_bundle(data, count)) for data, count in bundles]


def _is_sound(frame: bytes, keys: Mapping[bytes, bytes]) -> bool:
    key = keys.get(frame[1 : 1 + KEY_ID_BYTES])
    if key is None or frame[:1] != FRAME_VERSION:
        return False
    try:
        verify(key, frame[PREFIX_BYTES:], frame[1 + KEY_ID_BYTES : PREFIX_BYTES])
    except SignatureError:
        return False
    return True
