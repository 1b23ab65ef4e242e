"""Ledger entries as bytes: exact fields, exact types, one form, a limit."""

from __future__ import annotations

from typing import Any

import pytest

from consortium.encoding import canonical
from consortium.errors import ConsortiumError, EncodingError, EntryError, LimitError, SignatureError
from consortium.keys import SigningKey, sign_frame
from consortium.ledger.bodies import BODIES, check_body
from consortium.ledger.entry import ENTRY_BYTES_MAX, NO_PREVIOUS, Draft, Head, read_entry, write_entry
from consortium.ledger.merkle import leaf_hash
from consortium.replay import RULES
from tests.worlds import governed_world, honest_world

KEY = SigningKey(b"\x07" * 32)
HASH = "ab" * 32
APPROVAL = "application/vnd.consortium.approval.v1+json"
ENVELOPE: dict[str, Any] = {
    "body": {"digest": HASH},
    "consortium": HASH,
    "head": {"root": HASH, "size": 3},
    "key": "approval/1",
    "prev": HASH,
    "seq": 2,
}


def framed(payload: bytes, payload_type: str = APPROVAL) -> bytes:
    return sign_frame(KEY, payload_type, payload).data


def test_an_entry_says_what_its_author_signed() -> None:
    head = Head(3, bytes.fromhex(HASH))
    entry = write_entry(
        KEY,
        Draft("approval", "approval/1", {"digest": HASH}),
        consortium=bytes.fromhex(HASH),
        head=head,
        prev=NO_PREVIOUS,
        seq=0,
    )
    assert (entry.kind, entry.key, entry.seq, entry.prev, entry.head) == ("approval", "approval/1", 0, bytes(32), head)
    assert entry.author == KEY.key_id
    assert entry.leaf == leaf_hash(entry.frame.data)
    assert read_entry(entry.frame.data) == entry


def test_the_envelope_that_the_tests_below_spoil_is_sound() -> None:
    assert read_entry(framed(canonical(ENVELOPE))).body == {"digest": HASH}


@pytest.mark.parametrize(
    "spoiled",
    [
        pytest.param({"seq": -1}, id="negative-sequence-number"),
        pytest.param({"seq": True}, id="sequence-number-is-a-boolean"),
        pytest.param({"seq": "2"}, id="sequence-number-is-text"),
        pytest.param({"prev": HASH[:62]}, id="short-predecessor"),
        pytest.param({"prev": HASH.upper()}, id="upper-case-hex"),
        pytest.param({"prev": None}, id="no-predecessor"),
        pytest.param({"key": ""}, id="empty-key"),
        pytest.param({"key": "x" * 201}, id="long-key"),
        pytest.param({"key": 7}, id="key-is-a-number"),
        pytest.param({"consortium": "ab"}, id="short-consortium"),
        pytest.param({"head": [3, HASH]}, id="head-is-a-list"),
        pytest.param({"head": {"root": HASH}}, id="head-without-size"),
        pytest.param({"head": {"root": HASH, "size": 3, "time": 1}}, id="head-with-more"),
        pytest.param({"head": {"root": HASH, "size": -3}}, id="negative-size"),
        pytest.param({"head": {"root": "", "size": 3}}, id="empty-root"),
        pytest.param({"body": []}, id="body-is-a-list"),
        pytest.param({"time": 1}, id="surplus-field"),
    ],
)
def test_an_envelope_with_a_wrong_field_is_refused(spoiled: dict[str, Any]) -> None:
    with pytest.raises(EntryError):
        read_entry(framed(canonical(ENVELOPE | spoiled)))


@pytest.mark.parametrize("missing", sorted(ENVELOPE))
def test_an_envelope_without_a_field_is_refused(missing: str) -> None:
    rest = {name: value for name, value in ENVELOPE.items() if name != missing}
    with pytest.raises(EntryError, match="exactly the fields"):
        read_entry(framed(canonical(rest)))


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        pytest.param(canonical(ENVELOPE).replace(b'"seq":2', b'"seq":2.0'), EncodingError, id="float"),
        pytest.param(canonical(ENVELOPE).replace(b'"seq":2', b'"seq":2,"seq":2'), EncodingError, id="duplicate-key"),
        pytest.param(canonical(ENVELOPE).replace(b",", b", "), EncodingError, id="not-canonical"),
        pytest.param(b"[]", EntryError, id="list"),
        pytest.param(b"", EncodingError, id="empty"),
    ],
)
def test_a_payload_that_is_not_a_canonical_object_is_refused(payload: bytes, error: type[ConsortiumError]) -> None:
    with pytest.raises(error):
        read_entry(framed(payload))


