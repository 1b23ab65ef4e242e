"""Published vectors for keys, encoding and notes: Wycheproof, RFC 8785, DSSE, C2SP."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import rfc8785

from consortium.encoding import canonical, parse
from consortium.errors import CheckpointError, EncodingError, SignatureError
from consortium.keys import pae, verify
from consortium.ledger.checkpoint import NoteKey, format_checkpoint, format_note, open_checkpoint, parse_checkpoint
from consortium.ledger.checkpoint import parse_note as parse_signed_note

VECTORS = Path(__file__).parents[2].parent / "shared/vectors"
JCS_WITHOUT_FLOATS = ("arrays", "french", "unicode", "weird")
JCS_WITH_FLOATS = ("structures", "values")

pytestmark = pytest.mark.skipif(not VECTORS.is_dir(), reason=f"no vectors in {VECTORS}")


def load(path: str) -> dict[str, object]:
    return json.loads((VECTORS / path).read_text())


def test_wycheproof_ed25519_is_judged_as_the_151_cases_say() -> None:
    groups = json.loads((VECTORS / "wycheproof/testvectors_v1/ed25519_test.json").read_text())["testGroups"]
    judged = 0
    for group in groups:
        key = bytes.fromhex(group["publicKey"]["pk"])
        for case in group["tests"]:
            message, signature = bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"])
            try:
                verify(key, message, signature)
                verdict = "valid"
            except SignatureError:
                verdict = "invalid"
            assert verdict == case["result"], f"tcId {case['tcId']}"
            judged += 1
    assert judged == 151


def jcs(name: str) -> tuple[object, bytes]:
    value = json.loads((VECTORS / f"jcs/input/{name}.json").read_text("utf-8"))
    expected = bytes.fromhex((VECTORS / f"jcs/outhex/{name}.txt").read_text())
    assert (VECTORS / f"jcs/output/{name}.json").read_bytes() == expected
    return value, expected


def test_the_six_jcs_triples_are_all_named_here() -> None:
    names = {file.stem for file in (VECTORS / "jcs/input").iterdir()}
    assert names == {*JCS_WITHOUT_FLOATS, *JCS_WITH_FLOATS}


@pytest.mark.parametrize("name", JCS_WITHOUT_FLOATS)
def test_jcs_output_is_written_and_read_byte_for_byte(name: str) -> None:
    value, expected = jcs(name)
    assert canonical(value) == expected
    assert parse(expected) == value


@pytest.mark.parametrize("name", JCS_WITH_FLOATS)
def test_jcs_input_with_floats_is_refused_by_us_and_written_by_the_library_beneath(name: str) -> None:
    value, expected = jcs(name)
    assert rfc8785.dumps(value) == expected
    with pytest.raises(EncodingError):
        canonical(value)


def test_jcs_output_that_spells_an_integral_float_as_an_integer_is_canonical_for_us() -> None:
    value, expected = jcs("structures")  # its 56.0 is written as 56
    assert parse(expected) == value


def test_dsse_pre_authentication_encoding() -> None:
    vector = load("ct-reference/dsse_pae.json")
    payload_type, payload = str(vector["payload_type"]), str(vector["payload_utf8"])
    assert pae(payload_type, payload.encode()) == str(vector["pae_utf8"]).encode()


class TestSignedNotes:
    @pytest.fixture
    def examples(self) -> dict[str, dict[str, str]]:
        return json.loads((VECTORS / "c2sp/examples.json").read_text())

    def test_verifier_key_is_read_and_written(self, examples: dict[str, dict[str, str]]) -> None:
        vkey = examples["signed_note_valid"]["vkey"]
        key = NoteKey.parse(vkey)
        assert key.vkey() == vkey
        assert key.key_hash == hashlib.sha256(b"example.com/foo\n\x01" + key.public_key).digest()[:4]

    def test_valid_note_verifies_and_its_text_is_no_checkpoint(self, examples: dict[str, dict[str, str]]) -> None:
        example = examples["signed_note_valid"]
        key = NoteKey.parse(example["vkey"])
        note = parse_signed_note(example["note"])
        verify(key.public_key, note.text.encode(), note.signatures[0].signature)
        assert (note.signatures[0].name, note.signatures[0].key_hash) == (key.name, key.key_hash)
        assert format_note(note) == example["note"]
        with pytest.raises(CheckpointError, match="at least three lines"):
            open_checkpoint(example["note"], [key])

    def test_changed_note_is_refused(self, examples: dict[str, dict[str, str]]) -> None:
        example = examples["signed_note_valid"]
        with pytest.raises(CheckpointError, match="does not verify"):
            open_checkpoint(
                example["note"].replace("example message", "exemplar message"), [NoteKey.parse(example["vkey"])]
            )

    def test_checkpoint_with_a_cosignature_line_is_read(self, examples: dict[str, str]) -> None:
        note = parse_signed_note(examples["checkpoint_with_cosignature_keys_not_published"])
        checkpoint = parse_checkpoint(note.text)
        assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
        assert format_checkpoint(checkpoint) == note.text
        assert [line.name for line in note.signatures] == ["example.com/behind-the-sofa", "witness.example.com/w1"]
        assert [len(line.signature) for line in note.signatures] == [64, 72]  # a cosignature/v1 carries its time
        signed = examples["cosignature_v1_signed_message_for_time_1679315147"]
        assert signed == f"cosignature/v1\ntime 1679315147\n{note.text}"
