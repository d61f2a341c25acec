"""Events about Customhouse itself: who gets them, with what, and that they stand or fall with what they tell."""

from __future__ import annotations

import json
from typing import Any

import asyncpg
import pytest

from customhouse import ids
from customhouse.app import App
from customhouse.audit.log import SYSTEM
from customhouse.errors import KeyServiceUnavailable
from customhouse.outbound.endpoints import Change
from customhouse.types import PLATFORM, TenantId
from tests.receivers import Recorder, recorder
from tests.scenes import connect, make_tenant, settled

pytestmark = pytest.mark.anyio

DISABLED = "customhouse.connection.disabled"
DATA: dict[str, Any] = {"connection_id": "con_1", "provider": "webhook", "reason": "gone"}


async def tell(app: App, tenant: TenantId, event_type: str = DISABLED, **options: Any) -> int:
    await app.operational.warm(tenant)
    async with app.database.transaction(tenant) as conn:
        return await app.operational.publish(conn, tenant, event_type, DATA, **options)


async def test_they_go_to_the_operator_and_to_whoever_names_them_but_not_by_a_star(
    app: App, tenant: TenantId, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    other = await make_tenant(app, "other")
    for path, patterns in {
        "/exact": (DISABLED,), "/prefix": ("customhouse.connection.*",), "/all-of-ours": ("customhouse.*",),
        "/star": ("*",), "/another": ("customhouse.connection.created", "order.*"), "/near": ("customhouse.connection.disabled.*",),
    }.items():  # fmt: skip
        await connect(app, tenant, receiver.url(path), event_types=patterns)
    await connect(app, other, receiver.url("/other-tenant"), event_types=("customhouse.*",))
    await connect(app, PLATFORM, receiver.url("/operator"), event_types=("*",))
    await connect(app, PLATFORM, receiver.url("/operator-created"), event_types=("customhouse.connection.created",))
    await settled(owner, 0)
    receiver.received.clear()
    assert await tell(app, tenant) == 4
    await receiver.wait_for(4)
    assert sorted(request.path for request in receiver.received) == ["/all-of-ours", "/exact", "/operator", "/prefix"]
    said = {request.path: json.loads(request.body) for request in receiver.received}
    assert said["/exact"]["data"] == said["/operator"]["data"] == {"tenant_id": "acme", **DATA}
    assert (said["/exact"]["tenant_id"], said["/operator"]["tenant_id"]) == ("acme", "_platform")
    assert said["/exact"]["event_id"] == said["/prefix"]["event_id"] != said["/operator"]["event_id"]


async def test_nothing_is_written_where_nobody_asked(app: App, tenant: TenantId, owner: asyncpg.Connection) -> None:
    assert await tell(app, tenant) == 0
    assert await owner.fetchval("select count(*) from events") == 0


async def test_it_falls_with_the_transaction_that_it_tells_of(
    app: App, tenant: TenantId, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    await connect(app, tenant, receiver.url("/"), event_types=("customhouse.*",))

    async def told_and_undone() -> None:
        async with app.database.transaction(tenant) as conn:
            assert await app.operational.publish(conn, tenant, DISABLED, DATA) == 1
            raise RuntimeError("undone")

    with pytest.raises(RuntimeError, match="undone"):
        await told_and_undone()
    assert await owner.fetchval("select (select count(*) from events) + (select count(*) from delivery_queue)") == 0


async def test_the_transaction_is_in_its_own_tenant_again_afterwards(app: App, tenant: TenantId, receiver: Recorder) -> None:
    await connect(app, PLATFORM, receiver.url("/"))
    async with app.database.transaction(tenant) as conn:
        assert await app.operational.publish(conn, tenant, DISABLED, DATA) == 1
        assert await conn.fetchval("select current_setting('app.tenant_id')") == tenant


async def test_what_came_of_an_operational_event_leads_to_no_other(
    app: App, tenant: TenantId, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    await connect(app, PLATFORM, receiver.url("/"))
    assert await tell(app, tenant, cause=DISABLED) == 0
    assert await tell(app, tenant, cause="order.created") == 1


@pytest.mark.parametrize(
    ("event_type", "data"),
    [("customhouse.invented", {}), ("order.created", {}), ("customhouse.ping", {}), (DISABLED, {"url": "https://example.com/secret"})],
)
async def test_the_vocabulary_is_closed(app: App, tenant: TenantId, event_type: str, data: dict[str, Any]) -> None:
    async with app.database.transaction(tenant) as conn:
        with pytest.raises(ValueError, match="does not declare"):
            await app.operational.publish(conn, tenant, event_type, data)


async def test_a_paused_connection_gets_it_later(app: App, tenant: TenantId, owner: asyncpg.Connection) -> None:
    async with recorder() as receiver:
        made = await connect(app, tenant, receiver.url("/"), event_types=("customhouse.*",))
        await owner.execute("update connections set status = 'disabled'")
        assert await tell(app, tenant) == 0
        await owner.execute("update connections set status = 'paused'")
        assert await tell(app, tenant) == 1
        assert made.connection.event_types == ("customhouse.*",)


async def test_the_life_of_a_connection_is_told_to_whoever_asked(
    app: App, tenant: TenantId, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    await connect(app, PLATFORM, receiver.url("/operator"))
    await connect(app, tenant, receiver.url("/tenant"), event_types=("customhouse.connection.*",))
    made = await connect(app, tenant, receiver.url("/other"), event_types=("none",))
    connection_id = made.connection.connection_id
    await app.endpoints.change(tenant, connection_id, Change(paused=True), SYSTEM)
    await app.endpoints.disconnect(tenant, connection_id, SYSTEM)
    # The operator hears of both connections of the tenant, the tenant's own listener of the second alone.
    await receiver.wait_for(7)
    await settled(owner, 7)
    told = {(request.path, said["event_type"]): said["data"] for request in receiver.received if (said := json.loads(request.body))}
    shown = {"tenant_id": "acme", "connection_id": ids.show("con", connection_id), "provider": "webhook"}
    for path in ("/operator", "/tenant"):
        assert told[path, "customhouse.connection.changed"] == {**shown, "changed": ["paused"], "status": "paused"}
        assert told[path, "customhouse.connection.disconnected"] == {**shown, "deliveries_cancelled": 0}
    assert told["/tenant", "customhouse.connection.created"] == shown
    assert len(receiver.received) == 7


async def test_without_the_key_service_a_connection_still_ends_and_nobody_is_told(
    app: App, tenant: TenantId, receiver: Recorder, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await connect(app, tenant, receiver.url("/"), event_types=("none",))
    await connect(app, PLATFORM, receiver.url("/operator"))

    async def away(*_: object) -> None:
        raise KeyServiceUnavailable

    monkeypatch.setattr(app.vault, "payload_key", away)
    monkeypatch.setattr(app.vault, "cached_payload_key", lambda *_: None)
    await app.endpoints.disconnect(tenant, made.connection.connection_id, SYSTEM)
    assert (await app.endpoints.get(tenant, made.connection.connection_id)).status == "disconnected"
    assert await owner.fetchval("select count(*) from events where event_type = 'customhouse.connection.disconnected'") == 0
    with pytest.raises(KeyServiceUnavailable):
        await tell(app, tenant)
