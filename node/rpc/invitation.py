"""The invitation file: what one enterprise needs to find, check and join a consortium, once."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from consortium.encoding import Json
from consortium.errors import ConfigError, InvitationError
from node.config import split_address
from node.identity import write_private

FILE_BYTES_MAX = 16_384
_HEX_32 = re.compile(r"[0-9a-f]{64}")
_HEX_SECRET = re.compile(r"(?:[0-9a-f]{2}){16,64}")
_MEND = "Ask the coordinator for the file again; it must not be edited."


@dataclass(frozen=True)
class Invitation:
    """A one-time invitation.

    Attributes:
        consortium: its name.
        genesis: leaf hash of its genesis entry, 32 bytes.
        enrolment_address: host:port where it is redeemed.
        address: host:port where members connect.
        fleet_address: host:port of Flower's fleet.
        server_pin: SPKI SHA-256 of the server's TLS key, 32 bytes.
        secret: what may be used once.
        legal_name: whom it was written for.
        expires: seconds since 1970; judged by the coordinator's clock only.
    """

    consortium: str
    genesis: bytes
    enrolment_address: str
    address: str
    fleet_address: str
    server_pin: bytes
    secret: bytes = field(repr=False)
    legal_name: str
    expires: int


def write_invitation(path: Path, document: Json) -> None:
    """Writes the document of `ControlService.invite` to a new file of mode 0600.

    Raises:
        InvitationError: the document is not an invitation.
        ConfigError: the file exists, or cannot be written.
    """
    invitation_of(document, str(path))
    write_private(path, (json.dumps(document, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode())


def read_invitation(path: Path, genesis: bytes | None = None) -> Invitation:
    """The invitation in a file.

    Args:
        path: the file.
        genesis: the leaf hash of the genesis of the consortium that this node belongs to, if it does already.

    Raises:
        InvitationError: not readable, not an invitation, or for another consortium than `genesis`.
    """
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
        document = json.loads(data.decode("utf-8")) if len(data) <= FILE_BYTES_MAX else None
    except OSError as error:
        raise InvitationError("The invitation file cannot be read.", where=str(path), mend="Check its path.") from error
    except (ValueError, RecursionError) as error:
        raise InvitationError("The invitation file is not a JSON document.", where=str(path), mend=_MEND) from error
    invitation = invitation_of(document, str(path))
    if genesis is not None and invitation.genesis != genesis:
        raise InvitationError(
            "The invitation is for another consortium than this node's.",
            where=str(path),
            mend="Join it with another folder (`--home`): one folder holds one node of one consortium.",
        )
    return invitation


def invitation_of(document: Json, where: str) -> Invitation:
    """The invitation in a document.

    Raises:
        InvitationError: it is not one; names the field.
    """
    fields = set(Invitation.__dataclass_fields__)
    if not isinstance(document, dict) or set(document) != fields:
        raise InvitationError("The document is not an invitation.", where=where, mend=_MEND)
    return Invitation(
        consortium=_name(document, "consortium", where),
        genesis=_hex(document, "genesis", where, _HEX_32),
        enrolment_address=_address(document, "enrolment_address", where),
        address=_address(document, "address", where),
        fleet_address=_address(document, "fleet_address", where),
        server_pin=_hex(document, "server_pin", where, _HEX_32),
        secret=_hex(document, "secret", where, _HEX_SECRET),
        legal_name=_name(document, "legal_name", where),
        expires=_seconds(document, "expires", where),
    )


def _name(document: dict[str, Any], key: str, where: str) -> str:
    value = document[key]
    if not isinstance(value, str) or not value.strip() or len(value) > 200 or not value.isprintable():
        raise _malformed(key, where)
    return value


def _hex(document: dict[str, Any], key: str, where: str, pattern: re.Pattern[str]) -> bytes:
    value = document[key]
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise _malformed(key, where)
    return bytes.fromhex(value)


def _address(document: dict[str, Any], key: str, where: str) -> str:
    value = document[key]
    try:
        split_address(value if isinstance(value, str) else "")
    except ConfigError as error:
        raise _malformed(key, where) from error
    return str(value)


def _seconds(document: dict[str, Any], key: str, where: str) -> int:
    value = document[key]
    if type(value) is not int or not 0 < value < 2**53:
        raise _malformed(key, where)
    return int(value)


def _malformed(key: str, where: str) -> InvitationError:
    return InvitationError("A field of the invitation is malformed.", where=f"{where}, key {key}", mend=_MEND)
