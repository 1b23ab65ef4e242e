"""Jobs by the command line and the Python client, as processes: asked, refused, paused, aborted, exported, audited."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from consortium.errors import PolicyRefusedError
from tests.processes.cli_world import NAMES, ROOT, SEAT, Consortium, Json, consortium, good, until

AUDITOR = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from node.cli.entry import run
code = run(sys.argv[1:])
print(sorted({{"grpc", "flwr", "duckdb", "sqlmodel"}} & set(sys.modules)), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"columns": ["height"], "bounds": {"height": {"lower": "0", "upper": "1", "resolution": "1"}}}, "columns[0]"),
        ({"epsilon_milli": 0}, "epsilon_milli"),
        ({"epsilon_milli": -1000}, "epsilon_milli"),
    ],
)
def test_a_job_with_an_unknown_column_or_no_epsilon_is_refused_and_never_recorded(
    changed: Json, where: str, world: Consortium
) -> None:
    with world.client(SEAT) as office:
        before = office.status()["ledger"]["size"]
    fault = consortium("job", "submit", world.written(world.statistic(**changed)), home=world.home(SEAT)).fault
    assert fault["code"] == "bad-request"
    assert where in fault["where"]
    with world.client(SEAT) as office:
        assert office.status()["ledger"]["size"] == before


def test_only_the_coordinators_seat_launches_jobs(world: Consortium) -> None:
    fault = consortium("job", "submit", world.written(world.statistic()), home=world.home("alpha")).fault
    assert fault["code"] == "bad-config"
    assert "coordinator" in fault["what"]


def test_what_a_policy_forbids_is_explained_and_refused_by_every_clause_with_no_data_read(world: Consortium) -> None:
    bounds = {"vibration": {"lower": "0", "upper": "10", "resolution": "0.1"}}
    job = world.statistic(columns=["vibration"], bounds=bounds, purpose="marketing")
    away = [(data := world.terms(name)[0], data.with_suffix(".away")) for name in NAMES]
    for data, aside in away:
        data.rename(aside)
    try:
        explained = consortium("job", "explain", world.written(job), home=world.home(SEAT))
        refused = consortium("job", "submit", world.written(job), home=world.home(SEAT))
    finally:
        for data, aside in away:
            aside.rename(data)
    assert (explained.code, refused.code) == (1, 1)
    assert not explained.document["would_run"]
    for answers in (explained.document["members"], refused.document["refusals"]):
        clauses = {answer["legal_name"]: {clause["id"] for clause in answer["clauses"]} for answer in answers}
        assert clauses == {name: {"purpose", "columns"} for name in NAMES}
    assert "Vibration is ours alone." in refused.out
    assert "job" in refused.errors.lower()
    with world.client(SEAT) as office, pytest.raises(PolicyRefusedError, match="refused"):
        office.job(refused.document["job"]).result()


def test_a_paused_member_decides_nothing_and_an_aborted_job_ends_everywhere(world: Consortium) -> None:
    assert good("pause", home=world.home("gamma")) == {"paused": True}
    assert good("status", home=world.home("gamma"))["paused"]
    job = good("job", "submit", world.written(world.statistic(measures=["mean"])), "--detach", home=world.home(SEAT))
    with world.client(SEAT) as office:
        until(lambda: (office.entries().query("kind == 'decision'")["summary"] == "run: permit []").sum() >= 2)
        decided = office.entries().query(f"kind == 'decision' and index > {job['index']}")
        assert "gamma" not in set(decided["legal_name"])
    assert good("job", "abort", job["job"], home=world.home(SEAT))["state"] == "aborted"
    watched = consortium("job", "watch", job["job"], home=world.home(SEAT))
    assert (watched.code, watched.document["state"]) == (1, "aborted")
    assert good("resume", home=world.home("gamma")) == {"paused": False}
    again = consortium("job", "abort", job["job"], home=world.home(SEAT)).fault
    assert again["code"] == "not-found"
    with world.client("alpha") as node:
        assert job["job"] not in {spend["job"] for spends in node.budget()["spends"] for spend in spends}


def test_questions_are_answered_with_intervals_until_the_budget_is_spent(world: Consortium, tmp_path: Path) -> None:
    job = world.statistic()
    assert good("job", "explain", world.written(job), home=world.home(SEAT))["would_run"]
    first = good("job", "submit", world.written(job), home=world.home(SEAT))
    figure = first["result"]["estimates"]["count"]
    assert float(figure["lower"]) < float(figure["value"]) < float(figure["upper"])
    assert abs(float(figure["value"]) - 900 * len(NAMES)) < 200
    with world.client(SEAT) as office:
        same = office.job(job)
        assert same.id == first["job"]  # an identical request has an identical answer
        answer = same.result().set_index("measure")
        assert answer.loc["count", "value"] == float(figure["value"])
        second = office.job(world.statistic(measures=["mean", "std"])).result().set_index("measure")
        assert second.loc["std", "lower"] < second.loc["std", "upper"]
    third = consortium("job", "submit", world.written(world.statistic(measures=["std"])), home=world.home(SEAT))
    assert third.code == 1
    assert {c["id"] for r in third.document["refusals"] for c in r["clauses"]} == {"guard-budget"}
    (account,) = good("dataset", "budget", home=world.home("beta"))["accounts"]
    assert account["spent_rho_micro"] == 2 * first["result"]["rho_micro"] <= account["cap_rho_micro"]
    _check_audit(world, tmp_path)


def _check_audit(world: Consortium, folder: Path) -> None:
    """The export is sound to an auditor who has nothing else, and one flipped byte is named at its entry."""
    export, forged = folder / "export", folder / "forged"
    told = good("ledger", "export", export, home=world.home(SEAT))
    assert (told["transcripts"], told["transcripts_elsewhere"]) == (2, 0)
    _check_a_member_s_export(world, export, folder / "member")
    assert consortium("ledger", "export", export, home=world.home(SEAT)).fault["code"] == "bad-config"
    genesis = world.home("beta") / "genesis.frame"
    report, errors = _audited(export, genesis, folder)
    assert report["ok"], report["findings"]
    assert sum(report["figures"]["entries"].values()) == told["size"]
    assert errors.endswith("[]\n")
    shutil.copytree(export, forged)
    (bundle,) = (path for path in (forged / "tile" / "entries").rglob("*") if path.is_file())
    data = bytearray(bundle.read_bytes())
    *_, spend = re.finditer(rb'"rho_micro":(\d+)', data)
    data[spend.end() - 1] ^= 1  # the last digit, so that it stays canonical JSON
    bundle.write_bytes(data)
    report, _ = _audited(forged, genesis, folder)
    assert not report["ok"]
    with world.client(SEAT) as office:
        spends = office.entries().query("kind == 'spend'")["index"]
    assert report["findings"][0]["index"] == spends.max()
    assert report["findings"][0]["code"] == "bad-signature"


def _check_a_member_s_export(world: Consortium, export: Path, own: Path) -> None:
    """A member's own copy of the log is sound with the transcripts of another export, and not without."""
    told = good("ledger", "export", own, home=world.home("gamma"))
    assert (told["transcripts"], told["transcripts_elsewhere"]) == (0, 2)
    genesis = world.home("beta") / "genesis.frame"
    report, _ = _audited(own, genesis, own.parent)
    assert [found["code"] for found in report["findings"]] == ["bad-sum"] * 2
    shutil.copytree(export / "transcripts", own / "transcripts")
    report, _ = _audited(own, genesis, own.parent)
    assert report["ok"], report["findings"]


def _audited(export: Path, genesis: Path, folder: Path) -> tuple[Json, str]:
    line = [sys.executable, "-I", "-c", AUDITOR, "audit", str(export), "--genesis", str(genesis), "--json"]
    done = subprocess.run(line, env={}, cwd=folder, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    assert done.returncode == (0 if report["ok"] else 1), done.stderr
    return report, done.stderr
