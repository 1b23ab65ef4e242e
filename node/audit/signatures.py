"""What the second process of an audit does: it verifies signatures, and imports nothing that it can do without."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from consortium.errors import ConsortiumError, SignatureError
from consortium.keys import FRAME_VERSION, KEY_ID_BYTES, PREFIX_BYTES, key_id, verify
from consortium.ledger.tiles import decode_bundle


@dataclass(frozen=True)
class Verified:
    """Which frames of a bundle verify under the keys that they name.

    Attributes:
        sha256: of the bundle's bytes as they were read; whoever read others must not use this.
        sound: one byte for each frame, 1 if it verifies.
    """

    sha256: bytes
    sound: bytes


def verify_frames(frames: Sequence[bytes], keys: Mapping[bytes, bytes]) -> bytes:
    """One byte for each frame: 1 if it is known to verify under the key of that id, else 0."""
    return bytes(map(lambda frame: _is_sound(frame, keys), frames))  # noqa: C417 -- a million calls


def verify_bundles(bundles: Sequence[tuple[Path, int]], keys: Mapping[bytes, bytes]) -> list[Verified]:
    """Verifies the frames in the bundles (path and number of entries); a bundle that cannot be read verifies nothing.

    Args:
        keys: public keys by key id; a key under another id than its own is not used.
    """
    own = {identity: key for identity, key in keys.items() if key_id(key) == identity}
    return [_verify_bundle(path, count, own) for path, count in bundles]


def _verify_bundle(path: Path, count: int, keys: Mapping[bytes, bytes]) -> Verified:
    try:
        data = path.read_bytes()
        frames = decode_bundle(data, count)
    except (OSError, ConsortiumError):
        return Verified(b"", b"")  # whoever folds the entries reads the bundle again, and says what is wrong with it
    return Verified(hashlib.sha256(data).digest(), verify_frames(frames, keys))


def _is_sound(frame: bytes, keys: Mapping[bytes, bytes]) -> bool:
    key = keys.get(frame[1 : 1 + KEY_ID_BYTES])
    if key is None or frame[:1] != FRAME_VERSION:
        return False
    try:
        verify(key, frame[PREFIX_BYTES:], frame[1 + KEY_ID_BYTES : PREFIX_BYTES])
    except SignatureError:
        return False
    return True
