"""Where the story is shown: rich on a terminal, plain lines elsewhere; and the list of what was claimed and whether it held."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.rule import Rule
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence that the story states, and whether it was found true."""

    chapter: str
    sentence: str
    held: bool


class Counters:
    """Counts that grow while people watch."""

    def __init__(self, progress: Progress | None, total: int, names: Sequence[str]) -> None:
        """Take the bars; None where nobody watches."""
        self._progress = progress
        self._tasks = {} if progress is None else {name: progress.add_task(name, total=total) for name in names}

    def show(self, name: str, count: int) -> None:
        """Move one of them."""
        if self._progress is not None:
            self._progress.update(self._tasks[name], completed=count)


class Stage:
    """Tells the story and keeps the claims."""

    def __init__(self, stream: TextIO | None = None, *, silent: bool = False) -> None:
        """Take where to show it; the terminal, `NO_COLOR` and `TERM` decide how.

        Args:
            stream: standard output unless given.
            silent: show nothing, keep the claims.
        """
        self._stream = stream or sys.stdout
        self._console = Console(file=self._stream, highlight=False, quiet=silent)
        self.plain = not self._console.is_terminal or self._console.no_color or self._console.is_dumb_terminal
        self._silent = silent
        self._chapter = ""
        self.claims: list[Claim] = []

    def chapter(self, title: str) -> None:
        """Begin a chapter."""
        self._chapter = title
        if self.plain:
            self._line(f"\n== {title}")
        else:
            self._console.print()
            self._console.print(Rule(Text(title, style="bold cyan"), align="left", style="cyan"))

    def say(self, text: str) -> None:
        """Tell something."""
        if self.plain:
            self._line(f"   {text}")
        else:
            self._console.print(Text(f"    {text}", style="dim"))

    def claim(self, sentence: str, holds: bool) -> bool:
        """State something that was checked; returns whether it held."""
        self.claims.append(Claim(self._chapter, sentence, holds))
        if self.plain:
            self._line(f"   {self.mark(holds=holds)} {sentence}")
        else:
            mark = (f"  {self.mark(holds=holds)} ", "bold green" if holds else "bold red")
            self._console.print(Text.assemble(mark, sentence if holds else (sentence, "red")))
        return holds

    def mark(self, *, holds: bool) -> str:
        """Return what stands before a claim."""
        if self.plain:
            return "ok " if holds else "NOT"
        return "✓" if holds else "✗"

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show rows."""
        if self.plain:
            widths = [max(len(row[place]) for row in (columns, *rows)) for place in range(len(columns))]
            for row in (columns, *rows):
                self._line("     " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
            return
        shown = Table(*columns, header_style="bold", border_style="bright_black", expand=False)
        for row in rows:
            shown.add_row(*[Text(cell) for cell in row])
        self._console.print(Padding(shown, (0, 0, 0, 4), expand=False))

    @contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Say what takes a moment, while it does."""
        if self.plain:
            self._line(f"   {text} ...")
            yield
            return
        with self._console.status(Text(text)):
            yield

    @contextmanager
    def counting(self, total: int, names: Sequence[str]) -> Iterator[Counters]:
        """Show bars on a terminal."""
        if self.plain or self._silent:
            yield Counters(None, total, names)
            return
        columns = (SpinnerColumn(), TextColumn("{task.description:<10}"), BarColumn(32), MofNCompleteColumn())
        with Progress(*columns, console=self._console) as progress:
            yield Counters(progress, total, names)

    def panel(self, title: str, lines: Sequence[str], *, good: bool) -> None:
        """Show how it ended."""
        if self.plain:
            self._line(f"\n== {title}")
            for line in lines:
                self._line(f"   {line}".rstrip())
            return
        style = "green" if good else "red"
        self._console.print()
        self._console.print(Panel(Text("\n".join(lines)), title=Text(title, style=f"bold {style}"), title_align="left", border_style=style))

    def commands(self, title: str, lines: Sequence[str]) -> None:
        """Show lines to be copied: nothing stands around them."""
        self.chapter(title)
        for line in lines:
            if self.plain:
                self._line(f"   {line}")
            else:
                self._console.print(Text(f"  {line}"), soft_wrap=True)

    @property
    def all_held(self) -> bool:
        """Whether each claim held, and there was one."""
        return bool(self.claims) and all(claim.held for claim in self.claims)

    def _line(self, text: str) -> None:
        if not self._silent:
            self._stream.write(f"{text}\n")
            self._stream.flush()


def masked(secret: str) -> str:
    """Return what may be shown of a secret: what kind it is, and enough to tell two apart."""
    kind, mark, rest = secret.partition("_")
    return f"{kind}{mark}{rest[:4]}…" if mark else "…"
