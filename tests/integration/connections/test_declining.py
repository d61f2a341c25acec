"""Not now: the person at our page says no, and nobody else has to find out by waiting."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import asyncpg
import pytest

from customhouse.app import App
from tests.authority import Authority
from tests.integration.connections.conftest import PUBLIC, RETURN, Browser, connected, invite
from tests.integration.web.conftest import Api, problem
from tests.receivers import Recorder

pytestmark = pytest.mark.anyio
CALLBACK = "/oauth/callback/zoom"


async def over(owner: asyncpg.Connection) -> list[tuple[str, str, bool]]:
    rows = await owner.fetch("select state, reason, facts_sealed is null as forgotten from connect_sessions order by created_at")
    return [tuple(row) for row in rows]


async def test_not_now_ends_the_session_and_shows_the_way_back(
    acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection
) -> None:
    session = await invite(acme, return_url=f"{RETURN}/settings?tab=integrations")
    page = await browser.get(session["connect_url"])
    assert "Not now" in page.text
    said = await browser.press(session["connect_url"], page, decision="decline")
    assert (said.status_code, "<code>declined</code>" in said.text, said.headers["cache-control"]) == (200, True, "no-store")
    way_back = (
        f"{RETURN}/settings?tab=integrations&connect_session_id={session['session_id']}&connect_status=refused&connect_reason=declined"
    )
    assert way_back.replace("&", "&amp;") in said.text
    assert await over(owner) == [("ended", "declined", True)]
    assert (await browser.get(session["connect_url"])).status_code == 410
    assert (await browser.press(session["connect_url"], page)).status_code == 410
    assert (await browser.press(session["connect_url"], page, decision="decline")).status_code == 410
    problem(await acme("POST", f"/v1/connect-sessions/{session['session_id']}/confirm", {"user_id": "u1"}), 409, "connect_session_over")
    for table in ("connections", "connect_states", "pending_grants"):
        assert await owner.fetchval(f"select count(*) from {table}") == 0, table
    assert zoom.server.received == []


async def test_not_now_without_a_way_back_is_a_page_alone(acme: Api, browser: Browser) -> None:
    session = await invite(acme)
    said = await browser.press(session["connect_url"], await browser.get(session["connect_url"]), decision="decline")
    assert (said.status_code, "Go back" in said.text) == (200, False)


async def test_the_host_and_the_ledger_are_told_of_a_no_and_the_user_needs_no_notice(
    acme: Api, browser: Browser, receiver: Recorder
) -> None:
    hook = {"provider": "webhook", "url": receiver.url("/"), "event_types": ["customhouse.connection.refused"]}
    assert (await acme("POST", "/v1/connections", hook)).status_code == 201
    session = await invite(acme)
    await browser.press(session["connect_url"], await browser.get(session["connect_url"]), decision="decline")
    await receiver.wait_for(1)
    assert b'"reason":"declined"' in receiver.received[0].body
    assert session["session_id"].encode() in receiver.received[0].body
    entries = (await acme("GET", "/v1/audit?limit=100")).json()["data"]
    told = next(one for one in entries if one["type"] == "connect_session.refused")
    assert (told["detail"], told["actor"]) == (
        {"provider": "zoom", "reason": "declined"},
        {"type": "connect_session", "id": session["session_id"]},
    )
    assert (await acme("GET", "/v1/notices")).json()["data"] == []


async def test_not_now_after_a_look_at_the_provider_makes_its_answer_void(
    acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection
) -> None:
    session = await invite(acme)
    page = await browser.get(session["connect_url"])
    query = zoom.decide(await browser.consent(session["connect_url"]))
    assert (await browser.press(session["connect_url"], page, decision="decline")).status_code == 200
    back = await browser.get(f"{CALLBACK}?{query}")
    assert (back.status_code, "state_unknown" in back.text) == (400, True)
    assert zoom.calls("/oauth/token") == 0
    assert await over(owner) == [("ended", "declined", True)]


async def test_not_now_for_another_consent_leaves_the_connection_as_it_was(acme: Api, browser: Browser, zoom: Authority) -> None:
    made = await connected(acme, browser, zoom)
    session = await invite(acme, connection_id=made["connection_id"])
    said = await browser.press(session["connect_url"], await browser.get(session["connect_url"]), decision="decline")
    assert said.status_code == 200
    assert (await acme("GET", f"/v1/connections/{made['connection_id']}")).json() == made
    assert len(zoom.live) == 1


async def test_not_now_is_taken_from_our_page_and_its_browser_alone(
    acme: Api, browser: Browser, other_browser: Browser, owner: asyncpg.Connection
) -> None:
    url = (await invite(acme))["connect_url"]
    page = await browser.get(url)
    path = browser.base + urlsplit(url).path
    no = {"csrf": page.text.split('name="csrf" value="')[1].split('"')[0], "decision": "decline"}
    attempts = [
        await browser.http.post(path, data=no),
        await browser.http.post(path, data=no, headers={"Origin": "https://evil.example"}),
        await browser.http.post(path, data={**no, "csrf": "x"}, headers={"Origin": PUBLIC}),
        await browser.http.post(path, data={"decision": "decline"}, headers={"Origin": PUBLIC}),
        await browser.http.post(path, data={**no, "decision": "maybe"}, headers={"Origin": PUBLIC}),
        await other_browser.http.post(path, data=no, headers={"Origin": PUBLIC}),
    ]
    assert [(one.status_code, "form_forged" in one.text) for one in attempts] == [(403, True)] * len(attempts)
    assert await owner.fetchval("select state from connect_sessions") == "open"
    # Whoever holds the link may look, and even say no, as long as nobody went on with it; afterwards that browser alone may.
    await browser.consent(url)
    assert (await other_browser.press(url, await browser.get(url), decision="decline")).status_code == 403
    assert await owner.fetchval("select state from connect_sessions") == "authorizing"


async def test_a_grant_that_waits_for_its_confirmation_is_past_a_no(acme: Api, browser: Browser, zoom: Authority) -> None:
    session = await invite(acme)
    page = await browser.get(session["connect_url"])
    assert (await browser.get(f"{CALLBACK}?{zoom.decide(await browser.consent(session['connect_url']))}")).status_code == 200
    assert (await browser.press(session["connect_url"], page, decision="decline")).status_code == 410
    assert (await acme("POST", f"/v1/connect-sessions/{session['session_id']}/confirm", {"user_id": "u1"})).status_code == 200


async def test_a_no_that_is_quicker_than_the_answer_of_the_provider_leaves_nothing_of_it(
    acme: Api, browser: Browser, zoom: Authority, app: App, owner: asyncpg.Connection
) -> None:
    session = await invite(acme)
    page = await browser.get(session["connect_url"])
    query = zoom.decide(await browser.consent(session["connect_url"]))

    async def waiting(number: int) -> None:
        """Wait until so many transactions want the session's row."""
        async with asyncio.timeout(30):
            while (
                await owner.fetchval(
                    "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
                )
                < number
            ):
                await asyncio.sleep(0.01)

    async with owner.transaction():
        await owner.fetch("select 1 from connect_sessions for update")
        no = asyncio.create_task(browser.press(session["connect_url"], page, decision="decline"))
        await waiting(1)
        back = asyncio.create_task(browser.get(f"{CALLBACK}?{query}"))
        await waiting(2)
    assert (await no).status_code == 200
    assert ((await back).status_code, "state_unknown" in (await back).text, zoom.calls("/oauth/token")) == (400, True, 0)
    assert await over(owner) == [("ended", "declined", True)]
    keys = await owner.fetch("select state from data_keys where purpose = 'connection'")
    assert [row["state"] for row in keys] == ["destroyed"], "the answer had one made for what it would bring"