@pytest.mark.parametrize(
    "payload_type",
    [
        "application/json",
        "application/vnd.consortium.approval.v2+json",
        "application/vnd.consortium..v1+json",
        APPROVAL + ";",
    ],
)
def test_another_payload_type_is_refused(payload_type: str) -> None:
    with pytest.raises(EntryError, match="payload type"):
        read_entry(framed(canonical(ENVELOPE), payload_type))


def test_the_kind_is_part_of_what_is_signed_and_fixes_the_fields() -> None:
    with pytest.raises(EntryError, match="not a kind"):
        read_entry(framed(canonical(ENVELOPE), APPROVAL.replace("approval", "payment")))
    with pytest.raises(EntryError, match="'result' entry has exactly the fields document_sha256, job"):
        read_entry(framed(canonical(ENVELOPE), APPROVAL.replace("approval", "result")))
    with pytest.raises(EntryError) as caught:
        read_entry(framed(canonical(ENVELOPE | {"body": {"digest": "zz" * 32}})))
    assert caught.value.where == "body.digest"


def test_an_entry_over_the_limit_is_refused_and_one_at_the_limit_is_read() -> None:
    genesis = read_entry(honest_world()[0].ledger.frames[0]).body

    def of(length: int) -> bytes:
        body = genesis | {"schedule": {"text": "x" * length}}
        return framed(canonical(ENVELOPE | {"body": body}), APPROVAL.replace("approval", "genesis"))

    room = ENTRY_BYTES_MAX - len(of(60_000)) + 60_000
    assert len(of(room)) == ENTRY_BYTES_MAX
    assert read_entry(of(room)).kind == "genesis"
    with pytest.raises(LimitError, match="65536 bytes; the limit is 65535"):
        read_entry(of(room + 1))


def test_bytes_that_are_no_frame_are_refused() -> None:
    with pytest.raises(SignatureError):
        read_entry(b"\x00" * 200)


def test_every_kind_but_the_genesis_has_a_rule() -> None:
    assert set(BODIES) == {*RULES, "genesis", "handover"}  # the replay itself sees to these two


def test_a_body_with_the_wrong_type_in_any_field_of_any_kind_is_refused_by_place() -> None:
    bodies = {}
    for frame in (*honest_world()[0].ledger.frames, *governed_world().ledger.frames):
        entry = read_entry(frame)
        bodies[entry.kind] = entry.body
    assert set(bodies) == set(BODIES)
    for kind, body in bodies.items():
        check_body(kind, body)
        for field in body:
            for wrong in (None, 0.5, [None], "\n"):
                with pytest.raises(EntryError) as caught:
                    check_body(kind, body | {field: wrong})
                assert caught.value.where == f"body.{field}"


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        pytest.param("spend", "rho_micro", -1, id="negative-spend"),
        pytest.param("spend", "rho_micro", "infinite", id="unknown-word"),
        pytest.param("spend", "delta", "0.1", id="delta-not-a-power"),
        pytest.param("settlement", "amount", "1.5", id="fractional-credits"),
        pytest.param("settlement", "amount", "-0", id="minus-zero"),
        pytest.param("settlement", "amount", "007", id="leading-zeros"),
        pytest.param("settlement", "postings", [{"account": "a"}], id="posting-without-amount"),
        pytest.param("scores", "scores", [{}] * 257, id="long-list"),
        pytest.param("decision", "outcome", "maybe", id="neither-permit-nor-refuse"),
        pytest.param("enrolment", "flower_key", "abc", id="half-a-byte"),
        pytest.param("enrolment", "legal_name", "a\x1b[2Kb", id="terminal-escape"),
        pytest.param("enrolment", "legal_name", "x" * 201, id="long-name"),
    ],
)
def test_a_value_out_of_range_is_refused_by_place(kind: str, field: str, value: object) -> None:
    frames = map(read_entry, honest_world()[0].ledger.frames)
    body = next(entry.body for entry in frames if entry.kind == kind)
    with pytest.raises(EntryError) as caught:
        check_body(kind, body | {field: value})
    assert caught.value.where == f"body.{field}"
