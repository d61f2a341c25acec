"""R4: a key that reads the credentials of unusually many connections is noticed, whatever the number of processes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from customhouse import ids
from customhouse.app import App
from customhouse.audit.log import SYSTEM, Origin
from customhouse.config import Settings
from customhouse.connections import tokens
from customhouse.connections.bulk import Rules
from customhouse.connections.reading import Asker
from customhouse.connections.tokens import GrantSeal
from customhouse.errors import BulkReadStopped
from customhouse.metrics import BULK_READ_ALARMS
from customhouse.outbound.endpoints import Wish
from customhouse.types import PLATFORM, TenantId
from tests.conftest import NOT_REPEATED, running
from tests.receivers import Recorder
from tests.scenes import make_tenant

pytestmark = pytest.mark.anyio
KEY, OTHER_KEY = "key_one", "key_two"
WINDOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


@pytest.fixture(autouse=True)
def one_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may meet the end of a window."""
    monkeypatch.setattr(Rules, "window_of", lambda _rules, _moment: WINDOW)


@pytest.fixture
def environ(environ: dict[str, str]) -> dict[str, str]:
    return {**environ, "CUSTOMHOUSE_BULK_READ_CAP": "5"}


async def grants(app: App, owner: asyncpg.Connection, tenant: TenantId, count: int) -> list[UUID]:
    """Give a tenant connections with a token each."""
    provider = app.catalogue.providers[0]
    scopes = [scope.name for scope in provider.scopes]
    mac_key = await app.vault.mac_key(tenant, tokens.MAC_PURPOSE)
    made = []
    for _ in range(count):
        connection_id = ids.new()
        key = await app.vault.connection_key(tenant, connection_id, create=True)
        seal = GrantSeal(app.vault.environment, tenant, connection_id, key)
        row = {"mode": "observe", "grant_version": 1, "granted": scopes, "account_index": bytes(32), "api_origin": None}
        guard = tokens.guard(mac_key, connection_id, provider.id, row)
        await owner.execute(
            "insert into connections (tenant_id, connection_id, provider, user_id, mode, status, mac)"
            " values ($1, $2, $3, 'u', 'observe', 'active', $4)",
            tenant,
            connection_id,
            provider.id,
            guard,
        )
        await owner.execute(
            "insert into connection_grants (tenant_id, connection_id, grant_version, requested, granted, missing, scopes_known,"
            " manifest_version, account_index, account_sealed, user_sealed) values ($1, $2, 1, $3, $3, '{}', true, 1, $4, '', '')",
            tenant,
            connection_id,
            scopes,
            bytes(32),
        )
        sealed = seal.seal("integration_tokens", "access_sealed", str(connection_id), b"token", 1)
        await owner.execute(
            "insert into integration_tokens (tenant_id, connection_id, token_generation, access_sealed, issued_at)"
            " values ($1, $2, 1, $3, now())",
            tenant,
            connection_id,
            sealed,
        )
        made.append(connection_id)
    return made


def asker(tenant: TenantId, key: str = KEY) -> Asker:
    return Asker(Origin("api_key", key, "req_test"), tenant)


async def read(app: App, tenant: TenantId, connections: list[UUID], by: Asker | None = None) -> None:
    """Read each connection once, one after the other, and let the alarms be written."""
    for connection_id in connections:
        await app.reader.token(tenant, connection_id, by or asker(tenant), "export")
    await app.register._alarms.settled()


def raised(app: App) -> float:
    return float(app.metrics.counter(BULK_READ_ALARMS)._value.get())


async def alarms(owner: asyncpg.Connection) -> list[tuple[str, str, int, int]]:
    rows = await owner.fetch("select tenant_id, actor_id, connections, threshold from bulk_read_alarms order by 1, 2")
    return [tuple(row) for row in rows]


async def test_r4_more_connections_than_the_limit_raise_one_alarm_that_host_and_operator_hear(
    app: App, tenant: TenantId, owner: asyncpg.Connection, receiver: Recorder
) -> None:
    await app.endpoints.create(tenant, Wish(receiver.url("/"), event_types=("customhouse.tokens.*",)), SYSTEM, NOT_REPEATED)
    held = await grants(app, owner, tenant, 8)
    for _ in range(4):
        await read(app, tenant, held[:5])
    assert await alarms(owner) == []
    await read(app, tenant, held)
    assert await alarms(owner) == [("acme", KEY, 6, 5)]
    assert raised(app) == 1
    (told,) = await receiver.wait_for(1)
    assert b'"connections":6' in told.body
    assert KEY.encode() in told.body
    entry = await owner.fetchrow("select subject, detail::text from audit_entries where tag = 'tokens.bulk_read'")
    assert entry is not None
    assert entry["subject"] == KEY
    assert '"threshold": 5' in entry["detail"]


async def test_r4_keys_and_tenants_are_counted_apart(app: App, tenant: TenantId, owner: asyncpg.Connection) -> None:
    other = await make_tenant(app, "other")
    mine, theirs = await grants(app, owner, tenant, 8), await grants(app, owner, other, 5)
    await read(app, tenant, mine[:5])
    await read(app, tenant, mine[3:], asker(tenant, OTHER_KEY))
    await read(app, other, theirs)
    assert await alarms(owner) == []


