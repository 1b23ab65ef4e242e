"""Proofs of single entries as C2SP tlog-proof files."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consortium.errors import CheckpointError, ProofError
from consortium.keys import SigningKey
from consortium.ledger.checkpoint import Checkpoint, NoteKey, sign_checkpoint
from consortium.ledger.merkle import leaf_hash
from consortium.ledger.proof import PROOF_BYTES_MAX, EntryProof, check_proof, format_proof, parse_proof
from consortium.ledger.tree import Tree

SIGNER = SigningKey(b"\x07" * 32)
KEY = NoteKey("example.com/log", SIGNER.public_key)
ENTRIES = [b"entry %d" % number for number in range(11)]
HASH = "A" * 43 + "="


def proved(index: int, size: int = len(ENTRIES)) -> EntryProof:
    tree = Tree()
    for entry in ENTRIES[:size]:
        tree.append(leaf_hash(entry))
    note = sign_checkpoint(Checkpoint(KEY.name, size, tree.root()), SIGNER, KEY.name).encode()
    return EntryProof(index, tuple(tree.inclusion_proof(index, size)), note, ENTRIES[index])


def test_the_file_reads_as_the_specification_says() -> None:
    proof = proved(6)
    text = format_proof(proof).decode()
    assert text.startswith("c2sp.org/tlog-proof@v1\nextra ZW50cnkgNg==\nindex 6\n")
    assert text.endswith("\n\n" + proof.checkpoint.decode())
    assert len(text.partition("\n\n")[0].splitlines()) == 3 + len(proof.hashes)


@pytest.mark.parametrize("size", [1, 2, 7, 8, 11])
def test_every_proof_of_a_log_survives_the_file_and_holds(size: int) -> None:
    for index in range(size):
        proof = parse_proof(format_proof(proved(index, size)))
        assert proof == proved(index, size)
        assert check_proof(proof, [KEY]).size == size


def test_a_proof_without_the_entry_needs_it_from_elsewhere() -> None:
    proof = parse_proof(format_proof(replace(proved(3), extra=None)))
    assert check_proof(proof, [KEY], ENTRIES[3]).size == len(ENTRIES)
    with pytest.raises(ProofError, match="does not hold the entry"):
        check_proof(proof, [KEY])
    with pytest.raises(ProofError):
        check_proof(proof, [KEY], ENTRIES[4])


@pytest.mark.parametrize(
    "spoiled",
    [
        pytest.param({"extra": b"another entry"}, id="other-entry"),
        pytest.param({"index": 4}, id="other-index"),
        pytest.param({"index": 11}, id="index-beyond-the-tree"),
        pytest.param({"hashes": ()}, id="no-hashes"),
    ],
)
def test_a_proof_of_something_else_is_refused(spoiled: dict[str, object]) -> None:
    with pytest.raises(ProofError):
        check_proof(replace(proved(3), **spoiled), [KEY])  # type: ignore[arg-type]


def test_a_checkpoint_that_another_key_signed_is_refused() -> None:
    other = SigningKey(b"\x08" * 32)
    note = sign_checkpoint(Checkpoint(KEY.name, 1, leaf_hash(ENTRIES[0])), other, KEY.name).encode()
    with pytest.raises(CheckpointError, match="No known key"):
        check_proof(EntryProof(0, (), note, ENTRIES[0]), [KEY])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "c2sp.org/tlog-proof@v2\nindex 0\n\nnote",
        "c2sp.org/tlog-proof@v1\n\nnote",
        "c2sp.org/tlog-proof@v1\nindex 0\n",
        "c2sp.org/tlog-proof@v1\nextra AA==\n\nnote",
        "c2sp.org/tlog-proof@v1\nindex 0\nextra AA==\n\nnote",
        "c2sp.org/tlog-proof@v1\nextra AB==\nindex 0\n\nnote",
        "c2sp.org/tlog-proof@v1\nindex 00\n\nnote",
        "c2sp.org/tlog-proof@v1\nindex -1\n\nnote",
        "c2sp.org/tlog-proof@v1\nindex 9223372036854775808\n\nnote",
        "c2sp.org/tlog-proof@v1\nindex 0\nAAAA\n\nnote",
        "c2sp.org/tlog-proof@v1\nindex 0\n%%%\n\nnote",
        "c2sp.org/tlog-proof@v1\nindex 0\n" + f"{HASH}\n" * 64 + "\nnote",
        "c2sp.org/tlog-proof@v1\nindex ²\n\nnote",
    ],
)
def test_whatever_is_not_in_the_one_form_is_refused(text: str) -> None:
    with pytest.raises(ProofError, match="not a C2SP tlog-proof"):
        parse_proof(text.encode())


def test_a_file_beyond_the_limit_is_refused_unread() -> None:
    with pytest.raises(ProofError, match="more than"):
        parse_proof(b"x" * (PROOF_BYTES_MAX + 1))


@pytest.mark.parametrize("spoiled", [{"index": -1}, {"hashes": (b"short",)}, {"hashes": (bytes(32),) * 64}])
def test_what_the_format_cannot_carry_is_not_written(spoiled: dict[str, object]) -> None:
    with pytest.raises(ProofError, match="cannot carry"):
        format_proof(replace(proved(3), **spoiled))  # type: ignore[arg-type]
