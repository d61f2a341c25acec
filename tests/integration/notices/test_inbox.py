"""The inbox: written with what it tells or not at all, told to the host, and nobody's but the tenant's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from customhouse import ids
from customhouse.app import App
from customhouse.canonical import parse_object
from customhouse.errors import NotFound
from customhouse.notices.inbox import KEPT, READ_KEPT
from customhouse.notices.ports import Recipient
from customhouse.types import PLATFORM, TenantId
from tests.receivers import Recorder
from tests.scenes import connect, make_tenant, settled

pytestmark = pytest.mark.anyio

ADA = Recipient("u1", "ada@example.com")
EVERYTHING: dict[str, Any] = {"user_id": None, "unread": False, "before": None, "limit": 100}


async def tell(app: App, tenant: TenantId, to: Recipient = ADA, kind: str = "connection.created", **more: Any) -> UUID:
    await app.notices.prepare(tenant)
    async with app.database.transaction(tenant) as conn:
        return await app.notices.notify(conn, tenant, to, kind, **more)


async def test_a_notice_is_in_the_inbox_of_its_user_until_it_is_read(app: App, tenant: TenantId) -> None:
    about = ids.new()
    first = await tell(app, tenant, connection_id=about, detail={"provider": "zoom", "mode": "observe"})
    await tell(app, tenant, Recipient("u2"))
    (found,) = await app.notices.find(tenant, **EVERYTHING | {"user_id": "u1"})
    assert (found.notice_id, found.kind, found.connection_id) == (first, "connection.created", about)
    assert found.detail == {"provider": "zoom", "mode": "observe"}
    assert found.says.startswith("A connection with an outside system was made")
    assert found.read_at is None
    assert [one.user_id for one in await app.notices.find(tenant, **EVERYTHING)] == ["u2", "u1"]

    read = await app.notices.read(tenant, first)
    assert read.read_at is not None
    assert (await app.notices.read(tenant, first)).read_at == read.read_at
    assert [one.user_id for one in await app.notices.find(tenant, **EVERYTHING | {"unread": True})] == ["u2"]


async def test_without_a_relay_there_is_an_inbox_and_no_address_is_kept(app: App, tenant: TenantId, owner: asyncpg.Connection) -> None:
    assert app.mailing is None
    await tell(app, tenant)
    row = await owner.fetchrow("select mail, address_sealed, mail_next_at from notices")
    assert row is not None
    assert tuple(row) == ("none", None, None)


async def test_a_notice_is_kept_with_what_it_tells_or_not_at_all(app: App, tenant: TenantId, owner: asyncpg.Connection) -> None:
    class Undone(Exception):
        pass

    await app.notices.prepare(tenant)

    async def tell_and_fail() -> None:
        async with app.database.transaction(tenant) as conn:
            await app.notices.notify(conn, tenant, ADA, "connection.created")
            raise Undone

    with pytest.raises(Undone):
        await tell_and_fail()
    with pytest.raises(ValueError, match="no kind of notice"):
        await tell(app, tenant, kind="weather.changed")
    assert await owner.fetchval("select count(*) from notices") == 0


async def test_the_host_is_told_by_an_event_with_ids_alone(
    app: App, tenant: TenantId, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    await connect(app, tenant, receiver.url("/tenant"), event_types=("customhouse.notice.created",))
    await connect(app, PLATFORM, receiver.url("/operator"))
    about = ids.new()
    notice_id = await tell(app, tenant, connection_id=about, detail={"provider": "zoom"})
    await settled(owner, 2)
    assert {one.path for one in receiver.received} == {"/tenant", "/operator"}
    for one in receiver.received:
        event = parse_object(one.body)
        assert event["event_type"] == "customhouse.notice.created"
        assert event["data"] == {
            "tenant_id": "acme",
            "notice_id": ids.show("ntc", notice_id),
            "user_id": "u1",
            "kind": "connection.created",
            "connection_id": ids.show("con", about),
        }
        assert b"ada@example.com" not in one.body


async def test_a_notice_of_another_tenant_is_not_there(app: App, tenant: TenantId) -> None:
    other = await make_tenant(app, "other")
    notice_id = await tell(app, tenant)
    assert await app.notices.find(other, **EVERYTHING) == []
    with pytest.raises(NotFound):
        await app.notices.read(other, notice_id)
    (mine,) = await app.notices.find(tenant, **EVERYTHING)
    assert mine.read_at is None


async def test_old_notices_go_and_those_that_nobody_has_read_later(app: App, tenant: TenantId, owner: asyncpg.Connection) -> None:
    other = await make_tenant(app, "other")
    now = datetime.now(UTC)
    read_long_ago, read_lately, unread, ancient = [await tell(app, tenant) for _ in range(4)]
    elsewhere = await tell(app, other)
    for notice_id, made, read in (
        (read_long_ago, now - READ_KEPT - timedelta(days=1), now - READ_KEPT - timedelta(hours=1)),
        (read_lately, now - READ_KEPT - timedelta(days=1), now - timedelta(days=1)),
        (unread, now - READ_KEPT - timedelta(days=1), None),
        (ancient, now - KEPT - timedelta(days=1), None),
        (elsewhere, now - KEPT - timedelta(days=1), None),
    ):
        await owner.execute("update notices set created_at = $2, read_at = $3 where notice_id = $1", notice_id, made, read)
    assert await app.notices.purge() == 3
    left = {row["notice_id"] for row in await owner.fetch("select notice_id from notices")}
    assert left == {read_lately, unread}
    assert await app.notices.purge() == 0
