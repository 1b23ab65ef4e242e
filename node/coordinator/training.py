"""Training runs at the coordinator: Flower carries the model, each round is one secure sum of ours."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from consortium.encoding import Json, digest_of, sha256
from consortium.errors import ConsortiumError, NotFoundError, SecureSumError
from consortium.incentives.rules import scores_of, utilities_of
from consortium.jobs import TrainingRequest, read_request
from consortium.ledger.entry import Draft
from consortium.privacy.secure_sum import SumSpec, Transcript, Words, minimum_threshold
from consortium.state import Job
from node.coordinator.board import Board
from node.coordinator.sum_run import SumRun
from node.log import log
from node.services.api import RoundSum
from node.services.author import Author
from node.services.mirror import Mirror


class Flower(Protocol):
    """The coordinator's SuperLink: starts on first use."""

    async def run(self, job: Job, request: TrainingRequest, fab: bytes, members: dict[bytes, bytes]) -> str:
        """Runs an app to its end: "" when it finished, else a code. `members`: Flower's public key (DER) by member."""
        ...

    async def abort(self, job: bytes) -> None:
        """Kills a run's ServerApp, if there is one."""
        ...

    async def stop(self) -> None: ...


RecordSum = Callable[[SumSpec, Words, Sequence[bytes], Transcript], Awaitable[None]]


@dataclass
class _Run:
    job: Job
    request: TrainingRequest
    board: Board
    sums: dict[int, SumRun] = field(default_factory=dict)
    outcome: Json = None
    utilities: tuple[int, ...] = ()


