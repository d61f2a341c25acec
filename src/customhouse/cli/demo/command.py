"""`customhouse demo`."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from customhouse import __version__
from customhouse.canonical import dump
from customhouse.cli.demo.stage import Stage
from customhouse.cli.demo.story import tell_story
from customhouse.cli.surroundings import AsJson, quiet_logs
from customhouse.clock import SystemClock
from customhouse.errors import SettingsError
from customhouse.types import Json


def demo(
    keep: Annotated[
        Path | None, typer.Option("--keep", metavar="DIR", help="Keep the data in this folder, which must be new or empty.")
    ] = None,
    by_hand: Annotated[
        bool, typer.Option("--by-hand", help="Wait until you have pressed the buttons of the consent page yourself, in a browser.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Tell the whole story on this machine, with real parts, in under a minute.

    Starts the service on the embedded database and a customer's receiver, each as a process of its own, publishes events over HTTP and
    checks what it shows: accepted, sealed, signed, delivered, verified; forged requests refused; an outage survived; personal data held
    back; a user's Zoom account connected by consent at a stand-in, used, renewed, and cut. Exit code 1 if anything did not hold. Only
    loopback is dialled; the data is removed at the end.
    """
    if by_hand and as_json:
        raise SettingsError("--by-hand shows a link, and --json shows nothing but JSON: choose one.")
    quiet_logs()
    # A terminal that cannot show a tick shows a question mark instead of ending the story.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    stage = Stage(silent=as_json)
    clock = SystemClock()
    started = clock.monotonic()
    with _folder(keep) as folder:
        asyncio.run(tell_story(stage, folder, by_hand=by_hand))
    seconds = clock.monotonic() - started
    if as_json:
        sys.stdout.write(f"{dump(_summary(stage, seconds)).decode()}\n")
    else:
        _close(stage, seconds, keep)
    if not stage.all_held:
        raise typer.Exit(1)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="customhouse-demo-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
        return
    try:
        keep.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(keep.iterdir()):
            raise SettingsError(f"{keep} is not empty: give a new folder to --keep.")
    except OSError as error:
        raise SettingsError(f"{keep} cannot be used ({error.strerror}).") from error
    yield keep.resolve()


def _summary(stage: Stage, seconds: float) -> Json:
    claims: list[Json] = [{"chapter": one.chapter, "claim": one.sentence, "held": one.held} for one in stage.claims]
    return {"version": __version__, "held": stage.all_held, "seconds": round(seconds, 1), "claims": claims}


def _close(stage: Stage, seconds: float, keep: Path | None) -> None:
    failed = [claim for claim in stage.claims if not claim.held]
    chapters: dict[str, list[bool]] = {}
    for claim in stage.claims:
        chapters.setdefault(claim.chapter, []).append(claim.held)
    lines = [f"{stage.mark(holds=all(held))} {chapter} ({sum(held)} of {len(held)})" for chapter, held in chapters.items()]
    if failed:
        lines += ["", "Did not hold:", *[f"{stage.mark(holds=False)} {claim.chapter}: {claim.sentence}" for claim in failed]]
    title = f"{len(stage.claims) - len(failed)} of {len(stage.claims)} claims held, in {seconds:.0f} s"
    stage.panel(title, lines, good=not failed)
    stage.commands("Try next", _next(keep))


def _next(keep: Path | None) -> list[str]:
    ours = _as_typed()
    again = [] if keep is None else [f"CUSTOMHOUSE_DATA_DIR={shlex.quote(str(keep.resolve() / 'data'))} {ours} up   # this story's data"]
    return [
        f"{ours} up              # the service on this machine; its API: http://127.0.0.1:8300/docs",
        f"{ours} demo --by-hand  # the same story, with you at the consent page",
        f"{ours} doctor --dev    # is everything in order here?",
        f"{ours} --help          # everything else",
        *again,
        "Then read docs/tutorial/first-event.md: from nothing to a verified delivery, step by step.",
    ]


def _as_typed() -> str:
    """Return the program as the user called it, so that a copied line runs."""
    program = sys.argv[0]
    if Path(program).name != "customhouse":
        return "customhouse"
    found = shutil.which("customhouse")
    return "customhouse" if found is not None and Path(found) == Path(program).absolute() and "/" not in program else shlex.quote(program)
