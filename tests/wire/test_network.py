"""The members' listener: who gets in, what is refused, and what a refused caller is told."""

from __future__ import annotations

import asyncio
import os
from contextlib import aclosing
from dataclasses import replace

import grpc
import pytest
from grpc import aio

from consortium.errors import (
    BudgetError,
    ConfigError,
    EncodingError,
    EntryError,
    LimitError,
    NotAuthorisedError,
    NotFoundError,
    UnavailableError,
)
from node.config import Limits
from node.rpc.channels import explained, member_channel
from node.rpc.handshakes import handshakes_logged
from node.rpc.member_client import CoordinatorClient
from node.rpc.server import network_server
from node.services import api
from protos.v1 import exchange_pb2, ledger_pb2, ledger_pb2_grpc
from tests.wire.parties import CANARY, FakeExchange, FakeLedger, FakeWitnesses, House

APPEND = "/consortium.v1.Ledger/Append"
JOB = bytes(range(32))


async def raw_call(network, member, method: str, message: bytes) -> bytes:
    address = network.listener.address
    async with explained(address, member.tls), member_channel(address, member.tls, 1 << 20) as channel:
        return await channel.unary_unary(method)(message, timeout=10)


async def attend_raw(channel, address: str, message: bytes) -> None:
    async with explained(address):
        async for _ in channel.stream_stream("/consortium.v1.Exchange/Attend")(iter([message])):
            pass


async def test_a_member_appends_and_is_named_by_its_own_key_id(network):
    async with CoordinatorClient(network.listener.address, network.admitted.tls) as client:
        assert await client.append(b"frame") == (0, b"checkpoint 1")
    assert network.ledger.frames == [(network.admitted.id, b"frame")]


async def test_follow_streams_and_a_caller_that_leaves_ends_it_at_the_server(network):
    network.ledger.frames += [(None, b"0"), (None, b"1"), (None, b"2")]
    async with CoordinatorClient(network.listener.address, network.admitted.tls) as client:
        async with aclosing(client.follow(1)) as batches:
            assert await anext(batches) == api.Batch(1, (b"1", b"2"), b"checkpoint")
        async with asyncio.timeout(5):
            await network.ledger.left.wait()


async def test_attend_carries_every_kind_of_message_both_ways(network):
    step = api.SumStep(JOB, 3, "vote", (b"a", b"b"), b"\1\2\3\4", (bytes(32), JOB))
    said: list[api.FromMember] = [
        api.Hello("0.1.0", paused=True),
        api.Explained(7, permitted=False, clauses=(api.Clause("purpose", "not for marketing"),)),
        api.Reasons(JOB, (api.Clause("column", "not shared"),)),
        step,
        api.SumFailed(JOB, 3, "paused"),
    ]
    network.exchange.answers[:] = [
        api.Explain(7, b"{}", 1),
        api.SumOpen(b"{}", 1),
        step,
        api.SumClosed(JOB, 3, ""),
        api.SumClosed(JOB, 4, "aborted"),
    ]

    async def outgoing():
        for message in said:
            yield message

    async with CoordinatorClient(network.listener.address, network.admitted.tls) as client:
        answers = [answer async for answer in client.attend(outgoing())]
    assert answers == network.exchange.answers
    assert network.exchange.heard == [(network.admitted.id, message) for message in said]


async def test_a_witness_stream_carries_every_kind_of_message_both_ways(network):
    said: list[api.WitnessSays] = [
        api.Position(3, b"note"),
        api.Added(200, 4, b"line"),
        api.Added(409, 2, b""),
        api.Added(422, 3, b""),
        api.Fetched(1, (b"a", b"b")),
    ]
    network.witnesses.asks[:] = [
        api.AddCheckpoint(3, (bytes(32), JOB), b"note", (b"frame",)),
        api.Fetch(1, 3),
    ] * 2

    async def outgoing():
        for message in said:
            yield message

    async with CoordinatorClient(network.listener.address, network.admitted.tls) as client:
        answers = [answer async for answer in client.witness(outgoing())]
    assert answers == network.witnesses.asks
    assert network.witnesses.heard == [(network.admitted.id, message) for message in said]


