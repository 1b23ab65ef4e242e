"""A member's connection to the coordinator, without a network: it can be cut, listened to and tampered with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from consortium.errors import UnavailableError
from consortium.ledger.entry import read_entry
from node.services.api import Batch, FromMember, SumStep, ToMember

if TYPE_CHECKING:
    from tests.simulator.seats import CoordinatorSeat

T = TypeVar("T")
Happened = Callable[[str], Awaitable[None]]
Tamper = Callable[[ToMember], list[ToMember]]


def kind_of(message: FromMember | ToMember) -> str:
    """Hello, SumOpen and so on; a step also says its phase: SumStep/mask."""
    name = type(message).__name__
    return f"{name}/{message.phase}" if isinstance(message, SumStep) else name


class Link:
    """The `Coordinator` of a member, and its way to append.

    Attributes:
        sent, received: every message that left the member, or was handed to it.
        entries: every frame that the member appended.
        tamper: what becomes of a message to the member.
        flowing: while cleared, nothing that is new on the ledger reaches the member.
        lose: messages for which this holds are lost on their way, and the link with them.
    """

    def __init__(self, member: bytes, coordinator: Callable[[], CoordinatorSeat], happened: Happened) -> None:
        self._member = member
        self._coordinator = coordinator
        self._happened = happened
        self._cut = asyncio.Event()
        self._down = False
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.sent: list[FromMember] = []
        self.received: list[ToMember] = []
        self.entries: list[bytes] = []
        self.tamper: Tamper = lambda message: [message]
        self.lose: Callable[[FromMember], bool] = lambda message: False

    def cut(self, *, down: bool = False) -> None:
        """Ends all streams; with `down`, nothing can be reached until `mend`."""
        self._down = down
        self._cut.set()
        self._cut = asyncio.Event()

    def mend(self) -> None:
        self._down = False

    async def append(self, frame: bytes) -> tuple[int, bytes]:
        self._check()
        kind = read_entry(frame).kind
        stage = f"-{read_entry(frame).body['stage']}" if kind == "decision" else ""
        await self._happened(f"append {kind}{stage}")
        self.entries.append(frame)
        receipt = await self._coordinator().sequencer.append(self._member, frame)
        await self._happened(f"appended {kind}{stage}")
        return receipt

    async def follow(self, start: int) -> AsyncIterator[Batch]:
        self._check()
        async for batch in self._until_cut(self._coordinator().sequencer.follow(start)):
            await self.flowing.wait()
            yield batch

    async def attend(self, outgoing: AsyncIterator[FromMember]) -> AsyncIterator[ToMember]:
        self._check()
        stream = self._coordinator().hub.attend(self._member, self._leaving(outgoing))
        async for message in self._until_cut(stream):
            for handed in self.tamper(message):
                self.received.append(handed)
                yield handed

    async def _leaving(self, outgoing: AsyncIterator[FromMember]) -> AsyncIterator[FromMember]:
        async for message in outgoing:
            await self._happened(f"send {kind_of(message)}")
            if self._down:
                return
            if self.lose(message):
                self.lose = lambda message: False
                self.cut()
                continue
            self.sent.append(message)
            yield message
            await self._happened(f"sent {kind_of(message)}")

    async def _until_cut(self, stream: AsyncIterator[T]) -> AsyncGenerator[T, None]:
        cut = asyncio.ensure_future(self._cut.wait())
        try:
            while True:
                coming = asyncio.ensure_future(anext(stream))  # type: ignore[arg-type]  # a coroutine, all the same
                try:
                    await asyncio.wait({coming, cut}, return_when=asyncio.FIRST_COMPLETED)
                    if cut.done():
                        raise _unreachable()
                    try:
                        yield coming.result()
                    except StopAsyncIteration:
                        raise _unreachable() from None
                finally:
                    coming.cancel()
                    await asyncio.gather(coming, return_exceptions=True)
        finally:
            cut.cancel()
            await stream.aclose()  # type: ignore[attr-defined]  # all our streams are generators

    def _check(self) -> None:
        if self._down:
            raise _unreachable()


def _unreachable() -> UnavailableError:
    return UnavailableError("The link is down.")
