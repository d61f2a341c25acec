"""Unwrapped keys, for a short time: data keys live in the ring of their tenant key and end with it. Takes the time as argument."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TypeAlias
from uuid import UUID

from customhouse.crypto.envelope import RecordKey
from customhouse.types import TenantId

Scope: TypeAlias = tuple[str, str]
"""Purpose and scope of a data key: (`payload`, `2026-11-22`)."""


@dataclass(slots=True, eq=False)
class Ring:
    """An unwrapped tenant key, and which data keys were opened with it."""

    tenant_id: TenantId
    key: RecordKey
    expires: float
    """Monotonic second after which nothing of the ring is handed out."""
    refresh_at: float
    """Monotonic second from which a ring in use is unwrapped again."""
    used: bool = True
    doubted: bool = False
    """The tenant changed: whether its key still exists has to be read again."""
    opened: set[UUID] = field(default_factory=set)


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    ring: Ring
    key: RecordKey
    active_of: Scope | None
    until: float


class KeyCache:
    """Bounded in tenants and in data keys; the least recently used go first."""

    __slots__ = ("_active", "_data", "_max_data", "_max_tenants", "_rings")

    def __init__(self, *, max_tenants: int, max_data_keys: int) -> None:
        """Take the bounds, both at least 1."""
        self._max_tenants = max(1, max_tenants)
        self._max_data = max(1, max_data_keys)
        self._rings: OrderedDict[TenantId, dict[UUID, Ring]] = OrderedDict()
        self._data: OrderedDict[tuple[TenantId, UUID], _Held] = OrderedDict()
        self._active: dict[tuple[TenantId, Scope], UUID] = {}

    def __len__(self) -> int:
        """Return how many keys of any kind are held."""
        return sum(map(len, self._rings.values())) + len(self._data)

    def ring(self, tenant_id: TenantId, key_id: UUID, now: float) -> Ring | None:
        """Return the ring of a tenant key, unless it has expired."""
        ring = self._rings.get(tenant_id, {}).get(key_id)
        return None if ring is None or not self._fresh(ring, now) else ring

    def data_key(self, tenant_id: TenantId, key_id: UUID, now: float) -> RecordKey | None:
        """Return an opened data key, unless it or its ring has expired."""
        held = self._data.get((tenant_id, key_id))
        if held is None or not self._fresh(held.ring, now):
            return None
        if now >= held.until:
            self._forget(tenant_id, key_id)
            return None
        self._data.move_to_end((tenant_id, key_id))
        return held.key

    def active(self, tenant_id: TenantId, scope: Scope, now: float) -> RecordKey | None:
        """Return the active data key of a scope, unless it or its ring has expired."""
        key_id = self._active.get((tenant_id, scope))
        return None if key_id is None else self.data_key(tenant_id, key_id, now)

    def add_ring(self, ring: Ring) -> None:
        """Hold a ring; an older one of the same key goes, and whoever was unused longest where the bound is passed."""
        rings = self._rings.setdefault(ring.tenant_id, {})
        old, rings[ring.key.key_id] = rings.get(ring.key.key_id), ring
        if old is not None:
            self._drop_data(old)
        self._rings.move_to_end(ring.tenant_id)
        while len(self._rings) > self._max_tenants:
            self.drop_tenant(next(iter(self._rings)))

    def renew(self, fresh: Ring) -> Ring:
        """Let the held ring of the same key live as long as a fresh one, and return it; where none is held, hold and return the fresh."""
        held = self._rings.get(fresh.tenant_id, {}).get(fresh.key.key_id)
        if held is None or held.key.material != fresh.key.material:
            self.add_ring(fresh)
            return fresh
        held.expires, held.refresh_at, held.used = fresh.expires, fresh.refresh_at, False
        return held

    def add_data_key(self, ring: Ring, key: RecordKey, active_of: Scope | None, until: float) -> None:
        """Hold a data key, as the active one of a scope or by its id alone. A ring that is not held itself takes none.

        Not after the monotonic second `until`, though its ring is renewed: so every process learns in time of a key that takes over.
        """
        if self._rings.get(ring.tenant_id, {}).get(ring.key.key_id) is not ring:
            return
        self._forget(ring.tenant_id, key.key_id)
        self._data[(ring.tenant_id, key.key_id)] = _Held(ring, key, active_of, until)
        ring.opened.add(key.key_id)
        if active_of is not None:
            self._active[(ring.tenant_id, active_of)] = key.key_id
        while len(self._data) > self._max_data:
            self._forget(*next(iter(self._data)))

    def drop(self, ring: Ring) -> None:
        """Let go of a ring and of all that it opened."""
        self._drop_data(ring)
        rings = self._rings.get(ring.tenant_id, {})
        if rings.get(ring.key.key_id) is ring:
            del rings[ring.key.key_id]
            if not rings:
                del self._rings[ring.tenant_id]

    def drop_tenant(self, tenant_id: TenantId) -> None:
        """Let go of every key of a tenant."""
        for ring in self.rings(tenant_id):
            self.drop(ring)

    def doubt(self, tenant_id: TenantId) -> None:
        """Let go of a tenant's data keys, and mark its tenant keys: what is asked for next is read from the keyring again."""
        for ring in self.rings(tenant_id):
            self._drop_data(ring)
            ring.doubted = True

    def tenants(self) -> list[TenantId]:
        """Return the tenants that have a ring."""
        return list(self._rings)

    def rings(self, tenant_id: TenantId) -> list[Ring]:
        """Return the rings of a tenant, expired ones included."""
        return list(self._rings.get(tenant_id, {}).values())

    def _fresh(self, ring: Ring, now: float) -> bool:
        if now >= ring.expires:
            self.drop(ring)
            return False
        ring.used = True
        self._rings.move_to_end(ring.tenant_id)
        return True

    def _drop_data(self, ring: Ring) -> None:
        for key_id in list(ring.opened):
            self._forget(ring.tenant_id, key_id)

    def _forget(self, tenant_id: TenantId, key_id: UUID) -> None:
        held = self._data.pop((tenant_id, key_id), None)
        if held is None:
            return
        held.ring.opened.discard(key_id)
        if held.active_of is not None and self._active.get((tenant_id, held.active_of)) == key_id:
            del self._active[(tenant_id, held.active_of)]
