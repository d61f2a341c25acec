"""A browser, and a service with its face for it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser

from customhouse.app import App
from customhouse.config import Address
from customhouse.web.asgi import create
from customhouse.web.server import listening
from tests.browser.chromium import chromium


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One browser for all tests; each opens a profile of its own."""
    async with chromium() as running:
        yield running


@pytest.fixture
async def address(app: App) -> AsyncIterator[Address]:
    """Where the service listens."""
    async with listening(create(app), Address("127.0.0.1", 0)) as address:
        yield address
