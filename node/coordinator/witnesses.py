"""The committee at the coordinator: sends each new head to the witnesses and collects their cosignatures.

Each witness has a task of its own that keeps it at the head, so that a slow one delays nobody while k others answer.
A witness that does not answer, or answers what is not so, loses its stream; it may come back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from consortium.errors import CheckpointError, ConsortiumError, ForkError, NotAuthorisedError, UnavailableError
from consortium.keys import Signer
from consortium.ledger.checkpoint import (
    Checkpoint,
    Note,
    NoteSignature,
    add_signature,
    format_note,
    parse_checkpoint,
    parse_note,
    sign_checkpoint,
)
from consortium.ledger.cosignature import verify_cosignature, witness_name
from node.log import log, log_exception, log_refusal
from node.ports import LedgerStore
from node.services.api import AddCheckpoint, Added, Fetch, Fetched, Position, WitnessAsked, WitnessSays
from node.services.mirror import REPAIR_ADVICE, Mirror

FRAMES_MAX = 1_000  # entries of one add-checkpoint
CONFLICTS_MAX = 16  # answers 409 in a row: an honest witness grows by following too, but gets there
ANSWER_S = 30.0
QUIET_S = 10.0
OK, CONFLICT = 200, 409


class _Link:
    """One witness's stream: one question at a time, and its answer."""

    def __init__(self, position: Position) -> None:
        self.position = position
        self.size = position.size
        self._asked: asyncio.Queue[WitnessAsked | None] = asyncio.Queue()  # never more than a question and the end
        self._answer: asyncio.Future[Added | Fetched] | None = None
        self._turn = asyncio.Lock()
        self._ended = False

    async def ask(self, question: WitnessAsked) -> Added | Fetched:
        """Raises UnavailableError if the witness leaves or does not answer in time."""
        async with self._turn:
            if self._ended:
                raise _left()
            self._answer = asyncio.get_running_loop().create_future()
            self._asked.put_nowait(question)
            try:
                async with asyncio.timeout(ANSWER_S):
                    return await self._answer
            except TimeoutError as error:
                self.end()
                raise UnavailableError("The witness did not answer in time.") from error
            finally:
                self._answer = None

    def take(self, said: WitnessSays) -> None:
        """An answer that nobody asked for ends the stream."""
        if isinstance(said, Position) or self._answer is None or self._answer.done():
            self.end()
        else:
            self._answer.set_result(said)

    def end(self) -> None:
        if self._ended:
            return
        self._ended = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(_left())
        self._asked.put_nowait(None)

    async def questions(self) -> AsyncIterator[WitnessAsked]:
        while (question := await self._asked.get()) is not None:
            yield question


