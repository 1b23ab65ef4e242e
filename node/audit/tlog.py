"""Any C2SP tlog-tiles folder, ours or foreign: read, verified whole, and proofs made of its tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from consortium.audit import Finding
from consortium.errors import ConfigError, EncodingError, ProofError
from consortium.ledger.checkpoint import (
    NOTE_BYTES_MAX,
    Checkpoint,
    NoteKey,
    open_checkpoint,
    parse_checkpoint,
    parse_note,
)
from consortium.ledger.merkle import HASH_BYTES, Frontier, leaf_hash
from consortium.ledger.proof import EntryProof
from consortium.ledger.tiles import TILE_WIDTH, Tile, TileProver, decode_bundle, entry_tile_paths, hash_tiles, tile_path
from node.export import BUNDLE_BYTES_MAX, SIZE_MAX, read_file

TILE_BYTES = TILE_WIDTH * HASH_BYTES
FINDINGS_MAX = 20  # a wholly foreign tree would make one for each tile

Progress = Callable[[int], None]


@dataclass(frozen=True)
class TlogFolder:
    """A tlog-tiles log as files. A partial tile may be replaced by the full one, as the specification allows."""

    path: Path

    def note(self) -> bytes:
        """The checkpoint's signed note.

        Raises:
            ConfigError: it is missing or too large.
        """
        return read_file(self.path / "checkpoint", NOTE_BYTES_MAX)

    def hash_tile(self, level: int, index: int, width: int) -> bytes:
        """The first `width` hashes of a hash tile.

        Raises:
            ConfigError: it is missing or too large.
        """
        data = read_file(self._find(tile_path(str(level), index, width), str(level), index), TILE_BYTES)
        return data[: width * HASH_BYTES]

    def bundle(self, tile: Tile) -> list[bytes]:
        """The entries of a bundle.

        Raises:
            ConfigError: it is missing or too large.
            EncodingError: it does not hold whole entries.
        """
        path = self._find(tile.path, "entries", tile.start // TILE_WIDTH)
        is_grown = path != self.path / tile.path
        try:
            return decode_bundle(read_file(path, BUNDLE_BYTES_MAX), TILE_WIDTH if is_grown else tile.width)[
                : tile.width
            ]
        except EncodingError as error:
            raise EncodingError(error.what, where=str(path)) from error

    def _find(self, wanted: str, level: str, index: int) -> Path:
        path, full = self.path / wanted, self.path / tile_path(level, index, TILE_WIDTH)
        return full if not path.exists() and full.exists() else path


@dataclass(frozen=True)
class TlogReport:
    """What a verified folder holds.

    Attributes:
        checkpoint: signed by the log.
        data_bytes: of all entries.
        signatures: number of signature lines on the checkpoint, the log's own among them.
        findings: what is wrong; empty if the log is sound.
    """

    checkpoint: Checkpoint
    data_bytes: int
    signatures: int
    findings: tuple[Finding, ...]


def verify_tlog(folder: TlogFolder, key: NoteKey, origin: str, progress: Progress = lambda _done: None) -> TlogReport:
    """Verifies a whole log: its checkpoint, every entry against the root, and every hash tile against the entries.

    Args:
        origin: the checkpoint's first line.
        progress: told how many entries were hashed.

    Raises:
        CheckpointError: the checkpoint is malformed or not signed by the key.
        ConfigError, EncodingError: the checkpoint cannot be read, or states an impossible size.
    """
    note = folder.note()
    checkpoint = open_checkpoint(note, [key])
    if checkpoint.size > SIZE_MAX:
        raise EncodingError("The checkpoint states an impossible size.", where="checkpoint")
    findings: list[Finding] = []
    if checkpoint.origin != origin:
        findings.append(Finding("other-origin", None, "The checkpoint is of a log of another origin."))
    leaves: list[bytes] = []
    data_bytes = 0
    try:
        for entry in _entries(folder, checkpoint.size, progress):
            leaves.append(leaf_hash(entry))
            data_bytes += len(entry)
    except (ConfigError, EncodingError) as error:
        findings.append(Finding("bad-bundle", len(leaves), str(error)))
    else:
        if Frontier().extend(leaves).root() != checkpoint.root:
            findings.append(Finding("other-root", None, "The entries do not hash to the root that the log signed."))
        findings += _compare_tiles(folder, leaves)
    return TlogReport(checkpoint, data_bytes, len(parse_note(note).signatures), tuple(findings[:FINDINGS_MAX]))


def prove_entry(folder: TlogFolder, index: int) -> EntryProof:
    """The proof of one entry of a folder, with the entry in it; reads one bundle and a few tiles.

    Raises:
        ProofError: the log has no such entry, or the folder's tiles do not prove it.
        ConfigError, CheckpointError, EncodingError: a file is missing or malformed.
    """
    note = folder.note()
    checkpoint = parse_checkpoint(parse_note(note).text)
    if not 0 <= index < checkpoint.size <= SIZE_MAX:
        raise ProofError("The log has no entry of this index.", where=f"index {index}, size {checkpoint.size}")
    start = index // TILE_WIDTH * TILE_WIDTH
    width = min(TILE_WIDTH, checkpoint.size - start)
    entry = folder.bundle(Tile(tile_path("entries", start // TILE_WIDTH, width), start, width))[index - start]
    hashes = TileProver(folder.hash_tile, checkpoint.size).inclusion_proof(index)
    return EntryProof(index, tuple(hashes), note, entry)


def _entries(folder: TlogFolder, size: int, progress: Progress) -> Iterator[bytes]:
    for tile in entry_tile_paths(size):
        yield from folder.bundle(tile)
        progress(tile.start + tile.width)


def _compare_tiles(folder: TlogFolder, leaves: list[bytes]) -> Iterable[Finding]:
    for path, expected in hash_tiles(leaves, len(leaves)):
        width = len(expected) // HASH_BYTES
        full = path.removesuffix(f".p/{width}")
        name = path if (folder.path / path).exists() else full
        try:
            found = read_file(folder.path / name, TILE_BYTES)
        except ConfigError as error:
            yield Finding("bad-tile", None, str(error))
            continue
        if found[: len(expected)] != expected or (name == path and len(found) != len(expected)):
            yield Finding("bad-tile", None, f"The hash tile {name} does not follow from the entries.")
