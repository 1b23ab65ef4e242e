"""The log as C2SP tlog-tiles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consortium.errors import EncodingError, LimitError, ProofError
from consortium.ledger.merkle import leaf_hash, root_hash
from consortium.ledger.tiles import (
    ENTRY_BYTES_MAX,
    TILE_WIDTH,
    decode_bundle,
    encode_bundle,
    entry_tile_paths,
    hash_tiles,
    tile_path,
)


def test_the_paths_of_a_tree_of_70000_are_those_of_the_specification() -> None:
    hashes = [leaf_hash(i.to_bytes(4, "big")) for i in range(70_000)]
    tiles = dict(hash_tiles(hashes, len(hashes)))
    assert len(tiles) == 273 + 1 + 1 + 1 + 1
    widths = {
        path: len(content) // 32 for path, content in tiles.items() if ".p/" in path or path.startswith("tile/1/")
    }
    assert widths == {"tile/0/273.p/112": 112, "tile/1/000": 256, "tile/1/001.p/17": 17, "tile/2/000.p/1": 1}
    assert tiles["tile/0/272"] == b"".join(hashes[272 * 256 : 273 * 256])
    assert tiles["tile/1/000"][32:64] == root_hash([i.to_bytes(4, "big") for i in range(256, 512)])
    assert tiles["tile/2/000.p/1"] == root_hash([i.to_bytes(4, "big") for i in range(65_536)])


def test_a_tree_of_256_has_a_full_tile_and_a_partial_one_of_width_1_above() -> None:
    tiles = dict(hash_tiles([leaf_hash(b"")] * 256, 256))
    assert {path: len(content) for path, content in tiles.items()} == {"tile/0/000": 8192, "tile/1/000.p/1": 32}


def test_an_empty_log_has_no_tiles() -> None:
    assert list(entry_tile_paths(0)) == []
    assert list(hash_tiles([], 0)) == []


def test_a_tile_index_is_written_in_groups_of_three_digits() -> None:
    assert tile_path("entries", 1_234_067, 256) == "tile/entries/x001/x234/067"
    assert tile_path("0", 7, 5) == "tile/0/007.p/5"


def test_the_entry_bundles_cover_the_log_without_gap() -> None:
    size = 1_002 * TILE_WIDTH + 5
    tiles = list(entry_tile_paths(size))
    assert [tile.start for tile in tiles] == list(range(0, size, TILE_WIDTH))
    assert sum(tile.width for tile in tiles) == size
    assert [tile.path for tile in tiles[-2:]] == ["tile/entries/x001/001", "tile/entries/x001/002.p/5"]


def test_tiles_cover_only_the_first_leaves_of_a_longer_log() -> None:
    hashes = [leaf_hash(bytes([i])) for i in range(10)]
    assert list(hash_tiles(hashes, 7)) == list(hash_tiles(hashes[:7], 7))


@pytest.mark.parametrize("size", [-1, 4, 2**63])
def test_a_size_beyond_the_leaves_is_refused(size: int) -> None:
    with pytest.raises(ProofError):
        list(hash_tiles([leaf_hash(b"")] * 3, size))
    if size != 4:
        with pytest.raises(ProofError):
            list(entry_tile_paths(size))


@given(st.lists(st.binary(max_size=300), max_size=TILE_WIDTH))
def test_a_bundle_holds_its_entries(frames: list[bytes]) -> None:
    assert decode_bundle(encode_bundle(frames), len(frames)) == frames


@given(st.binary(max_size=40), st.integers(0, 5))
def test_any_bytes_are_one_bundle_or_refused(data: bytes, count: int) -> None:
    try:
        frames = decode_bundle(data, count)
    except EncodingError:
        return
    assert len(frames) == count
    assert encode_bundle(frames) == data


def test_the_largest_entry_fits_and_one_byte_more_does_not() -> None:
    largest = bytes(ENTRY_BYTES_MAX)
    assert decode_bundle(encode_bundle([largest]), 1) == [largest]
    with pytest.raises(LimitError):
        encode_bundle([largest + b"\x00"])
    with pytest.raises(LimitError):
        encode_bundle([b""] * (TILE_WIDTH + 1))


@pytest.mark.parametrize(("data", "count"), [(b"\x00", 1), (b"\x00\x02a", 1), (b"\x00\x00", 0), (b"", 1)])
def test_a_truncated_or_surplus_bundle_is_refused(data: bytes, count: int) -> None:
    with pytest.raises(EncodingError):
        decode_bundle(data, count)
