"""How many processes suit this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

MOST_BY_DEFAULT: Final = 4
"""Each process has caches, a pool of connections and about 100 MB: more of them is a decision."""
_QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")


def default_processes() -> int:
    """Return how many processes run where nobody has said: one per core that may be used, at most four."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota = cores_of_quota(_QUOTA.read_text("ascii"))
    except OSError:
        quota = None
    return max(1, min(usable, quota or usable, MOST_BY_DEFAULT))


def cores_of_quota(text: str) -> int | None:
    """Return the cores that a control group's `cpu.max` leaves, rounded down, at least one; None where it sets no limit.

    The form is `$MAX $PERIOD` in microseconds, or `max $PERIOD` (Linux, cgroup-v2.rst, "CPU Interface Files").
    """
    match text.split():
        case [quota, period] if quota.isdecimal() and period.isdecimal() and int(period) > 0:
            return max(1, int(quota) // int(period))
        case _:
            return None
