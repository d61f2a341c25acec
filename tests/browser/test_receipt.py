"""The page of a receipt, in a real browser: in each state it has no barrier, and says what is so."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest
from playwright.async_api import Browser

from customhouse.app import App
from tests.authority import Authority
from tests.browser.chromium import SCHEMES, Scheme, complaints, fresh, noted
from tests.browser.test_consent import acme, door, environ, host, zoom
from tests.integration.connections.conftest import Browser as Person
from tests.integration.connections.conftest import connected
from tests.integration.web.conftest import Api

pytestmark = pytest.mark.anyio
__all__ = ["acme", "door", "environ", "host", "zoom"]


@pytest.fixture
async def person(acme: Api, app: App) -> AsyncIterator[Person]:
    """Whoever consents, without a browser's rules."""
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
        yield Person(acme.base, http, origin=app.settings.public_url)


async def shown(browser: Browser, acme: Api, connection_id: str, scheme: Scheme) -> str:
    """Open the page; return its text."""
    async with fresh(browser, scheme=scheme) as profile:
        await profile.set_extra_http_headers({"Authorization": f"Bearer {acme.key}"})
        page = await profile.new_page()
        wrong = noted(page)
        await page.goto(f"{acme.base}/v1/connections/{connection_id}/receipt")
        assert await page.get_by_role("heading", level=1).inner_text() == "Zoom is disconnected"
        assert await complaints(page) == []
        assert wrong == []
        return await page.inner_text("main")


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_the_receipt_says_what_is_so_and_has_no_barrier(
    browser: Browser, acme: Api, person: Person, zoom: Authority, owner: asyncpg.Connection, app: App, scheme: Scheme
) -> None:
    made = await connected(acme, person, zoom)
    zoom.lies = True
    assert (await acme("DELETE", f"/v1/connections/{made['connection_id']}")).status_code == 200
    text = await shown(browser, acme, made["connection_id"], scheme)
    assert "not yet seen to have withdrawn" in text
    assert text.count("not yet") >= 2
    await owner.execute("update revocation_escrow set next_at = now(), ends_at = now()")
    await app.revoker.end_due()
    assert "was not seen to withdraw" in await shown(browser, acme, made["connection_id"], scheme)
    zoom.lies = False
    second = await connected(acme, person, zoom)
    assert (await acme("DELETE", f"/v1/connections/{second['connection_id']}")).status_code == 200
    text = await shown(browser, acme, second["connection_id"], scheme)
    assert "a token that was shown there afterwards was refused" in text
    assert "not yet" not in text
