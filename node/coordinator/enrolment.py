"""Redeems invitations: a party's own signed enrolment becomes a member, admitted by entry."""

from __future__ import annotations

from collections.abc import Callable

from consortium.errors import EntryError, InvitationError
from consortium.ledger.entry import Draft, read_entry
from node.coordinator.sequencer import Sequencer
from node.log import log
from node.ports import Invitations
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
        self._genesis = genesis
        self._ca_certificate = ca_certificate
        self._certify = certify

    async def redeem(self, secret: bytes, frame: bytes, csr: bytes) -> Redeemed:
        """Admits the party that holds the secret, once.

        The enrolment and the certificate request are checked before the invitation is used up.
        """
        entry = read_entry(frame)
        if entry.kind != "enrolment":
            raise EntryError("The entry is not an enrolment.", where=entry.kind, mend="Run 'consortium join'.")
        if entry.consortium != self._mirror.state.genesis:
            raise InvitationError("The enrolment is for another consortium.", mend="Ask for a new invitation.")
        entry.frame.verify(bytes.fromhex(entry.body["public_key"]))
        certificate = self._certify(csr, entry.author, bytes.fromhex(entry.body["tls_key_sha256"]))
        await self._invitations.redeem(secret)
        await self._sequencer.append(None, frame)
        body = {"member": entry.author.hex(), "enrolment": entry.leaf.hex()}
        await self._author.say(Draft("admission", f"admission/{entry.author.hex()}", body))
        log("member.admitted", member=entry.author.hex())
        return Redeemed(certificate, self._ca_certificate, self._genesis)
