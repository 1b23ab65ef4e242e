"""The log as files: C2SP tlog-tiles (c2sp.org/tlog-tiles), entry bundles and hash tiles, as pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from consortium.errors import EncodingError, LimitError, ProofError
from consortium.ledger.merkle import (
    EMPTY_ROOT,
    HASH_BYTES,
    SIZE_MAX,
    Frontier,
    consistency_ranges,
    inclusion_ranges,
    node_hash,
)

TILE_WIDTH = 256
ENTRY_BYTES_MAX = 65_535
_LENGTH_BYTES = 2
_TILE_HEIGHT = 8
_TILES_KEPT = 64

ReadTile = Callable[[int, int, int], bytes]  # level, index, width -> hashes one after another


@dataclass(frozen=True)
class Tile:
    """Where a tile stands: its path below the log's prefix, and the leaves or hashes `start` to `start + width - 1`."""

    path: str
    start: int
    width: int


def tile_path(level: str, index: int, width: int) -> str:
    """The path of a tile or bundle below the log's prefix; `level` is a decimal number or "entries".

    The index is written in groups of three digits, all but the last behind an `x`; partial tiles add their width.
    """
    path = f"{index % 1000:03d}"
    while index := index // 1000:
        path = f"x{index % 1000:03d}/{path}"
    return f"tile/{level}/{path}" + ("" if width == TILE_WIDTH else f".p/{width}")


def entry_tile_paths(size: int) -> Iterator[Tile]:
    """The entry bundles of a log with this number of entries, in order; none for an empty log.

    Raises:
        ProofError: not a tree size.
    """
    return _tiles("entries", _checked_size(size))


def hash_tiles(leaf_hashes: Sequence[bytes], size: int) -> Iterator[tuple[str, bytes]]:
    """The (path, bytes) pairs of all hash tiles of the tree of the first `size` leaves, level by level.

    Raises:
        ProofError: fewer than `size` leaf hashes, or one that is not 32 bytes.
    """
    if len(leaf_hashes) < _checked_size(size):
        raise ProofError("There are fewer leaf hashes than the tree has leaves.", where="leaf hashes")
    hashes: Sequence[bytes] = leaf_hashes[:size]
    level = 0
    while hashes:
        above: list[bytes] = []
        for tile in _tiles(str(level), len(hashes)):
            content = hashes[tile.start : tile.start + tile.width]
            root = Frontier().extend(content).root()
            if tile.width == TILE_WIDTH:
                above.append(root)
            yield tile.path, b"".join(content)
        hashes, level = above, level + 1


class TileProver:
    """Proofs from hash tiles: any proof in a tree of a million leaves reads at most five or six tiles.

    What the tiles say is not verified here: a proof made of wrong tiles does not verify.

    Args:
        read_tile: the bytes of the hash tile of a level and index that has (or of which are wanted) `width` hashes.
        size: number of leaves of the tree.

    Raises:
        ProofError: not a tree size.
    """

    def __init__(self, read_tile: ReadTile, size: int) -> None:
        self._read_tile = read_tile
        self._size = _checked_size(size)
        self._tiles: dict[tuple[int, int], bytes] = {}

    def root(self, size: int | None = None) -> bytes:
        """The root of the first `size` leaves, all if None.

        Raises:
            ProofError: the tree is smaller, or a tile has another width than the tree's size gives it.
        """
        end = self._within(self._size if size is None else size)
        return self._range(0, end) if end else EMPTY_ROOT

    def inclusion_proof(self, index: int, size: int | None = None) -> list[bytes]:
        """The proof for one leaf in the tree of the first `size` leaves, all if None.

        Raises:
            ProofError: no such leaf, the tree is smaller, or a tile has another width than the tree's size gives it.
        """
        within = self._within(self._size if size is None else size)
        return [self._range(start, end) for start, end in inclusion_ranges(index, within)]

    def consistency_proof(self, old_size: int, new_size: int) -> list[bytes]:
        """The proof that the first `old_size` leaves are a prefix of the first `new_size`.

        Raises:
            ProofError: the sizes are not in order, the tree is smaller, or a tile has a wrong width.
        """
        return [self._range(start, end) for start, end in consistency_ranges(old_size, self._within(new_size))]

    def _within(self, size: int) -> int:
        if not 0 <= size <= self._size:
            raise ProofError("The tiles are of a smaller tree.", where="size")
        return size

    def _range(self, start: int, end: int) -> bytes:
        roots: list[bytes] = []
        while start < end:  # perfect subtrees of falling size, from left to right
            height = (end - start).bit_length() - 1
            roots.append(self._node(height, start >> height))
            start += 1 << height
        root = roots.pop()
        while roots:
            root = node_hash(roots.pop(), root)
        return root

    def _node(self, height: int, index: int) -> bytes:
        """The root of a perfect subtree, from the hashes of one tile."""
        level, inner = divmod(height, _TILE_HEIGHT)
        number, offset = divmod(index << inner, TILE_WIDTH)
        row = self._tile(level, number)[offset * HASH_BYTES : (offset + (1 << inner)) * HASH_BYTES]
        while len(row) > HASH_BYTES:
            pairs = range(0, len(row), 2 * HASH_BYTES)
            row = b"".join([sha256(b"\x01" + row[at : at + 2 * HASH_BYTES]).digest() for at in pairs])
        return row

    def _tile(self, level: int, number: int) -> bytes:
        known = self._tiles.get((level, number))
        if known is not None:
            return known
        width = min(TILE_WIDTH, (self._size >> (_TILE_HEIGHT * level)) - number * TILE_WIDTH)
        tile = self._read_tile(level, number, width)
        if len(tile) != width * HASH_BYTES:
            raise ProofError("A hash tile has another width than the tree's size gives it.", where="tile")
        if len(self._tiles) >= _TILES_KEPT:
            self._tiles.clear()
        self._tiles[level, number] = tile
        return tile


def encode_bundle(frames: Sequence[bytes]) -> bytes:
    """An entry bundle: each entry behind its length as an unsigned 16-bit big-endian number.

    Raises:
        LimitError: more than 256 entries, or one of more than 65,535 bytes.
    """
    if len(frames) > TILE_WIDTH or any(len(frame) > ENTRY_BYTES_MAX for frame in frames):
        raise LimitError(
            f"A bundle takes {TILE_WIDTH} entries of {ENTRY_BYTES_MAX} bytes.",
            where="entry bundle",
            mend="Send larger texts off the ledger and refer to them by SHA-256.",
        )
    return b"".join(len(frame).to_bytes(_LENGTH_BYTES, "big") + frame for frame in frames)


def decode_bundle(data: bytes, count: int) -> list[bytes]:
    """The entries in a bundle.

    Raises:
        EncodingError: not exactly `count` whole entries.
    """
    frames: list[bytes] = []
    end, position = len(data), 0
    while position <= end - _LENGTH_BYTES and len(frames) < count:
        start = position + _LENGTH_BYTES
        position = start + (data[position] << 8 | data[position + 1])
        frames.append(data[start:position])
    if position != end or len(frames) != count:
        raise _bad_bundle()
    return frames


def _tiles(level: str, count: int) -> Iterator[Tile]:
    for start in range(0, count, TILE_WIDTH):
        width = min(TILE_WIDTH, count - start)
        yield Tile(tile_path(level, start // TILE_WIDTH, width), start, width)


def _checked_size(size: int) -> int:
    if not 0 <= size <= SIZE_MAX:
        raise ProofError("The number is not a tree size.", where="size")
    return size


def _bad_bundle() -> EncodingError:
    return EncodingError("The entry bundle does not hold the number of whole entries that its path says.", where="tile")
