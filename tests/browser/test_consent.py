"""The pages of the connect flow, in a real browser: whose security rules are its own, and whose reader may need help or have no script."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from playwright.async_api import Browser

from customhouse.app import App
from customhouse.web.asgi import create
from customhouse.web.server import listening
from tests.authority import CLIENT_SECRET, ZOOM, Authority, authority
from tests.browser.chromium import SCHEMES, Scheme, complaints, fresh, noted
from tests.integration.web.conftest import PLATFORM_KEY, Api, make_tenant
from tests.receivers import Received, Recorder, recorder, status

pytestmark = pytest.mark.anyio

BUTTON = "Continue to Zoom"


@pytest.fixture
def door() -> socket.socket:
    """A socket for the service, bound before there is one: links and cookies name its address."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    return bound


@pytest.fixture
async def zoom() -> AsyncIterator[Authority]:
    """A provider that asks nothing and sends the browser back at once."""
    async with authority() as one:

        def answer(request: Received) -> bytes:
            if urlsplit(request.path).path != "/oauth/authorize":
                return one.answer(request)
            redirect = parse_qs(urlsplit(request.path).query)["redirect_uri"][0]
            return status(303, f"location: {redirect}?{one.decide(request.path)}")

        one.server.answer = answer
        yield one


@pytest.fixture
async def host() -> AsyncIterator[Recorder]:
    """The application to which browsers are sent back."""
    async with recorder() as one:
        one.answer = status(200, "content-type: text/html", body=b"<!doctype html><title>Host</title><p>back at the host")
        yield one


