"""The audit of an export: an honest log passes, and every forgery is named by its code."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consortium.audit import Export, audit_export
from consortium.keys import SigningKey
from consortium.ledger.checkpoint import Checkpoint, sign_checkpoint
from consortium.ledger.entry import Entry, read_entry
from consortium.privacy.secure_sum import Transcript
from tests.worlds import Ledger, World, documents, honest_world

ROOT = Path(__file__).parents[2]


def codes(export: Export, genesis: bytes | None = None, saved: bytes | None = None) -> list[str]:
    """The codes of all findings, in order."""
    return [finding.code for finding in audit_export(export, genesis or export.frames[0], saved).findings]


def position(world: World, kind: str, nth: int = 0, **fields: object) -> int:
    """The index of the nth entry of a kind whose body has these fields."""
    return [
        index
        for index, entry in enumerate(map(read_entry, world.ledger.frames))
        if entry.kind == kind and fields.items() <= entry.body.items()
    ][nth]


def cut(world: World, index: int) -> World:
    """The world as it was before the entry of this index."""
    world.ledger = Ledger.of(world.ledger.frames[:index])
    return world


def forged(world: World, entries: list[Entry], start: int) -> World:
    """The log of these entries; from `start` on the coordinator signs its own anew, as they then follow each other."""
    world.ledger = Ledger()
    for index, entry in enumerate(entries):
        mine = index >= start and entry.author == world.coordinator.key_id
        signed = world.ledger.sign(world.coordinator, entry.kind, entry.body, key=entry.key) if mine else entry
        world.ledger.force(signed.frame.data)
    return world


class TestHonest:
    """Nothing to find."""

    def test_a_whole_honest_history_passes_and_is_counted(self) -> None:
        world, statistic, training = honest_world()
        told: list[int] = []
        export = world.export()
        report = audit_export(export, export.frames[0], world.ledger.note(world.coordinator, size=20), told.append)
        assert report.findings == ()
        assert report.ok
        assert told == list(range(1, len(export.frames) + 1))
        figures = report.figures
        assert figures["root"] == world.ledger.replay.root.hex()
        assert (figures["size"], figures["void"], figures["refusals"]) == (len(export.frames), 0, 4)
        assert figures["sums_recomputed"] == 10
        assert figures["entries"]["sum"] == 10
        assert [job["job"] for job in figures["jobs"]][::2] == [statistic.hex(), training.hex()]
        assert [job["ended"] for job in figures["jobs"]] == ["result", "abort", "result"]
        assert sum(int(amount) for amount in figures["credits"].values()) == 0
        assert {account["unbounded"] for account in figures["accounts"]} == {True}
        assert len(report.not_evaluated) == 2

    def test_a_job_under_way_is_open(self) -> None:
        world = World().found().join().offer()
        world.launch("statistic", documents.statistic())
        report = audit_export(world.export(), world.ledger.frames[0])
        assert report.ok
        assert report.figures["jobs"][0]["ended"] == "open"

    def test_the_figures_are_plain_json(self) -> None:
        export = honest_world()[0].export()
        json.dumps(audit_export(export, export.frames[0]).figures)

    def test_the_audit_runs_in_a_process_that_knows_no_network_and_no_framework(self, tmp_path: Path) -> None:
        export = honest_world()[0].export()
        document = {
            "checkpoint": export.checkpoint.decode(),
            "frames": [frame.hex() for frame in export.frames],
            "transcripts": {name: data.hex() for name, data in export.transcripts.items()},
        }
        (tmp_path / "export.json").write_text(json.dumps(document))
        program = """
