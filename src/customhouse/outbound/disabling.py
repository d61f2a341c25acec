"""Connections that are switched off by us: their endpoint said that it is gone for good (410), or has failed for days."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final
from uuid import UUID

from customhouse import ids
from customhouse.audit import log, tags
from customhouse.audit.log import SYSTEM
from customhouse.clock import Clock, rfc3339
from customhouse.db import Database, Executor
from customhouse.errors import KeyServiceUnavailable, Unsealable
from customhouse.logs import get
from customhouse.metrics import AUTO_DISABLE_BRAKED, CONNECTIONS_DISABLED, Metrics
from customhouse.outbound.operational import Operational
from customhouse.outbound.roster import SQL
from customhouse.outbound.work import Work
from customhouse.retry import GONE
from customhouse.types import PLATFORM, Json, TenantId

_log: Final = get("customhouse.outbound.disabling")
_EVENT: Final = "customhouse.connection.disabled"
_BRAKED: Final = "customhouse.auto_disable.braked"
FAILING: Final = "failing"
"""The reason of a connection that has failed for too long."""
_BRAKE: Final = "auto_disable"
_AT_ONCE: Final = 1_000


class Disabler:
    """Disables a connection, writes it into the ledger and tells it, all in one transaction."""

    def __init__(self, database: Database, operational: Operational, clock: Clock, metrics: Metrics, *, after: timedelta) -> None:
        """Take the parts, and how long a connection may fail without a success; zero: for ever."""
        self._database = database
        self._operational = operational
        self._clock = clock
        self._after = after.total_seconds()
        self._disabled = {reason: metrics.counter(CONNECTIONS_DISABLED, reason=reason) for reason in (GONE, FAILING)}
        self._held_back = metrics.counter(AUTO_DISABLE_BRAKED)

    async def gone(self, work: Work) -> None:
        """Disable the connection of a delivery that was answered 410 Gone (RFC 9110 §15.5.11). Doing so twice is the same as once.

        What still waits for it ends as `cancelled`; its owner can set it going again (`PATCH … {"paused": false}`) and recover.

        Raises:
            DatabaseUnavailable, KeyServiceUnavailable: it was not disabled; the next 410 does.
        """
        await self._operational.warm(work.tenant_id)
        async with self._database.transaction(work.tenant_id) as conn:
            if await conn.fetchval(SQL["disable_connection"], work.tenant_id, work.connection_id, GONE) is None:
                return
            subject = ids.show("dlv", work.delivery_id)
            await self._witness(conn, work.tenant_id, work.connection_id, {"reason": GONE}, subject=subject, cause=work.event_type)
        self._told(work.tenant_id, work.connection_id, GONE)

    async def failing(self) -> int:
        """Disable the connections that have failed for too long, unless more than half of those in use fail: then the cause is here.

        A connection counts as in use if something was sent to it within the period. One that is the only one in use is disabled
        too: there is nobody to compare it with.

        One whose tenant's keys are away is left for the next run and holds up no other.

        Returns:
            How many were disabled.

        Raises:
            DatabaseUnavailable: the next run goes on.
            KeyServiceUnavailable: the operator's keys are away, so it cannot be told that nothing is disabled; the next run does.
        """
        if not self._after:
            return 0
        found = await self._database.call(SQL["long_failing"], self._after, _AT_ONCE)
        (fleet,) = await self._database.call(SQL["fleet_health"], self._after)
        over_half = fleet["failing"] > 1 and 2 * fleet["failing"] > fleet["tried"]
        if not over_half:
            await self._release()
        elif found:
            await self._brake(fleet["failing"], fleet["tried"])
            return 0
        disabled = 0
        for row in found:
            tenant, connection_id = TenantId(row["tenant_id"]), row["connection_id"]
            try:
                disabled += await self._disable(tenant, connection_id)
            except (KeyServiceUnavailable, Unsealable) as error:
                _log.warning("connection_not_disabled", tenant_id=tenant, connection_id=ids.show("con", connection_id), error=error.code)
        return disabled

    async def _disable(self, tenant: TenantId, connection_id: UUID) -> bool:
        await self._operational.warm(tenant)
        async with self._database.transaction(tenant) as conn:
            since = await conn.fetchval(SQL["disable_failing"], tenant, connection_id, FAILING, self._after)
            if since is None:
                # It was mended, changed or ended meanwhile.
                return False
            await self._witness(conn, tenant, connection_id, {"reason": FAILING, "failing_since": rfc3339(since)})
        self._told(tenant, connection_id, FAILING)
        return True

    async def _brake(self, failing: int, tried: int) -> None:
        """Say once that nothing is disabled for now; each run that is held back is counted."""
        self._held_back.inc()
        await self._operational.warm(PLATFORM)
        async with self._database.transaction(PLATFORM) as conn:
            if await conn.fetchval(SQL["begin_brake"], _BRAKE) is None:
                return
            await self._operational.publish(conn, PLATFORM, _BRAKED, {"failing": failing, "tried": tried})
        _log.error("auto_disable_braked", count=failing)

    async def _release(self) -> None:
        if await self._database.call(SQL["end_brake"], _BRAKE):
            _log.info("auto_disable_released")

    async def _witness(
        self,
        conn: Executor,
        tenant: TenantId,
        connection_id: UUID,
        why: Mapping[str, Json],
        *,
        subject: str = "",
        cause: str | None = None,
    ) -> None:
        await log.append(
            conn, self._clock, tenant, SYSTEM, tags.CONNECTION_DISABLED, connection_id=connection_id, subject=subject, detail=dict(why)
        )
        told = {"connection_id": ids.show("con", connection_id), "provider": "webhook", **why}
        await self._operational.publish(conn, tenant, _EVENT, told, cause=cause)

    def _told(self, tenant: TenantId, connection_id: UUID, reason: str) -> None:
        self._disabled[reason].inc()
        _log.info("connection_disabled", tenant_id=tenant, connection_id=ids.show("con", connection_id), error=reason)
