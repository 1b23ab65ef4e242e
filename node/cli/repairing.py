"""Mending a node's damaged, lost or older copy of the log."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from node.cli.entry import ledger_app
from node.cli.options import HOME, AsJson, Home
from node.cli.output import emit, grouped, note, say

if TYPE_CHECKING:
    from consortium.encoding import Json


@ledger_app.command("repair")
def repair(home: Home = HOME, as_json: AsJson = False) -> None:
    """Refill a stopped node's log from what the other members verified; the damaged file is kept."""
    from node.app.repair import repair as repair_node  # noqa: PLC0415 -- only what a command needs

    emit(asyncio.run(repair_node(home, note)), _show, as_json=as_json)


def _show(document: Json) -> None:
    say(f"The log holds {grouped(document['size'])} entries and has the root {document['root']}.")
    if document["role"] == "coordinator":
        say(f"{document['heard']} members were heard. The witnesses cosign its head again when the node starts.")
    if document["behind"]:
        say(f"{document['behind']} entries are gone that no witness had seen; they were never acknowledged.")
    if document["damaged"]:
        say(f"The damaged file is kept as {document['damaged']}.")
    if document["lost"]:
        say(f"Lost with it: {', '.join(document['lost'])}. Open invitations must be written anew.")