import json, sys
from consortium.audit import Export, audit_export
value = json.load(open(sys.argv[1]))
frames = [bytes.fromhex(frame) for frame in value["frames"]]
transcripts = {name: bytes.fromhex(data) for name, data in value["transcripts"].items()}
report = audit_export(Export(value["checkpoint"].encode(), frames, transcripts), frames[0])
loaded = {name.partition(".")[0] for name in sys.modules}
unwanted = loaded & {"grpc", "flwr", "node", "protos", "duckdb", "pandas", "opendp", "cedarpy", "sqlalchemy"}
print(json.dumps([report.ok, report.figures["sums_recomputed"], sorted(unwanted)]))
"""
        done = subprocess.run(
            [sys.executable, "-W", "error::ResourceWarning", "-c", program, str(tmp_path / "export.json")],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == [True, 10, []]


class TestHistory:
    """Entries changed, dropped, moved or cut off, with the coordinator's own key."""

    def test_a_dropped_refusal_breaks_its_authors_chain(self) -> None:
        world = honest_world()[0]
        entries = [read_entry(frame) for frame in world.ledger.frames]
        index = position(world, "decision", outcome="refuse")
        forged(world, entries[:index] + entries[index + 1 :], index)
        assert "broken-chain" in codes(world.export())

    def test_a_dropped_last_spend_leaves_a_sum_unpaid(self) -> None:
        world, _, training = honest_world()
        entries = [read_entry(frame) for frame in world.ledger.frames]
        index = position(world, "spend", -1, job=training.hex())
        forged(world, entries[:index] + entries[index + 1 :], index)
        assert codes(world.export())[0] == "unpaid"

    def test_two_swapped_decisions_show_in_the_head_that_the_second_author_saw(self) -> None:
        world = honest_world()[0]
        entries = [read_entry(frame) for frame in world.ledger.frames]
        index = position(world, "decision")
        entries[index], entries[index + 1] = entries[index + 1], entries[index]
        forged(world, entries, index)
        assert codes(world.export())[0] == "other-history"

    def test_a_dropped_entry_without_a_new_checkpoint_is_named_even_if_nobody_wrote_after_it(self) -> None:
        world = honest_world()[0]
        export = world.export()
        assert codes(replace(export, frames=export.frames[:-1])) == ["truncated"]

    def test_a_truncated_log_under_a_fresh_checkpoint_is_named_by_a_saved_one_only(self) -> None:
        world = honest_world()[0]
        saved = world.ledger.note(world.coordinator)
        cut(world, len(world.ledger.frames) - 2)
        assert codes(world.export()) == []  # why members keep checkpoints
        assert codes(world.export(), saved=saved) == ["truncated"]

    def test_a_rewritten_last_entry_is_named_by_a_saved_checkpoint(self) -> None:
        world = honest_world()[0]
        saved = world.ledger.note(world.coordinator)
        last = read_entry(world.ledger.frames[-1])
        cut(world, len(world.ledger.frames) - 1)
        world.ledger.add(world.coordinator, last.kind, last.body, key="other")
        assert codes(world.export()) == []
        assert codes(world.export(), saved=saved) == ["rewritten"]

    def test_entries_that_the_exports_own_checkpoint_does_not_cover_are_named(self) -> None:
        world = honest_world()[0]
        export = replace(world.export(), checkpoint=world.ledger.note(world.coordinator, size=20))
        assert codes(export) == ["truncated"]

    def test_a_void_entry_is_a_finding_at_its_index_and_the_only_one(self) -> None:
        world = World().found().join()
        world.ledger.force(b"junk")
        world.offer()
        report = audit_export(world.export(), world.ledger.frames[0])
        assert [(finding.code, finding.index) for finding in report.findings] == [("bad-signature", 9)]
        assert report.figures["void"] == 1
        assert not report.ok

    def test_one_bad_entry_makes_one_finding_although_its_author_wrote_on_from_it(self) -> None:
        world = World().found().join()
        author = world.members[0]
        bad = world.ledger.sign(author, "dataset", documents.offer() | {"descriptor": {}})
        good = world.ledger.sign(author, "dataset", documents.offer(), seq=bad.seq + 1, prev=bad.leaf)
        assert world.ledger.force(bad.frame.data) == "bad-descriptor"
        assert world.ledger.force(good.frame.data) == ""
        assert codes(world.export()) == ["bad-descriptor"]


