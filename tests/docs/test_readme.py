"""Every command block of the README is executed: as one session in a scratch folder, with real nodes."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from node.demo.processes import stop

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
SESSION_SECONDS_MAX = 400  # a third of a minute on two idle cores, times what else a machine may be doing
SCRIPTS = ("./scripts/demo", "./scripts/test")  # run by .ci/run; not from within a test
INSTALL = "pip install ."  # run by test_package.py
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _blocks() -> list[tuple[int, str, str]]:
    """(line, language, text) of every fenced block."""
    text = README.read_text(encoding="utf-8")
    return [(text.count("\n", 0, found.start()) + 1, found[1], found[2]) for found in BLOCK.finditer(text)]


def _session() -> str:
    """All blocks that are executed, as one bash script: Python blocks are programs of their own."""
    lines = ["set -euo pipefail", "trap 'kill $(jobs -p) 2> kill.errors || true; wait' EXIT"]  # also when a block fails
    for line, language, text in _blocks():
        if language == "text" or text.strip() in (*SCRIPTS, INSTALL):
            continue
        lines.append(f'echo "README.md, line {line}, after $SECONDS s" >&2')
        lines.append(text if language == "bash" else f"python - <<'PYTHON_BLOCK'\n{text}PYTHON_BLOCK")
    return "\n".join(lines)


def test_the_readme_s_commands_run_in_order(tmp_path: Path) -> None:
    log = tmp_path / "session.log"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("CONSORTIUM_", "COV", "PYTEST"))},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    folder = tmp_path / "s"
    folder.mkdir()
    with log.open("wb") as output:
        bash = subprocess.Popen(
            ["bash", "-c", _session()],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        try:
            deadline = time.monotonic() + SESSION_SECONDS_MAX
            while bash.poll() is None and time.monotonic() < deadline and "Traceback" not in _said(folder, "*.log"):
                time.sleep(0.2)
            code = bash.poll()
        finally:
            family = psutil.Process(bash.pid).children(recursive=True) if bash.poll() is None else []
            stop([bash.pid, *(child.pid for child in family)])
            bash.wait()
    said = log.read_text()
    assert code == 0, said[-4000:] + _said(folder, "*.log")[-4000:]
    assert "The ledger is sound" in said
    assert "purpose" in said.split("refused, with the clauses above")[0]
    assert _said(folder, "*.log").count("Stopped.") == 5
    assert [process for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == str(folder)] == []


def _said(folder: Path, pattern: str) -> str:
    """What the nodes printed; each README session sends that to a file of its own."""
    return "".join(path.read_text() for path in sorted(folder.glob(pattern)))


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_two_commands_stand_in_the_readme_and_can_be_run(script: str) -> None:
    assert f"```bash\n{script}\n```" in README.read_text(encoding="utf-8")
    path = ROOT / script
    assert path.stat().st_mode & stat.S_IXUSR
    assert path.read_text(encoding="utf-8").startswith("#!/usr/bin/env bash\n")


def test_every_fenced_block_is_of_a_language_that_is_executed_or_plain_text() -> None:
    languages = {language for _, language, _ in _blocks()}
    assert languages <= {"bash", "python", "text"}
    plain = "\n".join(text for _, language, text in _blocks() if language == "text")
    assert (
        re.findall(r"^(?:\$ .*|consortium [a-z]+(?: .*)?-.*|(?:python|pip|\./scripts)\b.*)", plain, re.MULTILINE) == []
    )


def test_links_and_paths_of_the_readme_lead_somewhere() -> None:
    text = README.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#]+)\)", text)
    assert len(targets) > 4
    assert [target for target in targets if not (ROOT / target).is_file()] == []
    named = re.findall(r"`((?:consortium|node|tests|scripts|policies|protos)/[\w./]*)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []
    titles = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors


def test_an_advice_that_names_a_section_of_the_readme_names_one_that_is_there() -> None:
    titles = set(re.findall(r"^#+ (.*)", README.read_text(encoding="utf-8"), re.MULTILINE))
    sources = [path for folder in ("consortium", "node") for path in (ROOT / folder).rglob("*.py")]
    named = {title for path in sources for title in re.findall(r"README, '([^']+)'", path.read_text(encoding="utf-8"))}
    assert named
    assert named <= titles
