"""The key service as the vault uses it: one context per tenant, few calls at once, none that waited too long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from customhouse.clock import Clock
from customhouse.crypto.kms import KeyService
from customhouse.errors import KeyServiceUnavailable
from customhouse.metrics import KMS_CALLS, Metrics
from customhouse.types import Secret, TenantId

PURPOSE: Final = "tenant-key"
"""In every context; the policies of deploy/aws ask for it."""


class RootKey:
    """Wraps and unwraps tenant keys."""

    __slots__ = ("_clock", "_environment", "_metrics", "_patience", "_places", "_service", "_unwrapping")

    def __init__(
        self,
        service: KeyService,
        clock: Clock,
        *,
        environment: str,
        max_calls: int,
        patience: float,
        metrics: Metrics | None,
        previous: Sequence[KeyService] = (),
    ) -> None:
        """Take the service, the limits (calls at once, seconds of waiting for a place), and the services of before, which only unwrap."""
        self._service = service
        self._unwrapping = {one.name: one for one in (*previous, service)}
        self._clock = clock
        self._environment = environment
        self._places = asyncio.Semaphore(max_calls)
        self._patience = patience
        self._metrics = metrics

    @property
    def name(self) -> str:
        """The name of the root key."""
        return self._service.name

    async def generate(self, tenant_id: TenantId) -> tuple[Secret, bytes, float]:
        """Return a fresh key, its wrapped form, and the monotonic second before the call.

        Raises:
            KeyServiceUnavailable: the service is away, or no place became free in time.
        """
        async with self._place("generate"):
            started = self._clock.monotonic()
            return (*await self._service.generate(self._context(tenant_id)), started)

    async def unwrap(self, tenant_id: TenantId, root: str, wrapped: bytes) -> tuple[Secret, float]:
        """Return a tenant key, and the monotonic second before the call.

        Raises:
            KeyServiceUnavailable: as for `generate`, or another root key wrapped it.
            Unsealable: it is not this tenant's key.
        """
        service = self._unwrapping.get(root)
        if service is None:
            raise KeyServiceUnavailable(
                "This tenant's key was wrapped by another root key than CUSTOMHOUSE_KMS_KEY and CUSTOMHOUSE_KMS_PREVIOUS_KEYS name."
            )
        async with self._place("unwrap"):
            started = self._clock.monotonic()
            return await service.unwrap(wrapped, self._context(tenant_id)), started

    def _context(self, tenant_id: TenantId) -> dict[str, str]:
        return {"tenant_id": tenant_id, "purpose": PURPOSE, "environment": self._environment}

    @asynccontextmanager
    async def _place(self, operation: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._patience):
                await self._places.acquire()
        except TimeoutError:
            self._count(operation, "overloaded")
            raise KeyServiceUnavailable from None
        outcome = "failed"
        try:
            yield
            outcome = "ok"
        finally:
            self._places.release()
            self._count(operation, outcome)

    def _count(self, operation: str, outcome: str) -> None:
        if self._metrics is not None:
            self._metrics.counter(KMS_CALLS, operation=operation, outcome=outcome).inc()
