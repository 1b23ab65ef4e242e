"""Why an entry has no effect: a stable code for machines and a sentence for people."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """An entry is void for this reason."""

    code: str
    text: str
