"""What the body of each kind of entry must look like: exact fields, each with a type and a limit."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from consortium.encoding import Json
from consortium.errors import EntryError

Check = Callable[[Json], bool]

TEXT_MAX = 200
LIST_MAX = 256
NOTE_CHARS_MAX = 16_384
_HEX = re.compile(r"[0-9a-f]*")
_NAME = re.compile(r"[a-z0-9][a-z0-9._/-]{0,99}")
_AMOUNT = re.compile(r"0|-?[1-9][0-9]{0,17}")
_DELTA = re.compile(r"0|1e-[1-9][0-9]?")


def text(value: Json) -> bool:
    """One line for people: nothing in it moves a cursor or hides other text."""
    return isinstance(value, str) and 1 <= len(value) <= TEXT_MAX and value.isprintable()


def name(value: Json) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def count(value: Json) -> bool:
    return type(value) is int and 0 <= value < 1 << 53


def integer(value: Json) -> bool:
    return type(value) is int and abs(value) < 1 << 53


def digest(value: Json) -> bool:
    return isinstance(value, str) and len(value) == 64 and _HEX.fullmatch(value) is not None


def hex_bytes(value: Json) -> bool:
    return isinstance(value, str) and 2 <= len(value) <= 1024 and len(value) % 2 == 0 and bool(_HEX.fullmatch(value))


def amount(value: Json) -> bool:
    """Credits in minor units, a decimal string."""
    return isinstance(value, str) and _AMOUNT.fullmatch(value) is not None


def delta(value: Json) -> bool:
    return isinstance(value, str) and _DELTA.fullmatch(value) is not None


def spend(value: Json) -> bool:
    """Integer micro-rho of zCDP, or the word for a release without noise."""
    return value == "unbounded" or count(value)


def document(value: Json) -> bool:
    return isinstance(value, dict)


def signature(value: Json) -> bool:
    return isinstance(value, str) and len(value) == 128 and _HEX.fullmatch(value) is not None


def note(value: Json) -> bool:
    """A signed note: unlike a text it has lines, and an empty one before its signatures."""
    return isinstance(value, str) and len(value) <= NOTE_CHARS_MAX and "\n\n" in value


def share(value: Json) -> bool:
    """Basis points of an electorate: more than half of it, at most all."""
    return count(value) and 5_000 < value <= 10_000


def one_of(*words: str) -> Check:
    return lambda value: value in words


def list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list) and len(value) <= LIST_MAX and all(map(check, value))


def object_of(**fields: Check) -> Check:
    names, checks = fields.keys(), tuple(fields.items())
    return lambda value: (
        isinstance(value, dict) and value.keys() == names and all(check(value[key]) for key, check in checks)
    )


def fields_of(**fields: Check) -> Check:
    """An object with some of these fields, at least one."""
    return lambda value: (
        isinstance(value, dict)
        and bool(value)
        and set(value) <= set(fields)
        and all(fields[key](value[key]) for key in value)
    )


def change(value: Json) -> bool:
    """A change that can be proposed: its type, and exactly the fields of that type."""
    fields = CHANGES.get(value["type"]) if isinstance(value, dict) and isinstance(value.get("type"), str) else None
    return (
        fields is not None
        and set(value) == {"type", *fields}
        and all(check(value[key]) for key, check in fields.items())
    )


SIZE = one_of("large", "medium", "small", "neutral")
MEMBER = {"legal_name": text, "public_key": digest, "sector": name, "size": SIZE}
CHARTER: Mapping[str, Check] = {  # what can be amended; origin and coordinator are the log's identity
    "name": text,
    "sectors": list_of(name),
    "schedule": document,
    "members_min": count,
    "quorum": object_of(admission=one_of("coordinator", "vote"), votes_bp=share),
}
CHANGES: Mapping[str, Mapping[str, Check]] = {
    "admit": {"member": digest, "enrolment": digest},
    "suspend": {"member": digest},
    "reinstate": {"member": digest},
    "remove": {"member": digest},
    "rotate": {"member": digest, "public_key": digest, "proof": signature},
    "committee": {"members": list_of(digest)},
    "charter": {"fields": fields_of(**CHARTER)},
    "rules": {"version": count},
}

BODIES: Mapping[str, Mapping[str, Check]] = {
    "genesis": {
        **CHARTER,
        "coordinator": object_of(**MEMBER, tls_key_sha256=digest),
        "origin": text,
        "rule_version": count,
    },
    "enrolment": {**MEMBER, "tls_key_sha256": digest, "flower_key": hex_bytes, "owner_group": text},
    "admission": {"member": digest, "enrolment": digest},
    "dataset": {
        "dataset": name,
        "lineage": name,
        "descriptor": document,
        "policy_sha256": digest,
        "schema_sha256": digest,
        "guard_sha256": digest,
        "budget": object_of(rho_micro=count, delta=delta),
    },
    "committee": {"members": list_of(digest)},
    "rotation": {"public_key": digest, "proof": signature},
    "proposal": {"change": change, "from_index": count},
    "vote": {"proposal": digest, "choice": one_of("for", "against")},
    "handover": {"checkpoint": note},
    "app": {"name": name, "digest": digest},
    "approval": {"digest": digest},
    "job": {
        "kind": one_of("statistic", "training"),
        "datasets": list_of(object_of(member=digest, dataset=name)),
        "members_min": count,
        "request": document,
    },
    "decision": {
        "job": digest,
        "stage": one_of("run", "release"),
        "outcome": one_of("permit", "refuse"),
        "clauses": list_of(name),
        "reasons_sha256": digest,
        "request_sha256": digest,
        "policy_sha256": digest,
        "schema_sha256": digest,
        "entities_sha256": digest,
        "engine": text,
    },
    "spend": {"job": digest, "dataset": name, "round": count, "rho_micro": spend, "delta": delta},
    "sum": {
        "job": digest,
        "round": count,
        "roster": list_of(digest),
        "survivors": list_of(digest),
        "transcript_sha256": digest,
        "total_sha256": digest,
    },
    "result": {"job": digest, "document_sha256": digest},
    "abort": {"job": digest, "reason": name},
    "scores": {
        "job": digest,
        "method": name,
        "seed": digest,
        "scores": list_of(object_of(member=digest, score_micro=integer, error_micro=count)),
    },
    "settlement": {
        "job": digest,
        "amount": amount,
        "schedule_sha256": digest,
        "postings": list_of(object_of(account=text, amount=amount)),
    },
}


OPTIONAL: Mapping[str, Mapping[str, Check]] = {"enrolment": {"contact_sha256": digest}}


def check_body(kind: str, body: Json) -> None:
    """Refuses a body that has not exactly the fields of its kind.

    Raises:
        EntryError: an unknown kind, a missing or surplus field, or a field of the wrong type or size.
    """
    fields = BODIES.get(kind)
    if fields is None:
        raise EntryError(f"'{kind[:40]}' is not a kind of entry.", mend="Update the consortium program.")
    optional = OPTIONAL.get(kind, {})
    if not isinstance(body, dict) or set(body) - set(optional) != set(fields):
        expected = ", ".join(sorted(fields))
        raise EntryError(f"A '{kind}' entry has exactly the fields {expected}.", where="body")
    for key, check in (*fields.items(), *optional.items()):
        if key in body and not check(body[key]):
            raise EntryError(f"A field of the '{kind}' entry has a wrong type or size.", where=f"body.{key}")
