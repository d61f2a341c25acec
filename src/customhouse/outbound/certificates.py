"""Client certificates that are near their end: told to whoever asked for it, once each."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias
from uuid import UUID

from customhouse import ids
from customhouse.audit import log, tags
from customhouse.audit.log import SYSTEM
from customhouse.clock import Clock
from customhouse.db import Database, queries
from customhouse.errors import CustomhouseError
from customhouse.logs import get
from customhouse.outbound.operational import Operational
from customhouse.types import TenantId

_SQL: Final = queries(__package__, "certificates.sql")
_log: Final = get("customhouse.outbound.certificates")
_EVENT: Final = "customhouse.connection.certificate_expiring"
AHEAD: Final = timedelta(days=30)
"""How long before its end a certificate is called expiring."""
_AT_ONCE: Final = 500

CertificateState: TypeAlias = Literal["valid", "expiring", "expired"]


def certificate_state(expires_at: datetime, now: datetime) -> CertificateState:
    """Return how a certificate stands at a moment."""
    return "expired" if now >= expires_at else "expiring" if now >= expires_at - AHEAD else "valid"


class CertificateWatch:
    """Looks for certificates that are near their end, in all tenants."""

    def __init__(self, database: Database, operational: Operational, clock: Clock) -> None:
        """Take the parts that it stands on."""
        self._database = database
        self._operational = operational
        self._clock = clock

    async def tell_due(self) -> int:
        """Tell of each certificate that ends within `AHEAD`, into the ledger and as an event; return of how many.

        One that cannot be told of now (its tenant's keys are away) is left for the next run and holds up no other.

        Raises:
            CustomhouseError: PostgreSQL is away; the next run goes on.
        """
        before = self._clock.now() + AHEAD
        told = 0
        for row in await self._database.call(_SQL["expiring"], before, _AT_ONCE):
            tenant, connection_id = TenantId(row["tenant_id"]), row["connection_id"]
            try:
                told += await self._tell(tenant, connection_id, before)
            except CustomhouseError as error:
                _log.warning("certificate_not_told", tenant_id=tenant, connection_id=ids.show("con", connection_id), error=error.code)
        return told

    async def _tell(self, tenant: TenantId, connection_id: UUID, before: datetime) -> bool:
        await self._operational.warm(tenant)
        async with self._database.transaction(tenant) as conn:
            expires_at: datetime | None = await conn.fetchval(_SQL["tell"], tenant, connection_id, before)
            if expires_at is None:
                return False
            when = expires_at.isoformat()
            await log.append(
                conn,
                self._clock,
                tenant,
                SYSTEM,
                tags.CERTIFICATE_EXPIRING,
                connection_id=connection_id,
                detail={"certificate_expires_at": when},
            )
            told = {"connection_id": ids.show("con", connection_id), "provider": "webhook", "certificate_expires_at": when}
            await self._operational.publish(conn, tenant, _EVENT, told)
        return True
