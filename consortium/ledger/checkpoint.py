"""Checkpoints of the log: C2SP signed notes (c2sp.org/signed-note) with tlog-checkpoint text.

A signature line whose name and key id are not among the known keys is ignored, as the specification says: witnesses'
cosignatures stand beside the log's own signature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from consortium.errors import CheckpointError, SignatureError
from consortium.keys import KEY_BYTES, Signer, check_public_key, verify
from consortium.ledger.merkle import HASH_BYTES, SIZE_MAX

ED25519 = 0x01
KEY_HASH_BYTES = 4
NOTE_BYTES_MAX = 1 << 18
SIGNATURES_MAX = 64
_SIGNATURE_PREFIX = "— "
_FORBIDDEN = re.compile(r"[\x00-\x09\x0b-\x1f\ud800-\udfff]")  # control characters and lone surrogates
_MEND_NOTE = "Fetch the checkpoint again as it was signed."


@dataclass(frozen=True)
class Checkpoint:
    """A tree head as a log states it.

    Attributes:
        origin: the log's identity.
        size: number of leaves.
        root: Merkle tree hash at that size, 32 bytes.
        extensions: opaque lines that some logs add; this consortium's log writes none.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()


@dataclass(frozen=True)
class NoteSignature:
    """One signature line of a note: key name, key id (4 bytes), signature bytes (after the key id)."""

    name: str
    key_hash: bytes
    signature: bytes


@dataclass(frozen=True)
class Note:
    """A signed note, taken apart; nothing is verified yet."""

    text: str
    signatures: tuple[NoteSignature, ...]


@dataclass(frozen=True)
class NoteKey:
    """A key that verifies Ed25519 note signatures (algorithm 0x01).

    Raises:
        CheckpointError: a name that no note can carry, or not an Ed25519 key.
    """

    name: str
    public_key: bytes

    def __post_init__(self) -> None:
        _check_name(self.name)
        try:
            check_public_key(self.public_key)
        except SignatureError as error:
            raise CheckpointError("The note key is not an Ed25519 public key.", where="vkey") from error

    @property
    def key_hash(self) -> bytes:
        """The key id: SHA-256(name, newline, 0x01, public key), its first 4 bytes."""
        return hashlib.sha256(self.name.encode() + b"\n" + self._typed_key()).digest()[:KEY_HASH_BYTES]

    def vkey(self) -> str:
        """The verifier key as text: `name+hex key id+base64(0x01, public key)`."""
        return f"{self.name}+{self.key_hash.hex()}+{_to_base64(self._typed_key())}"

    @classmethod
    def parse(cls, vkey: str) -> NoteKey:
        """The key from its text form.

        Raises:
            CheckpointError: not a verifier key, of another algorithm, or its key id is not that of the key.
        """
        parts = vkey.split("+", 2)
        if len(parts) != 3:
            raise _bad_vkey()
        typed_key = _from_base64(parts[2], "vkey")
        if len(typed_key) != 1 + KEY_BYTES or typed_key[0] != ED25519:
            raise CheckpointError("The verifier key is not of algorithm Ed25519 (0x01).", where="vkey")
        key = cls(parts[0], typed_key[1:])
        if key.key_hash.hex() != parts[1]:
            raise _bad_vkey()
        return key

    def _typed_key(self) -> bytes:
        return bytes([ED25519]) + self.public_key


def format_checkpoint(checkpoint: Checkpoint) -> str:
    """The note text of a checkpoint.

    Raises:
        CheckpointError: a field that a checkpoint cannot carry.
    """
    if not 0 <= checkpoint.size <= SIZE_MAX or len(checkpoint.root) != HASH_BYTES:
        raise CheckpointError("The size or the root hash of the checkpoint is out of range.", where="checkpoint")
    lines = (checkpoint.origin, str(checkpoint.size), _to_base64(checkpoint.root), *checkpoint.extensions)
    if not all(lines) or any("\n" in line for line in lines):
        raise CheckpointError("A line of the checkpoint is empty or broken.", where="checkpoint")
    text = "".join(line + "\n" for line in lines)
    _check_characters(text)
    return text


def parse_checkpoint(text: str) -> Checkpoint:
    """The checkpoint in a note text; refuses whatever `format_checkpoint` would not have written.

    Raises:
        CheckpointError: not a checkpoint in the one form that the specification allows.
    """
    _check_characters(text)
    lines = text.split("\n")
    if len(lines) < 4 or lines[-1] or not all(lines[:-1]):
        raise CheckpointError(
            "A checkpoint has at least three lines and no empty one.", where="checkpoint", mend=_MEND_NOTE
        )
    origin, size, root, *extensions = lines[:-1]
    if not (size.isascii() and size.isdigit()) or len(size) > 19 or str(int(size)) != size or int(size) > SIZE_MAX:
        raise CheckpointError("The tree size is not a plain decimal number.", where="line 2", mend=_MEND_NOTE)
    root_bytes = _from_base64(root, "line 3")
    if len(root_bytes) != HASH_BYTES:
        raise CheckpointError("The root hash has not 32 bytes.", where="line 3", mend=_MEND_NOTE)
    return Checkpoint(origin, int(size), root_bytes, tuple(extensions))


