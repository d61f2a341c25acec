"""`/v1/notices` over HTTP, and the page that an e-mail links to."""

from __future__ import annotations

from typing import Any

import pytest

from customhouse import ids
from customhouse.app import App
from customhouse.notices.kinds import KINDS
from customhouse.notices.ports import Recipient
from customhouse.types import TenantId
from tests.integration.web.conftest import Api, make_tenant, problem

pytestmark = pytest.mark.anyio

ACME = TenantId("acme")


async def tell(app: App, user_id: str, kind: str = "connection.degraded", **more: Any) -> str:
    async with app.database.transaction(ACME) as conn:
        return ids.show("ntc", await app.notices.notify(conn, ACME, Recipient(user_id), kind, **more))


async def test_notices_are_listed_by_user_and_marked_as_read(app: App, acme: Api) -> None:
    about = ids.new()
    first = await tell(app, "u1", connection_id=about, detail={"provider": "zoom", "reason": "scopes_missing"})
    second = await tell(app, "u1", "connection.disconnected")
    await tell(app, "u2")
    answer = await acme("GET", "/v1/notices?user_id=u1")
    assert answer.status_code == 200, answer.text
    newest, oldest = answer.json()["data"]
    assert newest["notice_id"] == second
    assert {name: value for name, value in oldest.items() if name != "created_at"} == {
        "notice_id": first,
        "user_id": "u1",
        "kind": "connection.degraded",
        "says": KINDS["connection.degraded"].sentence,
        "connection_id": ids.show("con", about),
        "detail": {"provider": "zoom", "reason": "scopes_missing"},
        "read_at": None,
        "mail": {"status": "none", "reason": None},
    }
    read = await acme("POST", f"/v1/notices/{first}/read")
    assert read.status_code == 200, read.text
    assert read.json()["read_at"] is not None
    assert (await acme("POST", f"/v1/notices/{first}/read")).json() == read.json()
    unread = (await acme("GET", "/v1/notices?user_id=u1&unread=true")).json()["data"]
    assert [one["notice_id"] for one in unread] == [second]


async def test_notices_come_page_by_page(app: App, acme: Api) -> None:
    made = [await tell(app, "u1") for _ in range(5)]
    seen: list[str] = []
    path = "/v1/notices?limit=2"
    while True:
        page = (await acme("GET", path)).json()
        seen += [one["notice_id"] for one in page["data"]]
        if page["next_cursor"] is None:
            break
        path = f"/v1/notices?limit=2&cursor={page['next_cursor']}"
    assert seen == made[::-1]


async def test_who_may_read_connections_may_read_notices_and_not_mark_them(app: App, acme: Api, platform: Api) -> None:
    notice_id = await tell(app, "u1")
    body = {"tenant_id": "acme", "name": "reads", "scopes": ["connections:read"]}
    reader = acme.as_key((await platform("POST", "/v1/api-keys", body)).json()["api_key"])
    assert len((await reader("GET", "/v1/notices")).json()["data"]) == 1
    problem(await reader("POST", f"/v1/notices/{notice_id}/read"), 403, "scope_missing")
    publisher = await make_tenant(platform, "other", ["events:write"])
    problem(await publisher("GET", "/v1/notices"), 403, "scope_missing")


@pytest.mark.parametrize("query", ["user_id=", "user_id=a%20b", "unread=false", "unread=yes", "user_id=u1&user_id=u2", "kind=x"])
async def test_a_query_that_is_not_understood_is_refused(acme: Api, query: str) -> None:
    problem(await acme("GET", f"/v1/notices?{query}"), 422, "invalid_request")


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_the_page_behind_an_email_says_what_it_means_and_nothing_of_anybody(platform: Api, kind: str) -> None:
    anybody = platform.as_key(None)
    answer = await anybody("GET", f"/notices/{kind}")
    assert answer.status_code == 200
    assert KINDS[kind].sentence in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    problem(await anybody("GET", f"/notices/{kind}x"), 404, "not_found")
