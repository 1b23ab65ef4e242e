"""What Flower's child processes are made of: they hold no ledger key and reach their node by a socket."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from node.training.ports import Begin, Outcome, Plan, RoundSum, Words

if TYPE_CHECKING:
    from node.rpc.child_client import RoundsClient, TrainerClient


class NodeTrainer:
    """The member's node behind its socket, as the executor wants it."""

    def __init__(self, client: TrainerClient) -> None:
        self._client = client

    def begin(self, job: bytes, round_number: int, digest: bytes, model_sha256: bytes, *, needs_data: bool) -> Begin:
        answer = self._client.begin(job, round_number, digest, model_sha256, needs_table=needs_data)
        if not answer.permitted:
            return Begin(permitted=False, code=answer.code)
        return Begin(permitted=True, data=answer.table or None, plan=Plan.from_dict(answer.plan))

    def mask(self, job: bytes, round_number: int, model_sha256: bytes, vector: Words) -> Words:
        return self._client.mask(job, round_number, model_sha256, vector)


class NodeRounds:
    """The coordinator's node behind its socket, as the grid wants it."""

    def __init__(self, client: RoundsClient) -> None:
        self._client = client

    def open(self, job: bytes, round_number: int, roster: Sequence[bytes], model_sha256: bytes, length: int) -> None:
        self._client.open(job, round_number, roster, model_sha256, length)

    def sum(self, job: bytes, round_number: int, masked: Mapping[bytes, Words]) -> RoundSum:
        answer = self._client.sum(job, round_number, masked)
        return RoundSum(answer.total, answer.survivors)

    def finish(self, job: bytes, outcome: Outcome) -> None:
        self._client.finish(job, json.dumps(outcome_document(outcome)).encode())


def outcome_document(outcome: Outcome) -> dict[str, object]:
    """The outcome of a run as JSON; metrics as decimal text, because no float enters a signed document."""
    return {
        "rounds": [
            {
                "round": record.round,
                "roster": [member.hex() for member in record.roster],
                "survivors": [member.hex() for member in record.survivors],
                "model_sha256": record.model_sha256.hex(),
                "examples": record.examples,
                "metrics": {name: repr(float(value)) for name, value in record.metrics.items()},
            }
            for record in outcome.rounds
        ],
        "models": [base64.b64encode(model).decode() for model in outcome.models],
    }


def supernode() -> None:
    """The member's SuperNode; argument 2: the trainer socket."""
    from node.rpc.child_client import TrainerClient  # noqa: PLC0415 the parent must not import what children import
    from node.training.supernode_child import main  # noqa: PLC0415

    main(lambda: NodeTrainer(TrainerClient(Path(sys.argv[2]))))


def superlink() -> None:
    """The coordinator's SuperLink."""
    from node.training.superlink_child import main  # noqa: PLC0415

    main()


def serverapp() -> None:
    """The process of one run's ServerApp; argument 2: the rounds socket."""
    from consortium.jobs import round_roster  # noqa: PLC0415
    from node.rpc.child_client import RoundsClient  # noqa: PLC0415
    from node.training.serverapp_child import main  # noqa: PLC0415

    main(lambda: NodeRounds(RoundsClient(Path(sys.argv[2]))), round_roster)