class TestHeads:
    """Genesis and checkpoints."""

    def test_another_genesis_is_named(self) -> None:
        export = World().found().join().export()
        other = Ledger()
        key = SigningKey(b"\x01" * 32)
        genesis = other.add(key, "genesis", documents.genesis(key) | {"name": "Other"}).frame.data
        assert codes(export, genesis) == ["other-genesis"]

    def test_an_export_without_entries_or_with_junk_for_a_genesis_is_named(self) -> None:
        export = World().found().export()
        assert codes(replace(export, frames=()), export.frames[0]) == ["other-genesis"]
        report = audit_export(replace(export, frames=(b"junk",)), export.frames[0])
        assert [finding.code for finding in report.findings] == ["other-genesis", "bad-signature"]
        assert report.figures == {"entries": 1}

    @pytest.mark.parametrize(
        "note",
        [
            pytest.param(lambda world: world.ledger.note(world.members[0]), id="of-a-member's-key"),
            pytest.param(lambda world: world.ledger.note(world.coordinator, origin="other.example/log"), id="by-name"),
            pytest.param(
                lambda world: sign_checkpoint(
                    Checkpoint("other.example/log", world.ledger.state.size, world.ledger.replay.root),
                    world.coordinator,
                    documents.ORIGIN,
                ).encode(),
                id="of-another-log",
            ),
            pytest.param(lambda world: world.ledger.note(world.coordinator)[:-10], id="cut"),
            pytest.param(lambda world: b"", id="empty"),
            pytest.param(lambda world: world.ledger.note(world.coordinator).replace(b"\n9\n", b"\n8\n"), id="resized"),
        ],
    )
    def test_a_checkpoint_that_is_not_the_logs_is_named(self, note: Callable[[World], bytes]) -> None:
        world = World().found().join()
        assert world.ledger.state.size == 9
        export = world.export()
        assert codes(replace(export, checkpoint=note(world))) == ["bad-checkpoint"]
        assert codes(export, saved=note(world)) == ["bad-checkpoint"]

    def test_a_checkpoint_over_another_tree_of_the_same_size_is_named(self) -> None:
        world = World().found().join()
        other = Checkpoint(documents.ORIGIN, 9, b"r" * 32)
        note = sign_checkpoint(other, world.coordinator, documents.ORIGIN).encode()
        assert codes(replace(world.export(), checkpoint=note)) == ["rewritten"]


class TestRules:
    """What the coordinator, or a member that helps it, may not record."""

    def test_a_run_before_the_approval_of_its_app_is_named(self) -> None:
        world = World().found().join().offer()
        app = {"name": "power", "digest": documents.APP}
        world.ledger.add(world.coordinator, "app", app)
        job = world.launch("training", documents.training())
        for member in world.members:
            decision = world.ledger.sign(member, "decision", documents.decision(job.hex()))
            assert world.ledger.force(decision.frame.data) == "run-before-approval"
        world.ledger.force(
            world.ledger.sign(
                world.coordinator, "sum", world.sum_body(world.training_sum(job, 1, world.ids))
            ).frame.data
        )
        assert codes(world.export()) == ["run-before-approval"] * 5

    def test_an_app_that_nobody_catalogued_is_named(self) -> None:
        world = honest_world()[0]
        body = world.job_body("training", documents.training() | {"app": documents.HASH})
        world.ledger.force(world.ledger.sign(world.coordinator, "job", body).frame.data)
        assert codes(world.export()) == ["run-before-approval"]

    def test_an_overspend_is_named(self) -> None:
        world, statistic, _ = honest_world()
        body = world.spend_body(statistic, 1) | {"rho_micro": documents.CAP_RHO_MICRO}
        world.ledger.force(world.ledger.sign(world.members[0], "spend", body).frame.data)
        assert codes(world.export()) == ["overspend"]

    def test_a_settlement_that_is_off_by_one_credit_is_named(self) -> None:
        world, _, training = honest_world()
        cut(world, len(world.ledger.frames) - 1)
        body = world.settlement_body(training)
        for posting, change in ((body["postings"][1], 1), (body["postings"][2], -1)):
            posting["amount"] = str(int(posting["amount"]) + change)
        world.ledger.force(world.ledger.sign(world.coordinator, "settlement", body).frame.data)
        assert codes(world.export()) == ["mis-settled"]


