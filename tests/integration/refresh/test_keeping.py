"""Renewing before anybody has to wait for it."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from customhouse.app import App
from customhouse.audit.log import SYSTEM
from customhouse.connections.keeping import unused_for
from customhouse.types import TenantId
from customhouse_sandbox.faults import FaultKind, Operation
from tests.connected import connect
from tests.integration.refresh.scene import calls, state
from tests.sandboxes import Sandbox
from tests.scenes import until

pytestmark = pytest.mark.anyio


async def left(owner: asyncpg.Connection, seconds: float, of: float = 3600.0) -> None:
    """Let all access tokens have so many seconds left of so many."""
    await owner.execute(
        "update integration_tokens set access_expires_at = now() + make_interval(secs => $1),"
        " issued_at = now() + make_interval(secs => $1 - $2)",
        seconds,
        of,
    )


@pytest.fixture(params=["zoom", "gmail"])
async def connection(request: pytest.FixtureRequest, app: App, tenant: TenantId) -> tuple[str, UUID]:
    return request.param, await connect(app, tenant, request.param)


async def test_a_token_is_renewed_before_it_ends_and_not_long_before(
    app: App, connection: tuple[str, UUID], sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    await app.keeping.due()
    await left(owner, 660)
    await app.keeping.due()
    assert calls(sandbox) == 0
    await left(owner, 290)
    await app.keeping.due()
    assert calls(sandbox, 200) == 1
    stored = await state(owner, connection[1])
    assert (stored["token_generation"], stored["status"]) == (2, "active")
    await app.keeping.due()
    assert calls(sandbox) == 1


async def test_the_moment_is_drawn_so_that_what_came_together_does_not_go_together(
    app: App, tenant: TenantId, owner: asyncpg.Connection
) -> None:
    connection_id = await connect(app, tenant, "gmail")
    for number in range(40):
        for table in ("connections", "integration_tokens"):
            copied = "to_jsonb(x) || jsonb_build_object('connection_id', $1::text)"
            await owner.execute(
                f"insert into {table} select (jsonb_populate_record(null::{table}, {copied})).* from {table} x where connection_id = $2",
                str(UUID(int=number + 1)),
                connection_id,
            )
    due = []
    for seconds in (620, 540, 450, 370, 299):
        await left(owner, seconds)
        rows = await app.database.call(
            "select * from refreshes_due_v1($1, $2, $3, $4)", app.clock.now(), ["gmail"], [timedelta(days=3650)], 1000
        )
        due.append(len(rows))
    assert due[0] == 0
    assert due == sorted(due)
    assert 0 < due[1] < due[3] < 41
    assert due[4] == 41
    one = await app.database.call("select * from refreshes_due_v1($1, $2, $3, $4)", app.clock.now(), ["gmail"], [timedelta(days=3650)], 7)
    assert len(one) == 7


async def test_short_lives_are_renewed_in_their_last_part(
    app: App, connection: tuple[str, UUID], sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    await left(owner, 35, of=60)
    await app.keeping.due()
    assert calls(sandbox) == 0
    await left(owner, 14, of=60)
    await app.keeping.due()
    assert calls(sandbox) == 1


async def test_what_is_paused_is_left_alone_and_what_has_failed_waits(
    app: App, tenant: TenantId, connection: tuple[str, UUID], sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    name, connection_id = connection
    await left(owner, 60)
    await app.grants.pause(tenant, connection_id, SYSTEM, paused=True)
    await app.keeping.due()
    assert calls(sandbox) == 0
    await app.grants.pause(tenant, connection_id, SYSTEM, paused=False)
    sandbox.order(name, FaultKind.STATUS, Operation.REFRESH, status=503)
    await app.keeping.due()
    await app.keeping.due()
    assert calls(sandbox) == 1
    shown = await app.endpoints.get(tenant, connection_id)
    assert (shown.status, shown.condition.last_failure) == ("active", "provider_unavailable")
    assert await _listed(app, tenant, healthy=False) == [connection_id]
    await owner.execute("update token_refreshes set not_before = now()")
    await app.keeping.due()
    assert calls(sandbox) == 2
    shown = await app.endpoints.get(tenant, connection_id)
    assert (shown.status, shown.condition.last_failure, shown.condition.failing_since) == ("active", None, None)
    assert shown.condition.last_success_at is not None
    assert await _listed(app, tenant, healthy=False) == []


async def test_a_refresh_token_does_not_lapse_because_its_access_token_lasts(
    app: App, tenant: TenantId, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    zoom = await connect(app, tenant, "zoom")
    assert unused_for(app.catalogue.get("zoom")) == timedelta(days=30)
    day = 86_400.0
    await left(owner, 100 * day, of=126 * day)
    await app.keeping.due()
    assert calls(sandbox) == 0
    await left(owner, 100 * day, of=131 * day)
    await app.keeping.due()
    assert calls(sandbox) == 1
    assert (await state(owner, zoom))["token_generation"] == 2


async def test_a_provider_that_is_away_is_left_alone_after_a_few_calls_and_the_others_are_served(
    app: App, tenant: TenantId, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    accounts = list(sandbox.realm_of("zoom").people)[:2]
    for account in accounts:
        await connect(app, tenant, "zoom", account=account)
    gmail = await connect(app, tenant, "gmail")
    await left(owner, 60)
    sandbox.order("zoom", FaultKind.STATUS, Operation.REFRESH, times=None, status=500)
    await app.keeping.due()
    assert (await state(owner, gmail))["token_generation"] == 2
    assert await owner.fetchval("select count(*) from connections where status <> 'active'") == 0


async def test_a_nudge_renews_and_nobody_waits(
    app: App, tenant: TenantId, connection: tuple[str, UUID], sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    for _ in range(100):
        app.refresher.nudge(tenant, connection[1], 1)

    async def renewed() -> bool:
        return bool((await state(owner, connection[1]))["token_generation"] == 2)

    await until(renewed)
    assert calls(sandbox) == 1
    app.refresher.nudge(tenant, connection[1], 1)
    assert calls(sandbox) == 1


async def test_a_token_that_cannot_be_renewed_is_left_until_it_ends(
    app: App, tenant: TenantId, connection: tuple[str, UUID], owner: asyncpg.Connection
) -> None:
    await owner.execute("update integration_tokens set refresh_sealed = null")
    await left(owner, 60)
    await app.keeping.due()
    assert (await state(owner, connection[1]))["status"] == "active"
    await left(owner, -1)
    await app.keeping.due()
    stored = await state(owner, connection[1])
    assert (stored["status"], stored["status_reason"]) == ("reauthorization_required", "refresh_token_missing")


async def _listed(app: App, tenant: TenantId, *, healthy: bool) -> list[UUID]:
    found = await app.endpoints.list(tenant, user_id=None, provider=None, status=None, before=None, limit=10, healthy=healthy)
    return [one.connection_id for one in found]
