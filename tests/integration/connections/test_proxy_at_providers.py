"""The proxy and token reads at each provider's strict stand-in: calls that pass, tokens that die, waiting on request, pasted keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from customhouse.app import App
from customhouse.providers.manifest import OAuth2
from customhouse.providers.vocabulary import Rotation
from customhouse_sandbox.faults import FaultKind, Operation
from customhouse_sandbox.stripe import keys
from tests.integration.connections.conftest import PUBLIC, Browser
from tests.integration.connections.sandboxed import PROVIDERS, Desk, settle_in
from tests.integration.web.conftest import Api, problem
from tests.sandboxes import Sandbox, running, stripe_key

pytestmark = pytest.mark.anyio

READS = {
    "zoom": "/users/me/meetings?page_size=30",
    "google-meet": "/conferenceRecords",
    "google-calendar": "/calendars/primary/events?maxResults=10",
    "google-drive": "/files",
    "slack": "/users.info?user=U000",
    "microsoft-teams": "/me",
    "hubspot": "/crm/v3/objects/contacts",
    "pipedrive": "/v1/users/me",
}
"""A call that a connection in its default mode may make."""
EXPORTABLE = {"zoom", "google-meet", "microsoft-teams", "hubspot"}
"""Those whose grants in the default mode can only read, and read no more than the consent page says."""


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with running(public_url=PUBLIC) as one:
        yield one


@pytest.fixture
def environ(environ: dict[str, str], sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    return {**environ, "CUSTOMHOUSE_PROVIDERS_FILE": settle_in(sandbox, tmp_path, monkeypatch)}


@pytest.fixture
def desk(acme: Api, browser: Browser, sandbox: Sandbox, provider: str) -> Desk:
    return Desk(acme, browser, sandbox, provider)


every_provider = pytest.mark.parametrize("provider", PROVIDERS)
every_reader = pytest.mark.parametrize("provider", [one for one in PROVIDERS if one in READS])


async def proxied(desk: Desk, connection: dict[str, Any], method: str = "GET", path: str = "", **options: Any) -> Any:
    return await desk.api(method, f"/v1/connections/{connection['connection_id']}/proxy{path or READS[desk.provider]}", **options)


@every_provider
async def test_tokens_that_may_only_read_are_handed_out_and_no_others(desk: Desk) -> None:
    connection = await desk.connected()
    answer = await desk.api("POST", f"/v1/connections/{connection['connection_id']}/access-token")
    if desk.provider in EXPORTABLE:
        assert answer.status_code == 200, answer.text
        assert answer.json()["access_token"] in desk.live()
    else:
        problem(answer, 409, "token_not_exportable")
        assert not any(token in answer.text for token in desk.live())


@every_reader
async def test_a_read_passes_at_every_provider_and_its_scope_counts_as_used(desk: Desk) -> None:
    connection = await desk.connected()
    answer = await proxied(desk, connection)
    assert answer.headers.get("x-customhouse-relayed") == "1", answer.text
    assert answer.status_code == 200, answer.text
    (called,) = await desk.told("provider.called")
    assert (called["provider"], called["status"]) == (desk.provider, 200)
    assert (await desk.read(connection))["scopes"]["used"] == [called["scope"]]


@every_reader
async def test_a_token_that_the_provider_ended_early_is_renewed_and_nobody_notices(desk: Desk, sandbox: Sandbox) -> None:
    refresh = desk.manifest.oauth2.refresh
    connection = await desk.connected()
    if refresh.rotation is Rotation.NONE or (await desk.read(connection))["token"]["expires_at"] is None:
        return
    assert sandbox.expire(desk.provider) >= 1
    answer = await proxied(desk, connection)
    assert (answer.status_code, answer.headers.get("x-customhouse-relayed")) == (200, "1"), answer.text
    assert (await desk.read(connection))["token"]["token_generation"] == 2
    assert desk.calls("refresh") == 1


async def test_a_thing_that_the_provider_does_not_know_costs_nobody_the_connection(acme: Api, browser: Browser, sandbox: Sandbox) -> None:
    desk = Desk(acme, browser, sandbox, "slack")
    connection = await desk.connected()
    for user in ("U000", "x"):
        answer = await proxied(desk, connection, path=f"/users.info?user={user}")
        assert (answer.status_code, answer.json()["ok"], answer.headers.get("x-customhouse-relayed")) == (200, False, "1"), answer.text
    assert (await desk.read(connection))["status"] == "active"


@every_reader
async def test_what_the_user_has_withdrawn_at_the_provider_gives_nothing_more(desk: Desk, sandbox: Sandbox) -> None:
    connection = await desk.connected()
    assert sandbox.withdraw(desk.provider, "ada") == 1
    answer = await proxied(desk, connection)
    if not desk.manifest.oauth2.revocation.supported and answer.status_code == 200:
        # What this provider has issued lives on until it ends by itself: then it ends for us too.
        sandbox.expire(desk.provider)
        answer = await proxied(desk, connection)
    assert answer.status_code == 409, answer.text
    assert answer.json()["code"] in {"reauthorization_required", "connection_ended"}
    shown = await desk.read(connection)
    assert shown["status"] in {"reauthorization_required", "revoked", "disconnected"}
    assert shown["health"]["ok"] is False
    problem(await proxied(desk, connection), 409, answer.json()["code"])


@every_reader
async def test_a_provider_that_asks_to_wait_is_left_alone_until_then(desk: Desk, sandbox: Sandbox) -> None:
    connection = await desk.connected()
    sandbox.order(desk.provider, FaultKind.STATUS, Operation.ANY, status=429, retry_after=90)
    first = await proxied(desk, connection)
    assert (first.status_code, first.headers["retry-after"]) == (429, "90"), first.text
    before = len(sandbox.calls)
    problem(await proxied(desk, connection), 429, "provider_rate_limited")
    assert len(sandbox.calls) == before


@pytest.mark.parametrize("provider", ["google-calendar", "google-drive", "gmail"])
async def test_what_only_an_action_may_do_is_none_of_the_proxys(desk: Desk, sandbox: Sandbox) -> None:
    """Rulings §7: the primary calendar, our own events, the filter of the organisation, the files that we made."""
    connection = await desk.connected(mode="act")
    before = len(sandbox.calls)
    for method, path, code in {
        "google-calendar": [
            ("POST", "/calendars/primary/events", "approval_required"),
            ("PATCH", "/calendars/primary/events/e1", "not_allowed"),
            ("DELETE", "/calendars/primary/events/e1", "not_allowed"),
            ("GET", "/calendars/team@example.com/events", "not_allowed"),
            ("GET", "/users/me/calendarList", "not_allowed"),
        ],
        "google-drive": [
            ("POST", "/files", "approval_required"),
            ("POST", "/files/f1/permissions", "not_allowed"),
            ("DELETE", "/files/f1", "not_allowed"),
            ("GET", "/files/f1/permissions", "not_allowed"),
            ("GET", "/drives", "not_allowed"),
        ],
        "gmail": [
            ("POST", "/users/me/messages/send", "approval_required"),
            ("GET", "/users/me/messages", "not_allowed"),
            ("GET", "/users/me/threads", "not_allowed"),
            ("GET", "/users/me/threads/t1?format=full", "not_allowed"),
            ("GET", "/users/me/history?startHistoryId=1", "not_allowed"),
            ("GET", "/users/me/drafts", "not_allowed"),
        ],
    }[desk.provider]:
        answer = await proxied(desk, connection, method, path)
        problem(answer, 409 if code == "approval_required" else 403, code)
    assert len(sandbox.calls) == before


async def test_a_pasted_key_works_through_the_proxy_and_is_never_shown(app: App, acme: Api, sandbox: Sandbox) -> None:
    key_id, key = stripe_key(sandbox)
    made = await acme("POST", "/v1/connections", {"provider": "stripe", "user_id": "u1", "credentials": {"api_key": key}})
    assert made.status_code == 201, made.text
    connection_id = made.json()["connection_id"]
    assert not isinstance(app.catalogue.get("stripe").auth, OAuth2)
    problem(await acme("POST", f"/v1/connections/{connection_id}/access-token"), 409, "token_not_exportable")
    base = f"/v1/connections/{connection_id}/proxy"
    listed = await acme("GET", f"{base}/customers?limit=3", headers={"Stripe-Account": "acct_other", "Stripe-Context": "acct_other"})
    assert (listed.status_code, listed.json()["object"]) == (200, "list"), listed.text
    assert key not in listed.text
    for method, path, status, code in (
        ("POST", "/customers", 409, "approval_required"),
        ("GET", "/refunds", 403, "not_allowed"),
        ("GET", "/balance", 403, "not_allowed"),
        ("DELETE", "/customers/cus_1", 403, "not_allowed"),
    ):
        problem(await acme(method, base + path), status, code)
    keys.delete(sandbox.realms["stripe"], key_id)
    problem(await acme("GET", f"{base}/customers"), 409, "reauthorization_required")
    shown = (await acme("GET", f"/v1/connections/{connection_id}")).json()
    assert (shown["status"], shown["health"]["ok"]) == ("reauthorization_required", False)
