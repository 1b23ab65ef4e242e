"""The policy executor of a SuperNode: what runs a ClientApp, and all that leaves the node because of it.

For each message: hash the FAB and the arrays as they are here, ask the node, run the app on the job's table, encode
arrays, example count and declared metrics as one vector, let the node mask it, reply with that one array. Whatever
else the app returned, printed, logged or raised is dropped; a failure travels as a code.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import pyarrow.parquet as pq
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from pyarrow.ipc import open_stream

from consortium.errors import ConsortiumError
from node.training.fixed_point import encode
from node.training.flwr_private import apps
from node.training.flwr_private.supernode import Delivery
from node.training.model_digest import flatten, model_digest
from node.training.parent_link import silence
from node.training.ports import Plan, Trainer, TrainingError, Words

MASKED = "masked"
ERROR_CODE = 2  # Flower's CLIENT_APP_RAISED_EXCEPTION; ours is the reason
_CODE = re.compile(r"[a-z][a-z0-9-]{0,39}")
_JOB_BYTES = 32
Record = TypeVar("Record")
_log = logging.getLogger("node.training.executor")


class AppFailedError(TrainingError):
    """The app raised, or returned something that is not a training reply."""

    code: ClassVar[str] = "app-failed"


class MessageError(TrainingError):
    """A message from the SuperLink that is not one of ours."""

    code: ClassVar[str] = "message-malformed"


class AppRefusedError(TrainingError):
    """The node does not permit the app, the job or the round; `code` is the node's own."""

    def __init__(self, code: str) -> None:
        super().__init__("The node does not permit this.", where=code)
        self.reason = code if _CODE.fullmatch(code) else "refused"


@dataclass(frozen=True)
class Task:
    """What a message of ours says."""

    job: bytes
    round: int
    arrays: dict[str, np.ndarray[Any, Any]]


@dataclass
class Workspace:
    """One job on this node while it lasts: its unpacked app and its table, in a 0700 folder."""

    folder: Path
    app_folder: Path
    app: ClientApp
    context: Context
    digest: bytes


class Executor:
    """Runs approved ClientApps. Not for several messages at once; `forget` may come from another thread."""

    def __init__(self, trainer: Trainer, home: Path) -> None:
        self._trainer = trainer
        self._home = home / "jobs"
        self._jobs: dict[bytes, Workspace] = {}
        self._changing = threading.Lock()
        shutil.rmtree(self._home, ignore_errors=True)
        self._home.mkdir(mode=0o700, parents=True)

    def handle(self, delivery: Delivery) -> Message:
        """The reply to a message: one masked array, or an error that is only a code."""
        try:
            masked = self._masked(delivery)
        except AppRefusedError as error:
            return self._refusal(delivery, error.reason)
        except ConsortiumError as error:
            return self._refusal(delivery, error.code)
        return Message(RecordDict({MASKED: ArrayRecord({MASKED: Array(masked)})}), reply_to=delivery.message)

    def forget(self, job: bytes) -> None:
        """Deletes what this process holds of a job, table first."""
        with self._changing:
            workspace = self._jobs.pop(job, None)
            if workspace is not None:
                shutil.rmtree(workspace.folder)
                apps.unload(workspace.app_folder)

    def _masked(self, delivery: Delivery) -> Words:
        task = read_task(delivery.message)
        digest = hashlib.sha256(delivery.fab).digest()
        model = model_digest(task.arrays)
        begin = self._trainer.begin(task.job, task.round, digest, model, needs_data=task.job not in self._jobs)
        if not begin.permitted or begin.plan is None:
            raise AppRefusedError(begin.code)
        plan = begin.plan
        kind = "train" if plan.is_training(task.round) else "evaluate"
        if task.round > plan.rounds + 1 or delivery.message.metadata.message_type != kind:
            raise MessageError("The message is not the one that the plan names for this round.", where=kind)
        workspace = self._workspace(task.job, digest, delivery, plan, begin.data)
        reply = _call(workspace, delivery.message, task)
        vector = _vector(plan, task, reply)
        masked = self._trainer.mask(task.job, task.round, model, vector)
        if masked.dtype != np.uint32 or masked.shape != vector.shape or np.array_equal(masked, vector):
            raise TrainingError("The node's mask is not one.", where="mask", mend="Report this as a bug.")
        if task.round == plan.rounds + 1:
            self.forget(task.job)
        return masked

    def _workspace(self, job: bytes, digest: bytes, delivery: Delivery, plan: Plan, data: bytes | None) -> Workspace:
        known = self._jobs.get(job)
        if known is not None:
            if known.digest != digest:
                raise AppRefusedError("app-changed")
            return known
        if data is None:
            raise AppRefusedError("no-data")
        for other in list(self._jobs):
            self.forget(other)
        folder = self._home / job.hex()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        try:
            workspace = _prepare(folder, delivery, digest, plan, data)
        except BaseException:
            shutil.rmtree(folder)
            raise
        with self._changing:
            self._jobs[job] = workspace
        return workspace

    def _refusal(self, delivery: Delivery, code: str) -> Message:
        _log.warning("a message is refused: %s", code)
        return Message(Error(ERROR_CODE, code), reply_to=delivery.message)


