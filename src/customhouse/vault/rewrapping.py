"""Tenant keys in a rotation: another one takes over at once, and what the old one wrapped is wrapped anew."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Final
from uuid import UUID

from customhouse.clock import Clock
from customhouse.errors import Unsealable
from customhouse.failpoints import Failpoints
from customhouse.logs import get
from customhouse.types import TenantId
from customhouse.vault.keyring import WrappedDataKey, WrappedTenantKey
from customhouse.vault.opening import Opener
from customhouse.vault.steps import Step, Tally
from customhouse.vault.turns import Turns

_log: Final = get("customhouse.vault")
_BATCH: Final = 500


class Rewrapping:
    """Replaces tenant keys."""

    def __init__(self, opener: Opener, turns: Turns, clock: Clock, failpoints: Failpoints, *, wait: timedelta) -> None:
        """Take the parts; `wait` is how long a replaced key is kept after it last wrapped something."""
        self._opener = opener
        self._turns = turns
        self._clock = clock
        self._failpoints = failpoints
        self._wait = wait

    async def replace(self, tenant: TenantId, cutoff: datetime, tally: Tally) -> None:
        """Give a tenant another key where its own was made before the cutoff, or by another root key; wrap anew what the old one wrapped.

        Raises:
            KeyDestroyed, Unsealable: the old one does not open; it is not replaced then.
            KeyServiceUnavailable, DatabaseUnavailable: not now.
        """
        old = await self._turns.tenant_key_due(tenant, self._opener.root, cutoff)
        if old is not None:
            # One that does not open now is not replaced: nothing that it wraps could be wrapped anew.
            await self._opener.at_hand(old)
            new = await self._opener.tenant_key(tenant)
            if await self._turns.replace_tenant_key(old, new, self._clock.now()):
                await tally.add(Step.TENANT_KEYS_MADE, 1)
            self._failpoints.hit("rotate.tenant_key_replaced")
        await self.wrap_anew(tenant, tally)

    async def wrap_anew(self, tenant: TenantId, tally: Tally) -> None:
        """Wrap what replaced tenant keys still wrap under the tenant key of now; raises as `replace` does."""
        for old in await self._turns.wrapping_tenant_keys(tenant):
            new = await self._turns.active_tenant_key(tenant)
            if new is None:
                return
            # Both are at hand before any row is locked.
            await self._opener.at_hand(old)
            await self._opener.at_hand(new)
            leave: list[UUID] = []
            while True:
                done = await self._turns.rewrap(old, new.key_id, partial(self._wrapped, new), leave, _BATCH, self._clock.now())
                leave += done.unreadable
                await tally.add(Step.DATA_KEYS_WRAPPED, done.count)
                await tally.add(Step.UNREADABLE, len(done.unreadable))
                self._failpoints.hit("rotate.wrapped")
                if not done.count and not done.unreadable:
                    break

    async def _wrapped(self, new: WrappedTenantKey, key: WrappedDataKey) -> bytes | None:
        try:
            opened = await self._opener.material(key)
        except Unsealable:
            _log.error("data_key_unreadable", tenant_id=new.tenant_id)
            return None
        return await self._opener.wrap(new, key.key_id, (key.purpose, key.scope), opened.material)

    async def end(self, tenant: TenantId, tally: Tally) -> None:
        """Destroy the replaced tenant keys that wrap nothing any more, and whose time has come."""
        now = self._clock.now()
        for old in await self._turns.retired_tenant_keys(tenant):
            if await self._turns.end_tenant_key(old, now, now - self._wait):
                await tally.add(Step.TENANT_KEYS_ENDED, 1)
