"""The vault on a real database: who gets a key, for how long, and that nothing opens where it was not sealed."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from customhouse import ids
from customhouse.app import App
from customhouse.crypto.envelope import Place, RecordKey, key_id_of, open_sealed, seal
from customhouse.crypto.kms_local import LocalKeyService
from customhouse.crypto.mac import mac
from customhouse.db import Database, Executor
from customhouse.errors import CustomhouseError, DatabaseUnavailable, KeyDestroyed, KeyServiceUnavailable, Unsealable
from customhouse.metrics import Metrics
from customhouse.types import Secret, TenantId
from customhouse.vault import KeyDeed, KeyEvent, Keyring, Vault
from customhouse.vault.keyring import Within, WrappedDataKey, WrappedTenantKey
from customhouse.vault.roots import RootKey
from tests.conftest import Server

pytestmark = pytest.mark.anyio

ACME, OTHER = TenantId("acme"), TenantId("other")
DAY = date(2026, 11, 22)
TTL = 300.0


class HeldClock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime(2026, 11, 22, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


class WatchedKeys(LocalKeyService):
    """A key service that counts its calls, can be away, and can be held up."""

    def __init__(self, root: RecordKey) -> None:
        super().__init__(root)
        self.generated = 0
        self.unwrapped = 0
        self.at_once = 0
        self.most_at_once = 0
        self.away = False
        self.open = asyncio.Event()
        self.open.set()
        self.asked = asyncio.Event()

    async def generate(self, context: Mapping[str, str]) -> tuple[Secret, bytes]:
        self.generated += 1
        await self._pass()
        return await super().generate(context)

    async def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> Secret:
        self.unwrapped += 1
        await self._pass()
        return await super().unwrap(wrapped, context)

    async def _pass(self) -> None:
        self.asked.set()
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0)
            await self.open.wait()
        finally:
            self.at_once -= 1
        if self.away:
            raise KeyServiceUnavailable


class Interrupted(Keyring):
    """A keyring in which something happens just before a key is added, as if another process were quicker."""

    def __init__(self, db: Database, meanwhile: Callable[[], Awaitable[object]], times: int = 1) -> None:
        super().__init__(db)
        self._meanwhile = meanwhile
        self._times = times

    async def add_tenant_key(self, key: WrappedTenantKey, *, at: datetime, within: Within) -> bool:
        await self._once()
        return await super().add_tenant_key(key, at=at, within=within)

    async def add_data_key(self, key: WrappedDataKey, *, at: datetime, within: Within) -> bool:
        await self._once()
        return await super().add_data_key(key, at=at, within=within)

    async def _once(self) -> None:
        if self._times > 0:
            self._times -= 1
            await self._meanwhile()


class Ledger:
    """Writes what the vault tells, or refuses to."""

    def __init__(self) -> None:
        self.events: list[KeyEvent] = []
        self.transactions = 0
        self.away = False

    async def __call__(self, tx: Executor | None, event: KeyEvent) -> None:
        if self.away:
            raise DatabaseUnavailable
        if tx is not None:
            assert await tx.fetchval("select current_setting('app.tenant_id')") == event.tenant_id
            self.transactions += 1
        self.events.append(event)

    def deeds(self) -> list[KeyDeed]:
        return [event.deed for event in self.events]


class Bench:
    """One database, one key service, and as many vaults (processes) as a test wants."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.clock = HeldClock()
        self.keys = WatchedKeys(RecordKey(UUID(int=1), Secret(bytes(range(32)))))
        self.ledger = Ledger()
        self.vaults: list[Vault] = []

    def vault(
        self,
        *,
        environment: str = "test",
        max_tenants: int = 100,
        max_data_keys: int = 1000,
        max_calls: int = 8,
        patience: float = 15.0,
        metrics: Metrics | None = None,
        keyring: Keyring | None = None,
    ) -> Vault:
        vault = Vault(
            keyring or Keyring(self.db),
            self.keys,
            self.clock,
            self.ledger,
            environment=environment,
            cache_ttl=TTL,
            max_tenants=max_tenants,
            max_data_keys=max_data_keys,
            max_calls=max_calls,
            patience=patience,
            metrics=metrics,
        )
        self.vaults.append(vault)
        return vault

    async def rotate(self) -> None:
        """Give acme another tenant key, and retire the one it has."""
        _, wrapped = await self.keys.generate({"tenant_id": ACME, "purpose": "tenant-key", "environment": "test"})
        await self.change(ACME, "update tenant_keys set state = 'retired' where state = 'active'")
        insert = "insert into tenant_keys (tenant_id, key_id, kms_key, wrapped) values ($1, $2, $3, $4)"
        await self.change(ACME, insert, ACME, ids.new(), self.keys.name, wrapped)

    async def column(self, tenant: TenantId, query: str, *args: object) -> object:
        async with self.db.transaction(tenant) as tx:
            return await tx.fetchval(query, *args)

    async def change(self, tenant: TenantId, query: str, *args: object) -> None:
        async with self.db.transaction(tenant) as tx:
            done = await tx.execute(query, *args)
        assert not done.endswith(" 0"), "the test changed nothing"


