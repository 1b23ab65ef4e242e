"""The two questions about its own data that a node answers in integers, over the table `records`."""

from __future__ import annotations

import duckdb

from consortium.encoding import Json
from consortium.privacy.descriptor import DatasetDescriptor, row_count_band
from consortium.privacy.plan import Plan
from consortium.privacy.statistics import Filter
from node.data.records import count, double, is_sentinel, reading
from node.services.computation import PartialSums


def inspection(connection: duckdb.DuckDBPyConnection, descriptor: DatasetDescriptor, rows_read: int) -> Json:
    """Bands and whole percentages, rounded up so that a rare defect is not shown as none."""
    records = count(connection)
    columns = []
    for i, column in enumerate(descriptor.columns):
        sentinel = is_sentinel(descriptor, column.name) or "false"
        outside = outside_bounds(descriptor, column.name)
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


def partial_sums(connection: duckdb.DuckDBPyConnection, descriptor: DatasetDescriptor, plan: Plan) -> PartialSums:
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
    return PartialSums(result, sum(row[1] for row in totals))


def _population(descriptor: DatasetDescriptor, plan: Plan) -> str:
    present = [f"{reading(descriptor, name)} IS NOT NULL" for name in plan.request.columns_read]
    return " AND ".join(present + [condition_sql(descriptor, condition) for condition in plan.request.filters])


def condition_sql(descriptor: DatasetDescriptor, condition: Filter) -> str:
    """SQL for whether a record passes a filter; NULL where the column is missing."""
    literal = f"CAST('{condition.value}' AS TIMESTAMPTZ)" if condition.is_instant else double(float(condition.value))
    return f"{reading(descriptor, condition.column)} {condition.op} {literal}"


def _bin(descriptor: DatasetDescriptor, plan: Plan) -> str:
    bins = plan.request.bins
    if bins is None:
        return "CAST(NULL AS INTEGER)"
    value = reading(descriptor, bins.column)
    branches = " ".join(f"WHEN {value} < {double(float(edge))} THEN {i - 1}" for i, edge in enumerate(bins.edges))
    return f"nullif(CASE {branches} END, -1)"


def outside_bounds(descriptor: DatasetDescriptor, name: str) -> str:
    """SQL for whether a reading is beyond the declared bounds; false where there are none."""
    column = descriptor.column(name)
    assert column is not None
    if column.bounds is None:
        return "false"
    lower, upper = double(float(column.bounds.lower)), double(float(column.bounds.upper))
    return f"coalesce({reading(descriptor, name)} NOT BETWEEN {lower} AND {upper}, false)"


def _percent(part: int, whole: int) -> int:
    return -(-100 * part // whole) if whole else 0
