"""How connections do: seen with every attempt, written when it changes, never per delivery."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from customhouse.clock import Clock
from customhouse.db import Database
from customhouse.errors import CustomhouseError
from customhouse.logs import get
from customhouse.outbound.roster import SQL
from customhouse.outbound.work import Result
from customhouse.types import TenantId

_log: Final = get("customhouse.outbound.health")
_REFRESH_SECONDS: Final = 60.0
"""What stays the same is written again after this long: another process may have written otherwise."""
_PACE: Final = 1.0
"""Seconds between two writes: a connection that works every other time costs one row a second, not one a delivery."""
_AT_ONCE: Final = 500
_MOST_TENANTS: Final = 20_000


@dataclass(slots=True)
class _Known:
    """What this process wrote last of a connection."""

    failing: bool
    written_at: float


@dataclass(slots=True)
class _News:
    """What was seen since the last write. `since` is the first failure after the last success, None where a success came last."""

    success: datetime | None = None
    since: datetime | None = None
    failure: datetime | None = None
    reason: str | None = None


@dataclass(slots=True)
class Watch:
    """Decides what is news. Pure: the time is an argument."""

    _known: dict[TenantId, dict[UUID, _Known]] = field(default_factory=dict)
    _news: dict[tuple[TenantId, UUID], _News] = field(default_factory=dict)

    def see(self, result: Result, now: float) -> bool:
        """Take note of an attempt that was sent; tell whether there is something to write.

        Args:
            result: what came of the attempt.
            now: monotonic seconds.
        """
        work, failing = result.work, result.outcome != "delivered"
        of_tenant = self._known.get(work.tenant_id)
        if of_tenant is None:
            if len(self._known) >= _MOST_TENANTS:
                self._known.clear()
            of_tenant = self._known[work.tenant_id] = {}
        known = of_tenant.get(work.connection_id)
        if known is not None and known.failing is failing and now - known.written_at < _REFRESH_SECONDS:
            return False
        of_tenant[work.connection_id] = _Known(failing, now)
        news = self._news.setdefault((work.tenant_id, work.connection_id), _News())
        if failing:
            news.since = news.since or result.at
            news.failure = result.at
            news.reason = result.error or f"status_{result.status_code}"
        else:
            news.success, news.since = result.at, None
        return True

    def take(self) -> list[tuple[TenantId, UUID, datetime | None, datetime | None, datetime | None, str | None]]:
        """Return the news as rows of `note_health`, sorted, and forget them."""
        rows = [
            (tenant, connection_id, news.success, news.since, news.failure, news.reason)
            for (tenant, connection_id), news in sorted(self._news.items())
        ]
        self._news.clear()
        return rows

    def forget(self, tenant: TenantId) -> None:
        """Drop what is known of a tenant: its connections may have been changed, and with that their health."""
        self._known.pop(tenant, None)


class Health:
    """Writes the news of this process, about once a second while there are any."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Take the parts that it stands on."""
        self._database = database
        self._clock = clock
        self._watch = Watch()
        self._stirred = asyncio.Event()

    def note(self, result: Result) -> None:
        """Take note of what came of an attempt."""
        if result.sent and self._watch.see(result, self._clock.monotonic()):
            self._stirred.set()

    def forget(self, tenant: TenantId) -> None:
        """Take note that a tenant has changed."""
        self._watch.forget(tenant)

    async def run(self) -> None:
        """Write for ever."""
        while True:
            await self._stirred.wait()
            await self.flush()
            await asyncio.sleep(_PACE)

    async def flush(self) -> None:
        """Write what there is. What cannot be written is seen again with the next attempt."""
        self._stirred.clear()
        rows = self._watch.take()
        for start in range(0, len(rows), _AT_ONCE):
            part = rows[start : start + _AT_ONCE]
            try:
                await self._database.call(SQL["note_health"], *(list(column) for column in zip(*part, strict=True)))
            except CustomhouseError as error:
                _log.warning("health_not_written", error=error.code)
                for tenant in {row[0] for row in part}:
                    self._watch.forget(tenant)
