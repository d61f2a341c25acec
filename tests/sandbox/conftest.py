"""A sandbox per test, and a client for it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.sandboxes import Peer, Sandbox, client, running


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with running() as sandbox:
        yield sandbox


@pytest.fixture
async def browser() -> AsyncIterator[httpx.AsyncClient]:
    async with client() as browser:
        yield browser


@pytest.fixture
def zoom(sandbox: Sandbox, browser: httpx.AsyncClient) -> Peer:
    return Peer(sandbox, "zoom", browser)


@pytest.fixture
def gmail(sandbox: Sandbox, browser: httpx.AsyncClient) -> Peer:
    return Peer(sandbox, "gmail", browser)


@pytest.fixture
def calendar(sandbox: Sandbox, browser: httpx.AsyncClient) -> Peer:
    return Peer(sandbox, "google-calendar", browser)


@pytest.fixture
def stripe(sandbox: Sandbox, browser: httpx.AsyncClient) -> Peer:
    return Peer(sandbox, "stripe", browser)


@pytest.fixture
def slack(sandbox: Sandbox, browser: httpx.AsyncClient) -> Peer:
    return Peer(sandbox, "slack", browser)


@pytest.fixture
def hubspot(sandbox: Sandbox, browser: httpx.AsyncClient) -> Peer:
    return Peer(sandbox, "hubspot", browser)


@pytest.fixture
def pipedrive(sandbox: Sandbox, browser: httpx.AsyncClient) -> Peer:
    return Peer(sandbox, "pipedrive", browser)


@pytest.fixture
def teams(sandbox: Sandbox, browser: httpx.AsyncClient) -> Peer:
    return Peer(sandbox, "microsoft-teams", browser)


@pytest.fixture(params=["zoom", "gmail", "microsoft-teams"])
def peer(request: pytest.FixtureRequest, sandbox: Sandbox, browser: httpx.AsyncClient) -> Peer:
    """One of each provider: what every authorization server does."""
    return Peer(sandbox, request.param, browser)
