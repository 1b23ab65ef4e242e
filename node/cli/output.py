"""What a command prints: exactly one JSON document under `--json`, else text and tables that fit 80 columns."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from consortium.encoding import Json

COLUMNS_MAX = 100


def emit(document: Json, show: Callable[[Json], None], *, as_json: bool) -> None:
    """Prints the document itself, or what `show` makes of it."""
    if as_json:
        sys.stdout.write(json.dumps(document, ensure_ascii=False, sort_keys=True) + "\n")
        sys.stdout.flush()
    else:
        show(document)


def plain(value: object) -> str:
    """Text that is safe on a terminal: what other members wrote must not move the cursor or change colours."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in str(value))


def say(line: str) -> None:
    """One line of text on stdout."""
    sys.stdout.write(plain(line) + "\n")


def note(line: str) -> None:
    """One line of progress on stderr."""
    sys.stderr.write(plain(line) + "\n")
    sys.stderr.flush()


def table(
    title: str, headings: Sequence[str], rows: Iterable[Sequence[object]], *, numeric: Sequence[str] = ()
) -> None:
    """A table on stdout; the columns named in `numeric` are flushed right, and long texts wrap."""
    from rich.box import SIMPLE  # noqa: PLC0415 -- rich takes 0.1 s, which --help and --json do without
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    grid = Table(title=title, title_justify="left", box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in headings:
        grid.add_column(heading, justify="right" if heading in numeric else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text("-" if cell is None else plain(cell)) for cell in row))
    console().print(grid)


def console(*, stderr: bool = False) -> Console:
    """A console of at most 100 columns; 80 where there is no terminal."""
    from rich.console import Console  # noqa: PLC0415

    found = Console(stderr=stderr, highlight=False)
    return Console(stderr=stderr, highlight=False, width=min(found.width, COLUMNS_MAX)) if found.is_terminal else found


def short(identity: str) -> str:
    """The first 12 hex digits of an id or hash, for tables."""
    return identity[:12]


def yes(value: object) -> str:
    """A truth value in a table; "-" where it is not known."""
    return "-" if value is None else "yes" if value else "no"


def grouped(amount: object) -> str:
    """Digits in groups of three: 100,000."""
    return f"{int(str(amount)):,}"
