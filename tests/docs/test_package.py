"""`pip install .` gives the `consortium` command, on every Python at hand and from any folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.export import write_export
from tests.worlds.world import honest_world

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
PYTHONS = ("3.11", "3.12", "3.13")
AUDIT_NEEDS = ("numpy", "cryptography", "pynacl", "rfc8785", "typer", "rich", "click")
DATA = (
    "policies/schema.cedarschema",
    "policies/guard.cedar",
    "policies/templates/large.cedar",
    "policies/templates/medium.cedar",
    "policies/templates/small.cedar",
    "policies/incentives/standard.json",
    "node/demo/configs/wind_turbine.toml",
    "node/report/page.html.j2",
    "node/report/page.css",
    "node/training/apps/power/pyproject.toml",
    "node/training/apps/power/power_app/client.py",
    "protos/v1/ledger_pb2.py",
)
INSTALLED = """
import json, sys, node, consortium, policies
from pathlib import Path
places = [module.__file__ for module in (node, consortium, policies)]
print(json.dumps({"inside": all(Path(place).is_relative_to(sys.prefix) for place in places), "python": sys.version}))
"""


def _run(*words: str | Path, folder: Path) -> str:
    """What a command prints that must succeed, in an environment without our settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CONSORTIUM_", "COV"))}
    done = subprocess.run(list(map(str, words)), cwd=folder, env=kept, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the tracked files alone."""
    source = tmp_path_factory.mktemp("source")
    for name in _run("git", "ls-files", "-z", folder=ROOT).split("\0"):
        if name and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    _run(UV, "build", "--wheel", "--quiet", "--out-dir", source / "dist", source, folder=source)
    (built,) = (source / "dist").glob("*.whl")
    return built


def _environment(folder: Path, python: str) -> Path:
    """A new virtual environment of a Python that is at hand."""
    executable = next((path for path in _candidates(python) if _is_python(path, python)), None)
    if executable is None:
        pytest.skip(f"there is no Python {python} here")
    _run(UV, "venv", "--quiet", "--no-python-downloads", "--python", executable, folder / "env", folder=folder)
    return folder / "env"


def _candidates(python: str) -> Iterator[str | Path]:
    """Where a Python of this version may be: on the path, and among pyenv's, which its shims alone do not reach."""
    on_path = shutil.which(f"python{python}")
    if on_path:
        yield on_path
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(pyenv.glob(f"versions/{python}.*/bin/python"))


def _is_python(path: str | Path, python: str) -> bool:
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout.startswith(f"Python {python}.")


def _install(environment: Path, *words: str | Path) -> None:
    _run(UV, "pip", "install", "--quiet", "--python", environment / "bin" / "python", *words, folder=environment)


def _is_installed(environment: Path, python: str, elsewhere: Path) -> None:
    told = json.loads(_run(environment / "bin" / "python", "-c", INSTALLED, folder=elsewhere))
    assert told["inside"]
    assert told["python"].startswith(python)


def test_the_wheel_holds_the_packages_and_their_data_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert set(DATA) <= names
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"consortium", "node", "policies", "protos"}
    (entry,) = (name for name in names if name.endswith(".dist-info/entry_points.txt"))
    assert "consortium = node.cli:main" in zipfile.ZipFile(wheel).read(entry).decode()


def test_the_installed_command_founds_and_reads_its_own_data_from_any_folder(wheel: Path, tmp_path: Path) -> None:
    python = ".".join(map(str, sys.version_info[:2]))
    environment = _environment(tmp_path, python)
    _install(environment, "--no-deps", wheel)
    (site,) = (environment / "lib").glob("python*/site-packages")
    # The dependencies are those that run this test; the checkout that is installed beside them is not followed.
    (site / "dependencies.pth").write_text(str(Path(pytest.__file__).parents[1]) + "\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    _is_installed(environment, python, elsewhere)
    command = environment / "bin" / "consortium"
    assert "large" in _run(command, "policy", "template", folder=elsewhere)
    words = ("--legal-name", "Office", "--sector", "energy", "--home", "seat", "--json")
    assert json.loads(_run(command, "found", "Test", *words, folder=elsewhere))["consortium"] == "Test"


@pytest.mark.parametrize("python", PYTHONS[1:])
def test_an_auditor_needs_few_packages_on_other_pythons(python: str, wheel: Path, tmp_path: Path) -> None:
    environment = _environment(tmp_path, python)
    _install(environment, "--no-deps", wheel)
    _install(environment, "--constraints", ROOT / "requirements" / "node.txt", *AUDIT_NEEDS)
    export = honest_world()[0].export()
    write_export(tmp_path / "export", export)
    (tmp_path / "genesis.frame").write_bytes(export.frames[0])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    _is_installed(environment, python, elsewhere)
    command = environment / "bin" / "consortium"
    words = (tmp_path / "export", "--genesis", tmp_path / "genesis.frame", "--json")
    assert json.loads(_run(command, "audit", *words, folder=elsewhere))["ok"]


@pytest.mark.soak
@pytest.mark.skipif("CONSORTIUM_SOAK" not in os.environ, reason="installs every dependency: scripts/test --soak")
@pytest.mark.parametrize("python", PYTHONS)
def test_the_locked_dependencies_install_and_a_node_is_founded(python: str, wheel: Path, tmp_path: Path) -> None:
    environment = _environment(tmp_path, python)
    _install(environment, "--require-hashes", "--requirement", ROOT / "requirements" / "node.txt")
    _install(environment, "--no-deps", wheel)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    _is_installed(environment, python, elsewhere)
    command = environment / "bin" / "consortium"
    _run(command, "found", "Test", "--legal-name", "Office", "--sector", "energy", "--home", "seat", folder=elsewhere)
    _run(environment / "bin" / "python", "-c", "import node.app.serving, node.flower_app", folder=elsewhere)
