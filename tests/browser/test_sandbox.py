"""The whole way in a real browser: our page, the stand-in's, a box unticked there, back to the host."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from playwright.async_api import Browser

from customhouse.app import App
from customhouse.web.asgi import create
from customhouse.web.server import listening
from tests.browser.chromium import SCHEMES, Scheme, complaints, fresh, noted
from tests.integration.connections.sandboxed import settle_in
from tests.integration.web.conftest import PLATFORM_KEY, Api, make_tenant
from tests.receivers import Recorder, recorder, status
from tests.sandboxes import Sandbox, running

pytestmark = pytest.mark.anyio
OWNED = "https://www.googleapis.com/auth/calendar.events.owned"


@pytest.fixture
def door() -> socket.socket:
    """A socket for the service, bound before there is one: links, cookies and registrations name its address."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    return bound


@pytest.fixture
async def sandbox(door: socket.socket) -> AsyncIterator[Sandbox]:
    async with running(public_url=f"http://127.0.0.1:{door.getsockname()[1]}") as one:
        yield one


@pytest.fixture
async def host() -> AsyncIterator[Recorder]:
    """The application to which browsers are sent back."""
    async with recorder() as one:
        one.answer = status(200, "content-type: text/html", body=b"<!doctype html><title>Host</title><p>back at the host")
        yield one


@pytest.fixture
def environ(
    environ: dict[str, str], sandbox: Sandbox, host: Recorder, door: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    return {
        **environ,
        "CUSTOMHOUSE_PLATFORM_KEY": PLATFORM_KEY,
        "CUSTOMHOUSE_PROVIDERS_FILE": settle_in(sandbox, tmp_path, monkeypatch),
        "CUSTOMHOUSE_PUBLIC_URL": f"http://127.0.0.1:{door.getsockname()[1]}",
        "CUSTOMHOUSE_RETURN_URLS": host.url("").rstrip("/"),
    }


@pytest.fixture
async def acme(app: App, door: socket.socket) -> AsyncIterator[Api]:
    """The host application's side, in the tenant acme."""
    async with listening(create(app), door) as address, httpx.AsyncClient(trust_env=False, timeout=20) as http:
        yield await make_tenant(Api(f"http://{address}", PLATFORM_KEY, http), "acme")


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_person_unticks_a_box_at_the_provider_and_the_connection_says_what_is_missing(
    browser: Browser, acme: Api, host: Recorder, scheme: Scheme
) -> None:
    wish = {"user": {"id": "u1", "display_name": "Ada"}, "provider": "google-calendar", "mode": "act", "return_url": host.url("/settings")}
    made = (await acme("POST", "/v1/connect-sessions", wish)).json()
    async with fresh(browser, scheme=scheme) as profile:
        page = await profile.new_page()
        wrong = noted(page)
        await page.goto(made["connect_url"])
        await page.get_by_role("button", name="Continue to Google Calendar").click()
        await page.get_by_role("button", name="Allow").wait_for()
        assert await complaints(page) == [], "the stand-in's page is one that people can use"
        await page.locator(f'input[name="scope"][value="{OWNED}"]').uncheck()
        await page.get_by_role("button", name="Allow").click()
        await page.get_by_text("back at the host").wait_for()
        assert parse_qs(urlsplit(page.url).query)["connect_status"] == ["granted"]
        assert wrong == []
    found = (await acme("POST", f"/v1/connect-sessions/{made['session_id']}/confirm", {"user_id": "u1"})).json()
    assert (found["status"], found["scopes"]["missing"]) == ("degraded", [OWNED])


async def test_a_person_who_denies_at_the_provider_finds_the_way_back(browser: Browser, acme: Api, host: Recorder) -> None:
    wish = {"user": {"id": "u1"}, "provider": "zoom", "return_url": host.url("/settings")}
    made = (await acme("POST", "/v1/connect-sessions", wish)).json()
    async with fresh(browser, script=False) as profile:
        page = await profile.new_page()
        await page.goto(made["connect_url"])
        await page.get_by_role("button", name="Continue to Zoom").click()
        await page.get_by_role("button", name="Deny").click()
        await page.get_by_text("Code for support: consent_denied").wait_for()
        await page.get_by_role("link", name="Go back").click()
        await page.get_by_text("back at the host").wait_for()
        assert parse_qs(urlsplit(page.url).query)["connect_reason"] == ["consent_denied"]
