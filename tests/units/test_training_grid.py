from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from consortium.errors import SecureSumError
from node.training.fixed_point import encode
from node.training.model_digest import load_archive, model_digest
from node.training.ports import Outcome, Plan, RoundSum, TrainingError, Words
from tests.units.flower_apps import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Error,
    Message,
    MetricRecord,
    RecordDict,
    Run,
    SummingGrid,
    apps,
)

PLAN = Plan(2, 4, 100, ("loss",), ("utility-000",))
MEMBERS = {bytes([index]) * 32: index + 10 for index in range(4)}


class Nodes:
    """Flower's grid with four nodes behind it; `replies` makes a node's reply."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.replies: dict[int, Any] = {}
        self.run = "run"

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        self.sent = list(messages)
        for message in self.sent:
            message.metadata.__dict__["_message_id"] = f"m{message.metadata.dst_node_id}"
        return [message.metadata.message_id for message in self.sent]

    def pull_messages(self, identifiers: Iterable[str]) -> list[Message]:
        asked = set(identifiers)
        ready = [message for message in self.sent if message.metadata.message_id in asked]
        made = [self.replies.get(message.metadata.dst_node_id, answer)(message) for message in ready]
        return [reply for reply in made if reply is not None]


def answer(message: Message) -> Message:
    number = message.content.config_records["config"]["round"]
    node = message.metadata.dst_node_id
    weights = np.full(2, float(node)) if number != 3 else np.empty(0)
    vector = encode(PLAN, weights, node, [node / 100])
    return Message(RecordDict({"masked": ArrayRecord({"masked": Array(vector)})}), reply_to=message)


class Sums:
    def __init__(self) -> None:
        self.opened: list[tuple[int, tuple[bytes, ...], bytes, int]] = []
        self.masked: list[Mapping[bytes, Words]] = []

    def open(self, job: bytes, round_number: int, roster: Sequence[bytes], model: bytes, length: int) -> None:
        self.opened.append((round_number, tuple(roster), model, length))

    def sum(self, job: bytes, round_number: int, masked: Mapping[bytes, Words]) -> RoundSum:
        self.masked.append(masked)
        if len(masked) < 3:
            raise SecureSumError("Too few.")
        return RoundSum(np.sum(list(masked.values()), axis=0, dtype=np.uint32), tuple(sorted(masked)))

    def finish(self, job: bytes, outcome: Outcome) -> None:
        raise AssertionError


def three_of_four(_seed: bytes, round_number: int, members: Sequence[bytes]) -> tuple[bytes, ...]:
    return tuple(member for member in members if member[0] != round_number)


@pytest.fixture
def parts() -> tuple[SummingGrid, Nodes, Sums]:
    apps.identify(1, 1)
    nodes, sums = Nodes(), Sums()
    run = Run(b"j" * 32, PLAN, MEMBERS, b"seed", 0.3)
    return SummingGrid(nodes, run, sums, three_of_four), nodes, sums  # type: ignore[arg-type]


def model(value: float = 0.0) -> ArrayRecord:
    return ArrayRecord({"w": Array(np.full((1, 2), value, np.float32))})


def messages(grid: SummingGrid, kind: str = "train", arrays: ArrayRecord | None = None) -> list[Message]:
    content = RecordDict({"arrays": arrays or model(), "config": ConfigRecord({"secret": "to be stripped"})})
    return [Message(content, dst_node_id=node, message_type=kind) for node in grid.get_node_ids()]


def test_a_round_asks_its_roster_with_job_and_round_only_and_returns_one_weighted_mean(
    parts: tuple[SummingGrid, Nodes, Sums],
) -> None:
    grid, nodes, sums = parts
    (reply,) = grid.send_and_receive(messages(grid))
    assert [message.metadata.dst_node_id for message in nodes.sent] == [10, 12, 13]
    for message in nodes.sent:
        assert set(message.content) == {"arrays", "config"}
        assert dict(message.content.config_records["config"]) == {"job": b"j" * 32, "round": 1}
    expected = (10**2 + 12**2 + 13**2) / 35
    assert reply.content.array_records["arrays"]["w"].numpy() == pytest.approx(np.full((1, 2), expected))
    metrics = reply.content.metric_records["metrics"]
    assert metrics["num-examples"] == 35
    assert metrics["loss"] == pytest.approx(expected / 100)
    ((number, roster, digest, length),) = sums.opened
    assert (number, len(roster), length) == (1, 3, 4)
    assert digest == model_digest({"w": np.zeros((1, 2), np.float32)})


def test_the_outcome_keeps_every_rounds_model_and_the_last_mean(parts: tuple[SummingGrid, Nodes, Sums]) -> None:
    grid, _, sums = parts
    for _ in range(2):
        (reply,) = grid.send_and_receive(messages(grid))
    assert grid.send_and_receive([]) == []
    assert sorted(grid.get_node_ids()) == [10, 11, 12, 13]
    (last,) = grid.send_and_receive(messages(grid, "evaluate"))
    assert set(last.content) == {"metrics"}
    outcome = grid.outcome()
    assert [(record.round, len(record.roster)) for record in outcome.rounds] == [(1, 3), (2, 3), (3, 4)]
    assert len(outcome.models) == 3
    final = load_archive(outcome.models[-1])["w"]
    assert np.array_equal(final, reply.content.array_records["arrays"]["w"].numpy())
    assert sums.opened[2][3] == 2
    with pytest.raises(TrainingError):
        grid.send_and_receive(messages(grid, "evaluate"))


def test_messages_with_two_models_or_to_others_than_the_roster_or_of_another_type_are_refused(
    parts: tuple[SummingGrid, Nodes, Sums],
) -> None:
    grid, nodes, sums = parts
    first, *rest = messages(grid)
    swapped = Message(RecordDict({"arrays": model(1.0)}), dst_node_id=first.metadata.dst_node_id, message_type="train")
    stranger = Message(RecordDict({"arrays": model()}), dst_node_id=11, message_type="train")
    for bad in ([swapped, *rest], [stranger, *rest], rest, [first, first, *rest], messages(grid, "evaluate")):
        with pytest.raises(TrainingError):
            grid.send_and_receive(bad)
    assert (nodes.sent, sums.opened) == ([], [])


def test_one_vector_alone_is_not_to_be_had(parts: tuple[SummingGrid, Nodes, Sums]) -> None:
    grid, *_ = parts
    for call in (lambda: grid.push_messages(messages(grid)), lambda: grid.pull_messages(["m10"])):
        with pytest.raises(TrainingError):
            call()


@pytest.mark.parametrize(
    "bad",
    [
        lambda message: None,
        lambda message: Message(Error(2, "app-failed"), reply_to=message),
        lambda message: Message(RecordDict({"m": MetricRecord({"x": 1.0})}), reply_to=message),
        lambda message: Message(
            RecordDict({"masked": ArrayRecord({"masked": Array(np.zeros(3, np.uint32))})}), reply_to=message
        ),
        lambda message: Message(
            RecordDict({"masked": ArrayRecord({"masked": Array(np.zeros(4, np.float64))})}), reply_to=message
        ),
    ],
)
def test_a_member_that_is_silent_fails_or_answers_badly_is_left_out_of_the_sum(
    parts: tuple[SummingGrid, Nodes, Sums], bad: Any
) -> None:
    grid, nodes, sums = parts
    nodes.replies[12] = bad
    with pytest.raises(SecureSumError):
        grid.send_and_receive(messages(grid))
    assert [MEMBERS[member] for member in sums.masked[0]] == [10, 13]
    assert grid.outcome() == Outcome((), ())
