"""Canonical JSON: one form only, and no floats."""

from __future__ import annotations

import hashlib

import pytest

from consortium.encoding import DEPTH_MAX, DOCUMENT_BYTES_MAX, canonical, digest_of, parse, sha256
from consortium.errors import ConsortiumError, EncodingError, LimitError


def nested(levels: int) -> list[object]:
    value: list[object] = []
    for _ in range(levels):
        value = [value]
    return value


def test_keys_are_sorted_by_utf16_code_units_as_rfc_8785_shows() -> None:
    ordered = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]  # RFC 8785, 3.2.3
    assert list(parse(canonical(dict.fromkeys(reversed(ordered), 0)))) == ordered


def test_the_bytes_of_a_document_are_fixed() -> None:
    assert canonical({"b": [1, True, None, "ä\n"], "a": {}}) == '{"a":{},"b":[1,true,null,"ä\\n"]}'.encode()
    assert digest_of({}) == hashlib.sha256(b"{}").hexdigest()
    assert sha256(b"") == hashlib.sha256(b"").digest()


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(0.5, id="float"),
        pytest.param({"a": [{"b": 1.0}]}, id="deep-float"),
        pytest.param((float("nan"),), id="nan-in-a-tuple"),
        pytest.param(1 << 53, id="integer-beyond-2**53"),
        pytest.param(-(1 << 53), id="integer-below-minus-2**53"),
        pytest.param("\ud800", id="lone-surrogate"),
        pytest.param({"\ud800": 1}, id="lone-surrogate-in-a-key"),
        pytest.param(b"bytes", id="bytes"),
        pytest.param({1: 2}, id="key-not-text"),
        pytest.param({1, 2}, id="set"),
        pytest.param(nested(DEPTH_MAX + 1), id="too-deep"),
    ],
)
def test_what_canonical_json_cannot_carry_is_refused(value: object) -> None:
    with pytest.raises(EncodingError) as caught:
        canonical(value)
    assert caught.value.mend


def test_the_deepest_and_largest_values_that_are_allowed_pass() -> None:
    assert parse(canonical(nested(DEPTH_MAX))) == nested(DEPTH_MAX)
    assert parse(canonical([(1 << 53) - 1])) == [(1 << 53) - 1]
    assert parse(b'"' + b"x" * 8 + b'"', bytes_max=10) == "x" * 8


@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param(b'{"a":1,"a":2}', "same key twice", id="duplicate-key"),
        pytest.param(b'{"a":{"b":1,"b":1}}', "same key twice", id="deep-duplicate-key"),
        pytest.param(b'{"a":1.0}', "float", id="float"),
        pytest.param(b"1e2", "float", id="exponent"),
        pytest.param(b"NaN", "float", id="nan"),
        pytest.param(b"-Infinity", "float", id="infinity"),
        pytest.param(b'{"a": 1}', "canonical form", id="space"),
        pytest.param(b'{"b":1,"a":2}', "canonical form", id="unsorted-keys"),
        pytest.param(b"-0", "canonical form", id="minus-zero"),
        pytest.param(b'"\\u0041"', "canonical form", id="needless-escape"),
        pytest.param(b"{}\n", "canonical form", id="newline-at-the-end"),
        pytest.param(b'"\\ud800"', "no canonical JSON form", id="escaped-lone-surrogate"),
        pytest.param(b"9007199254740992", "no canonical JSON form", id="large-integer"),
        pytest.param(b"9" * 5_000, "not JSON", id="integer-of-5000-digits"),
        pytest.param(b'"\xff"', "not JSON", id="not-utf8"),
        pytest.param(b"\xef\xbb\xbf{}", "not JSON", id="byte-order-mark"),
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b"[" * 100_000, "not JSON", id="100000-brackets"),
    ],
)
def test_bytes_that_the_writer_would_not_have_written_are_refused(data: bytes, says: str) -> None:
    with pytest.raises(EncodingError, match=says):
        parse(data)


def test_a_syntax_error_is_placed_by_line_and_column_without_the_text() -> None:
    with pytest.raises(EncodingError) as caught:
        parse(b'{"secret":\n  canary}')
    assert caught.value.where == "line 2, column 3"
    assert "canary" not in str(caught.value)


def test_a_document_over_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(LimitError, match="11 bytes; the limit is 10"):
        parse(b'"' + b"x" * 9 + b'"', bytes_max=10)
    with pytest.raises(LimitError):
        parse(b" " * (DOCUMENT_BYTES_MAX + 1))


def test_an_error_says_what_where_and_how_to_mend_it() -> None:
    error = ConsortiumError("What.", where="line 1", mend="Do this.")
    assert str(error) == "What. [line 1] Do this."
    assert str(ConsortiumError("What.")) == "What."
