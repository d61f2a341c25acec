"""Remembers which events were seen, in two phases, so that neither a replay nor a lost retry gets through.

`claim` reserves an event for a short lease, `confirm` remembers it once the work is done, `release` frees it for the next try. A
process that dies between the two leaves a lease that runs out.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from enum import Enum
from math import ceil
from typing import Callable, NamedTuple, Protocol


class ClaimState(str, Enum):
    """What a cache knows about an event."""

    CLAIMED = "claimed"
    """It is ours to work on."""
    IN_PROGRESS = "in_progress"
    """Someone else's lease on it runs."""
    DUPLICATE = "duplicate"
    """It was confirmed, and this is a request of its own: the sender's retry."""
    REPLAYED = "replayed"
    """It was confirmed from this very request."""


class Claim(NamedTuple):
    """The answer to `claim`; `retry_after` is in seconds, for `IN_PROGRESS`."""

    state: ClaimState
    retry_after: int = 0


class ReplayCache(Protocol):
    """A synchronous store. Every method is atomic among all threads and processes that share it; any exception means unavailable."""

    def claim(self, key: str, *, token: str, fingerprint: str, lease: float) -> Claim:
        """Reserve `key` for `lease` seconds under `token`, unless it is confirmed (compare the fingerprint) or claimed."""
        ...

    def confirm(self, key: str, *, token: str, fingerprint: str, ttl: float, floor: float) -> None:
        """Remember `key` as done, whoever holds a claim on it by now: the work did happen.

        Args:
            key: what was claimed.
            token: the claim's.
            fingerprint: of the request that was worked on.
            ttl: seconds to remember it, so that the sender's late retry is known as a duplicate.
            floor: seconds in which it must not be forgotten, whatever happens: in these a captured request would still be fresh.
        """
        ...

    def release(self, key: str, *, token: str) -> None:
        """Give up the claim, if it is still the one of this `token`."""
        ...


class AsyncReplayCache(Protocol):
    """The same store for `averify`. One class may offer both."""

    async def aclaim(self, key: str, *, token: str, fingerprint: str, lease: float) -> Claim:
        """As `ReplayCache.claim`."""
        ...

    async def aconfirm(self, key: str, *, token: str, fingerprint: str, ttl: float, floor: float) -> None:
        """As `ReplayCache.confirm`."""
        ...

    async def arelease(self, key: str, *, token: str) -> None:
        """As `ReplayCache.release`."""
        ...


class ReplayCacheFull(Exception):
    """Nothing may be forgotten yet, so nothing new can be remembered."""


class _Held(NamedTuple):
    token: str
    until: float


class _Done(NamedTuple):
    fingerprint: str
    until: float
    floor: float


class MemoryReplayCache:
    """Bounded memory of one process; safe among threads and tasks.

    With several worker processes each has a memory of its own, and a replay may reach another one: share a store instead. When it is
    full it forgets the oldest event whose floor is over; when there is none it refuses (`ReplayCacheFull`, answered 503) rather than
    open a gap. About 0.5 KB per event.
    """

    def __init__(self, max_entries: int = 100_000, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the bound and a clock in seconds that never goes back.

        Raises:
            ValueError: the bound is below 1.
        """
        if max_entries < 1:
            raise ValueError("a replay cache holds at least one entry")
        self._max_entries = max_entries
        self._clock = clock
        self._lock = threading.Lock()
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._done: OrderedDict[str, _Done] = OrderedDict()

    def __len__(self) -> int:
        """Return how many events are held or remembered."""
        return len(self._held) + len(self._done)

    def claim(self, key: str, *, token: str, fingerprint: str, lease: float) -> Claim:
        """As `ReplayCache.claim`.

        Raises:
            ReplayCacheFull: nothing may be forgotten yet.
        """
        now = self._clock()
        with self._lock:
            done = self._done.get(key)
            # Both ends inclusive, as the time window is: at the last moment a request is fresh, it is still known.
            if done is not None and now <= done.until:
                return Claim(ClaimState.REPLAYED if done.fingerprint == fingerprint else ClaimState.DUPLICATE)
            held = self._held.get(key)
            if held is not None and now <= held.until:
                return Claim(ClaimState.IN_PROGRESS, max(1, ceil(held.until - now)))
            self._done.pop(key, None)
            self._held.pop(key, None)
            self._make_room(now)
            self._held[key] = _Held(token, now + lease)
            return Claim(ClaimState.CLAIMED)

    def confirm(self, key: str, *, token: str, fingerprint: str, ttl: float, floor: float) -> None:  # noqa: ARG002 - see the protocol
        """As `ReplayCache.confirm`. Takes the room of the claim, so it never fails."""
        now = self._clock()
        with self._lock:
            self._held.pop(key, None)
            self._done[key] = _Done(fingerprint, now + ttl, now + floor)
            self._done.move_to_end(key)

    def release(self, key: str, *, token: str) -> None:
        """As `ReplayCache.release`."""
        with self._lock:
            held = self._held.get(key)
            if held is not None and held.token == token:
                del self._held[key]

    async def aclaim(self, key: str, *, token: str, fingerprint: str, lease: float) -> Claim:
        """As `claim`, which never waits for long."""
        return self.claim(key, token=token, fingerprint=fingerprint, lease=lease)

    async def aconfirm(self, key: str, *, token: str, fingerprint: str, ttl: float, floor: float) -> None:
        """As `confirm`."""
        self.confirm(key, token=token, fingerprint=fingerprint, ttl=ttl, floor=floor)

    async def arelease(self, key: str, *, token: str) -> None:
        """As `release`."""
        self.release(key, token=token)

    def _make_room(self, now: float) -> None:
        """Forget what is over, oldest first, a little at each claim; at the bound also what only the late retry would need."""
        for _ in range(2):
            if self._done and next(iter(self._done.values())).until < now:
                self._done.popitem(last=False)
            if self._held and next(iter(self._held.values())).until < now:
                self._held.popitem(last=False)
        if len(self) < self._max_entries:
            return
        if self._done and next(iter(self._done.values())).floor < now:
            self._done.popitem(last=False)
            return
        raise ReplayCacheFull
