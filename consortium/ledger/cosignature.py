"""Witnesses' cosignatures on checkpoints: C2SP tlog-cosignature, Ed25519 (algorithm 0x04).

A cosignature says: at this time, this checkpoint was the largest consistent tree that the witness had seen of this
origin; here it says besides that the witness stores every entry of it. Cosignatures of one checkpoint are compared by
origin, size and root, never by bytes: their timestamps differ honestly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from consortium.errors import CheckpointError, SignatureError
from consortium.keys import SIGNATURE_BYTES, Signer, verify
from consortium.ledger.checkpoint import KEY_HASH_BYTES, Note, NoteSignature

COSIGNATURE_V1 = 0x04
TIMESTAMP_BYTES = 8
TIMESTAMP_MAX = (1 << 63) - 1


def quorum(committee: int) -> int:
    """The smallest k > 2n/3: any two quorums then share an honest witness while fewer than a third lie."""
    return 2 * committee // 3 + 1


def liars_tolerated(committee: int) -> int:
    """The largest f with n >= 3f + 1; a committee of 3 tolerates none."""
    return max(committee - 1, 0) // 3


def hearing(committee: int) -> int:
    """How many witnesses a sequencer hears before it opens: n - k + f + 1, so one honest one knows the last head."""
    return committee - quorum(committee) + liars_tolerated(committee) + 1


def witness_name(origin: str, member: bytes) -> str:
    """The key name of a member's cosignatures."""
    return f"{origin}/witness/{member.hex()[:16]}"


def cosign(text: str, signer: Signer, name: str, timestamp: int) -> NoteSignature:
    """The cosignature of a checkpoint's note text; `timestamp` in seconds since 1970.

    Raises:
        CheckpointError: a time that cannot be stated.
    """
    if not 0 < timestamp <= TIMESTAMP_MAX:
        raise CheckpointError("The time of the cosignature is out of range.", where="timestamp")
    signature = signer.sign(_message(text, timestamp))
    return NoteSignature(name, _key_hash(name, signer.public_key), timestamp.to_bytes(TIMESTAMP_BYTES) + signature)


def verify_cosignature(text: str, line: NoteSignature, public_key: bytes) -> int:
    """The timestamp of a cosignature line.

    Raises:
        CheckpointError: the line is not this key's cosignature of this text.
    """
    if line.key_hash != _key_hash(line.name, public_key) or len(line.signature) != TIMESTAMP_BYTES + SIGNATURE_BYTES:
        raise CheckpointError("The line is not a cosignature of this witness.", where=line.name[:80])
    timestamp = int.from_bytes(line.signature[:TIMESTAMP_BYTES])
    try:
        verify(public_key, _message(text, timestamp), line.signature[TIMESTAMP_BYTES:])
    except SignatureError as error:
        raise CheckpointError(
            "A cosignature does not verify.", where=line.name[:80], mend="Do not trust this checkpoint."
        ) from error
    return timestamp


def cosigners(note: Note, witnesses: Mapping[str, tuple[bytes, bytes]]) -> frozenset[bytes]:
    """Which of the witnesses (member id and public key, by key name) have validly cosigned a note.

    Lines of unknown names are ignored, as the specification says.

    Raises:
        CheckpointError: a line in the name of a known witness does not verify.
    """
    found = set()
    for line in note.signatures:
        witness = witnesses.get(line.name)
        if witness is not None:
            member, public_key = witness
            verify_cosignature(note.text, line, public_key)
            found.add(member)
    return frozenset(found)


def _message(text: str, timestamp: int) -> bytes:
    return f"cosignature/v1\ntime {timestamp}\n{text}".encode()


def _key_hash(name: str, public_key: bytes) -> bytes:
    typed_key = bytes([COSIGNATURE_V1]) + public_key
    return hashlib.sha256(name.encode() + b"\n" + typed_key).digest()[:KEY_HASH_BYTES]
