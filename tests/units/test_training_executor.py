from __future__ import annotations

import hashlib
import io
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from consortium.errors import SecureSumError
from node.training.fixed_point import decode
from node.training.ports import Begin, Plan, Words
from tests.units.flower_apps import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Delivery,
    Executor,
    Message,
    RecordDict,
    apps,
    small_app,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the path patterns in Flower's builder
JOB = b"j" * 32
CANARY = "canary-5b1c"
LEAKY = f'''
@client.train()
def train(message, context):
    path = context.node_config["data-path"]
    rows = pq.read_table(path).num_rows
    print("{CANARY}", path, file=sys.stderr)
    print("{CANARY}")
    logging.getLogger("flwr").error("{CANARY}")
    logging.getLogger().error("{CANARY}")
    arrays = {{name: Array(array.numpy() + rows) for name, array in message.content["arrays"].items()}}
    metrics = MetricRecord({{"num-examples": rows, "loss": 0.25, "{CANARY}": 271828.0}})
    config = ConfigRecord({{"{CANARY}": "{CANARY}"}})
    return Message(RecordDict({{"arrays": ArrayRecord(arrays), "m": metrics, "c": config}}), reply_to=message)
@client.evaluate()
def evaluate(message, context):
    return Message(RecordDict({{"m": MetricRecord({{"num-examples": 1, "utility-000": 7.5}})}}), reply_to=message)
'''


def table(rows: int) -> bytes:
    data = pa.table({"x": np.arange(rows, dtype=np.float64)})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, data.schema) as stream:
        stream.write_table(data)
    return sink.getvalue()


class Node:
    """A node that permits one digest and adds a fixed mask."""

    def __init__(self, permitted: bytes) -> None:
        self.permitted = hashlib.sha256(permitted).digest()
        self.plan = Plan(2, 3, 100, ("loss",), ("utility-000",))
        self.begun: list[tuple[int, bool]] = []
        self.seen: list[Words] = []
        self.mask_word = 12345

    def begin(self, job: bytes, round_number: int, digest: bytes, model: bytes, *, needs_data: bool) -> Begin:
        self.begun.append((round_number, needs_data))
        if digest != self.permitted:
            return Begin(False, "app-not-approved")
        return Begin(True, data=table(7) if needs_data else None, plan=self.plan)

    def mask(self, job: bytes, round_number: int, model: bytes, vector: Words) -> Words:
        self.seen.append(vector)
        return vector + np.uint32(self.mask_word)


@pytest.fixture(autouse=True)
def _forget_modules() -> Iterator[None]:
    yield
    import sys

    for name in [name for name in sys.modules if name.split(".")[0] == "small"]:
        del sys.modules[name]


def ask(fab: bytes, round_number: int = 1, kind: str = "train", **config: object) -> Delivery:
    apps.identify(1, 1)
    arrays = ArrayRecord({"w": Array(np.zeros(3, np.float32))})
    settings = ConfigRecord({"job": JOB, "round": round_number, **config})  # type: ignore[dict-item]
    message = Message(RecordDict({"arrays": arrays, "config": settings}), dst_node_id=5, message_type=kind)
    message.metadata.__dict__["_message_id"] = "m"
    return Delivery(message, fab, 1, 5)


def reason(reply: Message) -> str | None:
    return reply.error.reason if reply.has_error() else None


def everything(reply: Message) -> bytes:
    """All bytes that a reply would put on the wire."""
    from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

    return b"".join(part.deflate() for part in get_all_nested_objects(reply).values()) + repr(reply).encode()


