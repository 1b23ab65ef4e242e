"""Checkpoints: one form only, a known key's signature or nothing."""

from __future__ import annotations

import base64
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consortium.errors import CheckpointError
from consortium.keys import SigningKey
from consortium.ledger.checkpoint import (
    NOTE_BYTES_MAX,
    SIGNATURES_MAX,
    Checkpoint,
    Note,
    NoteKey,
    NoteSignature,
    add_signature,
    format_checkpoint,
    format_note,
    open_checkpoint,
    parse_checkpoint,
    parse_note,
    sign_checkpoint,
)

LOG = SigningKey(b"\x01" * 32)
OTHER = SigningKey(b"\x02" * 32)
NAME = "wind.example/log/e0"
CHECKPOINT = Checkpoint(NAME, 1234, b"\x05" * 32)
KEY = NoteKey(NAME, LOG.public_key)
ROOT = base64.b64encode(CHECKPOINT.root).decode()

lines = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)


def test_a_signed_checkpoint_opens_from_text_and_from_bytes() -> None:
    note = sign_checkpoint(CHECKPOINT, LOG, NAME)
    assert open_checkpoint(note, [KEY]) == CHECKPOINT
    assert open_checkpoint(note.encode(), [KEY]) == CHECKPOINT


@given(lines, st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32), st.lists(lines, max_size=3))
def test_every_checkpoint_survives_signing_and_opening(
    origin: str, size: int, root: bytes, extensions: list[str]
) -> None:
    checkpoint = Checkpoint(origin, size, root, tuple(extensions))
    assert parse_checkpoint(format_checkpoint(checkpoint)) == checkpoint
    assert open_checkpoint(sign_checkpoint(checkpoint, LOG, NAME), [KEY]) == checkpoint


@given(st.text(max_size=60))
def test_any_text_is_a_checkpoint_in_its_one_form_or_refused(text: str) -> None:
    try:
        checkpoint = parse_checkpoint(text)
    except CheckpointError:
        return
    assert format_checkpoint(checkpoint) == text


@given(st.integers(min_value=0), st.binary(min_size=1, max_size=3))
def test_changed_bytes_of_a_note_never_open_as_another_checkpoint(position: int, change: bytes) -> None:
    note = sign_checkpoint(CHECKPOINT, LOG, NAME).encode()
    at = position % len(note)
    changed = note[:at] + change + note[at + len(change) :]
    try:
        opened = open_checkpoint(changed, [KEY])
    except CheckpointError:
        return
    assert opened == CHECKPOINT


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        f"{NAME}\n5\n{ROOT}",
        f"{NAME}\n5\n",
        f"\n5\n{ROOT}\n",
        f"{NAME}\n05\n{ROOT}\n",
        f"{NAME}\n+5\n{ROOT}\n",
        f"{NAME}\n-1\n{ROOT}\n",
        f"{NAME}\n5 \n{ROOT}\n",
        f"{NAME}\n٥\n{ROOT}\n",
        f"{NAME}\n{2**63}\n{ROOT}\n",
        f"{NAME}\n{'9' * 5000}\n{ROOT}\n",
        f"{NAME}\n5\n{ROOT[:-1]}\n",
        f"{NAME}\n5\n{ROOT[:-2]}V=\n",
        f"{NAME}\n5\n {ROOT}\n",
        f"{NAME}\n5\n{base64.b64encode(bytes(31)).decode()}\n",
        f"{NAME}\n5\n{ROOT}\n\nextension\n",
        f"{NAME}\n5\n{ROOT}\r\n",
        f"{NAME}\ud800\n5\n{ROOT}\n",
    ],
)
def test_what_is_not_exactly_a_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError):
        parse_checkpoint(text)


@pytest.mark.parametrize(
    "changes",
    [
        {"size": -1},
        {"size": 2**63},
        {"root": bytes(31)},
        {"origin": ""},
        {"origin": "a\nb"},
        {"origin": "a\tb"},
        {"extensions": ("",)},
        {"extensions": ("a\nb",)},
    ],
)
def test_a_checkpoint_that_no_note_can_carry_is_not_signed(changes: dict[str, object]) -> None:
    with pytest.raises(CheckpointError):
        sign_checkpoint(dataclasses.replace(CHECKPOINT, **changes), LOG, NAME)


