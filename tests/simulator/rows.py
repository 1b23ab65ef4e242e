"""What stands in for a member's file: rows with known sums, its policy, and noise that is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from consortium.privacy.descriptor import DatasetDescriptor
from consortium.privacy.plan import Plan
from node.services.computation import PartialSums

POLICY = """
@id("permit")
@reason("Members may run these kinds of job.")
permit (
  principal is Consortium::Member,
  action in [Consortium::Action::"statistic", Consortium::Action::"fl_train", Consortium::Action::"release"],
  resource
)
when { ["dp", "exact_training"].contains(context.privacy) };

@id("purpose")
@reason("The purpose is not agreed.")
forbid (principal, action, resource)
unless { ["benchmark", "forecast"].contains(context.purpose) };

@id("columns")
@reason("A column is not shared.")
forbid (principal, action, resource)
unless { ["power", "wind"].containsAll(context.columns) };

@id("epsilon-cap")
@reason("The job spends more epsilon than one job may.")
forbid (principal, action, resource)
when { context.epsilon_milli > 2000 };
"""


@dataclass
class SimulatedRows:
    """`Rows` of a member: each record is a power and a wind speed.

    Attributes:
        records: what the member holds.
        failure: raised in the place of an answer.
        reads: how often the data was asked for.
    """

    records: Sequence[tuple[float, float]]
    failure: Exception | None = None
    reads: int = field(default=0, init=False)

    async def partial_sums(self, path: Path, descriptor: DatasetDescriptor, plan: Plan) -> PartialSums:
        self.reads += 1
        if self.failure is not None:
            raise self.failure
        return PartialSums(self.totals(plan), len(self.records))

    async def table(self, path: Path, descriptor: DatasetDescriptor, columns: Sequence[str]) -> bytes:
        self.reads += 1
        return ",".join(columns).encode()

    def totals(self, plan: Plan) -> list[int]:
        """The exact partial sums, which nobody but this member may ever see."""
        parts = [plan.contribution(power, wind) for power, wind in self.records]
        return [sum(column) for column in zip(*parts, strict=True)]


class Noiseless:
    """Zero in the place of noise, so that a test can tell sums from each other exactly."""

    def __call__(self, count: int, variance: Fraction) -> list[int]:
        return [0] * count
