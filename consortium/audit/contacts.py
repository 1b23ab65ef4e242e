"""Contact records in an export: what is disclosed must be what the ledger names; what is erased is said to be."""

from __future__ import annotations

from collections.abc import Mapping

from consortium.audit.findings import Finding
from consortium.encoding import Json, sha256
from consortium.state import State


def check_contacts(state: State, disclosed: Mapping[str, bytes]) -> tuple[list[Json], list[Finding]]:
    """Whether the contact record that a member's enrolment names is `disclosed` or `erased`; never what is in it.

    Args:
        disclosed: the records in the export, by SHA-256 in hex.
    """
    listed: list[Json] = []
    findings = []
    for member in state.members.values():
        if not member.contact_sha256:
            continue
        record = disclosed.get(member.contact_sha256)
        listed.append(
            {
                "member": member.id.hex(),
                "legal_name": member.legal_name,
                "contact_sha256": member.contact_sha256,
                "contact": "erased" if record is None else "disclosed",
            }
        )
        if record is not None and sha256(record).hex() != member.contact_sha256:
            text = f"The contact record of {member.legal_name} is not the one that its enrolment names."
            findings.append(Finding("bad-contact", None, text))
    return listed, findings