@pytest.fixture
async def bench(database_server: Server) -> AsyncIterator[Bench]:
    db = await Database.connect(Secret(database_server.app.encode()), size=10)
    try:
        found = Bench(db)
        for tenant in (ACME, OTHER):
            await found.vault().create_tenant_key(tenant)
        yield found
        for vault in found.vaults:
            await vault.close()
    finally:
        await db.close()


async def gathered(*work: Awaitable[RecordKey]) -> list[RecordKey]:
    return list(await asyncio.gather(*work))


# Handing out --------------------------------------------------------------------------------------------------------------


async def test_a_key_is_the_same_in_every_process_and_after_every_restart(bench: Bench) -> None:
    connection = ids.new()
    made = await bench.vault().connection_key(ACME, connection, create=True)
    again = await bench.vault().connection_key(ACME, connection)
    by_id = await bench.vault().key(ACME, made.key_id)
    assert made.material == again.material == by_id.material
    assert made.key_id == again.key_id == by_id.key_id


async def test_every_connection_every_day_and_every_tenant_has_a_key_of_its_own(bench: Bench) -> None:
    vault = bench.vault()
    connections = [ids.new(), ids.new()]
    found = [await vault.connection_key(tenant, connection, create=True) for tenant in (ACME, OTHER) for connection in connections]
    found += [await vault.payload_key(tenant, DAY + timedelta(days=n)) for tenant in (ACME, OTHER) for n in range(2)]
    found += [await vault.mac_key(tenant, purpose) for tenant in (ACME, OTHER) for purpose in ("api-keys", "connections")]
    assert len({mac(key, "p", b"x") for key in found}) == len(found)


async def test_a_key_that_was_never_made_is_not_made_by_asking(bench: Bench) -> None:
    with pytest.raises(Unsealable) as caught:
        await bench.vault().connection_key(ACME, ids.new())
    assert not isinstance(caught.value, KeyDestroyed)
    assert await bench.column(ACME, "select count(*) from data_keys") == 0


async def test_a_key_of_another_tenant_is_not_found_by_its_id(bench: Bench) -> None:
    vault = bench.vault()
    key = await vault.connection_key(ACME, ids.new(), create=True)
    with pytest.raises(Unsealable):
        await vault.key(OTHER, key.key_id)
    assert vault.cached_key(OTHER, key.key_id) is None


async def test_a_tenant_without_a_key_gets_none(bench: Bench) -> None:
    with pytest.raises(Unsealable):
        await bench.vault().payload_key(TenantId("nobody"), DAY)


async def test_making_a_tenant_key_twice_keeps_the_first(bench: Bench) -> None:
    before = await bench.column(ACME, "select key_id from tenant_keys")
    await asyncio.gather(*(bench.vault().create_tenant_key(ACME) for _ in range(4)))
    assert await bench.column(ACME, "select key_id from tenant_keys") == before
    assert bench.keys.generated == 2


async def test_processes_that_make_one_key_together_agree(bench: Bench) -> None:
    tenant = TenantId("fresh")
    vaults = [bench.vault() for _ in range(6)]
    await asyncio.gather(*(vault.create_tenant_key(tenant) for vault in vaults))
    days = await gathered(*(vault.payload_key(tenant, DAY) for vault in vaults))
    connection = ids.new()
    connections = await gathered(*(vault.connection_key(tenant, connection, create=True) for vault in vaults))
    for found in (days, connections):
        assert {key.key_id for key in found} == {found[0].key_id}
        assert all(key.material == found[0].material for key in found)
    assert await bench.column(tenant, "select count(*) from tenant_keys") == 1
    assert await bench.column(tenant, "select count(*) from data_keys") == 2
    assert bench.ledger.deeds().count(KeyDeed.DATA_KEY_CREATED) == 2


async def test_the_hot_path_finds_what_was_loaded_and_nothing_else(bench: Bench) -> None:
    vault = bench.vault()
    connection = ids.new()
    assert vault.cached_payload_key(ACME, DAY) is None
    assert vault.cached_mac_key(ACME, "p") is None
    assert vault.cached_connection_key(ACME, connection) is None
    payload = await vault.payload_key(ACME, DAY)
    key = await vault.connection_key(ACME, connection, create=True)
    keyed = await vault.mac_key(ACME, "p")
    assert vault.cached_payload_key(ACME, DAY) is payload
    assert vault.cached_payload_key(ACME, DAY + timedelta(days=1)) is None
    assert vault.cached_connection_key(ACME, connection) is vault.cached_key(ACME, key.key_id) is key
    assert await vault.key(ACME, key.key_id) is key
    cached = vault.cached_mac_key(ACME, "p")
    assert cached is not None
    assert cached.material == keyed.material


