"""R13: a connection that nobody uses is a risk without a use. Host and user are told, then it is paused; nothing of it is lost."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from customhouse import ids
from customhouse.audit import log, tags
from customhouse.audit.log import SYSTEM
from customhouse.clock import Clock, rfc3339
from customhouse.connections.ports import DORMANT, PAUSED, Announce
from customhouse.connections.sql import SQL
from customhouse.db import Database
from customhouse.errors import CustomhouseError
from customhouse.logs import get
from customhouse.types import Json, TenantId

_log: Final = get("customhouse.connections")
_AT_ONCE: Final = 500
_NOTICE: Final = timedelta(days=7)
"""Between being told and the pause; half of the time where that is shorter."""
REASON: Final = "dormant"


class Dormancy:
    """Looks for connections that nobody uses."""

    def __init__(self, database: Database, clock: Clock, announce: Announce, *, after: timedelta) -> None:
        """Take the parts that it stands on, and after how long without a use a connection is paused; 0: never."""
        self._database = database
        self._clock = clock
        self._announce = announce
        self._after = after
        self._notice = min(_NOTICE, after / 2)

    async def due(self) -> None:
        """Tell of what will be paused, and pause what was told of. Repeating it changes nothing."""
        if not self._after:
            return
        now = self._clock.now()
        warn, pause, told = now - self._after + self._notice, now - self._after, now - self._notice
        for row in await self._database.call(SQL["dormant_connections"], warn, pause, told, _AT_ONCE):
            tenant, connection_id = TenantId(row["tenant_id"]), row["connection_id"]
            try:
                await self._look(tenant, connection_id, now)
            except CustomhouseError as error:
                _log.error("dormancy_not_judged", tenant_id=tenant, error=error.code)

    async def _look(self, tenant: TenantId, connection_id: UUID, now: datetime) -> None:
        for event_type in (DORMANT, PAUSED):
            await self._announce.prepare(tenant, event_type)
        async with self._database.transaction(tenant) as conn:
            # Held against a use of this moment: whoever comes next sees the pause, or is seen here.
            row = await conn.fetchrow(SQL["lock_connection"], tenant, connection_id)
            seen = await conn.fetchrow(SQL["last_use"], tenant, connection_id)
            if (
                row is None
                or seen is None
                or row["status"] not in {"active", "degraded"}
                or seen["used_at"] > now - self._after + self._notice
            ):
                return
            was_told = seen["told_at"] is not None and seen["told_at"] >= seen["used_at"]
            pausing = was_told and seen["told_at"] <= now - self._notice and seen["used_at"] <= now - self._after
            if was_told and not pausing:
                return
            about: dict[str, Json] = {"connection_id": ids.show("con", connection_id), "provider": row["provider"]}
            detail: dict[str, Json] = {"provider": row["provider"], "unused_since": rfc3339(seen["used_at"]), "paused": pausing}
            if pausing:
                await conn.execute(SQL["set_status"], tenant, connection_id, "paused", REASON)
                told: dict[str, Json] = {**about, "reason": REASON}
            else:
                await conn.execute(SQL["tell_dormant"], tenant, connection_id, now)
                told = {**about, "pauses_at": rfc3339(max(seen["used_at"] + self._after, now + self._notice))}
            await log.append(conn, self._clock, tenant, SYSTEM, tags.CONNECTION_DORMANT, connection_id=connection_id, detail=detail)
            await self._announce.announce(conn, tenant, PAUSED if pausing else DORMANT, told)
