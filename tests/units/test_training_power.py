from __future__ import annotations

import hashlib
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from node.training.apps.power.power_app import model
from tests.units.flower_apps import POWER, AppError, apps

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the path patterns in Flower's builder
SETTINGS = tomllib.loads((POWER / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
CONFIG = model.config_of(SETTINGS)


def table(rows: int, seed: int) -> dict[str, model.Floats]:
    random = np.random.default_rng(seed)
    wind = random.uniform(0, 20, rows)
    columns = {"Ws_avg": wind, "P_avg": 2000 / (1 + np.exp(9 - wind))}
    return columns | {name: random.normal(0, 5, rows) for name in ("Ba_avg", "Va_avg", "Ot_avg")}


def test_federated_averaging_of_the_model_learns_a_power_curve() -> None:
    parts, held_out = [table(2000, seed) for seed in range(3)], table(2000, 9)
    current = model.initial_model(CONFIG)
    before = model.mae(current, held_out, CONFIG)
    for number in range(8):
        current = np.mean([model.train(current, part, CONFIG, number) for part in parts], axis=0).astype(np.float32)
    assert model.mae(current, held_out, CONFIG) < before / 5


def test_training_is_deterministic_and_leaves_its_input_alone() -> None:
    start = model.initial_model(CONFIG)
    kept = start.copy()
    first, second = (model.train(start, table(500, 1), CONFIG, 4) for _ in range(2))
    assert np.array_equal(first, second)
    assert np.array_equal(start, kept)
    assert not np.array_equal(first, model.train(start, table(500, 1), CONFIG, 5))


def test_rows_with_missing_values_are_dropped_and_do_not_change_the_result() -> None:
    whole = table(300, 2)
    holed = {name: np.insert(column, 7, np.nan if name == "Ba_avg" else 1.0) for name, column in whole.items()}
    start = model.initial_model(CONFIG)
    assert np.array_equal(model.train(start, whole, CONFIG), model.train(start, holed, CONFIG))
    assert model.mae(start, whole, CONFIG) == model.mae(start, holed, CONFIG)


def test_the_gradient_is_that_of_the_squared_error() -> None:
    config = replace(CONFIG, hidden=3)
    parameters = model.initial_model(config).astype(np.float64)
    rows = table(50, 3)
    inputs, target = model._inputs(rows, config), rows["P_avg"] / config.target_scale

    def loss(at: model.Floats) -> float:
        return float(np.mean((model._forward(at, inputs, config)[0] - target) ** 2))

    steps = np.eye(len(parameters)) * 1e-6
    numeric = [(loss(parameters + step) - loss(parameters - step)) / 2e-6 for step in steps]
    assert model._gradient(parameters, inputs, target, config) == pytest.approx(numeric, abs=1e-8)


def test_utilities_are_bounded() -> None:
    wild = np.full_like(model.initial_model(CONFIG), 1e6)
    assert model.utility(wild, table(100, 1), CONFIG) == 0.0


def test_the_same_files_give_the_same_fab_and_another_byte_another_digest(tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "power"
    shutil.copytree(POWER, copy)
    fab = apps.build_fab(POWER)
    assert apps.build_fab(copy) == fab
    with (copy / "power_app" / "client.py").open("a") as file:
        file.write("#\n")
    assert hashlib.sha256(apps.build_fab(copy)).digest() != hashlib.sha256(fab).digest()


def test_a_folder_that_is_no_app_and_bytes_that_are_no_fab_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(AppError):
        apps.build_fab(tmp_path / "empty")
    for junk in (b"", b"PK\x03\x04junk", apps.build_fab(POWER)[:-30]):
        with pytest.raises(AppError):
            apps.unpack(junk, tmp_path / "out")
