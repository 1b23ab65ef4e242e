"""The data worker's answers, against a slow and plain reference, on files with every defect that it handles."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from consortium.errors import DatasetError, LimitError, RequestError
from consortium.privacy.plan import Plan
from consortium.privacy.statistics import Filter
from node.data import queries, tables
from node.data.datasets import DuckDbDatasets, _spawn
from node.data.records import count, load, open_source
from node.data.sandbox import open_connection
from node.services.computation import PartialSums
from tests.units.wind import DESCRIPTOR, plan

ROWS = 1_500


def damaged_table(seed: int, rows: int = ROWS) -> pd.DataFrame:
    """Three turbines; nulls, sentinels, values out of bounds, duplicate keys, rows without a key; in random order."""
    generator = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "turbine": generator.choice(["T1", "T2", "T3"], rows),
            "time": pd.Timestamp("2015-01-01", tz="UTC")
            + pd.to_timedelta(generator.integers(0, rows, rows) * 10, "min"),
            "power": generator.normal(400, 900, rows).round(3),
            "wind": generator.weibull(2, rows).round(4) * 7,
            "not described": "secret",
        }
    )
    for column, value in (("power", np.nan), ("wind", np.nan), ("power", -999.0), ("wind", -273.20001)):
        frame.loc[generator.random(rows) < 0.03, column] = value
    frame.loc[generator.random(rows) < 0.01, "turbine"] = None
    frame.loc[generator.random(rows) < 0.01, "time"] = pd.NaT
    frame.loc[generator.random(rows) < 0.001, "power"] = np.inf
    return frame


def reference(frame: pd.DataFrame, whole: Plan) -> list[int]:
    """Row by row, in pandas and the plan's own reference transform."""
    frame = frame.dropna(subset=["turbine", "time"]).drop_duplicates(["turbine", "time"], keep="first")
    frame = frame[(frame["power"] != -999.0) & ((frame["wind"] + 273.2).abs() > 1e-4)].dropna(subset=["power", "wind"])
    for condition in whole.request.filters:
        column = frame[condition.column]
        value = pd.Timestamp(condition.value) if condition.is_instant else float(condition.value)
        frame = frame[column >= value] if condition.op == ">=" else frame[column < value]
    totals = [0] * whole.length
    for power, wind in zip(frame["power"], frame["wind"], strict=True):
        totals = [total + x for total, x in zip(totals, whole.contribution(power, wind), strict=True)]
    return totals


def save(frame: pd.DataFrame, folder: Path, kind: str, name: str = "scada") -> Path:
    path = folder / f"{name}.{kind}"
    if kind == "csv":
        frame.to_csv(path, index=False, date_format="%Y-%m-%dT%H:%M:%S%z")
    else:
        frame.to_parquet(path)
    return path


FILTERS = [
    {"column": "time", "op": ">=", "value": "2015-01-03T00:00:00Z"},
    {"column": "wind", "op": "<", "value": "11.5"},
]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("filters", [[], FILTERS], ids=["all", "filtered"])
async def test_partial_sums_equal_the_row_by_row_reference(tmp_path: Path, kind: str, filters: list[Any]) -> None:
    frame, whole = damaged_table(1), plan(filters=filters)
    expected = reference(frame, whole)
    assert expected[0] > 500
    sums = await DuckDbDatasets().partial_sums(save(frame, tmp_path, kind), DESCRIPTOR, whole)
    assert sums.totals == expected
    assert sums.rows == expected[0]


async def test_sums_over_parts_add_up_to_the_sum_over_the_whole(tmp_path: Path) -> None:
    frame, whole, datasets = damaged_table(2), plan(), DuckDbDatasets()
    parts = [
        await datasets.partial_sums(save(part, tmp_path, "parquet", str(name)), DESCRIPTOR, whole)
        for name, part in frame.groupby("turbine")
    ]
    assert len(parts) == 3
    together = await datasets.partial_sums(save(frame, tmp_path, "csv"), DESCRIPTOR, whole)
    assert together.totals == [sum(column) for column in zip(*(part.totals for part in parts), strict=True)]
    assert together.rows == sum(part.rows for part in parts)


