"""The command line as a user runs it: in a process of its own, with settings of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from customhouse.canonical import parse_object

PROGRAM = [sys.executable, "-m", "customhouse.cli"]


def surroundings(settings: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with these settings of ours and no other; names without the prefix."""
    ours = {
        name: value for name, value in os.environ.items() if not name.startswith("CUSTOMHOUSE_") and name not in {"NO_COLOR", "FORCE_COLOR"}
    }
    return ours | {f"CUSTOMHOUSE_{name}": value for name, value in settings.items()}


def call(*arguments: str, settings: Mapping[str, str] | None = None, within: float = 90) -> subprocess.CompletedProcess[str]:
    """Run one command to its end, without a terminal."""
    return subprocess.run(
        [*PROGRAM, *arguments],
        env=surroundings(settings or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
    )


@contextmanager
def running(command: str, log: Path, settings: Mapping[str, str], *, within: float = 60) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run `up` or `serve` for the length of a block; yields the process and the port on which it listens."""
    with log.open("wb") as output:
        process = subprocess.Popen([*PROGRAM, command], env=surroundings(settings), stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield process, _await_port(process, log, within)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(within)


def _await_port(process: subprocess.Popen[bytes], log: Path, within: float) -> int:
    end = time.monotonic() + within
    while time.monotonic() < end and process.poll() is None:
        for line in log.read_bytes().splitlines():
            if b'"listening"' in line:
                return int(parse_object(line)["port"])  # type: ignore[arg-type]
        time.sleep(0.02)
    raise AssertionError(f"not listening: {log.read_text()}")


def processes_of(folder: Path) -> list[psutil.Process]:
    """Return what runs in a folder: PostgreSQL and its guard do."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder):
                found.append(process)
        except psutil.Error:
            continue
    return found
