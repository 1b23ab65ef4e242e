"""What a node needs in order to compute on its own rows: ports that `node.data` implements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from consortium.privacy.descriptor import DatasetDescriptor
from consortium.privacy.plan import Plan


@dataclass(frozen=True)
class PartialSums:
    """A node's own exact sums, which never leave it unmasked, and the number of rows behind them."""

    totals: Sequence[int]
    rows: int


class Rows(Protocol):
    """The rows of a dataset, read in place."""

    async def partial_sums(self, path: Path, descriptor: DatasetDescriptor, plan: Plan) -> PartialSums: ...

    async def table(self, path: Path, descriptor: DatasetDescriptor, columns: Sequence[str]) -> bytes:
        """The columns as an Arrow IPC stream."""
        ...


class Noise(Protocol):
    """A sampler of the discrete Gaussian."""

    def __call__(self, count: int, variance: Fraction) -> list[int]: ...
