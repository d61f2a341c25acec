"""The deliveries in the hands of this process: attempts within the caps of `lanes`, results written, leases given back in time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final
from uuid import UUID

from customhouse import ids
from customhouse.clock import Clock
from customhouse.db import Database
from customhouse.errors import CustomhouseError
from customhouse.logs import get
from customhouse.metrics import ATTEMPT_SECONDS, DELIVERIES, DELIVERY_LATENCY, IN_FLIGHT, RATE_LIMITED, RETRIES, Metrics
from customhouse.outbound.deliver import Held, Sender, Throttled
from customhouse.outbound.gate import Gate
from customhouse.outbound.lanes import Lanes
from customhouse.outbound.recorder import Recorder, release
from customhouse.outbound.work import Result, Work
from customhouse.retry import GONE
from customhouse.types import TenantId

_log: Final = get("customhouse.outbound.engine")
_HELD_PER_SLOT: Final = 4
"""Deliveries held in memory per in-flight slot: enough to keep the slots busy, few enough to be found again soon after a kill."""
_LEAST_DEEP: Final = 8
"""Deliveries of one connection that are held before an event waits for a place, however many connections there are."""
_HELD_PAUSE: Final = 5.0
_LIMITED_AHEAD: Final = 20.0
"""Of a connection with a rate limit, what can be sent in this time is held in memory; the rest waits in the database."""
_LONGEST_WAIT: Final = 60.0
"""Who waits longer for a token does so in the database; well below a lease."""
_SHORTEST_PAUSE: Final = 2.0
"""What goes back to the database for want of a place is not asked for again sooner."""


class Engine:
    """Runs attempts. `reserve` before the transaction, `start` after it: nothing is sent that is not durable."""

    def __init__(
        self,
        database: Database,
        sender: Sender,
        recorder: Recorder,
        clock: Clock,
        metrics: Metrics,
        process_id: UUID,
        *,
        concurrency: int,
        per_connection: int,
        attempt_seconds: float,
        accept_wait: float,
        on_gone: Callable[[Work], Awaitable[None]],
        on_sent: Callable[[Result], None],
    ) -> None:
        """Take the parts and the caps.

        Args:
            database: where leases are given back.
            sender: makes attempts.
            recorder: writes results.
            clock: the time.
            metrics: what is counted.
            process_id: the owner named in leases.
            concurrency: attempts on the wire at once.
            per_connection: attempts on the wire at once for one connection (the bulkhead).
            attempt_seconds: the longest that an attempt takes; none starts with less than that left of its lease.
            accept_wait: seconds for which the gate holds a publish call while this process is behind.
            on_gone: told the delivery that was answered 410, once that is written.
            on_sent: told what came of each attempt, once that is written.
        """
        self.process_id = process_id
        self._database = database
        self._sender = sender
        self._recorder = recorder
        self._clock = clock
        self._concurrency = concurrency
        self._attempt_seconds = attempt_seconds
        self._on_gone = on_gone
        self._on_sent = on_sent
        self._lanes = Lanes(
            most_held=concurrency * _HELD_PER_SLOT,
            held_per_slot=_HELD_PER_SLOT,
            slots_per_lane=per_connection,
        )
        self._half = concurrency * _HELD_PER_SLOT // 2
        self._deep = max(per_connection * _HELD_PER_SLOT, self._half // 2)
        self.gate = Gate(self, clock.monotonic, metrics, longest=accept_wait)
        """Where an event waits for its places before it is accepted."""
        self._in_flight = 0
        self.behind = asyncio.Event()
        """Set when a delivery found no place: the database has more than was handed over."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._put_off: dict[UUID, tuple[TenantId, asyncio.TimerHandle]] = {}
        self._stopping = False
        self._suspended = True
        self._outcomes = {
            word: metrics.counter(DELIVERIES, outcome=word)
            for word in ("delivered", "retrying", "failed", "cancelled", "expired", "lost_lease")
        }
        self._attempt_time = metrics.histogram(ATTEMPT_SECONDS)
        self._latency = metrics.histogram(DELIVERY_LATENCY)
        self._retries = metrics.counter(RETRIES)
        self._limited = metrics.counter(RATE_LIMITED)
        metrics.gauge(IN_FLIGHT).set_function(lambda: self._in_flight)

    @property
    def room(self) -> int:
        """How many more deliveries may be taken in."""
        return 0 if self._stopping or self._suspended else self._lanes.room

    def suspend(self, *, suspended: bool) -> None:
        """Stop starting attempts while this process cannot show that it lives: others may have taken its leases.

        What waited meanwhile is given back at the end, as far as it is still ours, and claimed again under a lease that is fresh.
        """
        resumes = self._suspended and not suspended
        self._suspended = suspended
        if resumes:
            waiting = self._lanes.drain()
            for work in waiting:
                self.unreserve(work.connection_id)
            if waiting:
                self._keep(asyncio.get_running_loop().create_task(self._give_back(waiting, seconds=0.0)))

    def crowded(self, count: int) -> list[UUID]:
        """Return the connections that have no room for `count` more at the moment."""
        return self._lanes.crowded(count)

    def reserve(self, tenant_id: TenantId, connection_id: UUID) -> bool:
        """Set a place aside for a delivery of this connection; False when there is none, and the database keeps it for later."""
        if self.room > 0 and self._lanes.reserve(tenant_id, connection_id):
            return True
        self.behind.set()
        return False

    def unreserve(self, connection_id: UUID) -> None:
        """Give a place back."""
        self._lanes.unreserve(connection_id)
        self.gate.freed(connection_id)

    def deep(self, connection_id: UUID) -> int:
        """Return by how many deliveries a connection is past the depth at which an event is to wait at the gate: its part of half the room.

        Below it, memory takes in a burst; above it there is still room for what is claimed from the database.
        """
        return self._lanes.depth(connection_id) - max(_LEAST_DEEP, min(self._deep, self._half // max(1, self._lanes.count)))

    def start(self, work: Work) -> None:
        """Take a durable delivery into its reserved place."""
        self._lanes.put(work)
        self._pump()

    def _pump(self) -> None:
        while self._in_flight < self._concurrency and not self._suspended and not self._stopping:
            work = self._lanes.take()
            if work is None:
                return
            self._in_flight += 1
            self._keep(asyncio.get_running_loop().create_task(self._run(work)))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, work: Work) -> None:
        result: Result | None = None
        waits = False
        try:
            try:
                result = await self._attempt(work)
            except Throttled as over:
                waits = self._wait(work, over)
                if not waits:
                    await self._give_back([work], seconds=min(max(over.seconds, _SHORTEST_PAUSE), _LONGEST_WAIT))
            finally:
                answered = None if result is None or not result.sent else result.error is None
                self._lanes.landed(work, answered=answered)
                self._in_flight -= 1
                self._pump()
            if result is not None:
                await self._record(result)
        except CustomhouseError as error:
            self._left(work, error)
        finally:
            if not waits:
                self.unreserve(work.connection_id)

    def _wait(self, work: Work, over: Throttled) -> bool:
        """Keep a delivery that is over its connection's rate in its place until there may be a token; False: not here."""
        self._limited.inc()
        if over.seconds > _LONGEST_WAIT or self._suspended or self._stopping or self._lanes.many_limited:
            return False
        most, too_many = self._lanes.put_off(work, int(_LIMITED_AHEAD / over.each))
        loop = asyncio.get_running_loop()
        if work.connection_id not in self._put_off:
            timer = loop.call_later(over.seconds, self._reopen, work.connection_id)
            self._put_off[work.connection_id] = work.tenant_id, timer
        for one in too_many:
            self.unreserve(one.connection_id)
        if too_many:
            self._keep(loop.create_task(self._give_back(too_many, seconds=min(max(most * over.each, _SHORTEST_PAUSE), _LONGEST_WAIT))))
        return True

    def ask_again(self, tenant_id: TenantId) -> None:
        """Let what waits for its connection's rate ask again: the tenant has changed, perhaps the limit."""
        for connection_id, (owner, timer) in list(self._put_off.items()):
            if owner == tenant_id:
                timer.cancel()
                self._reopen(connection_id)

    def _reopen(self, connection_id: UUID) -> None:
        del self._put_off[connection_id]
        self._lanes.reopen(connection_id)
        self._pump()

    async def _attempt(self, work: Work) -> Result | None:
        if self._clock.monotonic() + self._attempt_seconds > work.leased_until:
            await self._give_back([work], seconds=0.0)
            return None
        try:
            return await self._sender.attempt(work, self._admitted)
        except Held:
            await self._give_back([work], seconds=_HELD_PAUSE)
            return None

    def _admitted(self, work: Work) -> None:
        self._lanes.admitted(work)
        self._pump()

    async def _record(self, result: Result) -> None:
        if result.latency_ms is not None:
            self._attempt_time.observe(result.latency_ms / 1000)
            self.gate.attempted(result.work.connection_id, result.latency_ms / 1000)
        if not await self._recorder.record(result):
            self._outcomes["lost_lease"].inc()
            return
        if result.work.ordering_key is not None:
            # The next of its line may be due now; where this one comes again, its line has another head perhaps.
            self.behind.set()
        if result.sent:
            self._on_sent(result)
        self._outcomes[result.outcome].inc()
        if result.outcome == "delivered":
            accepted_at = ids.made_at(result.work.delivery_id)
            self._latency.observe(max(0.0, (self._clock.now() - accepted_at).total_seconds()))
        elif result.outcome == "retrying":
            self._retries.inc()
        elif result.reason == GONE:
            await self._on_gone(result.work)

    async def end(self, result: Result) -> None:
        """Write the end of a delivery that was claimed but cannot be attempted; its place was reserved and is given back here."""
        try:
            await self._record(result)
        except CustomhouseError as error:
            self._left(result.work, error)
        finally:
            self.unreserve(result.work.connection_id)

    def _left(self, work: Work, error: CustomhouseError) -> None:
        """Say that a result could not be written. The lease ends by itself, and whoever claims the delivery then tries again."""
        _log.error("delivery_left_to_its_lease", delivery_id=ids.show("dlv", work.delivery_id), error=error.code)

    async def _give_back(self, works: list[Work], *, seconds: float) -> None:
        await release(self._database, self.process_id, [(work.tenant_id, work.delivery_id, work.lease) for work in works], seconds=seconds)

    async def stop(self) -> None:
        """Start nothing more, let what is on the wire end and be written, give the rest back."""
        self._stopping = True
        for _, timer in self._put_off.values():
            timer.cancel()
        self._recorder.hurry()
        await self._give_back(self._lanes.drain(), seconds=0.0)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._attempt_seconds + 5)
        await self._recorder.close()
