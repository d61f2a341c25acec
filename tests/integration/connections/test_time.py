"""What time does to a flow: links and states run out, unconfirmed grants are revoked, lost exchanges are settled."""

from __future__ import annotations

import asyncpg
import pytest

from customhouse.app import App
from tests.authority import Authority, reply
from tests.integration.connections.conftest import Browser, invite
from tests.integration.web.conftest import Api, problem
from tests.receivers import Recorder

pytestmark = pytest.mark.anyio
CALLBACK = "/oauth/callback/zoom"


async def late(owner: asyncpg.Connection) -> None:
    """Let the time of every session be over."""
    await owner.execute("update connect_sessions set deadline = now() - interval '1 second' where state not in ('confirmed', 'ended')")


async def test_a_link_ends_after_ten_minutes(acme: Api, browser: Browser, owner: asyncpg.Connection, app: App) -> None:
    session = await invite(acme)
    await late(owner)
    assert (await browser.get(session["connect_url"])).status_code == 410
    await app.sweeping.sessions()
    row = await owner.fetchrow("select state, reason, facts_sealed from connect_sessions")
    assert (row["state"], row["reason"], row["facts_sealed"]) == ("ended", "expired", None)


async def test_pressing_the_button_again_and_again_does_not_keep_a_link_alive(
    acme: Api, browser: Browser, owner: asyncpg.Connection
) -> None:
    url = (await invite(acme))["connect_url"]
    await browser.consent(url)
    await owner.execute("update connect_sessions set created_at = now() - interval '29 minutes'")
    await browser.consent(url)
    await owner.execute("update connect_sessions set created_at = now() - interval '30 minutes'")
    assert (await browser.get(url)).status_code == 410


async def test_a_state_ends_too(acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection) -> None:
    query = zoom.decide(await browser.consent((await invite(acme))["connect_url"]))
    await owner.execute("update connect_states set expires_at = now()")
    back = await browser.get(f"{CALLBACK}?{query}")
    assert (back.status_code, "<code>expired</code>" in back.text) == (410, True)
    assert zoom.calls("/oauth/token") == 0


async def test_a_grant_that_nobody_confirms_is_revoked(
    acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection, app: App
) -> None:
    session = await invite(acme)
    assert (await browser.get(f"{CALLBACK}?{zoom.decide(await browser.consent(session['connect_url']))}")).status_code == 200
    await late(owner)
    problem(await acme("POST", f"/v1/connect-sessions/{session['session_id']}/confirm", {"user_id": "u1"}), 409, "connect_session_over")
    assert len(zoom.live) == 1
    await app.sweeping.sessions()
    assert zoom.live == set()
    assert await owner.fetchval("select count(*) from pending_grants") == 0
    listed = (await acme("GET", "/v1/connections")).json()["data"]
    assert [(one["status"], one["health"]["reason"]) for one in listed] == [("disconnected", "not_confirmed")]
    assert await owner.fetchval("select bool_and(state = 'destroyed') from data_keys where purpose = 'connection'")
    await app.sweeping.sessions()
    assert zoom.calls("/oauth/revoke") == 1


async def test_a_lost_exchange_is_shown_again_and_what_it_gives_is_revoked(
    acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection, app: App
) -> None:
    """The call did not reach the provider, or its answer did not reach us: nobody may keep a grant that nobody holds."""
    zoom.server.answer = b"no HTTP\r\n\r\n"
    session = await invite(acme)
    query = zoom.decide(await browser.consent(session["connect_url"]))
    back = await browser.get(f"{CALLBACK}?{query}")
    assert (back.status_code, "<code>reply_lost</code>" in back.text) == (502, True)
    assert await owner.fetchval("select count(*) from connect_exchanges") == 1
    zoom.server.answer = zoom.answer
    await app.sweeping.sessions()
    assert zoom.calls("/oauth/token") == 1, "it has to wait for its time"
    await late(owner)
    await app.sweeping.sessions()
    assert (len(zoom.issued), zoom.live, zoom.calls("/oauth/revoke")) == (2, set(), 1)
    row = await owner.fetchrow("select state, reason from connect_sessions")
    assert (row["state"], row["reason"]) == ("ended", "reply_lost")
    assert await owner.fetchval("select count(*) from connect_exchanges") == 0
    assert await owner.fetchval("select count(*) from connections") == 0


