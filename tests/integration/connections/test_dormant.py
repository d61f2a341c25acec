"""R13: what nobody uses is announced, paused, and resumed by whoever needs it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from customhouse import ids
from customhouse.app import App
from customhouse.connections.dormant import Dormancy
from tests.authority import Authority
from tests.integration.connections.conftest import Browser, connected
from tests.integration.web.conftest import Api
from tests.receivers import Recorder

pytestmark = pytest.mark.anyio


async def unused(owner: asyncpg.Connection, days: float) -> None:
    """Let nobody have used or changed anything for so long."""
    await owner.execute("update connections set updated_at = now() - make_interval(secs => $1)", days * 86_400)


async def told(owner: asyncpg.Connection, days: float) -> None:
    """Let it have been announced so long ago."""
    await owner.execute("update connection_dormancy set told_at = now() - make_interval(secs => $1)", days * 86_400)


async def shown(acme: Api, connection: dict[str, Any]) -> tuple[str, str | None]:
    found = (await acme("GET", f"/v1/connections/{connection['connection_id']}")).json()
    return found["status"], found["health"]["reason"]


async def kinds(acme: Api) -> list[str]:
    return [one["kind"] for one in (await acme("GET", "/v1/notices")).json()["data"] if one["kind"] != "connection.created"]


async def test_a_connection_without_a_use_is_announced_a_week_before_it_is_paused(
    acme: Api, browser: Browser, zoom: Authority, app: App, owner: asyncpg.Connection, receiver: Recorder
) -> None:
    hook = {
        "provider": "webhook",
        "url": receiver.url("/"),
        "event_types": ["customhouse.connection.dormant", "customhouse.connection.paused"],
    }
    assert (await acme("POST", "/v1/connections", hook)).status_code == 201
    made = await connected(acme, browser, zoom)
    await unused(owner, 82.9)
    await app.dormancy.due()
    assert await kinds(acme) == []
    await unused(owner, 83.1)
    await app.dormancy.due()
    await app.dormancy.due()
    assert (await kinds(acme), await shown(acme, made)) == (["connection.dormant"], ("active", None))
    await receiver.wait_for(1)
    assert b'"pauses_at"' in receiver.received[0].body
    await unused(owner, 90.1)
    await told(owner, 6.9)
    await app.dormancy.due()
    assert await shown(acme, made) == ("active", None)
    await told(owner, 7.1)
    await app.dormancy.due()
    await app.dormancy.due()
    assert await shown(acme, made) == ("paused", "dormant")
    assert await kinds(acme) == ["connection.paused", "connection.dormant"]
    await receiver.wait_for(2)
    assert b'"reason":"dormant"' in receiver.received[1].body
    entries = (await acme("GET", "/v1/audit?limit=200")).json()["data"]
    assert [one["detail"]["paused"] for one in entries if one["type"] == "connection.dormant"] == [True, False]
    resumed = (await acme("PATCH", f"/v1/connections/{made['connection_id']}", {"paused": False})).json()
    assert resumed["status"] == "active"
    await app.dormancy.due()
    assert await shown(acme, made) == ("active", None)


async def test_one_that_was_found_late_still_gets_its_week(
    acme: Api, browser: Browser, zoom: Authority, app: App, owner: asyncpg.Connection
) -> None:
    made = await connected(acme, browser, zoom)
    await unused(owner, 400)
    await app.dormancy.due()
    await app.dormancy.due()
    assert (await kinds(acme), await shown(acme, made)) == (["connection.dormant"], ("active", None))


async def test_a_use_after_the_announcement_keeps_it(
    acme: Api, browser: Browser, zoom: Authority, app: App, owner: asyncpg.Connection
) -> None:
    made = await connected(acme, browser, zoom)
    await unused(owner, 100)
    await app.dormancy.due()
    await told(owner, 8)
    await owner.execute(
        "insert into connection_uses (tenant_id, connection_id, last_used_at) values ('acme', $1, now() - interval '1 hour')",
        ids.parse("con", made["connection_id"]),
    )
    await app.dormancy.due()
    assert await shown(acme, made) == ("active", None)
    await owner.execute("update connection_uses set last_used_at = now() - interval '84 days'")
    await told(owner, 90)
    await app.dormancy.due()
    assert await kinds(acme) == ["connection.dormant", "connection.dormant"]


async def test_nothing_is_paused_where_the_operator_does_not_want_it_or_what_is_no_account(
    acme: Api, browser: Browser, zoom: Authority, app: App, owner: asyncpg.Connection, receiver: Recorder
) -> None:
    hook = (await acme("POST", "/v1/connections", {"provider": "webhook", "url": receiver.url("/")})).json()
    await unused(owner, 1000)
    await app.dormancy.due()
    assert (await shown(acme, hook))[0] == "active"
    made = await connected(acme, browser, zoom)
    await unused(owner, 1000)
    await Dormancy(app.database, app.clock, app.operational, after=timedelta(0)).due()
    assert (await kinds(acme), await shown(acme, made)) == ([], ("active", None))