# The key service: how often, and when it is away ----------------------------------------------------------------------------


async def test_a_hundred_readers_at_once_cost_one_call_of_the_key_service(bench: Bench) -> None:
    maker = bench.vault()
    connections = [ids.new() for _ in range(20)]
    for connection in connections:
        await maker.connection_key(ACME, connection, create=True)
    bench.keys.unwrapped = 0
    bench.ledger.events.clear()
    reader = bench.vault()
    await gathered(*(reader.connection_key(ACME, connection) for connection in connections * 5))
    assert bench.keys.unwrapped == 1
    assert bench.ledger.deeds().count(KeyDeed.TENANT_KEY_UNWRAPPED) == 1


async def test_records_never_call_the_key_service(bench: Bench) -> None:
    vault = bench.vault()
    await vault.payload_key(ACME, DAY)
    calls = bench.keys.unwrapped
    for _ in range(200):
        await vault.payload_key(ACME, DAY)
    assert bench.keys.unwrapped == calls


async def test_an_unwrapped_key_is_handed_out_only_with_its_ledger_entry(bench: Bench) -> None:
    await bench.vault().payload_key(ACME, DAY)
    reader = bench.vault()
    bench.ledger.away = True
    with pytest.raises(DatabaseUnavailable):
        await reader.payload_key(ACME, DAY)
    assert reader.cached_payload_key(ACME, DAY) is None
    bench.ledger.away = False
    await reader.payload_key(ACME, DAY)
    event = bench.ledger.events[-1]
    assert (event.deed, event.tenant_id, event.root) == (KeyDeed.TENANT_KEY_UNWRAPPED, ACME, bench.keys.name)


async def test_a_key_whose_making_cannot_be_told_is_not_made(bench: Bench) -> None:
    vault = bench.vault()
    await vault.payload_key(ACME, DAY)
    bench.ledger.away = True
    with pytest.raises(DatabaseUnavailable):
        await vault.connection_key(ACME, ids.new(), create=True)
    with pytest.raises(DatabaseUnavailable):
        await vault.create_tenant_key(TenantId("fresh"))
    assert await bench.column(ACME, "select count(*) from data_keys where purpose = 'connection'") == 0
    assert await bench.column(TenantId("fresh"), "select count(*) from tenant_keys") == 0


async def test_the_end_of_the_cache_time_is_hard(bench: Bench) -> None:
    vault = bench.vault()
    key = await vault.payload_key(ACME, DAY)
    bench.keys.away = True
    bench.clock.seconds = TTL - 0.001
    assert await vault.payload_key(ACME, DAY) is key
    bench.clock.seconds = TTL
    assert vault.cached_payload_key(ACME, DAY) is None
    assert vault.cached_key(ACME, key.key_id) is None
    assert vault.cached_mac_key(ACME, "p") is None
    with pytest.raises(KeyServiceUnavailable):
        await vault.payload_key(ACME, DAY)
    with pytest.raises(KeyServiceUnavailable):
        await vault.key(ACME, key.key_id)
    bench.keys.away = False
    assert (await vault.payload_key(ACME, DAY)).material == key.material


async def test_what_expired_is_let_go_of_even_if_nobody_asks(bench: Bench) -> None:
    vault = bench.vault()
    await vault.payload_key(ACME, DAY)
    assert len(vault._cache) == 2
    bench.clock.seconds = TTL
    await vault.refresh_due()
    assert len(vault._cache) == 0


async def test_a_tenant_in_use_is_refreshed_before_its_time_ends(bench: Bench) -> None:
    vault = bench.vault()
    key = await vault.payload_key(ACME, DAY)
    calls = bench.keys.unwrapped
    bench.clock.seconds = TTL * 0.69
    await vault.refresh_due()
    assert bench.keys.unwrapped == calls
    bench.clock.seconds = TTL * 0.8
    await vault.refresh_due()
    await vault.refresh_due()
    assert bench.keys.unwrapped == calls + 1
    bench.keys.away = True
    bench.clock.seconds = TTL * 1.79
    assert vault.cached_payload_key(ACME, DAY) is key
    bench.clock.seconds = TTL * 1.8
    assert vault.cached_payload_key(ACME, DAY) is None


