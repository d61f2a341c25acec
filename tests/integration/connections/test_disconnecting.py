"""Disconnecting, at strict stand-ins of the providers: whatever goes wrong there or here, the receipt tells the truth."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from customhouse import ids
from customhouse.app import App, key_service
from customhouse.audit.log import SYSTEM
from customhouse.config import Settings
from customhouse.connections.receipts import SIGNED
from customhouse.connections.revoking import Settled, Unwanted
from customhouse.connections.tokens import GrantSeal
from customhouse.crypto import statements
from customhouse.db import Database
from customhouse.providers.catalogue import Catalogue
from customhouse.providers.manifest import Provider
from customhouse.providers.vocabulary import Extent, Rotation
from customhouse.types import Secret, TenantId
from customhouse.web.receipts import KEYS
from customhouse_sandbox.faults import FaultKind, Operation
from tests.integration.connections.conftest import PUBLIC, Browser
from tests.integration.connections.sandboxed import PROVIDERS, Desk, sealed_tokens, settle_in
from tests.integration.outbound.test_outages import Switchable
from tests.integration.web.conftest import Api, problem
from tests.receivers import Recorder
from tests.sandboxes import Sandbox, running

pytestmark = pytest.mark.anyio

ACME = TenantId("acme")
REVOKING = tuple(key for key in PROVIDERS if Catalogue().get(key).oauth2.revocation.supported)
AT_ONCE = tuple(key for key in REVOKING if not Catalogue().get(key).oauth2.revocation.proof_seconds)
"""Where the end can be seen as soon as it is there."""
RENEWED = tuple(key for key in AT_ONCE if Catalogue().get(key).oauth2.refresh.rotation is not Rotation.NONE)
SHARED = tuple(
    key for key in AT_ONCE if Catalogue().get(key).oauth2.revocation.extent in {Extent.GRANT, Extent.PROJECT, Extent.INSTALLATION}
)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with running(public_url=PUBLIC) as one:
        yield one


@pytest.fixture
def environ(environ: dict[str, str], sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    return {**environ, "CUSTOMHOUSE_PROVIDERS_FILE": settle_in(sandbox, tmp_path, monkeypatch), "CUSTOMHOUSE_KMS_CACHE_TTL": "60"}


@pytest.fixture
def keys(settings: Settings) -> Switchable:
    return Switchable(key_service(settings))


@pytest.fixture
async def app(settings: Settings, keys: Switchable) -> AsyncIterator[App]:
    assert settings.database_url is not None
    app = App(settings, await Database.connect(settings.database_url, size=5), keys)
    await app.start()
    try:
        yield app
    finally:
        await app.stop()


@pytest.fixture
def desk(acme: Api, browser: Browser, sandbox: Sandbox, provider: str) -> Desk:
    return Desk(acme, browser, sandbox, provider)


async def ended(desk: Desk, connection: dict[str, Any]) -> dict[str, Any]:
    """Disconnect; return the receipt."""
    answer = await desk.api("DELETE", f"/v1/connections/{connection['connection_id']}")
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()
    assert await receipt_of(desk, connection) == said
    return said


async def receipt_of(desk: Desk, connection: dict[str, Any]) -> dict[str, Any]:
    found = await desk.api("GET", f"/v1/connections/{connection['connection_id']}/receipt")
    assert found.status_code == 200, found.text
    said: dict[str, Any] = found.json()
    return said


async def nothing_left(owner: asyncpg.Connection) -> None:
    """Hold that no token and no key of a connection is anywhere."""
    for table in ("integration_tokens", "pending_grants", "revocation_escrow"):
        assert await owner.fetchval(f"select count(*) from {table}") == 0, table
    assert await owner.fetchval("select bool_and(state = 'destroyed') from data_keys where purpose = 'connection'")


async def again(app: App, owner: asyncpg.Connection) -> None:
    """Let what waits be due, and run the jobs."""
    await owner.execute("update revocation_escrow set next_at = now()")
    await owner.execute("update disconnect_receipts set updated_at = now() - interval '5 minutes' where not key_released")
    await app.ending.finish_due()
    await app.revoker.end_due()


@pytest.mark.parametrize("provider", AT_ONCE)
async def test_a_disconnect_is_revoked_probed_and_leaves_nothing(desk: Desk, owner: asyncpg.Connection) -> None:
    made = await desk.connected()
    receipt = await ended(desk, made)
    assert receipt["revocation"] == {"status": "revoked", "verified": True, "attempts": 1}
    assert (receipt["tokens_destroyed"], receipt["key_destroyed"], receipt["escrow_until"]) == (True, True, None)
    assert (receipt["notified"], receipt["shared"], receipt["reason"]) == (True, False, "requested")
    assert desk.live("ada") == set()
    await nothing_left(owner)
    assert (await desk.read(made))["status"] == "disconnected"
    problem(await desk.api("DELETE", f"/v1/connections/{made['connection_id']}"), 409, "conflict")
    versions = [one["version"] for one in await desk.told("receipt.updated")]
    assert versions == sorted(versions, reverse=True)
    assert max(versions) == receipt["version"]
    notices = (await desk.api("GET", "/v1/notices")).json()["data"]
    assert "connection.disconnected" in {one["kind"] for one in notices}


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_what_can_be_done_at_each_provider_is_done_and_the_rest_is_said(desk: Desk, app: App, owner: asyncpg.Connection) -> None:
    revocation = desk.manifest.oauth2.revocation
    made = await desk.connected()
    receipt = await ended(desk, made)
    if not revocation.supported:
        assert receipt["revocation"] == {"status": "unsupported", "verified": False, "attempts": 0}
        assert receipt["instructions"] == revocation.advice
        await nothing_left(owner)
        return
    if receipt["revocation"]["status"] == "pending":
        # Issued access tokens live on: proof has to wait for their end.
        assert revocation.proof_seconds
        assert (receipt["tokens_destroyed"], receipt["key_destroyed"]) == (False, False)
        desk.sandbox.clock.advance(revocation.proof_seconds)
        await owner.execute("update revocation_escrow set access_expires_at = now()")
        await again(app, owner)
        receipt = await receipt_of(desk, made)
    assert (receipt["revocation"]["status"], receipt["revocation"]["verified"]) == ("revoked", True)
    assert (receipt["instructions"] or "") == revocation.advice
    await nothing_left(owner)


@pytest.mark.parametrize("provider", AT_ONCE)
async def test_a_provider_that_is_down_is_asked_again_and_meanwhile_nobody_can_use_the_connection(
    desk: Desk, app: App, owner: asyncpg.Connection
) -> None:
    made = await desk.connected()
    desk.sandbox.order(desk.provider, FaultKind.UNREACHED, Operation.REVOKE, times=2)
    receipt = await ended(desk, made)
    assert receipt["revocation"] == {"status": "pending", "verified": False, "attempts": 1}
    assert (receipt["tokens_destroyed"], receipt["key_destroyed"]) == (False, False)
    assert receipt["escrow_until"] is not None
    assert desk.manifest.name in receipt["instructions"]
    assert (await desk.read(made))["status"] == "disconnected"
    # The keyring has the key no more, and the token is where tokens are read from no more.
    assert await owner.fetchval("select count(*) from integration_tokens") == 0
    assert await owner.fetchval("select bool_and(state = 'destroyed') from data_keys where purpose = 'connection'")
    await app.revoker.end_due()
    assert (await receipt_of(desk, made))["revocation"]["attempts"] == 1, "it has to wait for its time"
    await again(app, owner)
    assert (await receipt_of(desk, made))["revocation"] == {"status": "pending", "verified": False, "attempts": 2}
    await again(app, owner)
    receipt = await receipt_of(desk, made)
    assert receipt["revocation"] == {"status": "revoked", "verified": True, "attempts": 3}
    assert (receipt["tokens_destroyed"], receipt["key_destroyed"], receipt["escrow_until"]) == (True, True, None)
    assert desk.live("ada") == set()
    await nothing_left(owner)


@pytest.mark.parametrize("provider", AT_ONCE)
async def test_a_provider_that_says_yes_and_revokes_nothing_is_not_believed(
    desk: Desk, app: App, owner: asyncpg.Connection, receiver: Recorder
) -> None:
    hook = {"provider": "webhook", "url": receiver.url("/"), "event_types": ["customhouse.connection.revocation_ended"]}
    assert (await desk.api("POST", "/v1/connections", hook)).status_code == 201
    made = await desk.connected()
    desk.sandbox.order(desk.provider, FaultKind.REVOCATION_LIES, Operation.REVOKE, times=None)
    receipt = await ended(desk, made)
    assert receipt["revocation"] == {"status": "pending", "verified": False, "attempts": 1}
    assert desk.live("ada")
    await again(app, owner)
    assert (await receipt_of(desk, made))["revocation"] == {"status": "pending", "verified": False, "attempts": 2}
    await owner.execute("update revocation_escrow set ends_at = now()")
    await again(app, owner)
    receipt = await receipt_of(desk, made)
    assert receipt["revocation"] == {"status": "failed", "verified": False, "attempts": 2}
    assert desk.manifest.name in receipt["instructions"]
    assert (receipt["tokens_destroyed"], receipt["key_destroyed"]) == (True, True)
    assert desk.live("ada"), "the receipt does not claim what is not so"
    await receiver.wait_for(1)
    assert b'"status":"failed"' in receiver.received[0].body
    notices = (await desk.api("GET", "/v1/notices")).json()["data"]
    assert [one["kind"] for one in notices][:2] == ["connection.not_withdrawn", "connection.disconnected"]


@pytest.mark.parametrize("provider", RENEWED)
async def test_an_access_token_that_has_run_out_proves_nothing(desk: Desk, app: App, owner: asyncpg.Connection) -> None:
    """A provider that lies about the grant of a connection that was not used for long: its old access token is refused anyway."""
    made = await desk.connected()
    desk.sandbox.order(desk.provider, FaultKind.REVOCATION_LIES, Operation.REVOKE, times=1)
    desk.sandbox.expire(desk.provider)
    await owner.execute("update integration_tokens set access_expires_at = now()")
    receipt = await ended(desk, made)
    assert receipt["revocation"] == {"status": "pending", "verified": False, "attempts": 1}
    await again(app, owner)
    assert (await receipt_of(desk, made))["revocation"] == {"status": "revoked", "verified": True, "attempts": 2}
    assert desk.live("ada") == set()
    await nothing_left(owner)


@pytest.mark.parametrize("provider", AT_ONCE)
async def test_a_grant_that_was_over_before_is_seen_to_be_over(desk: Desk, app: App, owner: asyncpg.Connection) -> None:
    made = await desk.connected()
    desk.sandbox.withdraw(desk.provider, "ada")
    assert (await ended(desk, made))["revocation"] == {"status": "revoked", "verified": True, "attempts": 1}
    await nothing_left(owner)


@pytest.mark.parametrize("provider", AT_ONCE)
async def test_a_disconnect_works_while_the_key_service_is_away(desk: Desk, app: App, keys: Switchable, owner: asyncpg.Connection) -> None:
    made = await desk.connected()
    keys.away = True
    app.vault._expel(ACME)
    receipt = await app.ending.disconnect(ACME, ids.parse("con", made["connection_id"]), SYSTEM)
    assert (receipt.status, receipt.attempts, receipt.tokens_destroyed, receipt.key_destroyed) == ("pending", 0, False, False)
    assert await owner.fetchval("select status from connections where user_id = 'u1'") == "disconnected"
    assert await owner.fetchval("select bool_and(state = 'destroyed') from data_keys where purpose = 'connection'")
    assert desk.calls("revoke") == 0
    await again(app, owner)
    keys.away = False
    await again(app, owner)
    assert (await receipt_of(desk, made))["revocation"] == {"status": "revoked", "verified": True, "attempts": 1}
    assert desk.live("ada") == set()
    await nothing_left(owner)


@pytest.mark.parametrize("provider", ["zoom"])
async def test_a_host_that_disconnects_while_the_key_service_is_away_gets_its_receipt(desk: Desk, app: App, keys: Switchable) -> None:
    made = await desk.connected()
    keys.away = True
    app.vault._expel(ACME)
    receipt = await ended(desk, made)
    assert (receipt["revocation"]["status"], receipt["tokens_destroyed"], receipt["notified"]) == ("pending", False, True)


@pytest.mark.parametrize("provider", SHARED)
async def test_of_two_connections_on_one_grant_that_end_at_once_exactly_one_ends_the_grant(desk: Desk, owner: asyncpg.Connection) -> None:
    first, second = await desk.connected(), await desk.connected()
    receipts = await asyncio.gather(ended(desk, first), ended(desk, second))
    assert sorted((one["revocation"]["status"], one["shared"]) for one in receipts) == [("revoked", False), ("unsupported", True)]
    assert desk.calls("revoke") == 1
    (shared,) = (one for one in receipts if one["shared"])
    assert (shared["tokens_destroyed"], shared["key_destroyed"]) == (True, True)
    assert desk.manifest.name in shared["instructions"]
    await nothing_left(owner)


@pytest.mark.parametrize("provider", ["slack"])
async def test_a_grant_that_a_workspace_shares_ends_with_the_last_of_its_people(desk: Desk, owner: asyncpg.Connection) -> None:
    ada, grace = await desk.connected(account="ada"), await desk.connected(account="grace")
    receipt = await ended(desk, ada)
    assert (receipt["shared"], desk.calls("revoke")) == (True, 0)
    assert desk.live()
    assert (await desk.read(grace))["status"] == "active"
    receipt = await ended(desk, grace)
    assert (receipt["shared"], receipt["revocation"]["verified"], desk.calls("revoke")) == (False, True, 1)
    await nothing_left(owner)


@pytest.mark.parametrize("provider", ["slack"])
async def test_a_refresh_token_that_outlives_its_access_token_is_seen(desk: Desk, app: App, owner: asyncpg.Connection) -> None:
    desk.sandbox.set_fact("slack", "bot_revocation", "token")
    made = await desk.connected()
    receipt = await ended(desk, made)
    assert receipt["revocation"] == {"status": "pending", "verified": False, "attempts": 1}
    desk.sandbox.set_fact("slack", "bot_revocation", "workspace")
    await again(app, owner)
    assert (await receipt_of(desk, made))["revocation"] == {"status": "revoked", "verified": True, "attempts": 2}
    assert desk.live() == set()
    await nothing_left(owner)


@pytest.mark.parametrize("provider", ["gmail"])
async def test_what_somebody_else_stands_on_by_then_is_left_to_them(desk: Desk, app: App, owner: asyncpg.Connection) -> None:
    """The provider was down at the disconnect; before it came back, the same person connected again."""
    made = await desk.connected()
    desk.sandbox.order(desk.provider, FaultKind.UNREACHED, Operation.REVOKE)
    assert (await ended(desk, made))["revocation"]["status"] == "pending"
    other = await desk.connected()
    await again(app, owner)
    receipt = await receipt_of(desk, made)
    assert (receipt["revocation"]["status"], receipt["shared"], receipt["tokens_destroyed"]) == ("unsupported", True, True)
    assert desk.live("ada")
    assert (await desk.read(other))["status"] == "active"


@pytest.mark.parametrize("provider", AT_ONCE)
async def test_a_withdrawal_at_the_provider_ends_the_connection_as_a_disconnect_does(
    desk: Desk, app: App, owner: asyncpg.Connection
) -> None:
    made = await desk.connected()
    connection_id = ids.parse("con", made["connection_id"])
    desk.sandbox.withdraw(desk.provider, "ada")
    receipt = await app.ending.deauthorized(ACME, connection_id)
    assert (receipt.status, receipt.verified, receipt.reason) == ("revoked", True, "deauthorized")
    assert await app.ending.deauthorized(ACME, connection_id) == receipt
    found = await desk.read(made)
    assert (found["status"], found["health"]["reason"]) == ("revoked", "deauthorized")
    await nothing_left(owner)


@pytest.mark.parametrize("provider", ["zoom"])
async def test_a_new_grant_that_waits_for_its_confirmation_ends_with_the_connection(
    desk: Desk, app: App, owner: asyncpg.Connection
) -> None:
    made = await desk.connected()
    session = await desk.invited(connection_id=made["connection_id"])
    await desk.returned(session)
    assert await owner.fetchval("select count(*) from pending_grants") == 1
    await ended(desk, made)
    problem(await desk.api("POST", f"/v1/connect-sessions/{session['session_id']}/confirm", {"user_id": "u1"}), 409, "connect_session_over")
    await again(app, owner)
    assert desk.live("ada") == set()
    await owner.execute("update connect_sessions set deadline = now() - interval '1 second'")
    await app.sweeping.sessions()
    assert await owner.fetchval("select count(*) from connect_sessions where facts_sealed is not null") == 0
    await nothing_left(owner)


@pytest.mark.parametrize("provider", ["zoom"])
async def test_tokens_that_nobody_can_open_end_with_the_truth(desk: Desk, owner: asyncpg.Connection) -> None:
    made = await desk.connected()
    await owner.execute("update integration_tokens set access_sealed = overlay(access_sealed placing '\\x00' from 60)")
    receipt = await ended(desk, made)
    assert receipt["revocation"] == {"status": "failed", "verified": False, "attempts": 0}
    assert (receipt["tokens_destroyed"], receipt["key_destroyed"]) == (True, True)
    assert receipt["instructions"]


@pytest.mark.parametrize("provider", ["zoom", "microsoft-teams"])
async def test_subscriptions_at_the_provider_end_while_there_is_a_token(desk: Desk, app: App, owner: asyncpg.Connection) -> None:
    """Also where a grant cannot be ended: then the token is destroyed once they are."""
    opened: list[bool] = []

    async def unsubscribe(tenant: TenantId, connection_id: UUID, provider: Provider, access: Secret, api_origin: str | None) -> int:
        assert (tenant, provider.id, ids.show("con", connection_id)) == (ACME, desk.provider, made["connection_id"])
        assert api_origin is None or api_origin.startswith("http")
        opened.append(desk.sandbox.is_live(access.reveal().decode()))
        return 2

    app.revoker._subscriptions = [unsubscribe]
    made = await desk.connected()
    receipt = await ended(desk, made)
    assert (opened, receipt["subscriptions_ended"]) == ([True], 2)
    supported = desk.manifest.oauth2.revocation.supported
    assert receipt["revocation"]["status"] == ("revoked" if supported else "unsupported")
    await nothing_left(owner)


@pytest.mark.parametrize("provider", ["zoom"])
async def test_a_grant_that_came_when_its_key_was_destroyed_is_ended_all_the_same(desk: Desk, app: App, owner: asyncpg.Connection) -> None:
    """A renewal that was under way while somebody disconnected: its tokens are in memory, and what sealed them is gone."""
    made = await desk.connected()
    connection_id = ids.parse("con", made["connection_id"])
    held, _ = await sealed_tokens(app, made["connection_id"])
    seal = GrantSeal(app.vault.environment, ACME, connection_id, await app.vault.connection_key(ACME, connection_id))
    await app.vault.destroy_connection_key(ACME, connection_id)
    unwanted = Unwanted(app.catalogue.get("zoom"), seal, held, "superseded", None, None, ends_key=True)
    async with app.database.transaction(ACME) as conn:
        revocation_id = await app.revoker.take(conn, unwanted)
    assert await app.revoker.end(ACME, revocation_id) == Settled("revoked", verified=True, attempts=1)
    assert desk.live("ada") == set()


@pytest.mark.parametrize("provider", ["zoom"])
async def test_a_signed_receipt_is_checked_with_public_keys_alone(desk: Desk, platform: Api) -> None:
    made = await desk.connected()
    receipt = await ended(desk, made)
    path = f"/v1/connections/{made['connection_id']}/receipt?format=signed"
    signed = (await desk.api("GET", path)).json()
    keys = (await platform.as_key(None)("GET", KEYS)).json()
    assert json.loads(statements.verify(keys, SIGNED, signed)) == receipt


@pytest.mark.parametrize("provider", ["zoom"])
async def test_a_receipt_is_a_page_for_browsers(desk: Desk) -> None:
    made = await desk.connected()
    path = f"/v1/connections/{made['connection_id']}/receipt"
    problem(await desk.api("GET", path), 404, "not_found")
    receipt = await ended(desk, made)
    for answer in (
        await desk.api("GET", path, headers={"Accept": "text/html,application/xhtml+xml"}),
        await desk.api("GET", f"{path}?format=html"),
    ):
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert "Zoom is disconnected" in answer.text
        assert receipt["audit_entry_id"] in answer.text
        assert "script" not in answer.headers["content-security-policy"]
