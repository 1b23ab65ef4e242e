"""The demonstration on the real data, twice at once; `.ci/run` also runs it by itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from node.demo.processes import stop
from tests.processes.cli_world import ROOT

DEMO_SECONDS_MAX = 900
DATA = os.environ.get("CONSORTIUM_DATA")

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif("CONSORTIUM_SOAK" not in os.environ, reason="takes minutes: scripts/test --soak"),
    pytest.mark.skipif(
        DATA is None and not (ROOT / ".cache" / "wind-farm" / "facts.json").exists(),
        reason="the wind farm's data is not here: run ./scripts/demo once, or set CONSORTIUM_DATA to its folder",
    ),
]


def test_two_demonstrations_at_once_show_all_steps_and_leave_nothing_running(tmp_path: Path) -> None:
    source = [] if DATA is None else ["--data", DATA]
    outs = [tmp_path / "one", tmp_path / "two"]
    with (tmp_path / "screen").open("wb") as screen:
        runs = [
            subprocess.Popen(
                [sys.executable, "-m", "node.cli", "demo", *source, "--out", str(out), "--json"],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=screen,
                text=True,
            )
            for out in outs
        ]
    try:
        printed = [run.communicate(timeout=DEMO_SECONDS_MAX)[0] for run in runs]
    finally:
        stop(run.pid for run in runs)
        codes = [run.wait() for run in runs]
    assert codes == [0, 0], (tmp_path / "screen").read_text()[-4000:]
    for text, out in zip(printed, outs, strict=True):
        told = json.loads(text)
        assert [step["number"] for step in told["steps"]] == list(range(1, 9))
        assert told["audit"]["ok"]
        assert [forgery["named"] for forgery in told["audit"]["forgeries"]] == [True] * 7
        assert Path(told["report"]).is_relative_to(out)
        assert "<html" in Path(told["report"]).read_text(encoding="utf-8")
    left = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
    assert [words for words in left if words and any(str(tmp_path) in word for word in words)] == []
