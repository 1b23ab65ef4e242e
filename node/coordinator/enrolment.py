"""Redeems invitations: a party's own signed enrolment becomes a member, admitted by entry."""

from __future__ import annotations

from collections.abc import Callable

from consortium.encoding import sha256
from consortium.errors import EncodingError, EntryError, InvitationError
from consortium.ledger.contact import read_record
from consortium.ledger.entry import Draft, Entry, read_entry
from node.coordinator.sequencer import Sequencer
from node.log import log
from node.ports import Contacts, Invitations
from node.services.api import Redeemed
from node.services.author import Author
from node.services.mirror import Mirror

Certify = Callable[[bytes, bytes, bytes], bytes]


class Enrolment:
    """The EnrolmentService of the coordinator."""

    def __init__(
        self,
        mirror: Mirror,
        author: Author,
        sequencer: Sequencer,
        invitations: Invitations,
        contacts: Contacts,
        *,
        genesis: bytes,
        ca_certificate: bytes,
        certify: Certify,
    ) -> None:
        """Args: `certify` turns a CSR, a member id and the SHA-256 of its key into a PEM certificate."""
        self._mirror = mirror
        self._author = author
        self._sequencer = sequencer
        self._invitations = invitations
        self._contacts = contacts
        self._genesis = genesis
        self._ca_certificate = ca_certificate
        self._certify = certify

    async def redeem(self, secret: bytes, frame: bytes, csr: bytes, contact: bytes = b"") -> Redeemed:
        """Enrols the party that holds the secret, once, and admits it or proposes its admission.

        The enrolment, the contact record and the certificate request are checked before the invitation is used up.
        """
        entry = read_entry(frame)
        if entry.kind != "enrolment":
            raise EntryError("The entry is not an enrolment.", where=entry.kind, mend="Run 'consortium join'.")
        if entry.consortium != self._mirror.state.genesis:
            raise InvitationError("The enrolment is for another consortium.", mend="Ask for a new invitation.")
        entry.frame.verify(bytes.fromhex(entry.body["public_key"]))
        _check_contact(entry, contact)
        certificate = self._certify(csr, entry.author, bytes.fromhex(entry.body["tls_key_sha256"]))
        await self._invitations.redeem(secret, entry.body["legal_name"])
        if contact:
            await self._contacts.put(contact)
        await self._sequencer.append(None, frame)
        await self._admit(entry)
        return Redeemed(certificate, self._ca_certificate, self._genesis)

    async def _admit(self, entry: Entry) -> None:
        """By entry, or where the charter asks for a vote, once there are founding members, by a proposal."""
        state, member = self._mirror.state, entry.author.hex()
        body = {"member": member, "enrolment": entry.leaf.hex()}
        if state.charter["quorum"]["admission"] == "vote" and len(state.voters()) >= state.charter["members_min"]:
            proposal = {"change": {"type": "admit", **body}, "from_index": 0}
            await self._author.say(Draft("proposal", f"proposal/admit/{member}", proposal))
            log("member.proposed", member=member)
            return
        await self._author.say(Draft("admission", f"admission/{member}", body))
        log("member.admitted", member=member)


def _check_contact(entry: Entry, contact: bytes) -> None:
    """The record that came along is the one that the signed enrolment names."""
    named = entry.body.get("contact_sha256", "")
    if named != (sha256(contact).hex() if contact else ""):
        raise EncodingError(
            "The contact record is not the one that the enrolment names.",
            where="contact",
            mend="Join with the consortium program.",
        )
    if contact:
        read_record(contact)
