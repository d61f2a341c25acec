"""`/v1/events` and `/v1/deliveries`, for reading."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Final, Literal, cast

from fastapi import Query

from customhouse import ids
from customhouse.errors import Fault, Invalid, NotFound
from customhouse.outbound.reads import Attempt, Delivery, Search
from customhouse.tenants.api_keys import Scope
from customhouse.web.auth import CallerOf, ConnectionFilter, NamedTenant, needs
from customhouse.web.moments import Moment
from customhouse.web.pages import Page, PageOf
from customhouse.web.routes import Shape, router

ROUTES: Final = router("events")
_EVENT_ID: Final = re.compile(r"[A-Za-z0-9_:-]{1,64}")
_EVENT_ID_QUERY: Final = r"^[A-Za-z0-9_:-]{1,64}$"
_EVENT_TYPE_QUERY: Final = r"^[A-Za-z0-9_.:-]{1,128}$"
Status = Literal["pending", "delivering", "delivered", "retrying", "failed", "cancelled", "expired"]


class Privacy(Shape):
    """What the privacy inspection found and took out; it names fields, never values."""

    contains_pii: bool
    pii_fields: list[str]
    removed_fields: list[str]
    policy: str


class DeliveryShape(Shape):
    """One event for one connection."""

    delivery_id: str
    event_id: str
    event_type: str
    connection_id: str
    status: Status
    reason: str | None
    next_attempt_at: datetime | None
    privacy: Privacy
    created_at: datetime


class AttemptShape(Shape):
    """One HTTP try; bodies are never kept."""

    attempt_id: str
    at: datetime
    outcome: str
    reason: str | None
    status_code: int | None
    error: str | None
    latency_ms: int | None
    request_bytes: int | None
    response_bytes: int | None


class DeliveryWithAttempts(DeliveryShape):
    """A delivery and all its tries, the first one first."""

    attempts: list[AttemptShape]


class EventShape(Shape):
    """A published event; its data is sealed and not part of it."""

    event_id: str
    event_type: str
    occurred_at: datetime
    accepted_at: datetime
    correlation_id: str | None
    size_bytes: int
    deliveries: list[DeliveryShape]


@ROUTES.get("/v1/events/{event_id}", summary="Show an event")
@needs(Scope.CONNECTIONS_READ, Scope.EVENTS_WRITE)
async def get_event(event_id: str, caller: CallerOf, tenant_id: NamedTenant = None) -> EventShape:
    """Show an event with its deliveries. Its data is sealed and not shown."""
    tenant = await caller.tenant(tenant_id)
    if not _EVENT_ID.fullmatch(event_id):
        raise NotFound
    event = await caller.app.reads.event(tenant, event_id)
    return EventShape(
        event_id=event.event_id,
        event_type=event.event_type,
        occurred_at=event.occurred_at,
        accepted_at=event.accepted_at,
        correlation_id=event.correlation_id,
        size_bytes=event.size_bytes,
        deliveries=[shown(one) for one in event.deliveries],
    )


@ROUTES.get("/v1/deliveries", summary="List deliveries")
@needs(Scope.CONNECTIONS_READ, Scope.EVENTS_WRITE)
async def list_deliveries(
    caller: CallerOf,
    page: PageOf,
    tenant_id: NamedTenant = None,
    event_id: Annotated[str | None, Query(pattern=_EVENT_ID_QUERY)] = None,
    connection_id: ConnectionFilter = None,
    status: Status | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    event_type: Annotated[str | None, Query(pattern=_EVENT_TYPE_QUERY)] = None,
) -> Page[DeliveryShape]:
    """List deliveries, the newest first. A rare match may leave a page short, or empty: follow `next_cursor` until it is null."""
    tenant = await caller.tenant(tenant_id)
    try:
        connection = None if connection_id is None else ids.parse("con", connection_id)
    except NotFound:
        raise Invalid("The query is not acceptable.", (Fault("/connection_id", "is not a connection id"),)) from None
    wanted = Search(event_id, connection, status, since, page.before(), until, event_type)
    found = await caller.app.reads.search(tenant, wanted, page.limit + 1)
    return page.page(found.deliveries, shown, lambda one: one.delivery_id, found.resume)


@ROUTES.get("/v1/deliveries/{delivery_id}", summary="Show a delivery")
@needs(Scope.CONNECTIONS_READ, Scope.EVENTS_WRITE)
async def get_delivery(delivery_id: str, caller: CallerOf, tenant_id: NamedTenant = None) -> DeliveryWithAttempts:
    """Show a delivery with its attempts."""
    tenant = await caller.tenant(tenant_id)
    delivery, attempts = await caller.app.reads.delivery(tenant, ids.parse("dlv", delivery_id))
    return DeliveryWithAttempts(**shown(delivery).model_dump(), attempts=[_attempt(one) for one in attempts])


def shown(one: Delivery) -> DeliveryShape:
    """Return a delivery as it is answered."""
    return DeliveryShape(
        delivery_id=ids.show("dlv", one.delivery_id),
        event_id=one.event_id,
        event_type=one.event_type,
        connection_id=ids.show("con", one.connection_id),
        status=cast("Status", one.status),
        reason=one.reason,
        next_attempt_at=one.next_attempt_at,
        privacy=Privacy.model_validate(one.privacy),
        created_at=one.created_at,
    )


def _attempt(one: Attempt) -> AttemptShape:
    return AttemptShape(
        attempt_id=ids.show("att", one.attempt_id),
        at=one.at,
        outcome=one.outcome,
        reason=one.reason,
        status_code=one.status_code,
        error=one.error,
        latency_ms=one.latency_ms,
        request_bytes=one.request_bytes,
        response_bytes=one.response_bytes,
    )
