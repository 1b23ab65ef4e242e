"""What the other processes of an audit do: `python -m node.audit.signatures` verifies the signatures of entry bundles.

It reads requests from its standard input and answers each on its standard output, until the input ends; it imports
nothing that it can do without. A request is what `request` writes; the answer has one byte for each entry, in order.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import BinaryIO

from consortium.errors import SignatureError
from consortium.keys import FRAME_VERSION, KEY_BYTES, KEY_ID_BYTES, key_id, verify_signed
from consortium.ledger.tiles import decode_bundle

SOUND = b"\x01"
_HEADER = struct.Struct(">II")  # number of keys and of bundles; for a bundle: its entries and its bytes


def verify_bundles(bundles: Sequence[tuple[bytes, int]], keys: Mapping[bytes, bytes]) -> bytes:
    """For each entry of some bundles (their bytes and numbers of entries) one byte: 1 if it is known to verify, else 0.

    Args:
        keys: public keys by key id.

    Raises:
        EncodingError: a bundle does not hold whole entries.
    """
    return bytes(_is_sound(frame, keys) for data, count in bundles for frame in decode_bundle(data, count))


def request(bundles: Sequence[tuple[bytes, int]], keys: Collection[bytes]) -> list[bytes]:
    """The parts of a request to verify bundles with these public keys; bundles are large, and not copied."""
    parts = [_HEADER.pack(len(keys), len(bundles)), b"".join(keys)]
    for data, count in bundles:
        parts += [_HEADER.pack(count, len(data)), data]
    return parts


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answers requests until there are no more."""
    while header := requests.read(_HEADER.size):
        keys, bundles = _HEADER.unpack(header)
        known = [requests.read(KEY_BYTES) for _ in range(keys)]
        asked = [_read_bundle(requests) for _ in range(bundles)]
        answers.write(verify_bundles(asked, {key_id(key): key for key in known}))
        answers.flush()


def _read_bundle(requests: BinaryIO) -> tuple[bytes, int]:
    count, size = _HEADER.unpack(requests.read(_HEADER.size))
    return requests.read(size), count


def _is_sound(frame: bytes, keys: Mapping[bytes, bytes]) -> bool:
    key = keys.get(frame[1 : 1 + KEY_ID_BYTES])
    if key is None or frame[:1] != FRAME_VERSION:
        return False
    try:
        verify_signed(key, frame[1 + KEY_ID_BYTES :])
    except SignatureError:
        return False
    return True


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
