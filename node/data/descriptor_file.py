"""The steward's TOML file that describes a dataset."""

from __future__ import annotations

import re
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

from consortium.encoding import Json
from consortium.errors import DatasetError
from consortium.privacy.descriptor import DatasetDescriptor

FILE_BYTES_MAX = 1 << 18

_PLACE = re.compile(r"line \d+, column \d+")
_DECIMAL_FIELDS = ("lower", "upper", "resolution")


def read_descriptor(path: Path) -> DatasetDescriptor:
    """The descriptor in a TOML file; bounds and sentinels may be written as numbers or as strings.

    Raises:
        DatasetError: the file is missing, too large, no TOML (names the line), or a field is wrong (names the key).
    """
    text = _read(path)
    try:
        body = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        place = _PLACE.search(str(error))
        raise DatasetError(
            "The dataset description is not valid TOML.",
            where=f"{path.name}, {place.group() if place else 'at its end'}",
            mend="Correct that line; strings stand in double quotes.",
        ) from None
    if "row_count_band" in body:
        raise DatasetError(
            "The band of the row count is counted by the node, not declared.",
            where=f"{path.name}, row_count_band",
            mend="Remove it.",
        )
    try:
        return DatasetDescriptor.from_json({**_with_decimal_text(body), "row_count_band": ""})
    except DatasetError as error:
        raise DatasetError(error.what, where=f"{path.name}, {error.where}", mend=error.mend) from None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise DatasetError(
            "The dataset description cannot be read.", where=path.name, mend="Check its path and permissions."
        ) from error
    if len(data) > FILE_BYTES_MAX:
        raise DatasetError("The dataset description is too large.", where=path.name, mend="Keep it below 256 KiB.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DatasetError(
            "The dataset description is not UTF-8.", where=f"{path.name}, byte {error.start}", mend="Save it as UTF-8."
        ) from None


def _with_decimal_text(body: dict[str, Any]) -> dict[str, Json]:
    columns = body.get("columns")
    if not isinstance(columns, list):
        return body
    return {**body, "columns": [_column(column) if isinstance(column, dict) else column for column in columns]}


def _column(column: dict[str, Any]) -> dict[str, Json]:
    texts = {name: _decimal_text(column[name]) for name in _DECIMAL_FIELDS if name in column}
    missing = column.get("missing")
    if isinstance(missing, list):
        texts["missing"] = [_decimal_text(value) for value in missing]
    return {**column, **texts}


def _decimal_text(value: Any) -> Json:
    if isinstance(value, Decimal):
        return f"{value:f}"
    return str(value) if type(value) is int else value
