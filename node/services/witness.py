"""A committee member's duty: stores and verifies what the sequencer shows, and only then cosigns it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from consortium.errors import CheckpointError, ConsortiumError, ForkError, ProofError, StaleError
from consortium.keys import Signer
from consortium.ledger.checkpoint import Note, format_note, parse_note
from consortium.ledger.cosignature import cosign, witness_name
from node.log import log, log_refusal
from node.ports import Clock, LedgerStore
from node.services.api import AddCheckpoint, Added, Fetched, WitnessAsked, WitnessSays
from node.services.mirror import BATCH_ENTRIES_MAX, Mirror

RECONNECT_S = 0.5
RECONNECT_MAX_S = 3.0
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
        """Attends the coordinator; whatever ends the stream but a contradiction, it comes again.

        Raises:
            ForkError, CheckpointError, ProofError: the log showed something that does not extend what it showed before.
        """
        delay = RECONNECT_S
        while True:
            started = asyncio.get_running_loop().time()
            try:
                await self._serve()
            except ConsortiumError as error:
                if self._mirror.stopped is not None:
                    raise
                log_refusal("witness.connection-lost", error)
            if asyncio.get_running_loop().time() - started > RECONNECT_MAX_S:
                delay = RECONNECT_S
            await asyncio.sleep(delay)
            delay = min(2 * delay, RECONNECT_MAX_S)

    async def _serve(self) -> None:
        answers: asyncio.Queue[WitnessSays] = asyncio.Queue(maxsize=4)
        await answers.put(await self._mirror.position())

        async def outgoing() -> AsyncIterator[WitnessSays]:
            while True:
                yield await answers.get()

        async for asked in self._attend(outgoing()):
            if isinstance(asked, AddCheckpoint):
                await answers.put(await self._add(asked))
            else:
                await answers.put(await self._fetched(asked.start, asked.end))

    async def _add(self, asked: AddCheckpoint) -> Added:
        """C2SP tlog-witness add-checkpoint: 200; 409 when the request starts elsewhere; 422 where it is no witness.

        What does not extend this copy is not answered with 422 and forgotten: it is raised, so that the node stops.
        """
        try:
            await self._mirror.prepare(asked)
        except StaleError:
            return Added(CONFLICT, self._mirror.size, b"")
        except (ProofError, CheckpointError, ForkError) as error:
            log_refusal("witness.refused", error, size=self._mirror.size)
            raise
        me = self._mirror.state.member_of(self._signer.key_id)
        note = parse_note(asked.checkpoint)
        if me not in self._mirror.state.committee:
            return Added(UNPROCESSABLE, self._mirror.size, b"")
        line = cosign(note.text, self._signer, witness_name(self._mirror.origin, me), self._clock.now())
        signed = format_note(Note(note.text, (line,)))
        log("witness.cosigned", size=self._mirror.size)
        return Added(OK, self._mirror.size, signed.removeprefix(note.text + "\n").encode())

    async def _fetched(self, start: int, end: int) -> Fetched:
        """No frames where there is no such range: the coordinator asks for what this node said that it holds."""
        if not 0 <= start <= end <= await self._store.size() or end - start > BATCH_ENTRIES_MAX:
            return Fetched(start, ())
        return Fetched(start, tuple(await self._store.entries(start, end)))
