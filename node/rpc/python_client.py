"""The Python client of a node: synchronous, tables as pandas DataFrames, usable in a notebook.

with Node("~/our-node") as node:
    node.datasets()
    node.job(document).result()
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from consortium.encoding import Json
from consortium.errors import PolicyRefusedError, UnavailableError
from node.rpc.client import ControlClient

if TYPE_CHECKING:
    from pandas import DataFrame

T = TypeVar("T")
Documents = list[dict[str, Any]]


class Node:
    """The running node of a folder.

    Every method raises what the node refused with (a ConsortiumError), and UnavailableError when none serves there.
    """

    def __init__(self, home: str | Path) -> None:
        # A loop of our own on a thread of its own: a notebook's loop is already running on the caller's.
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="consortium-client", daemon=True)
        self._thread.start()
        try:
            self._control = ControlClient(Path(home).expanduser())
            self._run(self._control.__aenter__())
        except BaseException:
            self._end_loop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; again is harmless."""
        if not self._loop.is_closed():
            self._run(self._control.__aexit__(None, None, None))
            self._end_loop()

    def status(self) -> dict[str, Any]:
        return self._document(self._control.status())

    def pause(self) -> dict[str, Any]:
        return self._document(self._control.pause())

    def resume(self) -> dict[str, Any]:
        return self._document(self._control.resume())

    def invite(self, legal_name: str, valid_hours: int = 72) -> dict[str, Any]:
        return self._document(self._control.invite(legal_name, valid_hours))

    def members(self) -> DataFrame:
        """One row per member."""
        return _frame(self._document(self._control.list_members())["members"])

    def accept_member(self, fingerprint: str) -> dict[str, Any]:
        return self._document(self._control.accept_member(fingerprint))

    def offer_dataset(
        self, path: str | Path, descriptor: str | Path, policy: str | Path, rho_micro: int, delta: str
    ) -> dict[str, Any]:
        return self._document(self._control.offer_dataset(Path(path), Path(descriptor), Path(policy), rho_micro, delta))

    def datasets(self) -> DataFrame:
        """The consortium's catalogue, one row per dataset."""
        return _frame(self._document(self._control.list_datasets())["datasets"])

    def columns(self) -> DataFrame:
        """The catalogue's columns, one row per dataset and column."""
        datasets: Documents = self._document(self._control.list_datasets())["datasets"]
        rows = [
            {"legal_name": dataset["legal_name"], "dataset": dataset["dataset"], **column}
            for dataset in datasets
            for column in dataset["columns"]
        ]
        return _frame(rows)

    def budget(self) -> DataFrame:
        """One row per account of this node's own datasets."""
        return _frame(self._document(self._control.show_budget())["accounts"])

    def check_policy(self, policy: str | Path) -> DataFrame:
        """The clauses of a sharing policy that is valid."""
        return _frame(self._document(self._control.check_policy(Path(policy)))["clauses"])

    def catalogue_app(self, name: str, fab: bytes) -> dict[str, Any]:
        return self._document(self._control.catalogue_app(name, fab))

    def approve_app(self, digest: str) -> dict[str, Any]:
        return self._document(self._control.approve_app(digest))

    def explain_job(self, job: Json) -> DataFrame:
        """What each member would decide, one row per member; nothing is reserved."""
        return _frame(self._document(self._control.explain_job(job))["members"])

    def job(self, job: Json) -> Job:
        """Submits a job, or with a hex id finds one that was submitted."""
        return Job(self, job if isinstance(job, str) else self._document(self._control.submit_job(job))["job"])

    def watch_job(self, job: str) -> Iterator[dict[str, Any]]:
        """Progress documents of a job as they come, until it ended."""
        stream = self._control.watch_job(job)
        try:
            while (document := self._run(_next(stream))) is not None:
                yield document
        finally:
            self._run(stream.aclose())

    def abort_job(self, job: str) -> dict[str, Any]:
        """Stops a job everywhere."""
        return self._document(self._control.abort_job(job))

    def jobs(self) -> DataFrame:
        """The jobs on the ledger."""
        return _frame(self._document(self._control.list_jobs())["jobs"])

    def entries(self, start: int = 0, limit: int = 1_000) -> DataFrame:
        """Entries of the ledger, one row each."""
        return _frame(self._document(self._control.list_entries(start, limit))["entries"])

    def export_ledger(self, folder: str | Path) -> dict[str, Any]:
        return self._document(self._control.export_ledger(Path(folder)))

    def save_checkpoint(self, path: str | Path) -> dict[str, Any]:
        return self._document(self._control.save_checkpoint(Path(path)))

    def credits(self) -> DataFrame:
        """Balances, one row per account."""
        return _frame(self._document(self._control.show_credits())["accounts"])

    def settle(self, job: str, amount: str) -> DataFrame:
        """Settles a job; the postings, which sum to zero."""
        return _frame(self._document(self._control.settle(job, amount))["postings"])

    def _document(self, call: Coroutine[Any, Any, Json]) -> dict[str, Any]:
        document: dict[str, Any] = self._run(call)
        return document

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@dataclass(frozen=True)
class Job:
    """A job on the ledger, by its hex id."""

    node: Node
    id: str

    def watch(self) -> Iterator[dict[str, Any]]:
        """Progress documents as they come; the last one says how the job ended."""
        return self.node.watch_job(self.id)

    def end(self) -> dict[str, Any]:
        """Waits for the job; its last document.

        Raises:
            UnavailableError: the node ended the stream without a document.
        """
        documents = deque(self.watch(), maxlen=1)
        if not documents:
            raise UnavailableError("The node ended the job's progress without a document.", mend="Look into its log.")
        return documents.pop()

    def result(self) -> DataFrame:
        """Waits for the job; the table of its result.

        Raises:
            PolicyRefusedError: members refused it; names every clause.
            UnavailableError: it was aborted or failed; gives the reason's code.
        """
        end = self.end()
        if end["state"] == "refused":
            clauses = [
                f"{refusal['legal_name']}: {', '.join(clause['id'] for clause in refusal['clauses'])}"
                for refusal in end.get("refusals", [])
            ]
            raise PolicyRefusedError(
                "Members refused the job.", where="; ".join(clauses), mend="Ask first with `explain_job`."
            )
        if end["state"] != "done":
            reason = str(end.get("reason", ""))
            raise UnavailableError(f"The job is {end['state']}.", where=reason, mend="Submit it again.")
        return result_frame(end["result"])

    def abort(self) -> dict[str, Any]:
        """Stops it everywhere."""
        return self.node.abort_job(self.id)