async def test_an_author_appends_many_entries_on_one_stream(network):
    async with CoordinatorClient(network.listener.address, network.admitted.tls) as client:
        stub = ledger_pb2_grpc.LedgerStub(client._open())
        call = stub.AppendEach()
        for number in range(3):
            await call.write(ledger_pb2.AppendRequest(frame=b"frame %d" % number))
            reply = await call.read()
            assert (reply.index, reply.checkpoint) == (number, b"checkpoint %d" % (number + 1))
        await call.done_writing()
    assert network.ledger.frames == [(network.admitted.id, b"frame %d" % number) for number in range(3)]


async def test_attend_raises_what_its_outgoing_side_raised(network):
    async def outgoing():
        yield api.Hello("0.1.0", paused=False)
        raise BudgetError("Nothing left.")

    network.exchange.answers.append(api.SumClosed(JOB, 1, ""))
    async with CoordinatorClient(network.listener.address, network.admitted.tls) as client:
        with pytest.raises(BudgetError):
            _ = [answer async for answer in client.attend(outgoing())]


async def test_a_cancelled_attendance_ends_at_the_server(network):
    async def outgoing():
        yield api.Hello("0.1.0", paused=False)
        await asyncio.Event().wait()

    network.exchange.answers.append(api.SumClosed(JOB, 1, ""))
    async with CoordinatorClient(network.listener.address, network.admitted.tls) as client:
        heard = asyncio.Event()

        async def attend():
            async for _ in client.attend(outgoing()):
                heard.set()

        task = asyncio.create_task(attend())
        async with asyncio.timeout(5):
            await heard.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await network.exchange.left.wait()


async def test_a_refusal_reaches_the_member_as_it_was_raised(network, events):
    network.ledger.refusal = EntryError("The sequence number was used.", where="entry 12, seq", mend="重新同步。")
    async with CoordinatorClient(network.listener.address, network.admitted.tls) as client:
        with pytest.raises(EntryError) as caught:
            await client.append(b"frame")
    refused = (caught.value.what, caught.value.where, caught.value.mend)
    assert refused == ("The sequence number was used.", "entry 12, seq", "重新同步。")
    (event,) = events()
    assert (event["event"], event["code"], event["member"]) == ("rpc.refused", "bad-entry", network.admitted.id.hex())


async def test_a_very_long_refusal_still_fits_into_the_trailing_metadata(network):
    network.ledger.refusal = EntryError("错" * 3_000, where="x" * 9_000, mend="y" * 9_000)
    async with CoordinatorClient(network.listener.address, network.admitted.tls) as client:
        with pytest.raises(EntryError) as caught:
            await client.append(b"frame")
    assert caught.value.what == "错" * 333


@pytest.mark.parametrize("fault", [RuntimeError(CANARY), AssertionError(CANARY), KeyError(CANARY)])
async def test_the_text_of_an_unexpected_fault_stays_out_of_answer_and_log(network, events, tmp_path, fault):
    network.ledger.refusal = fault
    async with member_channel(network.listener.address, network.admitted.tls, 1 << 20) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            await channel.unary_unary(APPEND)(ledger_pb2.AppendRequest(frame=b"x").SerializeToString(), timeout=10)
    assert caught.value.code() == grpc.StatusCode.INTERNAL
    assert CANARY not in repr(caught.value)
    (event,) = events()
    assert event["event"] == "rpc.failed"
    assert event["types"][0] == f"builtins.{type(fault).__name__}"
    assert any("parties.py" in place and place.endswith(" append") for place in event["stack"])
    assert CANARY not in (tmp_path / "logs" / "node.log").read_text()


async def test_bytes_that_do_not_parse_are_the_callers_fault(network):
    with pytest.raises(EncodingError, match="not a message"):
        await raw_call(network, network.admitted, APPEND, b"\xff\xff\xff")
    assert network.ledger.frames == []


async def test_an_oversized_message_is_refused(network):
    with pytest.raises(LimitError):
        await raw_call(network, network.admitted, APPEND, bytes((1 << 20) + 1))
    assert network.ledger.frames == []


async def test_an_oversized_field_is_refused_by_name(network):
    message = ledger_pb2.AppendRequest(frame=bytes(65_536)).SerializeToString()
    with pytest.raises(LimitError) as caught:
        await raw_call(network, network.admitted, APPEND, message)
    assert caught.value.where == "frame"


