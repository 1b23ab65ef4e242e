"""What Flower's children ask of the node that started them: plain values, synchronous calls, no framework.

The children hold no ledger key and decide nothing: a SuperNode's child asks its member's node before it runs an app
and lets it mask what comes out (`Trainer`); a ServerApp's child asks the coordinator's node for one secure sum a
round (`Rounds`). Both are reached over a unix socket in the node's own folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from consortium.errors import ConsortiumError

Words = npt.NDArray[np.uint32]

ROUNDS_MAX = 29
MEMBERS_MAX = 7
METRICS_MAX = 256


class TrainingError(ConsortiumError):
    """A training round, app, model or plan that is refused."""

    code: ClassVar[str] = "training-refused"


@dataclass(frozen=True)
class Plan:
    """What a training job declares in public, the same at every member and at the coordinator.

    Attributes:
        rounds: training messages; message `rounds + 1`, the last, asks for the evaluation of all round models.
        members_max: members of the job, 3 to 7.
        examples_max: the largest number of examples that one member may hold; weights are scaled by it.
        train_metrics: names of the metrics that a training reply carries, as masked coordinates.
        evaluate_metrics: names of the utilities, each clipped to [0, 1], that the evaluation reply carries.
        run_config: values that replace the app's own configuration; the SuperLink's are ignored at the nodes.
    """

    rounds: int
    members_max: int
    examples_max: int
    train_metrics: tuple[str, ...]
    evaluate_metrics: tuple[str, ...]
    run_config: Mapping[str, bool | int | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _need(1 <= self.rounds <= ROUNDS_MAX, "rounds", f"Declare 1 to {ROUNDS_MAX} training rounds.")
        _need(2 <= self.members_max <= MEMBERS_MAX, "members_max", f"Declare at most {MEMBERS_MAX} members.")
        _need(
            self.examples_max >= 1 and self.members_max * self.examples_max < 2**31,
            "examples_max",
            "Declare a number of examples whose sum over the members stays below 2**31.",
        )
        for name, metrics in (("train_metrics", self.train_metrics), ("evaluate_metrics", self.evaluate_metrics)):
            distinct = len(set(metrics)) == len(metrics) and "num-examples" not in metrics
            _need(distinct and len(metrics) <= METRICS_MAX, name, f"Name at most {METRICS_MAX} distinct metrics.")

    def is_training(self, round_number: int) -> bool:
        """Whether this message trains (else it is the evaluation)."""
        return 1 <= round_number <= self.rounds

    def metrics(self, round_number: int) -> tuple[str, ...]:
        """The metrics that the reply of this round carries, in their order."""
        return self.train_metrics if self.is_training(round_number) else self.evaluate_metrics

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON values without floats."""
        return {
            "evaluate_metrics": list(self.evaluate_metrics),
            "examples_max": self.examples_max,
            "members_max": self.members_max,
            "rounds": self.rounds,
            "run_config": dict(self.run_config),
            "train_metrics": list(self.train_metrics),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Plan:
        """The plan from JSON values.

        Raises:
            TrainingError: a field is missing, unknown, of another type or out of range.
        """
        numbers, names = ("rounds", "members_max", "examples_max"), ("train_metrics", "evaluate_metrics")
        _need(set(value) == {*numbers, *names, "run_config"}, "plan", "Give the six fields of a plan.")
        for name in numbers:
            _need(type(value[name]) is int, name, "Give an integer.")
        for name in names:
            texts = isinstance(value[name], list) and all(isinstance(item, str) for item in value[name])
            _need(texts, name, "Give a list of names.")
        config = value["run_config"]
        flat = isinstance(config, dict) and all(isinstance(item, bool | int | str) for item in config.values())
        _need(flat, "run_config", "Give a flat object of integers, texts and booleans.")
        return cls(
            rounds=value["rounds"],
            members_max=value["members_max"],
            examples_max=value["examples_max"],
            train_metrics=tuple(value["train_metrics"]),
            evaluate_metrics=tuple(value["evaluate_metrics"]),
            run_config=dict(config),
        )


@dataclass(frozen=True, repr=False)
class Begin:
    """A node's answer to its own child before a round.

    Attributes:
        permitted: whether the app may run on this node's data in this round.
        code: why not, a code of a `ConsortiumError` ("" when permitted).
        data: the training table as an Arrow IPC stream, when permitted and asked for.
        plan: the job's plan, from the ledger, not from Flower (None when not permitted).
    """

    permitted: bool
    code: str = ""
    data: bytes | None = None
    plan: Plan | None = None


@dataclass(frozen=True)
class RoundSum:
    """What a secure sum reveals: the sum mod 2**32 over the survivors' vectors, and who they are."""

    total: Words
    survivors: tuple[bytes, ...]


@dataclass(frozen=True)
class RoundRecord:
    """One round as the ServerApp saw it.

    Attributes:
        round: from 1.
        roster: members asked.
        survivors: members whose vectors are in the sum.
        model_sha256: digest of the arrays that went down (`model_digest`).
        examples: examples of the survivors together.
        metrics: means over the survivors, weighted by examples.
    """

    round: int
    roster: tuple[bytes, ...]
    survivors: tuple[bytes, ...]
    model_sha256: bytes
    examples: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Outcome:
    """The result of a run.

    Attributes:
        rounds: a record of every secure sum, in order.
        models: NumPy `.npz` archives: the model that went into each training round, then the final one.
    """

    rounds: tuple[RoundRecord, ...]
    models: tuple[bytes, ...]


class Trainer(Protocol):
    """The member's node, as its SuperNode child sees it. Raises ConsortiumError for every refusal."""

    def begin(self, job: bytes, round_number: int, digest: bytes, model_sha256: bytes, *, needs_data: bool) -> Begin:
        """Whether the app of this digest may run in this round of this job; the table, if the child lacks it."""
        ...

    def mask(self, job: bytes, round_number: int, model_sha256: bytes, vector: Words) -> Words:
        """The vector plus this node's masks; blocks until the round's keys are there."""
        ...


class Rounds(Protocol):
    """The coordinator's node, as the ServerApp child sees it. Raises ConsortiumError for every refusal."""

    def open(self, job: bytes, round_number: int, roster: Sequence[bytes], model_sha256: bytes, length: int) -> None:
        """Starts the secure sum of a round over vectors of `length` words."""
        ...

    def sum(self, job: bytes, round_number: int, masked: Mapping[bytes, Words]) -> RoundSum:
        """Finishes it with the masked vectors that came by Flower, by member."""
        ...

    def finish(self, job: bytes, outcome: Outcome) -> None:
        """Hands over the result of the run."""
        ...


class RoundRoster(Protocol):
    """`consortium.jobs.round_roster`: who takes part in a training round, the same for everybody."""

    def __call__(self, seed: bytes, round_number: int, members: Sequence[bytes]) -> tuple[bytes, ...]: ...


def _need(condition: bool, where: str, mend: str) -> None:
    if not condition:
        raise TrainingError("The training plan is not valid.", where=where, mend=mend)