async def test_a_tenant_that_nobody_uses_is_not_refreshed(bench: Bench) -> None:
    vault = bench.vault()
    await vault.payload_key(ACME, DAY)
    bench.clock.seconds = TTL * 0.8
    await vault.refresh_due()
    calls = bench.keys.unwrapped
    bench.clock.seconds = TTL * 1.7
    await vault.refresh_due()
    assert bench.keys.unwrapped == calls
    bench.clock.seconds = TTL * 1.9
    await vault.refresh_due()
    assert len(vault._cache) == 0


async def test_a_refresh_that_fails_keeps_the_key_until_its_end_and_no_longer(bench: Bench) -> None:
    vault = bench.vault()
    key = await vault.payload_key(ACME, DAY)
    bench.keys.away = True
    bench.clock.seconds = TTL * 0.8
    await vault.refresh_due()
    calls = bench.keys.unwrapped
    await vault.refresh_due()
    assert bench.keys.unwrapped == calls, "asked again without a pause"
    assert vault.cached_payload_key(ACME, DAY) is key
    bench.clock.seconds = TTL * 0.85
    bench.keys.away = False
    await vault.refresh_due()
    bench.clock.seconds = TTL * 1.5
    assert vault.cached_payload_key(ACME, DAY) is key


async def test_the_refresh_task_refreshes(bench: Bench) -> None:
    vault = Vault(Keyring(bench.db), bench.keys, bench.clock, bench.ledger, environment="test", cache_ttl=0.02)
    await vault.payload_key(ACME, DAY)
    bench.clock.seconds = 0.0199
    bench.keys.asked.clear()
    task = asyncio.create_task(vault.keep_fresh())
    try:
        async with asyncio.timeout(10):
            await bench.keys.asked.wait()
    finally:
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_few_calls_are_under_way_at_once(bench: Bench) -> None:
    tenants = [TenantId(f"t{n}") for n in range(12)]
    maker = bench.vault(max_calls=3)
    await asyncio.gather(*(maker.create_tenant_key(tenant) for tenant in tenants))
    await gathered(*(maker.payload_key(tenant, DAY) for tenant in tenants))
    reader = bench.vault(max_calls=3)
    await gathered(*(reader.payload_key(tenant, DAY) for tenant in tenants))
    assert bench.keys.most_at_once == 3


async def test_a_key_service_that_hangs_holds_nobody_for_longer_than_the_patience(bench: Bench) -> None:
    await bench.vault().payload_key(ACME, DAY)
    await bench.vault().payload_key(OTHER, DAY)
    vault = bench.vault(max_calls=1, patience=0.05)
    bench.keys.open.clear()
    refused = await asyncio.gather(vault.payload_key(ACME, DAY), vault.payload_key(OTHER, DAY), return_exceptions=True)
    assert [type(found) for found in refused] == [KeyServiceUnavailable, KeyServiceUnavailable]
    bench.keys.open.set()
    await bench.vault().payload_key(ACME, DAY)
    await vault.close()


async def test_a_reader_that_gives_up_does_not_take_the_key_from_the_others(bench: Bench) -> None:
    await bench.vault().payload_key(ACME, DAY)
    vault = bench.vault()
    bench.keys.open.clear()
    bench.keys.asked.clear()
    first = asyncio.create_task(vault.payload_key(ACME, DAY))
    second = asyncio.create_task(vault.payload_key(ACME, DAY))
    await bench.keys.asked.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    bench.keys.open.set()
    assert await second is vault.cached_payload_key(ACME, DAY)


async def test_a_closed_vault_holds_nothing_and_lets_nobody_wait(bench: Bench) -> None:
    await bench.vault().payload_key(OTHER, DAY)
    vault = bench.vault()
    await vault.payload_key(ACME, DAY)
    bench.keys.open.clear()
    bench.keys.asked.clear()
    waiting = asyncio.create_task(vault.payload_key(OTHER, DAY))
    await bench.keys.asked.wait()
    await vault.close()
    with pytest.raises(KeyServiceUnavailable):
        await waiting
    assert len(vault._cache) == 0


async def test_another_root_key_is_named_as_the_reason(bench: Bench) -> None:
    bench.keys._root = RecordKey(UUID(int=2), Secret(bytes(32)))
    with pytest.raises(KeyServiceUnavailable, match="another root key"):
        await bench.vault().payload_key(ACME, DAY)


async def test_the_bounds_of_the_cache_hold(bench: Bench) -> None:
    vault = bench.vault(max_tenants=1, max_data_keys=3)
    for n in range(6):
        await vault.payload_key(ACME, DAY + timedelta(days=n))
    assert len(vault._cache) == 1 + 3
    assert vault.cached_payload_key(ACME, DAY) is None
    assert vault.cached_payload_key(ACME, DAY + timedelta(days=5)) is not None
    await vault.payload_key(OTHER, DAY)
    assert vault._cache.tenants() == [OTHER]
    assert len(vault._cache) == 2