def parse_note(data: str | bytes) -> Note:
    """Takes a signed note apart.

    Raises:
        CheckpointError: not a signed note, or larger than 256 KiB or 64 signatures.
    """
    if len(data) > NOTE_BYTES_MAX:
        raise CheckpointError("The signed note is too large.", where="note", mend=_MEND_NOTE)
    try:
        note = data.decode("utf-8") if isinstance(data, bytes) else data
    except UnicodeDecodeError as error:
        raise CheckpointError("The signed note is not UTF-8.", where="note", mend=_MEND_NOTE) from error
    _check_characters(note)
    body, blank, signature_block = note.rpartition("\n\n")
    lines = signature_block.split("\n")
    if not blank or lines.pop() or not 1 <= len(lines) <= SIGNATURES_MAX:
        raise CheckpointError("The note has no well-formed signature lines.", where="note", mend=_MEND_NOTE)
    return Note(body + "\n", tuple(_parse_signature(line) for line in lines))


def add_signature(note: Note, signature: NoteSignature) -> Note:
    """The note with one more signature line."""
    return Note(note.text, (*note.signatures, signature))


def format_note(note: Note) -> str:
    """The signed note as text; `parse_note` of it is the same note.

    Raises:
        CheckpointError: a key name that no note can carry.
    """
    lines: list[str] = []
    for signature in note.signatures:
        _check_name(signature.name)
        encoded = _to_base64(signature.key_hash + signature.signature)
        lines.append(f"{_SIGNATURE_PREFIX}{signature.name} {encoded}\n")
    return note.text + "\n" + "".join(lines)


def sign_checkpoint(checkpoint: Checkpoint, signer: Signer, name: str) -> str:
    """The signed note of a checkpoint with one Ed25519 signature under this key name.

    Raises:
        CheckpointError: a field or key name that a note cannot carry.
    """
    key = NoteKey(name, signer.public_key)
    text = format_checkpoint(checkpoint)
    signature = NoteSignature(name, key.key_hash, signer.sign(text.encode()))
    return format_note(add_signature(Note(text, ()), signature))


def open_checkpoint(note: str | bytes, vkeys: Iterable[NoteKey]) -> Checkpoint:
    """The checkpoint in a signed note, signed by at least one of the known keys.

    Raises:
        CheckpointError: malformed, signed by none of the keys, or a signature of a known key does not verify.
    """
    parsed = parse_note(note)
    known = {(key.name, key.key_hash): key for key in vkeys}
    matching = [(known.get((line.name, line.key_hash)), line) for line in parsed.signatures]
    verified = 0
    for key, line in matching:
        if key is None:
            continue
        try:
            verify(key.public_key, parsed.text.encode(), line.signature)
        except SignatureError as error:
            raise CheckpointError(
                "A signature of a known key on the checkpoint does not verify.",
                where="note",
                mend="The checkpoint was changed after it was signed; do not use it.",
            ) from error
        verified += 1
    if not verified:
        raise CheckpointError(
            "No known key has signed the checkpoint.", where="note", mend="Check that the verifier key is this log's."
        )
    return parse_checkpoint(parsed.text)


def _parse_signature(line: str) -> NoteSignature:
    name, space, encoded = line.removeprefix(_SIGNATURE_PREFIX).partition(" ")
    if not line.startswith(_SIGNATURE_PREFIX) or not space:
        raise CheckpointError("A signature line of the note is malformed.", where="note", mend=_MEND_NOTE)
    _check_name(name)
    data = _from_base64(encoded, "signature line")
    if len(data) <= KEY_HASH_BYTES:
        raise CheckpointError("A signature line of the note is too short.", where="note", mend=_MEND_NOTE)
    return NoteSignature(name, data[:KEY_HASH_BYTES], data[KEY_HASH_BYTES:])


def _check_name(name: str) -> None:
    _check_characters(name)
    if not name or "+" in name or any(character.isspace() for character in name):
        raise CheckpointError(
            "A key name is empty, or holds a space or a plus sign.", where="key name", mend="Use a name like a host."
        )


def _check_characters(text: str) -> None:
    if _FORBIDDEN.search(text):
        raise CheckpointError("The note holds a control character.", where="note", mend=_MEND_NOTE)


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _from_base64(text: str, where: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise CheckpointError("The text is not base64.", where=where, mend=_MEND_NOTE) from error
    if _to_base64(data) != text:
        raise CheckpointError("The base64 text is not in its canonical form.", where=where, mend=_MEND_NOTE)
    return data


def _bad_vkey() -> CheckpointError:
    return CheckpointError(
        "The text is not a verifier key.", where="vkey", mend="A verifier key reads name+8 hex digits+base64."
    )
