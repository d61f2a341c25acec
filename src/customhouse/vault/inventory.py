"""What keys there are: how many, how old, what is under way, and what still names a key that was replaced. Opens none of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from customhouse.clock import Clock
from customhouse.db import Database, Executor
from customhouse.types import TenantId
from customhouse.vault.moving import SealedTable
from customhouse.vault.opening import CONNECTION
from customhouse.vault.turns import SQL

_PAGE: Final = 500
_SHOWN: Final = 20


@dataclass(slots=True)
class Count:
    """Keys of one purpose, of all tenants that were asked about."""

    next: int = 0
    active: int = 0
    retired: int = 0
    destroyed: int = 0
    oldest: datetime | None = None
    """Of the active ones."""
    month: int = 0
    """Active ones made within 30 days."""
    year: int = 0
    """Active ones made within 365 days, those of the month included."""
    due: int = 0
    """Active ones older than was asked about."""


@dataclass(frozen=True, slots=True)
class TenantKey:
    """One tenant key."""

    key_id: UUID
    root: str
    state: str
    created_at: datetime
    wraps: int
    """Data keys."""


@dataclass(frozen=True, slots=True)
class Held:
    """A replaced connection key whose time has come, and the tables in which something still needs it."""

    tenant: TenantId
    connection_id: UUID
    key_id: UUID
    since: datetime
    held_by: tuple[str, ...]


@dataclass(slots=True)
class Inventory:
    """All of it."""

    root: str
    tenants: int = 0
    roots: dict[str, int] = field(default_factory=dict)
    """Live tenant keys by the root key that wrapped them."""
    tenant_keys: Count = field(default_factory=Count)
    data_keys: dict[str, Count] = field(default_factory=dict)
    """By purpose."""
    listed: list[TenantKey] = field(default_factory=list)
    """Where one tenant was asked about."""
    held: list[Held] = field(default_factory=list)
    """At most 20."""
    unfinished: list[tuple[str, str | None, datetime]] = field(default_factory=list)
    """Rotations that have not given every key its successor: kind, tenant, begun."""


class Counting:
    """Counts keys tenant by tenant: nothing crosses but their names."""

    def __init__(self, database: Database, clock: Clock, tables: Sequence[SealedTable], *, root: str, wait: timedelta) -> None:
        """Take the database, the time, what connection keys seal, the root key's name, and how long a key waits."""
        self._database = database
        self._clock = clock
        self._tables = tuple(tables)
        self._root = root
        self._wait = wait

    async def count(self, tenant: TenantId | None, older_than: timedelta) -> Inventory:
        """Return the keys of a tenant, or of all; what is older than this counts as due.

        Raises:
            DatabaseUnavailable: nobody answers.
        """
        now = self._clock.now()
        found = Inventory(self._root)
        for row in await self._database.call(SQL["unfinished"]):
            if tenant is None or row["only_tenant"] in {None, tenant}:
                found.unfinished.append((row["kind"], row["only_tenant"], row["started_at"]))
        async for each in self._tenants(tenant):
            found.tenants += 1
            async with self._database.transaction(each) as tx:
                await self._tenant_keys(tx, each, found, now - older_than, listed=tenant is not None)
                await self._data_keys(tx, each, found, now, now - older_than)
                if len(found.held) < _SHOWN:
                    await self._held(tx, each, found, now - self._wait)
        return found

    async def _tenant_keys(self, tx: Executor, tenant: TenantId, found: Inventory, due: datetime, *, listed: bool) -> None:
        count = found.tenant_keys
        for row in await tx.fetch(SQL["list_tenant_keys"], tenant):
            if listed:
                found.listed.append(TenantKey(row["key_id"], row["kms_key"], row["state"], row["created_at"], row["wraps"]))
            setattr(count, row["state"], getattr(count, row["state"]) + 1)
            if row["state"] != "destroyed":
                found.roots[row["kms_key"]] = found.roots.get(row["kms_key"], 0) + 1
            if row["state"] == "active":
                count.oldest = min(count.oldest or row["created_at"], row["created_at"])
                count.due += row["created_at"] < due or row["kms_key"] != self._root

    async def _data_keys(self, tx: Executor, tenant: TenantId, found: Inventory, now: datetime, due: datetime) -> None:
        for row in await tx.fetch(SQL["count_keys"], tenant, now, due):
            count = found.data_keys.setdefault(row["purpose"], Count())
            setattr(count, row["state"], getattr(count, row["state"]) + row["count"])
            if row["state"] == "active":
                count.oldest = min(count.oldest or row["oldest"], row["oldest"])
                count.month += row["month"]
                count.year += row["year"]
                count.due += row["due"] if row["purpose"] == CONNECTION else 0

    async def _held(self, tx: Executor, tenant: TenantId, found: Inventory, before: datetime) -> None:
        rows = [row for row in await tx.fetch(SQL["list_retired"], tenant, _SHOWN - len(found.held)) if row["retired_at"] <= before]
        by_key: dict[bytes, list[str]] = {row["key_id"].bytes: [] for row in rows}
        connections = [UUID(row["scope"]) for row in rows]
        for table in self._tables if rows else ():
            for left in await tx.fetch(table.left, tenant, connections, list(by_key)):
                by_key[bytes(left["key"])].append(table.name)
        for row in rows:
            held = Held(tenant, UUID(row["scope"]), row["key_id"], row["retired_at"], tuple(by_key[row["key_id"].bytes]))
            found.held.append(held)

    async def _tenants(self, only: TenantId | None) -> AsyncIterator[TenantId]:
        if only is not None:
            yield only
            return
        after = ""
        while rows := await self._database.call(SQL["holders"], after, _PAGE):
            for row in rows:
                yield TenantId(row["tenant_id"])
            after = rows[-1]["tenant_id"]
