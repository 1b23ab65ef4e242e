"""The most frequent kinds of entry, each as one regular expression over the bytes of its frame.

Bytes that match are canonical JSON with a valid envelope and body, and the groups are the fields: reading takes a
quarter of the time of the general path in `consortium.ledger.entry`, which reads everything that does not match and
would read these bytes alike (a property test holds the two together). An audit of a million entries needs it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from sys import intern
from typing import Any

from consortium.encoding import Json

_DIGEST = r'"([0-9a-f]{64})"'
_NAME = r'"([a-z0-9][a-z0-9._/-]{0,99})"'
_LINE = r'"([ !#-\[\]-~]{1,200})"'  # printable ASCII without quote and backslash
_COUNT = r"(0|[1-9][0-9]{0,14})"  # below 10**15, which is below 2**53
_NAMES = r'(\[\]|\[(?:"[a-z0-9][a-z0-9._/-]{0,99}",){0,255}"[a-z0-9][a-z0-9._/-]{0,99}"\])'
_DIGESTS = r'(\[\]|\[(?:"[0-9a-f]{64}",){0,255}"[0-9a-f]{64}"\])'


def _strings(group: str) -> list[str]:
    """The items of a list of strings that hold neither quotes nor commas."""
    return [] if group == "[]" else list(map(intern, group[2:-2].split('","')))


def _spent(group: str) -> Json:
    return "unbounded" if group == '"unbounded"' else int(group)


Converter = Callable[[str], Any] | None  # None: the group is the value

_FIELDS: dict[str, dict[str, tuple[str, Converter]]] = {  # in canonical order; `intern` where one value stands often
    "decision": {
        "clauses": (_NAMES, _strings),
        "engine": (_LINE, intern),
        "entities_sha256": (_DIGEST, None),
        "job": (_DIGEST, intern),
        "outcome": (r'"(permit|refuse)"', intern),
        "policy_sha256": (_DIGEST, intern),
        "reasons_sha256": (_DIGEST, None),
        "request_sha256": (_DIGEST, intern),
        "schema_sha256": (_DIGEST, intern),
        "stage": (r'"(run|release)"', intern),
    },
    "spend": {
        "dataset": (_NAME, intern),
        "delta": (r'"(0|1e-[1-9][0-9]?)"', intern),
        "job": (_DIGEST, intern),
        "rho_micro": (r'("unbounded"|0|[1-9][0-9]{0,14})', _spent),
        "round": (_COUNT, int),
    },
    "sum": {
        "job": (_DIGEST, intern),
        "roster": (_DIGESTS, _strings),
        "round": (_COUNT, int),
        "survivors": (_DIGESTS, _strings),
        "total_sha256": (_DIGEST, None),
        "transcript_sha256": (_DIGEST, None),
    },
    "result": {"document_sha256": (_DIGEST, None), "job": (_DIGEST, intern)},
}


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    payload_type: str
    pattern: re.Pattern[str]
    fields: tuple[str, ...]
    converters: tuple[tuple[str, Callable[[str], Any]], ...]


def _kind(name: str) -> _Kind:
    fields = _FIELDS[name]
    body = ",".join(f'"{field}":{pattern}' for field, (pattern, _) in fields.items())
    payload_type = f"application/vnd.consortium.{name}.v1+json"
    pattern = re.compile(
        rf"DSSEv1 {len(payload_type)} {re.escape(payload_type)} ([1-9][0-9]{{0,4}}) "
        rf'\{{"body":\{{{body}\}},"consortium":{_DIGEST},"head":\{{"root":{_DIGEST},"size":{_COUNT}\}},'
        rf'"key":{_LINE},"prev":{_DIGEST},"seq":{_COUNT}\}}'
    )
    converters = tuple((field, convert) for field, (_, convert) in fields.items() if convert is not None)
    return _Kind(name, payload_type, pattern, tuple(fields), converters)


_KIND_AT = len("DSSEv1 00 application/vnd.consortium.")
_KINDS = {name: _kind(name) for name in _FIELDS}


def read_plain(message: bytes) -> tuple[str, str, int, dict[str, Json], Sequence[str]] | None:
    """The fields of an entry of a frequent kind in its plain form, or None if the general path must read it.

    Args:
        message: the DSSE encoding that the frame signs.

    Returns:
        The kind, the payload type, where the payload starts, the body, and as they stand in the envelope:
        consortium, root and size of the head, key, previous leaf, sequence number.
    """
    text = message.decode("latin-1")  # what is not ASCII matches no pattern
    kind = _KINDS.get(text[_KIND_AT : text.find(".", _KIND_AT)])
    match = None if kind is None else kind.pattern.fullmatch(text)
    if kind is None or match is None:
        return None
    start = match.end(1) + 1
    groups = match.groups()
    if int(groups[0]) != len(text) - start:
        return None
    body: dict[str, Json] = dict(zip(kind.fields, groups[1:], strict=False))
    for field, convert in kind.converters:
        body[field] = convert(body[field])
    return kind.name, kind.payload_type, start, body, groups[-6:]
