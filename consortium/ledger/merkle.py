"""The Merkle tree of the log: RFC 6962 section 2.1 and RFC 9162 section 2.1, with SHA-256.

Hashes are 32 bytes. The root of the empty tree is the SHA-256 of no bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from consortium.errors import ProofError

HASH_BYTES = 32
SIZE_MAX = 2**63 - 1
EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf (RFC 9162 section 2.1.1)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node (RFC 9162 section 2.1.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_hash(leaves: Iterable[bytes]) -> bytes:
    """The Merkle tree hash of leaf data, which is hashed here."""
    return Frontier().extend(leaf_hash(leaf) for leaf in leaves).root()


@dataclass(frozen=True)
class Frontier:
    """The right edge of a tree: all that is needed to append to it and to know its root.

    Attributes:
        size: number of leaves.
        hashes: roots of the perfect subtrees that `size` splits into, the largest (leftmost) first; one for each
            bit set in `size`.

    Raises:
        ProofError: the number of hashes does not fit the size, or one is not 32 bytes.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.size <= SIZE_MAX or len(self.hashes) != self.size.bit_count():
            raise ProofError("The frontier's hashes do not fit its size.", where="frontier")
        _check_hashes(self.hashes, "frontier")

    def append(self, leaf: bytes) -> Frontier:
        """The frontier after one more leaf hash; in O(log size)."""
        return self.extend((leaf,))

    def extend(self, leaves: Iterable[bytes]) -> Frontier:
        """The frontier after more leaf hashes; amortised O(1) for each.

        Raises:
            ProofError: a leaf hash is not 32 bytes.
        """
        size, stack = self.size, list(self.hashes)
        sha256 = hashlib.sha256
        for leaf in leaves:
            if len(leaf) != HASH_BYTES:
                raise _wrong_length("leaf hash")
            merged, height = leaf, size
            while height & 1:
                merged = sha256(b"\x01" + stack.pop() + merged).digest()
                height >>= 1
            stack.append(merged)
            size += 1
        return Frontier(size, tuple(stack))

    def root(self) -> bytes:
        """The Merkle tree hash at this size."""
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            root = node_hash(left, root)
        return root


def inclusion_ranges(index: int, size: int) -> list[tuple[int, int]]:
    """The leaf ranges `[start, end)` whose subtree roots are PATH(index, D[size]) (RFC 9162 section 2.1.3.1), in order.

    Raises:
        ProofError: no such leaf in a tree of that size.
    """
    if not 0 <= index < size <= SIZE_MAX:
        raise ProofError("The tree of this size has no such leaf.", where="index")
    start, end = 0, size
    ranges: list[tuple[int, int]] = []
    while end - start > 1:
        split = start + _split(end - start)
        if index < split:
            ranges.append((split, end))
            end = split
        else:
            ranges.append((start, split))
            start = split
    return ranges[::-1]


def consistency_ranges(old_size: int, new_size: int) -> list[tuple[int, int]]:
    """The leaf ranges `[start, end)` whose subtree roots are PROOF(old, D[new]) (RFC 9162 section 2.1.4.1), in order.

    Raises:
        ProofError: the old tree is larger than the new one.
    """
    if not 0 <= old_size <= new_size <= SIZE_MAX:
        raise ProofError("The old tree is larger than the new one.", where="sizes")
    if old_size in {0, new_size}:
        return []
    start, end = 0, new_size
    ranges: list[tuple[int, int]] = []
    while end != old_size:
        split = start + _split(end - start)
        if old_size <= split:
            ranges.append((split, end))
            end = split
        else:
            ranges.append((start, split))
            start = split
    if start:
        ranges.append((start, end))
    return ranges[::-1]


def inclusion_proof(leaf_hashes: Sequence[bytes], index: int, size: int) -> list[bytes]:
    """The proof that the leaf at `index` is in the tree of the first `size` leaves.

    Raises:
        ProofError: no such leaf, or fewer than `size` leaf hashes given.
    """
    return _subtree_roots(leaf_hashes, size, inclusion_ranges(index, size))


def consistency_proof(leaf_hashes: Sequence[bytes], old_size: int, new_size: int) -> list[bytes]:
    """The proof that the tree of the first `old_size` leaves is a prefix of that of the first `new_size`.

    Raises:
        ProofError: the sizes are in the wrong order, or fewer than `new_size` leaf hashes given.
    """
    return _subtree_roots(leaf_hashes, new_size, consistency_ranges(old_size, new_size))


