"""Exports of the ledger as files: C2SP tlog-tiles entry bundles, the checkpoint, and the transcripts of the sums."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from consortium.audit import Export
from consortium.encoding import sha256
from consortium.errors import ConfigError, EncodingError
from consortium.ledger.checkpoint import NOTE_BYTES_MAX, parse_checkpoint, parse_note
from consortium.ledger.merkle import leaf_hash
from consortium.ledger.tiles import decode_bundle, encode_bundle, entry_tile_paths, hash_tiles

BUNDLE_BYTES_MAX = 256 * 65_537
TRANSCRIPT_BYTES_MAX = 512 << 20
SIZE_MAX = 100_000_000


def write_export(folder: Path, export: Export) -> None:
    """Writes an export into a new or empty folder.

    Raises:
        ConfigError: the folder holds something, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigError("The folder is not empty.", where=str(folder), mend="Name a new folder.")
        for tile in entry_tile_paths(len(export.frames)):
            _write(folder / tile.path, encode_bundle(export.frames[tile.start : tile.start + tile.width]))
        leaves = [leaf_hash(frame) for frame in export.frames]
        for path, hashes in hash_tiles(leaves, len(leaves)):
            _write(folder / path, hashes)
        for digest, transcript in export.transcripts.items():
            _write(folder / "transcripts" / digest, transcript)
        _write(folder / "checkpoint", export.checkpoint)
    except OSError as error:
        raise ConfigError(
            "The export cannot be written.", where=str(folder), mend="Name a folder that you may write to."
        ) from error


def read_export(folder: Path) -> Export:
    """Reads an export; what the files say is verified by the audit, not here.

    Raises:
        ConfigError: a file is missing or larger than its limit.
        CheckpointError, EncodingError: the checkpoint or a bundle is not of its format.
    """
    note = _read(folder / "checkpoint", NOTE_BYTES_MAX)
    size = parse_checkpoint(parse_note(note).text).size
    if size > SIZE_MAX:
        raise EncodingError("The checkpoint states an impossible size.", where=str(folder / "checkpoint"))
    frames: list[bytes] = []
    for tile in entry_tile_paths(size):
        path = folder / tile.path
        try:
            frames += decode_bundle(_read(path, BUNDLE_BYTES_MAX), tile.width)
        except EncodingError as error:
            raise EncodingError(error.what, where=str(path), mend="Ask for a whole export.") from error
    return Export(note, frames, _read_transcripts(folder / "transcripts"))


def write_checkpoint(path: Path, note: bytes) -> None:
    """Writes a checkpoint note in one step.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as draft:
            draft.write(note)
            draft.flush()
            os.fsync(draft.fileno())
        Path(draft.name).replace(path)
    except OSError as error:
        raise ConfigError(
            "The checkpoint cannot be written.", where=str(path), mend="Name a file in a folder that exists."
        ) from error


def _read_transcripts(folder: Path) -> dict[str, bytes]:
    if not folder.is_dir():
        return {}
    found = {path.name: _read(path, TRANSCRIPT_BYTES_MAX) for path in sorted(folder.iterdir())}
    return {name: data for name, data in found.items() if sha256(data).hex() == name}


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _read(path: Path, bytes_max: int) -> bytes:
    try:
        if path.stat().st_size > bytes_max:
            raise ConfigError(f"The file is larger than {bytes_max} bytes.", where=str(path))
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            "A file of the export cannot be read.", where=str(path), mend="Ask for a whole export."
        ) from error
