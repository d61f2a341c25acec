"""Troubles on our own side while the provider answers: the database is away, the process ends, keys change, a call is slow."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import pytest

from customhouse.app import App
from customhouse.config import Settings
from customhouse.errors import Conflict, NotFound, TokenUnavailable
from customhouse.types import TenantId
from customhouse_sandbox.faults import FaultKind, Operation
from tests.conftest import Server, running
from tests.connected import access_token, connect
from tests.integration.refresh.scene import at_once, calls, state
from tests.sandboxes import Sandbox
from tests.scenes import make_tenant, until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def zoom(app: App, tenant: TenantId) -> UUID:
    return await connect(app, tenant, "zoom")


async def test_an_answer_is_held_until_the_database_is_back(
    app: App, tenant: TenantId, zoom: UUID, sandbox: Sandbox, server: Server, database_server: Server, owner: asyncpg.Connection
) -> None:
    name = urlsplit(database_server.app).path[1:]
    held = sandbox.order("zoom", FaultKind.HOLD, Operation.REFRESH)
    reader = asyncio.create_task(app.refresher.renew(tenant, zoom, generation=1))
    await sandbox.holding(held)
    above = await asyncpg.connect(server.owner)
    try:
        await above.execute(f"alter database {name} with allow_connections false")
        away = "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = $1 and usename <> current_user"
        await above.fetchval(away, name)
        sandbox.release()
        await sandbox.called(Operation.REFRESH)
        # Whatever was open in between is closed too, so that the first tries to write come to nothing.
        for _ in range(5):
            await above.fetchval(away, name)
            await asyncio.sleep(0.2)
        assert (await state(owner, zoom))["token_generation"] == 1
        await above.execute(f"alter database {name} with allow_connections true")
    finally:
        await above.close()
    await reader
    stored = await state(owner, zoom)
    assert (stored["token_generation"], stored["status"], stored["lost"], stored["holder"]) == (2, "active", 0, None)
    assert calls(sandbox) == 1


async def test_a_process_that_ends_lets_the_call_come_to_its_end(settings: Settings, sandbox: Sandbox, owner: asyncpg.Connection) -> None:
    async with running(settings) as app:
        tenant = await make_tenant(app, "acme")
        zoom = await connect(app, tenant, "zoom")
        held = sandbox.order("zoom", FaultKind.HOLD, Operation.REFRESH)
        app.refresher.nudge(tenant, zoom, 1)
        await sandbox.holding(held)
        closing = asyncio.create_task(app.refresher.close())
        while not app.refresher._closed:
            await asyncio.sleep(0)
        with pytest.raises(TokenUnavailable):
            await app.refresher.renew(tenant, zoom, generation=1)
        sandbox.release()
        await closing
    stored = await state(owner, zoom)
    assert (stored["token_generation"], stored["holder"]) == (2, None)


async def test_the_end_of_a_caller_is_not_the_end_of_the_call(
    app: App, tenant: TenantId, zoom: UUID, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    held = sandbox.order("zoom", FaultKind.HOLD, Operation.REFRESH)
    reader = asyncio.create_task(app.refresher.renew(tenant, zoom, generation=1))
    await sandbox.holding(held)
    reader.cancel()
    await asyncio.wait({reader})
    sandbox.release()

    async def stored() -> bool:
        return bool((await state(owner, zoom))["token_generation"] == 2)

    await until(stored)
    assert calls(sandbox) == 1


async def test_a_caller_waits_for_its_time_and_what_was_begun_goes_on(
    app: App, tenant: TenantId, zoom: UUID, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    held = sandbox.order("zoom", FaultKind.HOLD, Operation.REFRESH)
    app.refresher._patience = 0.2
    with pytest.raises(TokenUnavailable):
        await app.refresher.renew(tenant, zoom, generation=1)
    await sandbox.holding(held)
    sandbox.release()
    app.refresher._patience = 20
    await app.refresher.renew(tenant, zoom, generation=1)
    assert calls(sandbox) == 1


async def test_another_process_hears_of_the_end_and_asks_nobody(
    app: App, tenant: TenantId, zoom: UUID, sandbox: Sandbox, settings: Settings
) -> None:
    held = sandbox.order("zoom", FaultKind.HOLD, Operation.REFRESH)
    first = asyncio.create_task(app.refresher.renew(tenant, zoom, generation=1))
    await sandbox.holding(held)
    async with running(settings) as other:
        second = asyncio.create_task(other.refresher.renew(tenant, zoom, generation=1))
        sandbox.release()
        await asyncio.gather(first, second)
        assert await access_token(other, tenant, zoom) == await access_token(app, tenant, zoom)
    assert calls(sandbox) == 1


async def test_a_lease_that_is_renewed_is_not_taken_over_however_slow_the_provider_is(
    app: App, tenant: TenantId, zoom: UUID, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    app.renewing._lease = 0.9
    held = sandbox.order("zoom", FaultKind.HOLD, Operation.REFRESH)
    reader = asyncio.create_task(app.refresher.renew(tenant, zoom, generation=1))
    await sandbox.holding(held)
    first = (await state(owner, zoom))["lease_until"]

    async def later() -> bool:
        return bool((await state(owner, zoom))["lease_until"] > first)

    await until(later)
    sandbox.release()
    await reader
    assert (await state(owner, zoom))["lost"] == 0


async def test_a_lease_that_ran_out_counts_as_a_lost_answer(
    app: App, tenant: TenantId, zoom: UUID, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    # As a process leaves it that died between its question and the answer.
    await owner.execute(
        "insert into token_refreshes (tenant_id, connection_id, generation, holder, lease_until, started_at, attempts)"
        " values ($1, $2, 1, gen_random_uuid(), now() + interval '1 second', now(), 1)",
        tenant,
        zoom,
    )
    held = sandbox.order("zoom", FaultKind.HOLD, Operation.REFRESH)
    reader = asyncio.create_task(app.refresher.renew(tenant, zoom, generation=1))
    await sandbox.holding(held)
    stored = await state(owner, zoom)
    assert (stored["attempts"], stored["lost"]) == (2, 1)
    sandbox.release()
    # It had not been asked: the old token was good.
    await reader
    assert (await state(owner, zoom))["status"] == "active"


async def test_keys_that_customers_make_are_not_renewed(app: App, tenant: TenantId, zoom: UUID, owner: asyncpg.Connection) -> None:
    await owner.execute("update connections set provider = 'stripe'")
    with pytest.raises(Conflict, match="replaced, not renewed"):
        await app.refresher.renew(tenant, zoom, generation=1)


async def test_a_webhook_has_nothing_to_renew(app: App, tenant: TenantId, zoom: UUID, owner: asyncpg.Connection) -> None:
    with pytest.raises(NotFound):
        await app.refresher.renew(tenant, UUID(int=1), generation=1)
    await at_once(owner)
