"""Attempts that need a real provider at the other end: codes of others, answers of others, and every way in which an exchange can fail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import asyncpg
import httpx
import pytest

from customhouse.providers.catalogue import Catalogue
from customhouse_sandbox.faults import FaultKind, Operation
from tests.integration.connections.conftest import PUBLIC, Browser, invite
from tests.integration.connections.sandboxed import PROVIDERS, USER, Desk, settle_in
from tests.integration.web.conftest import Api, make_tenant, problem
from tests.sandboxes import Sandbox, running

pytestmark = pytest.mark.anyio
WITH_CHALLENGE = tuple(key for key in PROVIDERS if Catalogue().get(key).oauth2.pkce)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with running(public_url=PUBLIC) as one:
        yield one


@pytest.fixture
def environ(environ: dict[str, str], sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    return {**environ, "CUSTOMHOUSE_PROVIDERS_FILE": settle_in(sandbox, tmp_path, monkeypatch)}


@pytest.fixture
def desk(acme: Api, browser: Browser, sandbox: Sandbox, provider: str) -> Desk:
    return Desk(acme, browser, sandbox, provider)


def came_to(answer: httpx.Response) -> tuple[int, str]:
    """Return the status and the code of a page."""
    return answer.status_code, answer.text.partition("Code for support: <code>")[2].partition("<")[0]


async def nothing_held(owner: asyncpg.Connection) -> None:
    """Hold that no token is kept, and no connection made."""
    for table in ("integration_tokens", "pending_grants", "connection_grants", "connections"):
        assert await owner.fetchval(f"select count(*) from {table}") == 0, table


@pytest.mark.parametrize("provider", WITH_CHALLENGE)
async def test_a_code_that_was_given_to_somebody_else_is_worth_nothing_in_another_flow(desk: Desk, owner: asyncpg.Connection) -> None:
    """R24: whoever gets hold of a code, or plants his own, lacks the verifier that goes with it (RFC 9700 §4.5)."""
    theirs = await desk.decided(await desk.invited(), account="grace")
    mine = await desk.decided(await desk.invited())
    planted = await desk.browser.get(f"{mine.place}?{urlencode({'code': theirs['code'], 'state': mine['state']})}")
    assert came_to(planted) == (502, "code_refused")
    assert desk.sandbox.tokens(desk.provider) == []
    await nothing_held(owner)


@pytest.mark.parametrize("provider", ["gmail"])
async def test_an_answer_that_names_another_issuer_is_refused_before_its_code_is_shown(desk: Desk, owner: asyncpg.Connection) -> None:
    """R23 (RFC 9207 §2.4)."""
    for issuer in ("https://accounts.google.com.evil.example", "https://accounts.google.com/", ""):
        landing = await desk.decided(await desk.invited())
        back = await desk.browser.get(f"{landing.url}&{urlencode({'iss': issuer})}")
        assert came_to(back) == (400, "other_issuer"), issuer
    right = await desk.decided(await desk.invited())
    twice = f"{right.url}&{urlencode({'iss': 'https://accounts.google.com'})}&{urlencode({'iss': 'https://evil.example'})}"
    assert came_to(await desk.browser.get(twice)) == (400, "state_unknown")
    assert desk.calls("exchange") == 0
    await nothing_held(owner)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_callback_meant_for_each_other_provider_is_refused(desk: Desk, owner: asyncpg.Connection) -> None:
    """R23: mix-up, in every combination."""
    for other in PROVIDERS:
        if other != desk.provider:
            landing = await desk.decided(await desk.invited())
            mixed = landing.url.replace(f"/oauth/callback/{desk.provider}?", f"/oauth/callback/{other}?")
            assert came_to(await desk.browser.get(mixed)) == (400, "other_provider"), other
            assert came_to(await desk.browser.get(landing.url)) == (400, "state_unknown"), other
    assert desk.sandbox.tokens(desk.provider) == []
    await nothing_held(owner)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_every_failure_of_an_exchange_has_a_page_and_makes_nothing(desk: Desk, sandbox: Sandbox, owner: asyncpg.Connection) -> None:
    faults: list[tuple[FaultKind, dict[str, Any]]] = [(kind, {}) for kind in (FaultKind.INVALID_GRANT, FaultKind.LOST, FaultKind.UNREACHED)]
    faults += [(FaultKind.STATUS, {"status": status}) for status in (302, 400, 401, 403, 404, 429, 500, 503)]
    faults += [(FaultKind.REPLY, {"body": body}) for body in ("", "null", "[]", "{}", '{"access_token":7}', "x" * 70_000)]
    for fault, values in faults:
        sandbox.order(desk.provider, fault, Operation.EXCHANGE, **values)
        session = await desk.invited()
        status, code = came_to(back := await desk.returned(session))
        assert (status, code != "") == (502, True), (fault, values, code)
        assert f"connect_status=refused&amp;connect_reason={code}" in back.text
        problem(
            await desk.api("POST", f"/v1/connect-sessions/{session['session_id']}/confirm", {"user_id": USER}), 409, "connect_session_over"
        )
    await nothing_held(owner)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_code_that_is_too_old_for_the_provider_is_refused(desk: Desk, sandbox: Sandbox, owner: asyncpg.Connection) -> None:
    landing = await desk.decided(await desk.invited())
    sandbox.clock.advance(3600)
    assert came_to(await desk.browser.get(landing.url)) == (502, "code_refused")
    await nothing_held(owner)


@pytest.mark.parametrize("provider", ["zoom"])
async def test_another_tenant_can_neither_confirm_a_session_nor_end_it(desk: Desk, platform: Api, owner: asyncpg.Connection) -> None:
    session = await desk.invited()
    await desk.returned(session)
    other = await make_tenant(platform, "other")
    path = f"/v1/connect-sessions/{session['session_id']}/confirm"
    for user in (USER, "u2"):
        problem(await other("POST", path, {"user_id": user}), 404, "not_found")
    assert await owner.fetchval("select state from connect_sessions") == "granted"
    assert (await desk.confirmed(session))["status"] == "active"


@pytest.mark.parametrize("provider", ["zoom"])
async def test_a_tenant_that_is_gone_connects_nobody_any_more(desk: Desk, owner: asyncpg.Connection) -> None:
    waiting, begun = await desk.invited(), await desk.decided(await desk.invited())
    page = await desk.browser.get(waiting["connect_url"])
    await owner.execute("update tenants set status = 'deleting' where tenant_id = 'acme'")
    assert came_to(await desk.browser.get(waiting["connect_url"])) == (404, "link_unknown")
    assert came_to(await desk.browser.press(waiting["connect_url"], page)) == (404, "link_unknown")
    assert came_to(await desk.browser.press(waiting["connect_url"], page, decision="decline")) == (404, "link_unknown")
    assert came_to(await desk.browser.get(begun.url)) == (400, "state_unknown")
    assert desk.sandbox.tokens("zoom") == []
    await nothing_held(owner)


class TestBehindHttps:
    """The same service, known to browsers by https."""

    @pytest.fixture
    def environ(self, environ: dict[str, str]) -> dict[str, str]:
        return {**environ, "CUSTOMHOUSE_PUBLIC_URL": "https://customhouse.test"}

    async def test_its_cookie_can_be_set_by_no_other_host_and_by_no_page_without_encryption(self, acme: Api, browser: Browser) -> None:
        """RFC 6265bis §4.1.3.2: the prefix `__Host-`."""
        session = await invite(acme)
        page = await browser.get(session["connect_url"])
        cookie = page.headers["set-cookie"]
        assert cookie.startswith("__Host-customhouse-connect=")
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=lax"} <= {part.strip() for part in cookie.split(";")}
        assert "domain" not in cookie.lower()
        mark = cookie.partition("=")[2].partition(";")[0]
        csrf = page.text.split('name="csrf" value="')[1].split('"')[0]
        for name, status in (("customhouse-connect", 403), ("__Host-customhouse-connect", 303)):
            # A mark without the prefix is one that anybody could have planted.
            headers = {"Origin": "https://customhouse.test", "Cookie": f"{name}={mark}"}
            async with httpx.AsyncClient(trust_env=False) as bare:
                link = browser.base + session["connect_url"].removeprefix("https://customhouse.test")
                assert (await bare.post(link, data={"csrf": csrf}, headers=headers)).status_code == status, name
