"""Where wrapped keys are kept: two tables, in a database that may be another one than that of what the keys seal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, TypeAlias
from uuid import UUID

from customhouse.db import Database, Executor, Row, queries
from customhouse.types import TenantId

_SQL: Final = queries("customhouse.vault")
_ONE: Final = "INSERT 0 1"


@dataclass(frozen=True, slots=True)
class WrappedTenantKey:
    """A tenant key as it is stored: wrapped by the key service."""

    tenant_id: TenantId
    key_id: UUID
    root: str
    """Name of the root key that wrapped it."""
    wrapped: bytes | None
    """None once destroyed."""


@dataclass(frozen=True, slots=True)
class WrappedDataKey:
    """A data key as it is stored: sealed under a tenant key."""

    key_id: UUID
    purpose: str
    scope: str
    active: bool
    wrapped: bytes | None
    """None once destroyed."""
    tenant_key: WrappedTenantKey
    others: tuple[WrappedDataKey, ...] | None = None
    """Of an active key: those before and after it in a rotation. None where they were not looked for."""


Within: TypeAlias = Callable[[Executor, Sequence[UUID]], Awaitable[None]]
"""What is done inside the keyring's transaction, before it commits, with the ids of the keys made or destroyed: its ledger entry."""


class Keyring:
    """Reads and writes wrapped keys, each call a transaction of its own in the tenant.

    Every method raises `DatabaseUnavailable` where the database does not answer.
    """

    __slots__ = ("_db",)

    def __init__(self, db: Database) -> None:
        """Take the database of the keyring."""
        self._db = db

    async def active_tenant_key(self, tenant_id: TenantId) -> WrappedTenantKey | None:
        """Return the tenant key that wraps what is new."""
        async with self._db.transaction(tenant_id) as tx:
            row = await tx.fetchrow(_SQL["active_tenant_key"], tenant_id)
        return None if row is None else tenant_key_of(tenant_id, row)

    async def tenant_key(self, tenant_id: TenantId, key_id: UUID) -> WrappedTenantKey | None:
        """Return a tenant key by its id, in any state."""
        async with self._db.transaction(tenant_id) as tx:
            row = await tx.fetchrow(_SQL["tenant_key"], tenant_id, key_id)
        return None if row is None else tenant_key_of(tenant_id, row)

    async def tenant_was_destroyed(self, tenant_id: TenantId) -> bool:
        """Tell whether a key of this tenant was destroyed."""
        async with self._db.transaction(tenant_id) as tx:
            return bool(await tx.fetchval(_SQL["tenant_was_destroyed"], tenant_id))

    async def add_tenant_key(self, key: WrappedTenantKey, *, at: datetime, within: Within) -> bool:
        """Store a tenant key as the active one; tell whether it was stored.

        It is not where the tenant has an active key, or had its last one destroyed.
        """
        async with self._db.transaction(key.tenant_id) as tx:
            await tx.fetchval(_SQL["lock_tenant"], key.tenant_id)
            if await tx.fetchval(_SQL["tenant_was_destroyed"], key.tenant_id):
                return False
            if await tx.execute(_SQL["add_tenant_key"], key.tenant_id, key.key_id, key.root, key.wrapped, at) != _ONE:
                return False
            await within(tx, [key.key_id])
            return True

    async def data_key(self, tenant_id: TenantId, key_id: UUID) -> WrappedDataKey | None:
        """Return a data key by its id, in any state."""
        async with self._db.transaction(tenant_id) as tx:
            row = await tx.fetchrow(_SQL["data_key_by_id"], tenant_id, key_id)
        return None if row is None else data_key_of(tenant_id, row)

    async def active_data_key(self, tenant_id: TenantId, purpose: str, scope: str) -> WrappedDataKey | None:
        """Return the active data key of a scope with the others; where there is none, a destroyed one; None where there never was one."""
        async with self._db.transaction(tenant_id) as tx:
            rows = await tx.fetch(_SQL["live_data_keys"], tenant_id, purpose, scope)
            if not rows:
                rows = await tx.fetch(_SQL["destroyed_data_key"], tenant_id, purpose, scope)
        keys = [data_key_of(tenant_id, row) for row in rows]
        if not keys or not keys[0].active:
            return keys[0] if keys and keys[0].wrapped is None else None
        return replace(keys[0], others=tuple(keys[1:]))

    async def data_keys_of(self, tenant_id: TenantId, purpose: str, scope: str) -> Sequence[WrappedDataKey]:
        """Return every data key of a scope that is not destroyed."""
        async with self._db.transaction(tenant_id) as tx:
            rows = await tx.fetch(_SQL["data_keys_of_scope"], tenant_id, purpose, scope)
        return [data_key_of(tenant_id, row) for row in rows]

    async def add_data_key(self, key: WrappedDataKey, *, at: datetime, within: Within) -> bool:
        """Store a data key as the active one of its scope; tell whether it was stored.

        It is not where the scope has an active key or had one destroyed, or where the tenant key is not active any more.
        """
        tenant_id = key.tenant_key.tenant_id
        async with self._db.transaction(tenant_id) as tx:
            await tx.fetchval(_SQL["lock_scope"], tenant_id, key.purpose, key.scope)
            if await tx.fetchval(_SQL["hold_tenant_key"], tenant_id, key.tenant_key.key_id) is None:
                return False
            if await tx.fetchval(_SQL["scope_was_destroyed"], tenant_id, key.purpose, key.scope):
                return False
            row = (tenant_id, key.key_id, key.purpose, key.scope, key.tenant_key.key_id, key.wrapped, at)
            if await tx.execute(_SQL["add_data_key"], *row) != _ONE:
                return False
            await within(tx, [key.key_id])
            return True

    async def destroy_scope(self, tenant_id: TenantId, purpose: str, scope: str, *, at: datetime, tombstone: UUID, within: Within) -> None:
        """Destroy every data key of a scope; a scope without one gets a tombstone of this id, and never a key."""
        async with self._db.transaction(tenant_id) as tx:
            await tx.fetchval(_SQL["lock_scope"], tenant_id, purpose, scope)
            rows = await tx.fetch(_SQL["destroy_scope"], tenant_id, purpose, scope, at)
            await tx.execute(_SQL["add_tombstone"], tenant_id, purpose, scope, at, tombstone)
            await within(tx, [row["key_id"] for row in rows])

    async def destroy_tenant(self, tenant_id: TenantId, *, at: datetime, within: Within) -> None:
        """Destroy every key of a tenant, in every state."""
        async with self._db.transaction(tenant_id) as tx:
            await tx.fetchval(_SQL["lock_tenant"], tenant_id)
            # The tenant keys first: their row locks keep add_data_key from adding one behind our back.
            rows = await tx.fetch(_SQL["destroy_tenant_keys"], tenant_id, at)
            await tx.execute(_SQL["destroy_data_keys"], tenant_id, at)
            await within(tx, [row["key_id"] for row in rows])


def tenant_key_of(tenant_id: TenantId, row: Row) -> WrappedTenantKey:
    """Return a row of a tenant key as such."""
    return WrappedTenantKey(
        tenant_id=tenant_id,
        key_id=row["tenant_key_id"],
        root=row["kms_key"],
        wrapped=row["tenant_wrapped"] if row["tenant_state"] != "destroyed" else None,
    )


def data_key_of(tenant_id: TenantId, row: Row) -> WrappedDataKey:
    """Return a row of a data key with its tenant key."""
    return WrappedDataKey(
        key_id=row["key_id"],
        purpose=row["purpose"],
        scope=row["scope"],
        active=row["state"] == "active",
        wrapped=row["wrapped"] if row["state"] != "destroyed" else None,
        tenant_key=tenant_key_of(tenant_id, row),
    )