async def test_a_lost_exchange_whose_code_is_spent_ends(
    acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection, app: App
) -> None:
    zoom.on_token = lambda _form: reply(503, {})  # after its effect
    await browser.get(f"{CALLBACK}?{zoom.decide(await browser.consent((await invite(acme))['connect_url']))}")
    zoom.on_token = None
    await late(owner)
    await app.sweeping.sessions()
    assert await owner.fetchval("select reason from connect_sessions") == "reply_lost"
    assert await owner.fetchval("select count(*) from connect_exchanges") == 0


async def test_a_lost_exchange_is_asked_for_until_no_code_lives_so_long(
    acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection, app: App
) -> None:
    zoom.on_token = lambda _form: reply(503, {})
    await browser.get(f"{CALLBACK}?{zoom.decide(await browser.consent((await invite(acme))['connect_url']))}")
    await late(owner)
    await app.sweeping.sessions()
    assert await owner.fetchval("select state from connect_sessions") == "exchanging"
    await owner.execute("update connect_exchanges set started_at = now() - interval '1 hour'")
    await late(owner)
    await app.sweeping.sessions()
    assert await owner.fetchval("select state from connect_sessions") == "ended"


async def test_sessions_that_are_over_are_forgotten_after_a_week(acme: Api, browser: Browser, owner: asyncpg.Connection, app: App) -> None:
    await invite(acme)
    await late(owner)
    await app.sweeping.sessions()
    await app.sweeping.sessions()
    assert await owner.fetchval("select count(*) from connect_sessions") == 1
    await owner.execute("update connect_sessions set deadline = now() - interval '8 days'")
    await app.sweeping.sessions()
    assert await owner.fetchval("select count(*) from connect_sessions") == 0


async def test_the_host_is_told_of_each_end(acme: Api, browser: Browser, zoom: Authority, receiver: Recorder) -> None:
    hook = {"provider": "webhook", "url": receiver.url("/"), "event_types": ["customhouse.connection.*"]}
    assert (await acme("POST", "/v1/connections", hook)).status_code == 201
    session = await invite(acme)
    await browser.get(f"{CALLBACK}?{zoom.decide(await browser.consent(session['connect_url']), code=None, error='access_denied')}")
    await receiver.wait_for(1)
    told = receiver.received[0].body
    assert b'"event_type":"customhouse.connection.refused"' in told
    assert b'"reason":"consent_denied"' in told
    assert session["session_id"].encode() in told


async def test_the_same_key_makes_one_session_and_shows_its_link_once(acme: Api) -> None:
    body = {"user": {"id": "u1"}, "provider": "zoom"}
    first = await acme("POST", "/v1/connect-sessions", body, headers={"Idempotency-Key": "k-1"})
    again = await acme("POST", "/v1/connect-sessions", body, headers={"Idempotency-Key": "k-1"})
    assert again.json()["session_id"] == first.json()["session_id"]
    assert (again.json()["connect_url"], again.json()["secret_already_shown"]) == (None, True)
    other = await acme("POST", "/v1/connect-sessions", {**body, "user": {"id": "u2"}}, headers={"Idempotency-Key": "k-1"})
    problem(other, 409, "idempotency_conflict")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"provider": "none"}, 422, "invalid_request"),
        ({"provider": "stripe"}, 422, "invalid_request"),
        ({"provider": "gmail"}, 409, "provider_not_configured"),
        ({"user": {"id": "ada@example.com"}}, 422, "invalid_request"),
        ({"user": {"id": "u1", "email": "x"}}, 422, "invalid_request"),
        ({"user": {"id": "u1", "display_name": "\u202eada"}}, 422, "invalid_request"),
        ({"user": {"id": "u1", "locale": "../"}}, 422, "invalid_request"),
        ({"user": {}}, 422, "invalid_request"),
        ({"connection_id": "con_x"}, 404, "not_found"),
    ],
)
async def test_an_invitation_that_is_not_acceptable_makes_nothing(
    acme: Api, owner: asyncpg.Connection, body: dict[str, object], status: int, code: str
) -> None:
    problem(await acme("POST", "/v1/connect-sessions", {"user": {"id": "u1"}, "provider": "zoom", **body}), status, code)
    assert await owner.fetchval("select count(*) from connect_sessions") == 0