class Witnesses:
    """The WitnessService of the coordinator."""

    def __init__(self, mirror: Mirror, store: LedgerStore, signer: Signer) -> None:
        """Args: `signer` is the log's: a witness that is far behind gets checkpoints on the way to the head."""
        self._mirror = mirror
        self._store = store
        self._signer = signer
        self._links: dict[bytes, _Link] = {}
        self._note: Note | None = None
        self._size = 0
        self._lines: dict[bytes, NoteSignature] = {}
        self._changed = asyncio.Condition()
        self._fork: ForkError | None = None
        self._open = False  # until the start-up check is over, heads are not sent

    @property
    def committee(self) -> tuple[bytes, ...]:
        return self._mirror.state.committee

    @property
    def attending(self) -> frozenset[bytes]:
        return frozenset(self._links)

    def everybody(self) -> dict[bytes, Position]:
        """Where each attending member stood when its stream began, under a head that we signed."""
        return {member: link.position for member, link in self._links.items()}

    def positions(self) -> dict[bytes, Position]:
        """Likewise, those of the committee."""
        return {member: position for member, position in self.everybody().items() if member in self.committee}

    async def wait_until(self, reached: Callable[[], bool]) -> None:
        """Waits until it holds; it is tried whenever a witness comes or goes."""
        async with self._changed:
            await self._changed.wait_for(reached)

    async def witnessed(self, note: bytes) -> bytes:
        """The note with the cosignatures of a quorum of the committee; as it is while there is no committee.

        It waits as long as it takes: an entry without its quorum is not acknowledged.

        Raises:
            ForkError: a member came with a head that this key signed and that is not in this log.
        """
        async with self._changed:
            self._note = parse_note(note)
            self._size = parse_checkpoint(self._note.text).size
            self._lines = {}
            self._changed.notify_all()
            while not self._is_decided():
                try:
                    async with asyncio.timeout(QUIET_S):
                        await self._changed.wait_for(self._is_decided)
                except TimeoutError:
                    count, members = len(self._lines), len(self.committee)
                    log("sequencer.waits-for-witnesses", size=self._size, count=count, members=members)
            if self._fork is not None:
                raise self._fork
            return self._cosigned()

    async def fetch(self, member: bytes, start: int, end: int) -> tuple[bytes, ...]:
        """Entries that a witness holds.

        Raises:
            UnavailableError: the witness left, did not answer in time, or answered something else.
        """
        link = self._links.get(member)
        if link is None:
            raise _left()
        said = await link.ask(Fetch(start, end))
        if not isinstance(said, Fetched) or said.start != start or len(said.frames) != end - start:
            raise UnavailableError("The witness did not send the entries.", where=member.hex())
        return said.frames

    async def dismiss(self, member: bytes) -> None:
        """Ends the stream of a witness that does not send what it says it holds."""
        async with self._changed:
            link = self._links.pop(member, None)
            if link is not None:
                link.end()
            self._changed.notify_all()

    async def begin(self) -> None:
        """From now on heads are sent to the witnesses."""
        async with self._changed:
            self._open = True
            self._changed.notify_all()

    async def attend(self, member: bytes, incoming: AsyncIterator[WitnessSays]) -> AsyncIterator[WitnessAsked]:
        """Serves one member's stream; a newer stream of the same member ends the older one.

        Every member attends, so that it can be seated while it does; only the committee is asked.

        Raises:
            NotAuthorisedError: the member does not begin with its position.
            CheckpointError: its position is not under a head that this log's key signed.
        """
        position = await anext(aiter(incoming), None)
        if not isinstance(position, Position):
            raise NotAuthorisedError("A witness first says where it stands.", mend="Update the program.")
        head = self._mirror.head_of(position)
        link = _Link(position)
        async with self._changed:
            if self._open:
                self._compare(member, head)
            older = self._links.get(member)
            self._links[member] = link
            self._changed.notify_all()
        if older is not None:
            older.end()
        log("witness.attends", member=member.hex(), size=position.size)
        tasks = [asyncio.create_task(self._listen(link, incoming)), asyncio.create_task(self._keep_up(member, link))]
        try:
            async for question in link.questions():
                yield question
        finally:
            await _ended(tasks)
            async with self._changed:
                if self._links.get(member) is link:
                    del self._links[member]
                self._changed.notify_all()
            log("witness.left", member=member.hex())

    def _compare(self, member: bytes, head: Checkpoint | None) -> None:
        """Once heads are sent, whoever holds one that is not of this log shows that this key signed two logs."""
        if head is not None and not self._mirror.contains(head):
            log("witness.holds-another-log", member=member.hex(), size=head.size)
            self._fork = ForkError(
                "A member holds a head that this node's key signed and that is not in its log.",
                where=f"size {head.size}",
                mend=REPAIR_ADVICE,
            )

    async def _listen(self, link: _Link, incoming: AsyncIterator[WitnessSays]) -> None:
        try:
            async for message in incoming:
                link.take(message)
        finally:
            link.end()

    async def _keep_up(self, member: bytes, link: _Link) -> None:
        """Sends the head whenever the witness is not at it."""
        conflicts = 0
        try:
            while True:
                async with self._changed:
                    await self._changed.wait_for(lambda: self._is_due(member, link))
                    note, size = self._note, self._size
                assert note is not None
                end = min(size, link.size + FRAMES_MAX)
                said = await self._add(link, end, note if end == size else self._signed(end))
                if said.size > self._size or said.status not in (OK, CONFLICT) or conflicts == CONFLICTS_MAX:
                    log("witness.refuses", member=member.hex(), size=end)
                    return
                if said.status == CONFLICT:
                    link.size, conflicts = said.size, conflicts + 1
                    continue
                if end == size:
                    await self._count(member, note, size, said.cosignature)
                link.size, conflicts = end, 0
        except (CheckpointError, UnavailableError) as error:
            log_refusal("witness.dismissed", error, member=member.hex())
        finally:
            link.end()

    def _is_due(self, member: bytes, link: _Link) -> bool:
        if not self._open or self._note is None:
            return False
        behind = link.size < self._size or (link.size == self._size and member not in self._lines)
        return behind and any(member in found.members for found in self._mirror.state.committees_at(self._size))

    def _is_decided(self) -> bool:
        return self._fork is not None or self._mirror.state.has_quorum(self._size, self._lines)

    async def _add(self, link: _Link, size: int, note: Note) -> Added:
        frames = await self._store.entries(link.size, size)
        proof = self._mirror.consistency_proof(link.size, size)
        said = await link.ask(AddCheckpoint(link.size, tuple(proof), format_note(note).encode(), tuple(frames)))
        if not isinstance(said, Added):
            raise CheckpointError("The witness answered another question.", where=f"size {size}")
        return said

    def _signed(self, size: int) -> Note:
        origin = self._mirror.origin
        return parse_note(sign_checkpoint(Checkpoint(origin, size, self._mirror.root_at(size)), self._signer, origin))

    async def _count(self, member: bytes, note: Note, size: int, line: bytes) -> None:
        """Takes a cosignature of the current head; one of an older head is no longer needed.

        Raises:
            CheckpointError: it is not this witness's cosignature of this head.
        """
        public_key = self._mirror.state.members[member].key_at(size)
        signature = parse_note(note.text.encode() + b"\n" + line).signatures[0]
        signature = replace(signature, name=witness_name(self._mirror.origin, member))
        verify_cosignature(note.text, signature, public_key)
        async with self._changed:
            if note is self._note:
                self._lines[member] = signature
                self._changed.notify_all()

    def _cosigned(self) -> bytes:
        assert self._note is not None
        note = self._note
        for member in sorted(self._lines):
            note = add_signature(note, self._lines[member])
        return format_note(note).encode()


async def _ended(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, ConsortiumError):
            log_refusal("witness.stream-ended", outcome)
        elif isinstance(outcome, Exception):
            log_exception("witness.failed", outcome)


def _left() -> UnavailableError:
    return UnavailableError("The witness does not attend.")