async def test_lookups_and_calls_are_counted(bench: Bench) -> None:
    metrics = Metrics("0")
    vault = bench.vault(metrics=metrics)
    await vault.payload_key(ACME, DAY)
    await vault.payload_key(ACME, DAY)
    bench.clock.seconds = TTL
    await vault.refresh_due()
    text = metrics.render().decode()
    assert 'customhouse_kms_calls_total{operation="unwrap",outcome="ok"} 1.0' in text
    assert 'customhouse_vault_cache_total{outcome="hit"} 1.0' in text
    assert 'customhouse_vault_cache_total{outcome="miss"} 1.0' in text
    assert 'customhouse_vault_cache_total{outcome="expired"} 1.0' in text


# Destroying ---------------------------------------------------------------------------------------------------------------


async def test_a_destroyed_connection_key_is_gone_at_once_and_for_ever(bench: Bench) -> None:
    vault = bench.vault()
    connection, neighbour = ids.new(), ids.new()
    key = await vault.connection_key(ACME, connection, create=True)
    kept = await vault.connection_key(ACME, neighbour, create=True)
    await vault.destroy_connection_key(ACME, connection)
    assert vault.cached_key(ACME, key.key_id) is None
    assert vault.cached_connection_key(ACME, connection) is None
    for attempt in (
        vault.connection_key(ACME, connection),
        vault.connection_key(ACME, connection, create=True),
        vault.key(ACME, key.key_id),
        bench.vault().connection_key(ACME, connection, create=True),
    ):
        with pytest.raises(KeyDestroyed):
            await attempt
    assert await bench.column(ACME, "select wrapped from data_keys where key_id = $1", key.key_id) is None
    assert (await vault.connection_key(ACME, neighbour)).material == kept.material
    assert [event.key_id for event in bench.ledger.events if event.deed is KeyDeed.CONNECTION_KEY_DESTROYED] == [key.key_id]
    await vault.destroy_connection_key(ACME, connection)
    assert bench.ledger.deeds().count(KeyDeed.CONNECTION_KEY_DESTROYED) == 1


async def test_a_connection_closed_before_it_had_a_key_never_gets_one(bench: Bench) -> None:
    connection = ids.new()
    await bench.vault().destroy_connection_key(ACME, connection)
    with pytest.raises(KeyDestroyed):
        await bench.vault().connection_key(ACME, connection, create=True)


async def test_a_destroyed_tenant_keeps_no_key_and_gets_no_second_one(bench: Bench) -> None:
    vault = bench.vault()
    key = await vault.payload_key(ACME, DAY)
    await vault.mac_key(ACME, "p")
    await vault.payload_key(OTHER, DAY)
    await vault.destroy_tenant(ACME)
    assert vault._cache.tenants() == [OTHER]
    for attempt in (
        lambda: vault.payload_key(ACME, DAY),
        lambda: vault.payload_key(ACME, DAY + timedelta(days=1)),
        lambda: vault.key(ACME, key.key_id),
        lambda: vault.mac_key(ACME, "p"),
        lambda: vault.create_tenant_key(ACME),
    ):
        with pytest.raises(KeyDestroyed):
            await attempt()
    for table in ("tenant_keys", "data_keys"):
        assert await bench.column(ACME, f"select count(*) from {table} where wrapped is not null") == 0
    assert bench.ledger.deeds().count(KeyDeed.TENANT_KEY_DESTROYED) == 1
    await vault.destroy_tenant(ACME)
    assert bench.ledger.deeds().count(KeyDeed.TENANT_KEY_DESTROYED) == 1


async def test_a_destruction_that_cannot_be_told_did_not_happen(bench: Bench) -> None:
    vault = bench.vault()
    connection = ids.new()
    key = await vault.connection_key(ACME, connection, create=True)
    bench.ledger.away = True
    with pytest.raises(DatabaseUnavailable):
        await vault.destroy_connection_key(ACME, connection)
    with pytest.raises(DatabaseUnavailable):
        await vault.destroy_tenant(ACME)
    bench.ledger.away = False
    assert (await vault.connection_key(ACME, connection)).material == key.material


async def test_another_process_learns_of_a_destruction_with_the_change(bench: Bench) -> None:
    here, there = bench.vault(), bench.vault()
    connection = ids.new()
    await here.connection_key(ACME, connection, create=True)
    kept = await there.payload_key(ACME, DAY)
    await there.connection_key(ACME, connection)
    heard: asyncio.Queue[str] = asyncio.Queue()
    ready = asyncio.Event()
    listening = asyncio.create_task(bench.db.listen(heard.put_nowait, lambda: None, ready.set))
    try:
        async with asyncio.timeout(10):
            await ready.wait()
            await here.destroy_connection_key(ACME, connection)
            there.changed(TenantId(await heard.get()))
    finally:
        listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening
    calls = bench.keys.unwrapped
    with pytest.raises(KeyDestroyed):
        await there.connection_key(ACME, connection)
    assert (await there.payload_key(ACME, DAY)).material == kept.material
    assert bench.keys.unwrapped == calls, "a change asked the key service"


