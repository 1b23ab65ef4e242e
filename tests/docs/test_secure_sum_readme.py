"""The code block of the secure sum's README runs and prints what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import consortium.privacy.secure_sum as package

README = Path(package.__file__).with_name("README.md")


def test_readme_block_runs_and_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(block, str(README), "exec"), {})
    said = re.search(r"# (\[.*\])", block)
    assert said is not None
    assert capsys.readouterr().out.strip() == said.group(1)


def test_readme_ends_with_dated_decisions() -> None:
    decisions = README.read_text(encoding="utf-8").split("## Decisions\n")[1]
    assert re.findall(r"^- (.{10})", decisions, re.MULTILINE) == ["2026-11-21"] * decisions.count("\n- 2026")
