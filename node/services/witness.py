"""A committee member's duty: stores and verifies what the sequencer shows, and only then cosigns it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from consortium.errors import (
    CheckpointError,
    ForkError,
    NotAuthorisedError,
    NotFoundError,
    ProofError,
    StaleError,
    UnavailableError,
)
from consortium.keys import Signer
from consortium.ledger.checkpoint import Note, format_note, parse_note
from consortium.ledger.cosignature import cosign, witness_name
from node.log import log, log_refusal
from node.ports import Clock, LedgerStore
from node.services.api import AddCheckpoint, Added, Fetched, Position, WitnessAsked, WitnessSays
from node.services.mirror import BATCH_ENTRIES_MAX, Mirror

RECONNECT_S = 0.5
RECONNECT_MAX_S = 10.0
OK, CONFLICT, UNPROCESSABLE = 200, 409, 422

Attend = Callable[[AsyncIterator[WitnessSays]], AsyncIterator[WitnessAsked]]


class WitnessDuty:
    """Runs on every member; the coordinator asks those on the committee."""

    def __init__(self, signer: Signer, mirror: Mirror, store: LedgerStore, clock: Clock, attend: Attend) -> None:
        """Args: `attend` opens the stream to the coordinator: sends what it is given, yields what comes."""
        self._signer = signer
        self._mirror = mirror
        self._store = store
        self._clock = clock
        self._attend = attend

    async def run(self) -> None:
        """Attends the coordinator.

        Raises:
            ForkError, CheckpointError, ProofError: the log showed something that does not extend what it showed before.
        """
        delay = RECONNECT_S
        while True:
            try:
                await self._serve()
                delay = RECONNECT_S
            except (UnavailableError, NotAuthorisedError) as error:
                log_refusal("witness.connection-lost", error)
            await asyncio.sleep(delay)
            delay = min(2 * delay, RECONNECT_MAX_S)

    async def _serve(self) -> None:
        answers: asyncio.Queue[WitnessSays] = asyncio.Queue(maxsize=4)
        await answers.put(Position(self._mirror.size, await self._store.checkpoint() or b""))

        async def outgoing() -> AsyncIterator[WitnessSays]:
            while True:
                yield await answers.get()

        async for asked in self._attend(outgoing()):
            if isinstance(asked, AddCheckpoint):
                await answers.put(await self._add(asked))
            else:
                await answers.put(await self._fetched(asked.start, asked.end))

    async def _add(self, asked: AddCheckpoint) -> Added:
        """C2SP tlog-witness add-checkpoint: 200, or 409 when the request starts elsewhere.

        What does not extend this copy is not answered with 422 and forgotten: it is raised, so that the node stops.
        """
        try:
            await self._mirror.prepare(asked)
        except StaleError:
            return Added(CONFLICT, self._mirror.size, b"")
        except (ProofError, CheckpointError, ForkError) as error:
            log_refusal("witness.refused", error, size=self._mirror.size)
            raise
        if self._mirror.state.member_of(self._signer.key_id) not in self._mirror.state.committee:
            raise NotAuthorisedError("This member is not on the committee.", where=f"size {self._mirror.size}")
        note = parse_note(asked.checkpoint)
        name = witness_name(self._mirror.origin, self._mirror.state.member_of(self._signer.key_id))
        line = cosign(note.text, self._signer, name, self._clock.now())
        signed = format_note(Note(note.text, (line,)))
        log("witness.cosigned", size=self._mirror.size)
        return Added(OK, self._mirror.size, signed.removeprefix(note.text + "\n").encode())

    async def _fetched(self, start: int, end: int) -> Fetched:
        if not 0 <= start <= end <= self._mirror.size or end - start > BATCH_ENTRIES_MAX:
            raise NotFoundError("This node holds no such range of entries.", where=f"size {self._mirror.size}")
        return Fetched(start, tuple(await self._store.entries(start, end)))
