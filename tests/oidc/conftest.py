"""One peer for all tests of this folder: grants of one test are nothing to another."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.oidc.peer import PROVIDER, Peer, running_peer


@pytest.fixture(scope="session")
async def peer() -> AsyncIterator[Peer]:
    """The server, with a redirect URI at which nobody listens."""
    async with running_peer(f"http://127.0.0.1:9/oauth/callback/{PROVIDER}") as made:
        yield made
