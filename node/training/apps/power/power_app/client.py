"""The ClientApp: trains on, and evaluates with, the table at `data-path`."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pyarrow.parquet as pq
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from . import model

app = ClientApp()


@lru_cache(maxsize=1)
def _read(path: str, columns: tuple[str, ...]) -> dict[str, model.Floats]:
    table = pq.read_table(path, columns=list(columns))  # type: ignore[no-untyped-call]
    return {name: table[name].to_numpy().astype(np.float64) for name in columns}


def _table(context: Context, config: model.Config) -> dict[str, model.Floats]:
    rows = _read(str(context.node_config["data-path"]), (*config.features, config.target))
    return model.complete_rows(rows, config)


@app.train()
def train(message: Message, context: Context) -> Message:
    """One round of local training."""
    config = model.config_of(context.run_config)
    table = _table(context, config)
    received = _array(message, "parameters")
    round_number = message.content.config_records["config"]["server-round"]
    assert isinstance(round_number, int)
    trained = model.train(received, table, config, round_number)
    metrics = MetricRecord()
    metrics["num-examples"] = len(table[config.target])
    metrics["utility"] = model.utility(received, table, config)
    arrays = ArrayRecord({"parameters": Array(trained)})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """The utility of every round model, one row of `models` each."""
    config = model.config_of(context.run_config)
    table = _table(context, config)
    metrics = MetricRecord()
    metrics["num-examples"] = len(table[config.target])
    for index, row in enumerate(_array(message, "models")):
        metrics[f"utility-{index:03d}"] = model.utility(row, table, config)
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def _array(message: Message, name: str) -> model.Model:
    return message.content.array_records["arrays"][name].numpy().astype(np.float32)
