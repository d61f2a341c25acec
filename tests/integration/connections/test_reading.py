"""Access tokens: to whom, in which state of the connection, and never without their entry in the ledger."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import asyncpg
import pytest

from customhouse import ids
from customhouse.app import App
from customhouse.audit.log import Origin
from customhouse.config import Address
from customhouse.connections import reading
from customhouse.connections.reading import Asker
from customhouse.errors import (
    ConnectionEnded,
    ConnectionPaused,
    DatabaseUnavailable,
    ReauthorizationRequired,
    TokenUnavailable,
    Unsealable,
)
from customhouse.types import TenantId
from tests.authority import Authority
from tests.integration.connections.conftest import Browser, connected, invite
from tests.integration.web.conftest import Api, make_tenant, problem
from tests.integration.web.wire import exchange

pytestmark = pytest.mark.anyio

ACME = TenantId("acme")
ASKER = Asker(Origin("api_key", "key_test", "req_test"), ACME)


async def read(api: Api, connection: dict[str, Any], **options: Any) -> Any:
    """Ask for the access token."""
    return await api("POST", f"/v1/connections/{connection['connection_id']}/access-token", **options)


async def entries(api: Api, tag: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await api("GET", f"/v1/audit?type={tag}")).json()["data"]
    return found


def held(connection: dict[str, Any]) -> Any:
    return ids.parse("con", connection["connection_id"])


async def test_a_token_is_read_written_down_and_stamped(acme: Api, browser: Browser, zoom: Authority) -> None:
    connection = await connected(acme, browser, zoom)
    answer = await read(acme, connection)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    said = answer.json()
    assert said["access_token"] in zoom.live
    assert (said["token_type"], said["expires_at"]) == ("Bearer", connection["token"]["expires_at"])
    assert said["scopes"] == connection["scopes"]["granted"]
    (entry,) = await entries(acme, "token.read")
    assert entry["detail"] == {"provider": "zoom", "purpose": "export", "token_generation": 1}
    assert (entry["connection_id"], entry["request_id"]) == (connection["connection_id"], answer.headers["x-request-id"])
    shown = (await acme("GET", f"/v1/connections/{connection['connection_id']}")).json()
    assert shown["last_used_at"] is not None
    # What a token that was handed out is used for cannot be seen: it may be everything.
    assert shown["scopes"]["used"] == sorted(said["scopes"])


async def test_the_short_way_and_the_framework_answer_alike(acme: Api, browser: Browser, zoom: Authority, address: Address) -> None:
    connection = await connected(acme, browser, zoom)
    short = await read(acme, connection)
    head = f"POST /v1/connections/{connection['connection_id']}/access-token HTTP/1.0\r\nauthorization: Bearer {acme.key}\r\n\r\n"
    long = await exchange(address, head.encode())
    assert (long.status, json.loads(long.body)) == (200, short.json())
    assert long.headers["cache-control"] == "no-store"
    for query in ("?tenant_id=acme", "?tenant_id=%61cme"):
        assert (await acme("POST", f"/v1/connections/{connection['connection_id']}/access-token{query}")).json() == short.json()
    for query in ("?tenant=acme", "?tenant_id=acme&tenant_id=acme"):
        problem(await acme("POST", f"/v1/connections/{connection['connection_id']}/access-token{query}"), 422, "invalid_request")
    assert (await acme("GET", f"/v1/connections/{connection['connection_id']}/access-token")).status_code == 405


async def test_a_key_without_the_scope_reads_no_token(platform: Api, acme: Api, browser: Browser, zoom: Authority) -> None:
    connection = await connected(acme, browser, zoom)
    made = await acme("POST", "/v1/api-keys", {"name": "weak", "scopes": ["admin", "connections:read"]})
    problem(await read(acme.as_key(made.json()["api_key"]), connection), 403, "scope_missing")
    problem(await read(acme.as_key(None), connection), 401, "unauthenticated")
    problem(await read(platform, connection), 422, "invalid_request")
    problem(await read(await make_tenant(platform, "other"), connection), 404, "not_found")
    assert await entries(acme, "token.read") == []


async def test_a_grant_that_can_change_something_is_never_handed_out(acme: Api, browser: Browser, zoom: Authority) -> None:
    zoom.scope = "read write"
    connection = await connected(acme, browser, zoom, provider="acme-idp", mode="act")
    said = problem(await read(acme, connection), 409, "token_not_exportable")
    assert "proxy" in said["detail"]
    (entry,) = await entries(acme, "token.refused")
    assert entry["detail"] == {"provider": "acme-idp", "purpose": "export", "reason": "writing_scope"}
    assert await entries(acme, "token.read") == []
    zoom.scope = "read"
    reading = await connected(acme, browser, zoom, provider="acme-idp")
    assert (await read(acme, reading)).status_code == 200


async def test_what_the_provider_does_not_name_is_not_handed_out(acme: Api, browser: Browser, zoom: Authority) -> None:
    zoom.scope = None
    connection = await connected(acme, browser, zoom, provider="acme-idp")
    assert connection["status"] == "degraded"
    problem(await read(acme, connection), 409, "token_not_exportable")


@pytest.mark.parametrize("status", ["paused", "disconnected"])
async def test_a_connection_that_does_not_work_gives_no_token(acme: Api, browser: Browser, zoom: Authority, status: str) -> None:
    connection = await connected(acme, browser, zoom)
    path = f"/v1/connections/{connection['connection_id']}"
    if status == "paused":
        assert (await acme("PATCH", path, {"paused": True})).status_code == 200
        problem(await read(acme, connection), 409, "connection_paused")
        assert (await acme("PATCH", path, {"paused": False})).status_code == 200
        assert (await read(acme, connection)).status_code == 200
    else:
        assert (await acme("DELETE", path)).status_code == 200
        problem(await read(acme, connection), 409, "connection_ended")


async def test_a_connection_that_waits_for_its_confirmation_gives_no_token(acme: Api, browser: Browser, zoom: Authority) -> None:
    session = await invite(acme)
    await browser.get(f"/oauth/callback/zoom?{zoom.decide(await browser.consent(session['connect_url']))}")
    pending = (await acme("GET", "/v1/connections?provider=zoom")).json()["data"][0]
    problem(await read(acme, pending), 409, "connection_pending")


async def test_a_webhook_connection_has_no_token(acme: Api) -> None:
    made = (await acme("POST", "/v1/connections", {"provider": "webhook", "url": "http://127.0.0.1:9/"})).json()
    problem(await read(acme, made), 409, "conflict")


async def test_a_valid_token_is_given_although_a_new_consent_is_wanted(
    app: App, acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection
) -> None:
    connection = await connected(acme, browser, zoom)
    marked = "update connections set status = 'reauthorization_required', status_reason = $1"
    for reason in ("scopes_added", "grant_ended"):
        await owner.execute(marked, reason)
        assert (await app.reader.token(ACME, held(connection), ASKER, "proxy")).access.reveal().decode() in zoom.live
    await owner.execute(marked, "access_token_refused")
    with pytest.raises(ReauthorizationRequired):
        await app.reader.token(ACME, held(connection), ASKER, "proxy")
    # What would never end by itself does not outlive the word that it is over.
    await owner.execute("update integration_tokens set access_expires_at = null")
    await owner.execute(marked, "grant_ended")
    with pytest.raises(ReauthorizationRequired) as caught:
        await app.reader.token(ACME, held(connection), ASKER, "proxy")
    assert caught.value.reason == "grant_ended"
    await owner.execute(marked, "scopes_added")
    assert (await app.reader.token(ACME, held(connection), ASKER, "proxy")).expires_at is None


async def test_a_row_that_was_edited_by_hand_gives_no_token(
    app: App, acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection
) -> None:
    connection = await connected(acme, browser, zoom)
    for change in (
        "update connection_grants set granted = array_append(granted, 'meeting:write')",
        "update connections set mode = 'act'",
        "update integration_tokens set api_origin = 'https://evil.example'",
        "update integration_tokens set token_generation = 2",
        "update integration_tokens set access_sealed = refresh_sealed",
    ):
        before = await owner.fetchrow(
            "select c.mode, g.granted, t.* from connections c join connection_grants g using (tenant_id, connection_id)"
            " join integration_tokens t using (tenant_id, connection_id)"
        )
        await owner.execute(change)
        with pytest.raises(Unsealable):
            await app.reader.token(ACME, held(connection), ASKER, "proxy")
        await owner.execute("update connections set mode = $1 where provider <> 'webhook'", before["mode"])
        await owner.execute("update connection_grants set granted = $1", before["granted"])
        await owner.execute(
            "update integration_tokens set api_origin = $1, token_generation = $2, access_sealed = $3",
            before["api_origin"],
            before["token_generation"],
            before["access_sealed"],
        )
    assert (await app.reader.token(ACME, held(connection), ASKER, "proxy")).generation == 1


async def test_an_entry_that_cannot_be_written_is_a_503_and_no_token(
    app: App, acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection
) -> None:
    connection = await connected(acme, browser, zoom)
    await owner.execute("alter function record_reads_v1 rename to gone_v1")
    with pytest.raises(DatabaseUnavailable):
        await app.reader.token(ACME, held(connection), ASKER, "proxy")
    answer = await read(acme, connection)
    problem(answer, 503, "database_unavailable")
    assert not any(token in answer.text for token in zoom.issued)
    await owner.execute("alter function gone_v1 rename to record_reads_v1")
    assert (await read(acme, connection)).status_code == 200


async def test_one_bad_row_fails_alone(app: App, acme: Api, browser: Browser, zoom: Authority) -> None:
    connection = await connected(acme, browser, zoom)
    bad = Asker(Origin("api_key", "key_\0", "req_test"), ACME)
    found = await app.reader.look(ACME, held(connection), ASKER)
    results = await asyncio.gather(
        *[app.reader.open(found, bad if place == 3 else ASKER, "proxy") for place in range(8)], return_exceptions=True
    )
    assert [isinstance(one, DatabaseUnavailable) for one in results] == [place == 3 for place in range(8)]
    assert len(await entries(acme, "token.read")) == 7


async def test_many_reads_of_many_tenants_share_a_commit(
    app: App, platform: Api, acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection
) -> None:
    other = await make_tenant(platform, "other")
    places = [(TenantId(api_name), held(await connected(api, browser, zoom))) for api_name, api in (("acme", acme), ("other", other))]
    before = await owner.fetchval("select count(distinct xmin::text) from audit_entries where tag = 'token.read'")
    asker = Asker(Origin("api_key", "key_test", "req_test"), None)
    await asyncio.gather(*[app.reader.token(*places[number % 2], asker, "proxy") for number in range(64)])
    assert await owner.fetchval("select count(*) from audit_entries where tag = 'token.read'") == 64
    shared = await owner.fetchval("select count(distinct xmin::text) from audit_entries where tag = 'token.read'")
    assert before == 0
    assert shared <= 32, "each read has a transaction of its own"
    for tenant, count in await owner.fetch("select tenant_id, count(*) from audit_entries where tag = 'token.read' group by 1"):
        assert (tenant in {"acme", "other"}, count) == (True, 32)
    assert await owner.fetchval("select count(*) from connection_uses") == 2


class Refresher:
    """Renews as told, and keeps what it was asked."""

    def __init__(self, owner: asyncpg.Connection, *, renews: bool) -> None:
        self.owner, self.renews = owner, renews
        self.asked: list[int] = []
        self.nudged: list[int] = []

    async def renew(self, tenant: TenantId, connection_id: Any, *, generation: int) -> None:
        del tenant, connection_id
        self.asked.append(generation)
        if not self.renews:
            raise TokenUnavailable(retry_after=7)
        await self.owner.execute("update integration_tokens set access_expires_at = now() + interval '1 hour'")

    def nudge(self, tenant: TenantId, connection_id: Any, generation: int) -> None:
        del tenant, connection_id
        self.nudged.append(generation)


async def test_a_token_whose_time_is_over_is_renewed_first_and_one_near_its_end_afterwards(
    app: App, acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection
) -> None:
    connection = await connected(acme, browser, zoom)
    app.reader._refresher = refresher = Refresher(owner, renews=True)
    await app.reader.token(ACME, held(connection), ASKER, "proxy")
    assert (refresher.asked, refresher.nudged) == ([], [])
    await owner.execute("update integration_tokens set access_expires_at = now() + interval '1 minute'")
    await app.reader.token(ACME, held(connection), ASKER, "proxy")
    assert (refresher.asked, refresher.nudged) == ([], [1])
    await owner.execute("update integration_tokens set access_expires_at = now() - interval '1 second'")
    await app.reader.token(ACME, held(connection), ASKER, "proxy")
    assert (refresher.asked, refresher.nudged) == ([1], [1])


async def test_a_valid_token_is_given_whatever_becomes_of_its_renewal(
    app: App, acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection
) -> None:
    connection = await connected(acme, browser, zoom)
    app.reader._refresher = Refresher(owner, renews=False)
    await owner.execute("update integration_tokens set access_expires_at = now() + interval '1 minute'")
    assert (await read(acme, connection)).status_code == 200
    await owner.execute("update integration_tokens set access_expires_at = now() - interval '1 second'")
    answer = await read(acme, connection)
    problem(answer, 503, "token_unavailable")
    assert answer.headers["retry-after"] == "7"
    (entry,) = await entries(acme, "token.read")
    assert entry["detail"]["token_generation"] == 1


async def test_a_destroyed_key_ends_in_a_clear_refusal(
    app: App, acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection
) -> None:
    connection = await connected(acme, browser, zoom)
    found = await app.reader.look(ACME, held(connection), ASKER)
    assert (await acme("DELETE", f"/v1/connections/{connection['connection_id']}")).status_code == 200
    with pytest.raises((ConnectionEnded, TokenUnavailable)):
        await app.reader.open(found, ASKER, "proxy")


async def test_a_paused_connection_is_refused_by_the_reader_itself(app: App, acme: Api, browser: Browser, zoom: Authority) -> None:
    connection = await connected(acme, browser, zoom)
    await acme("PATCH", f"/v1/connections/{connection['connection_id']}", {"paused": True})
    with pytest.raises(ConnectionPaused):
        await app.reader.look(ACME, held(connection), ASKER)


async def test_a_pause_while_the_entry_is_being_written_keeps_the_token_back(
    app: App, acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_STALE", -1.0)
    connection = await connected(acme, browser, zoom)
    async with owner.transaction():
        await owner.execute("lock table connection_uses in exclusive mode")
        asked = asyncio.create_task(app.reader.token(ACME, held(connection), ASKER, "proxy"))
        while not await owner.fetchval("select exists (select from pg_locks where not granted)"):
            await asyncio.sleep(0.01)
        assert (await acme("PATCH", f"/v1/connections/{connection['connection_id']}", {"paused": True})).status_code == 200
    with pytest.raises(ConnectionPaused):
        await asked
    assert len(await entries(acme, "token.read")) == 1
