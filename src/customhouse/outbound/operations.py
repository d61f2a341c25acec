"""What people do with deliveries: send one again, bring back what an endpoint missed, try a connection out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias
from uuid import UUID

from customhouse import ids
from customhouse.audit import log, tags
from customhouse.audit.log import Origin
from customhouse.clock import Clock
from customhouse.db import Database, Executor
from customhouse.errors import Conflict, Fault, Invalid, NotFound, PayloadExpired
from customhouse.jobs.upkeep import payload_days
from customhouse.outbound.accept import DELIVERY_LIFE
from customhouse.outbound.operational import SQL, Operational
from customhouse.outbound.payloads import Standing, standings, stored_until
from customhouse.outbound.roster import HELD, SENDABLE
from customhouse.tenants.idempotency import Once
from customhouse.types import TenantId

Unhappy: TypeAlias = Literal["failed", "cancelled", "expired"]
MISSED: Final[tuple[Unhappy, ...]] = ("failed", "expired")
"""What `recover` brings back unless told otherwise: what the endpoint missed. What was cancelled was cancelled for a reason."""
MOST_RECOVERED: Final = 10_000
"""Deliveries that one call to `recover` queues at most; a repeated call takes up the rest."""
_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Recovered:
    """What `recover` did; with `more`, the same call again goes on."""

    queued: int
    payload_expired: int
    more: bool


class Operations:
    """Queues deliveries again and tests connections. What is queued keeps its id, its bytes and its count of attempts."""

    def __init__(self, database: Database, operational: Operational, clock: Clock, retention: timedelta) -> None:
        """Take the parts, and how long a payload is kept after its last delivery ended."""
        self._database = database
        self._operational = operational
        self._clock = clock
        self._retention = retention

    async def retry(self, tenant: TenantId, delivery_id: UUID, origin: Origin, *, force: bool) -> None:
        """Queue a delivery that has ended, for an attempt now.

        Args:
            tenant: whose delivery it is.
            delivery_id: the delivery.
            origin: who asks.
            force: also one that was delivered: the receiver sees a duplicate with the same `event_id`.

        Raises:
            NotFound: no such delivery in this tenant.
            Conflict: it waits already; it was delivered and `force` is not set; or its connection cannot be sent to.
            PayloadExpired: its payload's retention has ended.
        """
        async with self._database.transaction(tenant) as conn:
            standing = await self._locked(conn, tenant, delivery_id)
            if standing.queued:
                raise Conflict("This delivery is in the queue already.")
            if standing.outcome == "delivered" and not force:
                raise Conflict("This delivery was delivered; `force=true` sends it again, and the receiver sees a duplicate.")
            if not await self._requeue(conn, tenant, [standing]):
                raise Conflict("This delivery is in the queue already.")
            await log.append(
                conn,
                self._clock,
                tenant,
                origin,
                tags.DELIVERY_RETRIED,
                subject=ids.show("dlv", delivery_id),
                connection_id=standing.connection_id,
                detail={"was": standing.outcome, "forced": standing.outcome == "delivered"},
            )

    async def recover(
        self,
        tenant: TenantId,
        connection_id: UUID,
        since: datetime,
        until: datetime | None,
        status: Unhappy | None,
        origin: Origin,
    ) -> Recovered:
        """Queue what a connection missed between two moments (of acceptance), a bounded number at a time, the oldest first.

        Each group is a transaction of its own, so a repeated call only finds what is not queued yet.

        Raises:
            Invalid: `until` is not after `since`.
            NotFound: no such connection in this tenant.
            Conflict: it cannot be sent to.
        """
        now = self._clock.now()
        until = now if until is None else min(until, now)
        if until <= since:
            raise Invalid("The period is not acceptable.", (Fault("/since", "is not before `until`, or in the future"),))
        # Older payloads are gone for certain.
        since = max(since, now - timedelta(days=payload_days(self._retention) + 1))
        queued = gone = 0
        for outcome in MISSED if status is None else (status,):
            after = ids.floor_at(since)
            while True:
                room = min(_AT_ONCE, MOST_RECOVERED - queued)
                if room <= 0:
                    return Recovered(queued, gone, more=True)
                last, made, lost = await self._recover_some(tenant, connection_id, outcome, after, ids.floor_at(until), room, origin)
                queued += made
                gone += lost
                if last is None:
                    break
                after = last
        return Recovered(queued, gone, more=False)

    async def test(self, tenant: TenantId, connection_id: UUID, origin: Origin, once: Once) -> UUID:
        """Send a `customhouse.ping` to one connection, whatever it subscribed to; return the delivery.

        Raises:
            NotFound: no such connection in this tenant.
            Conflict: it is paused, or cannot be sent to.
            IdempotencyConflict: the key was used for another connection.
            KeyServiceUnavailable: the event cannot be sealed.
        """
        async with self._database.transaction(tenant) as conn:
            await _status(conn, tenant, connection_id)
        await self._operational.warm(tenant, operator=False)
        delivery_id = ids.new()
        async with self._database.transaction(tenant) as conn:
            status = await _status(conn, tenant, connection_id)
            earlier = await once.claim(conn, tenant, ids.show("dlv", delivery_id))
            if earlier is not None:
                return ids.parse("dlv", earlier)
            if status not in SENDABLE:
                raise Conflict(f"This connection is {status}; nothing can be sent to it.")
            await self._operational.ping(conn, tenant, connection_id, delivery_id, origin.correlation_id or origin.request_id)
            await log.append(
                conn,
                self._clock,
                tenant,
                origin,
                tags.CONNECTION_TESTED,
                subject=ids.show("dlv", delivery_id),
                connection_id=connection_id,
            )
        return delivery_id

    async def _locked(self, conn: Executor, tenant: TenantId, delivery_id: UUID) -> Standing:
        """Return where a delivery stands; its payload cannot go, and its connection cannot end, before this transaction does."""
        found = await standings(conn, tenant, [delivery_id])
        if not found:
            raise NotFound
        # First the connection, then the payloads: a disconnect takes them in this order too.
        status = await _status(conn, tenant, found[0].connection_id)
        if status not in SENDABLE | HELD:
            raise Conflict(f"This delivery's connection is {status}; nothing can be sent to it.")
        await self._hold(conn, tenant, [delivery_id])
        (standing,) = await standings(conn, tenant, [delivery_id])
        if not standing.queued and not standing.usable(self._clock.now(), self._retention):
            raise PayloadExpired
        return standing

    async def _recover_some(
        self, tenant: TenantId, connection_id: UUID, outcome: Unhappy, after: UUID, before: UUID, room: int, origin: Origin
    ) -> tuple[UUID | None, int, int]:
        """Queue one group; return the last delivery looked at (None: there are no more), how many were queued and how many are gone."""
        async with self._database.transaction(tenant) as conn:
            status = await _status(conn, tenant, connection_id)
            if status not in SENDABLE | HELD:
                raise Conflict(f"This connection is {status}; nothing can be sent to it.")
            rows = await conn.fetch(SQL["unhappy_of_connection"], tenant, connection_id, outcome, after, before, room)
            if not rows:
                return None, 0, 0
            wanted = [row["delivery_id"] for row in rows]
            await self._hold(conn, tenant, wanted)
            now = self._clock.now()
            found = [one for one in await standings(conn, tenant, wanted) if not one.queued]
            usable = [one for one in found if one.usable(now, self._retention)]
            queued = await self._requeue(conn, tenant, usable)
            if queued:
                await log.append(
                    conn,
                    self._clock,
                    tenant,
                    origin,
                    tags.CONNECTION_RECOVERED,
                    connection_id=connection_id,
                    detail={"deliveries": queued, "was": outcome},
                )
        return wanted[-1] if len(wanted) == room else None, queued, len(found) - len(usable)

    async def _hold(self, conn: Executor, tenant: TenantId, delivery_ids: list[UUID]) -> None:
        # Lines before payloads, as the recorder takes them.
        await conn.execute(SQL["hold_lines"], tenant, delivery_ids)
        # Where payloads are not kept, the end of a payload's last delivery deletes it: not while it is queued again here.
        if not self._retention:
            await conn.execute(SQL["hold_payloads"], tenant, delivery_ids)

    async def _requeue(self, conn: Executor, tenant: TenantId, found: list[Standing]) -> int:
        end = self._clock.now() + DELIVERY_LIFE
        rows = await conn.fetch(
            SQL["requeue"],
            tenant,
            [one.delivery_id for one in found],
            [min(end, stored_until(one.event_uid, self._retention)) for one in found],
        )
        await conn.execute(SQL["advance_lines"], tenant, [row["delivery_id"] for row in rows])
        return len(rows)


async def _status(conn: Executor, tenant: TenantId, connection_id: UUID) -> str:
    status: str | None = await conn.fetchval(SQL["share_connection"], tenant, connection_id)
    if status is None:
        raise NotFound
    return status