def result_frame(result: Json) -> DataFrame:
    """The table of a result document: a statistic's figures, else its one list of objects, else itself as one row."""
    if "estimates" in result:
        return _frame(figures(result["estimates"]))
    tables = [value for value in result.values() if _is_table(value)]
    return _frame(tables[0] if len(tables) == 1 else [result])


def figures(estimates: Json) -> Documents:
    """One row per figure of a statistic: {measure, lower_edge, upper_edge, value, lower, upper, noisy_count}.

    With 95 % confidence, as far as the noise goes, the figure without noise lies between `lower` and `upper`; these
    and `value` are None where the noisy count is too small for them. Edges and noisy count are None but for a bin.
    """
    place = ("lower_edge", "upper_edge", "noisy_count")
    ends = ("value", "lower", "upper")
    rows: list[tuple[str, Json, Json]] = [
        (name, {}, estimates[name]) for name in ("count", "mean", "std") if estimates[name] is not None
    ]
    rows += [("mean", item, item["mean"] or {}) for item in estimates["bins"]]
    return [
        {
            "measure": measure,
            **{name: _number(where.get(name)) for name in place},
            **{name: _number(found.get(name)) for name in ends},
        }
        for measure, where, found in rows
    ]


def _number(text: Json) -> float | None:
    return None if text is None else float(text)


async def _next(stream: AsyncIterator[Json]) -> Json:
    """The next document, or None at the end."""
    return await anext(stream, None)


def _is_table(value: Json) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _frame(rows: Documents) -> DataFrame:
    from pandas import DataFrame  # noqa: PLC0415 - a second to import, and only who asks for tables needs it

    return DataFrame.from_records(rows)
