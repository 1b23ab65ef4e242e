"""A growing RFC 6962 tree that keeps the hashes of its complete subtrees, so that any root or proof is a few hashes."""

from __future__ import annotations

from hashlib import sha256

from consortium.errors import ProofError
from consortium.ledger.merkle import EMPTY_ROOT, HASH_BYTES, consistency_ranges, inclusion_ranges, node_hash

_KNOWN_ROOTS_MAX = 1024  # many entries state the same head


class Tree:
    """Appends cost one hash on average; memory is 64 bytes a leaf.

    `levels[k]` holds, one after another, the roots of the complete subtrees of 2**k leaves.
    """

    def __init__(self) -> None:
        self._levels: list[bytearray] = [bytearray()]
        self._size = 0
        self._known_roots: dict[int, bytes] = {}

    @property
    def size(self) -> int:
        """The number of leaves."""
        return self._size

    def append(self, leaf_hash: bytes) -> None:
        """Adds the hash of the next leaf (32 bytes)."""
        assert len(leaf_hash) == HASH_BYTES
        self._size = index = self._size + 1
        levels, level = self._levels, 0
        levels[0] += leaf_hash
        while not index & 1:  # the subtree of 2**(level + 1) leaves is complete
            pair = levels[level][-2 * HASH_BYTES :]
            index, level = index >> 1, level + 1
            if level == len(levels):
                levels.append(bytearray())
            levels[level] += sha256(b"\x01" + pair).digest()

    def leaf(self, index: int) -> bytes:
        """The hash of a leaf."""
        assert 0 <= index < self._size
        return self._node(0, index)

    def root(self, size: int | None = None) -> bytes:
        """The root of the first `size` leaves, all of them if None.

        Raises:
            ProofError: the tree has fewer leaves.
        """
        end = self._size if size is None else size
        known = self._known_roots.get(end)
        if known is None:
            known = self._range(0, self._within(end))
            if len(self._known_roots) >= _KNOWN_ROOTS_MAX:
                self._known_roots.clear()
            self._known_roots[end] = known
        return known

    def leaves(self) -> bytes:
        """All leaf hashes, one after another."""
        return bytes(self._levels[0])

    def inclusion_proof(self, index: int, size: int) -> list[bytes]:
        """RFC 9162, 2.1.3.1.

        Raises:
            ProofError: no such leaf in a tree of that size.
        """
        return [self._range(start, end) for start, end in inclusion_ranges(index, self._within(size))]

    def consistency_proof(self, old_size: int, new_size: int) -> list[bytes]:
        """RFC 9162, 2.1.4.1.

        Raises:
            ProofError: the sizes are not in order, or beyond the tree.
        """
        return [self._range(start, end) for start, end in consistency_ranges(old_size, self._within(new_size))]

    def _within(self, size: int) -> int:
        if not 0 <= size <= self._size:
            raise ProofError("The tree has fewer leaves.", where=f"size {size}")
        return size

    def _node(self, level: int, index: int) -> bytes:
        return bytes(self._levels[level][index * HASH_BYTES : (index + 1) * HASH_BYTES])

    def _range(self, start: int, end: int) -> bytes:
        """The root of leaves `start` to `end - 1`, whose `start` is a multiple of the subtree's width."""
        if start == end:
            return EMPTY_ROOT
        parts: list[bytes] = []
        while start < end:  # complete subtrees of falling size, from left to right
            level = (end - start).bit_length() - 1
            parts.append(self._node(level, start >> level))
            start += 1 << level
        root = parts.pop()
        while parts:
            root = node_hash(parts.pop(), root)
        return root
