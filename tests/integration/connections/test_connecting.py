"""What the host sees of a flow, step by step, and that its end can be told twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from customhouse.providers.catalogue import Catalogue
from customhouse_sandbox.faults import FaultKind, Operation
from tests.integration.connections.conftest import PUBLIC, RETURN, Browser
from tests.integration.connections.sandboxed import PROVIDERS, USER, Desk, settle_in
from tests.integration.web.conftest import Api
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
def provider() -> str:
    return "zoom"


@pytest.fixture
def desk(acme: Api, browser: Browser, sandbox: Sandbox, provider: str) -> Desk:
    return Desk(acme, browser, sandbox, provider)


async def test_a_confirmation_says_the_same_each_time_and_the_session_forgets_the_person(desk: Desk, owner: asyncpg.Connection) -> None:
    session = await desk.invited(return_url=f"{RETURN}/settings?tab=integrations")
    assert session["connect_url"].startswith(f"{PUBLIC}/connect/")
    page = await desk.browser.get(session["connect_url"])
    for words in (
        "Connect Zoom",
        "Ada",
        "Acme",
        "list your cloud recordings",
        "What is never asked for",
        "It would let us write in your name.",
    ):
        assert words in page.text
    back = await desk.returned(session)
    query = f"tab=integrations&connect_session_id={session['session_id']}&connect_status=granted"
    assert back.headers["location"] == f"{RETURN}/settings?{query}"
    (pending,) = (await desk.api("GET", "/v1/connections?provider=zoom")).json()["data"]
    made = await desk.confirmed(session)
    assert made["connection_id"] == pending["connection_id"]
    assert made["scopes"]["used"] == []
    assert made["token"]["expires_at"] is not None
    assert await desk.read(made) == made
    assert await desk.confirmed(session) == made
    assert await owner.fetchval("select count(*) from connect_exchanges") == 0
    assert await owner.fetchval("select facts_sealed is null and state = 'confirmed' from connect_sessions")


async def test_the_ledger_tells_each_step_and_no_value(desk: Desk, sandbox: Sandbox) -> None:
    await desk.connected()
    entries = (await desk.api("GET", "/v1/audit?limit=100")).json()["data"]
    told = [one["type"] for one in entries]
    steps = ["connection.created", "connect_session.granted", "connect_session.consented", "connect_session.created"]
    assert [one for one in told if one in steps] == steps
    assert next(one for one in entries if one["type"] == "connect_session.consented")["actor"]["type"] == "connect_session"
    text = str(entries)
    assert [one for one in sandbox.secrets() if one in text] == []


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_reply_that_names_no_scopes_is_never_taken_for_as_requested(desk: Desk, sandbox: Sandbox) -> None:
    sandbox.order(desk.provider, FaultKind.SCOPE_MISSING, Operation.EXCHANGE)
    made = await desk.connected()
    manifest = Catalogue().get(desk.provider)
    if manifest.endpoints.introspect_url:
        # There is somebody to ask.
        assert (made["status"], desk.fits(manifest.default_mode, made["scopes"]["granted"])) == ("active", True)
    else:
        assert (made["status"], made["health"]["reason"], made["scopes"]["granted"]) == ("degraded", "scopes_unknown", [])
    assert made["user_id"] == USER
