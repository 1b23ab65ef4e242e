"""Writes the forged exports beside the sound one."""

from __future__ import annotations

from pathlib import Path

from node.config import node_home
from node.demo.forge import Forger, Forgery
from node.export import read_export, write_export
from node.identity import load_ledger_key


def forge_all(export: Path, coordinator: Path, colluder: Path, out: Path) -> list[tuple[Forgery, Path]]:
    """Every forgery of a sound export, with the folder it was written to.

    Args:
        coordinator: home of the node whose key forges.
        colluder: home of the member whose key helps it once.
        out: new folder.
    """
    keys = [load_ledger_key(node_home(home).ledger_key) for home in (coordinator, colluder)]
    out.mkdir()
    forged = []
    for number, forgery in enumerate(Forger(*keys).forgeries(read_export(export)), start=1):
        folder = out / f"{number}-{forgery.name.replace(' ', '-')}"
        write_export(folder, forgery.export)
        forged.append((forgery, folder))
    return forged
