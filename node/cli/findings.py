"""How findings of an audit or of a verified log are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.cli.output import table

if TYPE_CHECKING:
    from consortium.encoding import Json


def show_findings(findings: Json) -> None:
    """A table of findings: the entry where each shows, its code, and what is wrong."""
    rows = [("-" if found["index"] is None else found["index"], found["code"], found["text"]) for found in findings]
    table("Findings", ("entry", "finding", "what is wrong"), rows, numeric=("entry",))
