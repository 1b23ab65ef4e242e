"""The most frequent kinds of entry, each as one regular expression over the bytes of its frame.

Bytes that match are canonical JSON with a valid envelope and body, and the groups are the fields: reading takes a
quarter of the time of the general path in `consortium.ledger.entry`, which reads everything that does not match and
would read these bytes alike (a property test holds the two together). An audit of a million entries needs it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from consortium.encoding import DEPTH_MAX, Json, parse
from consortium.errors import EncodingError
from consortium.keys import FRAME_VERSION, PREFIX_BYTES

_DIGEST = '"(.{64})"'  # that all of them are hexadecimal is seen at once, in a third of the time
_NAME = r'"([a-z0-9][a-z0-9._/-]{0,99})"'
_LINE = r'"([ !#-\[\]-~]{1,200})"'  # printable ASCII without quote and backslash
_COUNT = r"(0|[1-9][0-9]{0,14})"  # below 10**15, which is below 2**53
_NAMES = r'(\[\]|\[(?:"[a-z0-9][a-z0-9._/-]{0,99}",){0,255}"[a-z0-9][a-z0-9._/-]{0,99}"\])'
_DATASET = r'\{"dataset":"[a-z0-9][a-z0-9._/-]{0,99}","member":"[0-9a-f]{64}"\}'
_DATASETS = rf"(\[\]|\[(?:{_DATASET},){{0,255}}{_DATASET}\])"
_OBJECT = r"(\{.*\})"  # which is parsed by itself
_NESTED_MAX = DEPTH_MAX - 2  # what stands in a body is two levels down
_DIGESTS = r'(\[\]|\[(?:"[0-9a-f]{64}",){0,255}"[0-9a-f]{64}"\])'


def _strings(group: str) -> list[str]:
    """The items of a list of strings that hold neither quotes nor commas."""
    return [] if group == "[]" else group[2:-2].split('","')


def _datasets(group: str) -> list[dict[str, str]]:
    found = re.findall('"dataset":"([^"]*)","member":"([^"]*)"', group)
    return [{"dataset": name, "member": member} for name, member in found]


def _object(group: str) -> Json:
    """A canonical JSON object that has too few brackets to be nested too deep.

    Raises:
        EncodingError: it is none.
    """
    if group.count("{") + group.count("[") > _NESTED_MAX:
        raise EncodingError("The object may be nested too deep.")
    return parse(group.encode("latin-1"))


def _spent(group: str) -> Json:
    return "unbounded" if group == '"unbounded"' else int(group)


Converter = Callable[[str], Any] | None  # None: the group is the value

_FIELDS: dict[str, dict[str, tuple[str, Converter]]] = {  # in canonical order
    "decision": {
        "clauses": (_NAMES, _strings),
        "engine": (_LINE, None),
        "entities_sha256": (_DIGEST, None),
        "job": (_DIGEST, None),
        "outcome": (r'"(permit|refuse)"', None),
        "policy_sha256": (_DIGEST, None),
        "reasons_sha256": (_DIGEST, None),
        "request_sha256": (_DIGEST, None),
        "schema_sha256": (_DIGEST, None),
        "stage": (r'"(run|release)"', None),
    },
    "spend": {
        "dataset": (_NAME, None),
        "delta": (r'"(0|1e-[1-9][0-9]?)"', None),
        "job": (_DIGEST, None),
        "rho_micro": (r'("unbounded"|0|[1-9][0-9]{0,14})', _spent),
        "round": (_COUNT, int),
    },
    "sum": {
        "job": (_DIGEST, None),
        "roster": (_DIGESTS, _strings),
        "round": (_COUNT, int),
        "survivors": (_DIGESTS, _strings),
        "total_sha256": (_DIGEST, None),
        "transcript_sha256": (_DIGEST, None),
    },
    "job": {
        "datasets": (_DATASETS, _datasets),
        "kind": (r'"(statistic|training)"', None),
        "members_min": (_COUNT, int),
        "request": (_OBJECT, _object),
    },
    "abort": {"job": (_DIGEST, None), "reason": (_NAME, None)},
    "result": {"document_sha256": (_DIGEST, None), "job": (_DIGEST, None)},
}


_ENVELOPE = (_DIGEST, _DIGEST, _COUNT, _LINE, _DIGEST, _COUNT)
_HEX_DIGITS = b"0123456789abcdef"


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    pattern: re.Pattern[str]
    fields: tuple[str, ...]
    digests: Callable[[Sequence[str]], tuple[str, ...]]  # picks them out of all groups
    converters: tuple[tuple[str, Callable[[str], Any]], ...]


def _kind(name: str) -> _Kind:
    fields = _FIELDS[name]
    body = ",".join(f'"{field}":{pattern}' for field, (pattern, _) in fields.items())
    consortium, root, size, key, prev, seq = _ENVELOPE
    payload_type = f"application/vnd.consortium.{name}.v1+json"
    pattern = re.compile(
        rf"DSSEv1 {len(payload_type)} {re.escape(payload_type)} ([1-9][0-9]{{0,4}}) "
        rf'\{{"body":\{{{body}\}},"consortium":{consortium},"head":\{{"root":{root},"size":{size}\}},'
        rf'"key":{key},"prev":{prev},"seq":{seq}\}}',
        re.DOTALL,
    )
    groups = ("", *(group for group, _ in fields.values()), *_ENVELOPE)
    digests = itemgetter(*(place for place, group in enumerate(groups) if group == _DIGEST))
    converters = tuple((field, convert) for field, (_, convert) in fields.items() if convert is not None)
    return _Kind(name, pattern, tuple(fields), digests, converters)


_VERSION = FRAME_VERSION.decode("latin-1")
_KIND_AT = PREFIX_BYTES + len("DSSEv1 00 application/vnd.consortium.")
_KINDS = {name: _kind(name) for name in _FIELDS}


def read_plain(frame: bytes) -> tuple[str, int, dict[str, Json], Sequence[str]] | None:
    """The fields of an entry of a frequent kind in its plain form, or None if the general path must read it.

    Args:
        frame: the bytes of a signed frame.

    Returns:
        The kind, where in the frame the payload starts, the body, and as they stand in the envelope:
        consortium, root and size of the head, key, previous leaf, sequence number.
    """
    text = frame.decode("latin-1")  # one character a byte: only digests and a job's request match more than ASCII
    kind = _KINDS.get(text[_KIND_AT : text.find(".", _KIND_AT)])
    match = None if kind is None or text[0] != _VERSION else kind.pattern.fullmatch(text, PREFIX_BYTES)
    if kind is None or match is None:
        return None
    start = match.end(1) + 1
    groups = match.groups()
    if int(groups[0]) != len(text) - start or not _are_hexadecimal(kind.digests(groups)):
        return None
    body: dict[str, Json] = dict(zip(kind.fields, groups[1:]))  # noqa: B905 (the envelope's groups follow)
    try:
        for field, convert in kind.converters:
            body[field] = convert(body[field])
    except EncodingError:
        return None
    return kind.name, start, body, groups[-len(_ENVELOPE) :]


def _are_hexadecimal(digests: Sequence[str]) -> bool:
    return not "".join(digests).encode().translate(None, _HEX_DIGITS)
