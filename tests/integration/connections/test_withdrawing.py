"""A provider says that our application was removed: believed where it is seen, whoever says it has to show our secret."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from customhouse.connections.withdrawing import _shows
from customhouse.providers.calls import Client
from customhouse.providers.catalogue import Catalogue
from customhouse.types import Secret
from tests.authority import CLIENT_ID, CLIENT_SECRET, Authority
from tests.integration.connections.conftest import PUBLIC, Browser, connected
from tests.integration.web.conftest import PLATFORM_KEY, Api, problem

pytestmark = pytest.mark.anyio

ROUTE = "/oauth/callback/pipedrive"
SAID = {"client_id": CLIENT_ID, "company_id": 7, "user_id": 9, "timestamp": "2026-11-22T12:00:00Z"}


@pytest.fixture
def environ(environ: dict[str, str], zoom: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("SUITE_CLIENT_SECRET", CLIENT_SECRET)
    zoom.pkce = False
    zoom.scope = ",".join(scope.name for scope in Catalogue().get("pipedrive").scopes)
    zoom.account = {"data": {"company_id": 7, "id": 9, "email": "ada@example.com"}}
    file = tmp_path / "pipedrive.toml"
    file.write_text(zoom.registered("pipedrive") + zoom.registered("zoom"), encoding="utf-8")
    return {**environ, "CUSTOMHOUSE_PLATFORM_KEY": PLATFORM_KEY, "CUSTOMHOUSE_PROVIDERS_FILE": str(file), "CUSTOMHOUSE_PUBLIC_URL": PUBLIC}


def basic(client_id: str = CLIENT_ID, secret: str = CLIENT_SECRET) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{client_id}:{secret}'.encode()).decode()}"}


async def tell(api: Api, said: Any = SAID, headers: dict[str, str] | None = None, route: str = ROUTE) -> httpx.Response:
    """Say it as the provider does."""
    return await api.as_key(None)("DELETE", route, said, headers=basic() if headers is None else headers)


async def pipedrive(api: Api, browser: Browser, zoom: Authority, **body: Any) -> dict[str, Any]:
    return await connected(api, browser, zoom, provider="pipedrive", mode="act", **body)


async def status_of(api: Api, connection: dict[str, Any]) -> tuple[str, str | None]:
    found = (await api("GET", f"/v1/connections/{connection['connection_id']}")).json()
    return found["status"], found["health"]["reason"]


async def test_an_application_that_was_removed_ends_every_connection_of_the_account(acme: Api, browser: Browser, zoom: Authority) -> None:
    first, second = await pipedrive(acme, browser, zoom), await pipedrive(acme, browser, zoom)
    zoom.account["data"]["id"] = 10
    other = await pipedrive(acme, browser, zoom)
    kept = zoom.issued[-2]
    zoom.live.intersection_update({kept})
    assert (await tell(acme)).status_code == 204
    for one in (first, second):
        assert await status_of(acme, one) == ("revoked", "deauthorized")
        receipt = (await acme("GET", f"/v1/connections/{one['connection_id']}/receipt")).json()
        assert (receipt["reason"], receipt["tokens_destroyed"], receipt["key_destroyed"]) == ("deauthorized", True, True)
    assert await status_of(acme, other) == ("active", None)
    assert (await tell(acme)).status_code == 204


async def test_what_is_not_so_changes_nothing(acme: Api, browser: Browser, zoom: Authority) -> None:
    """Basic signs neither body nor time: an old call that comes again must not end the consent that came after it."""
    made = await pipedrive(acme, browser, zoom)
    assert (await tell(acme)).status_code == 204
    assert await status_of(acme, made) == ("active", None)
    assert zoom.calls("/oauth/revoke") == 0


async def test_what_cannot_be_seen_just_now_may_come_again(acme: Api, browser: Browser, zoom: Authority) -> None:
    made = await pipedrive(acme, browser, zoom)
    zoom.server.answer = b"no HTTP\r\n\r\n"
    answer = await tell(acme)
    problem(answer, 503, "overloaded")
    assert int(answer.headers["retry-after"]) > 0
    assert await status_of(acme, made) == ("active", None)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic(secret="wrong"),
        basic(client_id="other"),
        {"Authorization": f"Bearer {PLATFORM_KEY}"},
        {"Authorization": "Basic"},
        {"Authorization": "Basic ####"},
        {"Authorization": basic()["Authorization"].replace("Basic", "Digest")},
    ],
)
async def test_whoever_does_not_show_our_secret_is_refused_in_one_way(
    acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection, headers: dict[str, str]
) -> None:
    made = await pipedrive(acme, browser, zoom)
    zoom.live.clear()
    problem(await tell(acme, headers=headers), 401, "unauthenticated")
    assert await status_of(acme, made) == ("active", None)


@pytest.mark.parametrize("route", ["/oauth/callback/zoom", "/oauth/callback/gmail", "/oauth/callback/none"])
async def test_a_provider_that_makes_no_such_calls_is_not_told_from_one_that_does(acme: Api, route: str) -> None:
    problem(await tell(acme, route=route), 401, "unauthenticated")


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"company_id": 7}, 422),
        ({"company_id": "7:9", "user_id": "1"}, 422),
        ({**SAID, "client_id": "other"}, 422),
        ([], 422),
        ({"company_id": 7, "user_id": 4711}, 204),
    ],
)
async def test_a_call_that_names_no_account_of_ours_ends_nothing(
    acme: Api, browser: Browser, zoom: Authority, said: Any, status: int
) -> None:
    made = await pipedrive(acme, browser, zoom)
    zoom.live.clear()
    assert (await tell(acme, said)).status_code == status
    assert await status_of(acme, made) == ("active", None)


@given(st.text(max_size=60) | st.binary(max_size=40).map(lambda raw: "Basic " + base64.b64encode(raw).decode()))
def test_whatever_is_in_the_header_only_our_secret_opens(header: str) -> None:
    assert not _shows(header, Client("id", Secret(b"a secret that nobody guesses")))
