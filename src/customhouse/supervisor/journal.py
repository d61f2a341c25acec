"""The parent's own log lines: the form of `customhouse.logs` without its weight.

A line holds a constant name and numbers, nothing else can be given: so there is nothing that could be a value of anybody.
"""

from __future__ import annotations

import sys
from typing import Final, Literal, TextIO

from customhouse.canonical import dump
from customhouse.clock import Clock, rfc3339

Level = Literal["info", "warning", "error"]
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_LOGGER: Final = "customhouse.supervisor"


class Journal:
    """Writes lines; it never raises, since a line must not end a service."""

    def __init__(self, clock: Clock, least: str, stream: TextIO | None = None) -> None:
        """Take the clock, the least level that is written (`debug` … `error`), and where to (None: standard output)."""
        self._clock = clock
        self._least = _LEVELS[least]
        self._stream = stream if stream is not None else sys.stdout

    def say(self, level: Level, event: str, **numbers: int) -> None:
        """Write one line: JSON, or for a terminal the same in words. The numbers are fields of `customhouse.logs`."""
        if _LEVELS[level] < self._least:
            return
        stamp = rfc3339(self._clock.now())
        try:
            if self._stream.isatty():
                told = "".join(f" {name}={number}" for name, number in numbers.items())
                text = f"{stamp} [{level:<8}] {event}{told}"
            else:
                text = dump({"timestamp": stamp, "level": level, "event": event, "logger": _LOGGER, **numbers}).decode()
            self._stream.write(text + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            return
