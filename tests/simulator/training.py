"""What stands in for Flower: it runs a ServerApp's rounds and carries masked vectors by hand."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import numpy as np

from consortium.encoding import sha256
from consortium.incentives.rules import WEIGHT_SCALE
from consortium.jobs import TrainingRequest, training_roster
from consortium.privacy.secure_sum import encode_signed
from consortium.state import Job
from node.services.api import RoundSum
from tests.worlds import documents
from tests.worlds.world import EXAMPLES, WORTHS

if TYPE_CHECKING:
    from tests.simulator.consortium import Consortium

Carry = Callable[["SimulatedFlower", Job, TrainingRequest], Awaitable[str]]


class SimulatedFlower:
    """Runs the rounds that the job asks for, or whatever a test puts in their place (`carry`)."""

    def __init__(self) -> None:
        self.house: Consortium
        self.aborted: list[bytes] = []
        self.fabs: list[bytes] = []
        self.sums: list[RoundSum] = []
        self.carry: Carry = SimulatedFlower.all_rounds

    async def run(self, job: Job, request: TrainingRequest, fab: bytes, members: dict[bytes, bytes]) -> str:
        self.fabs.append(fab)
        return await self.carry(self, job, request)

    async def abort(self, job: bytes) -> None:
        self.aborted.append(job)

    async def stop(self) -> None: ...

    async def all_rounds(self, job: Job, request: TrainingRequest) -> str:
        """Every round and the evaluation; the model is the sum of the round before."""
        model = sha256(b"initial model")
        for number in range(1, request.rounds + 2):
            total = await self.round(job, number, model)
            self.sums.append(total)
            model = sha256(total.total.tobytes())
        models = [base64.b64encode(b"model %d" % number).decode() for number in range(request.rounds + 1)]
        await self.house.coordinator.training.finish(
            job.id, json.dumps({"rounds": request.rounds, "models": models}).encode()
        )
        return ""

    async def round(self, job: Job, number: int, model: bytes) -> RoundSum:
        """One round: open, begin and mask at each member of the roster, sum."""
        training = self.house.coordinator.training
        roster = training_roster(job, number)
        vectors = {member: vector_of(job, number, self.house.ids.index(member)) for member in roster}
        await training.open(job.id, number, roster, model, len(vectors[roster[0]]))
        masked = {}
        for seat in self.house.members:
            if seat.id in roster:
                digest = bytes.fromhex(documents.APP)
                begin = await seat.service.begin(job.id, number, digest, model, needs_table=number == 1)
                assert begin.permitted, begin.code
                masked[seat.id] = await seat.service.mask(job.id, number, model, vectors[seat.id])
        return await training.sum(job.id, number, masked)


def vector_of(job: Job, number: int, place: int) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    """What the member at a place has to add: two weights, its examples and a loss; at the end, its utilities."""
    request = TrainingRequest.from_json(job.request)
    examples = EXAMPLES[place]
    if number <= request.rounds:
        values = [number * (place + 1), -number, examples, 5]
    else:
        utilities, members = [100_000], job.permitted()
        for earlier in range(1, request.rounds + 1):
            roster = training_roster(job, earlier)
            utilities.append(utilities[-1] + sum(WORTHS[members.index(member)] for member in roster))
        scale = examples * WEIGHT_SCALE
        weighted = [round(utility * scale / (request.examples_max * 1_000_000)) for utility in utilities]
        values = [examples, *weighted]
    return np.asarray(encode_signed(values, 32), dtype=np.uint32)
