"""A node's own commands, as processes: founding, joining, serving, offering; what goes wrong and what it says."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from node.demo.processes import Nodes
from tests.processes.cli_world import NAMES, ROOT, SEAT, Consortium, consortium, good, ready, table

SECRET_VALUE = "4711.75x"
JOIN = ("--sector", "energy", "--size", "small", "--owner-group", "delta")


def test_status_and_doctor_of_a_running_member(world: Consortium) -> None:
    status = good("status", home=world.home("alpha"))
    assert (status["role"], status["legal_name"], status["members"]) == ("member", "alpha", 4)
    assert status["connected"]
    assert not status["paused"]
    checks = {check["check"]: check["ok"] for check in good("doctor", home=world.home("alpha"))["checks"]}
    assert {"configuration", "ledger key", "way to the coordinator", "certificate", "running node"} <= set(checks)
    assert all(checks.values())


def test_doctor_names_a_folder_that_others_may_enter_and_exits_1(tmp_path: Path) -> None:
    home = tmp_path / "open"
    good("found", "Test", "--legal-name", "Office", "--sector", "energy", home=home)
    home.chmod(0o755)
    done = consortium("doctor", home=home)
    assert done.code == 1
    (wrong,) = (check for check in done.document["checks"] if not check["ok"])
    assert "chmod 700" in wrong["mend"]


def test_every_key_file_is_its_owners_alone(world: Consortium) -> None:
    keys = [path for name in (SEAT, *NAMES) for path in (world.home(name) / "keys").iterdir()]
    private = [path for path in keys if b"PRIVATE KEY" in path.read_bytes()]
    assert len(private) == 3 * len(NAMES) + 3
    assert {path.stat().st_mode & 0o777 for path in private} == {0o600}
    assert {world.home(name).stat().st_mode & 0o777 for name in (SEAT, *NAMES)} == {0o700}


def test_a_used_invitation_is_refused_and_leaves_no_node(world: Consortium, tmp_path: Path) -> None:
    fault = consortium("join", world.invitation("alpha"), "--legal-name", "alpha", *JOIN, home=tmp_path / "again").fault
    assert fault["code"] == "bad-invitation"
    assert not (tmp_path / "again" / "node.toml").exists()


def test_an_invitation_is_for_one_name_and_for_a_time(world: Consortium, tmp_path: Path) -> None:
    invitation = tmp_path / "delta.invitation"
    good("invite", "delta", "--out", invitation, "--hours", "1", home=world.home(SEAT))
    fault = consortium("join", invitation, "--legal-name", "epsilon", *JOIN, home=tmp_path / "other").fault
    assert (fault["code"], fault["where"]) == ("bad-invitation", str(invitation))
    with sqlite3.connect(world.home(SEAT) / "node.db") as database:  # an hour later
        assert database.execute("UPDATE invitation SET expires = expires - 7200 WHERE redeemed IS NULL").rowcount == 1
    database.close()
    fault = consortium("join", invitation, "--legal-name", "delta", *JOIN, home=tmp_path / "late").fault
    assert fault["code"] == "bad-invitation"
    assert not (tmp_path / "late" / "node.toml").exists()


def test_a_file_with_a_text_among_numbers_is_refused_by_line_and_column_without_the_value(
    world: Consortium, tmp_path: Path
) -> None:
    _, descriptor, policy = world.terms("alpha")
    lines = table(5).splitlines()
    lines[3] = lines[3].replace(lines[3].split(",")[1], SECRET_VALUE, 1)
    data = tmp_path / "data.csv"
    data.write_text("\n".join(lines) + "\n")
    done = _offer(world, data, descriptor, policy)
    assert done["code"] == "bad-dataset"
    assert "line 4" in done["where"]
    assert "power" in done["where"]
    said = json.dumps(done)
    assert SECRET_VALUE not in said
    assert all(SECRET_VALUE.encode() not in log.read_bytes() for log in _logs(world))


@pytest.mark.parametrize("text", [None, "", "time,power\n2026-01-01 00:00:00,5\n", "time,power,vibration\n"])
def test_a_file_that_is_missing_empty_or_lacks_a_column_is_refused_by_name(
    text: str | None, world: Consortium, tmp_path: Path
) -> None:
    _, descriptor, policy = world.terms("alpha")
    data = tmp_path / "data.csv"
    if text is not None:
        data.write_text(text)
    fault = _offer(world, data, descriptor, policy)
    assert fault["code"] == "bad-dataset"
    assert "data.csv" in fault["where"]
    assert fault["mend"]


def test_a_policy_with_a_misspelt_attribute_is_refused_at_its_line_and_column(
    world: Consortium, tmp_path: Path
) -> None:
    data, descriptor, policy = world.terms("alpha")
    wrong = tmp_path / "wrong.cedar"
    wrong.write_text(policy.read_text().replace("context.purpose", "context.purpos"))
    line = next(i for i, text in enumerate(wrong.read_text().splitlines(), 1) if "context.purpos)" in text)
    for fault in (
        consortium("policy", "check", wrong, home=world.home("alpha")).fault,
        _offer(world, data, descriptor, wrong),
    ):
        assert fault["code"] == "bad-policy"
        assert "purpos" in fault["what"] + fault["where"]
        assert f"line {line}" in fault["where"]


def test_a_second_process_on_one_folder_is_refused_and_the_first_goes_on(world: Consortium) -> None:
    fault = consortium("serve", home=world.home("beta")).fault
    assert fault["mend"]
    assert good("status", home=world.home("beta"))["connected"]


def test_sigterm_ends_a_node_and_all_that_it_started(tmp_path: Path) -> None:
    home = tmp_path / "seat"
    good("found", "Test", "--legal-name", "Office", "--sector", "energy", home=home)
    with Nodes(tmp_path) as nodes:
        node = nodes.start("seat", home)
        ready(node)
        family = [psutil.Process(node.process.pid), *psutil.Process(node.process.pid).children(recursive=True)]
        node.process.send_signal(signal.SIGTERM)
        assert node.process.wait(20) == 0
        _, alive = psutil.wait_procs(family, timeout=5)
        assert alive == []
    assert list((home / "run").iterdir()) == []
    fault = consortium("status", home=home).fault
    assert fault["code"] == "unavailable"


def test_commands_work_from_any_folder_and_by_the_environment_variable(world: Consortium, tmp_path: Path) -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("consortium"), "status"],
        cwd=tmp_path,
        env={**os.environ, "CONSORTIUM_HOME": str(world.home("gamma"))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "gamma (member)" in done.stdout


def _offer(world: Consortium, data: Path, descriptor: Path, policy: Path) -> dict[str, str]:
    words = ("--descriptor", descriptor, "--policy", policy, "--rho-micro", "1000")
    fault: dict[str, str] = consortium("dataset", "offer", data, *words, home=world.home("alpha"), folder=ROOT).fault
    with world.client("alpha") as node:
        assert len(node.datasets()) == len(NAMES)
    return fault


def _logs(world: Consortium) -> list[Path]:
    return [path for name in (SEAT, *NAMES) for path in (world.home(name) / "logs").iterdir()]
