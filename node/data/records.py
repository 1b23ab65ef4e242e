"""A file's records as DuckDB sees them: the described columns, typed, one row for every key, in file order.

All SQL is built from column positions, quoted names of described columns, integers and doubles: nothing that a caller
wrote is ever part of it.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NoReturn

import duckdb

from consortium.errors import DatasetError
from consortium.privacy.descriptor import Column, DatasetDescriptor

HEADER_BYTES_MAX = 1 << 16
FIELD_CHARACTERS_MAX = 1 << 20

_GLOB = re.compile(r"[*?\[\]{}]")
_CSV_LINE = re.compile(r"CSV Error on Line: (\d+)")
_NUMBERS = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|DOUBLE|FLOAT|DECIMAL\(.*")
_TIMESTAMPS = re.compile(r"TIMESTAMP.*|DATE")


@dataclass(frozen=True)
class Source:
    """A file that was found to hold every described column.

    Attributes:
        path: the file.
        scan: the SQL of the table function that reads it.
        columns: for every described column, the SQL name and the SQL type of its field in the scan.
    """

    path: Path
    scan: str
    columns: dict[str, tuple[str, str]]

    @property
    def is_csv(self) -> bool:
        """Whether lines can be named in errors."""
        return self.path.suffix == ".csv"


def open_source(connection: duckdb.DuckDBPyConnection, path: Path, descriptor: DatasetDescriptor) -> Source:
    """Finds the described columns in a CSV or Parquet file.

    Raises:
        DatasetError: the file is missing, empty, of another kind, unreadable, or a described column is not in it.
    """
    _check_file(path)
    literal = _text_literal(str(path))
    if path.suffix == ".csv":
        header = _csv_header(path)
        fields = ", ".join(f"'f{i}': 'VARCHAR'" for i in range(len(header)))
        scan = (
            f"read_csv({literal}, auto_detect=false, header=true, delim=',', quote='\"', escape='\"', nullstr='', "
            f"max_line_size={FIELD_CHARACTERS_MAX}, columns={{{fields}}})"
        )
        found = [(name, f"f{i}", "VARCHAR") for i, name in enumerate(header)]
    else:
        scan = f"read_parquet({literal})"
        try:
            described = connection.execute(f"DESCRIBE SELECT * FROM {scan}").fetchall()  # noqa: S608
        except duckdb.Error as error:
            refuse_unreadable(path, error)
        found = [(row[0], _name_literal(row[0]), row[1]) for row in described]
    return Source(path, scan, _located(path, descriptor, found))


def load(
    connection: duckdb.DuckDBPyConnection, source: Source, descriptor: DatasetDescriptor, names: Sequence[str]
) -> int:
    """Makes the table `records` of the named columns (as c0, c1 ...), of the first row of every key; returns rows read.

    Rows that lack a part of their key cannot be told apart and are left out. Sentinel readings are still in it, see
    `reading`.

    Raises:
        DatasetError: a value that is no number, or no timestamp, in a column of that type (names line and column), no
            rows at all, or a file that cannot be read.
    """
    wanted = list(dict.fromkeys((*descriptor.key, *names)))
    columns = [column for column in descriptor.columns if column.name in wanted]
    typed = {column.name: _typed(column, *source.columns[column.name]) for column in columns}
    numbered = {column.name: descriptor.columns.index(column) for column in columns}
    wrong = " ".join(f"WHEN {bad} THEN {numbered[name]}" for name, (_, bad) in typed.items())
    values = ", ".join(f"{value} AS c{numbered[name]}" for name, (value, _) in typed.items())
    try:
        connection.execute(
            f"CREATE TEMP TABLE records AS SELECT {values}, CASE {wrong} END AS wrong FROM {source.scan}"  # noqa: S608
        )
    except (duckdb.InvalidInputException, duckdb.IOException, duckdb.ConversionException) as error:
        refuse_unreadable(source.path, error)
    first = connection.execute("SELECT rowid, wrong FROM records WHERE wrong IS NOT NULL ORDER BY rowid LIMIT 1")
    for row, wrong_column in first.fetchall():
        _refuse_value(source, descriptor.columns[wrong_column], row)
    read = count(connection)
    if read == 0:
        raise DatasetError("The file has no rows.", where=source.path.name, mend="Connect a file with records.")
    keys = ", ".join(f"c{numbered[name]}" for name in descriptor.key)
    present = " AND ".join(f"c{numbered[name]} IS NOT NULL" for name in descriptor.key)
    connection.execute(
        f"DELETE FROM records WHERE NOT ({present}) "  # noqa: S608
        f"OR rowid NOT IN (SELECT min(rowid) FROM records WHERE {present} GROUP BY {keys})"
    )
    return read


def count(connection: duckdb.DuckDBPyConnection) -> int:
    """How many rows `records` has."""
    [(rows,)] = connection.execute("SELECT count(*) FROM records").fetchall()
    return int(rows)


def reading(descriptor: DatasetDescriptor, name: str) -> str:
    """SQL for the value of a column in `records`: NULL where it is missing or a sentinel."""
    sentinel = is_sentinel(descriptor, name)
    field = f"c{_index(descriptor, name)}"
    return f"(CASE WHEN {sentinel} THEN NULL ELSE {field} END)" if sentinel else field


def is_sentinel(descriptor: DatasetDescriptor, name: str) -> str:
    """SQL for whether a value is a declared sentinel; "" if none is declared.

    They are compared as 32-bit floats, because loggers write -273.2 as the float nearest to it: -273.20001.
    """
    index = _index(descriptor, name)
    sentinels = [f"CAST({double(float(value))} AS FLOAT)" for value in descriptor.columns[index].missing]
    return f"coalesce(TRY_CAST(c{index} AS FLOAT) IN ({', '.join(sentinels)}), false)" if sentinels else ""


def double(value: float) -> str:
    """The SQL literal of exactly this double."""
    return f"CAST('{float(value)!r}' AS DOUBLE)"


def refuse_unreadable(path: Path, error: duckdb.Error) -> NoReturn:
    """Turns DuckDB's error into ours, of whose text, which quotes data, only a line number survives."""
    line = _CSV_LINE.match(str(error).removeprefix("Invalid Input Error: "))
    kind = "comma-separated UTF-8 CSV with the same number of fields in every line"
    raise DatasetError(
        "The file cannot be read.",
        where=f"{path.name}, line {line.group(1)}" if line else path.name,
        mend=f"Save it as {kind}." if path.suffix == ".csv" else "Save it as Parquet anew.",
    ) from None


