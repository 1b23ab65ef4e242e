"""Proofs made of hash tiles are those of the tree, and read few tiles."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consortium.errors import ProofError
from consortium.ledger.merkle import leaf_hash, verify_inclusion
from consortium.ledger.tiles import TileProver, hash_tiles, tile_path
from consortium.ledger.tree import Tree

LEAVES = [leaf_hash(number.to_bytes(4, "big")) for number in range(66_000)]
TREE = Tree()
for _leaf in LEAVES:
    TREE.append(_leaf)


def prover(size: int, read: list[str] | None = None) -> TileProver:
    tiles = dict(hash_tiles(LEAVES, size))

    def read_tile(level: int, index: int, width: int) -> bytes:
        path = tile_path(str(level), index, width)
        if read is not None:
            read.append(path)
        return tiles[path]

    return TileProver(read_tile, size)


@pytest.fixture(scope="module")
def large() -> TileProver:
    return prover(len(LEAVES))


@given(st.data())
def test_every_proof_and_root_is_that_of_the_tree(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 2_000))
    tiles = prover(size)
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size))
    assert tiles.root() == TREE.root(size)
    assert tiles.root(old) == TREE.root(old)
    assert tiles.inclusion_proof(index) == TREE.inclusion_proof(index, size)
    assert tiles.consistency_proof(old, size) == TREE.consistency_proof(old, size)


@given(index=st.integers(0, len(LEAVES) - 1))
def test_proofs_over_three_levels_of_tiles_verify(large: TileProver, index: int) -> None:
    verify_inclusion(index, len(LEAVES), LEAVES[index], large.inclusion_proof(index), TREE.root())


def test_a_proof_reads_few_tiles_and_takes_little_time() -> None:
    read: list[str] = []
    tiles = prover(len(LEAVES), read)
    begun = time.process_time()
    tiles.inclusion_proof(40_000)
    assert time.process_time() - begun < 0.05
    assert len(read) == len(set(read)) <= 5


def test_a_tile_of_another_width_and_a_larger_tree_are_refused() -> None:
    short = TileProver(lambda _level, _index, width: bytes(32 * (width - 1)), 300)
    with pytest.raises(ProofError, match="another width"):
        short.inclusion_proof(5)
    for size in (-1, 301):
        with pytest.raises(ProofError, match="smaller tree"):
            prover(300).root(size)
    with pytest.raises(ProofError):
        prover(300).inclusion_proof(300)
    assert prover(0).root() == TREE.root(0)
