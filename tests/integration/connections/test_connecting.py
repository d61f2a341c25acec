"""The whole way: invitation, consent page, provider, callback, confirmation, sealed grant."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from customhouse.app import App
from tests.authority import ZOOM, Authority
from tests.integration.connections.conftest import PUBLIC, RETURN, Browser, connected, invite
from tests.integration.web.conftest import Api

pytestmark = pytest.mark.anyio


async def test_a_user_connects_zoom_and_the_host_confirms(acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection) -> None:
    session = await invite(acme, return_url=f"{RETURN}/settings?tab=integrations")
    assert session["connect_url"].startswith(f"{PUBLIC}/connect/")
    page = await browser.get(session["connect_url"])
    assert page.status_code == 200
    for words in (
        "Connect Zoom",
        "Ada",
        "Acme",
        "list your cloud recordings",
        "What is never asked for",
        "It would let us write in your name.",
    ):
        assert words in page.text
    at_provider = await browser.consent(session["connect_url"])
    asked = {name: values[0] for name, values in parse_qs(urlsplit(at_provider).query).items()}
    assert asked["redirect_uri"] == f"{PUBLIC}/oauth/callback/zoom"
    assert asked["code_challenge_method"] == "S256"
    back = await browser.get(f"/oauth/callback/zoom?{zoom.decide(at_provider)}")
    assert back.status_code == 303, back.text
    assert (
        back.headers["location"] == f"{RETURN}/settings?tab=integrations&connect_session_id={session['session_id']}&connect_status=granted"
    )

    pending = (await acme("GET", "/v1/connections?provider=zoom")).json()["data"][0]
    assert (pending["status"], pending["scopes"]["granted"], pending["account"]["id"]) == ("pending", [], None)
    made = await acme("POST", f"/v1/connect-sessions/{session['session_id']}/confirm", {"user_id": "u1"})
    assert made.status_code == 200, made.text
    connection = made.json()
    assert connection["connection_id"] == pending["connection_id"]
    assert (connection["status"], connection["mode"], connection["user_id"], connection["provider"]) == ("active", "observe", "u1", "zoom")
    assert connection["account"] == {"id": "a-1:u-1", "label": "ada@example.com"}
    assert connection["scopes"] == {"requested": ZOOM.split(), "granted": ZOOM.split(), "missing": [], "used": []}
    assert (connection["token"]["token_generation"], connection["grant_version"]) == (1, 1)
    assert connection["token"]["expires_at"] is not None
    assert (await acme("GET", f"/v1/connections/{connection['connection_id']}")).json() == connection
    assert await owner.fetchval("select count(*) from pending_grants") == 0
    assert await owner.fetchval("select count(*) from connect_exchanges") == 0
    assert await owner.fetchval("select facts_sealed is null and state = 'confirmed' from connect_sessions")
    again = await acme("POST", f"/v1/connect-sessions/{session['session_id']}/confirm", {"user_id": "u1"})
    assert again.json() == connection


async def test_the_ledger_tells_each_step_and_no_value(acme: Api, browser: Browser, zoom: Authority, app: App) -> None:
    await connected(acme, browser, zoom)
    entries = (await acme("GET", "/v1/audit?limit=100")).json()["data"]
    told = [one["type"] for one in entries]
    steps = ["connection.created", "connect_session.granted", "connect_session.consented", "connect_session.created"]
    assert [one for one in told if one in steps] == steps
    assert next(one for one in entries if one["type"] == "connect_session.consented")["actor"]["type"] == "connect_session"
    text = str(entries)
    assert [one for one in zoom.issued if one in text] == []


async def test_fewer_scopes_make_a_degraded_connection_that_names_what_is_missing(acme: Api, browser: Browser, zoom: Authority) -> None:
    zoom.scope = ZOOM.replace("meeting:read:past_meeting ", "")
    made = await connected(acme, browser, zoom)
    assert (made["status"], made["scopes"]["missing"]) == ("degraded", ["meeting:read:past_meeting"])
    assert made["health"]["reason"] == "scopes_missing"


async def test_a_reply_that_names_no_scopes_is_never_taken_for_as_requested(acme: Api, browser: Browser, zoom: Authority) -> None:
    zoom.scope = None
    made = await connected(acme, browser, zoom)
    assert (made["status"], made["health"]["reason"], made["scopes"]["granted"]) == ("degraded", "scopes_unknown", [])
