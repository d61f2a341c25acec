"""The sandbox's own time: the machine's, moved by whoever tests."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class Clock:
    """Tells the time of one sandbox."""

    def __init__(self) -> None:
        """Begin with the machine's time."""
        self._ahead = 0.0

    def now(self) -> float:
        """Return seconds since 1970."""
        return time.time() + self._ahead

    def advance(self, seconds: float) -> None:
        """Let time pass; it never runs backwards.

        Raises:
            ValueError: the number is negative.
        """
        if not seconds >= 0:
            raise ValueError("time runs forward only")
        self._ahead += seconds


def rfc3339(at: float) -> str:
    """Return a moment as providers write it."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
