from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

import policies
from consortium.jobs import read_request
from consortium.privacy.plan import Plan
from consortium.privacy.statistics import StatisticsRequest
from node.authorisation.cedar import CedarEngine
from node.data.descriptor_file import read_descriptor
from node.demo import baselines, questions, wind_farm
from node.demo.processes import Meter, stop
from node.demo.run import _fresh_folder, _homes
from node.demo.story import account_name

ROSTER = [(f"{number:064x}", questions.dataset_name(item)) for number, item in enumerate(wind_farm.OPERATORS)]
DIGEST = "ab" * 32


def test_the_terms_of_every_operator_are_valid_and_distinct(tmp_path: Path) -> None:
    engine = CedarEngine(policies.schema(), policies.guard())
    names = set()
    for holding in wind_farm.OPERATORS:
        descriptor, policy = questions.write_terms(holding, tmp_path)
        names.add(read_descriptor(descriptor).dataset)
        assert {"purpose", "columns"} <= {clause.id for clause in engine.check(policy.read_text()).clauses}
    assert names == {name for _, name in ROSTER}


@pytest.mark.parametrize("question", [questions.power_curve, questions.not_allowed])
def test_the_statistics_jobs_fit_the_offered_datasets(question, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    body = question(ROSTER)
    request = read_request(body)
    assert isinstance(request, StatisticsRequest)
    for holding in wind_farm.OPERATORS:
        request.check_against(read_descriptor(questions.write_terms(holding, tmp_path)[0]))
    plan = Plan.of(request, 3)
    assert plan.rho_micro <= questions.BUDGET_RHO_MICRO
    assert [item["member"] for item in body["datasets"]] == sorted(member for member, _ in ROSTER)


def test_the_training_job_is_well_formed_and_its_rosters_are_fixed_beforehand() -> None:
    body = questions.training(ROSTER, DIGEST)
    read_request(body)
    assert body == questions.training(list(reversed(ROSTER)), DIGEST)
    assert body["request"]["seed"] != questions.training(ROSTER, "cd" * 32)["request"]["seed"]


def test_the_baselines_run_the_code_that_is_in_the_bundle() -> None:
    model = baselines.PowerModel.load({"hidden": 3, "local-epochs": 1}, rounds=2)
    random = np.random.default_rng(5)
    wind = random.uniform(3, 12, 400)
    table = pd.DataFrame({"Ws_avg": wind, "Ba_avg": 0.0, "Va_avg": 0.0, "Ot_avg": 10.0, "P_avg": 150 * (wind - 3)})
    trained = model.trained(table)
    assert Path(model.code.__file__ or "").is_relative_to(baselines.app_folder())
    assert model.mae_kw(trained, table) < model.mae_kw(model.code.initial_model(model.config), table)
    assert np.array_equal(trained, model.trained(table))


def test_tables_are_cleaned_as_the_nodes_clean_them(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        "turbine,time,P_avg,Ot_avg\nA,2014-01-01 00:00:00,1.0,-273.2\nA,2014-01-01 00:00:00,2.0,5.0\n"
        "A,2014-01-01 00:10:00,3.0,5.0\n"
    )
    table = baselines.read_table(path)
    assert table["P_avg"].tolist() == [1.0, 3.0]
    assert table["Ot_avg"].isna().tolist() == [True, False]


def test_stop_ends_a_process_and_its_children_even_if_they_ignore_sigterm() -> None:
    child = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    family = [process.pid, *(found.pid for found in psutil.Process(process.pid).children(recursive=True))]
    assert len(family) == 2
    stop([process.pid])
    process.wait(timeout=5)
    process.stdout.close()
    assert not [pid for pid in family if psutil.pid_exists(pid)]


def test_the_meter_sees_the_memory_of_children() -> None:
    with Meter() as meter:
        before = meter.take_mb()
        code = "data = bytearray(200_000_000); print('up', flush=True); import time; time.sleep(1)"
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.3)
            assert meter.take_mb() > before + 150
        assert meter.take_mb() > 0


def test_a_run_never_reuses_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _fresh_folder(None) != _fresh_folder(None)
    (tmp_path / "kept").mkdir()
    with pytest.raises(Exception, match="cannot be made"):
        _fresh_folder(tmp_path / "kept")


def test_nodes_get_a_short_folder_where_the_run_has_a_long_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    homes = _homes(deep)
    assert len(str(homes)) < len(str(deep))
    assert (deep / "nodes").resolve() == homes


def test_accounts_are_named_for_people() -> None:
    names = {DIGEST: "Hauts Vents SA"}
    assert account_name(f"member:{DIGEST}", names) == "Hauts Vents SA"
    assert account_name("fee:platform", names) == "platform fee"
    assert account_name("escrow:0123456789", names) == "escrow of job 01234567"
