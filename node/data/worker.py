"""The child process that opens data files: `python -m node.data.worker`, one question on stdin, one answer on stdout.

It holds no key, sees no environment of the node and cannot write a file. A question is canonical JSON; an answer is
two big-endian 32-bit lengths, a JSON header and bytes. Nothing of DuckDB's error texts, which quote data, leaves it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb

from consortium.encoding import Json, canonical, parse
from consortium.errors import ConsortiumError
from consortium.privacy.descriptor import DatasetDescriptor
from consortium.privacy.plan import Plan
from consortium.privacy.statistics import Filter, StatisticsRequest
from node.data.queries import inspection, partial_sums
from node.data.records import load, open_source
from node.data.sandbox import limit_process, open_connection


def answer(question: Json) -> tuple[Json, bytes]:
    """The header and the bytes that answer a question; refusals and faults are headers too."""
    try:
        return _answer(question)
    except ConsortiumError as error:
        return {"refused": {"code": error.code, "what": error.what, "where": error.where, "mend": error.mend}}, b""
    except duckdb.OutOfMemoryException:
        return {"fault": "memory"}, b""
    except Exception as error:  # noqa: BLE001 - the text may quote data, so the class is all that may leave
        return {"fault": type(error).__name__}, b""


def _answer(question: Json) -> tuple[Json, bytes]:
    path = Path(question["path"]).resolve()
    descriptor = DatasetDescriptor.from_json(question["descriptor"])
    with open_connection(path) as connection:
        source = open_source(connection, path, descriptor)
        if question["ask"] == "inspection":
            rows_read = load(connection, source, descriptor, [column.name for column in descriptor.columns])
            return inspection(connection, descriptor, rows_read), b""
        if question["ask"] == "partial_sums":
            plan = Plan.of(StatisticsRequest.from_json(question["request"]), question["threshold"])
            load(connection, source, descriptor, plan.request.columns_read)
            sums = partial_sums(connection, descriptor, plan)
            # Totals pass 2**53, which canonical JSON refuses, so they travel as decimal strings.
            return {"totals": [str(total) for total in sums.totals], "rows": sums.rows}, b""
        assert question["ask"] == "table"
        from node.data.tables import table  # noqa: PLC0415 - only this question pays for importing Arrow

        columns = question["columns"]
        conditions = [Filter.from_json(item, f"row_filter[{i}]") for i, item in enumerate(question["row_filter"])]
        load(connection, source, descriptor, [*columns, *(condition.column for condition in conditions)])
        return {"columns": columns}, table(connection, descriptor, columns, conditions)


def main() -> None:
    """Answers the one question and ends."""
    limit_process()
    header, body = answer(parse(sys.stdin.buffer.read()))
    encoded = canonical(header)
    sys.stdout.buffer.write(len(encoded).to_bytes(4, "big") + len(body).to_bytes(4, "big") + encoded + body)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
