"""Canonical JSON (RFC 8785): the one writer, and a parser that refuses what the writer would not write."""

from __future__ import annotations

import hashlib
import json
from itertools import chain
from typing import Any, NoReturn

import rfc8785

from consortium.errors import EncodingError, LimitError

Json = Any  # None | bool | int | str | list[Json] | dict[str, Json]; floats are refused.

DEPTH_MAX = 16
DOCUMENT_BYTES_MAX = 1 << 20
_INTEGER_MAX = 2**53 - 1


def canonical(value: Json) -> bytes:
    """The RFC 8785 bytes of a value.

    Raises:
        EncodingError: the value holds a float, a number beyond 2**53 - 1, a lone surrogate or a type that JSON lacks.
    """
    _refuse_floats(value, 0)
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise EncodingError(
            "The value has no canonical JSON form.",
            mend="Use strings for amounts, integers below 2**53, and valid Unicode.",
        ) from error


def parse(data: bytes, *, bytes_max: int = DOCUMENT_BYTES_MAX) -> Json:
    """The value of canonical JSON bytes; refuses anything `canonical` would not have written.

    Raises:
        LimitError: more than `bytes_max` bytes.
        EncodingError: not JSON, duplicate keys, floats, too deep, or not in canonical form.
    """
    if len(data) > bytes_max:
        raise LimitError(
            f"The document has {len(data)} bytes; the limit is {bytes_max}.",
            mend="Send larger texts off the ledger and refer to them by SHA-256.",
        )
    quick = _parse_plain(data)
    if quick is not _NOT_PLAIN:
        return quick
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_refuse_duplicates,
            parse_float=_refuse_float_text,
            parse_constant=_refuse_float_text,
        )
    except EncodingError:
        raise
    except json.JSONDecodeError as error:
        raise EncodingError(
            "The document is not JSON.",
            where=f"line {error.lineno}, column {error.colno}",
            mend="Send RFC 8785 canonical JSON.",
        ) from error
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise EncodingError("The document is not JSON.", mend="Send RFC 8785 canonical JSON.") from error
    if canonical(value) != data:
        raise EncodingError(
            "The document is not in canonical form.",
            mend="Write it as RFC 8785 says: sorted keys, no spaces, shortest numbers.",
        )
    return value


def sha256(data: bytes) -> bytes:
    """SHA-256, 32 bytes."""
    return hashlib.sha256(data).digest()


def digest_of(value: Json) -> str:
    """SHA-256 of the canonical JSON of a value, in lower-case hex."""
    return sha256(canonical(value)).hex()


def _parse_plain(data: bytes) -> Json:
    """The value of ASCII documents that Python's own writer gives back byte by byte; `_NOT_PLAIN` of any other.

    RFC 8785 and that writer differ only where this refuses: in key order and escapes beyond ASCII, floats, integers
    beyond 2**53 - 1, and depth. A key that stands twice is written once, and so does not come back. Most documents
    are plain, and this takes a quarter of the time.
    """
    if not data.isascii():
        return _NOT_PLAIN
    text = data.decode("ascii")
    try:
        value = _PLAIN_READER.decode(text)
        if data.count(b"{") + data.count(b"[") > DEPTH_MAX and _is_deep(value):
            return _NOT_PLAIN
        return value if _PLAIN_WRITER.encode(value) == text else _NOT_PLAIN
    except (EncodingError, ValueError, RecursionError):
        return _NOT_PLAIN  # the general reader says what is wrong


def _is_deep(value: Json) -> bool:
    """Whether something is nested deeper than DEPTH_MAX levels."""
    level = [value] if type(value) in _CONTAINERS else []
    depth = 0
    while level and depth <= DEPTH_MAX:
        items = chain.from_iterable([each.values() if type(each) is dict else each for each in level])
        level = [item for item in items if type(item) in _CONTAINERS]
        depth += 1
    return depth > DEPTH_MAX


def _refuse_floats(value: Json, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise EncodingError(f"The value is nested deeper than {DEPTH_MAX} levels.", mend="Flatten it.")
    if isinstance(value, float):
        raise EncodingError("The value holds a float.", mend="Use an integer, or a decimal string in minor units.")
    if isinstance(value, dict):
        for item in value.values():
            _refuse_floats(item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_floats(item, depth + 1)


def _refuse_duplicates(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise EncodingError("An object holds the same key twice.", mend="Name every key once.")
    return result


def _refuse_float_text(_text: str) -> NoReturn:
    raise EncodingError("The document holds a float.", mend="Use an integer, or a decimal string in minor units.")


def _plain_integer(text: str) -> int:
    value = int(text)
    if abs(value) > _INTEGER_MAX:
        raise EncodingError("The document holds a number beyond 2**53 - 1.", mend="Use a decimal string.")
    return value


_NOT_PLAIN = object()
_CONTAINERS = frozenset({dict, list})
_PLAIN_READER = json.JSONDecoder(
    parse_float=_refuse_float_text, parse_constant=_refuse_float_text, parse_int=_plain_integer
)
_PLAIN_WRITER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