class Training:
    """The coordinator's training runs; also the RoundsService of their ServerApps."""

    def __init__(
        self,
        folder: Path,
        mirror: Mirror,
        author: Author,
        flower: Flower,
        *,
        open_sum: Callable[[SumSpec], SumRun],
        record_sum: RecordSum,
    ) -> None:
        """Args: `folder` keeps the catalogue's FABs (`apps`) and the trained models (`models`)."""
        self._folder = folder
        self._mirror = mirror
        self._author = author
        self._flower = flower
        self._open_sum = open_sum
        self._record_sum = record_sum
        self._runs: dict[bytes, _Run] = {}

    async def keep_app(self, fab: bytes) -> str:
        """Keeps a FAB for later runs and returns its SHA-256 in hex."""
        digest = sha256(fab).hex()
        path = self._folder / "apps" / f"{digest}.fab"
        await asyncio.to_thread(_write, path, fab)
        return digest

    async def run(self, job: Job, board: Board) -> Json:
        """Runs a job to its result document.

        Raises:
            NotFoundError: the app's bytes are not here.
            SecureSumError: the run ended without a result.
        """
        request = read_request(job.body)
        assert isinstance(request, TrainingRequest)
        fab = await asyncio.to_thread(self._read_app, request.app)
        run = self._runs[job.id] = _Run(job, request, board)
        members = {member: self._mirror.state.members[member].flower_key for member in job.permitted()}
        await board.post(job.id, "running", "Flower starts", of=request.rounds + 1)
        try:
            code = await self._flower.run(job, request, fab, members)
        except BaseException:
            self._runs.pop(job.id, None)
            await self._flower.abort(job.id)
            raise
        finally:
            self._close(run)
        if run.outcome is None:
            self._runs.pop(job.id, None)
            raise SecureSumError("The training run ended without a result.", where=code or "no-outcome")
        return await self._document(run)

    async def score(self, job: Job) -> None:
        """Records the contribution scores of a job that has its result."""
        run = self._runs.pop(job.id)
        scores = scores_of(job, run.utilities)
        body = {"job": job.id.hex(), "method": scores.method, "seed": run.request.seed, "scores": scores.to_json()}
        await self._author.say(Draft("scores", f"scores/{job.id.hex()}", body))

    async def abort(self, job: bytes) -> None:
        """Stops a run for real, if there is one."""
        run = self._runs.pop(job, None)
        if run is not None:
            await self._flower.abort(job)
            self._close(run)

    async def open(
        self, job: bytes, round_number: int, roster: Sequence[bytes], model_sha256: bytes, length: int
    ) -> None:
        """Sets up the secure sum of a round; when it returns, every member of the roster can mask."""
        run = self._the_run(job)
        spec = SumSpec(
            consortium=self._mirror.state.genesis,
            job=job,
            round=round_number,
            roster=tuple(sorted(roster)),
            request=bytes.fromhex(digest_of(run.job.body)),
            input_model=model_sha256,
            length=length,
            word_bits=32,
            threshold=minimum_threshold(len(roster)),
        )
        sum_run = self._open_sum(spec)
        run.sums[round_number] = sum_run
        try:
            await sum_run.set_up()
        except ConsortiumError as error:
            self._close_sum(run, round_number, error.code)
            raise

    async def sum(self, job: bytes, round_number: int, masked: dict[bytes, npt.NDArray[np.uint32]]) -> RoundSum:
        """Unmasks a round: the ServerApp sees the sum only."""
        run = self._the_run(job)
        sum_run = run.sums.get(round_number)
        if sum_run is None:
            raise SecureSumError("The round is not open.", where=f"round {round_number}")
        try:
            await sum_run.add_vectors(masked)
            total, survivors, transcript = await sum_run.unmask()
            await self._record_sum(sum_run.spec, total, survivors, transcript)
        except ConsortiumError as error:
            self._close_sum(run, round_number, error.code)
            raise
        self._close_sum(run, round_number, "")
        await self._progress(run, round_number, total)
        return RoundSum(np.asarray(total, dtype=np.uint32), survivors)

    async def finish(self, job: bytes, outcome: bytes) -> None:
        """Takes the outcome document of a run."""
        self._the_run(job).outcome = json.loads(outcome)

    async def _progress(self, run: _Run, number: int, total: Words) -> None:
        request = run.request
        if number == request.rounds + 1:
            words = np.asarray(total, dtype=np.uint32)
            run.utilities = utilities_of(words, request.examples_max, len(request.evaluate_metrics))
        text = "all models were evaluated" if number > request.rounds else f"round {number} of {request.rounds}"
        await run.board.post(run.job.id, "running", text, done=number, of=request.rounds + 1)

    async def _document(self, run: _Run) -> Json:
        """The result document, and the models in a folder of their own."""
        folder = self._folder / "models" / run.job.id.hex()
        digests = []
        for number, encoded in enumerate(run.outcome["models"]):
            data = base64.b64decode(encoded)
            digests.append(sha256(data).hex())
            await asyncio.to_thread(_write, folder / f"{number:03d}.npz", data)
        return {
            "kind": "training",
            "job": run.job.id.hex(),
            "app": run.request.app,
            "rounds": run.outcome["rounds"],
            "utilities_micro": list(run.utilities),
            "models_sha256": digests,
            "models_folder": str(folder),
            "release": "exact_training",
        }

    def _the_run(self, job: bytes) -> _Run:
        run = self._runs.get(job)
        if run is None:
            raise NotFoundError("No training run of this job is under way.", where=job.hex())
        return run

    def _read_app(self, digest: str) -> bytes:
        path = self._folder / "apps" / f"{digest}.fab"
        if not path.exists():
            raise NotFoundError(
                "The app's bytes are not at the coordinator.", where=digest, mend="Catalogue it again with its FAB."
            )
        return path.read_bytes()

    def _close(self, run: _Run) -> None:
        for number in tuple(run.sums):
            self._close_sum(run, number, "run-ended")

    def _close_sum(self, run: _Run, number: int, code: str) -> None:
        log("training.round-closed", job=run.job.id.hex(), round=number, code=code or "finished")
        run.sums.pop(number).close(code)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_bytes(data)
