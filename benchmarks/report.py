"""What every long run has in common: its options, its progress bar, its JSON, its exit code."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from customhouse.canonical import dump
from customhouse.errors import CustomhouseError

_WIDTH = 160
Step = Callable[..., None]
"""`step("words")` says what happens now; `step("words", done=…, total=…)` moves the bar too."""


class RunFailed(CustomhouseError):
    """A part of the run did not start or did not answer, so there is nothing to measure."""

    code = "bench_failed"


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with `--json` and `--output`."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", action="store_true", help="print JSON")
    made.add_argument("--output", type=Path, help="also write the JSON to this file")
    return made


@contextmanager
def progress() -> Iterator[Step]:
    """Show a bar on standard error where that is a terminal."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def step(words: str, *, done: float | None = None, total: float | None = None) -> None:
            bar.update(task, description=words, completed=done, total=total)

        yield step


def machine() -> dict[str, Any]:
    """Return what the figures were measured on: processor, memory, versions, the date."""
    model = "unknown"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    load = os.getloadavg()[0]
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(memory / 1e9, 1),
        "python": platform.python_version(),
        "load_before": round(load, 2),
        "date": datetime.now(UTC).date().isoformat(),
    }


def show(title: str, rows: Sequence[Sequence[str]], head: Sequence[str]) -> None:
    """Print a table."""
    table = Table(title=title, title_justify="left")
    for place, name in enumerate(head):
        table.add_column(name, justify="left" if place == 0 else "right")
    for row in rows:
        table.add_row(*row)
    # Where nobody looks, in a file or a log, a table needs its width too.
    console = Console()
    Console(width=console.width if console.is_terminal else _WIDTH).print(table)


def finish(result: dict[str, Any], options: argparse.Namespace, view: Callable[[dict[str, Any]], None]) -> int:
    """Print and keep a result whose `holds` says whether everything is as it must be; return the exit code."""
    text = dump(result).decode()
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text + "\n", encoding="utf-8")
    if options.json:
        print(text)
    else:
        view(result)
    for words in result["broken"]:
        print(f"does not hold: {words}", file=sys.stderr)
    return 0 if result["holds"] else 1


def verdict(checks: dict[str, bool]) -> dict[str, Any]:
    """Return `holds` and the sentences that do not: for a result."""
    broken = [words for words, holds in checks.items() if not holds]
    return {"holds": not broken, "broken": broken, "checked": list(checks)}


def run(make: Callable[[Step], Awaitable[dict[str, Any]]], options: argparse.Namespace, view: Callable[[dict[str, Any]], None]) -> int:
    """Run to the end and report; a run that could not be made is a failure with a sentence, not a traceback."""

    async def made(step: Step) -> dict[str, Any]:
        return await make(step)

    before = machine()
    try:
        with progress() as step, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            result = runner.run(made(step))
    except CustomhouseError as error:
        print(f"{type(error).__name__}: {error.detail}", file=sys.stderr)
        return 1
    return finish({"machine": before, **result}, options, view)
