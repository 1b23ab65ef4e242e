"""Evidence that a log contradicts itself: written by the member that saw it, verified by anybody offline.

What the coordinator signed convicts it: two checkpoints of one log that cannot both be true, or a checkpoint over an
entry that no honest sequencer takes. Everything else in such a file is the word of the member that signed it, and the
report says so.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

from consortium.encoding import Json, canonical, parse
from consortium.errors import ConsortiumError, EncodingError, EntryError, ProofError
from consortium.keys import Signer, key_id, pae, sign_frame, verify
from consortium.ledger.checkpoint import Checkpoint, NoteKey, open_checkpoint
from consortium.ledger.entry import NO_PREVIOUS, Entry, read_entry
from consortium.ledger.merkle import HASH_BYTES, Frontier, leaf_hash, verify_consistency, verify_inclusion
from consortium.ledger.tree import Tree

PAYLOAD_TYPE = "application/vnd.consortium.evidence.v1+json"
EVIDENCE_BYTES_MAX = 64 << 20
LEAVES_MAX = 1_000_000  # 32 bytes each
_FIELDS = frozenset(
    {"consortium", "entry", "genesis", "index", "kind", "leaves", "notes", "proofs", "public_key", "root", "text"}
)

Kind = Literal["two-views", "withheld-entry", "other-history", "testimony"]


@dataclass(frozen=True)
class Evidence:
    """What a member saw.

    Attributes:
        kind: `two-views`: two checkpoints of the log that cannot both be true; `withheld-entry`: an entry whose
            author's entry before it is not in the log; `other-history`: an entry whose author had seen another log;
            `testimony`: what nobody but the member can know.
        notes: signed checkpoints, as they came.
        root: for `two-views`, the root that the larger tree has at the smaller size; for `other-history`, the root of
            the log at the size that the entry's author states.
        proofs: RFC 6962 proofs, of consistency and then of inclusion.
        entry, index, public_key: the frame that accuses, where it stands, and the key that signed it.
        leaves: all leaf hashes that the checkpoint covers, one after another.
    """

    kind: Kind
    notes: tuple[bytes, ...]
    root: bytes = b""
    proofs: tuple[tuple[bytes, ...], ...] = ()
    entry: bytes = field(default=b"", repr=False)
    index: int = 0
    public_key: bytes = b""
    leaves: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class EvidenceReport:
    """What a file of evidence is worth.

    Attributes:
        kind: as `Evidence.kind`.
        proved: whether the coordinator's own signatures show it; else it is the word of the member that signed it.
        text: what is proved, or why nothing is.
        member: key id of who signed the file.
        says: the member's own words.
        consortium: leaf hash of the genesis that it was checked with.
    """

    kind: str
    proved: bool
    text: str
    member: bytes
    says: str
    consortium: bytes


def two_views(key: NoteKey, held: bytes, tree: Tree, shown: bytes, shown_tree: Tree | None = None) -> Evidence | None:
    """The evidence that a note contradicts the one that is held; None if these do not show it.

    Args:
        held: the note over what the member stores; `tree` begins with what it covers.
        shown_tree: the leaves that the coordinator shows under the note `shown`, if the member fetched them.
    """
    try:
        old, new = open_checkpoint(held, [key]), open_checkpoint(shown, [key])
        small, large, view = (old, new, shown_tree) if old.size < new.size else (new, old, tree)
        if view is None or view.size < large.size or view.root(large.size) != large.root:
            return None
        found, proof = view.root(small.size), tuple(view.consistency_proof(small.size, large.size))
    except ConsortiumError:
        return None  # the log did not sign both
    evidence = Evidence("two-views", (held, shown), root=found, proofs=(proof,))
    return evidence if found != small.root else None


def disorder(key: NoteKey, note: bytes, tree: Tree, index: int, entry: Entry, keys: Sequence[bytes]) -> Evidence | None:
    """The evidence that a log signed an entry out of its place; None if the note does not cover what is here."""
    try:
        head = open_checkpoint(note, [key])
    except ConsortiumError:
        return None
    public_key = next((found for found in keys if key_id(found) == entry.frame.key_id), b"")
    if not index < head.size <= min(tree.size, LEAVES_MAX) or tree.root(head.size) != head.root:
        return None
    data, leaves = entry.frame.data, tree.leaves()[: head.size * HASH_BYTES]
    if entry.prev != NO_PREVIOUS and entry.prev not in _hashes(leaves)[:index]:
        return Evidence("withheld-entry", (note,), entry=data, index=index, public_key=public_key, leaves=leaves)
    size = min(entry.head.size, index)
    proofs = tuple(tree.consistency_proof(size, head.size)), tuple(tree.inclusion_proof(index, head.size))
    return Evidence("other-history", (note,), tree.root(size), proofs, data, index, public_key)


def unproved(*notes: bytes) -> Evidence:
    """What only the member's word shows, with the notes that belong to it."""
    return Evidence("testimony", tuple(note for note in notes if note))


