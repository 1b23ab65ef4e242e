"""The Merkle tree against a naive recursive reference, and against any change of a proof."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consortium.errors import ProofError
from consortium.ledger.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_hash,
    verify_consistency,
    verify_inclusion,
)
from tests.reference import merkle as naive

leaf_lists = st.lists(st.binary(max_size=8), min_size=1, max_size=80)


@given(leaf_lists)
def test_root_is_that_of_the_reference(leaves: list[bytes]) -> None:
    assert root_hash(leaves) == naive.tree_hash(leaves)


@given(leaf_lists, st.data())
def test_inclusion_proof_is_that_of_the_reference_and_verifies(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    hashes = [leaf_hash(leaf) for leaf in leaves]
    proof = inclusion_proof(hashes, index, len(leaves))
    assert proof == naive.path(index, leaves)
    verify_inclusion(index, len(leaves), hashes[index], proof, naive.tree_hash(leaves))


@given(leaf_lists, st.data())
def test_consistency_proof_is_that_of_the_reference_and_verifies(leaves: list[bytes], data: st.DataObject) -> None:
    old = data.draw(st.integers(1, len(leaves)))
    hashes = [leaf_hash(leaf) for leaf in leaves]
    proof = consistency_proof(hashes, old, len(leaves))
    assert proof == naive.proof(old, leaves)
    verify_consistency(old, len(leaves), proof, naive.tree_hash(leaves[:old]), naive.tree_hash(leaves))


@given(leaf_lists, st.data())
def test_no_other_old_tree_is_proved_consistent(leaves: list[bytes], data: st.DataObject) -> None:
    old = data.draw(st.integers(1, len(leaves)))
    hashes = [leaf_hash(leaf) for leaf in leaves]
    proof = consistency_proof(hashes, old, len(leaves))
    changed = data.draw(st.integers(0, old - 1))
    forged = [leaf + b"!" if i == changed else leaf for i, leaf in enumerate(leaves[:old])]
    with pytest.raises(ProofError):
        verify_consistency(old, len(leaves), proof, naive.tree_hash(forged), naive.tree_hash(leaves))


@given(leaf_lists, st.data())
def test_any_changed_dropped_or_added_hash_spoils_a_proof(leaves: list[bytes], data: st.DataObject) -> None:
    old = data.draw(st.integers(1, len(leaves)))
    index = data.draw(st.integers(0, len(leaves) - 1))
    hashes = [leaf_hash(leaf) for leaf in leaves]
    old_root, root = naive.tree_hash(leaves[:old]), naive.tree_hash(leaves)
    inclusion = spoil(inclusion_proof(hashes, index, len(leaves)), data)
    consistency = spoil(consistency_proof(hashes, old, len(leaves)), data)
    with pytest.raises(ProofError):
        verify_inclusion(index, len(leaves), hashes[index], inclusion, root)
    with pytest.raises(ProofError):
        verify_consistency(old, len(leaves), consistency, old_root, root)


def spoil(proof: list[bytes], data: st.DataObject) -> list[bytes]:
    kinds = ["add", "drop", "flip", "cut"] if proof else ["add"]
    kind = data.draw(st.sampled_from(kinds))
    if kind == "add":
        at = data.draw(st.integers(0, len(proof)))
        return [*proof[:at], EMPTY_ROOT, *proof[at:]]
    at = data.draw(st.integers(0, len(proof) - 1))
    if kind == "drop":
        return [*proof[:at], *proof[at + 1 :]]
    changed = proof[at][:-1] if kind == "cut" else bytes([proof[at][0] ^ 1]) + proof[at][1:]
    return [*proof[:at], changed, *proof[at + 1 :]]


@given(leaf_lists, st.data())
def test_frontier_grown_in_any_steps_has_the_reference_root(leaves: list[bytes], data: st.DataObject) -> None:
    frontier = Frontier()
    while frontier.size < len(leaves):
        step = data.draw(st.integers(1, len(leaves) - frontier.size))
        more = [leaf_hash(leaf) for leaf in leaves[frontier.size : frontier.size + step]]
        frontier = frontier.append(more[0]) if step == 1 else frontier.extend(more)
        assert frontier.root() == naive.tree_hash(leaves[: frontier.size])
