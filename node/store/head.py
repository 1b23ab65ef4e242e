"""The head file: what the node last acknowledged of the log, kept outside the database.

SQLite can silently forget committed transactions (one flipped bit in its WAL), and a restored backup is a valid older
log. Comparing with this file at start keeps such a node from forking the log.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from consortium.encoding import canonical, parse
from consortium.errors import ConsortiumError, ForkError
from consortium.ledger.entry import Head

HEAD_BYTES_MAX = 256


@dataclass(frozen=True)
class HeadFile:
    """The file that holds the last acknowledged tree head, as canonical JSON `{"root": hex, "size": n}`."""

    path: Path

    def write(self, head: Head) -> None:
        """Replaces the head; when this returns, the new one is on disk, and at no moment is there none."""
        data = canonical({"root": head.root.hex(), "size": head.size})
        fresh = self.path.with_name(self.path.name + ".new")
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
        sync_folder(self.path.parent)

    def read(self) -> Head | None:
        """The head, or None if there never was one.

        Raises:
            ForkError: the file is not a head.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            value = parse(data, bytes_max=HEAD_BYTES_MAX)
            return Head(int(value["size"]), bytes.fromhex(value["root"]))
        except (ConsortiumError, KeyError, TypeError, ValueError) as error:
            raise ForkError(
                "The head file is damaged.",
                where=str(self.path),
                mend="Compare the stored log with another member's copy before this node writes again.",
            ) from error


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable: without it, a renamed or new file can be gone after a power loss."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
