"""What became of events and deliveries, for those who ask."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, cast
from uuid import UUID

from customhouse import ids
from customhouse.canonical import parse
from customhouse.db import Database, Executor, Row, queries
from customhouse.errors import NotFound
from customhouse.outbound.roster import SQL
from customhouse.types import JsonObject, TenantId

SEARCH: Final = queries(__package__, "search.sql")
_FIRST: Final = UUID(int=0)
_LAST: Final = UUID(int=(1 << 128) - 1)
_WINDOW: Final = 500
_MOST_WINDOWS: Final = 20
"""A search that finds too little looks at 10 000 deliveries, then answers what it has and where it stopped."""
_QUEUED: Final = frozenset({"pending", "delivering", "retrying"})
_UNHAPPY: Final = frozenset({"failed", "cancelled", "expired"})
STATUSES: Final = frozenset({"pending", "delivering", "delivered", "retrying", "failed", "cancelled", "expired"})


@dataclass(frozen=True, slots=True)
class Event:
    """A published event; its data is sealed and not part of it."""

    event_id: str
    event_type: str
    occurred_at: datetime
    accepted_at: datetime
    correlation_id: str | None
    size_bytes: int
    deliveries: tuple[Delivery, ...]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one connection."""

    delivery_id: UUID
    event_id: str
    event_type: str
    connection_id: UUID
    status: str
    reason: str | None
    next_attempt_at: datetime | None
    privacy: JsonObject
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Attempt:
    """One HTTP try; bodies are never kept."""

    attempt_id: UUID
    at: datetime
    outcome: str
    reason: str | None
    status_code: int | None
    error: str | None
    latency_ms: int | None
    request_bytes: int | None
    response_bytes: int | None


@dataclass(frozen=True, slots=True)
class Search:
    """Which deliveries; all given conditions hold, `before` is the cursor."""

    event_id: str | None = None
    connection_id: UUID | None = None
    status: str | None = None
    since: datetime | None = None
    before: UUID | None = None
    until: datetime | None = None
    event_type: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found. `resume` is where it stopped although there may be more: the page may be short, and goes on from there."""

    deliveries: list[Delivery]
    resume: UUID | None


class Reads:
    """Answers questions about a tenant's events."""

    def __init__(self, database: Database) -> None:
        """Take the database."""
        self._database = database

    async def event(self, tenant: TenantId, event_id: str) -> Event:
        """Return an event with its deliveries.

        Raises:
            NotFound: no such event in this tenant.
        """
        async with self._database.transaction(tenant) as conn:
            row = await _find(conn, tenant, event_id)
            deliveries = await _deliveries(conn, tenant, list(row["delivery_ids"]))
        return Event(
            _event_id(row),
            row["event_type"],
            row["occurred_at"],
            ids.made_at(row["event_uid"]),
            row["correlation_id"],
            row["size_bytes"],
            tuple(deliveries),
        )

    async def deliveries(self, tenant: TenantId, wanted: Search, limit: int) -> list[Delivery]:
        """Return the newest deliveries, as `search` does.

        Raises:
            NotFound: the event that was named is not in this tenant.
        """
        return (await self.search(tenant, wanted, limit)).deliveries

    async def search(self, tenant: TenantId, wanted: Search, limit: int) -> Found:
        """Return deliveries, the newest first, window by window of an index; a search looks at a bounded number of them.

        Raises:
            NotFound: the event that was named is not in this tenant.
        """
        low = _FIRST if wanted.since is None else ids.floor_at(wanted.since)
        high = min(_LAST if wanted.before is None else wanted.before, _LAST if wanted.until is None else ids.floor_at(wanted.until))
        found: list[Delivery] = []
        async with self._database.transaction(tenant) as conn:
            if wanted.event_id is not None:
                of_event = (await _find(conn, tenant, wanted.event_id))["delivery_ids"]
                window = sorted((one for one in of_event if low <= one < high), reverse=True)
                return Found((await _matching(conn, tenant, window, wanted))[:limit], None)
            query, narrowed, selective = _window(wanted)
            size = limit if not selective else max(limit, _WINDOW)
            for _ in range(_MOST_WINDOWS):
                window = [row["delivery_id"] for row in await conn.fetch(SEARCH[query], tenant, low, high, size, *narrowed)]
                found += await _matching(conn, tenant, window, wanted)
                if len(found) >= limit or len(window) < size:
                    return Found(found[:limit], None)
                high = window[-1]
        return Found(found, high)

    async def delivery(self, tenant: TenantId, delivery_id: UUID) -> tuple[Delivery, list[Attempt]]:
        """Return a delivery with its attempts, the first one first.

        Raises:
            NotFound: no such delivery in this tenant.
        """
        async with self._database.transaction(tenant) as conn:
            found = await _deliveries(conn, tenant, [delivery_id])
            if not found:
                raise NotFound
            rows = await conn.fetch(SQL["attempts"], tenant, delivery_id)
        return found[0], [
            Attempt(
                row["attempt_id"],
                row["at"],
                row["outcome"],
                row["reason"],
                row["status_code"],
                row["error"],
                row["latency_ms"],
                row["request_bytes"],
                row["response_bytes"],
            )
            for row in rows
            if row["sent"]
        ]


