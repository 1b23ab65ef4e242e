"""The demonstration on the real data, twice at once; `.ci/run` also runs it by itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

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
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "node.cli", "demo", *source, "--out", str(out), "--json"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for out in outs
    ]
    for run, out in zip(runs, outs, strict=True):
        printed, _ = run.communicate(timeout=DEMO_SECONDS_MAX)
        assert run.returncode == 0, printed
        told = json.loads(printed)
        assert [step["number"] for step in told["steps"]] == list(range(1, 9))
        assert told["audit_ok"]
        assert told["forgeries_named"] == 7
        page = Path(told["report"]).read_text(encoding="utf-8")
        assert Path(told["report"]).is_relative_to(out)
        assert "http://" not in page.replace("http://www.w3.org", "")
    left = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
    assert [words for words in left if words and any(str(tmp_path) in word for word in words)] == []
