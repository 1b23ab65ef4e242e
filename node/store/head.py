"""The head file: what the node last acknowledged of the log, kept outside the database.

Comparing with this file at start keeps a node whose database forgot entries from forking the log.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from consortium.errors import ForkError
from consortium.ledger.entry import Head
from consortium.ledger.merkle import HASH_BYTES
from node.store.outside import OutsideFile


@dataclass(frozen=True)
class HeadFile:
    """The file that holds the last acknowledged tree head."""

    path: Path

    def write(self, head: Head) -> None:
        """Replaces the head; when this returns, the new one is on disk, and at no moment is there none."""
        OutsideFile(self.path).write({"root": head.root.hex(), "size": head.size})

    def read(self) -> Head | None:
        """The head, or None if there never was one.

        Raises:
            ForkError: the file is not a head.
        """
        value = OutsideFile(self.path).read()
        if value is None:
            return None
        try:
            head = Head(int(value["size"]), bytes.fromhex(value["root"]))
        except (KeyError, TypeError, ValueError) as error:
            raise self._damaged() from error
        if head.size < 0 or len(head.root) != HASH_BYTES:
            raise self._damaged()
        return head

    def _damaged(self) -> ForkError:
        return ForkError(
            "The head file is damaged.",
            where=str(self.path),
            mend="Compare the stored log with another member's copy before this node writes again.",
        )
