"""`doctor`: looks at every part and says what to do."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from customhouse import config
from customhouse.cli import checkup
from customhouse.cli.checkup import Finding, Verdict
from customhouse.cli.surroundings import AsJson, Dev, quiet_logs, say_json, settings
from customhouse.clock import SystemClock
from customhouse.types import Json

_STYLES: Final = {Verdict.OK: "green", Verdict.NOTE: "yellow", Verdict.WRONG: "red"}


def doctor(dev: Dev = False, as_json: AsJson = False) -> None:
    """Look at every part and say what to do.

    Python, settings, data folder, key service, PostgreSQL and its migrations, clocks, ports, what is exposed. Changes nothing. Exit
    code 1 if anything is wrong; a note is not.
    """
    quiet_logs()
    findings = asyncio.run(examine(dev=dev))
    if as_json:
        listed: list[Json] = [{"part": one.part, "verdict": one.verdict, "detail": one.detail, "advice": one.advice} for one in findings]
        say_json({"in_order": _in_order(findings), "findings": listed})
    else:
        _show(findings)
    if not _in_order(findings):
        raise typer.Exit(1)


async def examine(*, dev: bool) -> list[Finding]:
    """Look at this process's surroundings; with settings that are not in order, the rest cannot be looked at."""
    clock = SystemClock()
    found = [checkup.check_python(), checkup.check_clock(clock), checkup.check_open_files()]
    problems = config.problems_of_environment(config.DEV_DEFAULTS if dev else None)
    if problems:
        found += [Finding("settings", Verdict.WRONG, problem.name, problem.detail) for problem in problems]
        if not dev and config.PREFIX + "ENVIRONMENT" not in {problem.name for problem in problems}:
            found.append(
                Finding("settings", Verdict.NOTE, "looked at as `prod`", "For what `customhouse up` runs: customhouse doctor --dev")
            )
        return found
    chosen = settings(dev=dev)
    return [*found, Finding("settings", Verdict.OK, f"in order, for `{chosen.environment}`"), *await checkup.check_all(chosen, clock)]


def _in_order(findings: Sequence[Finding]) -> bool:
    return all(one.verdict is not Verdict.WRONG for one in findings)


def _show(findings: Sequence[Finding]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        for one in findings:
            sys.stdout.write(f"{one.verdict:<6}{one.part:<16}{one.detail}\n")
            if one.advice:
                sys.stdout.write(f"{'':<22}→ {one.advice}\n")
    else:
        table = Table("", "part", "what was found", box=None, pad_edge=False)
        for one in findings:
            told = Text(one.detail)
            if one.advice:
                told.append(f"\n→ {one.advice}", style="bold")
            table.add_row(Text(one.verdict, style=_STYLES[one.verdict]), one.part, told)
        console.print(table)
    wrong = sum(one.verdict is Verdict.WRONG for one in findings)
    sys.stdout.write(
        "\nEverything is in order.\n" if not wrong else f"\n{wrong} {'thing is' if wrong == 1 else 'things are'} not in order.\n"
    )