async def test_a_tenant_destroyed_elsewhere_leaves_the_cache_soon_after_the_change(bench: Bench) -> None:
    here, there = bench.vault(), bench.vault()
    await there.payload_key(ACME, DAY)
    await here.destroy_tenant(ACME)
    there.changes_missed()
    assert there.cached_payload_key(ACME, DAY) is None
    await there.refresh_due()
    assert len(there._cache) == 0
    with pytest.raises(KeyDestroyed):
        await there.payload_key(ACME, DAY)


async def test_a_change_that_destroyed_nothing_costs_one_look_and_no_call(bench: Bench) -> None:
    vault = bench.vault()
    key = await vault.payload_key(ACME, DAY)
    calls = bench.keys.unwrapped
    vault.changed(ACME)
    await vault.refresh_due()
    assert not any(ring.doubted for ring in vault._cache.rings(ACME))
    assert (await vault.payload_key(ACME, DAY)).material == key.material
    assert bench.keys.unwrapped == calls


async def test_a_tenant_key_without_bytes_counts_as_destroyed(bench: Bench) -> None:
    vault = bench.vault()
    calls = bench.keys.unwrapped
    with pytest.raises(KeyDestroyed):
        await vault._opener.unwrap(WrappedTenantKey(ACME, ids.new(), bench.keys.name, None))
    assert bench.keys.unwrapped == calls


async def test_without_hearing_of_it_another_process_knows_at_the_end_of_the_cache_time(bench: Bench) -> None:
    here, there = bench.vault(), bench.vault()
    key = await there.payload_key(ACME, DAY)
    await here.destroy_tenant(ACME)
    bench.clock.seconds = TTL - 1
    assert await there.payload_key(ACME, DAY) is key
    bench.clock.seconds = TTL
    with pytest.raises(KeyDestroyed):
        await there.payload_key(ACME, DAY)


@pytest.mark.parametrize("deed", ["connection", "tenant"])
async def test_a_load_under_way_leaves_nothing_in_the_cache_after_a_destruction(bench: Bench, deed: str) -> None:
    connection = ids.new()
    key = await bench.vault().connection_key(ACME, connection, create=True)
    vault = bench.vault()
    bench.keys.open.clear()
    bench.keys.asked.clear()
    loading = asyncio.create_task(vault.connection_key(ACME, connection))
    await bench.keys.asked.wait()
    if deed == "connection":
        await vault.destroy_connection_key(ACME, connection)
    else:
        await vault.destroy_tenant(ACME)
    bench.keys.open.set()
    await asyncio.wait([loading])
    assert vault.cached_key(ACME, key.key_id) is None
    assert vault.cached_connection_key(ACME, connection) is None
    with pytest.raises(KeyDestroyed):
        await vault.connection_key(ACME, connection)
    assert len(vault._cache) == (1 if deed == "connection" else 0)


# Races --------------------------------------------------------------------------------------------------------------------


async def test_of_two_processes_that_make_one_key_the_slower_takes_the_key_of_the_quicker(bench: Bench) -> None:
    quicker = bench.vault()
    slower = bench.vault(keyring=Interrupted(bench.db, lambda: quicker.payload_key(ACME, DAY)))
    assert (await slower.payload_key(ACME, DAY)).material == (await quicker.payload_key(ACME, DAY)).material
    fresh = TenantId("fresh")
    slower = bench.vault(keyring=Interrupted(bench.db, lambda: quicker.create_tenant_key(fresh)))
    await slower.create_tenant_key(fresh)
    assert await bench.column(fresh, "select count(*) from tenant_keys") == 1


async def test_no_key_is_made_for_a_connection_that_is_destroyed_at_this_moment(bench: Bench) -> None:
    connection = ids.new()
    meanwhile = bench.vault()
    vault = bench.vault(keyring=Interrupted(bench.db, lambda: meanwhile.destroy_connection_key(ACME, connection)))
    with pytest.raises(KeyDestroyed):
        await vault.connection_key(ACME, connection, create=True)
    assert await bench.column(ACME, "select count(*) from data_keys where wrapped is not null") == 0


