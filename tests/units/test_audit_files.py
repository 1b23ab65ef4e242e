"""What an auditor takes along: tables, a journal that bean-check accepts, a state from which the next audit goes on."""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consortium.audit import Audit, Export, audit_export
from consortium.audit.journal import journal
from consortium.audit.saved import load_audit, save_audit
from consortium.audit.statements import TABLES, statements
from consortium.errors import ConfigError, EncodingError, LimitError
from consortium.ledger.merkle import leaf_hash
from node.audit import files, pipeline
from node.export import read_export, write_export
from tests.worlds import World, documents, honest_world
from tests.worlds.governing import ballot, governed_world, propose

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # typer 0.20 imports a name that click 8.5 deprecates
    from node.cli.entry import run


def audited(export: Export, audit: Audit | None = None, **more: Any) -> Audit:
    """An audit that was fed what it lacked of an export, and closed."""
    audit = audit or Audit()
    for frame in export.frames[audit.size :]:
        audit.feed(frame)
    report = audit.close(export.checkpoint, leaf_hash(export.frames[0]), export.transcripts, **more)
    assert report.ok, report.findings
    return audit


@pytest.fixture(scope="module")
def world() -> World:
    return honest_world()[0]


@pytest.fixture(scope="module")
def whole(world: World) -> Audit:
    return audited(world.export())


def prefix(world: World, size: int) -> Export:
    export = world.export()
    return Export(world.note(size), export.frames[:size], export.transcripts)


class TestSavedState:
    """An audit in parts finds what an audit of all finds."""

    @pytest.mark.parametrize("size", [1, 5, 24, 33, 58, 61])
    def test_an_audit_that_goes_on_ends_where_a_whole_one_ends(self, world: World, whole: Audit, size: int) -> None:
        saved = save_audit(audited(prefix(world, size)))
        resumed = audited(world.export(), load_audit(saved))
        assert resumed.replay.state == whole.replay.state
        assert resumed.replay.root == whole.replay.root
        assert save_audit(resumed) == save_audit(whole)
        assert (resumed.kinds, resumed.sums_recomputed) == (whole.kinds, 10)

    def test_sums_that_were_recomputed_need_no_transcript_again(self, world: World, whole: Audit) -> None:
        export = replace(world.export(), transcripts={})
        assert audited(export, load_audit(save_audit(whole))).sums_recomputed == 10

    def test_findings_are_kept(self) -> None:
        world = World().found().join()
        world.ledger.force(b"junk")
        audit = Audit()
        for frame in world.ledger.frames:
            audit.feed(frame)
        resumed = load_audit(save_audit(audit))
        assert [finding.code for finding in resumed.found] == ["bad-signature"]
        assert resumed.void == 1

    def test_a_log_that_does_not_extend_the_saved_one_is_named(self, world: World) -> None:
        saved = audited(prefix(world, 20))
        other = World().found().join().offer()
        other.launch("statistic", documents.statistic(500))
        export = other.export()
        for frame in export.frames[saved.size :]:
            saved.feed(frame)
        report = saved.close(export.checkpoint, leaf_hash(export.frames[0]), {})
        assert {"rewritten", "truncated"} & {finding.code for finding in report.findings}

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda data: data[:-1],
            lambda data: data.replace(b'"void":0', b'"void":1'),
            lambda data: data.replace(b"state v1", b"state v2"),
            lambda _: b"",
        ],
    )
    def test_a_damaged_state_is_refused(self, whole: Audit, spoil: Any) -> None:
        with pytest.raises(EncodingError, match="damaged"):
            load_audit(spoil(save_audit(whole)))

    @pytest.mark.parametrize("body", [b"{}", b"[]", b"no", b'{"state":[]}'])
    def test_a_state_of_another_form_is_refused(self, body: bytes) -> None:
        from consortium.audit.saved import HEADER
        from consortium.encoding import sha256

        with pytest.raises(EncodingError, match="form"):
            load_audit(f"{HEADER} {sha256(body).hex()}\n".encode() + body)


class TestVotes:
    """How the consortium governed itself is in the report, in the tables, and in a state that goes on."""

    def test_an_audit_goes_on_over_rotations_suspensions_and_committees(self) -> None:
        frames = governed_world().export().frames
        whole = Audit()
        for frame in frames:
            whole = load_audit(save_audit(whole))
            whole.feed(frame)
        assert whole.found == []
        assert whole.replay.state == governed_world().ledger.state

    def test_a_proposal_and_its_votes_are_counted(self) -> None:
        world = World().found().join()
        proposal = propose(world, {"type": "suspend", "member": world.ids[3].hex()})
        for member in world.members[:2]:
            world.ledger.add(member, "vote", ballot(proposal))
        audit = load_audit(save_audit(audited(world.export())))
        assert audit.replay.state == world.ledger.state
        report = audit.close(world.note(), leaf_hash(world.ledger.frames[0]), {})
        (told,) = report.figures["proposals"]
        assert (told["change"], told["for"], told["against"], told["outcome"]) == ("suspend", 2, 0, proposal.outcome)
        assert [vote["kind"] for vote in report.figures["votes"]][-3:] == ["proposal", "vote", "vote"]
        (row,) = next(rows for name, _, rows in statements(audit, []) if name == "proposals")
        assert row[3:6] == ("suspend", 2, 0)


