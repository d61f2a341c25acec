"""When a failed delivery is tried again. Pure: numbers in, a decision out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

HOUR: Final = 3600.0
SCHEDULE: Final = (5.0, 30.0, 120.0, 600.0, HOUR, 4 * HOUR, 12 * HOUR, 24 * HOUR)
"""Seconds before the second, third … attempt, where `RETRY_SCHEDULE` says nothing else."""
JITTER: Final = 0.2
"""A wait is drawn from ±20 % of its step, so that what failed together does not come back together."""
LONGEST_WAIT: Final = 24 * HOUR
"""A receiver's Retry-After counts up to here."""

_GONE: Final = 410
GONE: Final = "gone"
"""The reason of a delivery whose endpoint does not want any (410, RFC 9110 §15.5.11): the connection is disabled."""
_SUCCESS: Final = range(200, 300)


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver took it."""


@dataclass(frozen=True, slots=True)
class RetryIn:
    """Try again after `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """It will not be tried again."""

    reason: str


Decision: TypeAlias = Delivered | RetryIn | GiveUp


def decide(
    *,
    status_code: int | None,
    retry_after: int | None,
    attempts_made: int,
    life_left: float,
    draw: float,
    schedule: tuple[float, ...] = SCHEDULE,
) -> Decision:
    """Judge one attempt.

    Args:
        status_code: what the receiver answered; None when it did not (a refused address too: DNS may be repaired). An answer whose body
            did not end well is still an answer.
        retry_after: seconds that the receiver asks to wait, or None.
        attempts_made: this attempt included.
        life_left: seconds until the delivery's own end.
        draw: a random number in [0, 1).
        schedule: seconds before each further attempt.
    """
    if status_code is not None and status_code in _SUCCESS:
        return Delivered()
    if status_code == _GONE:
        return GiveUp(GONE)
    if attempts_made > len(schedule):
        return GiveUp("attempts_exhausted")
    wait = schedule[attempts_made - 1] * (1 - JITTER + 2 * JITTER * draw)
    if retry_after is not None:
        wait = max(wait, min(float(retry_after), LONGEST_WAIT))
    if wait >= life_left:
        return GiveUp("life_exhausted")
    return RetryIn(wait)
