"""Contact records: personal data, beside the ledger and beside the database, so that what is erased is gone.

Each lies in a file of its own (0600): a row would live on in a write-ahead log, in free pages and in the database's own
copies.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from consortium.encoding import sha256
from consortium.errors import ConfigError
from node.identity import read_private, write_private
from node.store.outside import sync_folder


class FileContacts:
    """The `Contacts` port over a folder, which is made when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, record: bytes) -> bytes:
        digest = sha256(record)
        await asyncio.to_thread(_write, self._folder, self._path(digest), record)
        return digest

    async def get(self, digest: bytes) -> bytes | None:
        path = self._path(digest)
        if not await asyncio.to_thread(path.exists):
            return None
        record = await asyncio.to_thread(read_private, path)
        if sha256(record) != digest:
            raise ConfigError("The contact record was changed.", where=str(path), mend="Erase it.")
        return record

    async def erase(self, digest: bytes) -> bool:
        return await asyncio.to_thread(_erase, self._path(digest))

    def _path(self, digest: bytes) -> Path:
        return self._folder / digest.hex()


def _write(folder: Path, path: Path, record: bytes) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    if not path.exists():
        write_private(path, record)


def _erase(path: Path) -> bool:
    if not path.exists():
        return False
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
    sync_folder(path.parent)
    return True
