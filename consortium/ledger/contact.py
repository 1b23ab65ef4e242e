"""Contact records: who to ask at a member, personal data that stays off the log.

The member's enrolment has the SHA-256 of a record: 16 random bytes, which keep names from being guessed, and the
canonical JSON of the contact. Whoever erases the record, salt included, leaves a number that says nothing.
"""

from __future__ import annotations

from consortium.encoding import Json, canonical, parse
from consortium.errors import ConsortiumError, EncodingError
from consortium.ledger.bodies import text

SALT_BYTES = 16
RECORD_BYTES_MAX = 2_048
_FIELDS = {"mail", "name"}


def write_record(salt: bytes, name: str, mail: str) -> bytes:
    """A contact record.

    Args:
        salt: 16 random bytes, used once.

    Raises:
        EncodingError: the name or address is empty, too long or not printable.
    """
    record = salt + canonical({"mail": mail, "name": name})
    read_record(record)
    return record


def read_record(record: bytes) -> Json:
    """The contact in a record: {mail, name}.

    Raises:
        EncodingError: it is not a contact record.
    """
    try:
        contact = parse(record[SALT_BYTES:], bytes_max=RECORD_BYTES_MAX)
    except ConsortiumError as error:
        raise _malformed() from error
    if not isinstance(contact, dict) or set(contact) != _FIELDS or not all(map(text, contact.values())):
        raise _malformed()
    return contact


def _malformed() -> EncodingError:
    return EncodingError(
        "The contact is not a name and a mail address of at most 200 printable characters each.",
        where="contact",
        mend="Give both on one line each.",
    )