async def test_no_key_is_made_for_a_tenant_that_is_destroyed_at_this_moment(bench: Bench) -> None:
    meanwhile = bench.vault()
    vault = bench.vault(keyring=Interrupted(bench.db, lambda: meanwhile.destroy_tenant(ACME)))
    with pytest.raises(KeyDestroyed):
        await vault.payload_key(ACME, DAY)
    fresh = TenantId("fresh")

    async def born_and_gone() -> None:
        await meanwhile.create_tenant_key(fresh)
        await meanwhile.destroy_tenant(fresh)

    with pytest.raises(KeyDestroyed):
        await bench.vault(keyring=Interrupted(bench.db, born_and_gone)).create_tenant_key(fresh)
    for tenant in (ACME, fresh):
        assert await bench.column(tenant, "select count(*) from tenant_keys where wrapped is not null") == 0


async def test_a_key_is_made_under_the_tenant_key_that_took_over_at_this_moment(bench: Bench) -> None:
    key = await bench.vault(keyring=Interrupted(bench.db, bench.rotate)).payload_key(ACME, DAY)
    query = "select t.state from data_keys d join tenant_keys t on t.key_id = d.tenant_key_id where d.key_id = $1"
    assert await bench.column(ACME, query, key.key_id) == "active"
    assert (await bench.vault().key(ACME, key.key_id)).material == key.material


async def test_a_tenant_key_that_changes_at_every_moment_makes_no_key(bench: Bench) -> None:
    with pytest.raises(Unsealable):
        await bench.vault(keyring=Interrupted(bench.db, bench.rotate, times=99)).payload_key(ACME, DAY)


async def test_whoever_waits_too_long_for_a_place_makes_no_call(bench: Bench) -> None:
    metrics = Metrics("0")
    root = RootKey(bench.keys, bench.clock, environment="test", max_calls=1, patience=0.05, metrics=metrics)
    made = bench.keys.generated
    bench.keys.open.clear()
    bench.keys.asked.clear()
    first = asyncio.create_task(root.generate(ACME))
    await bench.keys.asked.wait()
    with pytest.raises(KeyServiceUnavailable):
        await root.generate(OTHER)
    bench.keys.open.set()
    await first
    assert bench.keys.generated == made + 1
    assert 'customhouse_kms_calls_total{operation="generate",outcome="overloaded"} 1.0' in metrics.render().decode()


# With the service -----------------------------------------------------------------------------------------------------------


async def test_the_ledger_of_the_service_holds_every_deed(app: App, tenant: TenantId, owner: asyncpg.Connection) -> None:
    connection = ids.new()
    key = await app.vault.connection_key(tenant, connection, create=True)
    cold = Vault(Keyring(app.database), app.key_service, app.clock, app._witness, environment=app.vault.environment, cache_ttl=TTL)
    await cold.key(tenant, key.key_id)
    await cold.destroy_connection_key(tenant, connection)
    await cold.destroy_tenant(tenant)
    rows = await owner.fetch("select tag, detail from audit_entries where tenant_id = $1 order by entry_id", tenant)
    told = [row["tag"] for row in rows if "key." in row["tag"]]
    assert told.count("tenant_key.unwrapped") == 1
    assert told[0] == "tenant_key.created"
    assert told[-2:] == ["connection_key.destroyed", "tenant_key.destroyed"]
    assert any(str(key.key_id) in row["detail"] for row in rows if row["tag"] == "connection_key.destroyed")


# Moving -------------------------------------------------------------------------------------------------------------------


async def test_every_combination_of_moved_ciphertext_is_refused(bench: Bench) -> None:
    """Two values for each coordinate and two keys per tenant: of 128 places times 4 keys, exactly one opens each record."""
    vault = bench.vault()
    connections = (ids.new(), ids.new())
    keys = [await vault.connection_key(tenant, connection, create=True) for tenant in (ACME, OTHER) for connection in connections]
    places = [
        Place(environment, tenant, str(connection), table, column, row, generation)
        for environment, tenant, connection, table, column, row, generation in itertools.product(
            ("prod", "test"),
            (ACME, OTHER),
            connections,
            ("connection_secrets", "connections"),
            ("sealed", "url_sealed"),
            ("row-1", "row-2"),
            (1, 2),
        )
    ]
    assert len(set(places)) == 128
    opened = refused = 0
    for sealed_with, sealed_at in itertools.product(keys, places[::5]):
        sealed = seal(sealed_with, sealed_at, b"canary")
        for key, place in itertools.product(keys, places):
            try:
                assert open_sealed(key, place, sealed) == b"canary"
            except Unsealable:
                refused += 1
            else:
                assert (key, place) == (sealed_with, sealed_at)
                opened += 1
    assert opened == 4 * len(places[::5])
    assert refused == opened * (128 * 4 - 1)


