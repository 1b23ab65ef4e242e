"""Live progress of the demonstration on stderr."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

STEPS = 8
TEXT_MAX = 44


class Screen(Protocol):
    """Where the steps tell what they do."""

    def begin(self, number: int, title: str) -> None:
        """A step begins."""
        ...

    def tell(self, text: str) -> None:
        """Something happens within it."""
        ...

    def end(self, wall_s: float, peak_mb: float) -> None:
        """It is done."""
        ...


class Lines:
    """Plain lines, for where there is no terminal."""

    def __init__(self) -> None:
        self._number = 0
        self._last = ""

    def begin(self, number: int, title: str) -> None:
        self._number = number
        self._write(f"[{number}/{STEPS}] {title}")

    def tell(self, text: str) -> None:
        if text != self._last:
            self._last = text
            self._write(f"[{self._number}/{STEPS}]   {text}")

    def end(self, wall_s: float, peak_mb: float) -> None:
        self._write(f"[{self._number}/{STEPS}]   done in {wall_s:.1f} s, peak {peak_mb:,.0f} MB")

    def _write(self, line: str) -> None:
        sys.stderr.write("".join(letter if letter.isprintable() else "?" for letter in line) + "\n")
        sys.stderr.flush()


class Live:
    """One spinning row for each step, with its clock and what happens in it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None
        self._title = ""

    def begin(self, number: int, title: str) -> None:
        from rich.markup import escape  # noqa: PLC0415

        self._title = f"{number} {escape(title)}"
        self._task = self._progress.add_task(self._title, total=1, text="")

    def tell(self, text: str) -> None:
        from rich.markup import escape  # noqa: PLC0415

        assert self._task is not None
        self._progress.update(self._task, text=escape(text[:TEXT_MAX]))

    def end(self, wall_s: float, peak_mb: float) -> None:
        assert self._task is not None
        self._progress.update(self._task, completed=1, text=f"{wall_s:.1f} s, peak {peak_mb:,.0f} MB")


def live_progress() -> Progress | None:
    """A rich progress display on stderr, or None where stderr is no terminal."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        return None
    columns = (
        SpinnerColumn(finished_text="[green]✓[/green]"),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[text]}[/dim]"),
    )
    return Progress(*columns, console=console)
