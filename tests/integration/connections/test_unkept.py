"""Grants that came about and may not be kept, at each provider: nobody confirmed them, somebody else did, or the answer was lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from customhouse.app import App
from customhouse_sandbox.faults import FaultKind, Operation
from tests.integration.connections.conftest import PUBLIC, Browser
from tests.integration.connections.sandboxed import PROVIDERS, USER, Desk, settle_in
from tests.integration.web.conftest import Api, problem
from tests.sandboxes import Sandbox, running
from tests.scenes import still

pytestmark = pytest.mark.anyio
every_provider = pytest.mark.parametrize("provider", PROVIDERS)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with running(public_url=PUBLIC) as one:
        yield one


@pytest.fixture
def environ(environ: dict[str, str], sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    return {**environ, "CUSTOMHOUSE_PROVIDERS_FILE": settle_in(sandbox, tmp_path, monkeypatch)}


@pytest.fixture
async def app(app: App) -> App:
    """A service whose jobs run when a test says so."""
    await still(app, "jobs")
    return app


@pytest.fixture
def desk(acme: Api, browser: Browser, sandbox: Sandbox, provider: str) -> Desk:
    return Desk(acme, browser, sandbox, provider)


async def late(owner: asyncpg.Connection) -> None:
    """Let the time of every session be over."""
    await owner.execute("update connect_sessions set deadline = now() - interval '1 second' where state not in ('confirmed', 'ended')")


async def given_back(desk: Desk, owner: asyncpg.Connection, reason: str) -> None:
    """Hold that nothing of a grant is kept, that the provider was told where it can be, and that this is in the ledger."""
    assert desk.left() == set()
    for table in ("integration_tokens", "pending_grants", "connect_exchanges"):
        assert await owner.fetchval(f"select count(*) from {table}") == 0, table
    assert await owner.fetchval("select count(*) from connect_sessions where state <> 'ended' or facts_sealed is not null") == 0
    revocation = desk.manifest.oauth2.revocation
    if not revocation.proof_seconds:
        (entry,) = await desk.told("grant.revoked")
        outcome = ("revoked", True) if revocation.supported else ("unsupported", False)
        assert (entry["outcome"], entry["verified"], entry["reason"]) == (*outcome, reason)
        assert await owner.fetchval("select bool_and(state = 'destroyed') from data_keys where purpose = 'connection'")


@every_provider
async def test_what_nobody_confirms_is_given_back(desk: Desk, app: App, owner: asyncpg.Connection) -> None:
    session = await desk.invited()
    assert (await desk.returned(session)).status_code == 303
    await app.sweeping.sessions()
    assert desk.live() != set(), "there is still time"
    await late(owner)
    await app.sweeping.sessions()
    await given_back(desk, owner, "not_confirmed")
    problem(await desk.api("POST", f"/v1/connect-sessions/{session['session_id']}/confirm", {"user_id": USER}), 409, "connect_session_over")


@every_provider
async def test_what_somebody_else_brought_back_is_given_back(desk: Desk, owner: asyncpg.Connection) -> None:
    """R24: link phishing."""
    session = await desk.invited()
    await desk.returned(session, account="grace")
    path = f"/v1/connect-sessions/{session['session_id']}/confirm"
    problem(await desk.api("POST", path, {"user_id": "u2"}), 409, "user_mismatch")
    await given_back(desk, owner, "other_user")
    problem(await desk.api("POST", path, {"user_id": USER}), 409, "connect_session_over")


@every_provider
async def test_an_exchange_that_never_arrived_is_made_up_for_and_what_it_gives_is_given_back(
    desk: Desk, sandbox: Sandbox, app: App, owner: asyncpg.Connection
) -> None:
    sandbox.order(desk.provider, FaultKind.UNREACHED, Operation.EXCHANGE)
    back = await desk.returned(await desk.invited())
    assert (back.status_code, "<code>reply_lost</code>" in back.text, desk.live()) == (502, True, set())
    await app.sweeping.sessions()
    assert desk.calls("exchange") == 1, "it waits for its time"
    await late(owner)
    await app.sweeping.sessions()
    assert desk.calls("exchange") == 2
    assert len(sandbox.tokens(desk.provider)) > 0
    await given_back(desk, owner, "reply_lost")


@every_provider
@pytest.mark.parametrize("ends", ["yes", "no"])
async def test_an_exchange_whose_answer_was_lost_leaves_nothing_here_and_at_good_providers_nothing_there(
    desk: Desk, sandbox: Sandbox, app: App, owner: asyncpg.Connection, ends: str
) -> None:
    """RFC 6749 §4.1.2: a code that is shown again should end what it gave. Where it does not, nobody holds those tokens."""
    realm = sandbox.realm_of(desk.provider)
    sandbox.set_fact(realm.name, "code_reuse_ends_grant", ends)
    sandbox.order(desk.provider, FaultKind.LOST, Operation.EXCHANGE)
    back = await desk.returned(await desk.invited())
    assert (back.status_code, "<code>reply_lost</code>" in back.text) == (502, True)
    assert desk.live() != set()
    await late(owner)
    await app.sweeping.sessions()
    assert (desk.left() == set()) is (ends == "yes" or not desk.manifest.oauth2.revocation.supported)
    for table in ("integration_tokens", "pending_grants", "connect_exchanges", "connections"):
        assert await owner.fetchval(f"select count(*) from {table}") == 0, table
    assert [one["reason"] for one in await desk.told("connect_session.refused")] == ["reply_lost"]
