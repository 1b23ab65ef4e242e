"""Proofs of single entries as files: C2SP tlog-proof (c2sp.org/tlog-proof), version 1.

The file's extra data is the entry itself, so that whoever has the file and the log's verifier key needs nothing else.
The format does not authenticate extra data; here the entry is authentic because its hash is the leaf that is proved.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass

from consortium.errors import ProofError
from consortium.ledger.checkpoint import NOTE_BYTES_MAX, Checkpoint, NoteKey, open_checkpoint
from consortium.ledger.merkle import HASH_BYTES, SIZE_MAX, leaf_hash, verify_inclusion

HEADER = "c2sp.org/tlog-proof@v1"
HASHES_MAX = 63
EXTRA_BYTES_MAX = 65_535
PROOF_BYTES_MAX = NOTE_BYTES_MAX + 2 * EXTRA_BYTES_MAX
_MEND = "Ask for the proof again, as it was written."


@dataclass(frozen=True)
class EntryProof:
    """That an entry is in a log, and where.

    Attributes:
        index: the entry's, from 0.
        hashes: the inclusion proof, from the leaf's sibling to the root's child.
        checkpoint: the signed note of the tree, with whatever cosignatures it has.
        extra: opaque data, here the entry; None if the file has none.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None


def format_proof(proof: EntryProof) -> bytes:
    """The proof as a file (extension `.tlog-proof`).

    Raises:
        ProofError: a field that the format cannot carry.
    """
    sound = 0 <= proof.index <= SIZE_MAX and len(proof.hashes) <= HASHES_MAX
    if not sound or any(len(item) != HASH_BYTES for item in proof.hashes):
        raise ProofError("The proof has a field that its format cannot carry.", where="proof")
    extra = [] if proof.extra is None else [f"extra {_to_base64(proof.extra)}"]
    lines = [HEADER, *extra, f"index {proof.index}", *map(_to_base64, proof.hashes), "", ""]
    return "\n".join(lines).encode() + proof.checkpoint


def parse_proof(data: bytes) -> EntryProof:
    """The proof in a file; nothing is verified yet.

    Raises:
        ProofError: not a proof in the one form that the specification allows, or larger than a proof can be.
    """
    if len(data) > PROOF_BYTES_MAX:
        raise ProofError(f"The file has more than {PROOF_BYTES_MAX} bytes.", where="proof", mend=_MEND)
    head, blank, checkpoint = data.partition(b"\n\n")
    try:
        header, *lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise _malformed("text") from error
    if not blank or header != HEADER or not lines:
        raise _malformed("line 1")
    extra = None
    if lines[0].startswith("extra "):
        extra = _from_base64(lines.pop(0).removeprefix("extra "), "extra")
    if not lines or not lines[0].startswith("index "):
        raise _malformed("index")
    index = _decimal(lines.pop(0).removeprefix("index "))
    if len(lines) > HASHES_MAX:
        raise _malformed("inclusion proof")
    hashes = tuple(_from_base64(line, "inclusion proof") for line in lines)
    if any(len(item) != HASH_BYTES for item in hashes):
        raise _malformed("inclusion proof")
    return EntryProof(index, hashes, checkpoint, extra)


def check_proof(proof: EntryProof, keys: Iterable[NoteKey], entry: bytes | None = None) -> Checkpoint:
    """The checkpoint of the tree in which the entry is proved to stand.

    Args:
        keys: of the log; at least one of them must have signed the checkpoint.
        entry: the entry's bytes; those in the file if None.

    Raises:
        CheckpointError: the checkpoint is malformed or not signed by the log.
        ProofError: there is no entry to check, or it is not where the proof says.
    """
    data = proof.extra if entry is None else entry
    if data is None:
        raise ProofError("The file does not hold the entry.", where="proof", mend="Name the file of the entry.")
    checkpoint = open_checkpoint(proof.checkpoint, keys)
    verify_inclusion(proof.index, checkpoint.size, leaf_hash(data), proof.hashes, checkpoint.root)
    return checkpoint


def _decimal(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 19 or str(int(text)) != text or int(text) > SIZE_MAX:
        raise _malformed("index")
    return int(text)


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _from_base64(text: str, where: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _malformed(where) from error
    if _to_base64(data) != text:
        raise _malformed(where)
    return data


def _malformed(where: str) -> ProofError:
    return ProofError("The file is not a C2SP tlog-proof.", where=where, mend=_MEND)
