"""What a user's type checker must accept of the public names; checked by mypy, never run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from fastapi import APIRouter

from customhouse_receiver import (
    AsyncReplayCache,
    Claim,
    ClaimState,
    Event,
    MemoryReplayCache,
    Reason,
    Receiver,
    ReplayCache,
    WebhookRejected,
    wsgi,
)
from customhouse_receiver.asgi import App, WebhookMiddleware
from customhouse_receiver.fastapi import WebhookEvent, webhook_route
from customhouse_receiver.flask import webhook
from customhouse_receiver.redis import RedisReplayCache


class Store:
    """A user's own cache, by shape alone."""

    def claim(self, key: str, *, token: str, fingerprint: str, lease: float) -> Claim:
        """Claim."""
        return Claim(ClaimState.IN_PROGRESS, retry_after=3)

    def confirm(self, key: str, *, token: str, fingerprint: str, ttl: float, floor: float) -> None:
        """Confirm."""

    def release(self, key: str, *, token: str) -> None:
        """Release."""


memory: ReplayCache = MemoryReplayCache(max_entries=10)
also: AsyncReplayCache = MemoryReplayCache()
store: ReplayCache = Store()

receiver = Receiver(secrets={"key_1": "…"}, replay=memory)
receiver = Receiver(
    {"key_1": "…"},
    replay=also,
    header_prefix="X-Acme",
    tolerance=60,
    accepted_versions=["1.0", "1.1"],
    clock=lambda: 0,
    max_body=10,
    replay_ttl=600.0,
    lease=5,
)


def handle(headers: Mapping[str, str], pairs: list[tuple[bytes, bytes]], body: bytes) -> Optional[int]:
    """Use every name of an event and of a refusal."""
    try:
        event: Event = receiver.verify(headers, body)
    except WebhookRejected as rejected:
        reason: Reason = rejected.reason
        retry_after: Optional[int] = rejected.retry_after
        status: int = rejected.http_status
        retryable: bool = rejected.retryable
        return status if reason is Reason.REPLAYED or retryable else retry_after
    with receiver.verify(pairs, body) as other:
        data: Mapping[str, Any] = other.data
        texts: list[str] = [other.event_id, other.event_type, other.connection_id, other.tenant_id, other.profile, other.key_id]
        correlation_id: Optional[str] = other.correlation_id
        print(data, texts, correlation_id)
    event.release() if event.duplicate else event.done()
    return event.timestamp


async def handle_async(headers: dict[bytes, bytes], body: bytes) -> None:
    """Use the asynchronous door."""
    async with await receiver.averify(headers, body) as event:
        await event.adone()
        await event.arelease()


def wrap(app: App) -> App:
    """Wrap an ASGI app: what comes out is one."""
    return WebhookMiddleware(app, receiver)


def wrap_wsgi(app: wsgi.App) -> wsgi.App:
    """Wrap a WSGI app: what comes out is one."""
    return wsgi.WebhookMiddleware(app, receiver)


shared: ReplayCache = RedisReplayCache("redis://127.0.0.1", timeout=0.5)
shared_too: AsyncReplayCache = RedisReplayCache("redis://127.0.0.1", allow_eviction=True)
hooks = APIRouter(route_class=webhook_route(receiver))


@hooks.post("/hooks")
async def take(event: WebhookEvent) -> None:
    """Take an event in FastAPI."""
    print(event.event_id)


@webhook(receiver)
def view(event: Event) -> tuple[str, int]:
    """Take an event in Flask."""
    return event.event_id, 200


receiver.verify({}, "text")  # type: ignore[arg-type]
Receiver({"key_1": "…"})  # type: ignore[call-arg]
Receiver({"key_1": "…"}, replay={})  # type: ignore[arg-type]
