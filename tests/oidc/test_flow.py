"""The whole connect flow with a certified server as a provider of the user's own: from the consent page to the sealed grant."""

from __future__ import annotations

import html
import re
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from customhouse.app import App
from customhouse.web.asgi import create
from customhouse.web.server import listening
from tests.integration.web.conftest import PLATFORM_KEY, Api, make_tenant, problem
from tests.oidc.peer import PROVIDER, Peer, consent, running_peer

pytestmark = pytest.mark.anyio


@pytest.fixture
def door() -> socket.socket:
    """A socket for the service, bound before there is one: the peer has to know the redirect URI."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    return bound


@pytest.fixture
async def peer(door: socket.socket) -> AsyncIterator[Peer]:
    async with running_peer(f"http://127.0.0.1:{door.getsockname()[1]}/oauth/callback/{PROVIDER}") as made:
        yield made


@pytest.fixture
def environ(environ: dict[str, str], peer: Peer, door: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("PEER_SECRET", peer.client_secret)
    file = tmp_path / "providers.toml"
    file.write_text(peer.toml(), encoding="utf-8")
    return {
        **environ,
        "CUSTOMHOUSE_PLATFORM_KEY": PLATFORM_KEY,
        "CUSTOMHOUSE_PROVIDERS_FILE": str(file),
        "CUSTOMHOUSE_PUBLIC_URL": f"http://127.0.0.1:{door.getsockname()[1]}",
    }


@dataclass(frozen=True)
class Person:
    """Somebody at the host application, with a browser."""

    api: Api
    http: httpx.AsyncClient
    redirect: str

    async def go(self, *, allow: Sequence[str] | None = None, deny: bool = False, **body: Any) -> tuple[str, httpx.Response]:
        """Follow a new link to the end; return the session's id and the page at the end."""
        made = await self.api("POST", "/v1/connect-sessions", {"user": {"id": "u1"}, "provider": PROVIDER, **body})
        assert made.status_code == 201, made.text
        link = made.json()["connect_url"]
        page = await self.http.get(link)
        found = re.search(r'name="csrf" value="([^"]+)"', page.text)
        assert found is not None, page.text
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(link))
        sent = await self.http.post(link, data={"csrf": html.unescape(found[1])}, headers={"Origin": origin})
        assert sent.status_code == 303, sent.text
        back = await consent(sent.headers["location"], self.redirect, allow=allow, deny=deny)
        return made.json()["session_id"], await self.http.get(back)

    async def connect(self, **more: Any) -> dict[str, Any]:
        """Connect, have it confirmed, and return the connection."""
        session_id, page = await self.go(**more)
        assert page.status_code == 200, page.text
        made = await self.api("POST", f"/v1/connect-sessions/{session_id}/confirm", {"user_id": "u1"})
        assert made.status_code == 200, made.text
        said: dict[str, Any] = made.json()
        return said


@pytest.fixture
async def ada(app: App, door: socket.socket, peer: Peer) -> AsyncIterator[Person]:
    async with listening(create(app), door) as address, httpx.AsyncClient(trust_env=False, timeout=20) as http:
        platform = Api(f"http://{address}", PLATFORM_KEY, http)
        async with httpx.AsyncClient(trust_env=False, timeout=20) as browser:
            yield Person(await make_tenant(platform, "acme"), browser, peer.redirect)


async def test_a_user_connects_and_we_know_who_it_was(ada: Person, owner: asyncpg.Connection) -> None:
    made = await ada.connect()
    assert (made["status"], made["mode"], made["provider"]) == ("active", "observe", PROVIDER)
    assert made["account"] == {"id": "ada", "label": "ada@peer.example"}
    assert set(made["scopes"]["granted"]) == {"openid", "read"}
    row = await owner.fetchrow("select access_sealed, refresh_sealed from integration_tokens")
    assert row is not None
    assert row["refresh_sealed"] is not None


async def test_scopes_that_the_user_unticked_are_named(ada: Person) -> None:
    made = await ada.connect(mode="act", allow=["openid", "read"])
    assert (made["status"], made["scopes"]["missing"]) == ("degraded", ["write"])


async def test_acting_is_another_consent_with_the_union_of_scopes(ada: Person) -> None:
    first = await ada.connect()
    second = await ada.connect(mode="act", connection_id=first["connection_id"])
    assert second["connection_id"] == first["connection_id"]
    assert (second["mode"], second["status"], second["grant_version"]) == ("act", "active", first["grant_version"] + 1)
    assert set(second["scopes"]["granted"]) == {"openid", "read", "write"}


async def test_a_refusal_makes_nothing(ada: Person, owner: asyncpg.Connection) -> None:
    session_id, page = await ada.go(deny=True)
    assert page.status_code >= 400
    problem(await ada.api("POST", f"/v1/connect-sessions/{session_id}/confirm", {"user_id": "u1"}), 409, "connect_session_over")
    for table in ("pending_grants", "integration_tokens", "connect_exchanges", "connect_states"):
        assert await owner.fetchval(f"select count(*) from {table}") == 0, table


async def test_a_callback_that_comes_twice_makes_one_connection(ada: Person) -> None:
    _, page = await ada.go()
    again = await ada.http.get(str(page.request.url))
    assert again.status_code >= 400
    listed = (await ada.api("GET", f"/v1/connections?provider={PROVIDER}")).json()["data"]
    assert [one["status"] for one in listed] == ["pending"]


async def test_what_another_user_brought_back_is_revoked_at_the_peer(ada: Person, app: App, owner: asyncpg.Connection) -> None:
    session_id, _ = await ada.go()
    problem(await ada.api("POST", f"/v1/connect-sessions/{session_id}/confirm", {"user_id": "eve"}), 409, "user_mismatch")
    await app.revoker.end_due()
    assert await owner.fetchval("select count(*) from revocation_escrow") == 0
    entries = (await ada.api("GET", "/v1/audit?type=grant.revoked")).json()["data"]
    assert [one["detail"]["verified"] for one in entries] == [True]


async def test_a_disconnect_ends_the_grant_at_the_peer_and_proves_it(ada: Person) -> None:
    made = await ada.connect()
    gone = await ada.api("DELETE", f"/v1/connections/{made['connection_id']}")
    assert gone.status_code == 200, gone.text
    receipt = gone.json()
    assert receipt["revocation"]["status"] == "revoked", receipt
    assert receipt["revocation"]["verified"] is True
    assert receipt["tokens_destroyed"] is True
