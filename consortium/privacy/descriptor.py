"""What a member says about a dataset that it offers: columns, types, units and bounds, never a value of the data.

Bounds are declared by the steward from what is physically possible; nothing here is computed from rows but the
band of the row count.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, NoReturn

from consortium.encoding import Json
from consortium.errors import DatasetError

COLUMNS_MAX = 256
SENTINELS_MAX = 16
STEPS_MAX = 1 << 20
TEXT_MAX = 400
ROW_BANDS = ("under 1k", "1k-10k", "10k-100k", "100k-1M", "1M-10M", "over 10M")
GRADES = ("general", "important", "core")
"""Data grades of GB/T 43697-2024: 一般数据, 重要数据, 核心数据."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._/-]{0,99}")
_COLUMN = re.compile(r"\w[\w .()%/-]{0,63}")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,11})(\.[0-9]{1,9})?")
_FIELDS = ("dataset", "lineage", "sector", "grade", "privacy_unit", "row_count_band", "key", "columns")
_COLUMN_FIELDS = ("name", "type", "unit", "lower", "upper", "resolution", "missing", "description")


@dataclass(frozen=True)
class Bounds:
    """The range of a numeric column and the grid that its values are rounded to, as exact decimals.

    `upper - lower` is a whole number of `resolution` steps, at most 2**20.
    """

    lower: Decimal
    upper: Decimal
    resolution: Decimal

    @property
    def steps(self) -> int:
        """How many steps of `resolution` the range has."""
        return int((self.upper - self.lower) / self.resolution)

    @classmethod
    def parse(cls, lower: Json, upper: Json, resolution: Json) -> Bounds:
        """Bounds from decimal strings.

        Raises:
            ValueError: the text says what is wrong, without place.
        """
        bounds = cls(decimal_of(lower), decimal_of(upper), decimal_of(resolution))
        if bounds.resolution <= 0:
            raise ValueError("The resolution is not positive.")
        if bounds.lower >= bounds.upper:
            raise ValueError("The lower bound is not below the upper bound.")
        if (bounds.upper - bounds.lower) % bounds.resolution != 0:
            raise ValueError("The range is not a whole number of resolution steps.")
        if bounds.steps > STEPS_MAX:
            raise ValueError(f"The range has more than {STEPS_MAX} resolution steps.")
        return bounds

    def to_json(self) -> Json:
        """{lower, upper, resolution} as decimal strings."""
        return {"lower": f"{self.lower:f}", "upper": f"{self.upper:f}", "resolution": f"{self.resolution:f}"}


@dataclass(frozen=True)
class Column:
    """One column: a number with bounds, a text or a timestamp.

    Attributes:
        name: as it stands in the file.
        type: "number", "text" or "timestamp".
        unit: unit of a number, e.g. "kW"; may be empty.
        bounds: declared range; for numbers only, and only those can be asked for.
        missing: readings that mean "no reading", e.g. -273.2.
        description: for people.
    """

    name: str
    type: str
    unit: str
    bounds: Bounds | None
    missing: tuple[Decimal, ...]
    description: str

    def to_json(self) -> Json:
        """Canonical JSON value; without bounds the three bound fields are absent."""
        limits = self.bounds.to_json() if self.bounds else {}
        return {
            "name": self.name,
            "type": self.type,
            "unit": self.unit,
            **limits,
            "missing": [f"{sentinel:f}" for sentinel in self.missing],
            "description": self.description,
        }