@pytest.mark.parametrize("name", ["", "a b", "a\u2003b", "a+b", "a\nb", "a\x01b", "a\udfffb"])
def test_a_key_name_that_no_note_can_carry_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError):
        NoteKey(name, LOG.public_key)


def test_a_small_order_or_short_public_key_is_refused() -> None:
    for public_key in (bytes(32), b"\x01" * 31):
        with pytest.raises(CheckpointError, match="not an Ed25519 public key"):
            NoteKey(NAME, public_key)


def test_a_verifier_key_survives_its_text_form() -> None:
    assert NoteKey.parse(KEY.vkey()) == KEY


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "name",
        "name+00000000",
        KEY.vkey().replace(KEY.key_hash.hex(), "00000000"),
        KEY.vkey().replace(KEY.key_hash.hex(), KEY.key_hash.hex().upper()),
        KEY.vkey() + "=",
        f"{NAME}+00000000+{base64.b64encode(bytes([4]) + LOG.public_key).decode()}",
        f"{NAME}+00000000+{base64.b64encode(bytes([1])).decode()}",
        f"{NAME}+00000000+ä",
    ],
)
def test_a_text_that_is_not_a_verifier_key_is_refused(vkey: str) -> None:
    with pytest.raises(CheckpointError):
        NoteKey.parse(vkey)


def test_a_note_that_no_known_key_signed_is_refused() -> None:
    note = sign_checkpoint(CHECKPOINT, OTHER, NAME)
    for keys in ([], [KEY], [NoteKey("other.example", OTHER.public_key)]):
        with pytest.raises(CheckpointError, match="No known key"):
            open_checkpoint(note, keys)


def test_a_known_name_with_a_foreign_key_id_is_ignored_beside_the_known_key() -> None:
    note = parse_note(sign_checkpoint(CHECKPOINT, LOG, NAME))
    stranger = parse_note(sign_checkpoint(CHECKPOINT, OTHER, NAME)).signatures[0]
    cosignature = NoteSignature("witness.example/w1", b"\x00\x01\x02\x03", bytes(72))
    for line in (stranger, cosignature):
        assert open_checkpoint(format_note(add_signature(note, line)), [KEY]) == CHECKPOINT


def test_one_bad_signature_of_a_known_key_spoils_the_note() -> None:
    note = parse_note(sign_checkpoint(CHECKPOINT, LOG, NAME))
    bad = dataclasses.replace(note.signatures[0], signature=bytes(64))
    with pytest.raises(CheckpointError, match="does not verify"):
        open_checkpoint(format_note(add_signature(note, bad)), [KEY])


def test_a_signature_is_bound_to_the_text() -> None:
    note = parse_note(sign_checkpoint(CHECKPOINT, LOG, NAME))
    other = format_checkpoint(dataclasses.replace(CHECKPOINT, size=1235))
    with pytest.raises(CheckpointError, match="does not verify"):
        open_checkpoint(format_note(Note(other, note.signatures)), [KEY])


VALID = sign_checkpoint(CHECKPOINT, LOG, NAME)


@pytest.mark.parametrize(
    "note",
    [
        "",
        b"\xff",
        VALID[:-1],
        VALID + "\n",
        VALID.replace("\n\n", "\n"),
        VALID.replace("— ", "- "),
        VALID.replace("— ", "—  "),
        VALID.replace(f"— {NAME} ", f"— {NAME}"),
        VALID.replace("\n", "\r\n"),
        format_checkpoint(CHECKPOINT) + "\n",
        format_checkpoint(CHECKPOINT) + f"\n— {NAME} AAAAAA==\n",
        format_checkpoint(CHECKPOINT) + f"\n— {NAME} !\n",
        "x" * (NOTE_BYTES_MAX + 1),
        format_checkpoint(CHECKPOINT) + "\n" + f"— {NAME} AAAAAAA=\n" * (SIGNATURES_MAX + 1),
    ],
)
def test_a_malformed_note_is_refused(note: str | bytes) -> None:
    with pytest.raises(CheckpointError):
        open_checkpoint(note, [KEY])


def test_sixteen_signatures_are_accepted_as_the_specification_demands() -> None:
    note = parse_note(sign_checkpoint(CHECKPOINT, LOG, NAME))
    for number in range(15):
        note = add_signature(note, NoteSignature(f"witness{number}", bytes(4), bytes(72)))
    assert open_checkpoint(format_note(note), [KEY]) == CHECKPOINT
