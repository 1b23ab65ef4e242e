"""The dataset descriptor: canonical form, and refusals that name the field."""

from __future__ import annotations

from typing import Any

import pytest

from consortium.encoding import canonical, parse
from consortium.errors import DatasetError
from consortium.privacy.descriptor import DatasetDescriptor
from tests.units.wind import DESCRIPTOR, descriptor_body, number, plain


def test_a_descriptor_survives_its_canonical_json() -> None:
    assert DatasetDescriptor.from_json(parse(canonical(DESCRIPTOR.to_json()))) == DESCRIPTOR
    assert DESCRIPTOR.with_row_count(52_000).row_count_band == "10k-100k"


def columns(*changed: dict[str, Any]) -> dict[str, Any]:
    return {"columns": [plain("turbine", "text"), plain("time", "timestamp"), *changed]}


POWER = number("power", "0", "10", "1")
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("name in capitals", {"dataset": "Farm"}, "dataset"),
    ("lineage no text", {"lineage": 1}, "lineage"),
    ("unknown grade", {"grade": "secret"}, "grade"),
    ("grade no text", {"grade": ["core"]}, "grade"),
    ("no privacy unit", {"privacy_unit": ""}, "privacy_unit"),
    ("control character", {"privacy_unit": "a\nb"}, "privacy_unit"),
    ("exact row count", {"row_count_band": "52000"}, "row_count_band"),
    ("unknown field", {"rows": 3}, "top level"),
    ("no key", {"key": []}, "key"),
    ("key no list", {"key": "time"}, "key"),
    ("key twice", {"key": ["time", "time"]}, "key"),
    ("key no text", {"key": [1]}, "key[0]"),
    ("key undeclared", {"key": ["turbine", "date"]}, "key[1]"),
    ("columns no list", {"columns": {}}, "columns"),
    ("too many columns", {"columns": [POWER] * 257}, "columns"),
    ("column no table", columns("power"), "columns[2]"),  # type: ignore[arg-type]
    ("same name", columns(POWER, POWER), "columns"),
    ("same name but for case", columns(POWER, {**POWER, "name": "Power"}), "columns"),
    ("unknown type", columns({**POWER, "type": "money"}), "columns[2].type"),
    ("name that quotes", columns({**POWER, "name": 'a"b'}), "columns[2].name"),
    ("missing name", columns({"type": "number"}), "columns[2].name"),
    ("half of the bounds", columns({"name": "p", "type": "number", "lower": "0"}), "columns[2]"),
    ("bounds of a text", columns({**POWER, "type": "text"}), "columns[2]"),
    ("bounds a float", columns({**POWER, "lower": 0.5}), "columns[2]"),
    ("bounds reversed", columns({**POWER, "upper": "-1"}), "columns[2]"),
    ("unit too long", columns({**POWER, "unit": "x" * 401}), "columns[2].unit"),
    ("sentinel no decimal", columns({**POWER, "missing": ["NA"]}), "columns[2].missing[0]"),
    ("sentinel of a text", columns({**plain("a", "text"), "missing": ["-1"]}), "columns[2].missing"),
]


@pytest.mark.parametrize(("changes", "where"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_a_wrong_descriptor_is_refused_with_its_field(changes: dict[str, Any], where: str) -> None:
    with pytest.raises(DatasetError) as refusal:
        DatasetDescriptor.from_json(descriptor_body(**changes))
    assert refusal.value.where == where
    assert refusal.value.mend


def test_a_descriptor_that_is_no_table_is_refused() -> None:
    with pytest.raises(DatasetError, match="table of named fields"):
        DatasetDescriptor.from_json([])


def test_optional_fields_of_a_column_may_be_left_out() -> None:
    made = DatasetDescriptor.from_json(descriptor_body(**columns({"name": "p", "type": "number"})))
    column = made.column("p")
    assert column is not None
    assert (column.bounds, column.missing, column.unit) == (None, (), "")
