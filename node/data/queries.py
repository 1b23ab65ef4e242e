"""The three questions that the node asks its own data, over the table `records`."""

from __future__ import annotations

import io
from collections.abc import Sequence

import duckdb
from pyarrow.ipc import new_stream

from consortium.encoding import Json
from consortium.errors import LimitError
from consortium.privacy.descriptor import DatasetDescriptor, row_count_band
from consortium.privacy.plan import Plan
from consortium.privacy.statistics import Filter
from node.data.records import count, double, is_sentinel, reading

TABLE_BYTES_MAX = 64 << 20


def inspection(connection: duckdb.DuckDBPyConnection, descriptor: DatasetDescriptor, rows_read: int) -> Json:
    """Bands and whole percentages, rounded up so that a rare defect is not shown as none."""
    records = count(connection)
    columns = []
    for i, column in enumerate(descriptor.columns):
        sentinel = is_sentinel(descriptor, column.name) or "false"
        outside = _outside(descriptor, column.name)
        [row] = connection.execute(
            f"SELECT count(*) FILTER (WHERE c{i} IS NULL), count(*) FILTER (WHERE {sentinel}), "  # noqa: S608
            f"count(*) FILTER (WHERE {outside}) FROM records"
        ).fetchall()
        missing, sentinels, out_of_bounds = (_percent(number, records) for number in row)
        columns.append(
            {
                "name": column.name,
                "missing_percent": missing,
                "sentinel_percent": sentinels,
                "out_of_bounds_percent": out_of_bounds,
            }
        )
    return {
        "row_count_band": row_count_band(records),
        "left_out_percent": _percent(rows_read - records, rows_read),
        "columns": columns,
    }


def partial_sums(connection: duckdb.DuckDBPyConnection, descriptor: DatasetDescriptor, plan: Plan) -> list[int]:
    """The exact integer totals of the plan over the records that have every column it reads (`Plan.contribution`)."""
    request = plan.request
    bounds = request.bounds
    value = reading(descriptor, request.column)
    position = f"({value} - {double(float(bounds.lower))}) / {double(float(bounds.resolution))}"
    level = f"CAST(round(least(greatest({position}, 0), {plan.steps})) AS BIGINT) - {plan.centre}"
    levels = f"SELECT {level} AS x, {_bin(descriptor, plan)} AS b FROM records WHERE {_population(descriptor, plan)}"  # noqa: S608
    totals = connection.execute(
        f"SELECT b, count(*), sum(x), sum(x * x) FROM ({levels}) GROUP BY b"  # noqa: S608
    ).fetchall()
    result = [0] * plan.length
    for index, number, total, square_total in totals:
        sums = {"count": number, "sum": total, "square_sum": square_total, "bin_counts": number, "bin_sums": total}
        for vector in plan.vectors:
            if not vector.is_binned:
                result[vector.offset] += int(sums[vector.name])
            elif index is not None:
                result[vector.offset + index] += int(sums[vector.name])
    return result


def table(
    connection: duckdb.DuckDBPyConnection,
    descriptor: DatasetDescriptor,
    columns: Sequence[str],
    conditions: Sequence[Filter],
) -> bytes:
    """An Arrow IPC stream of columns in file order; sentinels and values out of declared bounds are null.

    Raises:
        LimitError: more than 64 MiB.
    """
    names = {column: column.replace('"', '""') for column in columns}
    fields = ", ".join(f'{_in_bounds(descriptor, name)} AS "{label}"' for name, label in names.items())
    where = " AND ".join(_condition(descriptor, condition) for condition in conditions) or "true"
    [(rows,)] = connection.execute(f"SELECT count(*) FROM records WHERE {where}").fetchall()  # noqa: S608
    if rows * len(columns) * 8 > TABLE_BYTES_MAX:
        _refuse_size(descriptor)
    found = connection.sql(f"SELECT {fields} FROM records WHERE {where} ORDER BY rowid").to_arrow_table()  # noqa: S608
    buffer = io.BytesIO()
    with new_stream(buffer, found.schema) as writer:  # type: ignore[no-untyped-call]
        writer.write_table(found)
    if buffer.tell() > TABLE_BYTES_MAX:
        _refuse_size(descriptor)
    return buffer.getvalue()


def _population(descriptor: DatasetDescriptor, plan: Plan) -> str:
    present = [f"{reading(descriptor, name)} IS NOT NULL" for name in plan.request.columns_read]
    return " AND ".join(present + [_condition(descriptor, condition) for condition in plan.request.filters])


def _condition(descriptor: DatasetDescriptor, condition: Filter) -> str:
    literal = f"CAST('{condition.value}' AS TIMESTAMPTZ)" if condition.is_instant else double(float(condition.value))
    return f"{reading(descriptor, condition.column)} {condition.op} {literal}"


def _bin(descriptor: DatasetDescriptor, plan: Plan) -> str:
    bins = plan.request.bins
    if bins is None:
        return "CAST(NULL AS INTEGER)"
    value = reading(descriptor, bins.column)
    branches = " ".join(f"WHEN {value} < {double(float(edge))} THEN {i - 1}" for i, edge in enumerate(bins.edges))
    return f"nullif(CASE {branches} END, -1)"


def _outside(descriptor: DatasetDescriptor, name: str) -> str:
    column = descriptor.column(name)
    assert column is not None
    if column.bounds is None:
        return "false"
    lower, upper = double(float(column.bounds.lower)), double(float(column.bounds.upper))
    return f"coalesce({reading(descriptor, name)} NOT BETWEEN {lower} AND {upper}, false)"


def _in_bounds(descriptor: DatasetDescriptor, name: str) -> str:
    return f"CASE WHEN {_outside(descriptor, name)} THEN NULL ELSE {reading(descriptor, name)} END"


def _percent(part: int, whole: int) -> int:
    return -(-100 * part // whole) if whole else 0


def _refuse_size(descriptor: DatasetDescriptor) -> None:
    raise LimitError(
        f"The table of the dataset {descriptor.dataset} is larger than {TABLE_BYTES_MAX >> 20} MiB.",
        mend="Ask for fewer columns or filter the rows.",
    )
