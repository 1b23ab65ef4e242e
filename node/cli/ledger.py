"""The ledger: reading, exporting and proving it; verifying any tlog-tiles log and proofs of single entries."""

from __future__ import annotations

import tempfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli import control
from node.cli.documents import read_bytes, write_new
from node.cli.entry import ledger_app
from node.cli.findings import show_findings
from node.cli.options import HOME, AsJson, Home
from node.cli.output import emit, say, table

if TYPE_CHECKING:
    from consortium.encoding import Json
    from consortium.ledger.checkpoint import NoteKey

GENESIS_BYTES_MAX = 1 << 20
COLUMNS = 80
Vkey = Annotated[str | None, typer.Option(help="Verifier key of the log: name+hex+base64.", show_default=False)]
Genesis = Annotated[
    Path | None, typer.Option(help="Genesis file of a consortium, which names its log's key.", show_default=False)
]


@ledger_app.command("list")
def list_entries(
    start: Annotated[int, typer.Option(min=0, help="Index of the first entry.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Number of entries.")] = 100,
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """List entries of the ledger."""
    emit(control.ask(home, lambda node: node.list_entries(start, limit)), _show_entries, as_json=as_json)


@ledger_app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="New folder for the export.")],
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Export the ledger and the transcripts of its sums, for an auditor."""
    emit(control.ask(home, lambda node: node.export_ledger(folder.absolute())), _show_export, as_json=as_json)


@ledger_app.command()
def checkpoint(
    path: Annotated[Path, typer.Argument(help="New file for the checkpoint.")],
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Save the checkpoint that this node last verified; keep it where the coordinator cannot reach it."""
    document = control.ask(home, lambda node: node.save_checkpoint(path.absolute()))
    emit(document, lambda told: say(f"Checkpoint of {told['size']} entries in {told['path']}."), as_json=as_json)


@ledger_app.command()
def vkey(genesis: Genesis = None, home: Home = HOME, as_json: AsJson = False) -> None:
    """Print the verifier key of the consortium's log, for C2SP tools."""
    key = _key_of_genesis(genesis or home.expanduser().absolute() / "genesis.frame")
    emit({"vkey": key.vkey(), "origin": key.name}, lambda told: say(told["vkey"]), as_json=as_json)


@ledger_app.command("verify-tlog")
def verify_tlog(
    folder: Annotated[Path, typer.Argument(help="Folder of a C2SP tlog-tiles log, of this consortium or any other.")],
    vkey: Annotated[str, typer.Option(help="Verifier key of the log: name+hex+base64.")],
    origin: Annotated[str | None, typer.Option(help="First line of its checkpoint, if not the key's name.")] = None,
    as_json: AsJson = False,
) -> None:
    """Verify a whole tlog-tiles log: signature, every entry, every tile. Exit code 1 if anything is wrong."""
    from consortium.ledger.checkpoint import NoteKey  # noqa: PLC0415 -- --help does without
    from node.audit import tlog  # noqa: PLC0415
    from node.cli.progress import counting  # noqa: PLC0415

    key = NoteKey.parse(vkey)
    files = tlog.TlogFolder(folder)
    with counting("entries", quiet=as_json) as advance:
        report = tlog.verify_tlog(files, key, origin or key.name, advance)
    document = {
        "ok": not report.findings,
        "origin": report.checkpoint.origin,
        "size": report.checkpoint.size,
        "root": report.checkpoint.root.hex(),
        "bytes": report.data_bytes,
        "signatures": report.signatures,
        "findings": [{"code": found.code, "index": found.index, "text": found.text} for found in report.findings],
    }
    emit(document, _show_tlog, as_json=as_json)
    if report.findings:
        raise typer.Exit(1)