def test_many_tables_give_the_reference_sums(tmp_path: Path) -> None:
    """The same without a process for each, so that there can be many."""
    for seed in range(20):
        frame, whole = damaged_table(seed, rows=200), plan(measures=["std", "mean_by_bin"])
        path = save(frame, tmp_path, "parquet")
        with open_connection(path) as connection:
            source = open_source(connection, path, DESCRIPTOR)
            load(connection, source, DESCRIPTOR, whole.request.columns_read)
            assert queries.partial_sums(connection, DESCRIPTOR, whole).totals == reference(frame, whole)


async def test_of_duplicates_the_first_in_the_file_counts_however_large_the_file(tmp_path: Path) -> None:
    rows = 70_000
    time = pd.Timestamp("2015-01-01", tz="UTC") + pd.to_timedelta(np.arange(rows), "min")
    first = pd.DataFrame({"turbine": "T1", "time": time, "power": 1025.0, "wind": 3.0})
    path = save(pd.concat([first, first.assign(power=1026.0)]), tmp_path, "csv")
    whole = plan(measures=["count", "mean"], bin=None)
    assert await DuckDbDatasets().partial_sums(path, DESCRIPTOR, whole) == PartialSums([rows, 0], rows)


async def test_no_matching_record_sums_to_zero(tmp_path: Path) -> None:
    path = save(damaged_table(3, rows=50), tmp_path, "csv")
    whole = plan(filters=[{"column": "wind", "op": "<", "value": "-5"}])
    assert await DuckDbDatasets().partial_sums(path, DESCRIPTOR, whole) == PartialSums([0] * whole.length, 0)


async def test_inspection_shows_bands_and_rounded_up_percentages_only(tmp_path: Path) -> None:
    frame = damaged_table(4)
    frame.loc[0, "power"] = 5000.0
    inspection = await DuckDbDatasets().inspect(save(frame, tmp_path, "csv"), DESCRIPTOR)
    kept = frame.dropna(subset=["turbine", "time"]).drop_duplicates(["turbine", "time"])
    assert inspection.row_count_band == "1k-10k"
    assert inspection.left_out_percent == int(np.ceil(100 * (1 - len(kept) / ROWS)))
    power = inspection.columns[2]
    assert power.name == "power"
    assert power.missing_percent == int(np.ceil(100 * kept["power"].isna().mean()))
    assert power.sentinel_percent == int(np.ceil(100 * (kept["power"] == -999).mean()))
    assert power.out_of_bounds_percent > 0
    assert all(type(value) is int for column in inspection.to_json()["columns"] for value in list(column.values())[1:])


@pytest.mark.parametrize("kind", ["csv", "parquet"])
async def test_a_table_has_nulls_for_sentinels_and_values_out_of_bounds(tmp_path: Path, kind: str) -> None:
    frame = damaged_table(5)
    condition = Filter("time", "<", "2015-01-08T00:00:00Z")
    data = await DuckDbDatasets().table(
        save(frame, tmp_path, kind), DESCRIPTOR, ["power", "turbine", "wind", "time"], [condition]
    )
    table = pa.ipc.open_stream(data).read_all()
    kept = frame.dropna(subset=["turbine", "time"]).drop_duplicates(["turbine", "time"])
    kept = kept[kept["time"] < pd.Timestamp("2015-01-08", tz="UTC")]
    assert table.column_names == ["power", "turbine", "wind", "time"]
    assert table["turbine"].to_pylist() == kept["turbine"].to_list()
    power = kept["power"].where(kept["power"].between(-50, 2100))
    np.testing.assert_array_equal(table["power"].to_numpy(), power.to_numpy())
    assert table["time"].to_pylist() == kept["time"].to_list()
    assert table["wind"].null_count == (~kept["wind"].between(0, 30)).sum()


