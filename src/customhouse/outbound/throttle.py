"""How fast a connection may be sent to: a bucket of tokens in each process, which hold its share of the limit. Pure.

Every live process takes an equal part of a connection's rate and burst, so no token is asked for over the network. In sum the
processes stay within the limit, because whoever begins does so empty-handed: a process that joins others takes nothing until all of
them must have heard of it or have stopped sending, and when their number changes each one begins anew without tokens. The price: a
share that one process does not use is lost, and what waits there goes on where there is room.

One thing is more than the limit says: a process needs a whole token to send at all, so with more processes than `burst` as many as
there are processes may go at the same moment. The rate over time is kept all the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final
from uuid import UUID

_MOST_BUCKETS: Final = 10_000
_NEARLY: Final = 1e-9
"""A token that is this near to whole is whole: the rest is rounding."""


@dataclass(frozen=True, slots=True)
class Rate:
    """The limit of one connection.

    Attributes:
        per_second: Deliveries per second, over time.
        burst: Deliveries that may go at once after a quiet time, at least 1.
    """

    per_second: float
    burst: int


@dataclass(slots=True)
class _Bucket:
    rate: Rate
    tokens: float
    at: float

    def fill(self, now: float, parts: int) -> None:
        if now > self.at:
            self.tokens = min(_most(self.rate, parts), self.tokens + (now - self.at) * self.rate.per_second / parts)
            self.at = now


class Throttle:
    """The buckets of one process. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        """Begin without a share: `share` gives one."""
        self._parts = 1
        self._since = math.inf
        self._buckets: dict[UUID, _Bucket] = {}

    def share(self, processes: int, since: float, *, joined: bool) -> None:
        """Take note how many processes share every limit.

        Args:
            processes: All that live, this one included.
            since: When this one may begin to count, if it begins anew.
            joined: Whether the others did not count on this one until now; it begins anew, as it does when their number changes.
        """
        parts = max(1, processes)
        if joined or parts != self._parts:
            self._parts = parts
            self._since = since
            self._buckets.clear()

    def each(self, rate: Rate) -> float:
        """Return how many seconds lie between two deliveries of this process, over time."""
        return self._parts / rate.per_second

    def take(self, connection_id: UUID, rate: Rate, now: float) -> float:
        """Take a token for one delivery; return 0.0, or after how many seconds there may be one: then nothing was taken."""
        bucket = self._buckets.get(connection_id)
        if bucket is None:
            bucket = self._new(connection_id, rate, now)
        # Until now the old rate held; what it left counts as far as the new one has room.
        bucket.fill(now, self._parts)
        if bucket.rate != rate:
            bucket.rate = rate
            bucket.tokens = min(bucket.tokens, _most(rate, self._parts))
        if bucket.tokens >= 1 - _NEARLY:
            bucket.tokens -= 1
            return 0.0
        return max(0.0, bucket.at - now) + (1 - bucket.tokens) * self.each(rate)

    def _new(self, connection_id: UUID, rate: Rate, now: float) -> _Bucket:
        """Make a bucket that has filled since this process counts, which is what an idle one would hold."""
        if len(self._buckets) >= _MOST_BUCKETS:
            for other, one in list(self._buckets.items()):
                one.fill(now, self._parts)
                if one.tokens >= _most(one.rate, self._parts):
                    del self._buckets[other]
        made = self._buckets[connection_id] = _Bucket(rate, 0.0, self._since)
        return made


def _most(rate: Rate, parts: int) -> float:
    return max(1.0, rate.burst / parts)
