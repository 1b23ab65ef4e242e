"""The committee at the coordinator: sends each new head to the witnesses and collects their cosignatures.

Each witness has a task of its own that keeps it at the head, so that a slow one delays nobody while k others answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

from consortium.errors import CheckpointError, NotAuthorisedError, UnavailableError
from consortium.ledger.checkpoint import Note, NoteSignature, add_signature, format_note, parse_note
from consortium.ledger.cosignature import quorum, verify_cosignature, witness_name
from node.log import log, log_refusal
from node.ports import LedgerStore
from node.services.api import AddCheckpoint, Added, Fetch, Fetched, Position, WitnessAsked, WitnessSays
from node.services.mirror import Mirror

FRAMES_MAX = 1_000  # entries of one add-checkpoint that is not at the head


@dataclass
class _Link:
    """One witness's stream."""

    position: Position
    asked: asyncio.Queue[WitnessAsked | None] = field(default_factory=lambda: asyncio.Queue(maxsize=4))
    said: asyncio.Queue[Added | Fetched] = field(default_factory=lambda: asyncio.Queue(maxsize=4))
    size: int = 0


class Witnesses:
    """The WitnessService of the coordinator."""

    def __init__(self, mirror: Mirror, store: LedgerStore) -> None:
        self._mirror = mirror
        self._store = store
        self._links: dict[bytes, _Link] = {}
        self._note: Note | None = None
        self._size = 0
        self._lines: dict[bytes, NoteSignature] = {}
        self._changed = asyncio.Condition()
        self.open = False  # until the start-up check is over, heads are not sent

    @property
    def committee(self) -> tuple[bytes, ...]:
        return self._mirror.state.committee

    @property
    def attending(self) -> frozenset[bytes]:
        return frozenset(self._links)

    def positions(self) -> dict[bytes, Position]:
        """Where each attending witness of the committee said that it stood when its stream began."""
        return {member: link.position for member, link in self._links.items() if member in self.committee}

    async def wait_for_change(self) -> None:
        """Waits until a witness comes or goes, or a cosignature arrives."""
        async with self._changed:
            await self._changed.wait()

    async def witnessed(self, note: bytes) -> bytes:
        """The note with the cosignatures of a quorum of the committee; as it is while there is no committee.

        It waits as long as it takes: an entry without its quorum is not acknowledged.
        """
        async with self._changed:
            self._note = parse_note(note)
            self._size = self._mirror.size
            self._lines = {}
            self._changed.notify_all()
            await self._changed.wait_for(lambda: len(self._lines) >= self._needed())
            return self._cosigned()

    async def fetch(self, member: bytes, start: int, end: int) -> tuple[bytes, ...]:
        """Entries that a witness holds; only before heads are sent.

        Raises:
            UnavailableError: the witness left, or answered something else.
        """
        link = self._links.get(member)
        if link is None or self.open:
            raise UnavailableError("The witness does not attend.", where=member.hex())
        await link.asked.put(Fetch(start, end))
        said = await link.said.get()
        if not isinstance(said, Fetched) or said.start != start:
            raise UnavailableError("The witness did not send the entries.", where=member.hex())
        return said.frames

    async def begin(self) -> None:
        """From now on heads are sent to the witnesses."""
        async with self._changed:
            self.open = True
            self._changed.notify_all()

    async def attend(self, member: bytes, incoming: AsyncIterator[WitnessSays]) -> AsyncIterator[WitnessAsked]:
        """Serves one member's stream; a newer stream of the same member ends the older one.

        Every member attends, so that it can be seated while it does; only the committee is asked.
        """
        position = await anext(aiter(incoming))
        if not isinstance(position, Position):
            raise NotAuthorisedError("A witness first says where it stands.", mend="Update the program.")
        older = self._links.get(member)
        if older is not None:
            older.asked.put_nowait(None)
        link = _Link(position, size=position.size)
        async with self._changed:
            self._links[member] = link
            self._changed.notify_all()
        log("witness.attends", member=member.hex(), size=position.size)
        tasks = [asyncio.create_task(self._listen(link, incoming)), asyncio.create_task(self._keep_up(member, link))]
        try:
            while (message := await link.asked.get()) is not None:
                yield message
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            async with self._changed:
                if self._links.get(member) is link:
                    del self._links[member]
                self._changed.notify_all()
            log("witness.left", member=member.hex())

    async def _listen(self, link: _Link, incoming: AsyncIterator[WitnessSays]) -> None:
        try:
            async for message in incoming:
                if isinstance(message, Added | Fetched):
                    await link.said.put(message)
        finally:
            await link.asked.put(None)

    async def _keep_up(self, member: bytes, link: _Link) -> None:
        """Sends the head whenever the witness is not at it; a witness that refuses the log is left alone."""
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._due(member, link))
                note, size = self._note, self._size
                assert note is not None
            await link.asked.put(await self._request(link.size, size, note))
            said = await link.said.get()
            if not isinstance(said, Added) or said.status == 422:
                log("witness.refuses", member=member.hex(), size=link.size)
                await link.asked.put(None)
                return
            if said.status == 409:
                link.size = min(said.size, self._mirror.size)
            else:
                link.size = size
                await self._count(member, note, size, said.cosignature)

    def _due(self, member: bytes, link: _Link) -> bool:
        behind = link.size < self._size or (link.size == self._size and member not in self._lines)
        return self.open and self._note is not None and behind and member in self.committee

    async def _request(self, old_size: int, size: int, note: Note) -> AddCheckpoint:
        frames = await self._store.entries(old_size, size)
        proof = self._mirror.consistency_proof(old_size, size)
        return AddCheckpoint(old_size, tuple(proof), format_note(note).encode(), tuple(frames))

    async def _count(self, member: bytes, note: Note, size: int, line: bytes) -> None:
        """Takes a cosignature of the current head; one of an older head is no longer needed."""
        public_key = self._mirror.state.members[member].public_key
        try:
            signature = parse_note(note.text.encode() + b"\n" + line).signatures[0]
            signature = replace(signature, name=witness_name(self._mirror.origin, member))
            verify_cosignature(note.text, signature, public_key)
        except CheckpointError as error:
            log_refusal("witness.bad-cosignature", error, member=member.hex())
            return
        async with self._changed:
            if size == self._size and note is self._note:
                self._lines[member] = signature
                self._changed.notify_all()

    def _needed(self) -> int:
        return quorum(len(self.committee)) if self.committee else 0

    def _cosigned(self) -> bytes:
        assert self._note is not None
        note = self._note
        for member in sorted(self._lines):
            note = add_signature(note, self._lines[member])
        return format_note(note).encode()
