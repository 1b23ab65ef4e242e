"""The unix sockets of a node: its local control, and its own Flower children."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grpc import aio
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from consortium.errors import (
    ConfigError,
    EncodingError,
    LimitError,
    NotFoundError,
    PolicyRefusedError,
    SecureSumError,
    UnavailableError,
)
from node.config import Limits, NodeHome, create_home
from node.rpc.channels import explained_local
from node.rpc.child_client import RoundsClient, TrainerClient
from node.rpc.client import ControlClient
from node.rpc.python_client import Node
from node.rpc.server import Listener, local_server, rounds_server, trainer_server
from node.services import api
from protos.v1 import control_pb2, training_pb2
from tests.wire.parties import FakeRounds, FakeTrainer

JOB, DIGEST, MODEL = bytes(32), bytes([1] * 32), bytes([2] * 32)
CALLS: list[tuple[str, tuple[Any, ...]]] = [
    ("status", ()),
    ("pause", ()),
    ("resume", ()),
    ("invite", ("New Ltd", 72)),
    ("list_members", ()),
    ("accept_member", ("0123-4567",)),
    ("offer_dataset", (Path("/d.csv"), Path("/d.json"), Path("/d.cedar"), 500_000, "1e-6")),
    ("list_datasets", ()),
    ("show_budget", ()),
    ("close_rounds", ()),
    ("check_policy", (Path("/d.cedar"),)),
    ("seat_committee", (["a", "b"],)),
    ("catalogue_app", ("power", b"fab")),
    ("approve_app", ("ab" * 32,)),
    ("explain_job", ({"kind": "statistics", "purpose": "研究"},)),
    ("submit_job", ({"kind": "statistics"},)),
    ("abort_job", ("cd" * 32,)),
    ("list_jobs", ()),
    ("export_ledger", (Path("/out"),)),
    ("save_checkpoint", (Path("/out/checkpoint"),)),
    ("list_entries", (5, 10)),
    ("show_credits", ()),
    ("settle", ("ef" * 32, "100000")),
    ("propose", ({"type": "suspend", "member": "0123-4567"}, 70)),
    ("vote", ("ab" * 32, "against")),
    ("list_proposals", ()),
    ("rotate_key", ()),
    ("erase", ("0123-4567",)),
]


class FakeControl:
    """Every method of ControlService: notes its arguments and answers with the document set for it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[Any, ...]]] = []
        self.answers: dict[str, Any] = {}
        self.progress: list[dict[str, Any]] = []
        self.refusal: Exception | None = None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def answer(*arguments: Any) -> Any:
            if self.refusal is not None:
                raise self.refusal
            self.asked.append((name, arguments))
            return self.answers.get(name, {"answer": name, "mean": 0.5, "legal_name": "甲公司"})

        return answer

    async def watch_job(self, job: str) -> AsyncIterator[dict[str, Any]]:
        self.asked.append(("watch_job", (job,)))
        for document in self.progress:
            yield document


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    return create_home(tmp_path / "n")


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
async def listener(home: NodeHome, control: FakeControl) -> AsyncIterator[Listener]:
    listener = await local_server(home.control_socket, control, Limits(message_bytes_max=1 << 20))
    yield listener
    await listener.stop(0)


def test_every_method_of_the_control_service_is_called_in_these_tests():
    methods = {name for name in vars(api.ControlService) if not name.startswith("_")}
    assert methods == {name for name, _ in CALLS} | {"watch_job"}


async def test_every_control_call_arrives_with_its_arguments_and_returns_its_document(home, control, listener):
    async with ControlClient(home.path) as client:
        for name, arguments in CALLS:
            answer = await getattr(client, name)(*arguments)
            assert answer == {"answer": name, "mean": 0.5, "legal_name": "甲公司"}
    assert control.asked == CALLS


async def test_watching_streams_every_document(home, control, listener):
    control.progress = [{"state": "running", "done": n} for n in range(3)]
    async with ControlClient(home.path) as client:
        assert [document async for document in client.watch_job("ab")] == control.progress


async def test_a_relative_path_is_sent_as_the_callers_absolute_one(home, control, listener):
    async with ControlClient(home.path) as client:
        await client.check_policy(Path("here.cedar"))
    ((name, (path,)),) = control.asked
    assert (name, path) == ("check_policy", Path.cwd() / "here.cedar")


async def local_call(path: Path, method: str, message: bytes) -> bytes:
    async with aio.insecure_channel(f"unix:{path}") as channel:
        with explained_local(path):
            return await channel.unary_unary(method)(message, timeout=10)