def test_a_reply_holds_one_masked_array_and_nothing_else(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    fab = small_app(tmp_path / "app", LEAKY)
    node = Node(fab)
    executor = Executor(node, tmp_path / "home")
    reply = executor.handle(ask(fab))
    assert reason(reply) is None
    assert list(reply.content) == ["masked"]
    assert list(reply.content.array_records["masked"]) == ["masked"]
    vector = reply.content.array_records["masked"]["masked"].numpy()
    assert np.array_equal(vector, node.seen[0] + np.uint32(12345))
    mean = decode(node.plan, node.seen[0], 1)
    assert mean.weights.tolist() == pytest.approx([7.0] * 3)
    assert (mean.examples, mean.metrics) == (7, pytest.approx((0.25,)))
    printed = "".join(capfd.readouterr()) + caplog.text
    assert CANARY not in printed
    assert CANARY.encode() not in everything(reply)
    assert str(tmp_path).encode() not in everything(reply)


@pytest.mark.parametrize(
    "body",
    [
        f'raise ValueError("{CANARY}")',
        f'sys.exit("{CANARY}")',
        "return None",
        f'return Message(RecordDict({{"m": MetricRecord({{"{CANARY}": 1.0}})}}), reply_to=message)',
        'return Message(RecordDict({"m": MetricRecord({"num-examples": 7, "loss": 1.0})}), reply_to=message)',
        (
            'return Message(RecordDict({"m": MetricRecord({"num-examples": 7, "loss": 1.0}), "a": ArrayRecord({"w": '
            "Array(__import__('numpy').zeros(4))})}), reply_to=message)"
        ),
    ],
)
def test_an_app_that_fails_or_answers_badly_is_a_code(
    tmp_path: Path, body: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    fab = small_app(tmp_path / "app", f"@client.train()\ndef train(message, context):\n    {body}\n")
    reply = Executor(Node(fab), tmp_path / "home").handle(ask(fab))
    assert reason(reply) == "app-failed"
    assert CANARY.encode() not in everything(reply)
    assert CANARY not in "".join(capfd.readouterr()) + caplog.text


def test_an_app_of_another_digest_is_refused_before_any_of_its_code_runs(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    source = f"open({str(trace)!r}, 'w').close()\n" + LEAKY
    approved, other = small_app(tmp_path / "a", LEAKY), small_app(tmp_path / "b", source)
    node = Node(approved)
    executor = Executor(node, tmp_path / "home")
    assert reason(executor.handle(ask(other))) == "app-not-approved"
    assert not trace.exists()
    assert node.seen == []
    assert list((tmp_path / "home" / "jobs").iterdir()) == []
    node.permitted = hashlib.sha256(other).digest()
    assert reason(executor.handle(ask(other))) is None
    assert trace.exists()


def test_another_approved_app_of_the_same_name_runs_its_own_code(tmp_path: Path) -> None:
    first, second = small_app(tmp_path / "a", LEAKY), small_app(tmp_path / "b", LEAKY.replace("0.25", "0.5"))
    node = Node(first)
    executor = Executor(node, tmp_path / "home")
    executor.handle(ask(first))
    node.permitted = hashlib.sha256(second).digest()
    assert reason(executor.handle(ask(second, 2))) == "app-changed"
    executor.forget(JOB)
    executor.handle(ask(second, 2))
    losses = [decode(node.plan, vector, 1).metrics[0] for vector in node.seen]
    assert losses == pytest.approx([0.25, 0.5])


def test_the_table_is_asked_for_once_lies_in_a_private_folder_and_goes_with_the_job(tmp_path: Path) -> None:
    fab = small_app(tmp_path / "app", LEAKY)
    node = Node(fab)
    executor = Executor(node, tmp_path / "home")
    executor.handle(ask(fab, 1))
    executor.handle(ask(fab, 2))
    folder = tmp_path / "home" / "jobs" / JOB.hex()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "train.parquet").stat().st_mode) == 0o600
    executor.handle(ask(fab, 3, "evaluate"))
    assert node.begun == [(1, True), (2, False), (3, False)]
    assert not folder.exists()
    assert decode(node.plan, node.seen[2], 1).metrics == pytest.approx((1.0,), abs=1e-5)


def test_leftovers_of_a_killed_process_are_deleted_at_start(tmp_path: Path) -> None:
    left = tmp_path / "home" / "jobs" / "old" / "train.parquet"
    left.parent.mkdir(parents=True)
    left.touch()
    Executor(Node(b""), tmp_path / "home")
    assert not left.exists()


@pytest.mark.parametrize(("round_number", "kind"), [(1, "evaluate"), (3, "train"), (4, "evaluate"), (1, "query")])
def test_a_message_of_another_kind_than_the_plans_is_refused(tmp_path: Path, round_number: int, kind: str) -> None:
    fab = small_app(tmp_path / "app", LEAKY)
    node = Node(fab)
    assert reason(Executor(node, tmp_path / "home").handle(ask(fab, round_number, kind))) == "message-malformed"
    assert node.seen == []


def test_a_message_with_anything_beside_arrays_job_and_round_is_refused(tmp_path: Path) -> None:
    fab = small_app(tmp_path / "app", LEAKY)
    executor = Executor(Node(fab), tmp_path / "home")
    assert reason(executor.handle(ask(fab, more=1))) == "message-malformed"
    short = ask(fab)
    short.message.content.config_records["config"]["job"] = b"short"
    assert reason(executor.handle(short)) == "message-malformed"


def test_a_vector_that_comes_back_unmasked_does_not_leave(tmp_path: Path) -> None:
    fab = small_app(tmp_path / "app", LEAKY)
    node = Node(fab)
    node.mask_word = 0
    assert reason(Executor(node, tmp_path / "home").handle(ask(fab))) == "training-refused"


def test_a_refusal_of_the_secure_sum_travels_as_its_code(tmp_path: Path) -> None:
    fab = small_app(tmp_path / "app", LEAKY)

    class Refusing(Node):
        def mask(self, job: bytes, round_number: int, model: bytes, vector: Words) -> Words:
            raise SecureSumError(f"Not now, {CANARY}.")

    reply = Executor(Refusing(fab), tmp_path / "home").handle(ask(fab))
    assert reason(reply) == "secure-sum-refused"
    assert CANARY.encode() not in everything(reply)


def test_a_code_of_the_node_that_is_not_a_code_is_not_passed_on(tmp_path: Path) -> None:
    class Chatty(Node):
        def begin(self, job: bytes, round_number: int, digest: bytes, model: bytes, *, needs_data: bool) -> Begin:
            return Begin(False, f"because {CANARY}")

    fab = small_app(tmp_path / "app", LEAKY)
    assert reason(Executor(Chatty(fab), tmp_path / "home").handle(ask(fab))) == "refused"
