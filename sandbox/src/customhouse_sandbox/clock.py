"""The sandbox's own time: the machine's, moved by whoever tests."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Final

_FURTHEST: Final = 100 * 366 * 86_400.0


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
            ValueError: the number is negative, or leads more than a century ahead.
        """
        if not 0 <= seconds <= _FURTHEST - self._ahead:
            raise ValueError("time runs forward only, and at most a century ahead")
        self._ahead += seconds


def rfc3339(at: float) -> str:
    """Return a moment as providers write it."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