async def first_deliveries(database: Database, tenant: TenantId, event_uid: UUID) -> tuple[str, tuple[tuple[str, str, JsonObject], ...]]:
    """Return what the first call that published this event was answered: its id and (delivery, connection, privacy)."""
    async with database.transaction(tenant) as conn:
        row = await conn.fetchrow(SQL["event_by_uid"], tenant, event_uid)
        if row is None:
            # Only the key is left: the event's partition was dropped by retention.
            raise NotFound
        deliveries = await _deliveries(conn, tenant, list(row["delivery_ids"]))
    return _event_id(row), tuple(
        (ids.show("dlv", one.delivery_id), ids.show("con", one.connection_id), one.privacy)
        for one in sorted(deliveries, key=lambda one: one.delivery_id)
    )


async def _find(conn: Executor, tenant: TenantId, event_id: str) -> Row:
    row = await conn.fetchrow(SQL["event_by_id"], tenant, event_id)
    if row is None:
        row = await conn.fetchrow(SQL["event_by_uid"], tenant, ids.parse("evt", event_id))
        # An event that was given a name of its own is not known by the number that it also has.
        if row is None or row["event_id"] is not None:
            raise NotFound
    return row


def _window(wanted: Search) -> tuple[str, tuple[object, ...], bool]:
    """Return which index to read, what else its query takes, and whether rows of a window may be left out afterwards."""
    if wanted.status in _QUEUED:
        return "window_of_queue", (), True
    if wanted.status in _UNHAPPY:
        return "window_of_unhappy", (wanted.status,), wanted.connection_id is not None or wanted.event_type is not None
    filtered = wanted.status is not None or wanted.event_type is not None
    if wanted.connection_id is not None:
        return "window_of_connection", (wanted.connection_id,), filtered
    return "window_of_tenant", (), filtered


async def _matching(conn: Executor, tenant: TenantId, window: list[UUID], wanted: Search) -> list[Delivery]:
    if not window:
        return []
    rows = await conn.fetch(SEARCH["search"], tenant, window, wanted.connection_id, wanted.event_type, wanted.status)
    return [_delivery(row) for row in rows]


async def _deliveries(conn: Executor, tenant: TenantId, delivery_ids: list[UUID]) -> list[Delivery]:
    return await _matching(conn, tenant, delivery_ids, Search())


def _delivery(row: Row) -> Delivery:
    if not row["queued"]:
        status, reason, next_at = row["outcome"] or "cancelled", row["reason"], None
    else:
        status = "delivering" if row["leased"] else "retrying" if row["attempts_made"] else "pending"
        # One that waits for others of its ordering key has no time of its own.
        reason, next_at = None, None if row["leased"] or row["blocked"] else row["next_at"]
    variants = cast("list[JsonObject]", parse(row["privacy"].encode()))
    return Delivery(
        row["delivery_id"],
        _event_id(row),
        row["event_type"],
        row["connection_id"],
        status,
        reason,
        next_at,
        variants[row["variant"]],
        ids.made_at(row["delivery_id"]),
    )


def _event_id(row: Row) -> str:
    return row["event_id"] or ids.show("evt", row["event_uid"])