class TestTwoProcesses:
    """The pipeline folds as one process does, whatever the others say."""

    @pytest.fixture
    def large(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A log of several bundles, with void entries of every kind of signature fault."""
        monkeypatch.setattr(pipeline, "PARALLEL_MIN", 1)
        monkeypatch.setattr(pipeline, "RUN_BUNDLES", 1)
        world = World().found().join().offer()
        for number in range(1_100):
            if number % 100 == 7:
                world.ledger.force(world.ledger.frames[-1][:-1] + b"x")
                world.ledger.force(b"\x01" * 200)
                frame = bytearray(world.ledger.sign(world.members[0], "dataset", documents.offer()).frame.data)
                frame[40] ^= 1
                world.ledger.force(bytes(frame))
            head = {"head": world.ledger.head}
            world.ledger.force(
                world.ledger.sign(world.members[number % 4], "dataset", documents.offer(), **head).frame.data
            )
        write_export(tmp_path / "export", world.export())
        return tmp_path / "export"

    def test_two_processes_end_in_the_state_of_one(self, large: Path) -> None:
        export = read_export(large)
        told: list[int] = []
        alone, together, crowd, resumed = Audit(), Audit(), Audit(), Audit()
        pipeline.feed_export(alone, export.frames, 1, told.append)
        pipeline.feed_export(together, export.frames, 2, told.append)
        pipeline.feed_export(crowd, export.frames, 4, told.append)
        for frame in export.frames[:300]:
            resumed.feed(frame)
        pipeline.feed_export(load_audit(save_audit(resumed)), export.frames, 2, told.append)
        assert len(alone.found) == 33
        assert save_audit(alone) == save_audit(together) == save_audit(crowd)
        assert told.count(len(export.frames)) == 4

    def test_what_lies_in_the_auditor_s_folder_is_not_imported(
        self, large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Fails without -P: a module there would answer that every signature is sound."""
        planted = tmp_path / "here" / "node" / "audit"
        planted.mkdir(parents=True)
        (planted / "signatures.py").write_text("raise SystemExit(1)")
        for package in (planted, planted.parent):
            (package / "__init__.py").touch()
        monkeypatch.chdir(tmp_path / "here")
        monkeypatch.delenv("PYTHONPATH", raising=False)
        audit = Audit()
        pipeline.feed_export(audit, read_export(large).frames, 2, lambda _done: None)
        assert len(audit.found) == 33

    def test_a_process_that_ended_is_told_and_the_next_step_named(
        self, large: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pipeline, "WORKER", "consortium.errors")  # a module that does nothing and ends
        with pytest.raises(ConfigError, match="has ended") as told:
            pipeline.feed_export(Audit(), read_export(large).frames, 2, lambda _done: None)
        assert "--processes 1" in told.value.mend


class TestTables:
    """CSV of everything that is counted."""

    def test_every_row_names_the_tree_and_every_table_its_rows(self, whole: Audit) -> None:
        made = {name: (headings, list(rows)) for name, headings, rows in statements(whole, [])}
        assert set(made) == {*TABLES, "votes", "anomalies"}
        for headings, rows in made.values():
            assert headings[-2:] == ("tree_size", "tree_root")
            assert all(len(row) == len(headings) and row[-2:] == (61, whole.replay.root.hex()) for row in rows)
        counts = {name: len(rows) for name, (_, rows) in made.items()}
        assert counts == {
            "members": 5,
            "jobs": 3,
            "decisions": 16,
            "spends": 8,
            "scores": 4,
            "postings": 6,
            "credits": 6,
            "votes": 1,
            "proposals": 0,
            "anomalies": 0,
        }

    def test_text_of_others_is_no_formula(self, world: World, whole: Audit, tmp_path: Path) -> None:
        from consortium.audit import AuditReport, Finding

        report = AuditReport((Finding("=cmd()", None, "+1+1"),), {}, ())
        names = files.write_tables(tmp_path / "csv", whole, report)
        assert sorted(names) == sorted(path.name for path in (tmp_path / "csv").iterdir())
        assert self.rows(tmp_path / "csv/anomalies.csv")[1][:3] == ["", "'=cmd()", "'+1+1"]
        assert self.rows(tmp_path / "csv/postings.csv")[1][3] == "-100000"

    def rows(self, path: Path) -> list[list[str]]:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.reader(file))

    def test_a_place_that_cannot_be_written_is_a_refusal(self, whole: Audit, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        report = audit_export(honest_world()[0].export(), b"")
        with pytest.raises(ConfigError):
            files.write_tables(tmp_path / "file/csv", whole, report)
        with pytest.raises(ConfigError):
            files.write_journal(tmp_path / "none/credits.beancount", whole)
        with pytest.raises(ConfigError):
            files.read_state(tmp_path)


def bean_check() -> list[str] | None:
    found = shutil.which("bean-check") or shutil.which("bean-check", path=str(Path(sys.executable).parent))
    if found:
        return [found]
    if importlib.util.find_spec("beancount") is None:
        return None
    return [sys.executable, "-m", "beancount.scripts.check"]


class TestJournal:
    """A journal that a verifier which is not ours accepts."""

    def test_every_account_is_asserted_and_the_last_assertions_are_the_folded_balances(self, whole: Audit) -> None:
        lines = list(journal(whole.replay.state, whole.replay.root))
        assert f"; after 61 entries, tree root {whole.replay.root.hex()}." in lines
        balances = [line.split()[-2] for line in lines if " balance " in line]
        assert sorted(balances[-6:], key=int) == sorted(map(str, whole.replay.state.balances.values()), key=int)
        assert len(balances) == 12
        assert sum(map(int, balances[:6])) == 0

    @pytest.mark.skipif(bean_check() is None, reason="beancount is not installed")
    def test_bean_check_accepts_it_and_refuses_one_with_a_changed_amount(self, whole: Audit, tmp_path: Path) -> None:
        path = tmp_path / "credits.beancount"
        files.write_journal(path, whole)
        assert self.check(path) == 0
        path.write_text(path.read_text().replace("  3000 CREDIT", "  3001 CREDIT"))
        assert self.check(path) != 0

    def check(self, path: Path) -> int:
        program = bean_check()
        assert program is not None
        return subprocess.run([*program, str(path)], capture_output=True, timeout=60, check=False).returncode

    def test_more_settlements_than_dates_are_refused(self, whole: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("consortium.audit.journal.SETTLEMENTS_MAX", 0)
        with pytest.raises(LimitError, match="dates"):
            list(journal(whole.replay.state, bytes(32)))


class TestCommand:
    """`consortium audit`."""

    @pytest.fixture
    def folder(self, world: World, tmp_path: Path) -> Path:
        export = world.export()
        write_export(tmp_path / "early", prefix(world, 30))
        write_export(tmp_path / "export", export)
        (tmp_path / "genesis").write_bytes(export.frames[0])
        return tmp_path

    def test_the_report_fits_80_columns_and_names_the_tree(
        self, folder: Path, whole: Audit, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(["audit", str(folder / "export"), "--genesis", str(folder / "genesis")]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= 80
        assert whole.replay.root.hex() in lines
        text = "\n".join(lines)
        for word in ("Members", "Jobs", "Refusals", "spends", "Scores", "Credits", "votes", "Privacy budgets", "sound"):
            assert word in text, word

    def test_an_audit_in_two_parts_writes_all_files_and_then_knows_everything(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        line = ["--genesis", str(folder / "genesis"), "--state", str(folder / "state"), "--json"]
        assert run(["audit", str(folder / "early"), *line]) == 0
        assert json.loads(capsys.readouterr().out)["figures"]["size"] == 30
        more = ["--csv", str(folder / "csv"), "--beancount", str(folder / "credits.beancount"), "--processes", "1"]
        assert run(["audit", str(folder / "export"), *line, *more]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["figures"]["size"], told["figures"]["sums_recomputed"], told["figures"]["spends"]) == (61, 10, 8)
        assert (folder / "csv/jobs.csv").exists()
        assert (folder / "credits.beancount").exists()

    def test_a_shorter_log_than_the_state_is_named_and_does_not_replace_it(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        line = ["--genesis", str(folder / "genesis"), "--state", str(folder / "state"), "--json"]
        assert run(["audit", str(folder / "export"), *line]) == 0
        kept = (folder / "state").read_bytes()
        capsys.readouterr()
        assert run(["audit", str(folder / "early"), *line]) == 1
        assert [found["code"] for found in json.loads(capsys.readouterr().out)["findings"]] == ["truncated"]
        assert (folder / "state").read_bytes() == kept

    def test_a_checkpoint_without_the_witnesses_quorum_is_named(
        self, world: World, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        world.ledger.witnesses = tuple(world.members[:2])
        (folder / "export/checkpoint").write_bytes(world.ledger.note(world.coordinator))
        world.ledger.witnesses = tuple(world.members)
        assert run(["audit", str(folder / "export"), "--genesis", str(folder / "genesis")]) == 1
        assert "unwitnessed" in capsys.readouterr().out