@pytest.mark.parametrize(
    "method",
    [
        "/consortium.v1.Ledger/Drop",
        "/consortium.v1.Control/Status",
        "/consortium.v1.Enrolment/Redeem",
        "/consortium.v1.Trainer/Mask",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ],
)
async def test_unknown_methods_and_those_of_other_listeners_are_not_there(network, method):
    with pytest.raises(NotFoundError):
        await raw_call(network, network.admitted, method, b"")


@pytest.mark.parametrize(
    ("message", "where"),
    [
        (exchange_pb2.FromMember(), "FromMember"),
        (exchange_pb2.FromMember(step=exchange_pb2.SumStep(job=JOB, phase=99)), "step.phase"),
        (exchange_pb2.FromMember(step=exchange_pb2.SumStep(job=JOB)), "step.phase"),
        (exchange_pb2.FromMember(step=exchange_pb2.SumStep(job=b"short", phase=1)), "step.job"),
        (exchange_pb2.FromMember(step=exchange_pb2.SumStep(job=JOB, phase=1, survivors=[b"x"])), "step.survivors"),
        (exchange_pb2.FromMember(failed=exchange_pb2.SumFailed(job=JOB + b"x", code="paused")), "failed.job"),
        (exchange_pb2.FromMember(failed=exchange_pb2.SumFailed(job=JOB, code="mean was 4711.0815")), "failed.code"),
        (exchange_pb2.FromMember(hello=exchange_pb2.Hello(version="1\n2")), "hello.version"),
    ],
    ids=["no kind", "unknown phase", "no phase", "short job", "short member", "long job", "text as code", "version"],
)
async def test_a_stream_message_that_is_not_sound_ends_the_stream_with_its_place(network, message, where):
    address = network.listener.address
    async with member_channel(address, network.admitted.tls, 1 << 20) as channel:
        with pytest.raises(EncodingError) as caught:
            await attend_raw(channel, address, message.SerializeToString())
    assert caught.value.where == where
    assert network.exchange.heard == []


async def test_malformed_bytes_on_a_stream_end_it(network):
    address = network.listener.address
    async with member_channel(address, network.admitted.tls, 1 << 20) as channel:
        with pytest.raises(EncodingError, match="not a message"):
            await attend_raw(channel, address, b"\xff\xff\xff")


async def test_a_certificate_of_ours_whose_key_is_not_admitted_is_refused_and_logged_by_fingerprint(network, events):
    async with CoordinatorClient(network.listener.address, network.stranger.tls) as client:
        with pytest.raises(NotAuthorisedError, match="not that of an admitted member"):
            await client.append(b"frame")
    assert network.ledger.frames == []
    event = next(event for event in events() if event["event"] == "rpc.not-admitted")
    assert event["spki_sha256"] == network.stranger.key.spki_sha256.hex()
    assert "enrolment was not admitted" in event["explanation"]
    assert not set(event) - {"time", "event", "method", "spki_sha256", "explanation"}


async def wait_for_event(events, name: str) -> dict:
    async with asyncio.timeout(5):
        while not (found := [event for event in events() if event["event"] == name]):  # noqa: ASYNC110 - a file
            await asyncio.sleep(0.01)
    return found[0]


async def test_another_consortiums_certificate_is_explained_to_the_caller_and_in_the_log(network, events, tmp_path):
    foreign = House.found(tmp_path / "foreign", "Other").member("m")
    (tmp_path / "foreign" / "m" / "ca.crt").write_bytes(network.house.ca.certificate_pem)
    with handshakes_logged():
        async with CoordinatorClient(network.listener.address, foreign.tls) as client:
            with pytest.raises(NotAuthorisedError, match="certificate is of another consortium or missing"):
                await client.append(b"frame")
        event = await wait_for_event(events, "tls.certificate-foreign")
    assert "another consortium" in event["explanation"]
    assert network.ledger.frames == []


async def test_a_server_of_another_consortium_is_refused_by_the_caller(network, tmp_path):
    foreign = House.found(tmp_path / "foreign", "Other").member("m")
    async with CoordinatorClient(network.listener.address, foreign.tls) as client:
        with pytest.raises(NotAuthorisedError, match="certificate is of another consortium or missing"):
            await client.append(b"frame")


