"""The vault: root key (key service) → tenant key → data key → records (`crypto.envelope`).

The key service is called per tenant and cache period, never per record. What it unwrapped is kept for `cache_ttl` seconds and not
one longer: `keep_fresh` unwraps again at four fifths of that time for tenants in use, and when the service is away for longer, reading
ends with `KeyServiceUnavailable`. Plaintext keys are held in this process's memory alone (threats R17); Python cannot promise to
overwrite them there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import date
from typing import Final
from uuid import UUID

from customhouse import ids
from customhouse.clock import Clock
from customhouse.crypto.envelope import RecordKey
from customhouse.crypto.kms import KeyService
from customhouse.crypto.mac import derive
from customhouse.errors import CustomhouseError, KeyDestroyed, Unsealable
from customhouse.metrics import VAULT_CACHE, Metrics
from customhouse.types import TenantId
from customhouse.vault.cache import KeyCache, Ring, Scope
from customhouse.vault.deeds import KeyDeed, Witness
from customhouse.vault.flights import Flight, Flights
from customhouse.vault.keyring import Keyring, WrappedDataKey, WrappedTenantKey
from customhouse.vault.opening import CONNECTION, Opener
from customhouse.vault.roots import RootKey

_PAYLOAD: Final = "payload"
_MAC: Final = "mac"
_MAC_SCOPE: Final = "root"
_REFRESHES: Final = 4
_REFRESH_AGAIN: Final = 0.02


class Vault:
    """Hands out keys. Every method that awaits raises `KeyServiceUnavailable` or `DatabaseUnavailable` where these are away.

    `cached_…` methods do no I/O and return None where the key has to be awaited: for the hot paths.
    """

    def __init__(
        self,
        keyring: Keyring,
        key_service: KeyService,
        clock: Clock,
        witness: Witness,
        *,
        environment: str,
        cache_ttl: float,
        max_tenants: int = 10_000,
        max_data_keys: int = 50_000,
        max_calls: int = 8,
        patience: float = 15.0,
        metrics: Metrics | None = None,
        previous: Sequence[KeyService] = (),
    ) -> None:
        """Take the parts and the limits.

        Args:
            keyring: where wrapped keys are.
            key_service: what holds the root key.
            clock: the time.
            witness: what writes the ledger.
            environment: part of every context and place (`prod`, `dev`).
            cache_ttl: seconds for which an unwrapped tenant key may be used.
            max_tenants: tenants whose keys are held at once.
            max_data_keys: data keys held at once.
            max_calls: calls of the key service under way at once.
            patience: seconds a caller waits for one key, the wait for its turn included.
            metrics: what counts calls of the key service and look-ups.
            previous: what holds the root keys of before: they unwrap what they wrapped.
        """
        if not environment or cache_ttl <= 0:
            raise CustomhouseError("the vault needs an environment and a cache time above 0")
        self._keyring = keyring
        self._root = RootKey(
            key_service, clock, environment=environment, max_calls=max_calls, patience=patience, metrics=metrics, previous=previous
        )
        self._clock = clock
        self._environment = environment
        self._ttl = cache_ttl
        self._cache = KeyCache(max_tenants=max_tenants, max_data_keys=max_data_keys)
        self._flights = Flights(patience)
        self._opener = Opener(
            keyring=keyring,
            root=self._root,
            cache=self._cache,
            flights=self._flights,
            clock=clock,
            witness=witness,
            environment=environment,
            ttl=cache_ttl,
        )
        self._looked_up = (
            None if metrics is None else {word: metrics.counter(VAULT_CACHE, outcome=word) for word in ("hit", "miss", "expired")}
        )

    @property
    def environment(self) -> str:
        """The environment, as it belongs into every `Place`."""
        return self._environment

    @property
    def opener(self) -> Opener:
        """What opens and wraps keys, for their rotation."""
        return self._opener

    # Tenants ------------------------------------------------------------------------------------------------------------

    async def create_tenant_key(self, tenant_id: TenantId) -> None:
        """Make the tenant's key, unless it has an active one.

        Raises:
            KeyDestroyed: the tenant was destroyed; its name gets no second life.
        """
        if await self._keyring.active_tenant_key(tenant_id) is not None:
            return
        if await self._keyring.tenant_was_destroyed(tenant_id):
            raise KeyDestroyed
        secret, wrapped, started = await self._root.generate(tenant_id)
        key = WrappedTenantKey(tenant_id, ids.new(), self._root.name, wrapped)
        told = self._opener.told(KeyDeed.TENANT_KEY_CREATED, tenant_id, root=key.root)
        if await self._keyring.add_tenant_key(key, at=self._clock.now(), within=told):
            self._cache.add_ring(self._opener.ring(tenant_id, RecordKey(key.key_id, secret), started))
        elif await self._keyring.active_tenant_key(tenant_id) is None:
            raise KeyDestroyed

    async def destroy_tenant(self, tenant_id: TenantId) -> None:
        """Destroy every key of the tenant: what they sealed cannot be read again. Repeating it is harmless."""
        self._expel(tenant_id)
        try:
            await self._keyring.destroy_tenant(
                tenant_id, at=self._clock.now(), within=self._opener.told(KeyDeed.TENANT_KEY_DESTROYED, tenant_id)
            )
        finally:
            self._expel(tenant_id)

    # Data keys ----------------------------------------------------------------------------------------------------------

    async def connection_key(self, tenant_id: TenantId, connection_id: UUID, *, create: bool = False) -> RecordKey:
        """Return the active key of a connection; with `create`, make it where there is none yet.

        Raises:
            KeyDestroyed: it was destroyed, and is not made again.
            Unsealable: there is none, or it does not open.
        """
        return await self._active(tenant_id, (CONNECTION, str(connection_id)), create=create)

    def cached_connection_key(self, tenant_id: TenantId, connection_id: UUID) -> RecordKey | None:
        """Return the active key of a connection, if it is at hand."""
        return self._noted(self._cache.active(tenant_id, (CONNECTION, str(connection_id)), self._clock.monotonic()))

    async def destroy_connection_key(self, tenant_id: TenantId, connection_id: UUID) -> None:
        """Destroy every key of a connection, and the possibility to make one. Repeating it is harmless."""
        scope = (CONNECTION, str(connection_id))
        told = self._opener.told(KeyDeed.CONNECTION_KEY_DESTROYED, tenant_id, scope=scope)
        self._doubt(tenant_id)
        try:
            await self._keyring.destroy_scope(tenant_id, *scope, at=self._clock.now(), tombstone=ids.new(), within=told)
        finally:
            self._doubt(tenant_id)

    async def wrapped_connection_keys(self, tenant_id: TenantId, connection_id: UUID) -> Sequence[WrappedDataKey]:
        """Return the keys of a connection as they lie in the keyring; the key service is not asked."""
        return await self._keyring.data_keys_of(tenant_id, CONNECTION, str(connection_id))

    async def open_wrapped(self, tenant_id: TenantId, connection_id: UUID, key_id: UUID, tenant_key_id: UUID, wrapped: bytes) -> RecordKey:
        """Open a connection's key that was taken out of the keyring before it was destroyed there; it enters no cache.

        Raises:
            KeyDestroyed: the tenant key is destroyed.
            Unsealable: it was altered or moved, or there is no such tenant key.
        """
        tenant_key = await self._keyring.tenant_key(tenant_id, tenant_key_id)
        if tenant_key is None:
            raise Unsealable
        stored = WrappedDataKey(key_id, CONNECTION, str(connection_id), active=False, wrapped=wrapped, tenant_key=tenant_key)
        return await self._opener.open(stored, Flight(stale=True))

    async def payload_key(self, tenant_id: TenantId, day: date) -> RecordKey:
        """Return the key under which payloads accepted on this day (UTC) are sealed; the first call of the day makes it.

        Raises:
            KeyDestroyed: it was destroyed, and is not made again.
        """
        return await self._active(tenant_id, (_PAYLOAD, day.isoformat()), create=True)

    def cached_payload_key(self, tenant_id: TenantId, day: date) -> RecordKey | None:
        """Return the payload key of this day, if it is at hand."""
        return self._noted(self._cache.active(tenant_id, (_PAYLOAD, day.isoformat()), self._clock.monotonic()))

    async def mac_key(self, tenant_id: TenantId, purpose: str) -> RecordKey:
        """Return the tenant's key for keyed hashes of one purpose (`crypto.mac`).

        It is derived from a data key of its own, not from the tenant key: hashes outlive the rotation of the tenant key.
        """
        return derive(await self._active(tenant_id, (_MAC, _MAC_SCOPE), create=True), purpose)

    def cached_mac_key(self, tenant_id: TenantId, purpose: str) -> RecordKey | None:
        """Return the tenant's key for keyed hashes of one purpose, if it is at hand."""
        root = self._noted(self._cache.active(tenant_id, (_MAC, _MAC_SCOPE), self._clock.monotonic()))
        return None if root is None else derive(root, purpose)

    async def key(self, tenant_id: TenantId, key_id: UUID) -> RecordKey:
        """Return the data key of this id, active or retired, to open what names it (`envelope.key_id_of`).

        Raises:
            KeyDestroyed: it was destroyed.
            Unsealable: the tenant has no such key, or it does not open.
        """
        found = self.cached_key(tenant_id, key_id)
        if found is not None:
            return found

        async def load(flight: Flight) -> RecordKey:
            stored = await self._keyring.data_key(tenant_id, key_id)
            if stored is None:
                raise Unsealable
            return await self._opener.open(stored, flight)

        return await self._flights.once(tenant_id, key_id, load)

    def cached_key(self, tenant_id: TenantId, key_id: UUID) -> RecordKey | None:
        """Return the data key of this id, if it is at hand."""
        return self._noted(self._cache.data_key(tenant_id, key_id, self._clock.monotonic()))

    # The cache ----------------------------------------------------------------------------------------------------------

    def changed(self, tenant_id: TenantId) -> None:
        """Read the tenant's keys from the keyring again before the next use: call it on every change that the database tells."""
        self._doubt(tenant_id)

    def changes_missed(self) -> None:
        """Do the same for all tenants: call it when changes are not heard, and when they are heard again."""
        for tenant_id in {*self._cache.tenants(), *self._flights.tenants()}:
            self._doubt(tenant_id)

    async def keep_fresh(self) -> None:
        """Call `refresh_due` until cancelled: a task of the process."""
        while True:
            await asyncio.sleep(min(1.0, self._ttl / 20))
            await self.refresh_due()

    async def refresh_due(self) -> None:
        """Let go of what has expired or was destroyed elsewhere, and unwrap anew what is in use and expires soon."""
        now = self._clock.monotonic()
        due = []
        for tenant_id in self._cache.tenants():
            for ring in self._cache.rings(tenant_id):
                if now >= ring.expires:
                    self._cache.drop(ring)
                    self._count("expired")
                elif ring.doubted or (ring.used and now >= ring.refresh_at):
                    due.append(ring)
        # A few at once: the refresh must not take the database's connections away from the work.
        places = asyncio.Semaphore(_REFRESHES)
        await asyncio.gather(*(self._refresh(ring, now, places) for ring in due))

    async def close(self) -> None:
        """Let go of every key, and end what is under way."""
        await self._flights.close()
        for tenant_id in self._cache.tenants():
            self._cache.drop_tenant(tenant_id)

    async def _refresh(self, ring: Ring, now: float, places: asyncio.Semaphore) -> None:
        async with places:
            doubted, ring.doubted = ring.doubted, False
            try:
                stored = await self._keyring.tenant_key(ring.tenant_id, ring.key.key_id)
                if stored is None or stored.wrapped is None:
                    self._expel(ring.tenant_id)
                elif ring.used and now >= ring.refresh_at:
                    await self._opener.unwrap(stored)
            except Unsealable:
                self._expel(ring.tenant_id)
            except CustomhouseError:
                # Asked again after a while. What has expired by then is refused: that is the promise.
                ring.doubted = ring.doubted or doubted
                ring.refresh_at = self._clock.monotonic() + self._ttl * _REFRESH_AGAIN

    # Loading ------------------------------------------------------------------------------------------------------------

    async def _active(self, tenant_id: TenantId, scope: Scope, *, create: bool) -> RecordKey:
        found = self._noted(self._cache.active(tenant_id, scope, self._clock.monotonic()))
        if found is not None:
            return found

        async def load(flight: Flight) -> RecordKey:
            stored = await self._keyring.active_data_key(tenant_id, *scope)
            if stored is None and create:
                stored = await self._opener.create(tenant_id, scope)
            if stored is None:
                raise Unsealable
            return await self._opener.open(stored, flight)

        return await self._flights.once(tenant_id, (scope, create), load)

    def _doubt(self, tenant_id: TenantId) -> None:
        self._cache.doubt(tenant_id)
        # A tenant key under way may land: no data key is opened with it before the keyring was read again.
        self._flights.recall(tenant_id, lambda what: not isinstance(what, WrappedTenantKey))

    def _expel(self, tenant_id: TenantId) -> None:
        self._cache.drop_tenant(tenant_id)
        self._flights.recall(tenant_id, lambda _: True)

    def _noted(self, key: RecordKey | None) -> RecordKey | None:
        self._count("miss" if key is None else "hit")
        return key

    def _count(self, outcome: str) -> None:
        if self._looked_up is not None:
            self._looked_up[outcome].inc()