def write_evidence(evidence: Evidence, text: str, genesis: bytes, signer: Signer) -> bytes:
    """The file: canonical JSON, signed by the member, with all that a verifier needs.

    Args:
        text: what the member saw, in words.
        genesis: the frame of the genesis.
    """
    document = {
        "consortium": leaf_hash(genesis).hex(),
        "entry": _base64(evidence.entry),
        "genesis": _base64(genesis),
        "index": evidence.index,
        "kind": evidence.kind,
        "leaves": _base64(evidence.leaves),
        "notes": [_base64(note) for note in evidence.notes],
        "proofs": [[item.hex() for item in proof] for proof in evidence.proofs],
        "public_key": evidence.public_key.hex(),
        "root": evidence.root.hex(),
        "text": text,
    }
    frame = sign_frame(signer, PAYLOAD_TYPE, canonical(document))
    return canonical({"evidence": document, "public_key": signer.public_key.hex(), "signature": frame.signature.hex()})


def verify_evidence(data: bytes, genesis: bytes | None = None) -> EvidenceReport:
    """What a file of evidence proves, worked out from nothing but its bytes.

    Args:
        genesis: the frame that every member was given; without it the report is about the consortium that the file
            itself names, which the reader must compare.

    Raises:
        LimitError, EncodingError: not a file of evidence.
        SignatureError: it was changed after its member had signed it.
        EntryError: it is about another consortium than `genesis`.
    """
    evidence, text, founding, public_key = _read(data)
    if genesis is not None and founding != genesis:
        raise EntryError("The evidence is about another consortium.", mend="Name the genesis of its consortium.")
    first = read_entry(founding)
    if first.kind != "genesis":
        raise EntryError("The evidence holds no genesis.", where="genesis")
    log_key = bytes.fromhex(first.body["coordinator"]["public_key"])
    first.frame.verify(log_key)
    consortium = leaf_hash(founding)
    try:
        worth = _CHECKS[evidence.kind](evidence, NoteKey(first.body["origin"], log_key), consortium)
        proved = True
    except ConsortiumError as error:
        worth, proved = f"Nothing is proved: {error.what} It is the word of the member that signed it.", False
    return EvidenceReport(evidence.kind, proved, worth, key_id(public_key), text, consortium)


def _check_two_views(evidence: Evidence, key: NoteKey, _consortium: bytes) -> str:
    first, second = (_opened(note, key) for note in evidence.notes)
    small, large = sorted((first, second), key=lambda head: head.size)
    if small.size == large.size:
        if small.root == large.root:
            raise ProofError("The two checkpoints are the same.")
        return f"The coordinator signed two different logs of {small.size} entries."
    verify_consistency(small.size, large.size, evidence.proofs[0], evidence.root, large.root)
    if evidence.root == small.root:
        raise ProofError("The larger log extends the smaller one.")
    return (
        f"The coordinator signed a log of {small.size} entries and one of {large.size} entries that does not begin "
        "with it: history was rewritten, or members were shown different logs."
    )


def _check_withheld(evidence: Evidence, key: NoteKey, consortium: bytes) -> str:
    head, entry = _opened(evidence.notes[0], key), _accuser(evidence, consortium)
    hashes = _hashes(evidence.leaves)
    if len(hashes) != head.size or Frontier().extend(hashes).root() != head.root:
        raise ProofError("The leaf hashes are not those that the checkpoint covers.")
    if not 0 <= evidence.index < head.size or hashes[evidence.index] != entry.leaf:
        raise ProofError("The entry is not in the log at its index.")
    if entry.prev == NO_PREVIOUS or entry.prev in hashes[: evidence.index]:
        raise ProofError("The entry's predecessor is in the log.")
    return (
        f"The coordinator signed a log in which entry {evidence.index} follows an entry of its author that the log "
        "does not hold: an entry was withheld, or one was taken that every honest sequencer refuses."
    )