async def test_r4_a_platform_key_is_counted_over_all_tenants(app: App, owner: asyncpg.Connection) -> None:
    """One connection of each of many tenants is what a thief takes."""
    for place in range(6):
        tenant = await make_tenant(app, f"tenant-{place}")
        await read(app, tenant, await grants(app, owner, tenant, 1), asker(PLATFORM))
    assert await alarms(owner) == [("_platform", KEY, 6, 5)]


async def test_r4_what_several_processes_read_is_counted_together(
    app: App, settings: Settings, tenant: TenantId, owner: asyncpg.Connection
) -> None:
    held = await grants(app, owner, tenant, 7)
    async with running(settings) as second:
        await asyncio.gather(read(app, tenant, held[:4]), read(second, tenant, held[2:5]))
        assert await alarms(owner) == []
        await asyncio.gather(read(app, tenant, held[5:]), read(second, tenant, held[5:]))
        assert [alarm[:2] for alarm in await alarms(owner)] == [("acme", KEY)]
        assert raised(app) + raised(second) == 1


async def test_r4_jobs_of_ours_are_not_counted(app: App, tenant: TenantId, owner: asyncpg.Connection) -> None:
    await read(app, tenant, await grants(app, owner, tenant, 7), Asker(SYSTEM))
    assert await alarms(owner) == []
    assert await owner.fetchval("select count(*) from bulk_read_seen") == 0


class TestStopping:
    """With `BULK_READ_STOP`, the alarm takes the key's reads away for a while."""

    @pytest.fixture
    def environ(self, environ: dict[str, str]) -> dict[str, str]:
        return {**environ, "CUSTOMHOUSE_BULK_READ_STOP": "1h"}

    async def test_r4_a_key_is_stopped_in_every_process_and_another_goes_on(
        self, app: App, settings: Settings, tenant: TenantId, owner: asyncpg.Connection
    ) -> None:
        held = await grants(app, owner, tenant, 7)
        await read(app, tenant, held[:5])
        with pytest.raises(BulkReadStopped) as caught:
            await app.reader.token(tenant, held[5], asker(tenant), "export")
        assert caught.value.retry_after == 3600
        await app.register._alarms.settled()
        async with running(settings) as second:
            for process in (app, second):
                for connection_id in (held[0], held[6]):
                    with pytest.raises(BulkReadStopped) as caught:
                        await process.reader.token(tenant, connection_id, asker(tenant), "export")
                    assert 3500 < caught.value.retry_after <= 3600
            await read(second, tenant, held[:1], asker(tenant, OTHER_KEY))
        await owner.execute("update bulk_read_alarms set stopped_until = now() - interval '1 second'")
        await read(app, tenant, held[:1])

    async def test_r4_a_platform_key_is_stopped_in_all_tenants(self, app: App, owner: asyncpg.Connection) -> None:
        names = [await make_tenant(app, f"tenant-{place}") for place in range(7)]
        held = [(await grants(app, owner, tenant, 1))[0] for tenant in names]
        for tenant, connection_id in list(zip(names, held, strict=True))[:5]:
            await read(app, tenant, [connection_id], asker(PLATFORM))
        with pytest.raises(BulkReadStopped):
            await read(app, names[5], [held[5]], asker(PLATFORM))
        await app.register._alarms.settled()
        with pytest.raises(BulkReadStopped):
            await app.reader.look(names[6], held[6], asker(PLATFORM))


class TestHistory:
    """Without a limit, what a key usually reads decides."""

    @pytest.fixture
    def environ(self, environ: dict[str, str]) -> dict[str, str]:
        return {**environ, "CUSTOMHOUSE_BULK_READ_CAP": "0"}

    async def _usual(self, owner: asyncpg.Connection, days: float, connections: int) -> None:
        window = WINDOW - timedelta(days=days)
        await owner.execute(
            "insert into bulk_read_counts (tenant_id, actor_id, window_at, connections) values ('acme', $1, $2, $3)",
            KEY,
            window,
            connections,
        )

    async def test_r4_three_times_the_usual_is_an_alarm(self, app: App, tenant: TenantId, owner: asyncpg.Connection) -> None:
        held = await grants(app, owner, tenant, 61)
        await self._usual(owner, 3, 20)
        await self._usual(owner, 30, 5000)
        await read(app, tenant, held[:60])
        assert await alarms(owner) == []
        await read(app, tenant, held[60:])
        assert await alarms(owner) == [("acme", KEY, 61, 60)]

    async def test_r4_a_key_without_a_history_has_only_the_limit(self, app: App, tenant: TenantId, owner: asyncpg.Connection) -> None:
        await self._usual(owner, 0.5, 1)
        await read(app, tenant, await grants(app, owner, tenant, 52))
        assert await alarms(owner) == []

    async def test_what_is_seen_does_not_pile_up(self, app: App, tenant: TenantId, owner: asyncpg.Connection) -> None:
        (connection_id,) = await grants(app, owner, tenant, 1)
        await owner.execute(
            "insert into bulk_read_seen (tenant_id, window_at, actor_id, connection_id)"
            " values ('acme', now() - interval '2 days', 'x', $1)",
            connection_id,
        )
        await self._usual(owner, 20, 3)
        await read(app, tenant, [connection_id])
        assert await owner.fetchval("select count(*) from bulk_read_seen") == 1
        assert await owner.fetchval("select count(*) from bulk_read_counts") == 1