def _index(descriptor: DatasetDescriptor, name: str) -> int:
    return next(i for i, column in enumerate(descriptor.columns) if column.name == name)


def _check_file(path: Path) -> None:
    if path.suffix not in (".csv", ".parquet"):
        raise DatasetError("The file is neither .csv nor .parquet.", where=path.name, mend="Convert it to one of them.")
    if _GLOB.search(str(path)):
        raise DatasetError("The path holds a wildcard character.", where=path.name, mend="Rename the file or folder.")
    if not path.is_file():
        raise DatasetError("There is no such file.", where=path.name, mend="Check the path of the dataset.")
    if path.stat().st_size == 0:
        raise DatasetError("The file is empty.", where=path.name, mend="Connect a file with a header and records.")


def _csv_header(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            text = file.readline(HEADER_BYTES_MAX).decode("utf-8-sig")
        header = next(csv.reader(io.StringIO(text, newline=""), strict=True), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        header = []
    if not header or not text.endswith("\n"):
        raise DatasetError(
            "The file has no header line, or nothing after it.",
            where=f"{path.name}, line 1",
            mend="Save it as comma-separated UTF-8 text whose first line names the columns.",
        )
    return header


def _located(
    path: Path, descriptor: DatasetDescriptor, found: Sequence[tuple[str, str, str]]
) -> dict[str, tuple[str, str]]:
    columns = {}
    for column in descriptor.columns:
        same = [(name, field, kind) for name, field, kind in found if name.casefold() == column.name.casefold()]
        if len(same) != 1 or same[0][0] != column.name:
            raise DatasetError(
                "A described column is in the file twice."
                if len(same) > 1
                else "A described column is not in the file.",
                where=f"{path.name}, column {column.name}",
                mend="Correct the file or its description; upper and lower case count.",
            )
        _, field, kind = same[0]
        accepted = {"number": _NUMBERS, "timestamp": _TIMESTAMPS, "text": re.compile("VARCHAR")}[column.type]
        if kind != "VARCHAR" and not accepted.fullmatch(kind):
            raise DatasetError(
                f"A column that is described as {column.type} has another type in the file.",
                where=f"{path.name}, column {column.name}",
                mend="Correct the file or its description.",
            )
        columns[column.name] = (field, kind)
    return columns


def _typed(column: Column, field: str, kind: str) -> tuple[str, str]:
    """SQL for a column's value, NULL where missing, and for whether its text is of the wrong type."""
    text = f"nullif(trim({field}), '')" if kind == "VARCHAR" else field
    if column.type == "text":
        return f"nullif({field}, '')", "false"
    if column.type == "timestamp":
        naive = kind == "DATE" or (kind.startswith("TIMESTAMP") and "ZONE" not in kind)
        value = f"TRY_CAST({f'TRY_CAST({text} AS TIMESTAMP)' if naive else text} AS TIMESTAMPTZ)"
        return value, f"({text} IS NOT NULL AND {value} IS NULL)"
    value = f"TRY_CAST({text} AS DOUBLE)"
    number = f"(CASE WHEN isnan({value}) THEN NULL ELSE {value} END)"
    return number, f"({text} IS NOT NULL AND {value} IS NULL)"


def _refuse_value(source: Source, column: Column, row: int) -> NoReturn:
    place = f"line {_line_of_row(source.path, row)}" if source.is_csv else f"row {row + 1}"
    noun = "number" if column.type == "number" else "timestamp"
    raise DatasetError(
        f"A value is no {noun}.",
        where=f"{source.path.name}, {place}, column {column.name}",
        mend="Correct it; leave the field empty where a reading is missing.",
    )


def _line_of_row(path: Path, row: int) -> int:
    """The line at which a record of a CSV file ends; fields may hold line breaks, blank lines are no records."""
    csv.field_size_limit(FIELD_CHARACTERS_MAX)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        next(islice((fields for fields in reader if fields), row + 1, None))
        return reader.line_num


def _text_literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _name_literal(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
