from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from consortium.errors import ConsortiumError, PausedError

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # typer 0.20 imports a name that click 8.5 deprecates
    import typer.main

    from node.cli import control
    from node.cli.entry import app, run
    from node.cli.faults import HINTS

Json = Any
ROOT = Path(__file__).parents[2]
HEX = "ab" * 32
FINGERPRINT = "-".join(["abcd"] * 8)
CLAUSES = [{"id": "columns", "reason": "A column is not shared."}, {"id": "purpose", "reason": "Not agreed."}]
MEMBER = {
    "member": HEX, "fingerprint": FINGERPRINT, "legal_name": "Hauts Vents SA", "sector": "energy", "size": "large",
    "owner_group": "none", "role": "member", "accepted": True, "attending": False, "since": 3,
    "standing": "member",
}  # fmt: skip
POSTINGS = [{"account": "escrow:1", "amount": "-100000"}, {"account": f"member:{HEX}", "amount": "100000"}]


class FakeNode:
    """A ControlService that answers every call with a document of the agreed shape."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[object, ...]]] = []
        self.fault: Exception | None = None
        self.end: dict[str, Json] = {"state": "done", "result": {"survivors": [HEX], "bins": [{"mean": "1.5", "n": 3}]}}

    async def __aenter__(self) -> FakeNode:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    def __getattr__(self, name: str) -> Json:
        async def answer(*arguments: object) -> Json:
            self.calls.append((name, arguments))
            if self.fault is not None:
                raise self.fault
            return ANSWERS[name]

        return answer

    async def watch_job(self, job: str) -> AsyncIterator[Json]:
        self.calls.append(("watch_job", (job,)))
        common = {"job": job, "text": "summing", "of": 3}
        yield {**common, "state": "running", "done": 1}
        yield {**common, "done": 3, **self.end}


PROPOSAL = {
    "proposal": HEX, "index": 30, "author": HEX, "legal_name": "Hauts Vents SA", "from_index": 40,
    "change": {"type": "suspend", "member": HEX}, "text": "suspend Meuse Energie", "outcome": "effective",
    "for": 3, "against": 0, "electorate": 4, "needed": 3, "decided": 34, "effect": 40, "failure": "",
    "votes": [
        {"member": HEX, "legal_name": "Hauts Vents SA", "choice": "for", "index": 31},
        {"member": HEX, "legal_name": "Meuse Energie", "choice": None, "index": None},
    ],
}  # fmt: skip
ANSWERS: dict[str, Json] = {
    "propose": PROPOSAL,
    "vote": PROPOSAL,
    "list_proposals": {
        "proposals": [
            PROPOSAL | {"outcome": outcome} for outcome in ("open", "accepted", "rejected", "effective", "failed")
        ]
    },
    "rotate_key": {"member": HEX, "public_key": HEX, "fingerprint": FINGERPRINT, "index": 31},
    "erase": {"member": HEX, "legal_name": "Hauts Vents SA", "contact_sha256": HEX, "erased": True},
    "status": {
        "consortium": "wind", "genesis": HEX, "legal_name": "Hauts Vents SA", "member": HEX, "fingerprint": FINGERPRINT,
        "role": "coordinator", "version": "0.1.0", "paused": False, "connected": True,
        "alarm": None,
        "ledger": {"size": 12, "root": HEX}, "members": 4, "jobs": {"open": 0, "done": 1, "refused": 1},
        "attending": [HEX],
    },
    "pause": {"paused": True},
    "resume": {"paused": False},
    "invite": {
        "consortium": "wind", "genesis": HEX, "enrolment_address": "127.0.0.1:7602", "address": "127.0.0.1:7601",
        "server_pin": HEX, "secret": "5ec2e7" * 8, "legal_name": "Meuse Energie", "expires": 2_000_000_000,
    },
    "list_members": {"members": [MEMBER]},
    "accept_member": MEMBER,
    "offer_dataset": {
        "dataset": "wind-large", "lineage": "wind-large", "index": 9, "row_count_band": "10k-100k",
        "policy_sha256": HEX, "columns": [], "problems": {
            "row_count_band": "10k-100k", "left_out_percent": 1,
            "columns": [
                {"name": "P_avg", "missing_percent": 1, "sentinel_percent": 0, "out_of_bounds_percent": 0}
            ],
        },
    },
    "list_datasets": {
        "datasets": [
            {
                "member": HEX, "legal_name": "Hauts Vents SA", "dataset": "wind-large", "lineage": "wind-large",
                "sector": "energy", "grade": "general", "row_count_band": "10k-100k", "privacy_unit": "one record",
                "columns": [{"name": "P_avg", "type": "number", "unit": "kW", "lower": "-50", "upper": "2150"}],
                "budget": {"rho_micro": 100_000, "delta": "1e-6"}, "policy_sha256": HEX, "own": True,
            }
        ]
    },
    "show_budget": {
        "accounts": [
            {
                "lineage": "wind-large", "dataset": "wind-large", "cap_rho_micro": 100_000, "spent_rho_micro": 17_000,
                "left_rho_micro": 83_000, "delta": "1e-6", "unbounded": True,
                "spends": [{"job": HEX, "round": 0, "rho_micro": 17_000}],
            }
        ]
    },
    "check_policy": {"policy_sha256": HEX, "clauses": CLAUSES},
    "catalogue_app": {"name": "power", "digest": HEX, "index": 20},
    "approve_app": {"digest": HEX, "index": 21},
    "explain_job": {
        "members": [
            {"member": HEX, "legal_name": "Hauts Vents SA", "dataset": "wind", "permitted": False, "clauses": CLAUSES}
        ],
        "would_run": False,
    },
    "submit_job": {"job": HEX, "index": 30},
    "abort_job": {"job": HEX, "state": "aborted"},
    "list_jobs": {
        "jobs": [{"job": HEX, "index": 30, "kind": "statistic", "purpose": "power_curve", "state": "done", "members": 4,
                  "result_sha256": HEX}]
    },
    "export_ledger": {"folder": "/x", "size": 12, "root": HEX, "transcripts": 2, "transcripts_elsewhere": 1},
    "save_checkpoint": {"path": "/x", "size": 12, "root": HEX},
    "list_entries": {
        "size": 12,
        "entries": [{"index": 11, "kind": "spend", "author": HEX, "legal_name": "Hauts Vents SA", "leaf": HEX,
                     "void": "Too late.", "summary": "17000 micro-rho"}],
    },
    "show_credits": {
        "accounts": [{"account": f"member:{HEX}", "legal_name": "Hauts Vents SA", "balance": "100000"}],
        "settlements": [{"job": HEX, "index": 40, "amount": "100000", "postings": POSTINGS}],
        "scores": [],
    },
    "settle": {"job": HEX, "index": 40, "amount": "100000", "postings": POSTINGS, "scores": {}},
}  # fmt: skip

# command line (after `consortium`) -> the call that it must make
COMMANDS: dict[str, str] = {
    "status": "status",
    "pause": "pause",
    "resume": "resume",
    "invite Meuse --out {tmp}/new.invitation": "invite",
    "member list": "list_members",
    f"member accept {FINGERPRINT}": "accept_member",
    "dataset offer {tmp}/a.csv --descriptor {tmp}/d.toml --policy {tmp}/p.cedar --rho-micro 5": "offer_dataset",
    "dataset list": "list_datasets",
    "dataset budget": "show_budget",
    "policy check {tmp}/p.cedar": "check_policy",
    "policy catalogue-app {tmp}/job.json --name power": "catalogue_app",
    f"policy approve-app {HEX}": "approve_app",
    "job submit {tmp}/job.json --detach": "submit_job",
    "job submit {tmp}/job.json": "watch_job",
    f"job watch {HEX}": "watch_job",
    f"job abort {HEX}": "abort_job",
    "job list": "list_jobs",
    "ledger list --start 3": "list_entries",
    "ledger export {tmp}/export": "export_ledger",
    "ledger checkpoint {tmp}/checkpoint": "save_checkpoint",
    "credits show": "show_credits",
    f"credits settle {HEX} 100000": "settle",
    f"governance propose suspend {FINGERPRINT} --from 40": "propose",
    "governance propose rotate {tmp}/key.json": "propose",
    "governance propose charter {tmp}/job.json": "propose",
    f"governance propose committee {FINGERPRINT} {HEX}": "propose",
    "governance propose rules 1": "propose",
    f"governance vote {HEX} against": "vote",
    "governance list": "list_proposals",
    "member rotate-key": "rotate_key",
    f"erase {FINGERPRINT}": "erase",
}


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeNode:
    fake = FakeNode()
    monkeypatch.setattr(control, "connect", lambda home: fake)
    (tmp_path / "job.json").write_text('{"kind": "statistic"}')
    (tmp_path / "key.json").write_text(json.dumps({"member": HEX, "public_key": HEX, "proof": HEX + HEX}))
    return fake


def _words(line: str, tmp_path: Path) -> list[str]:
    return [word.format(tmp=tmp_path) for word in line.split()]


@pytest.mark.parametrize("line", COMMANDS)
def test_under_json_stdout_is_exactly_one_document(
    line: str, node: FakeNode, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*_words(line, tmp_path), "--home", str(tmp_path), "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    document = json.loads(out)
    call = COMMANDS[line]
    assert node.calls[-1][0] == call
    if call not in {"watch_job", "invite"}:
        assert document == ANSWERS[call]


@pytest.mark.parametrize("line", COMMANDS)
def test_text_output_fits_80_columns(
    line: str, node: FakeNode, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert run([*_words(line, tmp_path), "--home", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines
    tables = [one for one in lines if "/" not in one and HEX not in one]
    assert max((len(one) for one in tables), default=0) <= 80


def test_invitation_file_is_private_and_its_secret_is_not_printed(
    node: FakeNode, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "meuse.invitation"
    assert run(["invite", "Meuse", "--out", str(path), "--json"]) == 0
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text()) == ANSWERS["invite"]
    assert ANSWERS["invite"]["secret"] not in capsys.readouterr().out


def test_an_invitation_never_overwrites_a_file(
    node: FakeNode, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "kept"
    path.write_text("kept")
    assert run(["invite", "Meuse", "--out", str(path)]) == 1
    assert path.read_text() == "kept"


def test_a_refused_job_shows_every_clause_and_exits_1(
    node: FakeNode, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node.end = {"state": "refused", "refusals": [{"member": HEX, "legal_name": "Hauts Vents SA", "clauses": CLAUSES}]}
    assert run(["job", "submit", str(tmp_path / "job.json")]) == 1
    out = capsys.readouterr().out
    assert all(clause["id"] in out for clause in CLAUSES)


def test_explain_exits_1_when_the_job_would_not_run(
    node: FakeNode, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["job", "explain", str(tmp_path / "job.json"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == ANSWERS["explain_job"]
    assert [call for call, _ in node.calls] == ["explain_job"]


def test_a_toml_job_is_read_as_a_document(node: FakeNode, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "job.toml").write_text('kind = "statistic"\nmembers_min = 3\n')
    assert run(["job", "submit", str(tmp_path / "job.toml"), "--detach"]) == 0
    assert node.calls == [("submit_job", ({"kind": "statistic", "members_min": 3},))]


def test_a_refusal_says_what_where_and_how_to_mend_in_english_then_chinese(
    node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.fault = PausedError("The node is paused.", where="node.toml, line 3", mend="Resume it.")
    assert run(["member", "list"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "consortium: The node is paused. [node.toml, line 3] Resume it.",
        f"{HINTS['paused']} (paused)",
    ]


def test_a_refusal_under_json_is_one_document_with_its_code(node: FakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    node.fault = PausedError("The node is paused.", where="here", mend="Resume it.")
    assert run(["member", "list", "--json"]) == 1
    fault = {"code": "paused", "what": "The node is paused.", "where": "here", "mend": "Resume it."}
    assert json.loads(capsys.readouterr().out) == {"error": fault}


def test_a_bug_is_not_dressed_up_as_a_refusal(node: FakeNode) -> None:
    node.fault = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        run(["status"])


def test_interrupt_exits_130(node: FakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    node.fault = KeyboardInterrupt()  # type: ignore[assignment]
    assert run(["status"]) == 130


def test_a_broken_json_file_is_refused_with_line_and_column(
    node: FakeNode, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "job.json").write_text('{\n  "kind": oops\n}')
    assert run(["job", "submit", str(tmp_path / "job.json")]) == 1
    assert "line 2, column 11" in capsys.readouterr().err
    assert node.calls == []


def test_what_other_members_wrote_cannot_steer_the_terminal(
    node: FakeNode, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ANSWERS, "list_members", {"members": [{**MEMBER, "legal_name": "\x1b[2JEvil [red]Ltd[/red]"}]})
    assert run(["member", "list"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "[red]" in out.replace("\n", "")


@pytest.mark.parametrize("line", ["", "job", "nonsense", "job submit", "ledger list --start x", "job submit a --nope"])
def test_wrong_usage_exits_2(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(line.split()) == 2


def test_wrong_usage_under_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["job", "submit", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "usage"


def _leaves(command: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    children = getattr(command, "commands", None)
    if not children:
        return [path]
    return [leaf for name, child in children.items() for leaf in _leaves(child, (*path, name))]


def test_every_command_has_help_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    run(["--help"])
    leaves = _leaves(typer.main.get_command(app))
    assert {path[0] for path in leaves} >= {
        *("found", "invite", "join", "member", "serve", "status", "doctor", "pause", "resume", "dataset", "policy"),
        *("job", "ledger", "audit", "credits", "demo"),
    }
    for path in leaves:
        capsys.readouterr()
        assert run([*path, "--help"]) == 0
        text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
        assert "--json" in text, path
        assert re.search(r"Usage: consortium .*\n\s*\n *[A-Z]", text), path


def test_every_refusal_has_a_chinese_hint() -> None:
    pattern = re.compile(r'^    code(?:: ClassVar\[str\])? = "([a-z-]+)"', re.MULTILINE)
    sources = [path for folder in ("consortium", "node") for path in (ROOT / folder).rglob("*.py")]
    codes = {code for path in sources for code in pattern.findall(path.read_text(encoding="utf-8"))}
    assert {ConsortiumError.code, PausedError.code} <= codes
    assert codes <= set(HINTS)
    assert all(re.search("[一-鿿]", hint) for hint in HINTS.values())


def test_every_command_that_an_advice_names_exists() -> None:
    run(["--help"])
    leaves = {" ".join(path) for path in _leaves(typer.main.get_command(app))}
    advice = re.compile(r"['`]consortium ((?:[a-z-]+ ?){1,2})")
    sources = [path for folder in ("consortium", "node") for path in (ROOT / folder).rglob("*.py")]
    named = {text.strip() for path in sources for text in advice.findall(path.read_text(encoding="utf-8"))}
    assert len(named) > 5
    unknown = {name for name in named if name not in leaves and name.split()[0] not in leaves}
    assert unknown == set()


def test_help_imports_neither_grpc_nor_flower_nor_numpy() -> None:
    code = (
        "import sys\n"
        "from node.cli.entry import run\n"
        "assert run(['--help']) == 0\n"
        "print(sorted({'grpc', 'flwr', 'numpy', 'pandas', 'duckdb', 'opendp'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_demo_shows_figures_of_all_steps_and_ends_with_the_path_of_its_report(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import node.demo.run
    from tests.units.story import NAMES, story

    told = story()
    for forgery in told["audit"]["forgeries"]:
        forgery["expected"] = "bad-signature"
    document = {**told, "comparison": told["training"]["comparison"], "report": "/runs/7/report.html"}
    monkeypatch.setattr(node.demo.run, "run_demo", lambda data, out: document)
    assert run(["demo"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "/runs/7/report.html"
    assert all(text in out for text in (NAMES[0], "marketing", "350.2", "too few", "41.2", "24,250", "bad-signature"))
    assert max(len(line) for line in out.splitlines()) <= 80


def test_policy_templates_are_listed_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "template", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"templates": ["large", "medium", "small"]}
    assert run(["policy", "template", "small"]) == 0
    assert "forbid" in capsys.readouterr().out
    assert run(["policy", "template", "none"]) == 1
