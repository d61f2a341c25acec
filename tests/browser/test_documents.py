"""The pages about the API, as people see them: readable without script, by everybody, on a narrow screen, in the dark."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser

from customhouse.config import Address
from tests.browser.chromium import SCHEMES, Scheme, complaints, fresh, noted

pytestmark = pytest.mark.anyio
PAGES = ("/docs", "/problems/not_found", "/notices/connection.degraded")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("path", PAGES)
async def test_a_page_of_the_documentation_has_no_barrier(browser: Browser, address: Address, path: str, scheme: Scheme) -> None:
    async with fresh(browser, scheme=scheme) as profile:
        page = await profile.new_page()
        wrong = noted(page)
        answer = await page.goto(f"http://{address}{path}")
        assert answer is not None
        assert answer.status == 200
        await page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert await complaints(page) == []
        assert wrong == []


async def test_every_call_of_the_api_can_be_opened_without_script(browser: Browser, address: Address) -> None:
    async with fresh(browser, script=False) as profile:
        page = await profile.new_page()
        await page.goto(f"http://{address}/docs")
        calls = page.locator("details")
        assert await calls.count() >= 20
        first = calls.first
        assert not await first.locator("table").first.is_visible()
        await first.locator("summary").focus()
        await page.keyboard.press("Enter")
        assert await first.locator("table").first.is_visible()


async def test_a_narrow_screen_need_not_be_scrolled_sideways(browser: Browser, address: Address) -> None:
    async with fresh(browser, width=360) as profile:
        page = await profile.new_page()
        for path in PAGES:
            await page.goto(f"http://{address}{path}")
            assert await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), path


async def test_the_pages_are_dark_where_the_reader_wants_them_dark(browser: Browser, address: Address) -> None:
    seen = {}
    for scheme in SCHEMES:
        async with fresh(browser, scheme=scheme) as profile:
            page = await profile.new_page()
            await page.goto(f"http://{address}/docs")
            seen[scheme] = await page.evaluate("getComputedStyle(document.querySelector('summary b')).color")
    assert seen["light"] != seen["dark"]
