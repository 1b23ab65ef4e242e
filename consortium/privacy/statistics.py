"""What may be asked of the members' data: a typed request from a closed vocabulary, never SQL."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any, NoReturn

from consortium.encoding import Json
from consortium.errors import RequestError
from consortium.privacy.accounting import check_delta, check_epsilon_milli
from consortium.privacy.descriptor import Bounds, DatasetDescriptor, decimal_of

MEASURES = ("count", "mean", "std", "mean_by_bin")
BINS_MAX = 64
FILTERS_MAX = 8
FILTER_OPERATORS = (">=", "<")

_COLUMN = re.compile(r"\w[\w .()%/-]{0,63}")
_PURPOSE = re.compile(r"[a-z0-9][a-z0-9._/-]{0,99}")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_FIELDS = ("bounds", "columns", "delta", "epsilon_milli", "filters", "kind", "measures", "purpose", "release")


@dataclass(frozen=True)
class Filter:
    """A condition on a row: column >= value, or column < value.

    Attributes:
        column: a numeric or timestamp column.
        op: ">=" or "<".
        value: decimal string, or an instant such as "2015-07-01T00:00:00Z".
    """

    column: str
    op: str
    value: str

    @property
    def is_instant(self) -> bool:
        """Whether the value is a time and not a number."""
        return _INSTANT.fullmatch(self.value) is not None

    def to_json(self) -> Json:
        """{column, op, value}."""
        return {"column": self.column, "op": self.op, "value": self.value}

    @classmethod
    def from_json(cls, body: Json, where: str) -> Filter:
        """Raises RequestError with the place `where`."""
        fields = _fields(body, ("column", "op", "value"), where)
        if fields["op"] not in FILTER_OPERATORS:
            _refuse("The filter's operator is unknown.", f"{where}.op", f"Use {' or '.join(FILTER_OPERATORS)}.")
        value = fields["value"]
        if not _is_instant(value):
            _decimal(value, f"{where}.value")
        return cls(_column_name(fields["column"], f"{where}.column"), fields["op"], value)


@dataclass(frozen=True)
class Bins:
    """Half-open bins [edge, next edge) of a second column; a row outside of all of them counts in no bin."""

    column: str
    edges: tuple[Decimal, ...]

    @property
    def count(self) -> int:
        """How many bins there are."""
        return len(self.edges) - 1

    def to_json(self) -> Json:
        """{column, edges: decimal strings}."""
        return {"column": self.column, "edges": [f"{edge:f}" for edge in self.edges]}

    @classmethod
    def from_json(cls, body: Json) -> Bins:
        """Raises RequestError with the place."""
        fields = _fields(body, ("column", "edges"), "bin")
        edges = fields["edges"]
        if not isinstance(edges, list) or not 2 <= len(edges) <= BINS_MAX + 1:
            _refuse(f"Between 1 and {BINS_MAX} bins are possible.", "bin.edges", "List 2 to 65 edges.")
        decimals = tuple(_decimal(edge, f"bin.edges[{i}]") for i, edge in enumerate(edges))
        if any(left >= right for left, right in pairwise(decimals)):
            _refuse("The edges are not strictly increasing.", "bin.edges", "Sort them and drop repeated ones.")
        return cls(_column_name(fields["column"], "bin.column"), decimals)


@dataclass(frozen=True)
class StatisticsRequest:
    """A differentially private question about one numeric column, of all records together and by bins of another.

    A record counts only if it has every column that the request reads.

    Attributes:
        column: the numeric column that is described.
        measures: of MEASURES, in that order.
        bins: for "mean_by_bin", else None.
        bounds: the range that values are clipped to, and their grid, as the catalogue declares them.
        filters: all of them must hold.
        purpose: what the answer is for; policies decide on it.
        epsilon_milli: epsilon in thousandths.
        delta: a power of ten, e.g. "1e-6".
    """

    column: str
    measures: tuple[str, ...]
    bins: Bins | None
    bounds: Bounds
    filters: tuple[Filter, ...]
    purpose: str
    epsilon_milli: int
    delta: str

    @property
    def columns_read(self) -> tuple[str, ...]:
        """Every column that the request looks at, each once: the target, the bins' and the filters'."""
        names = [self.column]
        names += [self.bins.column] if self.bins else []
        names += [condition.column for condition in self.filters]
        return tuple(dict.fromkeys(names))

    def to_json(self) -> Json:
        """The canonical JSON value; equal requests have equal bytes."""
        bins = {"bin": self.bins.to_json()} if self.bins else {}
        return {
            "kind": "statistic",
            "columns": [self.column],
            "measures": list(self.measures),
            **bins,
            "bounds": {self.column: self.bounds.to_json()},
            "filters": [condition.to_json() for condition in self.filters],
            "purpose": self.purpose,
            "release": "dp",
            "epsilon_milli": self.epsilon_milli,
            "delta": self.delta,
        }

    @classmethod
    def from_json(cls, body: Json) -> StatisticsRequest:
        """A request from its JSON value, checked as far as that is possible without a catalogue.

        Raises:
            RequestError: names the field that is missing, unknown, malformed or out of range.
        """
        with_bins = isinstance(body, dict) and "bin" in body
        fields = _fields(body, (*_FIELDS, "bin") if with_bins else _FIELDS, "")
        if fields["kind"] != "statistic":
            _refuse("The request is not of the kind statistic.", "kind", 'Write "statistic".')
        if fields["release"] != "dp":
            _refuse("The release mode is not offered.", "release", 'Write "dp".')
        column = _only(fields["columns"], "columns")
        check_epsilon_milli(fields["epsilon_milli"])
        check_delta(fields["delta"])
        if not isinstance(fields["purpose"], str) or not _PURPOSE.fullmatch(fields["purpose"]):
            _refuse("The purpose is not well formed.", "purpose", "Use lower-case letters, digits and . _ / - only.")
        bins = Bins.from_json(fields["bin"]) if with_bins else None
        return cls(
            column=column,
            measures=_measures(fields["measures"], with_bins),
            bins=bins,
            bounds=_bounds(fields["bounds"], column),
            filters=_filters(fields["filters"]),
            purpose=fields["purpose"],
            epsilon_milli=fields["epsilon_milli"],
            delta=fields["delta"],
        )

    def check_against(self, descriptor: DatasetDescriptor) -> None:
        """Refuses a request that a described dataset cannot answer.

        Raises:
            RequestError: a column is not in the catalogue or has the wrong type, or bounds are not the declared ones.
        """
        target = _catalogue_column(descriptor, self.column, "columns[0]")
        if target.bounds is None:
            _refuse("The column is no number with declared bounds.", "columns[0]", "Ask for a bounded numeric column.")
        if target.bounds != self.bounds:
            _refuse(
                "The bounds are not those that the catalogue declares.",
                f"bounds.{self.column}",
                "Copy lower, upper and resolution from the catalogue.",
            )
        if self.bins is not None and _catalogue_column(descriptor, self.bins.column, "bin.column").type != "number":
            _refuse("The column of the bins is no number.", "bin.column", "Choose a numeric column.")
        for i, condition in enumerate(self.filters):
            kind = _catalogue_column(descriptor, condition.column, f"filters[{i}].column").type
            if kind != ("timestamp" if condition.is_instant else "number"):
                _refuse(
                    "The filter's value does not fit the type of its column.",
                    f"filters[{i}].value",
                    'Give a decimal string for a number, an instant such as "2015-07-01T00:00:00Z" for a timestamp.',
                )


def _measures(value: Json, with_bins: bool) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or any(measure not in MEASURES for measure in value):
        _refuse("A measure is unknown, or none is given.", "measures", f"Choose from {', '.join(MEASURES)}.")
    if len(set(value)) != len(value):
        _refuse("A measure is named twice.", "measures", "Name every measure once.")
    if ("mean_by_bin" in value) != with_bins:
        _refuse("mean_by_bin and bin come together.", "bin", "Give both or neither.")
    return tuple(measure for measure in MEASURES if measure in value)


def _bounds(value: Json, column: str) -> Bounds:
    inner = _fields(value, (column,), "bounds")[column]
    fields = _fields(inner, ("lower", "resolution", "upper"), f"bounds.{column}")
    try:
        return Bounds.parse(fields["lower"], fields["upper"], fields["resolution"])
    except ValueError as error:
        _refuse(str(error), f"bounds.{column}", "Copy lower, upper and resolution from the catalogue.")


def _filters(value: Json) -> tuple[Filter, ...]:
    if not isinstance(value, list) or len(value) > FILTERS_MAX:
        _refuse(f"A list of at most {FILTERS_MAX} filters is expected.", "filters", "Give [] for no filter.")
    return tuple(Filter.from_json(item, f"filters[{i}]") for i, item in enumerate(value))


def _catalogue_column(descriptor: DatasetDescriptor, name: str, where: str) -> Any:
    column = descriptor.column(name)
    if column is None:
        _refuse(
            f"The dataset {descriptor.dataset} has no such column.", where, "List the catalogue to see its columns."
        )
    return column


def _only(value: Json, where: str) -> str:
    if not isinstance(value, list) or len(value) != 1:
        _refuse("Exactly one column can be described at a time.", where, "List one column name.")
    return _column_name(value[0], f"{where}[0]")


def _column_name(value: Json, where: str) -> str:
    if not isinstance(value, str) or not _COLUMN.fullmatch(value):
        _refuse("The column name is not well formed.", where, "Copy it from the catalogue.")
    return value


def _decimal(value: Json, where: str) -> Decimal:
    try:
        return decimal_of(value)
    except ValueError as error:
        _refuse(str(error), where, "Write it as a decimal string.")


def _is_instant(value: Json) -> bool:
    if not isinstance(value, str) or not _INSTANT.fullmatch(value):
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _fields(body: Json, expected: tuple[str, ...], where: str) -> dict[str, Any]:
    if not isinstance(body, dict):
        _refuse("An object is expected.", where or "request", f"Its fields are {', '.join(sorted(expected))}.")
    if set(body) != set(expected):
        missing = [name for name in expected if name not in body]
        place = f"{where}.{missing[0]}" if where and missing else missing[0] if missing else where or "request"
        _refuse(
            "A field is missing." if missing else "A field is unknown.",
            place,
            f"The fields are exactly {', '.join(sorted(expected))}.",
        )
    return body


def _refuse(what: str, where: str, mend: str) -> NoReturn:
    raise RequestError(what, where=where, mend=mend)
