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
    table = pq.read_table(path, columns=list(columns))
    return {name: table[name].to_numpy().astype(np.float64) for name in columns}


def _table(context: Context, config: model.Config) -> dict[str, model.Floats]:
    rows = _read(str(context.node_config["data-path"]), (*config.features, config.target))
    return model.complete_rows(rows, config)


@app.train()
def train(message: Message, context: Context) -> Message:
    """One round of local training."""
    config = model.config_of(context.run_config)
    table = _table(context, config)
    received = message.content["arrays"]["parameters"].numpy()
    trained = model.train(received, table, config, int(message.content["config"]["server-round"]))
    metrics = {"num-examples": len(table[config.target]), "utility": model.utility(received, table, config)}
    content = {"arrays": ArrayRecord({"parameters": Array(trained)}), "metrics": MetricRecord(metrics)}
    return Message(RecordDict(content), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """The utility of every round model, one row of `models` each."""
    config = model.config_of(context.run_config)
    table = _table(context, config)
    models = message.content["arrays"]["models"].numpy()
    metrics = {f"utility-{index:03d}": model.utility(row, table, config) for index, row in enumerate(models)}
    metrics["num-examples"] = len(table[config.target])
    return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)
