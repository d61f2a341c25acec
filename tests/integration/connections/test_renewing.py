"""A new consent for a connection that is there: the host is told why, a refused one changes nothing, a paused one stays paused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from customhouse.app import App
from customhouse.providers.manifest import Scope
from customhouse.providers.vocabulary import Mode
from customhouse_sandbox.faults import FaultKind, Operation
from tests.integration.connections.conftest import PUBLIC, Browser, grown
from tests.integration.connections.sandboxed import Desk, sealed_tokens, settle_in
from tests.integration.web.conftest import Api, problem
from tests.receivers import Recorder
from tests.sandboxes import Sandbox, running

pytestmark = pytest.mark.anyio


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with running(public_url=PUBLIC) as one:
        yield one


@pytest.fixture
def environ(environ: dict[str, str], sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    return {**environ, "CUSTOMHOUSE_PROVIDERS_FILE": settle_in(sandbox, tmp_path, monkeypatch)}


@pytest.fixture
def gmail(acme: Api, browser: Browser, sandbox: Sandbox) -> Desk:
    return Desk(acme, browser, sandbox, "gmail")


async def test_a_mode_that_a_provider_does_not_have_is_refused(acme: Api) -> None:
    body = {"user": {"id": "u1"}, "provider": "zoom", "mode": "act"}
    assert [one["pointer"] for one in problem(await acme("POST", "/v1/connect-sessions", body), 422, "invalid_request")["errors"]] == [
        "/mode"
    ]


async def test_the_host_is_told_once_that_a_manifest_grew_and_what_was_granted_works_on(gmail: Desk, app: App, receiver: Recorder) -> None:
    hook = {"provider": "webhook", "url": receiver.url("/"), "event_types": ["customhouse.connection.reauthorization_required"]}
    assert (await gmail.api("POST", "/v1/connections", hook)).status_code == 201
    made = await gmail.connected()
    await app.sweeping.outgrown()
    assert (await gmail.read(made))["status"] == "active"
    grown(app, "gmail", Scope("more", words="see more", why="Because.", reaches="more"))
    for _ in range(2):
        await app.sweeping.outgrown()
    found = await gmail.read(made)
    assert (found["status"], found["health"]["reason"]) == ("reauthorization_required", "scopes_added")
    await receiver.wait_for(1)
    assert b'"reason":"scopes_added"' in receiver.received[0].body
    tokens, _ = await sealed_tokens(app, made["connection_id"])
    assert tokens.access.reveal().decode() in gmail.live()
    told = await gmail.told("connection.reauthorization_required")
    assert [one["reason"] for one in told] == ["scopes_added"]


async def test_a_refused_renewal_leaves_the_connection_and_a_grant_that_is_shared(
    gmail: Desk, sandbox: Sandbox, app: App, owner: asyncpg.Connection
) -> None:
    """To revoke a wider grant of the same account would end the connection that is in use: it is dropped here alone."""
    made = await gmail.connected()
    sandbox.order("gmail", FaultKind.SCOPE_MORE, Operation.EXCHANGE, scopes=["https://mail.google.com/"])
    back = await gmail.returned(await gmail.invited(connection_id=made["connection_id"]))
    assert (back.status_code, gmail.calls("revoke")) == (403, 0)
    assert [one["outcome"] for one in await gmail.told("grant.revoked")] == ["shared"]
    assert await gmail.read(made) == made
    tokens, _ = await sealed_tokens(app, made["connection_id"])
    assert tokens.access.reveal().decode() in gmail.live()
    assert await owner.fetchval("select count(*) from revocation_escrow") == 0


async def test_a_paused_connection_is_resumed_as_what_it_is_and_stays_paused_when_renewed(gmail: Desk) -> None:
    reads = "https://www.googleapis.com/auth/gmail.readonly"
    less = [name for name in gmail.asked(Mode.OBSERVE) if name != reads]
    made = await gmail.connected(ticked=less)
    path = f"/v1/connections/{made['connection_id']}"
    assert (await gmail.api("PATCH", path, {"paused": True})).json()["status"] == "paused"
    assert (await gmail.connected(connection_id=made["connection_id"], ticked=less))["status"] == "paused"
    resumed = (await gmail.api("PATCH", path, {"paused": False})).json()
    assert (resumed["status"], resumed["health"]["reason"], resumed["scopes"]["missing"]) == ("degraded", "scopes_missing", [reads])
    problem(await gmail.api("POST", f"{path}/secrets/rotate", {}), 409, "conflict")
    problem(await gmail.api("POST", f"{path}/test"), 404, "not_found")
    for body in ({"url": "https://x.example"}, {"paused": True, "description": "x"}, {"paused": None}):
        problem(await gmail.api("PATCH", path, body), 422, "invalid_request")


async def test_an_ended_connection_takes_no_new_consent(gmail: Desk) -> None:
    made = await gmail.connected()
    path = f"/v1/connections/{made['connection_id']}"
    assert (await gmail.api("DELETE", path)).status_code == 200
    after = (await gmail.api("GET", path)).json()
    assert (after["status"], after["account"]) == ("disconnected", {"id": None, "label": None})
    problem(await gmail.api("DELETE", path), 409, "conflict")
    body = {"user": {"id": "u1"}, "provider": "gmail", "connection_id": made["connection_id"]}
    problem(await gmail.api("POST", "/v1/connect-sessions", body), 409, "conflict")
