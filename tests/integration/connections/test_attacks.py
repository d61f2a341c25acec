"""Each way to abuse the flow, tried: a clear page, a clear status, and nothing half-made (threats R23, R24, R26, R28)."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs, quote, urlsplit

import asyncpg
import pytest

from tests.authority import ZOOM, Authority, reply
from tests.integration.connections.conftest import PUBLIC, RETURN, Browser, connected, invite
from tests.integration.web.conftest import Api, make_tenant, problem

pytestmark = pytest.mark.anyio

CALLBACK = "/oauth/callback/zoom"


async def nothing_left(owner: asyncpg.Connection) -> None:
    """Hold that no grant, no state and no half-made thing is there."""
    for table in ("connect_states", "connect_exchanges", "pending_grants", "connection_grants", "integration_tokens", "revocation_escrow"):
        assert await owner.fetchval(f"select count(*) from {table}") == 0, table
    assert await owner.fetchval("select count(*) from connections where status not in ('disconnected')") == 0
    assert await owner.fetchval("select bool_and(facts_sealed is null) from connect_sessions where state in ('ended', 'confirmed')") in {
        True,
        None,
    }


def state_of(url: str) -> str:
    return parse_qs(urlsplit(url).query)["state"][0]


@pytest.mark.parametrize("query", ["", "state=", "state=x", "code=c", f"state={'a' * 43}&code=c", f"state={'a' * 43}", "state=%00&code=%ff",
                                   "state=a&state=a&code=c", f"code={'c' * 9000}&state={'a' * 43}"])  # fmt: skip
async def test_a_forged_state_is_refused(browser: Browser, owner: asyncpg.Connection, query: str) -> None:
    """R24, R28."""
    answer = await browser.get(f"{CALLBACK}?{query}")
    assert (answer.status_code, "state_unknown" in answer.text) == (400, True)
    await nothing_left(owner)


async def test_a_state_is_good_once(acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection) -> None:
    """R28: the second callback is refused, whatever it carries, and the first grant stays."""
    session = await invite(acme)
    query = zoom.decide(await browser.consent(session["connect_url"]))
    assert (await browser.get(f"{CALLBACK}?{query}")).status_code == 200
    again = await browser.get(f"{CALLBACK}?{query}")
    assert (again.status_code, "state_unknown" in again.text) == (400, True)
    assert zoom.calls("/oauth/token") == 1
    assert (await acme("POST", f"/v1/connect-sessions/{session['session_id']}/confirm", {"user_id": "u1"})).status_code == 200


async def test_of_many_callbacks_at_once_one_counts_and_of_many_confirmations_all_say_the_same(
    acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection
) -> None:
    session = await invite(acme)
    query = zoom.decide(await browser.consent(session["connect_url"]))
    answers = await asyncio.gather(*(browser.get(f"{CALLBACK}?{query}") for _ in range(6)))
    assert sorted(one.status_code for one in answers) == [200, 400, 400, 400, 400, 400]
    assert zoom.calls("/oauth/token") == 1
    path = f"/v1/connect-sessions/{session['session_id']}/confirm"
    made = await asyncio.gather(*(acme("POST", path, {"user_id": "u1"}) for _ in range(4)))
    assert {(one.status_code, one.text) for one in made} == {(200, made[0].text)}
    assert await owner.fetchval("select count(*) from consents") == 1


async def test_another_browser_cannot_finish_a_flow(
    acme: Api, browser: Browser, other_browser: Browser, zoom: Authority, owner: asyncpg.Connection
) -> None:
    """R24, R26: neither without a cookie nor with another one; and the state is spent."""
    for visit_first in (False, True):
        session = await invite(acme)
        query = zoom.decide(await browser.consent(session["connect_url"]))
        if visit_first:
            await other_browser.get((await invite(acme))["connect_url"])
        stolen = await other_browser.get(f"{CALLBACK}?{query}")
        assert (stolen.status_code, "other_browser" in stolen.text) == (403, True)
        assert (await browser.get(f"{CALLBACK}?{query}")).status_code == 400
        problem(await acme("POST", f"/v1/connect-sessions/{session['session_id']}/confirm", {"user_id": "u1"}), 409, "connect_session_over")
    assert zoom.calls("/oauth/token") == 0
    await nothing_left(owner)


async def test_the_callback_of_another_provider_is_no_way_in(
    acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection
) -> None:
    """R23: mix-up. The code of the one is never shown to the other."""
    session = await invite(acme)
    query = zoom.decide(await browser.consent(session["connect_url"]))
    mixed = await browser.get(f"/oauth/callback/acme-idp?{query}")
    assert (mixed.status_code, "other_provider" in mixed.text) == (400, True)
    assert zoom.calls("/oauth/token") == 0
    await nothing_left(owner)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        ("access_denied", 403, "consent_denied"),
        ("server_error", 502, "provider_unavailable"),
        ("unauthorized_client", 502, "client_refused"),
        ("made_up", 502, "reply_unreadable"),
        ("<script>alert(1)</script>", 502, "reply_unreadable"),
    ],
)
async def test_what_the_provider_says_instead_of_a_code_has_a_page(
    acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection, error: str, status: int, code: str
) -> None:
    session = await invite(acme, return_url=f"{RETURN}/x")
    at_provider = await browser.consent(session["connect_url"])
    back = await browser.get(f"{CALLBACK}?{zoom.decide(at_provider, code=None, error=error, error_description='<b>bold</b>')}")
    assert (back.status_code, f"<code>{code}</code>" in back.text) == (status, True), back.text
    assert "<script>" not in back.text
    assert "<b>bold" not in back.text
    assert f'href="{RETURN}/x?connect_session_id={session["session_id"]}&amp;connect_status=refused' in back.text
    await nothing_left(owner)


async def test_an_answer_without_a_code_or_with_one_that_is_none_is_refused(acme: Api, browser: Browser, zoom: Authority) -> None:
    for code in (None, "", "c" * 5000, "\x00", "ü"):
        at_provider = await browser.consent((await invite(acme))["connect_url"])
        back = await browser.get(f"{CALLBACK}?{zoom.decide(at_provider, code=code)}")
        assert (back.status_code, "code_missing" in back.text) == (400, True), (code, back.text)
    assert zoom.calls("/oauth/token") == 0


async def test_a_code_that_was_used_before_is_refused(acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection) -> None:
    at_provider = await browser.consent((await invite(acme))["connect_url"])
    query = zoom.decide(at_provider)
    zoom.codes.clear()
    back = await browser.get(f"{CALLBACK}?{query}")
    assert (back.status_code, "code_refused" in back.text) == (502, True), back.text
    await nothing_left(owner)


@pytest.mark.parametrize(
    ("scope", "code"),
    [(f"{ZOOM} user:read:settings", "scope_wider"), (f"{ZOOM} meeting:write", "scope_forbidden"), ("chat:write", "scope_forbidden")],
)
async def test_a_wider_grant_is_refused_revoked_and_in_the_ledger(
    acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection, scope: str, code: str
) -> None:
    zoom.scope = scope
    session = await invite(acme)
    back = await browser.get(f"{CALLBACK}?{zoom.decide(await browser.consent(session['connect_url']))}")
    assert (back.status_code, f"<code>{code}</code>" in back.text) == (403, True), back.text
    assert (zoom.live, zoom.calls("/oauth/revoke")) == (set(), 1)
    await nothing_left(owner)
    entries = {one["type"]: one["detail"] for one in (await acme("GET", "/v1/audit?limit=100")).json()["data"]}
    assert entries["connect_session.refused"]["reason"] == code
    assert entries["connect_session.refused"]["wider"] == [scope.rsplit(maxsplit=1)[-1]]
    assert (entries["grant.revoked"]["outcome"], entries["grant.revoked"]["verified"]) == ("revoked", True)
    problem(await acme("POST", f"/v1/connect-sessions/{session['session_id']}/confirm", {"user_id": "u1"}), 409, "connect_session_over")


async def test_a_revocation_that_lies_is_not_believed(acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection) -> None:
    zoom.scope, zoom.lies = f"{ZOOM} meeting:write", True
    await browser.get(f"{CALLBACK}?{zoom.decide(await browser.consent((await invite(acme))['connect_url']))}")
    assert await owner.fetchval("select attempts from revocation_escrow") == 1
    assert await owner.fetchval("select count(*) from audit_entries where tag = 'grant.revoked'") == 0


@pytest.mark.parametrize(
    "url",
    ["https://evil.example", "https://app.example.com.evil.example/", "https://app.example.com@evil.example/", "//app.example.com",
     "http://app.example.com/", "https://app.example.com:444/", "javascript:alert(1)", "https://app.example.com\\@evil.example",
     "https://app.example.com/#x", "https://APP.example.com", "", "https://app.example.com/\r\nSet-Cookie: a=b", "https://[::1"],
)  # fmt: skip
async def test_a_return_url_leads_nowhere_else(acme: Api, url: str) -> None:
    body = {"user": {"id": "u1"}, "provider": "zoom", "return_url": url}
    assert [one["pointer"] for one in problem(await acme("POST", "/v1/connect-sessions", body), 422, "invalid_request")["errors"]] == [
        "/return_url"
    ]


async def test_link_phishing_ends_with_a_revoked_grant(acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection) -> None:
    """R24: somebody else opened the link; the host's logged-in user is not who was invited."""
    session = await invite(acme)
    assert (await browser.get(f"{CALLBACK}?{zoom.decide(await browser.consent(session['connect_url']))}")).status_code == 200
    path = f"/v1/connect-sessions/{session['session_id']}/confirm"
    problem(await acme("POST", path, {"user_id": "u2"}), 409, "user_mismatch")
    assert zoom.live == set()
    problem(await acme("POST", path, {"user_id": "u1"}), 409, "connect_session_over")
    await nothing_left(owner)
    listed = (await acme("GET", "/v1/connections")).json()["data"]
    assert [(one["status"], one["health"]["reason"], one["account"]["id"]) for one in listed] == [("disconnected", "other_user", None)]