def read_task(message: Message) -> Task:
    """Job, round and arrays of a message.

    Raises:
        MessageError: it holds anything else.
    """
    content = message.content
    if set(content) != {"arrays", "config"}:
        raise MessageError("The message does not hold arrays and config.", where="content")
    arrays, config = content["arrays"], content["config"]
    if not isinstance(arrays, ArrayRecord) or not isinstance(config, ConfigRecord) or set(config) != {"job", "round"}:
        raise MessageError("The message does not hold arrays and config.", where="content")
    job, round_number = config["job"], config["round"]
    if not isinstance(job, bytes) or len(job) != _JOB_BYTES or type(round_number) is not int or round_number < 1:
        raise MessageError("The message names no job and round.", where="config")
    return Task(job, round_number, to_numpy(arrays))


def to_numpy(record: ArrayRecord) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of a record.

    Raises:
        MessageError: an array is not what it says.
    """
    try:
        return {name: array.numpy() for name, array in record.items()}
    except (TypeError, ValueError, EOFError) as error:
        raise MessageError("An array cannot be read.", where="arrays") from error


def _prepare(folder: Path, delivery: Delivery, digest: bytes, plan: Plan, data: bytes) -> Workspace:
    app_folder = apps.unpack(delivery.fab, folder / "app")
    table = folder / "train.parquet"
    pq.write_table(open_stream(io.BytesIO(data)).read_all(), table)  # type: ignore[no-untyped-call]
    table.chmod(0o600)
    apps.identify(delivery.run_id, delivery.node_id)
    context = Context(
        run_id=delivery.run_id,
        node_id=delivery.node_id,
        node_config={"data-path": str(table)},
        state=RecordDict(),
        run_config=apps.run_config(app_folder, plan.run_config),
    )
    return Workspace(folder, app_folder, _load(app_folder), context, digest)


def _load(app_folder: Path) -> ClientApp:
    with silence():
        try:
            app = apps.load(app_folder, "clientapp")
        except (Exception, SystemExit) as error:  # noqa: BLE001 the app's code, whose errors may hold data
            failure = type(error).__name__
            app = None
    if not isinstance(app, ClientApp):
        raise AppFailedError("The ClientApp cannot be loaded.", where=failure if app is None else type(app).__name__)
    return app


def _call(workspace: Workspace, message: Message, task: Task) -> Message:
    """The app's reply to a message that holds the arrays and the round number only."""
    record = ArrayRecord({name: Array(array) for name, array in task.arrays.items()})
    message.content = RecordDict({"arrays": record, "config": ConfigRecord({"server-round": task.round})})
    reply: object = None
    failure = ""
    with silence():
        try:
            reply = workspace.app(message, workspace.context)
        except (Exception, SystemExit) as error:  # noqa: BLE001 the app's code, whose errors may hold data
            failure = type(error).__name__
    if not isinstance(reply, Message) or not reply.has_content():
        raise AppFailedError("The app did not answer.", where=failure or "reply")
    return reply


def _vector(plan: Plan, task: Task, reply: Message) -> Words:
    """The vector of a reply: of a training round its arrays, count and metrics; of the evaluation no arrays."""
    metrics = _only(reply.content, MetricRecord)
    examples = metrics.get("num-examples")
    if type(examples) is not int:
        raise AppFailedError("The reply names no number of examples.", where="num-examples")
    values = [_number(metrics, name) for name in plan.metrics(task.round)]
    if not plan.is_training(task.round):
        return encode(plan, np.empty(0), examples, [min(max(value, 0.0), 1.0) for value in values])
    arrays = to_numpy(_only(reply.content, ArrayRecord))
    shapes = {name: array.shape for name, array in arrays.items()}
    if shapes != {name: array.shape for name, array in task.arrays.items()}:
        raise AppFailedError("The reply's arrays are not those of the model.", where="arrays")
    return encode(plan, flatten({name: arrays[name] for name in task.arrays}), examples, values)


def _only(content: Mapping[str, object], kind: type[Record]) -> Record:
    records = [record for record in content.values() if isinstance(record, kind)]
    if len(records) != 1:
        raise AppFailedError(f"The reply does not hold exactly one {kind.__name__}.", where="reply")
    return records[0]


def _number(metrics: MetricRecord, name: str) -> float:
    value = metrics.get(name)
    if not isinstance(value, int | float):
        raise AppFailedError("The reply lacks a declared metric.", where=name)
    return float(value)