async def test_a_caller_without_a_certificate_is_refused_and_the_log_explains(network, events):
    credentials = grpc.ssl_channel_credentials(network.house.ca.certificate_pem)
    with handshakes_logged():
        async with aio.secure_channel(network.listener.address, credentials) as channel:
            with pytest.raises(grpc.RpcError) as caught:
                await channel.unary_unary(APPEND)(b"", timeout=10)
        event = await wait_for_event(events, "tls.certificate-missing")
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "consortium join" in event["explanation"]


async def connect(network, tls) -> None:
    async with CoordinatorClient(network.listener.address, tls) as client:
        await client.append(b"frame")


async def test_a_node_whose_certificate_is_missing_is_told_so_before_it_calls(network):
    network.admitted.tls.certificate.unlink()
    with pytest.raises(ConfigError, match="missing") as caught:
        await connect(network, network.admitted.tls)
    assert "consortium join" in caught.value.mend


async def test_a_node_whose_tls_key_is_open_to_others_does_not_use_it(network):
    network.admitted.tls.key.chmod(0o644)
    with pytest.raises(ConfigError, match="open to other users"):
        await connect(network, network.admitted.tls)


@pytest.mark.parametrize("name", ["certificate", "ca_certificate", "key"])
@pytest.mark.parametrize(
    "content", [b"", b"nothing", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
async def test_a_tls_file_that_holds_something_else_is_explained(network, name, content):
    getattr(network.admitted.tls, name).write_bytes(content)
    with pytest.raises(ConfigError):
        await connect(network, network.admitted.tls)


async def test_a_key_that_does_not_fit_the_certificate_is_explained(network):
    with pytest.raises(ConfigError, match="do not belong together"):
        await connect(network, replace(network.admitted.tls, key=network.stranger.tls.key))


@pytest.mark.parametrize("name", ["certificate", "ca_certificate", "key"])
async def test_a_listener_with_unsound_tls_files_does_not_start(house, name):
    tls = replace(house.server_tls, **{name: b"nothing"})
    with pytest.raises(ConfigError):
        await network_server(
            "127.0.0.1:0", tls, FakeLedger(), FakeExchange(), FakeWitnesses(), lambda _key: None, Limits()
        )


async def test_a_caller_without_tls_is_refused_and_the_log_explains(network, events):
    with handshakes_logged():
        async with aio.insecure_channel(network.listener.address) as channel:
            with pytest.raises(grpc.RpcError):
                await channel.unary_unary(APPEND)(b"", timeout=10)
        await wait_for_event(events, "tls.malformed")


async def test_other_lines_on_stderr_pass_through_while_handshakes_are_watched(capfd):
    with handshakes_logged():
        os.write(2, b"an ordinary line\n")
    assert capfd.readouterr().err == "an ordinary line\n"


async def test_a_member_has_a_limit_of_open_calls_and_gets_it_back(network):
    async with CoordinatorClient(network.listener.address, network.admitted.tls) as client:
        streams = [client.follow(0) for _ in range(3)]
        for stream in streams:
            await anext(stream)
        with pytest.raises(LimitError, match="3 calls open"):
            await client.append(b"frame")
        for stream in streams:
            await stream.aclose()
        async with asyncio.timeout(5):
            while True:
                try:
                    await client.append(b"frame")
                    break
                except LimitError:
                    await asyncio.sleep(0.01)


async def test_nobody_there_is_said_so_with_the_address(network, dead_address):
    async with CoordinatorClient(dead_address, network.admitted.tls) as client:
        with pytest.raises(UnavailableError) as caught:
            await client.append(b"frame")
    assert caught.value.where == dead_address
    assert "firewall" in caught.value.mend


async def test_a_stopping_listener_ends_open_streams(network):
    async with (
        CoordinatorClient(network.listener.address, network.admitted.tls) as client,
        aclosing(client.follow(0)) as batches,
    ):
        await anext(batches)
        await network.listener.stop(0)
        with pytest.raises(UnavailableError):
            await anext(batches)
    assert network.ledger.left.is_set()


async def test_health_is_served_to_members(network):
    from grpc_health.v1 import health_pb2

    request = health_pb2.HealthCheckRequest(service="consortium.v1.Ledger").SerializeToString()
    reply = await raw_call(network, network.admitted, "/grpc.health.v1.Health/Check", request)
    assert health_pb2.HealthCheckResponse.FromString(reply).status == health_pb2.HealthCheckResponse.SERVING