async def test_the_consent_takes_our_page_our_cookie_and_our_origin(
    acme: Api, browser: Browser, other_browser: Browser, owner: asyncpg.Connection
) -> None:
    session = await invite(acme)
    url = session["connect_url"]
    page = await browser.get(url)
    path = browser.base + urlsplit(url).path
    csrf = {"csrf": page.text.split('name="csrf" value="')[1].split('"')[0]}
    attempts = [
        await browser.http.post(path, data=csrf),
        await browser.http.post(path, data=csrf, headers={"Origin": "https://evil.example"}),
        await browser.http.post(path, data=csrf, headers={"Origin": "null", "Sec-Fetch-Site": "cross-site"}),
        await browser.http.post(path, data=csrf, headers=[("Origin", PUBLIC), ("Origin", "https://evil.example")]),
        await browser.http.post(path, data={"csrf": "x"}, headers={"Origin": PUBLIC}),
        await browser.http.post(path, headers={"Origin": PUBLIC}),
        await browser.http.post(path, json=csrf, headers={"Origin": PUBLIC}),
        await browser.http.post(path, data={**csrf, "more": "x" * 2000}, headers={"Origin": PUBLIC}),
        await other_browser.http.post(path, data=csrf, headers={"Origin": PUBLIC}),
    ]
    assert [(one.status_code, "form_forged" in one.text) for one in attempts] == [(403, True)] * len(attempts)
    assert await owner.fetchval("select state from connect_sessions") == "open"
    sent = await browser.http.post(path, data=csrf, headers={"Origin": "null", "Sec-Fetch-Site": "same-origin"})
    assert sent.status_code == 303


