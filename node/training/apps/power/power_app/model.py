"""A small regressor of a turbine's power from wind speed, pitch, vane and outdoor temperature; NumPy only.

One hidden layer of tanh units. All parameters are one float32 vector, so that Flower carries one array. Inputs are
clipped to public bounds and standardised with public constants, never with statistics of anybody's data. Everything
is deterministic for given seeds.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Model = npt.NDArray[np.float32]
Table = Mapping[str, npt.NDArray[np.floating]]
RunConfig = Mapping[str, bool | float | int | str]

_ADAM_MEAN, _ADAM_SQUARE, _ADAM_EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Config:
    """What the run configuration says.

    Attributes:
        target: column to predict, in kW.
        target_scale: kW per unit of the network's output; also the scale of the utility.
        features: columns to predict from.
        bounds: (lowest, highest) by feature; values are clipped to it.
        centres: subtracted from each feature.
        scales: each feature is divided by it.
        hidden: hidden units.
        local_epochs: passes over the local table in each round.
        batch: rows of a step.
        learning_rate: of Adam.
        seed: of the initial model and of the order of rows.
    """

    target: str
    target_scale: float
    features: tuple[str, ...]
    bounds: tuple[tuple[float, float], ...]
    centres: tuple[float, ...]
    scales: tuple[float, ...]
    hidden: int
    local_epochs: int
    batch: int
    learning_rate: float
    seed: int


def config_of(run_config: RunConfig) -> Config:
    """The typed configuration; lists are texts with commas, the learning rate is in millionths."""
    lows, highs = _numbers(run_config["feature-lows"]), _numbers(run_config["feature-highs"])
    return Config(
        target=str(run_config["target"]),
        target_scale=float(run_config["target-scale"]),
        features=tuple(str(run_config["features"]).split(",")),
        bounds=tuple(zip(lows, highs, strict=True)),
        centres=_numbers(run_config["feature-centres"]),
        scales=_numbers(run_config["feature-scales"]),
        hidden=int(run_config["hidden"]),
        local_epochs=int(run_config["local-epochs"]),
        batch=int(run_config["batch"]),
        learning_rate=int(run_config["learning-rate-micro"]) / 1e6,
        seed=int(run_config["seed"]),
    )


def initial_model(config: Config) -> Model:
    """Glorot-uniform weights and zero biases, shape (parameters,)."""
    random = np.random.default_rng(config.seed)
    inputs, hidden = len(config.features), config.hidden
    first = random.uniform(-1, 1, (inputs, hidden)) * np.sqrt(6 / (inputs + hidden))
    second = random.uniform(-1, 1, hidden) * np.sqrt(6 / (hidden + 1))
    parts = [first.ravel(), np.zeros(hidden), second, np.zeros(1)]
    return np.concatenate(parts).astype(np.float32)


def complete_rows(table: Table, config: Config) -> dict[str, Floats]:
    """The rows without a missing value in the target or a feature."""
    columns = {name: np.asarray(table[name], np.float64) for name in (*config.features, config.target)}
    keep = np.all([np.isfinite(column) for column in columns.values()], axis=0)
    return {name: column[keep] for name, column in columns.items()}


def train(model: Model, table: Table, config: Config, round_number: int = 0) -> Model:
    """The model after `local_epochs` of Adam on the squared error of the complete rows."""
    rows = complete_rows(table, config)
    inputs, target = _inputs(rows, config), rows[config.target] / config.target_scale
    random = np.random.default_rng([config.seed, round_number, zlib.crc32(target.tobytes())])
    parameters = model.astype(np.float64)
    mean, square, step = np.zeros_like(parameters), np.zeros_like(parameters), 0
    for _ in range(config.local_epochs):
        order = random.permutation(len(target))
        for start in range(0, len(order), config.batch):
            chosen = order[start : start + config.batch]
            gradient = _gradient(parameters, inputs[chosen], target[chosen], config)
            step += 1
            mean = _ADAM_MEAN * mean + (1 - _ADAM_MEAN) * gradient
            square = _ADAM_SQUARE * square + (1 - _ADAM_SQUARE) * gradient**2
            corrected = mean / (1 - _ADAM_MEAN**step)
            spread = np.sqrt(square / (1 - _ADAM_SQUARE**step)) + _ADAM_EPSILON
            parameters = parameters - config.learning_rate * corrected / spread
    return parameters.astype(np.float32)


def predict(model: Model, table: Table, config: Config) -> Floats:
    """Predicted power in kW by row; rows must be complete."""
    output, _ = _forward(model.astype(np.float64), _inputs(table, config), config)
    return output * config.target_scale


def mae(model: Model, table: Table, config: Config) -> float:
    """Mean absolute error in kW over the complete rows."""
    rows = complete_rows(table, config)
    return float(np.mean(np.abs(predict(model, rows, config) - rows[config.target])))


def utility(model: Model, table: Table, config: Config) -> float:
    """`1 - MAE / target_scale`, clipped to [0, 1]."""
    return min(max(1.0 - mae(model, table, config) / config.target_scale, 0.0), 1.0)


def _inputs(table: Table, config: Config) -> Floats:
    columns = [
        (np.clip(np.asarray(table[name], np.float64), low, high) - centre) / scale
        for name, (low, high), centre, scale in zip(
            config.features, config.bounds, config.centres, config.scales, strict=True
        )
    ]
    return np.stack(columns, axis=1)


def _split(parameters: Floats, config: Config) -> tuple[Floats, Floats, Floats, Floats]:
    inputs, hidden = len(config.features), config.hidden
    edges = np.cumsum([inputs * hidden, hidden, hidden])
    first, bias, second, offset = np.split(parameters, edges)
    return first.reshape(inputs, hidden), bias, second, offset


def _forward(parameters: Floats, inputs: Floats, config: Config) -> tuple[Floats, Floats]:
    first, bias, second, offset = _split(parameters, config)
    activation = np.tanh(inputs @ first + bias)
    return activation @ second + offset, activation


def _gradient(parameters: Floats, inputs: Floats, target: Floats, config: Config) -> Floats:
    _, _, second, _ = _split(parameters, config)
    output, activation = _forward(parameters, inputs, config)
    error = 2 * (output - target) / len(target)
    back = np.outer(error, second) * (1 - activation**2)
    parts = [(inputs.T @ back).ravel(), back.sum(axis=0), activation.T @ error, np.array([error.sum()])]
    return np.concatenate(parts)


def _numbers(text: object) -> tuple[float, ...]:
    return tuple(float(part) for part in str(text).split(","))
