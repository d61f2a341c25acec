"""Deliveries that have failed for good, told in the transaction that says so (rulings §11)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from customhouse import ids
from customhouse.db import Executor
from customhouse.errors import CustomhouseError, KeyServiceUnavailable, Unsealable
from customhouse.logs import get
from customhouse.outbound.operational import Operational, patterns_for
from customhouse.outbound.roster import Rosters
from customhouse.outbound.work import Result
from customhouse.tenants.event_types import OPERATIONAL
from customhouse.types import PLATFORM, Json, TenantId

_log: Final = get("customhouse.outbound.failures")
EVENT: Final = "customhouse.delivery.failed"
_PATTERNS_OF_THE_OPERATOR: Final = frozenset(patterns_for(EVENT, PLATFORM))
_PATTERNS: Final = _PATTERNS_OF_THE_OPERATOR - {"*"}


class Failures:
    """Tells who asked for it. An operational event that fails is not told: it would never end."""

    def __init__(self, operational: Operational, rosters: Rosters) -> None:
        """Take the parts that it stands on."""
        self._operational = operational
        self._rosters = rosters

    def wanted(self, result: Result) -> bool:
        """Tell whether somebody may have asked to hear of a result; a wrong yes costs a few statements."""
        if result.outcome != "failed" or result.work.event_type.startswith(OPERATIONAL):
            return False
        return self._asked(result.work.tenant_id) or self._asked(PLATFORM)

    def _asked(self, tenant: TenantId) -> bool:
        roster = self._rosters.held(tenant)
        patterns = _PATTERNS_OF_THE_OPERATOR if tenant == PLATFORM else _PATTERNS
        return roster is None or any(not patterns.isdisjoint(endpoint.patterns) for endpoint in roster.endpoints.values())

    async def prepare(self, results: Sequence[Result]) -> None:
        """Have at hand what `tell` needs, before its transaction is open; what cannot be had is left."""
        with suppress(CustomhouseError):
            await self._rosters.get(PLATFORM)
        for tenant in {result.work.tenant_id for result in results}:
            with suppress(CustomhouseError):
                await self._operational.prepare(tenant, EVENT)

    async def tell(self, conn: Executor, tenant: TenantId, results: Sequence[Result]) -> None:
        """Write one event per result in the open transaction, which is in `tenant`; without the keys nobody is told."""
        try:
            await self._operational.publish_each(conn, tenant, EVENT, [_told(result) for result in results])
        except (KeyServiceUnavailable, Unsealable) as error:
            _log.error("operational_event_lost", tenant_id=tenant, event_type=EVENT, count=len(results), error=error.code)


def _told(result: Result) -> dict[str, Json]:
    work = result.work
    return {
        "delivery_id": ids.show("dlv", work.delivery_id),
        "connection_id": ids.show("con", work.connection_id),
        "event_id": work.event_id,
        "event_type": work.event_type,
        "reason": result.reason,
        "attempts": work.attempts + result.sent,
        "status_code": result.status_code,
        "error": result.error,
    }
