"""The keyring's part in a rotation: successors are stored, take over, and what they replaced is destroyed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias
from uuid import UUID

from customhouse.db import Database, Executor, Row, queries
from customhouse.types import TenantId
from customhouse.vault.deeds import KeyDeed, KeyEvent, Witness
from customhouse.vault.keyring import WrappedDataKey, WrappedTenantKey, data_key_of, tenant_key_of
from customhouse.vault.opening import CONNECTION

SQL: Final = queries(__package__, "rotation.sql")
KEYRING: Final = queries(__package__)
Wrap: TypeAlias = Callable[[WrappedDataKey], Awaitable[bytes | None]]
"""Wraps a data key anew; None where it does not open."""


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """How many data keys of a batch were wrapped anew, and which do not open."""

    count: int
    unreadable: tuple[UUID, ...]


class Turns:
    """Each call is a transaction of its own in the tenant; every change is in the ledger with it.

    Every method raises `DatabaseUnavailable` where the database does not answer, and may be repeated.
    """

    def __init__(self, db: Database, witness: Witness, held: str) -> None:
        """Take the database of the keyring, who writes the ledger, and the query that tells which tenant keys are needed elsewhere."""
        self._db = db
        self._held = held
        self._witness = witness

    async def tenant_key_due(self, tenant: TenantId, root: str, cutoff: datetime) -> WrappedTenantKey | None:
        """Return the active tenant key if it was made before the cutoff, or under another root key."""
        async with self._db.transaction(tenant) as tx:
            row = await tx.fetchrow(SQL["tenant_key_due"], tenant, cutoff, root)
        return None if row is None else tenant_key_of(tenant, row)

    async def replace_tenant_key(self, old: WrappedTenantKey, new: WrappedTenantKey, at: datetime) -> bool:
        """Let a new tenant key wrap what is made from now on; tell whether it does: somebody else may have been quicker."""
        tenant = old.tenant_id
        async with self._db.transaction(tenant) as tx:
            await tx.fetchval(KEYRING["lock_tenant"], tenant)
            if await tx.execute(SQL["retire_tenant_key"], tenant, old.key_id, at) != "UPDATE 1":
                return False
            await tx.execute(KEYRING["add_tenant_key"], tenant, new.key_id, new.root, new.wrapped, at)
            await self._witness(tx, KeyEvent(KeyDeed.TENANT_KEY_REPLACED, tenant, old.key_id, old.root))
            await self._witness(tx, KeyEvent(KeyDeed.TENANT_KEY_CREATED, tenant, new.key_id, new.root))
        return True

    async def active_tenant_key(self, tenant: TenantId) -> WrappedTenantKey | None:
        """Return the tenant key that wraps what is new."""
        async with self._db.transaction(tenant) as tx:
            row = await tx.fetchrow(KEYRING["active_tenant_key"], tenant)
        return None if row is None else tenant_key_of(tenant, row)

    async def retired_tenant_keys(self, tenant: TenantId) -> list[WrappedTenantKey]:
        """Return the tenant keys that were replaced and have not ended."""
        async with self._db.transaction(tenant) as tx:
            rows = await tx.fetch(SQL["retired_tenant_keys"], tenant)
        return [tenant_key_of(tenant, row) for row in rows]

    async def wrapping_tenant_keys(self, tenant: TenantId) -> list[WrappedTenantKey]:
        """Return those of them that still wrap something."""
        async with self._db.transaction(tenant) as tx:
            rows = await tx.fetch(SQL["wrapping_tenant_keys"], tenant)
        return [tenant_key_of(tenant, row) for row in rows]

    async def rewrap(self, old: WrappedTenantKey, new: UUID, wrap: Wrap, leave: Sequence[UUID], limit: int, at: datetime) -> Rewrapped:
        """Wrap up to so many data keys of an old tenant key under a new one; those in `leave`, and those that somebody changes, stay."""
        tenant = old.tenant_id
        async with self._db.transaction(tenant) as tx:
            found = [data_key_of(tenant, row) for row in await tx.fetch(SQL["lock_wrapped"], tenant, old.key_id, list(leave), limit)]
            wrapped = [(key.key_id, await wrap(key)) for key in found]
            done = [(key_id, one) for key_id, one in wrapped if one is not None]
            if done:
                await tx.execute(SQL["rewrap"], tenant, new, [key_id for key_id, _ in done], [one for _, one in done])
                await tx.execute(SQL["touch_retired"], tenant, old.key_id, at)
        return Rewrapped(len(done), tuple(key_id for key_id, one in wrapped if one is None))

    async def end_tenant_key(self, key: WrappedTenantKey, at: datetime, before: datetime) -> bool:
        """Destroy a tenant key that wraps nothing, and wrapped nothing since `before`; tell whether it was."""
        async with self._db.transaction(key.tenant_id) as tx:
            await tx.fetchval(KEYRING["lock_tenant"], key.tenant_id)
            if await tx.fetch(self._held, key.tenant_id, [key.key_id]):
                return False
            if await tx.fetchval(SQL["end_tenant_key"], key.tenant_id, key.key_id, at, before) is None:
                return False
            await self._witness(tx, KeyEvent(KeyDeed.TENANT_KEY_DESTROYED, key.tenant_id, key.key_id))
        return True

    async def connections_due(self, tenant: TenantId, cutoff: datetime, after: UUID, limit: int) -> Sequence[tuple[UUID, str]]:
        """Return active connection keys made before the cutoff, with their scopes, in order of their ids after `after`."""
        async with self._db.transaction(tenant) as tx:
            rows = await tx.fetch(SQL["due"], tenant, cutoff, after, limit)
        return [(row["key_id"], row["scope"]) for row in rows]

    async def add_next(self, tenant_key: WrappedTenantKey, fresh: Sequence[tuple[UUID, str, bytes]], at: datetime) -> int:
        """Store successors (id, scope, wrapped) of connection keys; return how many. None where the tenant key is not active any more."""
        tenant = tenant_key.tenant_id
        ids, scopes, wrapped = ([one[i] for one in fresh] for i in range(3))
        async with self._db.transaction(tenant) as tx:
            await tx.fetchval(SQL["lock_scopes"], tenant, scopes)
            if await tx.fetchval(KEYRING["hold_tenant_key"], tenant, tenant_key.key_id) is None:
                return 0
            rows = await tx.fetch(SQL["add_next"], tenant, tenant_key.key_id, at, ids, scopes, wrapped)
            await self._tell(tx, tenant, KeyDeed.DATA_KEY_CREATED, rows)
        return len(rows)

    async def take_over(self, tenant: TenantId, at: datetime, before: datetime, limit: int) -> int:
        """Let successors made before a moment seal what is new; return how many."""
        async with self._db.transaction(tenant) as tx:
            ready = {row["scope"]: row["key_id"] for row in await tx.fetch(SQL["ready"], tenant, before, limit)}
            if not ready:
                return 0
            await tx.fetchval(SQL["lock_scopes"], tenant, list(ready))
            # Somebody else may have been quicker, or the connection has ended: what is not replaced now has no successor that waits.
            rows = await tx.fetch(SQL["retire"], tenant, list(ready), at, before)
            await tx.execute(SQL["take_over"], tenant, [ready[row["scope"]] for row in rows])
            await self._tell(tx, tenant, KeyDeed.CONNECTION_KEY_REPLACED, rows)
        return len(rows)

    async def replaced(
        self, tenant: TenantId, before: datetime, after: UUID, limit: int
    ) -> Sequence[tuple[WrappedDataKey, WrappedDataKey | None]]:
        """Return connection keys that were replaced before a moment, each with the key of now, in order of their ids after `after`."""
        async with self._db.transaction(tenant) as tx:
            rows = await tx.fetch(SQL["to_end"], tenant, before, after, limit)
            if not rows:
                return []
            keys = [data_key_of(tenant, row) for row in await tx.fetch(SQL["pairs"], tenant, [row["scope"] for row in rows])]
        active = {key.scope: key for key in keys if key.active}
        retired = {key.key_id: key for key in keys if not key.active}
        return [(retired[row["key_id"]], active.get(row["scope"])) for row in rows if row["key_id"] in retired]

    async def end(self, tenant: TenantId, key_ids: Sequence[UUID], at: datetime) -> int:
        """Destroy connection keys that were replaced and seal nothing any more; return how many."""
        async with self._db.transaction(tenant) as tx:
            rows = await tx.fetch(SQL["end"], tenant, list(key_ids), at)
            await self._tell(tx, tenant, KeyDeed.CONNECTION_KEY_DESTROYED, rows)
        return len(rows)

    async def _tell(self, tx: Executor, tenant: TenantId, deed: KeyDeed, rows: Sequence[Row]) -> None:
        for row in rows:
            await self._witness(tx, KeyEvent(deed, tenant, row["key_id"], purpose=CONNECTION, scope=row["scope"]))