async def test_a_link_is_good_for_one_browser_once(acme: Api, browser: Browser, other_browser: Browser, zoom: Authority) -> None:
    url = (await invite(acme))["connect_url"]
    for _ in range(3):  # looking uses nothing up: previews and scanners look too
        assert (await other_browser.get(url)).status_code == 200
    first = await browser.consent(url)
    assert (await other_browser.get(url)).status_code == 410
    second = await browser.consent(url)  # back, and once more in the same browser
    assert (await browser.get(f"{CALLBACK}?{zoom.decide(first)}")).status_code == 400
    assert (await browser.get(f"{CALLBACK}?{zoom.decide(second)}")).status_code == 200
    assert (await browser.get(url)).status_code == 410


@pytest.mark.parametrize("link", ["x", "a" * 43, "a" * 200, "%00", "..%2f..", "ü"])
async def test_a_made_up_link_leads_nowhere(browser: Browser, link: str) -> None:
    answer = await browser.get(f"/connect/{quote(link, safe='%')}")
    assert answer.status_code == 404


async def test_names_are_shown_and_never_interpreted(platform: Api, browser: Browser, zoom: Authority) -> None:
    made = await platform("POST", "/v1/tenants", {"tenant_id": "evil", "name": "<img src=x onerror=alert(1)>"})
    assert made.status_code == 201
    user = {"id": "u1", "display_name": "\"><script>alert('x')</script>{{7777*7777}}"}
    session = await platform("POST", "/v1/connect-sessions", {"tenant_id": "evil", "user": user, "provider": "zoom"})
    page = await browser.get(session.json()["connect_url"])
    assert page.status_code == 200
    for raw in ("<script", "<img", "60481729", "onerror=alert(1)>"):
        assert raw not in page.text, raw
    assert "&lt;img src=x onerror=alert(1)&gt;" in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script" not in policy
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["x-frame-options"] == "DENY"