def test_a_table_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(damaged_table(6), tmp_path, "parquet")
    with open_connection(path) as connection:
        load(connection, open_source(connection, path, DESCRIPTOR), DESCRIPTOR, ["power"])
        values_bytes = count(connection) * 8
        assert len(tables.table(connection, DESCRIPTOR, ["power"], [])) > values_bytes
        for limit in (values_bytes - 1, values_bytes):  # known before the table is made; found when it is written
            monkeypatch.setattr(tables, "TABLE_BYTES_MAX", limit)
            with pytest.raises(LimitError, match="farm-a"):
                tables.table(connection, DESCRIPTOR, ["power"], [])


@pytest.mark.parametrize(
    ("columns", "row_filter"),
    [
        (["torque"], []),
        ([], []),
        (["power", "power"], []),
        (["power"], [Filter("torque", "<", "1")]),
        (["power"], [Filter("time", "<", "1")]),
    ],
)
async def test_a_table_of_what_is_not_described_is_refused_before_any_file_is_touched(
    columns: list[str], row_filter: list[Filter]
) -> None:
    with pytest.raises(RequestError):
        await DuckDbDatasets().table(Path("/absent.csv"), DESCRIPTOR, columns, row_filter)


async def test_a_request_that_does_not_fit_is_refused_before_any_file_is_touched() -> None:
    with pytest.raises(RequestError, match="no such column"):
        await DuckDbDatasets().partial_sums(
            Path("/absent.csv"), DESCRIPTOR, plan(bin={"column": "torque", "edges": ["0", "1"]})
        )


def test_parquet_types_that_people_write_are_read(tmp_path: Path) -> None:
    whole = plan(measures=["count", "mean"], bin=None)
    moment = pd.Timestamp("2015-01-01T00:10:00")
    times: list[pa.Array] = [
        pa.array([moment.to_pydatetime()], pa.timestamp("ns")),
        pa.array([moment.tz_localize("UTC").to_pydatetime()], pa.timestamp("us", tz="Europe/Paris")),
        pa.array([moment.date()], pa.date32()),
        pa.array(["2015-01-01T01:10:00+01:00"]),
    ]
    powers: list[pa.Array] = [
        pa.array([1030.0], pa.float32()),
        pa.array([1030], pa.int16()),
        pa.array([Decimal("1030.0")], pa.decimal128(8, 2)),
        pa.array([" 1030 "]),
    ]
    for time, power in zip(times, powers, strict=True):
        path = tmp_path / "typed.parquet"
        pq.write_table(pa.table({"turbine": ["T1"], "time": time, "power": power, "wind": [1.0]}), path)
        with open_connection(path) as connection:
            load(connection, open_source(connection, path, DESCRIPTOR), DESCRIPTOR, ["power", "time"])
            assert queries.partial_sums(connection, DESCRIPTOR, whole).totals == [1, 10]


def workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "node.data.worker" in " ".join(child.cmdline())]


async def test_a_worker_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    path = save(damaged_table(7), tmp_path, "csv")
    with pytest.raises(DatasetError, match=r"within 0\.02 seconds") as refusal:
        await DuckDbDatasets(timeout_seconds=0.02).inspect(path, DESCRIPTOR)
    assert refusal.value.where == "scada.csv"
    assert workers() == []


async def test_a_cancelled_question_leaves_no_worker_behind(tmp_path: Path) -> None:
    task = asyncio.create_task(DuckDbDatasets().inspect(save(damaged_table(8), tmp_path, "csv"), DESCRIPTOR))
    while not workers():  # noqa: ASYNC110 - the process table has no event to wait for
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert workers() == []


async def test_the_worker_sees_no_variable_of_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSORTIUM_CANARY", "secret")
    process = await _spawn()
    environment = Path(f"/proc/{process.pid}/environ").read_bytes()  # noqa: ASYNC240 - of the kernel, never blocks
    process.kill()
    await process.wait()
    assert sorted(line.partition(b"=")[0] for line in environment.split(b"\0") if line) == [b"LC_ALL", b"PYTHONPATH"]
