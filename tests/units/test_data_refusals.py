"""Files that are not as they were described: what is said about them, and what is never said."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from consortium.errors import DatasetError
from node.data import sandbox
from node.data.datasets import DuckDbDatasets
from node.data.descriptor_file import read_descriptor
from node.data.worker import answer
from tests.units.wind import DESCRIPTOR, plan

HEADER = b"turbine,time,power,wind\n"
ROW = b"T1,2015-01-01T00:00:00Z,100,5\n"
CANARY = "c4n4ry"


def refusal_of(path: Path) -> dict[str, str]:
    """What the worker answers about a file, asked within this process."""
    header, body = answer({"ask": "inspection", "path": str(path), "descriptor": DESCRIPTOR.to_json()})
    assert body == b""
    refused: dict[str, str] = header["refused"]
    return refused


REFUSED: list[tuple[str, str, bytes | None, str, str]] = [
    ("missing file", "a.csv", None, "no such file", "a.csv"),
    ("other kind", "a.xlsx", b"PK", "neither", "a.xlsx"),
    ("wildcard in the name", "a*.csv", HEADER + ROW, "wildcard", "a*.csv"),
    ("empty file", "a.csv", b"", "empty", "a.csv"),
    ("empty parquet", "a.parquet", b"", "empty", "a.parquet"),
    ("header only", "a.csv", HEADER, "no rows", "a.csv"),
    ("no line end", "a.csv", HEADER.strip(), "no header", "a.csv, line 1"),
    ("blank first line", "a.csv", b"\n" + HEADER, "no header", "a.csv, line 1"),
    ("binary", "a.csv", b"\xff\xfe\x00\n\x00", "no header", "a.csv, line 1"),
    ("missing column", "a.csv", b"turbine,time,power\nT1,2015-01-01,1\n", "not in the file", "a.csv, column wind"),
    ("column in other case", "a.csv", HEADER.replace(b"wind", b"Wind") + ROW, "not in the file", "a.csv, column wind"),
    ("column twice", "a.csv", b"power," + HEADER + b"1," + ROW, "twice", "a.csv, column power"),
    ("semicolons", "a.csv", (HEADER + ROW).replace(b",", b";"), "not in the file", "a.csv, column turbine"),
    ("too few fields", "a.csv", HEADER + ROW + b"T1,c4n4ry\n", "cannot be read", "a.csv, line 3"),
    ("too many fields", "a.csv", HEADER + ROW.strip() + b",c4n4ry\n", "cannot be read", "a.csv, line 2"),
    ("not UTF-8", "a.csv", HEADER + b"c4n4ry\xff" + ROW, "cannot be read", "a.csv, line 2"),
    ("open quote", "a.csv", HEADER + ROW + b'"c4n4ry,' + ROW, "cannot be read", "a.csv, line 3"),
    ("no number", "a.csv", HEADER + ROW + ROW.replace(b"100", b"c4n4ry"), "no number", "a.csv, line 3, column power"),
    ("no timestamp", "a.csv", HEADER + b"T1,c4n4ry,1,2\n", "no timestamp", "a.csv, line 2, column time"),
    (
        "no number after a field of two lines and a blank line",
        "a.csv",
        HEADER + b'"T\n1",2015-01-01,1,1\n\n' + ROW.replace(b"100", b"c4n4ry"),
        "no number",
        "a.csv, line 5, column power",
    ),
    ("no parquet", "a.parquet", b"PAR1 c4n4ry", "cannot be read", "a.parquet"),
]


@pytest.mark.parametrize(
    ("name", "content", "what", "where"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_a_bad_file_is_refused_with_its_place_and_never_a_value(
    tmp_path: Path, name: str, content: bytes | None, what: str, where: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    refused = refusal_of(path)
    assert what in refused["what"]
    assert refused["where"] == where
    assert refused["mend"]
    assert refused["code"] == "bad-dataset"
    assert CANARY not in str(refused)


async def test_a_refusal_passes_from_the_worker_to_the_steward_without_a_value(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.csv").write_bytes(HEADER + ROW.replace(b"100", CANARY.encode()))
    with pytest.raises(DatasetError, match="no number") as refusal:
        await DuckDbDatasets().partial_sums(tmp_path / "a.csv", DESCRIPTOR, plan())
    assert refusal.value.where == "a.csv, line 2, column power"
    assert CANARY not in repr(refusal.value)
    assert capfd.readouterr() == ("", "")


PARQUET: list[tuple[str, dict[str, list[object]], str, str]] = [
    ("text in a number", {"power": ["1", CANARY]}, "no number", "a.parquet, row 2, column power"),
    ("booleans for a number", {"power": [True, False]}, "another type", "a.parquet, column power"),
    ("numbers for a text", {"turbine": [1, 2]}, "another type", "a.parquet, column turbine"),
    ("numbers for a time", {"time": [1, 2]}, "another type", "a.parquet, column time"),
    ("same name but for case", {"Power": [1.0, 2.0]}, "not in the file", "a.parquet, column power"),
    ("nulls only", {"power": [None, None]}, "another type", "a.parquet, column power"),
]


@pytest.mark.parametrize(
    ("changes", "what", "where"), [case[1:] for case in PARQUET], ids=[case[0] for case in PARQUET]
)
def test_a_bad_parquet_file_is_refused_with_its_place(
    tmp_path: Path, changes: dict[str, list[object]], what: str, where: str
) -> None:
    times = ["2015-01-01T00:00:00Z", "2015-01-01T00:10:00Z"]
    good: dict[str, list[object]] = {"turbine": ["T1", "T1"], "time": [*times], "power": [1.0, 2.0], "wind": [1.0, 2.0]}
    pq.write_table(pa.table({**changes, **good, **changes}), tmp_path / "a.parquet")
    refused = refusal_of(tmp_path / "a.parquet")
    assert what in refused["what"]
    assert refused["where"] == where
    assert CANARY not in str(refused)


async def test_too_little_memory_is_a_refusal_and_our_own_bug_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(HEADER + ROW * 50_000)
    question = {"ask": "inspection", "path": str(path), "descriptor": DESCRIPTOR.to_json()}
    monkeypatch.setattr(sandbox, "MEMORY_LIMIT", "1MB")
    assert answer(question) == ({"fault": "memory"}, b"")
    monkeypatch.undo()
    assert answer({**question, "ask": "secrets"}) == ({"fault": "AssertionError"}, b"")
    with pytest.raises(RuntimeError, match="AssertionError"):
        await DuckDbDatasets()._ask(path, DESCRIPTOR, {"ask": "secrets"})


TOML = """\
dataset = "farm-a"
lineage = "farm-a/scada"
sector = "energy"
grade = "general"
privacy_unit = "one 10-minute record"
key = ["turbine", "time"]

