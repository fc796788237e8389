"""What the demo shows on the terminal: chapters, commands with what they say, progress drawn over, tables."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

LINE_EVERY_S: Final = 5.0
"""Seconds between lines of progress where there is no terminal to draw over."""
REDRAWS_PER_S: Final = 4
_BAR: Final = 24  # characters


class Busy:
    """Told how far something is."""

    def __init__(self, console: Console, progress: Progress, task: TaskID) -> None:
        self._console = console
        self._progress = progress
        self._task = task
        self._said_at = time.monotonic()
        self._said = ""

    def tell(self, text: str, done: float | None = None, total: float | None = None) -> None:
        """Show the text, and the share that is done where there is one."""
        self._progress.update(self._task, description=text, completed=done or 0, total=total)
        waited = time.monotonic() - self._said_at >= LINE_EVERY_S
        if waited and text != self._said and not self._console.is_terminal:
            self._said_at, self._said = time.monotonic(), text
            self._console.print(Text(f"  … {text}"), soft_wrap=True)


class Terminal:
    """Writes to standard output, unless given another console."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)

    def chapter(self, number: int, title: str, meaning: str) -> None:
        """Begin a chapter."""
        self._console.print()
        self._console.rule(Text(f"{number}. {title}", style="bold"), align="left")
        self._console.print(Text(meaning), soft_wrap=False)

    def command(self, words: str) -> None:
        """A command that begins."""
        self._console.print(Text(f"$ {words}", style="cyan"), soft_wrap=True)

    def say(self, text: str = "", style: str = "") -> None:
        """Lines of our own or of a command."""
        for line in text.splitlines() or [""]:
            self._console.print(Text(f"  {line}" if line else "", style=style), soft_wrap=True)

    def ended(self, seconds: float) -> None:
        """A chapter is through."""
        self._console.print(Text(f"  {seconds:.0f} s", style="dim"))

    def table(self, title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table whose first column names the rows; the others are figures."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for place, heading in enumerate(headings):
            table.add_column(Text(heading), justify="right" if place else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        self._console.print(Text(f"\n  {title}", style="bold"))
        self._console.print(Padding(table, (0, 0, 0, 2)))

    @contextmanager
    def busy(self, text: str) -> Iterator[Busy]:
        """Something that takes its time: on a terminal a line with the seconds, drawn over and gone at the end."""
        progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=_BAR),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            refresh_per_second=REDRAWS_PER_S,
            disable=not self._console.is_terminal,
        )
        with progress:
            yield Busy(self._console, progress, progress.add_task(text, total=None))
