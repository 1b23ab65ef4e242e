"""A process that appends to a store and reserves budget, and says on stdout what was acknowledged.

    python -m tests.worlds.appending PATH URL BATCHES [FILE_BYTES_MAX]

It begins where the store ends. Entries and costs follow from their index alone, so that another process can check them.
"""

from __future__ import annotations

import asyncio
import hashlib
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

from consortium.errors import ConsortiumError
from consortium.keys import SigningKey
from consortium.ledger.checkpoint import Checkpoint, sign_checkpoint
from consortium.ledger.merkle import Frontier, leaf_hash
from node.ports import StoredEntry
from node.store.accounts import SqlAccounts
from node.store.database import Database
from node.store.ledger import SqlLedgerStore

LOG = SigningKey(b"\x03" * 32)
BATCH = 7
COST = 3
ENTRY_BYTES = 12_000


@dataclass(frozen=True)
class Acknowledged:
    """How many entries were stored, and how many reservations made."""

    size: int = 0
    reservations: int = 0


def frame(index: int) -> bytes:
    """An entry's bytes, which do not compress and differ between indices."""
    return hashlib.shake_256(index.to_bytes(8)).digest(ENTRY_BYTES)


class Appender:
    """Appends a batch and makes a reservation, over and over."""

    def __init__(self, database: Database, ledger: SqlLedgerStore, frontier: Frontier, reservations: int) -> None:
        self._ledger = ledger
        self._accounts = SqlAccounts(database)
        self._frontier = frontier
        self.acknowledged = Acknowledged(frontier.size, reservations)

    @classmethod
    async def begin(cls, database: Database) -> Appender:
        ledger = await SqlLedgerStore.open(database)
        frontier = Frontier().extend(await ledger.leaf_hashes())
        return cls(database, ledger, frontier, len(await SqlAccounts(database).entries("wind")))

    async def step(self) -> Acknowledged:
        """One append and one reservation; returns what is acknowledged after them."""
        start = self._frontier.size
        frames = [frame(index) for index in range(start, start + BATCH)]
        frontier = self._frontier.extend(leaf_hash(item) for item in frames)
        note = sign_checkpoint(Checkpoint("log", frontier.size, frontier.root()), LOG, "log").encode()
        await self._ledger.append([StoredEntry(start + i, item) for i, item in enumerate(frames)], note)
        self._frontier = frontier
        made = self.acknowledged.reservations
        self.acknowledged = Acknowledged(frontier.size, made)
        await self._accounts.reserve(
            "wind", bytes(32), made, COST, 2**50, "1e-6", requester=bytes(32), unfinished_max=2**30
        )
        self.acknowledged = Acknowledged(frontier.size, made + 1)
        return self.acknowledged


async def check(database: Database, acknowledged: Acknowledged) -> Acknowledged:
    """Asserts that all that was acknowledged is stored as it was written, and returns what is stored."""
    ledger = await SqlLedgerStore.open(database)
    accounts = SqlAccounts(database)
    size = await ledger.size()
    assert size >= acknowledged.size, "an acknowledged entry is lost"
    assert await ledger.entries(0, size) == [frame(index) for index in range(size)]
    reservations = await accounts.entries("wind")
    assert len(reservations) >= acknowledged.reservations, "an acknowledged reservation is lost"
    assert [item.round for item in reservations] == list(range(len(reservations)))
    assert await accounts.spent("wind") == COST * len(reservations)
    return Acknowledged(size, len(reservations))


async def main(path: Path, url: str, batches: int) -> None:
    database = await Database.open(path, url)
    try:
        appender = await Appender.begin(database)
        for _ in range(batches):
            done = await appender.step()
            sys.stdout.write(f"{done.size} {done.reservations}\n")
            sys.stdout.flush()
    except ConsortiumError as error:
        sys.stdout.write(f"refused {error.code}\n")
    finally:
        await database.close()


if __name__ == "__main__":
    if len(sys.argv) > 4:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), int(sys.argv[4])))
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
