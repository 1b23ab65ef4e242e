"""A Flower grid through which a ServerApp gets sums only.

An unmodified Message-API strategy sends its round to the nodes of the roster and gets back one reply, as if from one
node that held all the survivors' examples: the weighted mean of their arrays and metrics.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid

from node.training.executor import MASKED, MessageError, to_numpy
from node.training.fixed_point import Mean, decode, vector_length
from node.training.model_digest import archive, model_digest, unflatten
from node.training.ports import (
    Outcome,
    Plan,
    RoundRecord,
    RoundRoster,
    Rounds,
    RoundSum,
    TrainingError,
    Words,
)

_PULL_PAUSE = 0.05
_STRAGGLER_SECONDS = 2.0
_log = logging.getLogger("node.training.grid")


@dataclass(frozen=True)
class Run:
    """One training run as its ServerApp child knows it.

    Attributes:
        job: the job's id.
        plan: what it declares.
        members: Flower's node id by member.
        roster_seed: seed of the rosters.
        progress_seconds: how long a round waits for the next masked array before it goes on without the missing ones.
    """

    job: bytes
    plan: Plan
    members: Mapping[bytes, int]
    roster_seed: bytes
    progress_seconds: float


class SummingGrid(Grid):
    """Wraps Flower's grid for one run; one `send_and_receive` is one round is one secure sum."""

    def __init__(self, grid: Grid, run: Run, rounds: Rounds, round_roster: RoundRoster) -> None:
        self._grid = grid
        self._run_values = run
        self._rounds = rounds
        self._round_roster = round_roster
        self._records: list[RoundRecord] = []
        self._models: list[bytes] = []
        self._silent: frozenset[bytes] = frozenset()

    def set_run(self, _run: Any) -> None:
        """Flower sets the run on its own grid before ours exists."""
        self._refuse()

    @property
    def run(self) -> Any:
        """Flower's description of the run."""
        return self._grid.run

    def create_message(self, *_: object, **__: object) -> NoReturn:
        """Deprecated in Flower; not here."""
        self._refuse()

    def push_messages(self, _messages: Iterable[Message]) -> NoReturn:
        """Not here: one vector alone is nobody's to see."""
        self._refuse()

    def pull_messages(self, _message_ids: Iterable[str]) -> NoReturn:
        """Not here: one vector alone is nobody's to see."""
        self._refuse()

    def get_node_ids(self) -> list[int]:
        """The nodes of the coming round."""
        return [self._run_values.members[member] for member in self._roster(len(self._records) + 1)]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Runs one round; the result is one message, or none when none was to be sent.

        Raises:
            TrainingError: the messages do not go to the roster, or not with one model, or too many rounds.
            ConsortiumError: the secure sum cannot be finished.
        """
        asked = list(messages)
        if not asked:
            return []
        run, number = self._run_values, len(self._records) + 1
        if number > run.plan.rounds + 1:
            raise TrainingError("The app asks for more rounds than the job declares.", where=f"round {number}")
        arrays = self._check(asked, number)
        model = model_digest(arrays)
        roster = self._roster(number)
        weights = sum(array.size for array in arrays.values()) if run.plan.is_training(number) else 0
        length = vector_length(weights, len(run.plan.metrics(number)))
        self._rounds.open(run.job, number, roster, model, length)
        masked = self._exchange(asked, arrays, number, length, timeout)
        result = self._rounds.sum(run.job, number, masked)
        mean = decode(run.plan, _checked_total(result, length), len(run.plan.metrics(number)))
        return [self._reply(asked[0], number, arrays, mean, roster, result.survivors, model)]

    def outcome(self) -> Outcome:
        """What all rounds so far came to."""
        return Outcome(tuple(self._records), tuple(self._models))

    def _roster(self, number: int) -> tuple[bytes, ...]:
        run = self._run_values
        members = sorted(run.members)
        return self._round_roster(run.roster_seed, number, members) if run.plan.is_training(number) else tuple(members)

    def _check(self, messages: Sequence[Message], number: int) -> dict[str, np.ndarray[Any, Any]]:
        kind = "train" if self._run_values.plan.is_training(number) else "evaluate"
        if sorted(message.metadata.dst_node_id for message in messages) != sorted(self.get_node_ids()):
            raise TrainingError("The messages do not go to the roster, one to each.", where=f"round {number}")
        records = [_only_arrays(message) for message in messages]
        one_model = all(record is records[0] or record == records[0] for record in records)
        if not one_model or any(message.metadata.message_type != kind for message in messages):
            raise TrainingError("The messages of a round carry one model and one type.", where=f"round {number}")
        return to_numpy(records[0])

    def _exchange(
        self,
        asked: Sequence[Message],
        arrays: Mapping[str, np.ndarray[Any, Any]],
        number: int,
        length: int,
        timeout: float | None,
    ) -> dict[bytes, Words]:
        """Sends our messages and collects masked vectors until all came or progress stopped."""
        by_node = {node: member for member, node in self._run_values.members.items()}
        content = RecordDict(
            {
                "arrays": ArrayRecord({name: Array(array) for name, array in arrays.items()}),
                "config": ConfigRecord({"job": self._run_values.job, "round": number}),
            }
        )
        sent = [
            Message(content, dst_node_id=message.metadata.dst_node_id, message_type=message.metadata.message_type)
            for message in asked
        ]
        identifiers = list(self._grid.push_messages(sent))
        open_messages = {
            identifier: by_node[message.metadata.dst_node_id]
            for identifier, message in zip(identifiers, sent, strict=True)
            if identifier
        }
        masked = self._collect(open_messages, length, timeout)
        self._silent = frozenset(by_node[message.metadata.dst_node_id] for message in sent) - set(masked)
        return masked

    def _collect(self, open_messages: dict[str, bytes], length: int, timeout: float | None) -> dict[bytes, Words]:
        masked: dict[bytes, Words] = {}
        progress = started = time.monotonic()
        while open_messages:
            replies = list(self._grid.pull_messages(list(open_messages)))
            for reply in replies:
                member = open_messages.pop(reply.metadata.reply_to_message_id)
                vector = _masked_vector(reply, length)
                if vector is not None:
                    masked[member] = vector
            now = time.monotonic()
            if replies:
                progress = now
                continue
            patience = self._run_values.progress_seconds
            if set(open_messages.values()) <= self._silent:
                patience = min(patience, _STRAGGLER_SECONDS)
            if now - progress > patience or (timeout is not None and now - started > timeout):
                _log.warning("%d members did not answer in time", len(open_messages))
                break
            time.sleep(_PULL_PAUSE)
        return masked

    def _reply(
        self,
        asked: Message,
        number: int,
        arrays: Mapping[str, np.ndarray[Any, Any]],
        mean: Mean,
        roster: tuple[bytes, ...],
        survivors: tuple[bytes, ...],
        model: bytes,
    ) -> Message:
        plan = self._run_values.plan
        metrics = dict(zip(plan.metrics(number), mean.metrics, strict=True))
        content = RecordDict({"metrics": MetricRecord({**metrics, "num-examples": mean.examples})})
        if plan.is_training(number):
            averaged = unflatten(arrays, mean.weights)
            content["arrays"] = ArrayRecord({name: Array(array) for name, array in averaged.items()})
            self._models[number - 1 :] = [archive(arrays), archive(averaged)]
        self._records.append(RoundRecord(number, roster, survivors, model, mean.examples, metrics))
        return Message(content, reply_to=asked)

    def _refuse(self) -> NoReturn:
        raise TrainingError(
            "A ServerApp gets only sums.", where="Grid", mend="Use send_and_receive, as Flower's strategies do."
        )


def _only_arrays(message: Message) -> ArrayRecord:
    records = list(message.content.array_records.values())
    if len(records) != 1:
        raise TrainingError("A message carries exactly one model.", where="arrays")
    return records[0]


def _masked_vector(reply: Message, length: int) -> Words | None:
    """The masked vector of a reply, or None for an error or anything else."""
    if reply.has_error():
        _log.warning("node %d: %s", reply.metadata.src_node_id, str(reply.error.reason)[:40])
        return None
    record = reply.content.get(MASKED)
    if not isinstance(record, ArrayRecord) or list(record) != [MASKED]:
        _log.warning("node %d: reply-malformed", reply.metadata.src_node_id)
        return None
    try:
        vector = to_numpy(record)[MASKED]
    except MessageError:
        _log.warning("node %d: reply-malformed", reply.metadata.src_node_id)
        return None
    if vector.dtype != np.uint32 or vector.shape != (length,):
        _log.warning("node %d: reply-malformed", reply.metadata.src_node_id)
        return None
    return vector


def _checked_total(result: RoundSum, length: int) -> Words:
    assert result.total.dtype == np.uint32, "a sum is of 32-bit words"
    assert result.total.shape == (length,), "a sum has the length that was opened"
    return result.total
