"""Shows the result of a job: its plain fields, then a table for each list in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.cli.output import say, table

if TYPE_CHECKING:
    from consortium.encoding import Json

COLUMNS_MAX = 7


def show_result(result: Json) -> None:
    """Prints a result document of any kind; `--json` and the Python client give all of it."""
    if "estimates" in result:
        _show_statistic(result)
        return
    fields, lists = _split(result, "")
    table("Result", ("field", "value"), fields)
    for name, rows in lists:
        headings = list(dict.fromkeys(key for row in rows for key in row))[:COLUMNS_MAX]
        numeric = [key for key in headings if all(isinstance(row.get(key), int | float | None) for row in rows)]
        cells = [[_text(row.get(key)) for key in headings] for row in rows]
        table(name, headings, cells, numeric=numeric)


def _show_statistic(result: Json) -> None:
    from node.rpc.python_client import figures  # noqa: PLC0415 -- gRPC, which whoever has a result has already

    rows = [
        (row["measure"], _bin(row), *(_text(row[end]) for end in ("value", "lower", "upper")))
        for row in figures(result["estimates"])
    ]
    headings = ("value", "lower", "upper")
    table("Figures with 95 % intervals", ("measure", "bin", *headings), rows, numeric=headings)
    say(
        f"{len(result['survivors'])} of {len(result['roster'])} members are in it; each spent"
        f" {result['rho_micro']} micro-rho (epsilon {result['epsilon_milli'] / 1000:g})."
    )


def _bin(row: Json) -> str:
    return "" if row["lower_edge"] is None else f"{row['lower_edge']:g} to {row['upper_edge']:g}"


def _split(value: Json, prefix: str) -> tuple[list[tuple[str, str]], list[tuple[str, list[Json]]]]:
    fields: list[tuple[str, str]] = []
    lists: list[tuple[str, list[Json]]] = []
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, dict):
            inner = _split(item, f"{name}.")
            fields += inner[0]
            lists += inner[1]
        elif isinstance(item, list) and item and all(isinstance(row, dict) for row in item):
            lists.append((name, item))
        else:
            fields.append((name, _text(item)))
    return fields, lists


def _text(value: Json) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return f"{len(value)} values" if len(value) > 8 else ", ".join(_text(item) for item in value)
    return str(value)
