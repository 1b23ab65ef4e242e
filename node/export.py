"""Exports of the ledger as files: a C2SP tlog-tiles log (checkpoint, entry bundles, hash tiles) and the transcripts."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from consortium.audit import Export
from consortium.encoding import sha256
from consortium.errors import ConfigError, EncodingError
from consortium.ledger.checkpoint import NOTE_BYTES_MAX, parse_checkpoint, parse_note
from consortium.ledger.merkle import leaf_hash
from consortium.ledger.tiles import TILE_WIDTH, decode_bundle, encode_bundle, entry_tile_paths, hash_tiles

BUNDLE_BYTES_MAX = 256 * 65_537
TRANSCRIPT_BYTES_MAX = 512 << 20
CONTACT_BYTES_MAX = 4_096
SIZE_MAX = 100_000_000
_MEND_EXPORT = "Ask for a whole export."


class BundledFrames(Sequence[bytes]):
    """The entries in the bundles of a tlog-tiles folder, read when asked for: a million need no more memory than 256.

    Raises, whenever an entry is read:
        ConfigError: a bundle is missing or larger than its limit.
        EncodingError: a bundle does not hold whole entries.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self._tiles = list(entry_tile_paths(size))
        self._size = size
        self._open: tuple[int, list[bytes]] = (-1, [])

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...

    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(index, slice):
            return tuple(self[each] for each in range(*index.indices(self._size)))
        wanted = index if index >= 0 else index + self._size
        if not 0 <= wanted < self._size:
            raise IndexError(index)
        number, offset = divmod(wanted, TILE_WIDTH)
        if self._open[0] != number:
            self._open = (number, self.bundle(number)[1])
        return self._open[1][offset]

    def __iter__(self) -> Iterator[bytes]:
        for number in range(self.bundles):
            yield from self.bundle(number)[1]

    @property
    def bundles(self) -> int:
        """The number of bundles."""
        return len(self._tiles)

    def path(self, number: int) -> Path:
        """The file of a bundle."""
        return self._folder / self._tiles[number].path

    def bundle(self, number: int) -> tuple[bytes, list[bytes]]:
        """The bytes of a bundle, and the entries in it."""
        path = self.path(number)
        data = read_file(path, BUNDLE_BYTES_MAX)
        try:
            return data, decode_bundle(data, self._tiles[number].width)
        except EncodingError as error:
            raise EncodingError(error.what, where=str(path), mend=_MEND_EXPORT) from error


@dataclass(frozen=True)
class FolderExport(Export):
    """An export whose entries are read from its folder when asked for."""

    frames: BundledFrames


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
        for digest, record in export.contacts.items():
            _write(folder / "contacts" / digest, record)
        _write(folder / "checkpoint", export.checkpoint)
    except OSError as error:
        raise ConfigError(
            "The export cannot be written.", where=str(folder), mend="Name a folder that you may write to."
        ) from error


def read_export(folder: Path) -> FolderExport:
    """Reads an export; what the files say is verified by the audit, not here. Entries are read when asked for.

    Raises:
        ConfigError: a file is missing or larger than its limit.
        CheckpointError, EncodingError: the checkpoint is not of its format.
    """
    note = read_file(folder / "checkpoint", NOTE_BYTES_MAX)
    size = parse_checkpoint(parse_note(note).text).size
    if size > SIZE_MAX:
        raise EncodingError("The checkpoint states an impossible size.", where=str(folder / "checkpoint"))
    frames = BundledFrames(folder, size)
    for number in range(frames.bundles):
        _check_size(frames.path(number), BUNDLE_BYTES_MAX)
    return FolderExport(
        note, frames, _read_transcripts(folder / "transcripts"), contacts=_read_contacts(folder / "contacts")
    )


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
    found = {path.name: read_file(path, TRANSCRIPT_BYTES_MAX) for path in sorted(folder.iterdir())}
    return {name: data for name, data in found.items() if sha256(data).hex() == name}


def _read_contacts(folder: Path) -> dict[str, bytes]:
    """Contact records, as far as they were not erased."""
    if not folder.is_dir():
        return {}
    return {path.name: read_file(path, CONTACT_BYTES_MAX) for path in sorted(folder.iterdir())}


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def read_file(path: Path, bytes_max: int) -> bytes:
    """The bytes of one file of an export.

    Raises:
        ConfigError: it is missing or larger than its limit.
    """
    _check_size(path, bytes_max)
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path) from error


def _check_size(path: Path, bytes_max: int) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise _unreadable(path) from error
    if size > bytes_max:
        raise ConfigError(f"The file is larger than {bytes_max} bytes.", where=str(path))


def _unreadable(path: Path) -> ConfigError:
    return ConfigError("A file of the export cannot be read.", where=str(path), mend=_MEND_EXPORT)
