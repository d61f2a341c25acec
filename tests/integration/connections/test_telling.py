"""The user is told what the host is told, where it concerns them: in the inbox, and at the address that the host gave."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from customhouse.app import App
from customhouse.providers.vocabulary import Mode
from customhouse_sandbox.faults import FaultKind, Operation
from tests.integration.connections.conftest import PUBLIC, Browser
from tests.integration.connections.sandboxed import Desk, settle_in
from tests.integration.web.conftest import Api, problem
from tests.relays import Relay, running_relay
from tests.sandboxes import Sandbox, running
from tests.scenes import still

pytestmark = pytest.mark.anyio

ADA = {"id": "u1", "display_name": "Ada", "email": "ada@example.com"}


@pytest.fixture
def relay() -> Iterator[Relay]:
    with running_relay() as running:
        yield running


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with running(public_url=PUBLIC) as one:
        yield one


@pytest.fixture
def environ(environ: dict[str, str], sandbox: Sandbox, relay: Relay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    return {
        **environ,
        "CUSTOMHOUSE_PROVIDERS_FILE": settle_in(sandbox, tmp_path, monkeypatch),
        "CUSTOMHOUSE_SMTP_URL": f"smtp://127.0.0.1:{relay.port}",
        "CUSTOMHOUSE_SMTP_FROM": "customhouse@host.example",
    }


@pytest.fixture
async def app(app: App) -> App:
    """A service whose jobs run when a test says so."""
    await still(app, "jobs")
    return app


@pytest.fixture
def desk(acme: Api, browser: Browser, sandbox: Sandbox) -> Desk:
    return Desk(acme, browser, sandbox, "zoom")


async def kinds(api: Api) -> list[tuple[str, str]]:
    """Return what users were told, the oldest first."""
    found = (await api("GET", "/v1/notices")).json()["data"]
    return [(one["user_id"], one["kind"]) for one in reversed(found)]


async def mailed(app: App, relay: Relay) -> list[tuple[str, str]]:
    """Send what is due; return every e-mail so far: to whom, and how it begins."""
    assert app.mailing is not None
    await app.mailing.send_due()
    return [(letter["To"], letter["Subject"]) for letter in relay.letters]


async def test_a_new_connection_is_told_to_its_user_once(app: App, acme: Api, desk: Desk, relay: Relay) -> None:
    made = await desk.connected(user=ADA)
    assert await kinds(acme) == [("u1", "connection.created")]
    (notice,) = (await acme("GET", "/v1/notices?user_id=u1")).json()["data"]
    assert (notice["connection_id"], notice["detail"], notice["mail"]["status"]) == (made["connection_id"], {"provider": "zoom"}, "pending")
    assert await mailed(app, relay) == [("ada@example.com", "A connection was made in your name")]
    assert "Zoom" not in relay.received[0].decode()


async def test_a_user_without_an_address_finds_it_in_the_inbox(app: App, acme: Api, desk: Desk, relay: Relay) -> None:
    await desk.connected()
    assert await kinds(acme) == [("u1", "connection.created")]
    assert await mailed(app, relay) == []


async def test_less_than_was_asked_for_is_told(acme: Api, desk: Desk) -> None:
    past = "meeting:read:past_meeting"
    await desk.connected(user=ADA, ticked=[name for name in desk.asked(Mode.OBSERVE) if name != past])
    assert await kinds(acme) == [("u1", "connection.created"), ("u1", "connection.degraded")]


async def test_another_consent_is_told_and_a_pause_is_not(acme: Api, desk: Desk) -> None:
    made = await desk.connected(user=ADA)
    for paused in (True, False):
        answer = await acme("PATCH", f"/v1/connections/{made['connection_id']}", {"paused": paused})
        assert answer.status_code == 200, answer.text
    await desk.connected(user=ADA, connection_id=made["connection_id"])
    assert await kinds(acme) == [("u1", "connection.created"), ("u1", "connection.renewed")]


async def test_the_need_of_a_new_consent_is_told_once(app: App, acme: Api, desk: Desk, owner: asyncpg.Connection, relay: Relay) -> None:
    await desk.connected(user=ADA)
    await mailed(app, relay)
    await owner.execute("update connection_grants set requested = requested[2:]")
    for _ in range(2):
        await app.sweeping.outgrown()
    assert (await kinds(acme))[1:] == [("u1", "connection.reauthorization_required")]
    assert (await mailed(app, relay))[1:] == [("ada@example.com", "A connection of yours needs your consent")]


async def test_the_end_of_a_connection_is_told(app: App, acme: Api, desk: Desk, relay: Relay) -> None:
    made = await desk.connected(user=ADA)
    assert (await acme("DELETE", f"/v1/connections/{made['connection_id']}")).status_code == 200
    assert (await kinds(acme))[1:] == [("u1", "connection.disconnected")]
    assert (await mailed(app, relay))[1:] == [("ada@example.com", "A connection of yours was ended")]


async def test_a_grant_that_another_user_brought_back_is_told_to_the_one_who_was_invited(acme: Api, desk: Desk) -> None:
    session = await desk.invited(user=ADA)
    await desk.returned(session)
    problem(await acme("POST", f"/v1/connect-sessions/{session['session_id']}/confirm", {"user_id": "u2"}), 409, "user_mismatch")
    assert await kinds(acme) == [("u1", "connection.refused")]


async def test_a_refusal_at_the_provider_needs_no_notice(acme: Api, desk: Desk) -> None:
    await desk.returned(await desk.invited(user=ADA), decision="deny")
    assert await kinds(acme) == []


async def test_wider_scopes_are_told_to_the_user_whose_grant_was_refused(acme: Api, desk: Desk, sandbox: Sandbox) -> None:
    sandbox.order("zoom", FaultKind.SCOPE_MORE, Operation.EXCHANGE, scopes=["meeting:write:meeting"])
    await desk.returned(await desk.invited(user=ADA))
    assert await kinds(acme) == [("u1", "connection.refused")]
