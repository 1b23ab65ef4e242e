"""What a file of evidence proves, for `consortium audit --evidence`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from node.cli.documents import read_bytes
from node.cli.output import emit, say

if TYPE_CHECKING:
    from consortium.encoding import Json


def check_evidence(path: Path, genesis: bytes | None, *, as_json: bool) -> bool:
    """Prints what the file proves, and says whether it proves anything."""
    from consortium.evidence import EVIDENCE_BYTES_MAX, verify_evidence  # noqa: PLC0415 -- --help does without

    report = verify_evidence(read_bytes(path, EVIDENCE_BYTES_MAX), genesis)
    document = {
        "kind": report.kind,
        "proved": report.proved,
        "text": report.text,
        "says": report.says,
        "member": report.member.hex(),
        "consortium": report.consortium.hex(),
        "genesis_given": genesis is not None,
    }
    emit(document, _show, as_json=as_json)
    return report.proved


def _show(document: Json) -> None:
    say(f"Evidence of kind '{document['kind']}', signed by member {document['member']}.")
    say(f"The member says: {document['says']}")
    say(("Proved: " if document["proved"] else "") + document["text"])
    if not document["genesis_given"]:
        say(f"Compare the consortium's genesis with yours, or give --genesis: {document['consortium']}")
