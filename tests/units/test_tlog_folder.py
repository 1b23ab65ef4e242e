"""Whole tlog-tiles folders: foreign ones verify too, and every spoiled file is named."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from consortium.errors import CheckpointError, ConfigError, ProofError
from consortium.keys import SigningKey
from consortium.ledger.checkpoint import Checkpoint, NoteKey, sign_checkpoint
from consortium.ledger.merkle import leaf_hash
from consortium.ledger.proof import check_proof, format_proof
from consortium.ledger.tiles import encode_bundle, entry_tile_paths, hash_tiles
from consortium.ledger.tree import Tree
from node.audit.tlog import TlogFolder, prove_entry, verify_tlog
from tests.worlds import honest_world

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # typer 0.20 imports a name that click 8.5 deprecates
    from node.cli.entry import run

SIGNER = SigningKey(b"\x21" * 32)
KEY = NoteKey("foreign.example/log", SIGNER.public_key)
ROOT = Path(__file__).parents[2]


def write_log(folder: Path, size: int, *, upto: int | None = None, origin: str = KEY.name) -> Path:
    """A foreign log: entries that are no frames of ours; its tiles may already cover `upto` entries."""
    entries = [f"module v1.{number}".encode() for number in range(upto or size)]
    tree = Tree()
    for entry in entries[:size]:
        tree.append(leaf_hash(entry))
    files = {
        tile.path: encode_bundle(entries[tile.start : tile.start + tile.width])
        for tile in entry_tile_paths(len(entries))
    }
    files |= dict(hash_tiles([leaf_hash(entry) for entry in entries], len(entries)))
    files["checkpoint"] = sign_checkpoint(Checkpoint(origin, size, tree.root()), SIGNER, KEY.name).encode()
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def codes(folder: Path) -> list[str]:
    return [finding.code for finding in verify_tlog(TlogFolder(folder), KEY, KEY.name).findings]


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 700])
def test_a_foreign_log_of_any_size_verifies(tmp_path: Path, size: int) -> None:
    told: list[int] = []
    report = verify_tlog(TlogFolder(write_log(tmp_path, size)), KEY, KEY.name, told.append)
    assert report.findings == ()
    assert (report.checkpoint.size, report.signatures) == (size, 1)
    assert told[-1:] == ([size] if size else [])


def test_partial_tiles_may_have_been_replaced_by_full_ones(tmp_path: Path) -> None:
    write_log(tmp_path, 300, upto=512)
    (tmp_path / "tile/1/000.p/1").write_bytes((tmp_path / "tile/1/000.p/2").read_bytes()[:32])
    assert not (tmp_path / "tile/0/001.p/44").exists()
    assert codes(tmp_path) == []
    assert check_proof(prove_entry(TlogFolder(tmp_path), 299), [KEY]).size == 300


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("name", "spoil", "code"),
    [
        ("tile/entries/000", flip, "other-root"),
        ("tile/entries/001.p/44", flip, "other-root"),
        ("tile/0/000", flip, "bad-tile"),
        ("tile/0/001.p/44", flip, "bad-tile"),
        ("tile/1/000.p/1", flip, "bad-tile"),
        ("tile/0/000", Path.unlink, "bad-tile"),
        ("tile/0/001.p/44", lambda path: path.write_bytes(path.read_bytes() + bytes(32)), "bad-tile"),
        ("tile/entries/000", Path.unlink, "bad-bundle"),
        ("tile/entries/001.p/44", lambda path: path.write_bytes(path.read_bytes()[:-1]), "bad-bundle"),
    ],
)
def test_every_spoiled_file_is_found(tmp_path: Path, name: str, spoil: Callable[[Path], object], code: str) -> None:
    spoil(write_log(tmp_path, 300) / name)
    assert code in codes(tmp_path)


def test_the_key_and_the_origin_must_be_the_logs(tmp_path: Path) -> None:
    write_log(tmp_path, 3)
    other = NoteKey(KEY.name, SigningKey(b"\x22" * 32).public_key)
    with pytest.raises(CheckpointError, match="No known key"):
        verify_tlog(TlogFolder(tmp_path), other, KEY.name)
    assert [f.code for f in verify_tlog(TlogFolder(tmp_path), KEY, "sum.example").findings] == ["other-origin"]
    with pytest.raises(ConfigError):
        verify_tlog(TlogFolder(tmp_path / "none"), KEY, KEY.name)


def test_a_proof_of_an_entry_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for index in (-1, 3):
        with pytest.raises(ProofError, match="no entry"):
            prove_entry(TlogFolder(write_log(tmp_path / str(index), 3)), index)


class TestCommands:
    """`consortium ledger vkey | verify-tlog | prove | check-proof`."""

    def told(self, capsys: pytest.CaptureFixture[str], *line: object) -> dict[str, object]:
        code = run([*map(str, line), "--json"])
        document: dict[str, object] = json.loads(capsys.readouterr().out)
        return {"code": code, **document}

    @pytest.fixture
    def ours(self, tmp_path: Path) -> Path:
        from node.export import write_export

        export = honest_world()[0].export()
        write_export(tmp_path / "export", export)
        (tmp_path / "genesis.frame").write_bytes(export.frames[0])
        return tmp_path

    def test_our_export_is_a_log_that_verifies_under_the_key_that_vkey_prints(
        self, ours: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        vkey = self.told(capsys, "ledger", "vkey", "--genesis", ours / "genesis.frame")["vkey"]
        told = self.told(capsys, "ledger", "verify-tlog", ours / "export", "--vkey", vkey)
        assert (told["ok"], told["findings"], told["code"]) == (True, [], 0)
        flip(ours / "export/tile/entries" / next((ours / "export/tile/entries").glob("*.p")).name / str(told["size"]))
        told = self.told(capsys, "ledger", "verify-tlog", ours / "export", "--vkey", vkey)
        assert (told["ok"], told["code"]) == (False, 1)
        assert run(["ledger", "verify-tlog", str(ours / "export"), "--vkey", str(vkey)]) == 1
        assert "other-root" in capsys.readouterr().out or not told["ok"]

    def test_a_proof_file_is_checked_by_genesis_or_key_and_a_changed_one_refused(
        self, ours: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        proof = ours / "20.tlog-proof"
        told = self.told(capsys, "ledger", "prove", 20, "--export", ours / "export", "--out", proof)
        assert told["code"] == 0
        told = self.told(capsys, "ledger", "check-proof", proof, "--genesis", ours / "genesis.frame")
        assert (told["ok"], told["index"]) == (True, 20)
        assert run(["ledger", "check-proof", str(proof), "--genesis", str(ours / "genesis.frame")]) == 0
        assert "is in the log" in capsys.readouterr().out
        proof.write_bytes(proof.read_bytes().replace(b"index 20", b"index 21"))
        assert self.told(capsys, "ledger", "check-proof", proof, "--genesis", ours / "genesis.frame")["code"] == 1
        assert run(["ledger", "check-proof", str(proof)]) == 2
        capsys.readouterr()

    def test_a_foreign_proof_is_checked_too(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "5.tlog-proof"
        path.write_bytes(format_proof(prove_entry(TlogFolder(write_log(tmp_path / "log", 300)), 5)))
        told = self.told(capsys, "ledger", "check-proof", path, "--vkey", KEY.vkey())
        assert told["entry"] == {"kind": None, "bytes": 11}
        assert run(["ledger", "verify-tlog", str(tmp_path / "log"), "--vkey", KEY.vkey()]) == 0
        assert "sound" in capsys.readouterr().out

    def test_checking_needs_neither_grpc_nor_flower_nor_a_node(self, ours: Path) -> None:
        proof = ours / "1.tlog-proof"
        proof.write_bytes(format_proof(prove_entry(TlogFolder(ours / "export"), 1)))
        program = (
            "import sys; from node.cli.entry import run; code = run(sys.argv[1:]); "
            "loaded = {name.partition('.')[0] for name in sys.modules}; "
            "sys.exit(code or len({'grpc', 'flwr', 'sqlalchemy', 'duckdb'} & loaded))"
        )
        line = ["ledger", "check-proof", str(proof), "--genesis", str(ours / "genesis.frame"), "--json"]
        done = subprocess.run(
            [sys.executable, "-c", program, *line], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