async def test_the_cookie_is_for_this_host_alone_and_no_script(acme: Api, browser: Browser) -> None:
    page = await browser.get((await invite(acme))["connect_url"])
    cookie = page.headers["set-cookie"]
    assert cookie.startswith("customhouse-connect=")
    for part in ("HttpOnly", "Path=/", "SameSite=lax"):
        assert part in cookie


async def test_another_account_does_not_take_a_connection_over(
    acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection
) -> None:
    made = await connected(acme, browser, zoom)
    zoom.account = {"id": "u-2", "account_id": "a-1", "email": "eve@example.com"}
    session = await invite(acme, connection_id=made["connection_id"])
    back = await browser.get(f"{CALLBACK}?{zoom.decide(await browser.consent(session['connect_url']))}")
    assert (back.status_code, "other_account" in back.text) == (409, True)
    assert (await acme("GET", f"/v1/connections/{made['connection_id']}")).json() == made
    assert await owner.fetchval("select count(*) from revocation_escrow") == 0


async def test_ids_of_another_tenant_or_user_open_nothing(acme: Api, platform: Api, browser: Browser, zoom: Authority) -> None:
    made = await connected(acme, browser, zoom)
    other = await make_tenant(platform, "other")
    body = {"user": {"id": "u1"}, "provider": "zoom", "connection_id": made["connection_id"]}
    problem(await other("POST", "/v1/connect-sessions", body), 404, "not_found")
    problem(await acme("POST", "/v1/connect-sessions", {**body, "user": {"id": "u2"}}), 404, "not_found")
    problem(await acme("POST", "/v1/connect-sessions", {**body, "provider": "acme-idp"}), 404, "not_found")


async def test_an_identity_that_cannot_be_learnt_refuses_the_grant(
    acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection
) -> None:
    for account in ({}, {"id": "u-1"}, {"id": ["x"], "account_id": {}}, {"id": "a:b", "account_id": "c"}):
        zoom.account = account
        back = await browser.get(f"{CALLBACK}?{zoom.decide(await browser.consent((await invite(acme))['connect_url']))}")
        assert (back.status_code, "identity_unknown" in back.text) == (403, True), account
    assert await owner.fetchval("select count(*) from connection_grants") == 0


async def test_a_token_reply_that_is_none_connects_nothing(acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection) -> None:
    for answer, code in (
        (reply(401, {"error": "invalid_client"}), "client_refused"),
        (reply(400, {"error": "invalid_grant"}), "code_refused"),
        (reply(500, {}), "reply_lost"),
        (reply(200, {"access_token": 7}), "reply_lost"),
        (reply(200, "x" * 70_000), "reply_lost"),
        (b"HTTP/1.1 302 X\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n", "reply_lost"),
        (b"no HTTP\r\n\r\n", "reply_lost"),
    ):
        zoom.on_token = lambda _form, answer=answer: answer
        back = await browser.get(f"{CALLBACK}?{zoom.decide(await browser.consent((await invite(acme))['connect_url']))}")
        assert (back.status_code, f"<code>{code}</code>" in back.text) == (502, True), (answer[:60], back.text)
    assert await owner.fetchval("select count(*) from connections") == 0