class TestSums:
    """Entries that their transcripts do not bear out."""

    @pytest.fixture
    def asked(self) -> tuple[World, bytes, dict[str, Any]]:
        """A statistics job before its sum is recorded, and the honest body of the sum."""
        world, job, _ = honest_world()
        body = read_entry(world.ledger.frames[position(world, "sum")]).body
        return cut(world, position(world, "sum")), job, body

    def test_a_missing_transcript_is_named_at_the_entry(self) -> None:
        world, _, _ = honest_world()
        export = world.export()
        first = read_entry(export.frames[position(world, "sum")]).body["transcript_sha256"]
        del world.transcripts[first]
        report = audit_export(world.export(), export.frames[0])
        assert [(f.code, f.index) for f in report.findings] == [("bad-sum", position(world, "sum"))]
        assert report.figures["sums_recomputed"] == 9

    @pytest.mark.parametrize("place", [0, 100, 2_000, -1])
    def test_a_transcript_with_one_bit_changed_is_named(self, place: int) -> None:
        world = honest_world()[0]
        name = next(iter(world.transcripts))
        spoiled = bytearray(world.transcripts[name])
        spoiled[place] ^= 1
        world.transcripts[name] = bytes(spoiled)
        assert codes(world.export()) == ["bad-sum"]

    @pytest.mark.parametrize(
        "spoil",
        [
            pytest.param(lambda body: {"total_sha256": documents.HASH}, id="another-total"),
            pytest.param(lambda body: {"survivors": body["roster"]}, id="a-survivor-too-many"),
            pytest.param(lambda body: {"transcript_sha256": documents.HASH}, id="no-such-transcript"),
        ],
    )
    def test_an_entry_that_says_other_than_its_transcript_is_named(
        self, asked: tuple[World, bytes, dict[str, Any]], spoil: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> None:
        world, _, body = asked
        world.ledger.add(world.coordinator, "sum", body | spoil(body))
        assert codes(world.export()) == ["bad-sum"]

    def test_the_transcript_of_another_round_is_named(self, asked: tuple[World, bytes, dict[str, Any]]) -> None:
        world, job, body = asked
        world.pay(job, 1)
        world.ledger.add(world.coordinator, "sum", body | {"round": 1})
        assert codes(world.export()) == ["bad-sum"]

    def test_the_transcript_of_another_roster_is_named(self, asked: tuple[World, bytes, dict[str, Any]]) -> None:
        world, _, body = asked
        world.ledger.add(world.coordinator, "sum", body | {"roster": body["survivors"]})
        assert codes(world.export()) == ["bad-sum"]

    def test_a_transcript_that_nobody_finished_is_named(self, asked: tuple[World, bytes, dict[str, Any]]) -> None:
        world, _, body = asked
        transcript = Transcript.from_bytes(world.transcripts[body["transcript_sha256"]])
        unfinished = replace(transcript, reveals=())
        name = unfinished.digest().hex()
        world.transcripts[name] = unfinished.to_bytes()
        world.ledger.add(world.coordinator, "sum", body | {"transcript_sha256": name})
        assert codes(world.export()) == ["bad-sum"]

    def test_a_transcript_in_place_of_another_cannot_hide_behind_its_hash(self) -> None:
        world = honest_world()[0]
        first, second = list(world.transcripts)[:2]
        world.transcripts[first] = world.transcripts[second]
        assert codes(world.export()) == ["bad-sum"]


@functools.cache
def _started() -> tuple[World, bytes]:
    world = World().found().join().offer().approve()
    return world, world.start_training(3)


class TestRosters:
    """Who takes part in a round is the seed's choice and nobody else's."""

    @pytest.fixture
    def started(self) -> tuple[World, bytes]:
        world, job = _started()
        copy = World()
        copy.ledger = Ledger.of(world.ledger.frames)
        return copy, job

    @pytest.mark.parametrize("number", [1, 2, 3])
    def test_a_training_round_of_another_roster_is_named(self, started: tuple[World, bytes], number: int) -> None:
        world, job = started
        due = world.roster(number)
        other = world.ids[:3] if due != tuple(world.ids[:3]) else world.ids
        entry = world.record(world.training_sum(job, number, other))
        report = audit_export(world.export(), world.ledger.frames[0])
        assert [(f.code, f.index) for f in report.findings] == [("bad-roster", world.ledger.state.size - 1)]
        assert entry.body["round"] == number

    def test_the_rosters_of_the_seed_pass(self, started: tuple[World, bytes]) -> None:
        world, job = started
        for number in (1, 2, 3):
            world.record(world.training_sum(job, number, world.roster(number)))
        world.record(world.evaluation_sum(job))
        assert codes(world.export()) == []

    def test_an_evaluation_without_everybody_is_named(self, started: tuple[World, bytes]) -> None:
        world, job = started
        world.record(world.training_sum(job, 4, world.ids[:3]))
        assert codes(world.export()) == ["bad-roster"]

    @pytest.mark.parametrize("number", [0, 5, 29])
    def test_a_round_that_the_job_does_not_have_is_named(self, started: tuple[World, bytes], number: int) -> None:
        world, job = started
        world.record(world.training_sum(job, number, world.ids))
        assert codes(world.export()) == ["bad-roster"]


class TestScores:
    """Scores that the sums do not give."""

    @pytest.fixture
    def trained(self) -> tuple[World, bytes, dict[str, Any]]:
        """A training job before its scores, and their honest body."""
        world, _, job = honest_world()
        body = read_entry(world.ledger.frames[position(world, "scores")]).body
        return cut(world, position(world, "scores")), job, body

    @pytest.mark.parametrize("field", ["score_micro", "error_micro"])
    def test_scores_off_by_one_are_named_although_the_settlement_follows_from_them(
        self, trained: tuple[World, bytes, dict[str, Any]], field: str
    ) -> None:
        world, job, body = trained
        body["scores"][2][field] += 1
        world.ledger.add(world.coordinator, "scores", body)
        world.ledger.add(world.coordinator, "settlement", world.settlement_body(job))
        assert codes(world.export()) == ["bad-scores"]

    def test_scores_under_another_seed_are_named(self, trained: tuple[World, bytes, dict[str, Any]]) -> None:
        world, _, body = trained
        world.ledger.add(world.coordinator, "scores", body | {"seed": documents.HASH})
        assert codes(world.export()) == ["bad-scores"]

    def test_scores_without_an_evaluation_are_named(self, trained: tuple[World, bytes, dict[str, Any]]) -> None:
        world, _, body = trained
        evaluation = position(world, "sum", round=documents.ROUNDS + 1)
        cut(world, evaluation)
        world.answer(bytes.fromhex(body["job"]))
        world.ledger.add(world.coordinator, "scores", body)
        assert codes(world.export()) == ["bad-scores"]

    @pytest.mark.parametrize("word_bits", [32, 128])
    def test_scores_from_an_evaluation_of_another_shape_are_named(
        self, trained: tuple[World, bytes, dict[str, Any]], word_bits: Any
    ) -> None:
        world, job, body = trained
        cut(world, position(world, "sum", round=documents.ROUNDS + 1))
        length = 3 if word_bits == 32 else documents.ROUNDS + 2
        spec = world.spec(job, documents.ROUNDS + 1, world.ids, length, word_bits)
        world.record(world.sum(spec, {member: [1] * length for member in world.ids}))
        world.answer(job)
        world.ledger.add(world.coordinator, "scores", body)
        assert codes(world.export()) == ["bad-scores"]
