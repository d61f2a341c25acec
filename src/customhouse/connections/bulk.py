"""Bulk reads of credentials (threats R4): when a key has read too many connections, and who is told of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from customhouse.audit import log, tags
from customhouse.audit.log import SYSTEM
from customhouse.clock import Clock, rfc3339
from customhouse.connections.ports import Announce
from customhouse.connections.sql import SQL
from customhouse.db import Database
from customhouse.errors import CustomhouseError
from customhouse.logs import get
from customhouse.metrics import BULK_READ_ALARMS, Metrics
from customhouse.types import Json, TenantId

_log: Final = get("customhouse.connections")
BULK_READ: Final = "customhouse.tokens.bulk_read"
HISTORY: Final = timedelta(days=14)
"""How far back a key's own history goes."""
RIPE: Final = timedelta(days=1)
"""How old a history has to be to say what is usual, and how long an alarm's window does not count as usual."""
QUIET: Final = timedelta(hours=1)
"""At most one alarm for a key in this time."""
_FACTOR: Final = 3
_FLOOR: Final = 50
"""However few are usual: so many are no alarm, unless the limit is lower."""


@dataclass(frozen=True, slots=True)
class Rules:
    """When there is an alarm, and what it does.

    Attributes:
        window: the time over which distinct connections are counted.
        cap: more than so many are an alarm whatever is usual; 0: there is no such limit.
        stop: for how long the key reads nothing after an alarm; zero: it goes on.
    """

    window: timedelta = timedelta(hours=1)
    cap: int = 1000
    stop: timedelta = timedelta()

    def window_of(self, moment: datetime) -> datetime:
        """Return when the window of a moment began."""
        seconds = self.window.total_seconds()
        return datetime.fromtimestamp(moment.timestamp() // seconds * seconds, UTC)

    def threshold(self, usual: int | None) -> int | None:
        """Return how many connections are no alarm yet; None: there is no limit.

        Args:
            usual: the most that this key read in an earlier window; None: it has no history to compare with.
        """
        limits = [self.cap] if self.cap else []
        if usual is not None:
            limits.append(max(_FLOOR, _FACTOR * usual))
        return min(limits, default=None)


@dataclass(frozen=True, slots=True)
class Tally:
    """What one key has read in the present window, over all processes.

    Attributes:
        home: the tenant in which it is counted.
        actor_id: the key.
        connections: how many distinct ones.
        usual: as `Rules.threshold` takes it.
    """

    home: TenantId
    actor_id: str
    connections: int
    usual: int | None


class Alarms:
    """Tells the operator and the tenant, once for a key and hour, whatever the number of processes."""

    def __init__(self, database: Database, clock: Clock, announce: Announce, metrics: Metrics, rules: Rules) -> None:
        """Take the parts that it stands on."""
        self._database = database
        self._clock = clock
        self._announce = announce
        self._rules = rules
        self._raised = metrics.counter(BULK_READ_ALARMS)
        self._told: dict[tuple[TenantId, str], datetime] = {}
        self._under_way: dict[tuple[TenantId, str], asyncio.Task[None]] = {}

    def judge(self, tally: Tally) -> bool:
        """Raise the alarm where a tally is one; tell whether its key has to stop."""
        threshold = self._rules.threshold(tally.usual)
        if threshold is None or tally.connections <= threshold:
            return False
        key = (tally.home, tally.actor_id)
        told = self._told.get(key)
        if key not in self._under_way and (told is None or told <= self._clock.now() - QUIET):
            task = asyncio.get_running_loop().create_task(self._raise(tally, threshold))
            self._under_way[key] = task
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
        return bool(self._rules.stop)

    async def settled(self) -> None:
        """Wait until every alarm under way is written."""
        while self._under_way:
            await asyncio.wait(list(self._under_way.values()))

    async def _raise(self, tally: Tally, threshold: int) -> None:
        try:
            if await self._write(tally, threshold):
                self._raised.inc()
                _log.warning("bulk_read", tenant_id=tally.home)
            self._told = {key: at for key, at in self._told.items() if at > self._clock.now() - QUIET}
            self._told[tally.home, tally.actor_id] = self._clock.now()
        except CustomhouseError as error:
            # Not told: the next connection that this key reads raises it again.
            _log.error("bulk_read_not_told", tenant_id=tally.home, error=error.code)

    async def _write(self, tally: Tally, threshold: int) -> bool:
        await self._announce.prepare(tally.home, BULK_READ)
        now = self._clock.now()
        window = self._rules.window_of(now)
        stopped = now + self._rules.stop if self._rules.stop else None
        async with self._database.transaction(tally.home) as conn:
            # Whoever else has seen the same waits here, and then finds the alarm.
            await conn.fetchval(SQL["lock_reader"], tally.home, tally.actor_id)
            written = await conn.fetchval(
                SQL["raise_alarm"], tally.home, tally.actor_id, now, window, tally.connections, threshold, stopped, now - QUIET
            )
            if written is None:
                return False
            detail: dict[str, Json] = {
                "connections": tally.connections,
                "threshold": threshold,
                "stopped_until": None if stopped is None else rfc3339(stopped),
            }
            more: dict[str, Json] = {"usual": tally.usual, "window_seconds": int(self._rules.window.total_seconds())}
            await log.append(conn, self._clock, tally.home, SYSTEM, tags.BULK_READ, subject=tally.actor_id, detail=detail | more)
            await self._announce.announce(conn, tally.home, BULK_READ, {"key_id": tally.actor_id, **detail})
        return True
