"""Connections that are switched off by us: their endpoint said that it is gone for good (410)."""

from __future__ import annotations

from typing import Final

from customhouse import ids
from customhouse.audit import log, tags
from customhouse.audit.log import SYSTEM
from customhouse.clock import Clock
from customhouse.db import Database
from customhouse.logs import get
from customhouse.outbound.operational import Operational
from customhouse.outbound.roster import SQL
from customhouse.outbound.work import Work
from customhouse.retry import GONE

_log: Final = get("customhouse.outbound.disabling")
_EVENT: Final = "customhouse.connection.disabled"


class Disabler:
    """Disables a connection, writes it into the ledger and tells it, all in one transaction."""

    def __init__(self, database: Database, operational: Operational, clock: Clock) -> None:
        """Take the parts that it stands on."""
        self._database = database
        self._operational = operational
        self._clock = clock

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
            await log.append(
                conn,
                self._clock,
                work.tenant_id,
                SYSTEM,
                tags.CONNECTION_DISABLED,
                connection_id=work.connection_id,
                subject=ids.show("dlv", work.delivery_id),
                detail={"reason": GONE},
            )
            await self._operational.publish(
                conn,
                work.tenant_id,
                _EVENT,
                {"connection_id": ids.show("con", work.connection_id), "provider": "webhook", "reason": GONE},
                cause=work.event_type,
            )
        _log.info("connection_disabled", tenant_id=work.tenant_id, connection_id=ids.show("con", work.connection_id), error=GONE)
