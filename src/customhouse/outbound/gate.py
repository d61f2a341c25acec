"""Back-pressure at the door: an event waits a moment for a place in memory while this process itself is what is behind.

A delivery that finds no place is written for whoever claims it, which costs twice as much. That is right while its *endpoint* is
slow: nobody's publishing may fail or wait for that. It is wrong while *we* are slow: then accepting faster than delivering only
makes a backlog. The two are told apart by time: an attempt takes a few turns of the event loop and whatever the endpoint takes. Where
the turns are most of it, we are what is slow, and the publisher is held until a place of that connection is free.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol
from uuid import UUID

from customhouse.errors import TooManyRequests
from customhouse.metrics import ACCEPT_HELD, ACCEPT_WAITING, Metrics
from customhouse.types import TenantId

_TURNS: Final = 8.0
"""An attempt that takes no more than so many turns of the loop is slowed by us (three are the least that one needs)."""
_PROBE_EVERY: Final = 0.02
_WINDOW: Final = 0.25
_STALE: Final = 2.0
_MOST_FLOWS: Final = 10_000
_FEW: Final = 8
_LEAST_CALLS: Final = 512
"""Calls that may wait, whatever the rate."""
_STANDING: Final = 1.0
"""Seconds for which a tenant has been over its share before a call of it is refused: a burst is taken in, a flood is not."""
_OVER: Final = 2.0
"""Seconds without a call over the share end a flood."""
_SWEEP: Final = 0.1
_LEAST_TURN: Final = 0.003
"""A loop that turns faster has time left."""


class Places(Protocol):
    """What the gate knows of the engine."""

    def reserve(self, tenant_id: TenantId, connection_id: UUID) -> bool:
        """Set a place aside, if there is one."""
        ...

    def unreserve(self, connection_id: UUID) -> None:
        """Give a place back."""
        ...

    def deep(self, connection_id: UUID) -> int:
        """Return by how many deliveries a connection is past the depth that is good for it; negative below it."""
        ...


class Flow:
    """How fast deliveries of a connection end, and how long one attempt takes."""

    __slots__ = ("_count", "_since", "latency", "rate")

    def __init__(self, now: float) -> None:
        """Begin to measure; `now` and all times are monotonic seconds."""
        self._since = now
        self._count = 0
        self.rate = 0.0
        """Per second; 0 while it is not known."""
        self.latency = 0.0

    def ended(self, now: float, seconds: float) -> None:
        """Take note of an attempt that took so long."""
        self.latency = seconds if self.latency == 0.0 else 0.8 * self.latency + 0.2 * seconds
        self._count += 1
        span = now - self._since
        if span < _WINDOW and not (self.rate == 0.0 and self._count >= _FEW and span > 0):
            return
        measured = self._count / span
        if span > _STALE:
            # It rested in between: nothing is known of how fast it can be.
            measured, self.rate = 0.0, 0.0
        self.rate = measured if self.rate == 0.0 else 0.5 * self.rate + 0.5 * measured
        if span >= _WINDOW:
            self._since, self._count = now, 0


class _Waiter:
    __slots__ = ("connection_id", "future", "since", "tenant_id")

    def __init__(self, tenant_id: TenantId, connection_id: UUID, future: asyncio.Future[bool], since: float) -> None:
        self.tenant_id = tenant_id
        self.connection_id = connection_id
        self.future = future
        self.since = since


class Gate:
    """Holds publish calls, those of one connection in their order."""

    def __init__(self, places: Places, monotonic: Callable[[], float], metrics: Metrics, *, longest: float) -> None:
        """Take the engine's places, the clock, the metrics, and the seconds for which a call is held at most (0: never)."""
        self._places = places
        self._monotonic = monotonic
        self._longest = longest
        self._flows: dict[UUID, Flow] = {}
        self._all = Flow(monotonic())
        self._turn = 0.0
        self._probed_at = float("-inf")
        self._probing = False
        self._queues: dict[UUID, deque[_Waiter]] = {}
        self._shares: dict[TenantId, int] = {}
        self._waiting = 0
        self._floods: dict[TenantId, tuple[float, float]] = {}
        """Since when, and when last, a tenant was over its share."""
        self._sweeping: asyncio.TimerHandle | None = None
        self._outcomes = {word: metrics.counter(ACCEPT_HELD, outcome=word) for word in ("placed", "spilled", "refused")}
        metrics.gauge(ACCEPT_WAITING).set_function(lambda: self._waiting)

    def __len__(self) -> int:
        """Calls that wait."""
        return self._waiting

    def attempted(self, connection_id: UUID, seconds: float) -> None:
        """Take note of an attempt that got an answer, or none, after so long."""
        now = self._monotonic()
        flow = self._flows.get(connection_id)
        if flow is None:
            if len(self._flows) >= _MOST_FLOWS:
                self._flows.clear()
            flow = self._flows[connection_id] = Flow(now)
        flow.ended(now, seconds)
        self._all.ended(now, seconds)

    def place_at_once(self, tenant_id: TenantId, connection_id: UUID) -> bool | None:
        """Reserve a place for a delivery where nothing speaks against it: whether there was one; None: ask `place`."""
        if self._longest and (connection_id in self._queues or self._places.deep(connection_id) >= 0):
            return None
        return self._places.reserve(tenant_id, connection_id)

    async def place(self, tenant_id: TenantId, connection_id: UUID) -> bool:
        """Reserve a place for a delivery, after a wait if need be; False: there is none, and it goes to the database.

        Raises:
            TooManyRequests: this process has been behind for a while, and of what waits, the tenant has more than its share.
        """
        await self._probe()
        flow = self._flows.get(connection_id)
        if flow is None or flow.rate == 0.0 or self._turn < _LEAST_TURN or flow.latency > _TURNS * self._turn:
            return self._places.reserve(tenant_id, connection_id)
        now = self._monotonic()
        if self._over(tenant_id):
            self._take_note(tenant_id, now)
            self.check(tenant_id)
            return self._spilled(tenant_id, connection_id)
        ahead = max(0, self._places.deep(connection_id)) + len(self._queues.get(connection_id, ()))
        if ahead + 1 > flow.rate * self._longest:
            return self._spilled(tenant_id, connection_id)
        return await self._wait(_Waiter(tenant_id, connection_id, asyncio.get_running_loop().create_future(), now))

    def check(self, tenant_id: TenantId) -> None:
        """Refuse a call before it costs anything.

        Raises:
            TooManyRequests: as `place` does.
        """
        if not self._floods or not self._over(tenant_id):
            return
        now = self._monotonic()
        if self._is_flooding(tenant_id, now):
            self._take_note(tenant_id, now)
            self._outcomes["refused"].inc()
            raise TooManyRequests

    def _take_note(self, tenant_id: TenantId, now: float) -> None:
        since, last = self._floods.get(tenant_id, (now, now))
        if len(self._floods) >= _MOST_FLOWS:
            self._floods.clear()
        self._floods[tenant_id] = (now if now - last > _OVER else since, now)

    def _is_flooding(self, tenant_id: TenantId, now: float) -> bool:
        since, last = self._floods.get(tenant_id, (now, now))
        return last - since > _STANDING and now - last <= _OVER

    def _over(self, tenant_id: TenantId) -> bool:
        """Tell whether a tenant has as many calls waiting as are still free: who floods leaves half to the others."""
        free = max(_LEAST_CALLS, 0.5 * self._all.rate * self._longest) - self._waiting
        return self._shares.get(tenant_id, 0) >= max(1.0, free)

    async def _wait(self, waiter: _Waiter) -> bool:
        self._waiting += 1
        self._shares[waiter.tenant_id] = self._shares.get(waiter.tenant_id, 0) + 1
        self._queues.setdefault(waiter.connection_id, deque()).append(waiter)
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(_SWEEP, self._sweep)
        try:
            placed = await waiter.future
        except asyncio.CancelledError:
            if not waiter.future.cancelled() and waiter.future.result():
                # Between the place and this turn: it is given back, or it would be lost.
                self._places.unreserve(waiter.connection_id)
            raise
        if placed:
            self._outcomes["placed"].inc()
            return True
        if self._is_flooding(waiter.tenant_id, self._monotonic()):
            # Taken in, it would only make longer what already lies in the database.
            self._outcomes["refused"].inc()
            raise TooManyRequests
        return self._spilled(waiter.tenant_id, waiter.connection_id)

    def _spilled(self, tenant_id: TenantId, connection_id: UUID) -> bool:
        self._outcomes["spilled"].inc()
        return self._places.reserve(tenant_id, connection_id)

    def freed(self, connection_id: UUID) -> None:
        """Give the place that a connection has free again to the call that has waited longest for it."""
        queue = self._queues.get(connection_id)
        if queue is None:
            return
        while queue and queue[0].future.done():
            self._leave(queue)
        if queue and self._places.deep(connection_id) < 0 and self._places.reserve(queue[0].tenant_id, connection_id):
            self._leave(queue).future.set_result(True)
        if not queue:
            del self._queues[connection_id]

    def _leave(self, queue: deque[_Waiter]) -> _Waiter:
        waiter = queue.popleft()
        self._waiting -= 1
        left = self._shares[waiter.tenant_id] - 1
        if left:
            self._shares[waiter.tenant_id] = left
        else:
            del self._shares[waiter.tenant_id]
        return waiter

    def _sweep(self) -> None:
        """Let go those that have waited long enough, and see to it that no free place is overlooked."""
        self._sweeping = None
        now = self._monotonic()
        for connection_id, queue in list(self._queues.items()):
            while queue and (queue[0].future.done() or now - queue[0].since > self._longest):
                waiter = self._leave(queue)
                if not waiter.future.done():
                    waiter.future.set_result(False)
            self.freed(connection_id)
        if self._waiting:
            self._sweeping = asyncio.get_running_loop().call_later(_SWEEP, self._sweep)

    async def _probe(self) -> None:
        """Measure how long one turn of the loop takes, every now and then; who comes meanwhile waits for the measure."""
        began = self._monotonic()
        if self._probing:
            await asyncio.sleep(0)
            return
        if began - self._probed_at < _PROBE_EVERY:
            return
        rested = began - self._probed_at > _STALE
        self._probed_at = began
        self._probing = True
        try:
            await asyncio.sleep(0)
        finally:
            self._probing = False
        took = self._monotonic() - began
        self._turn = took if rested else 0.7 * self._turn + 0.3 * took
