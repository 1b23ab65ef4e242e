"""Moving a node's store between SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli.entry import ledger_app
from node.cli.options import AsJson
from node.cli.output import emit, grouped, note, say

if TYPE_CHECKING:
    from consortium.encoding import Json

SQLITE = "sqlite"
_STEP = 10_000


@ledger_app.command("copy")
def copy(
    source: Annotated[Path, typer.Option("--from", help="Folder of the stopped node whose store is copied.")],
    target: Annotated[
        str, typer.Option("--to", help=f'Empty database: postgresql+psycopg://..., or "{SQLITE}" for back.')
    ],
    as_json: AsJson = False,
) -> None:
    """Copy a stopped node's whole store from SQLite to PostgreSQL or back, and compare every row of it."""
    # The database packages take half a second, which other commands do without.
    from node.config import node_home, read_config  # noqa: PLC0415
    from node.store.copying import copy_store  # noqa: PLC0415

    config = read_config(node_home(source))
    url = "" if target == SQLITE else target
    copied = asyncio.run(copy_store(config.home.database, config.database, url, _show_progress))
    document: Json = {
        "from": copied.source,
        "to": copied.target,
        "rows": copied.rows,
        "size": copied.head.size,
        "root": copied.head.root.hex(),
        "config": str(config.home.config_file),
    }
    emit(document, _show, as_json=as_json)


def _show_progress(table: str, done: int, count: int) -> None:
    if done == count or done % _STEP == 0:
        note(f"{table}: {grouped(done)} of {grouped(count)}")


def _show(document: Json) -> None:
    say(f"Copied and compared: {grouped(sum(document['rows'].values()))} rows.")
    say(f"The log has {grouped(document['size'])} entries and the root {document['root']}.")
    if document["to"].startswith("postgresql"):
        say(f'To use it, write into {document["config"]}, above [addresses]: database = "{document["to"]}"')
    else:
        say(f"To use it, take the line that begins with database out of {document['config']}.")
    say("Then start the node, and move the old copy away once it runs.")
