"""A service whose providers listen on loopback, and a browser that a person sits at."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from customhouse.app import App
from customhouse.providers.catalogue import Catalogue
from customhouse.providers.manifest import Scope
from tests.authority import CLIENT_ID, CLIENT_SECRET, Authority, authority
from tests.integration.web.conftest import PLATFORM_KEY, Api, address, make_tenant, platform

__all__ = ["address", "platform"]
PUBLIC = "http://customhouse.test"
RETURN = "https://app.example.com"


@pytest.fixture
async def zoom() -> AsyncIterator[Authority]:
    async with authority() as one:
        yield one


@pytest.fixture
def environ(environ: dict[str, str], zoom: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    base = zoom.server.url("").rstrip("/")
    monkeypatch.setenv("SUITE_CLIENT_SECRET", CLIENT_SECRET)
    file = tmp_path / "providers.toml"
    file.write_text(
        f"""
        {zoom.registered("zoom")}
        [acme-idp]
        kind = "oauth2"
        name = "Acme"
        authorize_url = "{base}/oauth/authorize"
        token_url = "{base}/oauth/token"
        revoke_url = "{base}/oauth/revoke"
        identity_url = "{base}/v2/users/me"
        api_base = "{base}/v2"
        client_id = "{CLIENT_ID}"
        client_secret = {{env = "SUITE_CLIENT_SECRET"}}
        identity = {{account = ["/id"], label = ["/email"]}}
        not_requested = ["admin"]
        allow = [
            {{method = "GET", path = "/api/*", scope = "read"}}, {{method = "HEAD", path = "/api/*", scope = "read"}},
            {{method = "POST", path = "/api/*", scope = "write", approval = true}},
            {{method = "GET", path = "/writers/*", scope = "write"}}
        ]
        scopes.observe = [{{name = "read", why = "Read your records."}}]
        scopes.act = [{{name = "write", why = "Change your records."}}]
        """
    )
    return {
        **environ,
        "CUSTOMHOUSE_PLATFORM_KEY": PLATFORM_KEY,
        "CUSTOMHOUSE_PROVIDERS_FILE": str(file),
        "CUSTOMHOUSE_PUBLIC_URL": PUBLIC,
        "CUSTOMHOUSE_RETURN_URLS": RETURN,
        "CUSTOMHOUSE_TOKEN_EXPORT": "on",
    }


@dataclass
class Browser:
    """A browser with cookies of its own; it goes where links lead, at the service's loopback address."""

    base: str
    http: httpx.AsyncClient
    origin: str | None = PUBLIC

    async def get(self, url: str) -> httpx.Response:
        parts = urlsplit(url)
        return await self.http.get(f"{self.base}{parts.path}{'?' + parts.query if parts.query else ''}")

    async def press(self, url: str, page: httpx.Response, **changes: str) -> httpx.Response:
        """Send the form of a page."""
        found = re.search(r'name="csrf" value="([^"]+)"', page.text)
        assert found is not None, page.text
        headers = {} if self.origin is None else {"Origin": self.origin}
        return await self.http.post(self.base + urlsplit(url).path, data={"csrf": html.unescape(found[1])} | changes, headers=headers)

    async def consent(self, url: str) -> str:
        """Open a link and press the button; return where the browser is sent."""
        sent = await self.press(url, await self.get(url))
        assert sent.status_code == 303, sent.text
        return sent.headers["location"]


@pytest.fixture
async def browser(address: Any) -> AsyncIterator[Browser]:
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
        yield Browser(f"http://{address}", http)


@pytest.fixture
async def other_browser(address: Any) -> AsyncIterator[Browser]:
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
        yield Browser(f"http://{address}", http)


@pytest.fixture
async def acme(platform: Api) -> Api:
    return await make_tenant(platform, "acme")


async def invite(api: Api, **body: Any) -> dict[str, Any]:
    """Make a connect session."""
    made = await api("POST", "/v1/connect-sessions", {"user": {"id": "u1", "display_name": "Ada"}, "provider": "zoom", **body})
    assert made.status_code == 201, made.text
    said: dict[str, Any] = made.json()
    return said


async def connected(api: Api, browser: Browser, zoom: Authority, **body: Any) -> dict[str, Any]:
    """Connect from end to end; return the connection."""
    session = await invite(api, **body)
    provider = body.get("provider", "zoom")
    back = await browser.get(f"/oauth/callback/{provider}?{zoom.decide(await browser.consent(session['connect_url']))}")
    assert back.status_code in {200, 303}, back.text
    made = await api("POST", f"/v1/connect-sessions/{session['session_id']}/confirm", {"user_id": body.get("user", {}).get("id", "u1")})
    assert made.status_code == 200, made.text
    said: dict[str, Any] = made.json()
    return said


def grown(app: App, provider_id: str, more: Scope) -> None:
    """Let the manifest of a provider ask for one scope more, as a new version does."""
    old = app.catalogue.get(provider_id)
    new = replace(old, version=old.version + 1, scopes=(*old.scopes, more))
    providers = tuple(new if one.id == provider_id else one for one in app.catalogue.providers)
    catalogue = Catalogue(providers, app.catalogue.clients, app.catalogue.webhook_secrets)
    for part in (app.sessions, app.speaker, app.revoker, app.confirming, app.sweeping, app.ending):
        part._catalogue = catalogue