@ledger_app.command()
def prove(
    index: Annotated[int, typer.Argument(min=0, help="Index of the entry.")],
    out: Annotated[Path, typer.Option(help="New file for the proof (.tlog-proof).")],
    export: Annotated[
        Path | None, typer.Option(help="Folder of an export to prove from, instead of the running node.")
    ] = None,
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Write the proof that an entry is in the ledger, as a file that needs nothing else."""
    if export is not None:
        _write_proof(export, index, out, as_json=as_json)
        return
    with tempfile.TemporaryDirectory(prefix="consortium-proof-") as made:
        folder = Path(made) / "export"
        control.ask(home, lambda node: node.export_ledger(folder))
        _write_proof(folder, index, out, as_json=as_json)


@ledger_app.command("check-proof")
def check_proof(
    path: Annotated[Path, typer.Argument(help="Proof file (C2SP tlog-proof).")],
    vkey: Vkey = None,
    genesis: Genesis = None,
    entry: Annotated[Path | None, typer.Option(help="The entry's bytes, if the proof does not hold them.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check the proof of an entry offline, against the log's verifier key or a consortium's genesis."""
    from consortium.ledger import proof as proofs  # noqa: PLC0415
    from consortium.ledger.checkpoint import NoteKey, parse_note  # noqa: PLC0415
    from consortium.ledger.merkle import leaf_hash  # noqa: PLC0415

    if (vkey is None) == (genesis is None):
        raise typer.BadParameter("Name the log's key: either --vkey or --genesis.")
    key = _key_of_genesis(genesis) if genesis is not None else NoteKey.parse(str(vkey))
    proof = proofs.parse_proof(read_bytes(path, proofs.PROOF_BYTES_MAX))
    data = None if entry is None else read_bytes(entry, proofs.EXTRA_BYTES_MAX)
    found = proofs.check_proof(proof, [key], data)
    document = {
        "ok": True,
        "origin": found.origin,
        "index": proof.index,
        "size": found.size,
        "root": found.root.hex(),
        "leaf": leaf_hash(data if data is not None else proof.extra or b"").hex(),
        "signatures": len(parse_note(proof.checkpoint).signatures),
        "entry": _entry_document(data if data is not None else proof.extra or b""),
    }
    emit(document, _show_proof, as_json=as_json)


def _key_of_genesis(path: Path) -> NoteKey:
    from consortium.errors import EntryError  # noqa: PLC0415
    from consortium.ledger.checkpoint import NoteKey  # noqa: PLC0415
    from consortium.ledger.entry import read_entry  # noqa: PLC0415

    founding = read_entry(read_bytes(path, GENESIS_BYTES_MAX))
    if founding.kind != "genesis":
        raise EntryError(
            "The file is not a genesis.", where=str(path), mend="Name the genesis that members were given."
        )
    return NoteKey(founding.body["origin"], bytes.fromhex(founding.body["coordinator"]["public_key"]))


def _write_proof(folder: Path, index: int, out: Path, *, as_json: bool) -> None:
    from consortium.ledger.proof import format_proof  # noqa: PLC0415
    from node.audit.tlog import TlogFolder, prove_entry  # noqa: PLC0415

    proof = prove_entry(TlogFolder(folder), index)
    write_new(out, format_proof(proof))
    document = {"path": str(out), "index": index, "hashes": len(proof.hashes)}
    emit(document, lambda told: say(f"Proof of entry {index} in {told['path']}."), as_json=as_json)


def _entry_document(data: bytes) -> Json:
    """What the entry says, if it is one of a consortium's; a foreign log's entry is only counted."""
    from consortium.errors import ConsortiumError  # noqa: PLC0415
    from consortium.ledger.entry import read_entry  # noqa: PLC0415

    try:
        entry = read_entry(data)
    except ConsortiumError:
        return {"kind": None, "bytes": len(data)}
    return {"kind": entry.kind, "author": entry.author.hex(), "body": entry.body, "bytes": len(data)}


def _show_tlog(document: Json) -> None:
    say(f"Log {document['origin']}: {document['size']} entries, {document['bytes']} bytes.")
    say(f"Root {document['root']}, {document['signatures']} signatures.")
    if document["ok"]:
        say("The log is sound: signature, entries and tiles agree.")
        return
    show_findings(document["findings"])


def _show_proof(document: Json) -> None:
    say(f"Entry {document['index']} is in the log {document['origin']} of {document['size']} entries.")
    say(f"Root {document['root']}, {document['signatures']} signatures; leaf {document['leaf']}.")
    entry = document["entry"]
    kind = "of another log" if entry["kind"] is None else f"of kind '{entry['kind']}' by {entry['author']}"
    say(f"It has {entry['bytes']} bytes and is {kind}.")


def _show_export(told: Json) -> None:
    say(f"{told['size']} entries and {told['transcripts']} transcripts in {told['folder']}.")
    if told["transcripts_elsewhere"]:
        missing = f"The transcripts of {told['transcripts_elsewhere']} sums are at the coordinator. Before an audit,"
        advice = "copy the folder 'transcripts' of its export into this one: each is checked against its entry."
        say(textwrap.fill(f"{missing} {advice}", COLUMNS))


def _show_entries(document: Json) -> None:
    rows = [
        (
            entry["index"],
            f"{entry['kind']}{' (void)' if entry['void'] else ''}",
            entry["legal_name"],
            entry["summary"],
        )
        for entry in document["entries"]
    ]
    table(f"Ledger of {document['size']} entries", ("entry", "kind", "by", "says"), rows, numeric=("entry",))
