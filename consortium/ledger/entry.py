"""Ledger entries: canonical JSON, signed once by their author, stored and hashed as exact bytes.

The leaf is the signed frame of `consortium.keys`; its payload type names the kind and version inside the signature.
Every entry also states the head (size and root) that its author last saw acknowledged: a coordinator that rewrites
history would have to forge every later author's signature.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from consortium.encoding import Json, canonical, parse
from consortium.errors import EntryError, LimitError
from consortium.keys import Frame, Signer, open_frame, sign_frame
from consortium.ledger.bodies import check_body
from consortium.ledger.merkle import leaf_hash
from consortium.ledger.patterns import read_plain

ENTRY_BYTES_MAX = 65_535  # C2SP tlog-tiles: an entry's length is a uint16
NO_PREVIOUS = bytes(32)
_PAYLOAD_TYPE = re.compile(r"application/vnd\.consortium\.([a-z]+)\.v1\+json")
_FIELDS = {"body", "consortium", "head", "key", "prev", "seq"}
_HEX_32 = re.compile(r"[0-9a-f]{64}")


class Head(NamedTuple):
    """A tree head that an author saw: number of entries and Merkle root (32 bytes)."""

    size: int
    root: bytes


@dataclass(frozen=True)
class Draft:
    """What an author says, before the place in its own chain is filled in."""

    kind: str
    key: str
    body: dict[str, Json]


class Entry(NamedTuple):
    """One signed entry as it was read from its bytes.

    Attributes:
        data: its bytes, which are a signed frame.
        payload_at: where in them the payload starts.
        consortium: leaf hash of the genesis; empty in the genesis itself.
        head: what the author last saw acknowledged.
        key: idempotency key, unique for the author.
        prev: leaf hash of the author's previous entry, or 32 zero bytes.
        seq: the author's own count of entries before this one.
        leaf: its leaf hash.
        author: the member who signed. A reader knows the key's id only, which is a member's id if the key is its
            first; a replay puts the member where it is another.
    """

    data: bytes
    payload_at: int
    kind: str
    body: dict[str, Json]
    consortium: bytes
    head: Head
    key: str
    prev: bytes
    seq: int
    leaf: bytes
    author: bytes

    @property
    def frame(self) -> Frame:
        """The signed frame that the entry is."""
        return Frame(self.data, _payload_type(self.kind), self.payload_at)

    def __repr__(self) -> str:
        return f"Entry(kind={self.kind!r}, author={self.author.hex()}, seq={self.seq}, leaf={self.leaf.hex()})"


def write_entry(signer: Signer, draft: Draft, *, consortium: bytes, head: Head, prev: bytes, seq: int) -> Entry:
    """Signs an entry.

    Args:
        consortium: the genesis leaf hash; empty in the genesis itself.
        head: the author's last acknowledged head.
        prev: leaf hash of the author's previous entry, or 32 zero bytes.
        seq: the author's sequence number, from 0.

    Raises:
        EntryError: the body does not have the fields of its kind.
        LimitError: more than 65,535 bytes.
    """
    payload = canonical(
        {
            "body": draft.body,
            "consortium": consortium.hex(),
            "head": {"root": head.root.hex(), "size": head.size},
            "key": draft.key,
            "prev": prev.hex(),
            "seq": seq,
        }
    )
    return read_entry(sign_frame(signer, _payload_type(draft.kind), payload).data)


def read_entry(data: bytes) -> Entry:
    """Reads an entry; the signature is checked by whoever knows the author's key.

    Raises:
        LimitError, EncodingError, SignatureError, EntryError: the bytes are not an entry.
    """
    if len(data) > ENTRY_BYTES_MAX:
        raise LimitError(
            f"The entry has {len(data)} bytes; the limit is {ENTRY_BYTES_MAX}.",
            mend="Keep the text off the ledger and record its SHA-256.",
        )
    entry = _read_plain_entry(data)
    if entry is not None:
        return entry
    frame = open_frame(data)
    match = _PAYLOAD_TYPE.fullmatch(frame.payload_type)
    if match is None:
        raise EntryError("The payload type is not one of this ledger's.", mend="Update the consortium program.")
    value = parse(frame.payload, bytes_max=ENTRY_BYTES_MAX)
    _check_envelope(value)
    kind = match.group(1)
    check_body(kind, value["body"])
    return Entry(
        data=data,
        payload_at=frame.payload_at,
        kind=kind,
        body=value["body"],
        consortium=bytes.fromhex(value["consortium"]),
        head=Head(value["head"]["size"], bytes.fromhex(value["head"]["root"])),
        key=value["key"],
        prev=bytes.fromhex(value["prev"]),
        seq=value["seq"],
        leaf=leaf_hash(data),
        author=frame.key_id,
    )


def _read_plain_entry(data: bytes) -> Entry | None:
    plain = read_plain(data)
    if plain is None:
        return None
    kind, start, body, (consortium, root, size, key, prev, seq) = plain
    return Entry(
        data,
        start,
        kind,
        body,
        _bytes_of(consortium),
        _head(size, root),
        key,
        bytes.fromhex(prev),
        int(seq),
        leaf_hash(data),
        _one_copy(data[1:33]),
    )


@lru_cache(maxsize=4096)
def _head(size: str, root: str) -> Head:
    """Many entries state the same head."""
    return Head(int(size), bytes.fromhex(root))


@lru_cache(maxsize=16)
def _bytes_of(consortium: str) -> bytes:
    """All entries of a log state the same consortium."""
    return bytes.fromhex(consortium)


@lru_cache(maxsize=4096)
def _one_copy(author: bytes) -> bytes:
    """The same object for the same id: a fold keeps the author of every entry."""
    return author


def _payload_type(kind: str) -> str:
    return f"application/vnd.consortium.{kind}.v1+json"


def _check_envelope(value: Json) -> None:
    if not isinstance(value, dict) or set(value) != _FIELDS:
        raise EntryError("The entry has not exactly the fields " + ", ".join(sorted(_FIELDS)) + ".")
    head = value["head"]
    sound = (
        isinstance(value["body"], dict)
        and isinstance(head, dict)
        and set(head) == {"root", "size"}
        and _is_count(head["size"])
        and _is_hash(head["root"])
        and isinstance(value["key"], str)
        and 1 <= len(value["key"]) <= 200
        and _is_hash(value["prev"])
        and _is_count(value["seq"])
        and (value["consortium"] == "" or _is_hash(value["consortium"]))
    )
    if not sound:
        raise EntryError(
            "A field of the entry's envelope has a wrong type.", mend="Write entries with the consortium program."
        )


def _is_hash(value: Json) -> bool:
    return isinstance(value, str) and _HEX_32.fullmatch(value) is not None


def _is_count(value: Json) -> bool:
    return type(value) is int and 0 <= value < 1 << 53
