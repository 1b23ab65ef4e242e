"""Models, counts and metrics as vectors of 32-bit words that can be summed under masks.

A member's vector is `[weights..., num-examples, metrics...]`. A weight w of a member with n examples becomes
`round(clip(w, -16, 16) * n / examples_max * 2**24)`, two's complement mod 2**32. With at most 7 members the true sum
stays inside the signed 32-bit range (7 * 2**28 < 2**31), so nothing wraps. The weighted mean of m members differs
from the exact one (after clipping) by at most `m / 2 / 2**24 * examples_max / sum(n)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from node.training.ports import MEMBERS_MAX, Plan, TrainingError, Words

CLIP = 16.0
SCALE = float(1 << 24)

assert MEMBERS_MAX * CLIP * SCALE < 2**31


@dataclass(frozen=True)
class Mean:
    """A decoded sum: weighted means, and the number of examples behind them."""

    weights: npt.NDArray[np.float64]
    examples: int
    metrics: tuple[float, ...]


def vector_length(weights: int, metrics: int) -> int:
    """Words of a vector for this many weights and metrics."""
    return weights + 1 + metrics


def encode(plan: Plan, weights: npt.NDArray[np.float64], examples: int, metrics: Sequence[float]) -> Words:
    """One member's vector, shape (weights + 1 + metrics,).

    Raises:
        TrainingError: a value is not finite, or `examples` is not in 1..examples_max.
    """
    if not 1 <= examples <= plan.examples_max:
        raise TrainingError(
            "The number of examples is outside what the job declares.",
            where="num-examples",
            mend="Declare a larger examples_max in the job, or offer a dataset of its size.",
        )
    if not np.isfinite(weights).all() or not all(math.isfinite(value) for value in metrics):
        raise TrainingError(
            "The model or a metric is not finite.", where="model", mend="Lower the learning rate or fix the app."
        )
    values = np.clip(np.concatenate([weights, np.asarray(metrics, np.float64)]), -CLIP, CLIP)
    scaled = np.rint(values * (examples / plan.examples_max * SCALE)).astype(np.int64)
    words = np.insert(scaled, len(weights), examples)
    return words.astype(np.uint32)


def decode(plan: Plan, total: Words, metrics: int) -> Mean:
    """The weighted mean behind a sum of vectors.

    Raises:
        TrainingError: the sum holds no example, or more than the job declares.
    """
    signed = total.astype(np.uint32).view(np.int32).astype(np.float64)
    count = len(total) - metrics - 1
    examples = int(signed[count])
    if not 1 <= examples <= plan.members_max * plan.examples_max:
        raise TrainingError(
            "The sum's number of examples is impossible.",
            where="num-examples",
            mend="A member broke the protocol; repeat the job without it.",
        )
    means = signed / (SCALE * examples / plan.examples_max)
    return Mean(means[:count], examples, tuple(float(value) for value in means[count + 1 :]))
