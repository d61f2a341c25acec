"""What is put right in the background: lines without a head, and deliveries whose time ended while nobody could send them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from uuid import UUID

from customhouse.db import Database, Row
from customhouse.logs import get
from customhouse.metrics import DELIVERIES, Metrics
from customhouse.outbound.roster import SQL
from customhouse.types import TenantId

_log: Final = get("customhouse.outbound.sweeps")
_LARGEST_SWEEP: Final = 10_000
_AT_ONCE: Final = 500


class Sweeps:
    """Finds across tenants, writes in one tenant at a time; each may be repeated, and run in several processes, without harm."""

    def __init__(self, database: Database, metrics: Metrics, *, drop_payloads: bool) -> None:
        """Take the parts; `drop_payloads` deletes a payload in the transaction that ends its last delivery (retention 0)."""
        self._database = database
        self._drop_payloads = drop_payloads
        self._expired = metrics.counter(DELIVERIES, outcome="expired")

    async def expire(self) -> int:
        """End what nobody could send in time: its connection is paused, or its keys are away. No payload is opened for it.

        Returns:
            How many deliveries ended as `expired`.

        Raises:
            DatabaseUnavailable: what is left is found by the next run.
        """
        total = 0
        while True:
            found = await self._database.call(SQL["overdue_deliveries"], _LARGEST_SWEEP)
            ended = 0
            for tenant, deliveries in _in_groups(found):
                async with self._database.transaction(tenant) as conn:
                    ended += await conn.fetchval(SQL["expire_batch"], tenant, self._drop_payloads, deliveries)
            self._expired.inc(ended)
            total += ended
            if len(found) < _LARGEST_SWEEP or not ended:
                break
        if total:
            _log.info("deliveries_expired", count=total)
        return total

    async def mend_lines(self) -> int:
        """Give a head to each line of an ordering key that has lost it; return how many were found.

        Raises:
            DatabaseUnavailable: what is left is found by the next run.
        """
        found = await self._database.call(SQL["stalled_lines"], _LARGEST_SWEEP)
        for tenant, deliveries in _in_groups(found):
            async with self._database.transaction(tenant) as conn:
                await conn.execute(SQL["mend_lines"], tenant, deliveries)
        if found:
            _log.warning("lines_mended", count=len(found))
        return len(found)


def _in_groups(rows: Iterable[Row]) -> Iterable[tuple[TenantId, list[UUID]]]:
    """Return (tenant, deliveries) in groups that one transaction can write."""
    of_tenant: dict[str, list[UUID]] = {}
    for row in rows:
        of_tenant.setdefault(row["tenant_id"], []).append(row["delivery_id"])
    for tenant, deliveries in sorted(of_tenant.items()):
        for start in range(0, len(deliveries), _AT_ONCE):
            yield TenantId(tenant), deliveries[start : start + _AT_ONCE]