[[columns]]
name = "turbine"
type = "text"

[[columns]]
name = "time"
type = "timestamp"

[[columns]]
name = "power"
type = "number"
unit = "kW"
lower = -50
upper = "2100"
resolution = 0.5
missing = [-273.2, "-999"]
"""


def test_a_description_is_read_from_toml_with_exact_decimals(tmp_path: Path) -> None:
    (tmp_path / "farm.toml").write_text(TOML)
    power = read_descriptor(tmp_path / "farm.toml").to_json()["columns"][2]
    assert (power["lower"], power["upper"], power["resolution"]) == ("-50", "2100", "0.5")
    assert power["missing"] == ["-273.2", "-999"]


DESCRIPTIONS: list[tuple[str, bytes | None, str, str]] = [
    ("missing", None, "cannot be read", "farm.toml"),
    ("no TOML", b'dataset = "a"\nlineage = b\n', "not valid TOML", "farm.toml, line 2, column 11"),
    ("cut off", b'dataset = "a', "not valid TOML", "farm.toml, at its end"),
    ("not UTF-8", b'dataset = "\xff"', "not UTF-8", "farm.toml, byte 11"),
    ("too large", b"#" * ((1 << 18) + 1), "too large", "farm.toml"),
    ("field missing", TOML.replace('sector = "energy"\n', "").encode(), "missing", "farm.toml, sector"),
    ("bound missing", TOML.replace("lower = -50\n", "").encode(), "together", "farm.toml, columns[2]"),
    ("bound infinite", TOML.replace("-50", "-inf").encode(), "plain decimal", "farm.toml, columns[2]"),
    ("columns no list", TOML.partition("[[")[0].encode() + b"columns = 1", "list", "farm.toml, columns"),
    ("column no table", TOML.partition("[[")[0].encode() + b"columns = [1]", "table", "farm.toml, columns[0]"),
    (
        "band declared",
        b'row_count_band = "1k-10k"\n' + TOML.encode(),
        "counted by the node",
        "farm.toml, row_count_band",
    ),
]


@pytest.mark.parametrize(
    ("content", "what", "where"), [case[1:] for case in DESCRIPTIONS], ids=[case[0] for case in DESCRIPTIONS]
)
def test_a_wrong_description_is_refused_with_file_and_key(
    tmp_path: Path, content: bytes | None, what: str, where: str
) -> None:
    path = tmp_path / "farm.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=what) as refusal:
        read_descriptor(path)
    assert refusal.value.where == where
    assert refusal.value.mend