@dataclass(frozen=True)
class DatasetDescriptor:
    """A dataset as its steward describes it.

    Attributes:
        dataset: its name in the consortium.
        lineage: what its privacy budget belongs to; a new version keeps its lineage.
        sector: the sector of its owner's business.
        grade: data grade, "general", "important" or "core" (GB/T 43697-2024).
        privacy_unit: what one budget unit protects, e.g. "one 10-minute record". Rows that agree in `key` are one
            unit: exactly one of them, the first in the file, is ever used.
        row_count_band: one of ROW_BANDS, or "" before the file was inspected.
        key: names of the columns that identify a record.
        columns: at least one, names unique.
    """

    dataset: str
    lineage: str
    sector: str
    grade: str
    privacy_unit: str
    row_count_band: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    def column(self, name: str) -> Column | None:
        """The column of that name, None if there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        return None

    def with_row_count(self, rows: int) -> DatasetDescriptor:
        """The descriptor with the band of a row count."""
        return replace(self, row_count_band=row_count_band(rows))

    def to_json(self) -> Json:
        """Canonical JSON value, as the `dataset` ledger entry carries it."""
        return {
            "dataset": self.dataset,
            "lineage": self.lineage,
            "sector": self.sector,
            "grade": self.grade,
            "privacy_unit": self.privacy_unit,
            "row_count_band": self.row_count_band,
            "key": list(self.key),
            "columns": [column.to_json() for column in self.columns],
        }

    @classmethod
    def from_json(cls, body: Json) -> DatasetDescriptor:
        """A descriptor from its JSON value.

        Raises:
            DatasetError: names the field that is missing, unknown or out of range.
        """
        fields = _fields(body, _FIELDS, _FIELDS, "")
        columns = _list(fields["columns"], COLUMNS_MAX, "columns")
        descriptor = cls(
            dataset=_matching(fields, "dataset", _NAME, "Use lower-case letters, digits and . _ / - only."),
            lineage=_matching(fields, "lineage", _NAME, "Use lower-case letters, digits and . _ / - only."),
            sector=_matching(fields, "sector", _NAME, "Use lower-case letters, digits and . _ / - only."),
            grade=_choice(fields, "grade", GRADES, ""),
            privacy_unit=_text(fields, "privacy_unit", "", least=1),
            row_count_band=_choice(fields, "row_count_band", ("", *ROW_BANDS), ""),
            key=tuple(_key_name(name, i) for i, name in enumerate(_list(fields["key"], COLUMNS_MAX, "key"))),
            columns=tuple(_column(column, f"columns[{i}]") for i, column in enumerate(columns)),
        )
        _check_names(descriptor)
        return descriptor


def row_count_band(rows: int) -> str:
    """The band of ROW_BANDS that a row count falls into; lower limits belong to their band."""
    limits = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
    return ROW_BANDS[sum(rows >= limit for limit in limits)]


def decimal_of(text: Json) -> Decimal:
    """An exact decimal from its plain notation, at most 12 digits before and 9 after the point.

    Raises:
        ValueError: the value is not such a string.
    """
    if not isinstance(text, str) or not _DECIMAL.fullmatch(text):
        raise ValueError('A number is not in plain decimal notation such as "-20.5".')
    return Decimal(text)


def _check_names(descriptor: DatasetDescriptor) -> None:
    names = [column.name for column in descriptor.columns]
    folded = {name.casefold() for name in names}
    if len(folded) != len(names):
        _refuse("Two columns have the same name (upper and lower case are not told apart).", "columns", "Rename one.")
    if not descriptor.key or len(set(descriptor.key)) != len(descriptor.key):
        _refuse("The key names no column, or one twice.", "key", "Name the columns that identify one record.")
    for i, name in enumerate(descriptor.key):
        if descriptor.column(name) is None:
            _refuse("The key names a column that is not declared.", f"key[{i}]", "Add it to the columns.")


def _column(body: Json, where: str) -> Column:
    fields = _fields(body, _COLUMN_FIELDS, ("name", "type"), where)
    kind = _choice(fields, "type", ("number", "text", "timestamp"), where)
    given = [name for name in ("lower", "upper", "resolution") if name in fields]
    bounds = None
    if given:
        if kind != "number" or len(given) != 3:
            _refuse(
                "Bounds are for numbers, and come as lower, upper and resolution together.",
                where,
                "Give all three, or none.",
            )
        try:
            bounds = Bounds.parse(fields["lower"], fields["upper"], fields["resolution"])
        except ValueError as error:
            _refuse(str(error), where, 'Declare for instance lower "0", upper "2100", resolution "0.5".')
    missing = []
    for i, text in enumerate(_list(fields.get("missing", []), SENTINELS_MAX, f"{where}.missing")):
        try:
            missing.append(decimal_of(text))
        except ValueError as error:
            _refuse(str(error), f"{where}.missing[{i}]", 'Write the sentinel as it stands in the data, e.g. "-273.2".')
    if missing and kind != "number":
        _refuse("Only numbers have sentinel readings.", f"{where}.missing", "Leave it out.")
    return Column(
        name=_matching(fields, "name", _COLUMN, "Use up to 64 letters, digits, blanks and _ . ( ) % / -.", where),
        type=kind,
        unit=_text(fields, "unit", where),
        bounds=bounds,
        missing=tuple(missing),
        description=_text(fields, "description", where),
    )


def _fields(body: Json, known: Sequence[str], needed: Sequence[str], where: str) -> dict[str, Any]:
    if not isinstance(body, dict):
        _refuse("A table of named fields is expected.", where, f"It has the fields {', '.join(known)}.")
    for name in needed:
        if name not in body:
            _refuse("A field is missing.", _at(where, name), "Add it.")
    if any(name not in known for name in body):
        _refuse("A field is unknown.", where or "top level", f"The known fields are {', '.join(known)}.")
    return body


def _list(value: Json, length_max: int, where: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > length_max:
        _refuse(f"A list of at most {length_max} items is expected.", where, "Write it as a list.")
    return value


def _matching(fields: dict[str, Any], name: str, pattern: re.Pattern[str], mend: str, where: str = "") -> str:
    value = fields[name]
    if not isinstance(value, str) or not pattern.fullmatch(value):
        _refuse("The name is not well formed.", _at(where, name), mend)
    return value


def _choice(fields: dict[str, Any], name: str, choices: Sequence[str], where: str) -> str:
    value = fields[name]
    if not isinstance(value, str) or value not in choices:
        _refuse("The value is not one of those allowed.", _at(where, name), f"Choose from {', '.join(choices)}.")
    return value


def _text(fields: dict[str, Any], name: str, where: str, least: int = 0) -> str:
    value = fields.get(name, "")
    if not isinstance(value, str) or not least <= len(value) <= TEXT_MAX or not value.isprintable():
        _refuse("A line of text is expected.", _at(where, name), f"Give {least} to {TEXT_MAX} printable characters.")
    return value


def _key_name(value: Json, index: int) -> str:
    if not isinstance(value, str):
        _refuse("The key is a list of column names.", f"key[{index}]", "Write the name as text.")
    return value


def _at(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _refuse(what: str, where: str, mend: str) -> NoReturn:
    raise DatasetError(what, where=where, mend=mend)
