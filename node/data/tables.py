"""Whole columns for local training, over the table `records`; a module of its own because Arrow is slow to import."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import NoReturn

import duckdb
from pyarrow.ipc import new_stream

from consortium.errors import LimitError
from consortium.privacy.descriptor import DatasetDescriptor
from consortium.privacy.statistics import Filter
from node.data.queries import condition_sql, outside_bounds
from node.data.records import reading

TABLE_BYTES_MAX = 64 << 20


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
    where = " AND ".join(condition_sql(descriptor, condition) for condition in conditions) or "true"
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


def _in_bounds(descriptor: DatasetDescriptor, name: str) -> str:
    return f"CASE WHEN {outside_bounds(descriptor, name)} THEN NULL ELSE {reading(descriptor, name)} END"


def _refuse_size(descriptor: DatasetDescriptor) -> NoReturn:
    raise LimitError(
        f"The table of the dataset {descriptor.dataset} is larger than {TABLE_BYTES_MAX >> 20} MiB.",
        mend="Ask for fewer columns or filter the rows.",
    )