@pytest.fixture
def environ(
    environ: dict[str, str], zoom: Authority, host: Recorder, door: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    monkeypatch.setenv("SUITE_CLIENT_SECRET", CLIENT_SECRET)
    file = tmp_path / "providers.toml"
    file.write_text(zoom.registered("zoom"), encoding="utf-8")
    return {
        **environ,
        "CUSTOMHOUSE_PLATFORM_KEY": PLATFORM_KEY,
        "CUSTOMHOUSE_PROVIDERS_FILE": str(file),
        "CUSTOMHOUSE_PUBLIC_URL": f"http://127.0.0.1:{door.getsockname()[1]}",
        "CUSTOMHOUSE_RETURN_URLS": host.url("").rstrip("/"),
    }


@pytest.fixture
async def acme(app: App, door: socket.socket) -> AsyncIterator[Api]:
    """The host application's side, in the tenant acme."""
    async with listening(create(app), door) as address, httpx.AsyncClient(trust_env=False, timeout=20) as http:
        yield await make_tenant(Api(f"http://{address}", PLATFORM_KEY, http), "acme")


async def invite(acme: Api, **body: Any) -> str:
    """Return a link to a consent page."""
    made = await acme("POST", "/v1/connect-sessions", {"user": {"id": "u1", "display_name": "Ada"}, "provider": "zoom", **body})
    assert made.status_code == 201, made.text
    link: str = made.json()["connect_url"]
    return link


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_the_consent_page_has_no_barrier_in_light_and_dark(browser: Browser, acme: Api, scheme: Scheme) -> None:
    async with fresh(browser, scheme=scheme) as profile:
        page = await profile.new_page()
        wrong = noted(page)
        await page.goto(await invite(acme))
        await page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert await page.get_by_role("heading", level=1).inner_text() == "Connect Zoom"
        assert await complaints(page) == []
        assert wrong == []


@pytest.mark.parametrize("script", [True, False])
async def test_a_person_connects_with_one_press_and_no_script(browser: Browser, acme: Api, script: bool) -> None:
    async with fresh(browser, script=script) as profile:
        page = await profile.new_page()
        wrong = noted(page)
        await page.goto(await invite(acme))
        await page.get_by_role("button", name=BUTTON).press("Enter")
        await page.get_by_text("Code for support: granted").wait_for()
        assert wrong == []
        if script:
            assert await complaints(page) == []
    listed = (await acme("GET", "/v1/connections?provider=zoom")).json()["data"]
    assert [one["status"] for one in listed] == ["pending"]


async def test_the_browser_goes_back_to_the_host_over_every_redirect_on_the_way(browser: Browser, acme: Api, host: Recorder) -> None:
    """Browsers hold each redirect after a form to the page's policy (CSP Level 3 §6.4.1), which no other client does."""
    async with fresh(browser) as profile:
        page = await profile.new_page()
        wrong = noted(page)
        await page.goto(await invite(acme, return_url=host.url("/settings?tab=integrations")))
        await page.get_by_role("button", name=BUTTON).click()
        await page.get_by_text("back at the host").wait_for()
        said = parse_qs(urlsplit(page.url).query)
        assert (said["tab"], said["connect_status"]) == (["integrations"], ["granted"])
        assert wrong == []
    (arrived,) = [one for one in host.received if one.path.startswith("/settings")]
    assert "referer" not in arrived.headers


@pytest.mark.parametrize("script", [True, False])
async def test_a_person_says_not_now_and_finds_the_way_back(browser: Browser, acme: Api, host: Recorder, script: bool) -> None:
    async with fresh(browser, script=script) as profile:
        page = await profile.new_page()
        wrong = noted(page)
        await page.goto(await invite(acme, return_url=host.url("/settings")))
        await page.get_by_role("button", name="Not now").click()
        await page.get_by_text("Code for support: declined").wait_for()
        if script:
            assert await complaints(page) == []
        await page.get_by_role("link", name="Go back").click()
        await page.get_by_text("back at the host").wait_for()
        said = parse_qs(urlsplit(page.url).query)
        assert (said["connect_status"], said["connect_reason"]) == (["refused"], ["declined"])
        assert wrong == []


async def test_what_is_missing_is_said_in_words(browser: Browser, acme: Api, zoom: Authority) -> None:
    zoom.scope = ZOOM.replace("meeting:read:past_meeting ", "")
    async with fresh(browser) as profile:
        page = await profile.new_page()
        await page.goto(await invite(acme))
        await page.get_by_role("button", name=BUTTON).click()
        await page.get_by_text("Not granted, so this will not work").wait_for()
        assert await complaints(page) == []


async def test_a_link_in_another_browser_and_a_used_one_show_a_page_that_says_so(browser: Browser, acme: Api) -> None:
    link = await invite(acme)
    async with fresh(browser) as profile:
        page = await profile.new_page()
        await page.goto(link)
        await page.get_by_role("button", name=BUTTON).click()
        await page.get_by_text("Code for support: granted").wait_for()
    async with fresh(browser) as profile:
        page = await profile.new_page()
        for url, code in ((link, 410), (f"{link}x", 404)):
            answer = await page.goto(url)
            assert answer is not None
            assert answer.status == code
            assert await complaints(page) == []


async def test_names_are_shown_as_text_whatever_they_hold(browser: Browser, acme: Api) -> None:
    name = "<img src=x onerror=alert(1)>&amp;\"'"
    async with fresh(browser) as profile:
        page = await profile.new_page()
        wrong = noted(page)
        await page.goto(await invite(acme, user={"id": "u1", "display_name": name}))
        assert await page.get_by_text(name).count() >= 1
        assert await page.locator("img").count() == 0
        assert wrong == []


@pytest.mark.parametrize("width", [320, 1100])
async def test_the_page_fits_a_telephone_and_a_desk(browser: Browser, acme: Api, width: int) -> None:
    async with fresh(browser, width=width) as profile:
        page = await profile.new_page()
        await page.goto(await invite(acme))
        await page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        for name in (BUTTON, "Not now"):
            box = await page.get_by_role("button", name=name).bounding_box()
            assert box is not None
            assert box["height"] >= 24  # WCAG 2.2 §2.5.8