async def test_rows_swapped_by_hand_do_not_open(bench: Bench) -> None:
    """Whole wrapped keys moved within the keyring: between connections, purposes, days and tenants."""
    vault = bench.vault()
    one, two = ids.new(), ids.new()
    rows: dict[UUID, tuple[TenantId, bytes]] = {}
    for tenant in (ACME, OTHER):
        for key in (
            await vault.connection_key(tenant, one, create=True),
            await vault.connection_key(tenant, two, create=True),
            await vault.payload_key(tenant, DAY),
            await vault.payload_key(tenant, DAY + timedelta(days=1)),
            await vault.mac_key(tenant, "p"),
        ):
            wrapped = await bench.column(tenant, "select wrapped from data_keys where key_id = $1", key.key_id)
            assert isinstance(wrapped, bytes)
            rows[key.key_id] = (tenant, wrapped)
    write = "update data_keys set wrapped = $2 where key_id = $1"
    moves = 0
    for (here, (tenant, own)), (there, (_, foreign)) in itertools.permutations(rows.items(), 2):
        await bench.change(tenant, write, here, foreign)
        vault.changed(tenant)
        with pytest.raises(Unsealable):
            await vault.key(tenant, here)
        await bench.change(tenant, write, here, own)
        moves += here != there
    assert moves == 90
    for key_id, (tenant, _) in rows.items():
        assert (await bench.vault().key(tenant, key_id)).key_id == key_id


@pytest.mark.parametrize("column", ["purpose", "scope"])
async def test_a_key_given_another_purpose_or_scope_by_hand_does_not_open(bench: Bench, column: str) -> None:
    key = await bench.vault().connection_key(ACME, ids.new(), create=True)
    await bench.change(ACME, f"update data_keys set {column} = 'payload' where key_id = $1", key.key_id)
    with pytest.raises(Unsealable):
        await bench.vault().key(ACME, key.key_id)


async def test_a_tenant_key_put_into_another_tenant_does_not_open(bench: Bench) -> None:
    await bench.vault().payload_key(ACME, DAY)
    foreign = await bench.column(OTHER, "select wrapped from tenant_keys")
    await bench.change(ACME, "update tenant_keys set wrapped = $1", foreign)
    with pytest.raises(Unsealable):
        await bench.vault().payload_key(ACME, DAY)


async def test_a_keyring_restored_into_another_environment_does_not_open(bench: Bench) -> None:
    await bench.vault().payload_key(ACME, DAY)
    with pytest.raises(Unsealable):
        await bench.vault(environment="prod").payload_key(ACME, DAY)


async def test_a_tenant_key_that_turns_out_altered_at_the_refresh_is_let_go_of(bench: Bench) -> None:
    vault = bench.vault()
    await vault.payload_key(ACME, DAY)
    await bench.change(ACME, "update tenant_keys set wrapped = overlay(wrapped placing '\\x00'::bytea from 90)")
    bench.clock.seconds = TTL * 0.8
    await vault.refresh_due()
    assert len(vault._cache) == 0


async def test_an_altered_or_cut_wrapped_key_does_not_open(bench: Bench) -> None:
    key = await bench.vault().payload_key(ACME, DAY)
    whole = await bench.column(ACME, "select wrapped from data_keys")
    assert isinstance(whole, bytes)
    assert key_id_of(whole) != key.key_id
    vault = bench.vault()
    damaged = [whole[:length] for length in range(0, len(whole), 7)]
    damaged += [whole[:position] + bytes([whole[position] ^ 0x40]) + whole[position + 1 :] for position in range(0, len(whole), 5)]
    for wrapped in damaged:
        await bench.change(ACME, "update data_keys set wrapped = $1", wrapped)
        vault.changed(ACME)
        with pytest.raises(Unsealable):
            await vault.payload_key(ACME, DAY)


async def test_plaintext_keys_are_in_no_row(bench: Bench) -> None:
    vault = bench.vault()
    keys = [await vault.payload_key(ACME, DAY), await vault.connection_key(ACME, ids.new(), create=True)]
    keys += [ring.key for ring in vault._cache.rings(ACME)]
    async with bench.db.transaction(ACME) as tx:
        rows = await tx.fetch("select wrapped from tenant_keys union all select wrapped from data_keys")
    text = b"".join(row["wrapped"] for row in rows)
    assert len(keys) == len(rows) == 3
    assert not any(key.material.reveal() in text for key in keys)


@pytest.mark.parametrize(("environment", "ttl"), [("", 300.0), ("test", 0.0)])
async def test_a_vault_without_environment_or_cache_time_is_refused(bench: Bench, environment: str, ttl: float) -> None:
    make: Callable[[], Vault] = lambda: Vault(  # noqa: E731
        Keyring(bench.db), bench.keys, bench.clock, bench.ledger, environment=environment, cache_ttl=ttl
    )
    with pytest.raises(CustomhouseError):
        make()
