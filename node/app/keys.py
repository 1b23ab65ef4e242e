"""The files of a node's ledger keys, and the change from one to the next."""

from __future__ import annotations

import os
from pathlib import Path

from consortium.encoding import Json
from consortium.errors import ConfigError
from consortium.governance import possession
from consortium.keys import KEY_ID_BYTES, SigningKey, fingerprint
from consortium.ledger.entry import Draft
from consortium.ledger.merkle import leaf_hash
from node.config import NodeHome, check_home, node_home
from node.identity import create_ledger_key, load_ledger_key, member_of_certificate, read_private, write_private
from node.services.author import Author
from node.services.keyring import KeyRing
from node.services.mirror import Mirror


def load_keyring(home: NodeHome, mirror: Mirror) -> KeyRing:
    """The keys in a node's folder; a rotation that was interrupted is finished if the log has it.

    Raises:
        ConfigError: there is no key, or a file cannot be used.
    """
    lost = home.next_ledger_key.exists() and not home.ledger_key.exists()
    keys = [] if lost else [load_ledger_key(home.ledger_key)]
    if home.next_ledger_key.exists():
        keys.append(load_ledger_key(home.next_ledger_key))
    ring = KeyRing(mirror, _member(home) or keys[0].key_id, keys)
    _take_over(home, mirror, ring)
    return ring


async def rotate_key(home: NodeHome, mirror: Mirror, author: Author, ring: KeyRing) -> Json:
    """Makes a new key, has the old one sign for it on the ledger, and puts its file into the old one's place.

    Whatever instant it is interrupted at, both keys are in the folder until the log has decided which is in force.

    Raises:
        EntryError: the rotation was refused.
        UnavailableError: whether it stands is not known; the next start, or the next call, finds out.
    """
    if _member(home) is None:
        write_private(home.member, ring.member.hex().encode())
    fresh = _next_key(home)
    ring.add(fresh)
    proof = fresh.sign(possession(mirror.state.genesis, ring.member, fresh.public_key))
    body = {"public_key": fresh.public_key.hex(), "proof": proof.hex()}
    said = await author.say(Draft("rotation", f"rotation/{fresh.key_id.hex()}", body))
    _take_over(home, mirror, ring)
    return {
        "member": ring.member.hex(),
        "public_key": fresh.public_key.hex(),
        "fingerprint": fingerprint(fresh.key_id),
        "index": said.index,
    }


def new_key(path: Path) -> Json:
    """A key for a member that lost its own, with the proof that it is here; the members then vote it in.

    Raises:
        ConfigError: no member's node is in the folder, or a file cannot be used.
    """
    home = node_home(path)
    check_home(home)
    member = _member(home)
    if member is None:
        member = member_of_certificate(home.tls_certificate)
        write_private(home.member, member.hex().encode())
    fresh = _next_key(home)
    consortium = leaf_hash(home.genesis.read_bytes())
    return {
        "member": member.hex(),
        "public_key": fresh.public_key.hex(),
        "proof": fresh.sign(possession(consortium, member, fresh.public_key)).hex(),
        "fingerprint": fingerprint(fresh.key_id),
    }


def _next_key(home: NodeHome) -> SigningKey:
    """A key that an interrupted rotation made is used: the ledger may know it already."""
    if home.next_ledger_key.exists():
        return load_ledger_key(home.next_ledger_key)
    return create_ledger_key(home.next_ledger_key)


def _take_over(home: NodeHome, mirror: Mirror, ring: KeyRing) -> None:
    if not home.next_ledger_key.exists():
        return
    if mirror.state.public_key(ring.member) != load_ledger_key(home.next_ledger_key).public_key:
        return
    home.next_ledger_key.replace(home.ledger_key)
    folder = os.open(home.ledger_key.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _member(home: NodeHome) -> bytes | None:
    """The id of the member's first key, once it has another one."""
    if not home.member.exists():
        return None
    try:
        member = bytes.fromhex(read_private(home.member).decode("ascii"))
    except ValueError as error:
        raise ConfigError("The file does not name a member.", where=str(home.member)) from error
    if len(member) != KEY_ID_BYTES:
        raise ConfigError("The file does not name a member.", where=str(home.member))
    return member
