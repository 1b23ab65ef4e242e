"""The files that an auditor takes along: CSV tables, a beancount journal, the saved state."""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from consortium.audit import Audit, AuditReport
from consortium.audit.journal import journal
from consortium.audit.saved import load_audit, save_audit
from consortium.audit.statements import statements
from consortium.encoding import Json
from consortium.errors import ConfigError

STATE_BYTES_MAX = 8 << 30


def write_tables(folder: Path, audit: Audit, report: AuditReport) -> list[str]:
    """Writes a CSV file for each table; returns their names.

    Raises:
        ConfigError: a file cannot be written.
    """
    findings = [("" if found.index is None else found.index, found.code, found.text) for found in report.findings]
    names = []
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, headings, rows in statements(audit, findings):
            with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(headings)
                writer.writerows([_cell(value) for value in row] for row in rows)
            names.append(f"{name}.csv")
    return names


def write_journal(path: Path, audit: Audit) -> None:
    """Writes the credits as a beancount journal.

    Raises:
        ConfigError: the file cannot be written.
        LimitError: more settlements than a journal has dates.
    """
    _replace(path, (line + "\n" for line in journal(audit.replay.state, audit.replay.root)))


def write_state(path: Path, audit: Audit) -> None:
    """Writes the state of an audit in one step.

    Raises:
        ConfigError: the file cannot be written.
    """
    _replace(path, [save_audit(audit).decode()])


def read_state(path: Path) -> Audit | None:
    """The audit that an earlier one saved; None if there is no such file.

    Raises:
        ConfigError: the file cannot be read.
        EncodingError: it is damaged.
    """
    if not path.exists():
        return None
    try:
        if path.stat().st_size > STATE_BYTES_MAX:
            raise ConfigError("The saved state is larger than any audit's.", where=str(path))
        return load_audit(path.read_bytes())
    except OSError as error:
        raise ConfigError("The saved state cannot be read.", where=str(path)) from error


def _cell(value: Json) -> Json:
    """What other members wrote must not be a formula in somebody's spreadsheet."""
    return f"'{value}" if isinstance(value, str) and value[:1] in {"=", "+", "-", "@"} and not _number(value) else value


def _number(text: str) -> bool:
    return text.removeprefix("-").isdigit()


def _replace(path: Path, parts: Iterable[str]) -> None:
    with _writing(path):
        draft = tempfile.NamedTemporaryFile("w", dir=path.absolute().parent, delete=False, encoding="utf-8")  # noqa: SIM115
        try:
            with draft:
                draft.writelines(parts)
                draft.flush()
                os.fsync(draft.fileno())
            Path(draft.name).replace(path)
        except BaseException:
            Path(draft.name).unlink(missing_ok=True)
            raise


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            "The file cannot be written.", where=str(path), mend="Name a place that you may write to."
        ) from error
