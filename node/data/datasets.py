"""The node's datasets, each connected in place; every question about one is answered by a child process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import node
from consortium.encoding import Json, canonical, parse
from consortium.errors import ConsortiumError, DatasetError, LimitError, RequestError
from consortium.privacy.descriptor import DatasetDescriptor
from consortium.privacy.plan import Plan
from consortium.privacy.statistics import Filter
from node.services.computation import PartialSums

ANSWER_BYTES_MAX = 65 << 20
WORKERS_MAX = 2
PACKAGES = str(Path(node.__file__).resolve().parent.parent)

_REFUSALS: dict[str, type[ConsortiumError]] = {kind.code: kind for kind in (DatasetError, LimitError, RequestError)}


@dataclass(frozen=True)
class ColumnProblems:
    """What is wrong with one column, in whole percent of the records, rounded up; for the steward's eyes only."""

    name: str
    missing_percent: int
    sentinel_percent: int
    out_of_bounds_percent: int


@dataclass(frozen=True)
class Inspection:
    """What the steward learns about a connected file; of it only the band leaves the node.

    Attributes:
        row_count_band: band of the number of records, see `consortium.privacy.descriptor.ROW_BANDS`.
        left_out_percent: rows that repeat an earlier row's key or lack a part of theirs, rounded up.
        columns: in the descriptor's order.
    """

    row_count_band: str
    left_out_percent: int
    columns: tuple[ColumnProblems, ...]

    def to_json(self) -> Json:
        """For the control API: {row_count_band, left_out_percent, columns: [...]}."""
        return {
            "row_count_band": self.row_count_band,
            "left_out_percent": self.left_out_percent,
            "columns": [vars(column) for column in self.columns],
        }


class DuckDbDatasets:
    """Asks files by way of `node.data.worker`.

    Args:
        timeout_seconds: after this time a worker is killed.

    All methods raise DatasetError for a file that is missing, empty, unreadable or not as it was described, and for a
    worker that runs out of time or memory.
    """

    def __init__(self, timeout_seconds: float = 60.0) -> None:
        self._timeout_seconds = timeout_seconds
        self._workers = asyncio.Semaphore(WORKERS_MAX)

    async def inspect(self, path: Path, descriptor: DatasetDescriptor) -> Inspection:
        """Reads every described column once."""
        header, _ = await self._ask(path, descriptor, {"ask": "inspection"})
        columns = tuple(ColumnProblems(**column) for column in header["columns"])
        return Inspection(header["row_count_band"], header["left_out_percent"], columns)

    async def partial_sums(self, path: Path, descriptor: DatasetDescriptor, plan: Plan) -> PartialSums:
        """The exact totals of this file, `plan.length` signed integers, and how many records they are of.

        Both are secret until noise and masks are on.

        Raises:
            RequestError: the request does not fit the descriptor; decided before the file is touched.
        """
        plan.request.check_against(descriptor)
        question = {"ask": "partial_sums", "request": plan.request.to_json(), "threshold": plan.threshold}
        header, _ = await self._ask(path, descriptor, question)
        totals = [int(total) for total in header["totals"]]
        assert len(totals) == plan.length
        return PartialSums(totals, header["rows"])

    async def table(
        self, path: Path, descriptor: DatasetDescriptor, columns: Sequence[str], row_filter: Sequence[Filter] = ()
    ) -> bytes:
        """An Arrow IPC stream of columns, in file order, for local training.

        Numbers are float64, texts strings, timestamps UTC microseconds; missing, sentinel and out-of-bounds values are
        null; of rows with the same key the first is kept.

        Raises:
            RequestError: a column is not described, or a filter does not fit the type of its column.
            LimitError: the table is larger than 64 MiB.
        """
        _check_columns(descriptor, columns, row_filter)
        question = {
            "ask": "table",
            "columns": list(columns),
            "row_filter": [condition.to_json() for condition in row_filter],
        }
        _, body = await self._ask(path, descriptor, question)
        return body

    async def _ask(self, path: Path, descriptor: DatasetDescriptor, question: dict[str, Json]) -> tuple[Json, bytes]:
        message = canonical({**question, "path": _absolute(path), "descriptor": descriptor.to_json()})
        async with self._workers:
            process = await _spawn()
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    header, body = await _exchange(process, message)
                    await process.wait()
            except TimeoutError:
                raise DatasetError(
                    f"The question was not answered within {self._timeout_seconds:g} seconds.",
                    where=path.name,
                    mend="Ask for less, or raise the node's time limit.",
                ) from None
            except (asyncio.IncompleteReadError, ConnectionError):
                await process.wait()
                raise RuntimeError(f"the data worker ended with status {process.returncode}") from None
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        return _opened(path, header), body


def _absolute(path: Path) -> str:
    return str(path.absolute())


async def _spawn() -> asyncio.subprocess.Process:
    """A fresh interpreter that inherits no variable of the node and no open file."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-P", "-s", "-B", "-m", "node.data.worker"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PYTHONPATH": PACKAGES, "LC_ALL": "C.UTF-8"},
        cwd="/",
    )


async def _exchange(process: asyncio.subprocess.Process, question: bytes) -> tuple[Json, bytes]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(question)
    await process.stdin.drain()
    process.stdin.close()
    lengths = await process.stdout.readexactly(8)
    header_bytes, body_bytes = int.from_bytes(lengths[:4], "big"), int.from_bytes(lengths[4:], "big")
    if header_bytes + body_bytes > ANSWER_BYTES_MAX:
        raise LimitError("The data worker's answer is too large.", mend="Ask for fewer columns or filter the rows.")
    header = await process.stdout.readexactly(header_bytes)
    return parse(header), await process.stdout.readexactly(body_bytes)


def _opened(path: Path, header: Json) -> Json:
    if "refused" in header:
        refusal = header["refused"]
        raise _REFUSALS[refusal["code"]](refusal["what"], where=refusal["where"], mend=refusal["mend"])
    if header.get("fault") == "memory":
        raise DatasetError(
            "The question needs more memory than the data worker has.",
            where=path.name,
            mend="Split the dataset, or ask for fewer columns.",
        )
    if "fault" in header:
        raise RuntimeError(f"the data worker failed: {header['fault']}")
    return header


def _check_columns(descriptor: DatasetDescriptor, columns: Sequence[str], row_filter: Sequence[Filter]) -> None:
    if not columns or len(set(columns)) != len(columns):
        raise RequestError("No column is named, or one twice.", where="columns", mend="Name every column once.")
    for name in (*columns, *(condition.column for condition in row_filter)):
        if descriptor.column(name) is None:
            raise RequestError("The dataset has no such column.", where=name, mend="List the catalogue.")
    for condition in row_filter:
        column = descriptor.column(condition.column)
        if column is None or column.type != ("timestamp" if condition.is_instant else "number"):
            raise RequestError(
                "A filter does not fit the type of its column.",
                where=condition.column,
                mend="Give a decimal string for a number, an instant for a timestamp.",
            )
