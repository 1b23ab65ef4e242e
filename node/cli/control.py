"""Asks the running node of a folder over its control socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from consortium.encoding import Json
    from node.services.api import ControlService


def connect(home: Path) -> AbstractAsyncContextManager[ControlService]:
    """A client of the node that is serving from `home`.

    Raises:
        UnavailableError: (on use) no node is serving there.
    """
    from node.rpc.client import ControlClient  # noqa: PLC0415 -- keeps gRPC out of --help and audit

    return ControlClient(home)


def ask(home: Path, question: Callable[[ControlService], Awaitable[Json]]) -> Json:
    """One call and its answer."""

    async def call() -> Json:
        async with connect(home) as node:
            return await question(node)

    return asyncio.run(call())


def watch(home: Path, question: Callable[[ControlService], AsyncIterator[Json]], each: Callable[[Json], None]) -> Json:
    """Follows a stream of documents to its end; gives each to `each` and returns the last.

    Raises:
        UnavailableError: the node went away, or ended the stream without any document.
    """
    from consortium.errors import UnavailableError  # noqa: PLC0415

    async def follow() -> Json:
        last: Json = None
        async with connect(home) as node:
            async for last in question(node):
                each(last)
        return last

    document = asyncio.run(follow())
    if document is None:
        raise UnavailableError("The node ended the stream without an answer.", mend="Look into its log.")
    return document
