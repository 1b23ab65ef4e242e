"""A member that is suspended while it is connected: its open streams end, and new calls are refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from consortium.errors import NotAuthorisedError
from node.config import Limits
from node.rpc.member_client import CoordinatorClient
from node.rpc.server import network_server
from node.services import api
from protos.v1 import ledger_pb2, ledger_pb2_grpc
from tests.wire.parties import FakeExchange, FakeLedger, FakeWitnesses, House

JOB = bytes(32)


class GrowingLedger(FakeLedger):
    """Yields a batch whenever it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.grown: asyncio.Queue[None] = asyncio.Queue()

    async def follow(self, start: int) -> AsyncIterator[api.Batch]:
        while True:
            yield api.Batch(start, (b"frame",), b"checkpoint")
            await self.grown.get()


@pytest.fixture
def house(tmp_path) -> House:
    return House.found(tmp_path / "house")


async def test_open_streams_end_at_their_next_message_and_new_calls_are_refused(house: House) -> None:
    member = house.member("m")
    of_record = {member.key.spki_sha256: member.id}
    ledger, exchange = GrowingLedger(), FakeExchange(answers=[api.SumClosed(JOB, 1, ""), api.SumClosed(JOB, 2, "")])
    listener = await network_server(
        "127.0.0.1:0", house.server_tls, ledger, exchange, FakeWitnesses(), of_record.get, Limits()
    )
    said: asyncio.Queue[api.FromMember] = asyncio.Queue()

    async def outgoing() -> AsyncIterator[api.FromMember]:
        while True:
            yield await said.get()

    try:
        async with CoordinatorClient(listener.address, member.tls) as client:
            batches, answers = client.follow(0), client.attend(outgoing())
            await anext(batches)
            await said.put(api.Hello("1", paused=False))
            assert await anext(answers) == api.SumClosed(JOB, 1, "")
            appends = ledger_pb2_grpc.LedgerStub(client._open()).AppendEach()
            await appends.write(ledger_pb2.AppendRequest(frame=b"one"))
            assert (await appends.read()).index == 0

            of_record.clear()
            await said.put(api.Hello("1", paused=True))
            with pytest.raises(NotAuthorisedError):
                await anext(answers)
            ledger.grown.put_nowait(None)
            with pytest.raises(NotAuthorisedError):
                await anext(batches)
            await appends.write(ledger_pb2.AppendRequest(frame=b"two"))
            assert "PERMISSION_DENIED" in str(await appends.code())
            with pytest.raises(NotAuthorisedError):
                await client.append(b"three")
        assert [frame for _, frame in ledger.frames] == [b"one"]
        assert len(exchange.heard) == 1
    finally:
        await listener.stop(0)
