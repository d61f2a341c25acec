"""Scenes that many tests need: tenants with endpoints, events published, what the database holds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from customhouse.app import App
from customhouse.audit.log import SYSTEM
from customhouse.outbound.accept import Accepted
from customhouse.outbound.endpoints import Made, Wish
from customhouse.outbound.requests import read
from customhouse.tenants.idempotency import Once
from customhouse.types import TenantId

NOT_REPEATED = Once(None, b"")
ORDER: dict[str, Any] = {"event_type": "order.created", "data": {"order_id": "o_1"}}


async def make_tenant(app: App, name: str) -> TenantId:
    """Create a tenant."""
    await app.tenants.create(name, name.title(), SYSTEM, NOT_REPEATED)
    return TenantId(name)


async def connect(app: App, tenant: TenantId, url: str, **wish: Any) -> Made:
    """Create a webhook connection."""
    return await app.endpoints.create(tenant, Wish(url, **wish), SYSTEM, NOT_REPEATED)


async def publish(app: App, tenant: TenantId, **body: Any) -> Accepted:
    """Publish an event, an order unless told otherwise."""
    return await app.acceptor.accept(read(ORDER | body), tenant, SYSTEM, size_bytes=100)


async def until(holds: Callable[[], Awaitable[object]], within: float = 20.0) -> None:
    """Ask again and again until the answer is true: for what only the database knows."""
    async with asyncio.timeout(within):
        while not await holds():
            await asyncio.sleep(0.02)


async def settled(owner: asyncpg.Connection, count: int, within: float = 20.0) -> None:
    """Wait until so many deliveries have ended and none is left in the queue."""

    async def ended() -> bool:
        done: int = await owner.fetchval("select count(*) from attempts where outcome <> 'retrying'")
        return done >= count and not await owner.fetchval("select count(*) from delivery_queue")

    await until(ended, within)


async def hasten(owner: asyncpg.Connection) -> None:
    """Let every waiting delivery be due now."""
    await owner.execute(
        """
        update delivery_queue q set next_at = now()
        from (select tenant_id, delivery_id from delivery_queue where owner is null for update skip locked) free
        where q.tenant_id = free.tenant_id and q.delivery_id = free.delivery_id
        """
    )


async def still(app: App, *loops: str) -> None:
    """End loops of a service, as `jobs` or `claims`, so that a test alone decides when their work is done."""
    for task in app._tasks:
        # The job queue's library may take the first cancellation for a reason to end its own loops only.
        while task.get_name() in loops and not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=0.2)