def verify_inclusion(index: int, size: int, leaf_hash: bytes, proof: Sequence[bytes], root: bytes) -> None:
    """Checks that the leaf hash stands at `index` in the tree of this size and root (RFC 9162 section 2.1.3.2).

    Raises:
        ProofError: it does not prove that.
    """
    _check_hashes((leaf_hash, root, *proof), "inclusion proof")
    if not 0 <= index < size <= SIZE_MAX:
        raise ProofError("The tree of this size has no such leaf.", where="index")
    position, last, computed = index, size - 1, leaf_hash
    for sibling in proof:
        if last == 0:
            raise _surplus("inclusion proof")
        if position & 1 or position == last:
            computed = node_hash(sibling, computed)
            position, last = _skip_missing_siblings(position, last)
        else:
            computed = node_hash(computed, sibling)
        position, last = position >> 1, last >> 1
    if last != 0 or computed != root:
        raise ProofError(
            "The proof does not lead from this leaf to this root.",
            where="inclusion proof",
            mend="Fetch the proof for this index and tree size again; if it stays wrong, the log is not to be trusted.",
        )


def verify_consistency(old_size: int, new_size: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """Checks that the new tree is the old one with leaves appended (RFC 9162 section 2.1.4.2).

    A tree of size 0 has the root SHA-256 of no bytes and needs an empty proof, as do two trees of one size.

    Raises:
        ProofError: it does not prove that.
    """
    _check_hashes((old_root, new_root, *proof), "consistency proof")
    if not 0 <= old_size <= new_size <= SIZE_MAX:
        raise ProofError("The old tree is larger than the new one.", where="sizes")
    for size, root in ((old_size, old_root), (new_size, new_root)):
        if size == 0 and root != EMPTY_ROOT:
            raise ProofError("The empty tree has another root.", where="root")
    if old_size in {0, new_size}:
        if proof:
            raise _surplus("consistency proof")
        if old_size == new_size and old_root != new_root:
            raise _inconsistent()
        return
    if _fold_consistency(old_size, new_size, proof, old_root) != (old_root, new_root):
        raise _inconsistent()


def _fold_consistency(
    old_size: int, new_size: int, proof: Sequence[bytes], old_root: bytes
) -> tuple[bytes, bytes] | None:
    """The two roots that the proof leads to, or None if it is too short."""
    is_perfect = old_size & (old_size - 1) == 0
    path = [old_root, *proof] if is_perfect else list(proof)
    if not proof:
        return None
    position, last = old_size - 1, new_size - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise _surplus("consistency proof")
        if position & 1 or position == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            position, last = _skip_missing_siblings(position, last)
        else:
            new = node_hash(new, sibling)
        position, last = position >> 1, last >> 1
    return (old, new) if last == 0 else None


def _skip_missing_siblings(position: int, last: int) -> tuple[int, int]:
    """Climbs the levels at which the rightmost node has no sibling."""
    while position and not position & 1:
        position, last = position >> 1, last >> 1
    return position, last


def _split(size: int) -> int:
    """The largest power of two smaller than `size`."""
    return 1 << ((size - 1).bit_length() - 1)


def _subtree_roots(leaf_hashes: Sequence[bytes], size: int, ranges: list[tuple[int, int]]) -> list[bytes]:
    if len(leaf_hashes) < size:
        raise ProofError("There are fewer leaf hashes than the tree has leaves.", where="leaf hashes")
    return [Frontier().extend(leaf_hashes[start:end]).root() for start, end in ranges]


def _check_hashes(hashes: Iterable[bytes], where: str) -> None:
    if any(len(item) != HASH_BYTES for item in hashes):
        raise _wrong_length(where)


def _wrong_length(where: str) -> ProofError:
    return ProofError("A SHA-256 hash has 32 bytes.", where=where)


def _surplus(where: str) -> ProofError:
    return ProofError("The proof has more hashes than the tree has levels.", where=where)


def _inconsistent() -> ProofError:
    return ProofError(
        "The new tree does not extend the old one.",
        where="consistency proof",
        mend="Keep both checkpoints: if they are signed by one log, they are evidence that it forked.",
    )