@pytest.mark.parametrize(
    ("method", "message", "error", "where"),
    [
        ("Status", b"\xff\xff", EncodingError, ""),
        ("Status", bytes(2 << 20), LimitError, ""),
        ("Forget", b"", NotFoundError, ""),
        ("ExportLedger", control_pb2.ExportLedgerRequest(folder="out"), EncodingError, "folder"),
        ("SubmitJob", control_pb2.SubmitJobRequest(job=b'{"epsilon":0.5}'), EncodingError, ""),
        ("SubmitJob", control_pb2.SubmitJobRequest(job=b'{"a":1,"a":2}'), EncodingError, ""),
        ("SubmitJob", control_pb2.SubmitJobRequest(job=b"[]"), EncodingError, "job"),
        ("ExplainJob", control_pb2.ExplainJobRequest(job=b" " * 70_000), LimitError, ""),
    ],
)
async def test_bad_control_messages_are_refused_before_the_node_is_asked(
    home, control, listener, method, message, error, where
):
    data = message if isinstance(message, bytes) else message.SerializeToString()
    with pytest.raises(error) as caught:
        await local_call(home.control_socket, f"/consortium.v1.Control/{method}", data)
    assert caught.value.where == where or error in (NotFoundError, LimitError)
    assert control.asked == []


async def test_a_float_in_a_job_is_refused_by_the_client_already(home, control, listener):
    async with ControlClient(home.path) as client:
        with pytest.raises(EncodingError, match="float"):
            await client.submit_job({"epsilon": 0.5})


async def test_no_node_in_the_folder_is_said_so(home):
    async with ControlClient(home.path) as client:
        with pytest.raises(UnavailableError, match="No node serves") as caught:
            await client.status()
    assert "consortium serve" in caught.value.mend


async def test_a_node_that_says_unavailable_is_not_mistaken_for_none(home, control, listener):
    control.refusal = UnavailableError("The coordinator is away.")
    async with ControlClient(home.path) as client:
        with pytest.raises(UnavailableError, match="coordinator is away"):
            await client.status()


async def test_the_socket_is_for_its_owner_only(home, listener):
    assert stat.S_IMODE(home.control_socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.run.stat().st_mode) == 0o700
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700


async def test_a_socket_in_an_open_folder_is_not_served(home, control):
    home.run.chmod(0o755)
    with pytest.raises(ConfigError, match="open to other users"):
        await local_server(home.control_socket, control, Limits())


async def test_a_second_node_of_one_folder_is_refused_and_the_first_serves_on(home, control, listener):
    with pytest.raises(ConfigError, match="already"):
        await local_server(home.control_socket, FakeControl(), Limits())
    async with ControlClient(home.path) as client:
        assert (await client.status())["answer"] == "status"


async def test_a_socket_file_left_by_a_killed_node_does_not_stop_the_next(home, control):
    server = await asyncio.start_unix_server(lambda reader, writer: None, home.control_socket)
    server.close()
    await server.wait_closed()
    if not home.control_socket.exists():
        home.control_socket.touch()
    listener = await local_server(home.control_socket, control, Limits())
    await listener.stop(0)


