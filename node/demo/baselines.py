"""What no consortium could compute: models trained alone, and on everybody's rows pooled, by the harness itself.

It reads the operators' files directly, outside the nodes, with the model code of the approved app, so that the
comparison is between ways of bringing data together and nothing else.
"""

from __future__ import annotations

import importlib.util
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

KEY = ["turbine", "time"]
SENTINELS = {"Ot_avg": -273.0}  # anything colder is the logger's mark for a failed sensor

Model = npt.NDArray[np.float32]


def app_folder() -> Path:
    """The folder of the power app, from which its FAB is built."""
    return Path(str(resources.files("node.training"))) / "apps" / "power"


@dataclass(frozen=True)
class PowerModel:
    """The app's model code with one run's configuration."""

    code: ModuleType
    config: Any
    rounds: int

    @classmethod
    def load(cls, run_config: Mapping[str, bool | int | str], rounds: int) -> PowerModel:
        """The model of the app as the nodes run it: its own configuration, and what the job replaces in it."""
        folder = app_folder()
        spec = importlib.util.spec_from_file_location("power_model", folder / "power_app" / "model.py")
        assert spec is not None
        assert spec.loader is not None
        code = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = code  # its dataclasses look their own module up by name
        spec.loader.exec_module(code)
        defaults = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["flwr"]["app"]
        return cls(code, code.config_of({**defaults["config"], **run_config}), rounds)

    def trained(self, table: pd.DataFrame) -> Model:
        """The model after as many rounds on one table as the federated one had."""
        columns = self._columns(table)
        model: Model = self.code.initial_model(self.config)
        for number in range(1, self.rounds + 1):
            model = self.code.train(model, columns, self.config, number)
        return model

    def mae_kw(self, model: Model, table: pd.DataFrame) -> float:
        """Mean absolute error in kW over the table's complete rows."""
        return float(self.code.mae(model, self._columns(table), self.config))

    def _columns(self, table: pd.DataFrame) -> dict[str, npt.NDArray[np.float64]]:
        names = (*self.config.features, self.config.target)
        return {name: table[name].to_numpy(np.float64) for name in names}


def read_table(path: Path) -> pd.DataFrame:
    """A file of the wind farm, cleaned as the nodes do: the first of repeated records, sentinels as missing."""
    table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    table = table.drop_duplicates(KEY, keep="first", ignore_index=True)
    for column, coldest in SENTINELS.items():
        table[column] = table[column].where(table[column] > coldest)
    return table


def pooled(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """All rows of all operators in one table, which is what a consortium exists to avoid."""
    return pd.concat(tables, ignore_index=True)


def models_of(result: Mapping[str, Any]) -> list[Model]:
    """The model that went into each round, and the final one, that a training job's result document names."""
    folder = Path(result["models_folder"])
    models = []
    for number in range(len(result["models_sha256"])):
        with np.load(folder / f"{number:03d}.npz", allow_pickle=False) as archive:
            (model,) = archive.values()
            models.append(np.asarray(model, np.float32))
    return models
