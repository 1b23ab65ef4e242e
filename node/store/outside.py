"""Small files in which a node remembers, outside its database, what it acknowledged.

SQLite can silently forget committed transactions (one flipped bit in its WAL), and a restored backup is a valid older
state. Comparing the database with these files at start shows both.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consortium.encoding import Json, canonical, parse
from consortium.errors import ConsortiumError, ForkError

SLOT_BYTES = 4096
VALUE_BYTES_MAX = 256
_DIGEST_CHARS = 64


@dataclass(frozen=True)
class OutsideFile:
    """A file that holds one small JSON object, durably.

    It has two slots, written in turn and in place, each with its SHA-256: a write needs one sync and no space on the
    disk, and one that a power loss tears leaves the other slot, with the value before it.
    """

    path: Path

    def write(self, value: Json) -> None:
        """Replaces the value; when this returns, the new one is on disk, and at no moment is there none."""
        try:
            handle = os.open(self.path, os.O_RDWR)
        except FileNotFoundError:
            self._create(value)
            return
        with os.fdopen(handle, "r+b", buffering=0) as file:
            data = file.read()
            newest = _newest(data)
            if newest is None:
                self._create(value)
                return
            turn = newest[0] + 1
            os.pwrite(handle, _slot(turn, value), turn % 2 * SLOT_BYTES)
            os.fdatasync(handle)

    def read(self) -> Any:
        """The value, or None if there never was one.

        Raises:
            ForkError: the file is damaged.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        newest = _newest(data)
        if newest is not None:
            return newest[1]
        try:
            return parse(data, bytes_max=VALUE_BYTES_MAX)  # Version 0.1 wrote the bare value.
        except ConsortiumError as error:
            raise ForkError(
                "A file by which the node remembers what it acknowledged is damaged.",
                where=str(self.path),
                mend="Compare the stored log with another member's copy before this node writes again.",
            ) from error

    def _create(self, value: Json) -> None:
        fresh = self.path.with_name(self.path.name + ".new")
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(_slot(0, value).ljust(SLOT_BYTES) + _slot(1, value))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
        sync_folder(self.path.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable: without it, a renamed or new file can be gone after a power loss."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _slot(turn: int, value: Json) -> bytes:
    text = canonical({"turn": turn, "value": value})
    assert len(text) <= VALUE_BYTES_MAX, "a value outside the database is small"
    return (hashlib.sha256(text).hexdigest().encode() + text).ljust(_DIGEST_CHARS + VALUE_BYTES_MAX)


def _newest(data: bytes) -> tuple[int, Any] | None:
    """The turn and value of the newer slot that is whole; None if neither is."""
    slots = [_parsed(data[start : start + SLOT_BYTES]) for start in (0, SLOT_BYTES)]
    whole = [slot for slot in slots if slot is not None]
    return max(whole, key=lambda slot: slot[0]) if whole else None


def _parsed(slot: bytes) -> tuple[int, Any] | None:
    digest, text = slot[:_DIGEST_CHARS], slot[_DIGEST_CHARS:].rstrip(b" ")
    if hashlib.sha256(text).hexdigest().encode() != digest:
        return None
    document = parse(text, bytes_max=VALUE_BYTES_MAX)
    return document["turn"], document["value"]
