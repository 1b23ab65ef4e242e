"""Options that many commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Home = Annotated[
    Path,
    typer.Option("--home", envvar="CONSORTIUM_HOME", help="Folder of the node (0700).", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]

HOME = Path("~/.consortium").expanduser()
