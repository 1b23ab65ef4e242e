"""The coordinator's end of the members' streams: who attends, and what is sent to whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from consortium.errors import UnavailableError
from node.log import log
from node.services.api import Explained, FromMember, Hello, Reasons, SumFailed, SumStep, ToMember

QUEUE_MAX = 256


class Listener(Protocol):
    """Whoever wants to know what members say."""

    def attended(self, member: bytes) -> None: ...

    def heard(self, member: bytes, message: Explained | Reasons | SumStep | SumFailed) -> None: ...

    def lost(self, member: bytes) -> None: ...


class Hub:
    """The ExchangeService of the coordinator."""

    def __init__(self) -> None:
        self._streams: dict[bytes, asyncio.Queue[ToMember | None]] = {}
        self._listeners: list[Listener] = []

    @property
    def attending(self) -> frozenset[bytes]:
        return frozenset(self._streams)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Adds a listener; call what is returned to remove it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def send(self, member: bytes, message: ToMember) -> None:
        """Queues a message to a member.

        Raises:
            UnavailableError: the member does not attend, or does not read.
        """
        queue = self._streams.get(member)
        if queue is None or queue.qsize() >= QUEUE_MAX:
            raise UnavailableError("The member does not attend.", where=member.hex(), mend="See 'consortium status'.")
        queue.put_nowait(message)

    def dismiss(self, member: bytes) -> None:
        """Ends the stream of a member that may no longer take part."""
        queue = self._streams.pop(member, None)
        if queue is not None:
            queue.put_nowait(None)
            log("member.dismissed", member=member.hex())
            for listener in tuple(self._listeners):
                listener.lost(member)

    async def attend(self, member: bytes, incoming: AsyncIterator[FromMember]) -> AsyncIterator[ToMember]:
        """Serves one member's stream; a newer stream of the same member ends the older one."""
        older = self._streams.get(member)
        if older is not None:
            older.put_nowait(None)
        queue: asyncio.Queue[ToMember | None] = asyncio.Queue()  # `send` bounds it; its end always fits
        self._streams[member] = queue
        reader = asyncio.create_task(self._read(member, incoming, queue))
        log("member.attends", member=member.hex())
        for listener in tuple(self._listeners):
            listener.attended(member)
        try:
            while (message := await queue.get()) is not None:
                yield message
        finally:
            reader.cancel()
            if self._streams.get(member) is queue:
                del self._streams[member]
                log("member.left", member=member.hex())
                for listener in tuple(self._listeners):
                    listener.lost(member)

    async def _read(
        self, member: bytes, incoming: AsyncIterator[FromMember], queue: asyncio.Queue[ToMember | None]
    ) -> None:
        try:
            async for message in incoming:
                if isinstance(message, Hello):
                    log("member.hello", member=member.hex(), version=message.version)
                    continue
                for listener in tuple(self._listeners):
                    listener.heard(member, message)
        finally:
            queue.put_nowait(None)
