"""The code of the secure sum's README runs and prints what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import consortium.privacy.secure_sum as package

README = Path(package.__file__).with_name("README.md")


def test_readme_code_runs_and_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    code = "\n".join(blocks)
    exec(compile(code, str(README), "exec"), {})
    said = re.search(r"# (\[.*\])", code)
    assert said is not None
    assert len(blocks[1].splitlines()) == 10
    assert capsys.readouterr().out.strip() == said.group(1)


def test_readme_ends_with_dated_decisions() -> None:
    decisions = README.read_text(encoding="utf-8").split("## Decisions\n")[1]
    first_words = re.findall(r"^- (\S+)", decisions, re.MULTILINE)
    assert first_words
    assert all(re.fullmatch(r"20\d\d-\d\d-\d\d:", word) for word in first_words)
