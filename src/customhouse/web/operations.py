"""What people do with deliveries: `/retry`, `/recover`, `/test` and a look at a payload."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import Query

from customhouse import ids
from customhouse.tenants.api_keys import Scope
from customhouse.tenants.idempotency import Once, key_of
from customhouse.types import TenantId
from customhouse.web.auth import Caller, CallerOf, NamedTenant, needs
from customhouse.web.events import DeliveryShape, shown
from customhouse.web.moments import Moment
from customhouse.web.problems import MEDIA_TYPE
from customhouse.web.repeats import IdempotencyKey
from customhouse.web.routes import Body, Shape, router

ROUTES: Final = router("operations")
_GONE: Final[dict[int | str, dict[str, Any]]] = {
    410: {"description": "The payload is not kept any more", "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
}
Force = Annotated[
    Literal["true"] | None,
    Query(description="`true`: also a delivery that was delivered; the receiver sees a duplicate with the same event id."),
]
Reason = Annotated[str, Query(min_length=3, max_length=200, description="Why; it is written into the ledger, so it names no person.")]


class Missed(Body):
    """Which deliveries to bring back: those whose event was accepted in a period, and that ended so."""

    since: Moment
    until: Moment | None = None
    status: Literal["failed", "cancelled", "expired"] | None = None


class RecoveredShape(Shape):
    """What was queued again. `more`: the same call goes on where this one stopped."""

    queued: int
    payload_expired: int
    more: bool


class PayloadShape(Shape):
    """The exact body of a delivery, as text, and the ledger's entry about this look at it."""

    delivery_id: str
    event_id: str
    event_type: str
    connection_id: str
    content_type: str = "application/json"
    body: str
    body_sha256: str
    audit_entry_id: str
    viewed_at: datetime


@ROUTES.post("/v1/deliveries/{delivery_id}/retry", status_code=202, summary="Send a delivery again", responses=_GONE)
@needs(Scope.EVENTS_WRITE, Scope.CONNECTIONS_WRITE)
async def retry_delivery(delivery_id: str, caller: CallerOf, tenant_id: NamedTenant = None, force: Force = None) -> DeliveryShape:
    """Queue a delivery that failed, expired or was cancelled, under its own id and with the same bytes; its attempts go on counting.

    The first attempt is made at once; further ones follow what is left of the retry schedule, and one is made in any case. A delivery
    that waits already: 409. One that was delivered: 409 unless `force=true`. Its payload is gone: 410 `payload_expired`.
    """
    tenant = await caller.tenant(tenant_id)
    delivery = ids.parse("dlv", delivery_id)
    await caller.app.operations.retry(tenant, delivery, caller.origin, force=force is not None)
    return shown((await caller.app.reads.delivery(tenant, delivery))[0])


@ROUTES.post("/v1/connections/{connection_id}/recover", status_code=202, summary="Bring back missed deliveries")
@needs(Scope.CONNECTIONS_WRITE)
async def recover_connection(connection_id: str, body: Missed, caller: CallerOf, tenant_id: NamedTenant = None) -> RecoveredShape:
    """Queue what a connection missed, each as by `retry`, the oldest first, at most 10000 at a time; with `more`, repeat the call.

    Without `status`: what failed or expired. What waits already or was delivered is left alone, so a repetition does no harm.
    """
    tenant = await caller.tenant(tenant_id)
    connection = ids.parse("con", connection_id)
    done = await caller.app.operations.recover(tenant, connection, body.since, body.until, body.status, caller.origin)
    return RecoveredShape(queued=done.queued, payload_expired=done.payload_expired, more=done.more)


@ROUTES.post("/v1/connections/{connection_id}/test", status_code=202, summary="Send a test event")
@needs(Scope.CONNECTIONS_WRITE)
async def send_test(connection_id: str, caller: CallerOf, tenant_id: NamedTenant = None, _key: IdempotencyKey = None) -> DeliveryShape:
    """Send a `customhouse.ping` to this connection alone, whatever it subscribed to. Answers its delivery, to be looked at again."""
    tenant = await caller.tenant(tenant_id)
    connection = ids.parse("con", connection_id)
    once = await _once(caller, tenant, connection_id)
    delivery = await caller.app.operations.test(tenant, connection, caller.origin, once)
    return shown((await caller.app.reads.delivery(tenant, delivery))[0])


@ROUTES.get("/v1/deliveries/{delivery_id}/payload", summary="Look at a payload", responses=_GONE)
@needs(Scope.PAYLOADS_READ, also=Scope.ADMIN)
async def view_payload(delivery_id: str, caller: CallerOf, reason: Reason, tenant_id: NamedTenant = None) -> PayloadShape:
    """Show the exact body of a delivery. Who looked, and why, is in the ledger before the answer is given; never cached.

    Its retention has ended: 410 `payload_expired`.
    """
    tenant = await caller.tenant(tenant_id)
    seen = await caller.app.payloads.view(tenant, ids.parse("dlv", delivery_id), reason, caller.origin)
    return PayloadShape(
        delivery_id=ids.show("dlv", seen.delivery_id),
        event_id=seen.event_id,
        event_type=seen.event_type,
        connection_id=ids.show("con", seen.connection_id),
        body=seen.body.decode(),
        body_sha256=seen.sha256,
        audit_entry_id=ids.show("aud", seen.audit_entry_id),
        viewed_at=caller.app.clock.now(),
    )


async def _once(caller: Caller, tenant: TenantId, connection_id: str) -> Once:
    text = caller.call.idempotency_key()
    key = None if text is None else key_of(text)
    return await Once.prepare(caller.app.vault, tenant, "connections.test", key, connection_id.encode())
