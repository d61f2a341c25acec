"""A person with a browser at our pages and at the sandbox's: how each provider is connected in the tests."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from customhouse import ids
from customhouse.app import App
from customhouse.connections.tokens import GrantSeal, Tokens
from customhouse.providers.catalogue import Catalogue
from customhouse.providers.manifest import OAuth2, Provider
from customhouse.providers.scopes import names, requested
from customhouse.providers.vocabulary import Mode
from customhouse.types import TenantId
from tests.integration.connections.conftest import RETURN, Browser, invite
from tests.integration.web.conftest import Api
from tests.sandboxes import Landing, Sandbox, consent

USER = "u1"


def _imitated() -> tuple[str, ...]:
    sandbox = Sandbox()
    sandbox.open(1)
    keys = [key for overrides in sandbox.overrides() for key in overrides]
    return tuple(key for key in keys if isinstance(Catalogue().get(key).auth, OAuth2))


PROVIDERS = _imitated()
"""Every provider that is connected by consent, as soon as the sandbox stands in for it."""
MODES = tuple((key, mode) for key in PROVIDERS for mode in Catalogue().get(key).modes)


def settle_in(sandbox: Sandbox, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write the sandbox's providers file and set the variables that it names; return the file's path."""
    for name, value in sandbox.environ().items():
        monkeypatch.setenv(name, value)
    file = folder / "sandbox.toml"
    file.write_text(sandbox.providers_file(), encoding="utf-8")
    return str(file)


@dataclass
class Desk:
    """One person, one browser, one host application; `provider` is the integration that is connected."""

    api: Api
    browser: Browser
    sandbox: Sandbox
    provider: str

    @property
    def manifest(self) -> Provider:
        """What the catalogue says."""
        return Catalogue().get(self.provider)

    def asked(self, mode: Mode) -> list[str]:
        """Return the scopes that the manifest asks for."""
        return list(names(requested(self.manifest, mode)))

    def fits(self, mode: Mode, granted: Iterable[str], without: str = "") -> bool:
        """Tell whether exactly what was asked for was granted; some scopes providers never name in their answers."""
        unsaid = {scope.name for scope in self.manifest.scopes if scope.unsaid}
        wanted = {name for name in self.asked(mode) if name != without}
        return wanted - unsaid <= set(granted) <= wanted

    async def invited(self, **body: Any) -> dict[str, Any]:
        """Return a session; it leads back to the host."""
        return await invite(self.api, provider=self.provider, **({"return_url": f"{RETURN}/settings"} | body))

    async def decided(
        self, session: dict[str, Any], *, account: str = "ada", decision: str = "allow", ticked: Sequence[str] | None = None
    ) -> Landing:
        """Press our button and decide at the provider's page; return where the browser is sent, not yet gone there."""
        at_provider = await self.browser.consent(session["connect_url"])
        return await consent(self.browser.http, at_provider, account=account, decision=decision, ticked=ticked)

    async def returned(self, session: dict[str, Any], **how: Any) -> httpx.Response:
        """Go all the way there and back; return our answer to the callback."""
        return await self.browser.get((await self.decided(session, **how)).url)

    async def connected(self, *, account: str = "ada", ticked: Sequence[str] | None = None, **body: Any) -> dict[str, Any]:
        """Connect from end to end; return the connection."""
        session = await self.invited(**body)
        back = await self.returned(session, account=account, ticked=ticked)
        assert back.status_code == httpx.codes.SEE_OTHER, back.text
        assert parse_qs(urlsplit(back.headers["location"]).query)["connect_status"] == ["granted"]
        return await self.confirmed(session)

    async def confirmed(self, session: dict[str, Any]) -> dict[str, Any]:
        """Say that it was the user."""
        made = await self.api("POST", f"/v1/connect-sessions/{session['session_id']}/confirm", {"user_id": USER})
        assert made.status_code == httpx.codes.OK, made.text
        said: dict[str, Any] = made.json()
        return said

    async def read(self, connection: dict[str, Any]) -> dict[str, Any]:
        """Return a connection as it is now."""
        found = await self.api("GET", f"/v1/connections/{connection['connection_id']}")
        assert found.status_code == httpx.codes.OK, found.text
        said: dict[str, Any] = found.json()
        return said

    async def told(self, entry: str) -> list[dict[str, Any]]:
        """Return the details of the ledger's entries of a type, the newest first."""
        found = (await self.api("GET", "/v1/audit?limit=200")).json()["data"]
        return [one["detail"] for one in found if one["type"] == entry]

    def live(self, person: str | None = None) -> set[str]:
        """Return the live tokens of this integration, or of one person's."""
        now = self.sandbox.clock.now()
        tokens = self.sandbox.tokens(self.provider)
        return {one.value for one in tokens if one.is_live(now) and person in {None, one.grant.person}}

    def left(self) -> set[str]:
        """Return which of this integration's tokens should have been ended: what a provider only lets run out does not count."""
        revocation = self.manifest.oauth2.revocation
        kinds = {"refresh"} if revocation.proof_seconds else {"access", "refresh"} if revocation.supported else set()
        now = self.sandbox.clock.now()
        return {one.value for one in self.sandbox.tokens(self.provider) if one.is_live(now) and one.kind in kinds}

    async def boxes(self, session: dict[str, Any]) -> set[str]:
        """Return the scopes that a person can untick at the provider's page."""
        page = await self.browser.http.get(await self.browser.consent(session["connect_url"]))
        return {html.unescape(name) for name in re.findall(r'type="checkbox" name="scope" value="([^"]+)"', page.text)}

    def calls(self, operation: str) -> int:
        """Return how often the integration's provider was asked for something."""
        return sum(one.operation == operation and one.application == self.provider for one in self.sandbox.calls)


async def sealed_tokens(app: App, connection_id: str) -> tuple[Tokens, bytes]:
    """Return the tokens that the row of a connection holds, opened as the service opens them, and the row's bytes."""
    tenant, uuid = TenantId("acme"), ids.parse("con", connection_id)
    async with app.database.transaction(tenant) as conn:
        row = await conn.fetchrow(
            "select token_generation, access_sealed, refresh_sealed from integration_tokens where tenant_id = $1 and connection_id = $2",
            tenant,
            uuid,
        )
    assert row is not None
    seal = GrantSeal(app.vault.environment, tenant, uuid, await app.vault.connection_key(tenant, uuid))
    place = (str(uuid), row["token_generation"])
    access = seal.open("integration_tokens", "access_sealed", place[0], row["access_sealed"], place[1])
    refresh = None
    if row["refresh_sealed"] is not None:
        refresh = seal.open("integration_tokens", "refresh_sealed", place[0], row["refresh_sealed"], place[1])
    return Tokens(access, refresh), bytes(row["access_sealed"]) + bytes(row["refresh_sealed"] or b"")
