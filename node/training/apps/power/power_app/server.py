"""The ServerApp: FedAvg over the rounds, then one evaluation of all round models."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from . import model

app = ServerApp()


class KeepingFedAvg(FedAvg):
    """FedAvg that keeps the model of every round."""

    def __init__(self, first: model.Model) -> None:
        super().__init__(fraction_evaluate=0.0)
        self.models = [first]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Flower's own, and a copy."""
        arrays, metrics = super().aggregate_train(server_round, replies)
        assert arrays is not None
        self.models.append(arrays["parameters"].numpy())
        return arrays, metrics


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Trains, then asks every node once for the utilities of all models."""
    first = model.initial_model(model.config_of(context.run_config))
    strategy = KeepingFedAvg(first)
    start = ArrayRecord({"parameters": Array(first)})
    strategy.start(grid=grid, initial_arrays=start, num_rounds=int(context.run_config["rounds"]))
    models = ArrayRecord({"models": Array(np.stack(strategy.models))})
    content = RecordDict({"arrays": models, "config": ConfigRecord()})
    nodes = list(grid.get_node_ids())
    grid.send_and_receive([Message(content, dst_node_id=node, message_type="evaluate") for node in nodes])
