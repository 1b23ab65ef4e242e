"""Joins a consortium: keys made on this machine, enrolled with an invitation."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import cast

from consortium.encoding import Json, sha256
from consortium.errors import ConfigError, InvitationError
from consortium.keys import fingerprint
from consortium.ledger.contact import SALT_BYTES, write_record
from consortium.ledger.entry import NO_PREVIOUS, Draft, Head, write_entry
from node.config import Addresses, NodeConfig, Size, create_home, write_config
from node.identity import certificate_request, create_flower_key, create_ledger_key, create_tls_key, write_private
from node.rpc.invitation import read_invitation
from node.rpc.member_client import redeem
from node.store.contacts import FileContacts

SIZES = ("large", "medium", "small")


async def join(
    home: Path,
    invitation: Path,
    *,
    legal_name: str,
    sector: str,
    size: str,
    owner_group: str,
    contact: tuple[str, str] | None = None,
) -> Json:
    """Makes a member's node in a new folder and enrols it; an invitation that is refused leaves no node.

    Args:
        contact: name and mail address of the person to ask; they stay off the ledger and can be erased.

    Raises:
        InvitationError: malformed, used, expired, for another name, or another server answers.
        ConfigError: the folder holds a node, or a value is not allowed.
        UnavailableError: the coordinator is not reachable.
    """
    invited = read_invitation(invitation)
    if invited.legal_name != legal_name:
        raise InvitationError(
            "The invitation was written for another legal name.",
            where=str(invitation),
            mend="Join under the name that it states, or ask for a new one.",
        )
    if size not in SIZES:
        raise ConfigError("The size is unknown.", where="--size", mend=f"Choose from {', '.join(SIZES)}.")
    record = b"" if contact is None else write_record(secrets.token_bytes(SALT_BYTES), *contact)
    folder = create_home(home)
    if folder.config_file.exists():
        raise ConfigError("The folder holds a node already.", where=str(folder.path), mend="Name a new folder.")
    keys = (folder.ledger_key, folder.tls_key, folder.flower_key)
    for path in keys:  # of an attempt that was refused: those keys were never enrolled
        path.unlink(missing_ok=True)
    signer, tls, flower = (
        create_ledger_key(folder.ledger_key),
        create_tls_key(folder.tls_key),
        create_flower_key(folder.flower_key),
    )
    body = {
        "legal_name": legal_name,
        "public_key": signer.public_key.hex(),
        "tls_key_sha256": tls.spki_sha256.hex(),
        "flower_key": flower.public_der.hex(),
        "sector": sector,
        "size": size,
        "owner_group": owner_group,
        **({"contact_sha256": sha256(record).hex()} if record else {}),
    }
    entry = write_entry(
        signer,
        Draft("enrolment", "enrolment", body),
        consortium=invited.genesis,
        head=Head(1, invited.genesis),  # the root of a log of one entry is its leaf hash
        prev=NO_PREVIOUS,
        seq=0,
    )
    redeemed = await redeem(invited, entry.frame.data, certificate_request(tls, signer.key_id), record)
    if record:
        await FileContacts(folder.contacts).put(record)
    write_private(folder.genesis, redeemed.genesis)
    write_private(folder.ca_certificate, redeemed.ca_certificate)
    write_private(folder.tls_certificate, redeemed.certificate)
    write_config(
        NodeConfig(
            home=folder,
            role="member",
            consortium=invited.consortium,
            legal_name=legal_name,
            sector=sector,
            size=cast("Size", size),
            addresses=Addresses(members=invited.address, fleet=invited.fleet_address),
        )
    )
    return {
        "consortium": invited.consortium,
        "genesis": invited.genesis.hex(),
        "member": signer.key_id.hex(),
        "fingerprint": fingerprint(signer.key_id),
        "home": str(folder.path),
    }
