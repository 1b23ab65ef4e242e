"""Ledger keys that replace others. A member keeps the id of its first key as its name."""

from __future__ import annotations

from dataclasses import replace

from consortium.errors import SignatureError
from consortium.faults import Fault
from consortium.keys import check_public_key, key_id, verify
from consortium.ledger.entry import Entry
from consortium.state import HeldKey, Member, State

_CONTEXT = b"consortium/key-possession/v1\n"


def possession(consortium: bytes, member: bytes, public_key: bytes) -> bytes:
    """What a new key signs to prove that whoever proposes it holds it, for this member of this consortium only."""
    return _CONTEXT + consortium + member + public_key


def check_new_key(state: State, member: Member, public_key: bytes, proof: bytes) -> Fault | None:
    """Whether a key that was never used here, and whose holder proves to have it, may become a member's."""
    if member.id == state.coordinator:
        return Fault("coordinator-key", "The coordinator's key is the log's own and is not rotated.")
    try:
        check_public_key(public_key)
    except SignatureError as error:
        return Fault("weak-key", error.what)
    if key_id(public_key) in state.identities:
        return Fault("key-in-use", "The key belongs, or belonged, to a member.")
    try:
        verify(public_key, possession(state.genesis, member.id, public_key), proof)
    except SignatureError:
        return Fault("no-possession", "The new key has not signed for this member of this consortium.")
    return None


def replace_key(state: State, member: Member, public_key: bytes, start: int, *, vouched: bool) -> None:
    """Puts a key into force for entries at index `start` and later."""
    keys = (*member.keys, HeldKey(start, public_key, vouched))
    state.members[member.id] = replace(member, keys=keys)
    state.identities[key_id(public_key)] = member.id


def rotate(state: State, index: int, entry: Entry) -> Fault | None:
    """A member replaces its own key; the entry is the last that the old one signs."""
    member = state.members[entry.author]
    public_key, proof = bytes.fromhex(entry.body["public_key"]), bytes.fromhex(entry.body["proof"])
    fault = check_new_key(state, member, public_key, proof)
    if fault is None:
        replace_key(state, member, public_key, index + 1, vouched=True)
    return fault
