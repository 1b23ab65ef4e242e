"""The node's log holds ids, codes and numbers; nothing that a value of data or a secret could stand in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from node import log as node_log
from node.log import close_log, log, log_exception, open_log

CANARY = "4711.0815"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    open_log(tmp_path)
    yield tmp_path
    close_log()


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "node.log").read_text().splitlines()]


def test_an_event_is_one_json_line_with_its_time_and_fields(folder):
    log("job.decided", job="ab" * 32, code="refused-by-policy", round=3, member=None)
    (line,) = lines(folder)
    assert line.pop("time").endswith("+00:00")
    assert line == {"event": "job.decided", "job": "ab" * 32, "code": "refused-by-policy", "round": 3}


@pytest.mark.parametrize(
    "fields",
    [
        {"text": "anything"},
        {"value": 4711},
        {"code": "The mean was 4711.0815"},
        {"code": CANARY},
        {"job": "ab"},
        {"job": "AB" * 32},
        {"member": "ab" * 33},
        {"size": CANARY},
        {"size": 4711.0815},
        {"size": True},
        {"code": 4711},
        {"method": "/home/member/data"},
        {"method": "/consortium.v1.Ledger/Append?x=1"},
        {"version": "1.0\n2"},
    ],
    ids=str,
)
def test_a_field_off_the_allow_list_or_its_pattern_is_our_bug_and_is_not_written(folder, fields):
    with pytest.raises(AssertionError) as caught:
        log("job.decided", **fields)
    assert CANARY not in str(caught.value)
    assert lines(folder) == []


@pytest.mark.parametrize("event", ["", "job", "Job.decided", "job decided.now", "job.decided\n"])
def test_an_event_is_a_dotted_name(folder, event):
    with pytest.raises(AssertionError):
        log(event)
    assert lines(folder) == []


def fail_on(value: str) -> None:
    try:
        float(value + "x")
    except ValueError as error:
        raise RuntimeError(f"row holds {value}") from error


def test_an_exception_is_logged_by_types_and_places_and_never_by_its_text(folder):
    with pytest.raises(RuntimeError) as caught:
        fail_on(CANARY)
    log_exception("rpc.failed", caught.value, method="/consortium.v1.Control/Status")
    (line,) = lines(folder)
    assert line["types"] == ["builtins.RuntimeError", "builtins.ValueError"]
    assert any(place.startswith("tests/units/test_log.py:") and place.endswith(" fail_on") for place in line["stack"])
    assert line["method"] == "/consortium.v1.Control/Status"
    assert "fault of ours" in line["explanation"]
    assert CANARY not in (folder / "node.log").read_text()


def test_a_very_long_chain_of_causes_is_cut(folder):
    error: Exception | None = None
    for number in range(50):
        following = ValueError(str(number))
        following.__cause__ = error
        error = following
    assert error is not None
    log_exception("rpc.failed", error)
    assert len(lines(folder)[0]["types"]) == node_log.TYPES_MAX


def test_the_log_rotates_and_keeps_a_bounded_number_of_files(folder, monkeypatch):
    monkeypatch.setattr(node_log, "FILE_BYTES_MAX", 500)
    open_log(folder)
    for number in range(100):
        log("job.decided", index=number)
    files = sorted(file.name for file in folder.iterdir())
    assert files == ["node.log", *(f"node.log.{number}" for number in range(1, node_log.FILES_KEPT + 1))]


def test_nothing_is_written_after_the_log_was_closed(folder):
    close_log()
    log("job.decided")
    assert lines(folder) == []


def test_every_explained_event_is_named_like_an_event(folder):
    for event in node_log.EXPLANATIONS:
        log(event)
    assert all(line["explanation"] for line in lines(folder))
