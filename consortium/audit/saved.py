"""The state of an audit as bytes, so that the next audit reads only what was appended since.

JSON after a line with its SHA-256: a file that was damaged is refused. It is the auditor's own file; whoever can write
to it can make the auditor believe anything, as with the auditor's program.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Mapping
from typing import Any

from consortium.audit.findings import Finding
from consortium.audit.report import Audit
from consortium.encoding import Json, sha256
from consortium.errors import EncodingError
from consortium.ledger.merkle import HASH_BYTES
from consortium.ledger.tree import Tree
from consortium.replay import Replay
from consortium.state import State

HEADER = "consortium audit state v1"
_MEND = "Audit from the beginning, without a saved state."


def save_audit(audit: Audit) -> bytes:
    """The bytes of an audit between two entries."""
    document = {
        "state": to_json(State, audit.replay.state),
        "leaves": audit.replay.tree.leaves().hex(),
        "kinds": dict(audit.kinds),
        "found": to_json(list[Finding], audit.found),
        "void": audit.void,
        "ballots": audit.ballots,
        "sums_recomputed": audit.sums_recomputed,
        "sums_from": audit.sums_from,
    }
    body = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    return f"{HEADER} {sha256(body).hex()}\n".encode() + body


def load_audit(data: bytes) -> Audit:
    """The audit that was saved.

    Raises:
        EncodingError: the bytes were changed, or another version of this program wrote them.
    """
    first, _, body = data.partition(b"\n")
    if first != f"{HEADER} {sha256(body).hex()}".encode():
        raise EncodingError("The saved state of the audit is damaged, or of another program.", mend=_MEND)
    try:
        document = json.loads(body)
        state = from_json(State, document["state"])
        leaves = bytes.fromhex(document["leaves"])
        tree = Tree()
        for index in range(state.size):
            tree.append(leaves[index * HASH_BYTES : (index + 1) * HASH_BYTES])
        audit = Audit(Replay(state, tree))
        audit.kinds.update(document["kinds"])
        audit.found += from_json(list[Finding], document["found"])
        audit.ballots += document["ballots"]
        audit.void, audit.sums_recomputed = document["void"], document["sums_recomputed"]
        audit.sums_from = document["sums_from"]
    except (KeyError, TypeError, ValueError) as error:
        raise EncodingError("The saved state of the audit has not the form of this program's.", mend=_MEND) from error
    return audit


def to_json(kind: Any, value: Any) -> Json:
    """A value of a declared type as JSON: bytes as hex, records and mappings as lists (keys of any type)."""
    if kind is bytes:
        return value.hex()
    if _is_record(kind):
        return [to_json(inner, getattr(value, name)) for name, inner in _fields(kind)]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in {types.UnionType, typing.Union}:
        return None if value is None else to_json(_present(arguments), value)
    if origin is tuple:
        return [to_json(inner, item) for inner, item in zip(_items(arguments, len(value)), value, strict=True)]
    if origin in {list, set, frozenset}:
        items = [to_json(arguments[0], item) for item in value]
        return items if origin is list else sorted(items)
    if origin is dict and arguments[1] is not Any:
        return [[to_json(arguments[0], key), to_json(arguments[1], item)] for key, item in value.items()]
    return value


def from_json(kind: Any, value: Json) -> Any:
    """The value of a declared type from what `to_json` made of it.

    Raises:
        TypeError, ValueError: it made something else.
    """
    if kind is bytes:
        return bytes.fromhex(value)
    if _is_record(kind):
        names = _fields(kind)
        return kind(**{name: from_json(inner, item) for (name, inner), item in zip(names, value, strict=True)})
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in {types.UnionType, typing.Union}:
        return None if value is None else from_json(_present(arguments), value)
    if origin is tuple:
        return tuple(from_json(inner, item) for inner, item in zip(_items(arguments, len(value)), value, strict=True))
    if origin in {list, set, frozenset}:
        return origin(from_json(arguments[0], item) for item in value)
    if origin is dict and arguments[1] is not Any:
        return {from_json(arguments[0], key): from_json(arguments[1], item) for key, item in value}
    return value


@functools.cache
def _is_record(kind: Any) -> bool:
    """Whether values of the type are dataclasses or named tuples."""
    return isinstance(kind, type) and (dataclasses.is_dataclass(kind) or hasattr(kind, "_fields"))


@functools.cache
def _fields(kind: Any) -> tuple[tuple[str, Any], ...]:
    hints: Mapping[str, Any] = typing.get_type_hints(kind)
    if dataclasses.is_dataclass(kind):
        return tuple((field.name, hints[field.name]) for field in dataclasses.fields(kind))
    return tuple((name, hints[name]) for name in kind._fields)


def _present(arguments: tuple[Any, ...]) -> Any:
    """The one type of an optional value."""
    (present,) = (each for each in arguments if each is not type(None))
    return present


def _items(arguments: tuple[Any, ...], length: int) -> tuple[Any, ...]:
    """The types of a tuple's items: each its own, or one for any number."""
    return (arguments[0],) * length if len(arguments) == 2 and arguments[1] is Ellipsis else arguments
