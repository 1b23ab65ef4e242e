"""Cosignatures: the published message, one witness and one text only; quorums that share an honest witness."""

from __future__ import annotations

import base64
import hashlib

import pytest

from consortium.errors import CheckpointError
from consortium.keys import SigningKey, verify
from consortium.ledger.checkpoint import NoteSignature, add_signature, parse_note
from consortium.ledger.cosignature import (
    COSIGNATURE_V1,
    cosign,
    cosigners,
    hearing,
    liars_tolerated,
    quorum,
    verify_cosignature,
    witness_name,
)

# C2SP tlog-cosignature.md and tlog-checkpoint.md at 5ba5ee8 (CC BY 4.0); the keys were not published.
TEXT = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
MESSAGE = f"cosignature/v1\ntime 1679315147\n{TEXT}"
NOTE = (
    f"{TEXT}\n"
    "\u2014 example.com/behind-the-sofa "
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "\u2014 witness.example.com/w1 "
    "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)
TIME = 1_679_315_147
WITNESS = SigningKey(b"\x01" * 32)
OTHER = SigningKey(b"\x02" * 32)
NAME = "witness.example.com/w1"


def test_the_signed_message_is_the_published_one() -> None:
    """Fails when a byte of C2SP's cosignature/v1 message is another."""
    line = cosign(TEXT, WITNESS, NAME, TIME)
    verify(WITNESS.public_key, MESSAGE.encode(), line.signature[8:])
    assert int.from_bytes(line.signature[:8]) == TIME


def test_a_published_cosignature_has_the_shape_of_ours() -> None:
    published = parse_note(NOTE).signatures[1]
    ours = cosign(TEXT, WITNESS, NAME, TIME)
    assert (published.name, len(published.signature), len(published.key_hash)) == (NAME, len(ours.signature), 4)
    assert int.from_bytes(published.signature[:8]) == TIME


def test_the_key_hash_is_that_of_algorithm_4() -> None:
    """C2SP signed-note: SHA-256 of name, newline, algorithm byte and key."""
    typed = bytes([COSIGNATURE_V1]) + WITNESS.public_key
    expected = hashlib.sha256(NAME.encode() + b"\n" + typed).digest()[:4]
    assert cosign(TEXT, WITNESS, NAME, TIME).key_hash == expected


def test_it_verifies_for_its_text_and_key_only() -> None:
    line = cosign(TEXT, WITNESS, NAME, TIME)
    assert verify_cosignature(TEXT, line, WITNESS.public_key) == TIME
    with pytest.raises(CheckpointError):
        verify_cosignature(TEXT.replace("20852163", "20852164"), line, WITNESS.public_key)
    with pytest.raises(CheckpointError):
        verify_cosignature(TEXT, line, OTHER.public_key)


def test_its_time_is_signed() -> None:
    line = cosign(TEXT, WITNESS, NAME, TIME)
    later = NoteSignature(line.name, line.key_hash, (TIME + 1).to_bytes(8) + line.signature[8:])
    with pytest.raises(CheckpointError, match="does not verify"):
        verify_cosignature(TEXT, later, WITNESS.public_key)


@pytest.mark.parametrize("cut", [0, 8, 71, 73])
def test_a_line_of_another_length_is_no_cosignature(cut: int) -> None:
    line = cosign(TEXT, WITNESS, NAME, TIME)
    with pytest.raises(CheckpointError, match="not a cosignature"):
        verify_cosignature(TEXT, NoteSignature(NAME, line.key_hash, (line.signature * 2)[:cut]), WITNESS.public_key)


@pytest.mark.parametrize("time", [0, -1, 1 << 63])
def test_a_time_out_of_range_is_refused(time: int) -> None:
    with pytest.raises(CheckpointError, match="out of range"):
        cosign(TEXT, WITNESS, NAME, time)


def test_the_log_s_signature_is_no_cosignature_of_the_same_key() -> None:
    """Fails when the algorithm byte is not part of what names the key."""
    note = parse_note(NOTE)
    disguised = NoteSignature(NAME, note.signatures[0].key_hash, bytes(8) + note.signatures[0].signature)
    with pytest.raises(CheckpointError):
        verify_cosignature(TEXT, disguised, WITNESS.public_key)


def test_each_witness_counts_once_and_strangers_do_not() -> None:
    note = parse_note(NOTE)
    for time in (TIME, TIME + 1):
        note = add_signature(note, cosign(TEXT, WITNESS, "log/witness/a", time))
    note = add_signature(note, cosign(TEXT, OTHER, "log/witness/stranger", TIME))
    known = {"log/witness/a": (b"a", WITNESS.public_key), "log/witness/b": (b"b", OTHER.public_key)}
    assert cosigners(note, known) == {b"a"}


def test_a_line_in_a_known_name_that_does_not_verify_spoils_the_note() -> None:
    note = add_signature(parse_note(NOTE), cosign(TEXT, OTHER, "log/witness/a", TIME))
    with pytest.raises(CheckpointError):
        cosigners(note, {"log/witness/a": (b"a", WITNESS.public_key)})


def test_witnesses_of_one_log_have_different_names() -> None:
    assert witness_name("log", b"\x01" * 32) != witness_name("log", b"\x02" * 32)
    assert base64.b64encode(cosign(TEXT, WITNESS, "a", TIME).key_hash) != base64.b64encode(
        cosign(TEXT, WITNESS, "b", TIME).key_hash
    )


@pytest.mark.parametrize("size", range(1, 31))
def test_quorums_and_hearings_share_an_honest_witness(size: int) -> None:
    """Fails for a plain majority: 5 of 8 would allow a split view."""
    k, f = quorum(size), liars_tolerated(size)
    assert 3 * k > 2 * size
    assert 2 * k - size > f
    assert k + hearing(size) - size > f
    assert hearing(size) <= size
    assert k <= size - f


def test_the_figures_of_the_committee_sizes() -> None:
    assert [quorum(size) for size in (3, 4, 7, 10)] == [3, 3, 5, 7]
    assert [liars_tolerated(size) for size in (3, 4, 7, 10)] == [0, 1, 2, 3]
    assert [hearing(size) for size in (3, 4, 7, 10)] == [1, 3, 5, 7]
