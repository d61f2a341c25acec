"""A rate that holds: so many calls in so many seconds, counted as the provider counts them."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class Limit:
    """A sliding window for each of those who are counted apart."""

    calls: int
    seconds: float
    seen: dict[str, deque[float]] = field(default_factory=dict)

    def wait(self, key: str, now: float) -> int | None:
        """Count a call; return the whole seconds to wait where it is one too many, and None where it is not."""
        times = self.seen.setdefault(key, deque())
        while times and times[0] <= now - self.seconds:
            times.popleft()
        if len(times) < self.calls:
            times.append(now)
            return None
        return max(1, math.ceil(times[0] + self.seconds - now))
