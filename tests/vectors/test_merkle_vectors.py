"""Published vectors for the Merkle tree: transparency-dev/merkle inclusion proofs and the CT reference tree."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest

from consortium.errors import ProofError
from consortium.ledger.merkle import (
    EMPTY_ROOT,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_hash,
    verify_consistency,
    verify_inclusion,
)

VECTORS = Path(__file__).parents[2].parent / "shared/vectors"
CASES = sorted((VECTORS / "merkle/testdata/inclusion").rglob("*.json"))

pytestmark = pytest.mark.skipif(not VECTORS.is_dir(), reason=f"no vectors in {VECTORS}")


def test_all_98_inclusion_cases_are_there() -> None:
    assert len(CASES) == 98


@pytest.mark.parametrize("file", CASES, ids=lambda file: "/".join(file.parts[-2:]))
def test_inclusion_proof_is_judged_as_the_vector_says(file: Path) -> None:
    case = json.loads(file.read_text())
    proof = [base64.b64decode(item) for item in case["proof"] or ()]
    leaf, root = base64.b64decode(case["leafHash"]), base64.b64decode(case["root"])
    if case["wantErr"]:
        with pytest.raises(ProofError):
            verify_inclusion(case["leafIdx"], case["treeSize"], leaf, proof, root)
    else:
        verify_inclusion(case["leafIdx"], case["treeSize"], leaf, proof, root)


class TestCertificateTransparencyReferenceTree:
    @pytest.fixture
    def reference(self) -> dict[str, list[str]]:
        return json.loads((VECTORS / "ct-reference/rfc6962.json").read_text())

    @pytest.fixture
    def leaves(self, reference: dict[str, list[str]]) -> list[bytes]:
        return [bytes.fromhex(text) for text in reference["leaf_inputs_hex"]]

    def test_roots_of_sizes_0_to_8(self, reference: dict[str, list[str]], leaves: list[bytes]) -> None:
        roots = [root_hash(leaves[:size]).hex() for size in range(9)]
        assert roots == reference["root_hashes_hex_by_size"]

    def test_hashes_by_level(self, reference: dict[str, list[str]], leaves: list[bytes]) -> None:
        level = [leaf_hash(leaf) for leaf in leaves]
        for expected in reference["node_hashes_hex_by_level"]:
            assert [node.hex() for node in level] == list(expected)
            level = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]

    def test_known_answers_of_the_hasher(self, reference: dict[str, dict[str, str]]) -> None:
        hasher = reference["hasher"]
        assert hasher["empty_root"] == EMPTY_ROOT.hex()
        assert leaf_hash(b"").hex() == hasher["empty_leaf"]
        assert leaf_hash(b"L123456").hex() == hasher["leaf_L123456"]
        assert node_hash(b"N123", b"N456").hex() == hasher["node_N123_N456"]

    def test_every_proof_between_the_reference_roots_verifies(
        self, reference: dict[str, list[str]], leaves: list[bytes]
    ) -> None:
        roots = [bytes.fromhex(text) for text in reference["root_hashes_hex_by_size"]]
        hashes = [hashlib.sha256(b"\x00" + leaf).digest() for leaf in leaves]
        for new in range(9):
            for old in range(new + 1):
                verify_consistency(old, new, consistency_proof(hashes, old, new), roots[old], roots[new])
            for index in range(new):
                verify_inclusion(index, new, hashes[index], inclusion_proof(hashes, index, new), roots[new])
