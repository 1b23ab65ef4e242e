"""The log as files: C2SP tlog-tiles (c2sp.org/tlog-tiles), entry bundles and hash tiles, as pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from consortium.errors import EncodingError, LimitError, ProofError
from consortium.ledger.merkle import SIZE_MAX, Frontier

TILE_WIDTH = 256
ENTRY_BYTES_MAX = 65_535
_LENGTH_BYTES = 2


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
    position = 0
    while position < len(data):
        start = position + _LENGTH_BYTES
        position = start + int.from_bytes(data[position:start], "big")
        if start > len(data) or position > len(data) or len(frames) == count:
            raise _bad_bundle()
        frames.append(data[start:position])
    if len(frames) != count:
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
