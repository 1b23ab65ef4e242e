"""Edges of the Merkle functions that the published vectors leave open."""

from __future__ import annotations

import pytest

from consortium.errors import ProofError
from consortium.ledger.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)

HASHES = [leaf_hash(bytes([i])) for i in range(6)]
ROOTS = [Frontier().extend(HASHES[:size]).root() for size in range(7)]
OTHER = b"\x07" * 32


def test_the_empty_tree_has_no_other_root() -> None:
    verify_consistency(0, 0, [], EMPTY_ROOT, EMPTY_ROOT)
    verify_consistency(0, 3, [], EMPTY_ROOT, ROOTS[3])
    for old_root, size, new_root in ((OTHER, 0, EMPTY_ROOT), (EMPTY_ROOT, 0, OTHER), (OTHER, 3, ROOTS[3])):
        with pytest.raises(ProofError, match="empty tree"):
            verify_consistency(0, size, [], old_root, new_root)


@pytest.mark.parametrize(("old", "new"), [(0, 0), (0, 4), (4, 4)])
def test_a_proof_where_none_is_needed_is_refused(old: int, new: int) -> None:
    with pytest.raises(ProofError, match="more hashes"):
        verify_consistency(old, new, [OTHER], ROOTS[old], ROOTS[new])


def test_two_roots_of_one_size_are_a_fork() -> None:
    with pytest.raises(ProofError, match="does not extend"):
        verify_consistency(4, 4, [], ROOTS[4], OTHER)


@pytest.mark.parametrize(("old", "new"), [(4, 3), (-1, 3), (3, 2**63)])
def test_sizes_out_of_order_or_range_are_refused(old: int, new: int) -> None:
    with pytest.raises(ProofError, match="larger"):
        verify_consistency(old, new, [], ROOTS[4], ROOTS[3])
    with pytest.raises(ProofError, match="larger"):
        consistency_proof(HASHES, old, new)


def test_a_missing_proof_is_refused() -> None:
    with pytest.raises(ProofError, match="does not extend"):
        verify_consistency(4, 6, [], ROOTS[4], ROOTS[6])


@pytest.mark.parametrize("hash_bytes", [b"", b"\x00" * 31, b"\x00" * 33])
def test_every_hash_must_have_32_bytes(hash_bytes: bytes) -> None:
    calls = [
        lambda: verify_inclusion(0, 1, hash_bytes, [], hash_bytes),
        lambda: verify_inclusion(0, 2, HASHES[0], [hash_bytes], ROOTS[2]),
        lambda: verify_consistency(0, 0, [], hash_bytes, hash_bytes),
        lambda: verify_consistency(1, 2, [hash_bytes], ROOTS[1], ROOTS[2]),
        lambda: Frontier().append(hash_bytes),
        lambda: Frontier(1, (hash_bytes,)),
    ]
    for call in calls:
        with pytest.raises(ProofError, match="32 bytes"):
            call()


@pytest.mark.parametrize(("index", "size"), [(0, 0), (3, 3), (-1, 3), (0, 2**63)])
def test_an_index_outside_the_tree_is_refused(index: int, size: int) -> None:
    with pytest.raises(ProofError, match="no such leaf"):
        verify_inclusion(index, size, HASHES[0], [], EMPTY_ROOT)
    with pytest.raises(ProofError, match="no such leaf"):
        inclusion_proof(HASHES, index, size)


def test_a_proof_beyond_the_known_leaves_is_refused() -> None:
    with pytest.raises(ProofError, match="fewer leaf hashes"):
        inclusion_proof(HASHES, 0, 7)
    with pytest.raises(ProofError, match="fewer leaf hashes"):
        consistency_proof(HASHES, 3, 7)


@pytest.mark.parametrize(("size", "hashes"), [(3, (OTHER,)), (0, (OTHER,)), (-1, (OTHER,)), (2**63, (OTHER,))])
def test_a_frontier_whose_hashes_do_not_fit_its_size_is_refused(size: int, hashes: tuple[bytes, ...]) -> None:
    with pytest.raises(ProofError, match="do not fit"):
        Frontier(size, hashes)


def test_a_proof_is_not_accepted_for_a_smaller_or_larger_tree_that_it_does_not_reach() -> None:
    leaves = [leaf_hash(bytes([i])) for i in range(8)]
    root = {size: Frontier().extend(leaves[:size]).root() for size in (2, 3, 4, 7, 8)}
    with pytest.raises(ProofError, match="more hashes"):
        verify_inclusion(1, 2, leaves[3], inclusion_proof(leaves, 3, 4), root[4])
    with pytest.raises(ProofError, match="does not lead"):
        verify_inclusion(0, 4, leaves[0], inclusion_proof(leaves, 0, 2), root[2])
    with pytest.raises(ProofError, match="more hashes"):
        verify_consistency(3, 4, consistency_proof(leaves, 7, 8), root[7], root[8])
    with pytest.raises(ProofError, match="does not extend"):
        verify_consistency(3, 8, consistency_proof(leaves, 3, 4), root[3], root[4])
