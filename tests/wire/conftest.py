"""One consortium, another one, and a listener for members, for each module."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from node.config import Limits
from node.log import close_log, open_log
from node.rpc.server import Listener, network_server
from tests.wire.parties import FakeExchange, FakeLedger, FakeWitnesses, House, Member


@dataclass(frozen=True)
class Network:
    """A listener for members with fakes behind it, and two callers that it knows or does not."""

    house: House
    listener: Listener
    ledger: FakeLedger
    exchange: FakeExchange
    witnesses: FakeWitnesses
    admitted: Member
    stranger: Member


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House.found(tmp_path / "house")


@pytest.fixture
async def network(house: House) -> AsyncIterator[Network]:
    ledger, exchange, witnesses = FakeLedger(), FakeExchange(), FakeWitnesses()
    admitted, stranger = house.member("admitted"), house.member("stranger")
    members = {admitted.key.spki_sha256: admitted.id}
    limits = Limits(message_bytes_max=1 << 20, streams_per_member_max=3)
    listener = await network_server("127.0.0.1:0", house.server_tls, ledger, exchange, witnesses, members.get, limits)
    yield Network(house, listener, ledger, exchange, witnesses, admitted, stranger)
    await listener.stop(0)


@pytest.fixture
def dead_address() -> Iterator[str]:
    """An address that nobody serves, and that no other test can get while this one runs."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


@pytest.fixture
def events(tmp_path: Path) -> Iterator[object]:
    """Reads the events logged so far."""
    folder = tmp_path / "logs"
    folder.mkdir()
    open_log(folder)
    yield lambda: [json.loads(line) for line in (folder / "node.log").read_text().splitlines()]
    close_log()
