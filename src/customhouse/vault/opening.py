"""How keys are opened and made: from what the keyring holds, through the ring of the tenant key, into the cache."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from customhouse import ids
from customhouse.clock import Clock
from customhouse.crypto.envelope import KEY_BYTES, Place, RecordKey, open_sealed, seal
from customhouse.db import Executor
from customhouse.errors import KeyDestroyed, Unsealable
from customhouse.types import Secret, TenantId
from customhouse.vault.cache import KeyCache, Ring, Scope
from customhouse.vault.deeds import KeyDeed, KeyEvent, Witness
from customhouse.vault.flights import Flight, Flights
from customhouse.vault.keyring import Keyring, Within, WrappedDataKey, WrappedTenantKey
from customhouse.vault.roots import RootKey

CONNECTION: Final = "connection"
"""Purpose of a connection's key; its scope is the connection's id."""

_REFRESH_AT: Final = 0.8
_JITTER: Final = 0.1
_TRIES: Final = 3


class Opener:
    """Opens and makes keys for the vault, which decides what is asked for and what is let go of."""

    __slots__ = ("_cache", "_clock", "_environment", "_flights", "_keyring", "_root", "_ttl", "_witness")

    def __init__(
        self,
        *,
        keyring: Keyring,
        root: RootKey,
        cache: KeyCache,
        flights: Flights,
        clock: Clock,
        witness: Witness,
        environment: str,
        ttl: float,
    ) -> None:
        """Take the vault's parts; `ttl` in seconds."""
        self._keyring = keyring
        self._root = root
        self._cache = cache
        self._flights = flights
        self._clock = clock
        self._witness = witness
        self._environment = environment
        self._ttl = ttl

    async def create(self, tenant_id: TenantId, scope: Scope) -> WrappedDataKey | None:
        """Make the data key of a scope, or find the one that somebody else made meanwhile.

        Raises:
            KeyDestroyed: the tenant was destroyed.
            Unsealable: the tenant has no key.
        """
        for _ in range(_TRIES):
            tenant_key = await self._keyring.active_tenant_key(tenant_id)
            if tenant_key is None:
                raise KeyDestroyed if await self._keyring.tenant_was_destroyed(tenant_id) else Unsealable("This tenant has no key.")
            key_id = ids.new()
            wrapped = await self.wrap(tenant_key, key_id, scope, Secret(os.urandom(KEY_BYTES)))
            fresh = WrappedDataKey(key_id, *scope, active=True, wrapped=wrapped, tenant_key=tenant_key, others=())
            told = self.told(KeyDeed.DATA_KEY_CREATED, tenant_id, scope=scope)
            if await self._keyring.add_data_key(fresh, at=self._clock.now(), within=told):
                return fresh
            found = await self._keyring.active_data_key(tenant_id, *scope)
            if found is not None:
                return found
            # Refused, and nobody was first: the tenant key was replaced at this moment.
        return None

    async def open(self, stored: WrappedDataKey, flight: Flight) -> RecordKey:
        """Open a data key; a flight that is not stale leaves it in the cache.

        Raises:
            KeyDestroyed: it, or its tenant key, is.
            Unsealable: it was altered or moved.
        """
        tenant_key = stored.tenant_key
        if tenant_key.wrapped is None:
            self._cache.drop_tenant(tenant_key.tenant_id)
            raise KeyDestroyed
        if stored.wrapped is None:
            raise KeyDestroyed
        # Connection keys are rotated: what was read of one is not held for longer than this, though its tenant key is refreshed.
        until = self._clock.monotonic() + self._ttl if stored.purpose == CONNECTION else math.inf
        opened = await self.material(stored)
        others = tuple([await self.material(other) for other in stored.others or ()])
        key = RecordKey(opened.key_id, opened.material, others)
        ring = await self._ring_of(tenant_key)
        if not flight.stale:
            complete = stored.active and stored.others is not None
            self._cache.add_data_key(ring, key, (stored.purpose, stored.scope) if complete else None, until)
        return key

    async def material(self, stored: WrappedDataKey) -> RecordKey:
        """Open a data key, by itself, and leave it out of the cache.

        Raises:
            KeyDestroyed: it, or its tenant key, is.
            Unsealable: it was altered or moved.
        """
        if stored.wrapped is None or stored.tenant_key.wrapped is None:
            raise KeyDestroyed
        ring = await self._ring_of(stored.tenant_key)
        place = self._place(ring.tenant_id, stored.key_id, (stored.purpose, stored.scope))
        return RecordKey(stored.key_id, Secret(open_sealed(ring.key, place, stored.wrapped)))

    async def at_hand(self, tenant_key: WrappedTenantKey) -> None:
        """See to it that a tenant key is unwrapped.

        Raises:
            KeyDestroyed: it was destroyed.
            KeyServiceUnavailable: not now.
        """
        await self._ring_of(tenant_key)

    async def wrap(self, tenant_key: WrappedTenantKey, key_id: UUID, scope: Scope, material: Secret) -> bytes:
        """Return a data key sealed under a tenant key, as it is stored.

        Raises:
            KeyServiceUnavailable: the tenant key cannot be had now.
        """
        ring = await self._ring_of(tenant_key)
        return seal(ring.key, self._place(ring.tenant_id, key_id, scope), material.reveal())

    async def tenant_key(self, tenant_id: TenantId) -> WrappedTenantKey:
        """Return a fresh tenant key, wrapped by the root key of now and stored nowhere.

        Raises:
            KeyServiceUnavailable: not now.
        """
        _, wrapped, _ = await self._root.generate(tenant_id)
        return WrappedTenantKey(tenant_id, ids.new(), self._root.name, wrapped)

    @property
    def root(self) -> str:
        """The name of the root key of now."""
        return self._root.name

    async def _ring_of(self, stored: WrappedTenantKey) -> Ring:
        ring = self._cache.ring(stored.tenant_id, stored.key_id, self._clock.monotonic())
        if ring is not None:
            return ring
        return await self.unwrap(stored)

    async def unwrap(self, stored: WrappedTenantKey) -> Ring:
        """Ask the key service for a tenant key, once however many want it; told to the ledger before anybody gets it."""

        async def load(flight: Flight) -> Ring:
            if stored.wrapped is None:
                raise KeyDestroyed
            secret, started = await self._root.unwrap(stored.tenant_id, stored.root, stored.wrapped)
            await self._witness(None, KeyEvent(KeyDeed.TENANT_KEY_UNWRAPPED, stored.tenant_id, stored.key_id, stored.root))
            fresh = self.ring(stored.tenant_id, RecordKey(stored.key_id, secret), started)
            if flight.stale:
                return fresh
            return self._cache.renew(fresh)

        return await self._flights.once(stored.tenant_id, stored, load)

    def ring(self, tenant_id: TenantId, key: RecordKey, started: float) -> Ring:
        """Return a ring that lives from the moment before the call that unwrapped its key."""
        # Jitter, so that processes started together do not ask together for ever; it is no secret.
        share = _REFRESH_AT - random.uniform(0, _JITTER)  # noqa: S311
        return Ring(tenant_id, key, expires=started + self._ttl, refresh_at=started + self._ttl * share)

    def _place(self, tenant_id: TenantId, key_id: UUID, scope: Scope) -> Place:
        return Place(
            environment=self._environment,
            tenant_id=tenant_id,
            connection_id=scope[1] if scope[0] == CONNECTION else "",
            table="data_keys",
            column="wrapped",
            row=f"{key_id}:{scope[0]}:{scope[1]}",
            generation=1,
        )

    def told(self, deed: KeyDeed, tenant_id: TenantId, *, root: str = "", scope: Scope = ("", "")) -> Within:
        """Return what writes the ledger inside the keyring's transaction."""

        async def tell(tx: Executor, key_ids: Sequence[UUID]) -> None:
            for key_id in key_ids:
                await self._witness(tx, KeyEvent(deed, tenant_id, key_id, root, *scope))

        return tell