async def test_reflection_and_health_are_served_on_the_local_socket(home, listener):
    async with aio.insecure_channel(f"unix:{home.control_socket}") as channel:
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        replies = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]))
        async for reply in replies:
            names = {service.name for service in reply.list_services_response.service}
    assert names == {
        "consortium.v1.Control",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


async def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.to_thread(function, *arguments)


async def test_the_python_client_returns_tables(home, control, listener):
    control.answers = {
        "list_datasets": {
            "datasets": [
                {"legal_name": "甲", "dataset": "scada", "columns": [{"name": "power", "unit": "kW"}, {"name": "wind"}]}
            ]
        },
        "show_credits": {"accounts": [{"account": "a", "balance": "25000"}], "settlements": [], "scores": []},
        "submit_job": {"job": "ab" * 32, "index": 9},
    }
    control.progress = [
        {"state": "running"},
        {"state": "done", "result": {"epsilon_milli": 500, "bins": [{"bin": 1, "mean": 2.5}, {"bin": 2, "mean": 3.5}]}},
    ]

    def session() -> None:
        with Node(home.path) as node:
            assert node.datasets()["dataset"].tolist() == ["scada"]
            assert node.columns()["name"].tolist() == ["power", "wind"]
            assert node.credits()["balance"].tolist() == ["25000"]
            job = node.job({"kind": "statistics"})
            assert job.id == "ab" * 32
            assert [document["state"] for document in job.watch()] == ["running", "done"]
            assert job.result()["mean"].tolist() == [2.5, 3.5]

    await in_thread(session)


async def test_the_python_client_raises_a_jobs_refusals_by_clause(home, control, listener):
    clauses = [{"id": "purpose", "reason": "no"}, {"id": "column", "reason": "no"}]
    control.progress = [{"state": "refused", "refusals": [{"legal_name": "甲", "clauses": clauses}]}]

    def session() -> None:
        with Node(home.path) as node, pytest.raises(PolicyRefusedError) as caught:
            node.job("ab" * 32).result()
        assert caught.value.where == "甲: purpose, column"

    await in_thread(session)


async def test_the_python_client_raises_a_jobs_failure(home, control, listener):
    control.progress = [{"state": "aborted", "reason": "secure-sum-refused"}]

    def session() -> None:
        with Node(home.path) as node, pytest.raises(UnavailableError, match="aborted") as caught:
            node.job("ab" * 32).result()
        assert caught.value.where == "secure-sum-refused"

    await in_thread(session)


async def test_a_trainer_child_begins_and_masks(home):
    begin = api.Begin(permitted=True, code="", table=b"arrow", plan={"rounds": 5})
    listener = await trainer_server(home.trainer_socket, FakeTrainer(begin), Limits())
    words = np.array([0, 1, 2**32 - 1], dtype=np.uint32)

    def session() -> None:
        with TrainerClient(home.trainer_socket) as trainer:
            assert trainer.begin(JOB, 1, DIGEST, MODEL, needs_table=True) == begin
            assert trainer.begin(JOB, 2, DIGEST, MODEL, needs_table=False).table == b""
            masked = trainer.mask(JOB, 3, MODEL, words)
            assert masked.dtype == np.uint32
            assert masked.tolist() == [3, 4, 2]

    await in_thread(session)
    await listener.stop(0)


async def test_a_refusal_reaches_a_child_with_its_code(home):
    refusal = SecureSumError("The round was replayed.", where="round 3")
    begin = api.Begin(permitted=False, code="refused-by-policy", table=b"", plan=None)
    listener = await trainer_server(home.trainer_socket, FakeTrainer(begin, refusal), Limits())

    def session() -> None:
        with TrainerClient(home.trainer_socket) as trainer:
            assert trainer.begin(JOB, 1, DIGEST, MODEL, needs_table=True) == begin
            with pytest.raises(SecureSumError, match="replayed") as caught:
                trainer.mask(JOB, 3, MODEL, np.zeros(1, dtype=np.uint32))
            assert caught.value.code == "secure-sum-refused"

    await in_thread(session)
    await listener.stop(0)


async def test_a_vector_larger_than_a_members_message_passes(home):
    begin = api.Begin(permitted=True, code="", table=b"", plan={})
    listener = await trainer_server(home.trainer_socket, FakeTrainer(begin), Limits())

    def session() -> None:
        with TrainerClient(home.trainer_socket) as trainer:
            masked = trainer.mask(JOB, 1, MODEL, np.zeros(5_000_000, dtype=np.uint32))
        assert masked.shape == (5_000_000,)
        assert (masked == 1).all()

    await in_thread(session)
    await listener.stop(0)


async def test_a_rounds_child_opens_sums_and_finishes(home):
    rounds = FakeRounds()
    listener = await rounds_server(home.rounds_socket, rounds, Limits())
    one, two = bytes([3] * 32), bytes([4] * 32)

    def session() -> None:
        with RoundsClient(home.rounds_socket) as client:
            client.open(JOB, 2, [one, two], MODEL, 2)
            masked = {one: np.array([1, 2**32 - 1], dtype=np.uint32), two: np.array([2, 3], dtype=np.uint32)}
            total = client.sum(JOB, 2, masked)
            assert total.total.tolist() == [3, 2]
            assert total.survivors == (one, two)
            client.finish(JOB, b"{}")

    await in_thread(session)
    assert rounds.opened == [(JOB, 2, (one, two), MODEL, 2)]
    assert rounds.outcomes == [b"{}"]
    await listener.stop(0)


@pytest.mark.parametrize(
    ("message", "where"),
    [
        (training_pb2.SumRequest(job=b"x"), "job"),
        (training_pb2.SumRequest(job=JOB, arrays=[training_pb2.MaskedArray(member=JOB, words=b"abc")]), "arrays.words"),
        (training_pb2.SumRequest(job=JOB, arrays=[training_pb2.MaskedArray(member=b"abc")]), "arrays.member"),
        (training_pb2.SumRequest(job=JOB, arrays=[training_pb2.MaskedArray(member=JOB)] * 2), "arrays.member"),
    ],
    ids=["short job", "half a word", "short member", "a member twice"],
)
async def test_a_childs_unsound_message_is_refused(home, message, where):
    listener = await rounds_server(home.rounds_socket, FakeRounds(), Limits())
    with pytest.raises(EncodingError) as caught:
        await local_call(home.rounds_socket, "/consortium.v1.Rounds/Sum", message.SerializeToString())
    assert caught.value.where == where
    await listener.stop(0)


async def test_a_child_cannot_call_the_nodes_control_on_its_own_socket(home):
    listener = await rounds_server(home.rounds_socket, FakeRounds(), Limits())
    for method in ("/consortium.v1.Control/Pause", "/consortium.v1.Trainer/Mask", "/consortium.v1.Ledger/Append"):
        with pytest.raises(NotFoundError):
            await local_call(home.rounds_socket, method, b"")
    await listener.stop(0)
