"""A new consent for a connection that is there: other modes, other scopes, the account as before, nothing by itself."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from customhouse.app import App
from customhouse.providers.manifest import Scope
from tests.authority import ZOOM, Authority
from tests.integration.connections.conftest import Browser, connected, grown, invite
from tests.integration.web.conftest import Api, problem
from tests.receivers import Recorder

pytestmark = pytest.mark.anyio

ACME = {"provider": "acme-idp"}


async def test_act_takes_a_new_consent_that_asks_for_the_union_and_shows_what_is_added(
    acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection
) -> None:
    zoom.scope = "read"
    made = await connected(acme, browser, zoom, **ACME)
    assert (made["mode"], made["scopes"]["granted"]) == ("observe", ["read"])
    first_tokens = list(zoom.issued)
    zoom.scope = "read write"
    session = await invite(acme, **ACME, connection_id=made["connection_id"], mode="act")
    page = await browser.get(session["connect_url"])
    assert page.text.count('<li class="new">') == 1
    assert page.text.index("Change your records.") > page.text.index('<li class="new">')
    at_provider = await browser.consent(session["connect_url"])
    assert parse_qs(urlsplit(at_provider).query)["scope"] == ["read write"]
    await browser.get(f"/oauth/callback/acme-idp?{zoom.decide(at_provider)}")
    # Until the host confirms, everything is as it was.
    assert (await acme("GET", f"/v1/connections/{made['connection_id']}")).json() == made
    renewed = (await acme("POST", f"/v1/connect-sessions/{session['session_id']}/confirm", {"user_id": "u1"})).json()
    assert (renewed["connection_id"], renewed["mode"], renewed["status"]) == (made["connection_id"], "act", "active")
    assert renewed["scopes"]["granted"] == ["read", "write"]
    assert (renewed["token"]["token_generation"], renewed["grant_version"]) == (2, 2)
    assert await owner.fetchval("select count(*) from consents") == 2
    assert await owner.fetchval("select count(*) from integration_tokens") == 1
    # Elsewhere than with per-token revocation, to revoke the old token is to end the new one.
    assert zoom.calls("/oauth/revoke") == 0
    assert zoom.live >= {first_tokens[0]}


async def test_a_mode_that_a_provider_does_not_have_is_refused(acme: Api) -> None:
    body = {"user": {"id": "u1"}, "provider": "zoom", "mode": "act"}
    assert [one["pointer"] for one in problem(await acme("POST", "/v1/connect-sessions", body), 422, "invalid_request")["errors"]] == [
        "/mode"
    ]


async def test_a_manifest_that_grew_asks_the_user_again_and_changes_nothing_by_itself(
    acme: Api, browser: Browser, zoom: Authority, app: App, receiver: Recorder
) -> None:
    hook = {"provider": "webhook", "url": receiver.url("/"), "event_types": ["customhouse.connection.reauthorization_required"]}
    assert (await acme("POST", "/v1/connections", hook)).status_code == 201
    zoom.scope = "read"
    made = await connected(acme, browser, zoom, **ACME)
    await app.sweeping.outgrown()
    path = f"/v1/connections/{made['connection_id']}"
    assert (await acme("GET", path)).json()["status"] == "active"
    grown(app, "acme-idp", Scope("more", words="see more", why="Because.", reaches="more"))
    await app.sweeping.outgrown()
    await app.sweeping.outgrown()
    found = (await acme("GET", path)).json()
    assert (found["status"], found["health"]["reason"]) == ("reauthorization_required", "scopes_added")
    assert (found["scopes"], found["token"], found["grant_version"]) == (made["scopes"], made["token"], made["grant_version"])
    await receiver.wait_for(1)
    assert b'"reason":"scopes_added"' in receiver.received[0].body

    zoom.scope = "read more"
    renewed = await connected(acme, browser, zoom, **ACME, connection_id=made["connection_id"])
    assert (renewed["status"], renewed["scopes"]["granted"], renewed["mode"]) == ("active", ["read", "more"], "observe")
    await app.sweeping.outgrown()
    assert (await acme("GET", path)).json()["status"] == "active"


async def test_a_refused_renewal_leaves_the_connection_and_a_grant_that_is_shared(
    acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection
) -> None:
    """To revoke a wider grant of the same account would end the connection that is in use: it is dropped here alone."""
    made = await connected(acme, browser, zoom)
    zoom.scope = f"{ZOOM} meeting:write"
    session = await invite(acme, connection_id=made["connection_id"])
    back = await browser.get(f"/oauth/callback/zoom?{zoom.decide(await browser.consent(session['connect_url']))}")
    assert (back.status_code, zoom.calls("/oauth/revoke")) == (403, 0)
    assert await owner.fetchval("select detail ->> 'outcome' from audit_entries where tag = 'grant.revoked'") == "shared"
    assert (await acme("GET", f"/v1/connections/{made['connection_id']}")).json() == made
    assert await owner.fetchval("select count(*) from revocation_escrow") == 0


async def test_a_paused_connection_is_resumed_as_what_it_is_and_stays_paused_when_renewed(
    acme: Api, browser: Browser, zoom: Authority
) -> None:
    zoom.scope = ZOOM.replace("meeting:read:past_meeting ", "")
    made = await connected(acme, browser, zoom)
    path = f"/v1/connections/{made['connection_id']}"
    assert (await acme("PATCH", path, {"paused": True})).json()["status"] == "paused"
    assert (await connected(acme, browser, zoom, connection_id=made["connection_id"]))["status"] == "paused"
    resumed = (await acme("PATCH", path, {"paused": False})).json()
    assert (resumed["status"], resumed["health"]["reason"]) == ("degraded", "scopes_missing")
    problem(await acme("POST", f"{path}/secrets/rotate", {}), 409, "conflict")
    problem(await acme("POST", f"{path}/test"), 404, "not_found")
    for body in ({"url": "https://x.example"}, {"paused": True, "description": "x"}, {"paused": None}):
        problem(await acme("PATCH", path, body), 422, "invalid_request")


async def test_disconnecting_revokes_the_grant_and_destroys_key_and_tokens(
    acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection
) -> None:
    made = await connected(acme, browser, zoom)
    path = f"/v1/connections/{made['connection_id']}"
    receipt = (await acme("DELETE", path)).json()
    assert receipt["revocation"] == {"status": "revoked", "verified": True, "attempts": 1}
    assert (receipt["tokens_destroyed"], receipt["key_destroyed"], receipt["escrow_until"]) == (True, True, None)
    assert zoom.live == set()
    for table in ("integration_tokens", "revocation_escrow"):
        assert await owner.fetchval(f"select count(*) from {table}") == 0
    assert await owner.fetchval("select bool_and(state = 'destroyed') from data_keys where purpose = 'connection'")
    after = (await acme("GET", path)).json()
    assert (after["status"], after["account"]) == ("disconnected", {"id": None, "label": None})
    problem(await acme("DELETE", path), 409, "conflict")
    body = {"user": {"id": "u1"}, "provider": "zoom", "connection_id": made["connection_id"]}
    problem(await acme("POST", "/v1/connect-sessions", body), 409, "conflict")


async def test_a_grant_that_another_connection_stands_on_is_dropped_here_alone(acme: Api, browser: Browser, zoom: Authority) -> None:
    first = await connected(acme, browser, zoom)
    second = await connected(acme, browser, zoom)
    receipt = (await acme("DELETE", f"/v1/connections/{first['connection_id']}")).json()
    assert (receipt["revocation"]["status"], receipt["shared"], zoom.calls("/oauth/revoke")) == ("unsupported", True, 0)
    receipt = (await acme("DELETE", f"/v1/connections/{second['connection_id']}")).json()
    assert (receipt["revocation"]["status"], zoom.calls("/oauth/revoke")) == ("revoked", 1)


async def test_a_disconnect_that_the_provider_does_not_carry_out_waits_in_escrow(
    acme: Api, browser: Browser, zoom: Authority, app: App, owner: asyncpg.Connection
) -> None:
    made = await connected(acme, browser, zoom)
    zoom.lies = True
    receipt = (await acme("DELETE", f"/v1/connections/{made['connection_id']}")).json()
    assert (receipt["revocation"]["status"], receipt["tokens_destroyed"]) == ("pending", False)
    assert receipt["escrow_until"] is not None
    zoom.lies = False
    await app.revoker.end_due()
    assert zoom.calls("/oauth/revoke") == 1, "it has to wait for its time"
    await owner.execute("update revocation_escrow set next_at = now()")
    await app.revoker.end_due()
    assert (zoom.live, zoom.calls("/oauth/revoke")) == (set(), 2)
    assert await owner.fetchval("select bool_and(state = 'destroyed') from data_keys where purpose = 'connection'")