def _check_other_history(evidence: Evidence, key: NoteKey, consortium: bytes) -> str:
    head, entry = _opened(evidence.notes[0], key), _accuser(evidence, consortium)
    consistency, inclusion = evidence.proofs
    verify_inclusion(evidence.index, head.size, entry.leaf, inclusion, head.root)
    if entry.head.size <= evidence.index:
        verify_consistency(entry.head.size, head.size, consistency, evidence.root, head.root)
        if evidence.root == entry.head.root:
            raise ProofError("The entry's author had seen this log.")
    return (
        f"The coordinator signed a log whose entry {evidence.index} states another history of {entry.head.size} "
        "entries: its author was shown another log, or an entry was taken that every honest sequencer refuses."
    )


def _check_testimony(evidence: Evidence, key: NoteKey, _consortium: bytes) -> str:
    signed = ", ".join(str(_opened(note, key).size) for note in evidence.notes)
    raise ProofError(f"The coordinator signed checkpoints of {signed or 'no'} entries, which do not contradict it.")


_CHECKS: Mapping[str, Callable[[Evidence, NoteKey, bytes], str]] = {
    "two-views": _check_two_views,
    "withheld-entry": _check_withheld,
    "other-history": _check_other_history,
    "testimony": _check_testimony,
}


def _opened(note: bytes, key: NoteKey) -> Checkpoint:
    head = open_checkpoint(note, [key])
    if head.origin != key.name:
        raise ProofError("A checkpoint is of another log.")
    return head


def _accuser(evidence: Evidence, consortium: bytes) -> Entry:
    entry = read_entry(evidence.entry)
    entry.frame.verify(evidence.public_key)
    if entry.consortium != consortium:
        raise ProofError("The entry is of another consortium.")
    return entry


def _read(data: bytes) -> tuple[Evidence, str, bytes, bytes]:
    """The evidence, the member's words, the genesis and the member's key."""
    file = parse(data, bytes_max=EVIDENCE_BYTES_MAX)
    if not isinstance(file, dict) or file.keys() != {"evidence", "public_key", "signature"}:
        raise _malformed()
    document = file["evidence"]
    if not isinstance(document, dict) or document.keys() != _FIELDS:
        raise _malformed()
    try:
        public_key, signature = bytes.fromhex(file["public_key"]), bytes.fromhex(file["signature"])
        evidence = _evidence(document)
        genesis, text, consortium = _bytes(document["genesis"]), str(document["text"]), document["consortium"]
    except (TypeError, ValueError, AttributeError, binascii.Error) as error:
        raise _malformed() from error
    verify(public_key, pae(PAYLOAD_TYPE, canonical(document)), signature)
    if leaf_hash(genesis).hex() != consortium:
        raise _malformed()
    return evidence, text, genesis, public_key


def _evidence(document: Mapping[str, Json]) -> Evidence:
    notes = tuple(_bytes(note) for note in document["notes"])
    proofs = tuple(tuple(bytes.fromhex(item) for item in proof) for proof in document["proofs"])
    shape = {"two-views": (2, 1), "withheld-entry": (1, 0), "other-history": (1, 2), "testimony": (len(notes), 0)}
    if shape.get(document["kind"]) != (len(notes), len(proofs)) or type(document["index"]) is not int:
        raise ValueError
    return Evidence(
        kind=cast("Kind", document["kind"]),
        notes=notes,
        root=bytes.fromhex(document["root"]),
        proofs=proofs,
        entry=_bytes(document["entry"]),
        index=document["index"],
        public_key=bytes.fromhex(document["public_key"]),
        leaves=_bytes(document["leaves"]),
    )


def _hashes(leaves: bytes) -> list[bytes]:
    return [leaves[at : at + HASH_BYTES] for at in range(0, len(leaves), HASH_BYTES)]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _malformed() -> EncodingError:
    return EncodingError("The file is not evidence as this program writes it.", mend="Ask its member for it again.")
