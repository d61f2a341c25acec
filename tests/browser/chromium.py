"""Debian's chromium, driven by Playwright: nothing is downloaded, and the browser speaks to nobody but us."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Literal

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A name that is not on loopback does not resolve: what a page might fetch elsewhere fails, and is seen.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)
Scheme = Literal["light", "dark"]
SCHEMES: Final[tuple[Scheme, ...]] = ("light", "dark")
_FIRST_LAUNCH: Final = 90_000.0
_WIDTH, _HEIGHT = 1100, 800
_RULES: Final = {"resultTypes": ["violations"], "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run a browser until the block ends; its very first launch on a machine can take long."""
    path = shutil.which("chromium")
    assert path is not None, "chromium is needed: on Debian, apt-get install chromium"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=list(FLAGS), timeout=_FIRST_LAUNCH)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def fresh(browser: Browser, *, scheme: Scheme = "light", script: bool = True, width: int = _WIDTH) -> AsyncIterator[BrowserContext]:
    """Open a profile of its own: no cookie of another test."""
    context = await browser.new_context(
        color_scheme=scheme, java_script_enabled=script, viewport={"width": width, "height": _HEIGHT}, locale="en-GB", device_scale_factor=1
    )
    try:
        yield context
    finally:
        await context.close()


def noted(page: Page) -> list[str]:
    """Return a list that fills with what the browser refuses or misses on a page; a favicon, which no page of ours has, is no loss."""
    wrong: list[str] = []
    page.on(
        "console",
        lambda said: wrong.append(said.text) if said.type in {"error", "warning"} and "favicon" not in said.location["url"] else None,
    )
    page.on("requestfailed", lambda request: wrong.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    return wrong


async def complaints(page: Page) -> list[str]:
    """Return what axe-core finds wrong with a page as it is shown now: WCAG 2.2 up to AA, and good practice."""
    found = await Axe().run(page, options=_RULES)
    return [f"{one['id']}: {one['help']} ({one['nodes'][0]['html']})" for one in found.response["violations"]]
