"""What a renewal may change of a grant, and what it may not."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import UUID

import asyncpg
import pytest

from customhouse.app import App
from customhouse.audit.log import SYSTEM
from customhouse.errors import ConnectionEnded, ConnectionPaused, ReauthorizationRequired, TokenUnavailable, Unsealable
from customhouse.providers.catalogue import Catalogue
from customhouse.types import TenantId
from customhouse_sandbox.faults import FaultKind, Operation
from tests.connected import access_token, connect
from tests.integration.refresh.scene import at_once, calls, entries, reply, state
from tests.sandboxes import Sandbox

pytestmark = pytest.mark.anyio


@pytest.fixture
async def zoom(app: App, tenant: TenantId) -> UUID:
    return await connect(app, tenant, "zoom")


async def test_a_reply_with_fewer_scopes_degrades_and_says_which(
    app: App, tenant: TenantId, zoom: UUID, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    reply(sandbox, "zoom", scope="user:read:user")
    await app.refresher.renew(tenant, zoom, generation=1)
    stored = await state(owner, zoom)
    assert (stored["status"], stored["status_reason"], stored["grant_version"]) == ("degraded", "scopes_missing", 2)
    assert stored["granted"] == ["user:read:user"]
    assert len(stored["missing"]) > 1
    assert await access_token(app, tenant, zoom) == "access-of-the-suite"
    # Who is connected can still be told, and the row is still ours.
    assert (await app.grants.of(tenant, [zoom]))[zoom].account_label == "ada@example.com"
    reply(sandbox, "zoom")
    await app.refresher.renew(tenant, zoom, generation=2)
    stored = await state(owner, zoom)
    assert (stored["status"], stored["missing"], stored["grant_version"]) == ("active", [], 3)


async def test_scopes_that_come_back_are_taken_and_told(app: App, tenant: TenantId, sandbox: Sandbox, owner: asyncpg.Connection) -> None:
    sandbox.order("gmail", FaultKind.SCOPE_FEWER, Operation.EXCHANGE, scopes=["openid"])
    gmail = await connect(app, tenant, "gmail")
    before = await state(owner, gmail)
    assert (before["status"], before["missing"]) == ("degraded", ["openid"])
    reply(sandbox, "gmail")
    await app.refresher.renew(tenant, gmail, generation=1)
    after = await state(owner, gmail)
    assert (after["status"], after["status_reason"], after["missing"], after["grant_version"]) == ("active", None, [], 2)
    assert set(after["granted"]) == {*before["granted"], "openid"}
    assert (await entries(owner, "token.refreshed"))[0]["missing"] == []


async def test_a_reply_that_names_no_scopes_leaves_them_as_they_are(
    app: App, tenant: TenantId, zoom: UUID, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    before = await state(owner, zoom)
    sandbox.order("zoom", FaultKind.SCOPE_MISSING, Operation.REFRESH)
    await app.refresher.renew(tenant, zoom, generation=1)
    after = await state(owner, zoom)
    assert (after["status"], after["granted"], after["grant_version"]) == ("active", before["granted"], 1)


@pytest.mark.parametrize(("scope", "reason"), [("meeting:write:meeting", "scope_forbidden"), ("webinar:read:webinar", "scope_wider")])
async def test_a_reply_with_more_than_was_asked_for_is_refused_and_revoked(
    app: App, tenant: TenantId, zoom: UUID, sandbox: Sandbox, owner: asyncpg.Connection, scope: str, reason: str
) -> None:
    scopes = " ".join(one.name for one in Catalogue().get("zoom").scopes)
    reply(sandbox, "zoom", scope=f"{scopes} {scope}")
    with pytest.raises(ReauthorizationRequired) as refused:
        await app.refresher.renew(tenant, zoom, generation=1)
    assert refused.value.reason == reason
    stored = await state(owner, zoom)
    assert (stored["status"], stored["status_reason"], stored["token_generation"]) == ("revoked", reason, None)
    assert [one["reason"] for one in await entries(owner, "renewal.refused")] == [reason]
    assert (await entries(owner, "renewal.refused"))[0]["wider"] == [scope]
    assert any(call.operation == Operation.REVOKE for call in sandbox.calls)
    with pytest.raises(ConnectionEnded):
        await app.refresher.renew(tenant, zoom, generation=1)


async def test_a_manifest_that_grew_or_shrank_since_the_consent_judges_nobody(
    app: App, tenant: TenantId, zoom: UUID, owner: asyncpg.Connection
) -> None:
    old = app.catalogue.get("zoom")
    for scopes in ((*old.scopes, replace(old.scopes[0], name="more")), old.scopes[:-1]):
        catalogue = Catalogue(
            tuple(replace(old, scopes=scopes) if one.id == "zoom" else one for one in app.catalogue.providers),
            app.catalogue.clients,
            app.catalogue.webhook_secrets,
        )
        app.renewing._catalogue = catalogue
        generation = (await state(owner, zoom))["token_generation"]
        await app.refresher.renew(tenant, zoom, generation=generation)
        stored = await state(owner, zoom)
        assert (stored["status"], stored["grant_version"], stored["token_generation"]) == ("active", 1, generation + 1)


async def test_a_reply_without_a_new_refresh_token_asks_the_user_in_time(
    app: App, tenant: TenantId, zoom: UUID, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    sandbox.order("zoom", FaultKind.REFRESH_TOKEN_MISSING, Operation.REFRESH)
    await app.refresher.renew(tenant, zoom, generation=1)
    stored = await state(owner, zoom)
    assert (stored["status"], stored["status_reason"], stored["renewable"]) == ("reauthorization_required", "refresh_token_missing", False)
    # What came is good until it ends.
    assert sandbox.is_live(await access_token(app, tenant, zoom))
    assert len(await entries(owner, "connection.reauthorization_required")) == 1


async def test_google_keeps_the_refresh_token_that_it_has(app: App, tenant: TenantId, sandbox: Sandbox, owner: asyncpg.Connection) -> None:
    gmail = await connect(app, tenant, "gmail")
    for generation in (1, 2, 3):
        await app.refresher.renew(tenant, gmail, generation=generation)
    assert (await state(owner, gmail))["renewable"]
    assert calls(sandbox, 200) == 3


async def test_an_account_whose_api_moves_within_the_provider_goes_on(
    app: App, tenant: TenantId, zoom: UUID, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    reply(sandbox, "zoom", api_url="https://api-us.zoom.us")
    await app.refresher.renew(tenant, zoom, generation=1)
    assert (await state(owner, zoom))["api_origin"] == "https://api-us.zoom.us"
    assert (await entries(owner, "token.refreshed"))[0]["api_host_changed"] is True
    # The MAC covers it: it was written anew.
    with pytest.raises(ReauthorizationRequired):
        await app.refresher.renew(tenant, zoom, generation=2)


async def test_an_api_anywhere_else_is_not_believed(
    app: App, tenant: TenantId, zoom: UUID, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    reply(sandbox, "zoom", api_url="https://zoom.us.evil.example")
    with pytest.raises(TokenUnavailable):
        await app.refresher.renew(tenant, zoom, generation=1)
    assert (await state(owner, zoom))["token_generation"] == 1


@pytest.mark.parametrize("how", ["origin", "scopes", "moved"])
async def test_a_row_that_was_edited_by_hand_is_not_renewed(
    app: App, tenant: TenantId, zoom: UUID, sandbox: Sandbox, owner: asyncpg.Connection, how: str
) -> None:
    if how == "origin":
        await owner.execute("update integration_tokens set api_origin = 'https://other.zoom.us'")
    elif how == "scopes":
        await owner.execute("update connection_grants set granted = array['user:read:user']")
    else:
        await owner.execute("update integration_tokens set token_generation = 7")
    with pytest.raises(Unsealable):
        await app.refresher.renew(tenant, zoom, generation=7)
    assert calls(sandbox) == 0


async def test_what_is_paused_or_has_ended_is_not_renewed(app: App, tenant: TenantId, zoom: UUID, sandbox: Sandbox) -> None:
    await app.grants.pause(tenant, zoom, SYSTEM, paused=True)
    with pytest.raises(ConnectionPaused):
        await app.refresher.renew(tenant, zoom, generation=1)
    await app.ending.disconnect(tenant, zoom, SYSTEM)
    with pytest.raises(ConnectionEnded):
        await app.refresher.renew(tenant, zoom, generation=1)
    assert calls(sandbox) == 0


async def test_a_disconnect_while_the_provider_answers_wins_and_the_new_tokens_are_ended(
    app: App, tenant: TenantId, zoom: UUID, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    held = sandbox.order("zoom", FaultKind.HOLD, Operation.REFRESH)
    reader = asyncio.create_task(app.refresher.renew(tenant, zoom, generation=1))
    await sandbox.holding(held)
    await app.ending.disconnect(tenant, zoom, SYSTEM)
    sandbox.release()
    # There was something to say to neither: it looks again, and finds that the connection has ended.
    await asyncio.wait({reader})
    assert not isinstance(reader.exception(), AssertionError)
    with pytest.raises(ConnectionEnded):
        await app.refresher.renew(tenant, zoom, generation=1)
    stored = await state(owner, zoom)
    assert (stored["status"], stored["token_generation"]) == ("disconnected", None)
    assert not [token for token in sandbox.tokens("zoom") if token.is_live(sandbox.clock.now())]


async def test_a_new_consent_while_the_provider_answers_wins(
    app: App, tenant: TenantId, zoom: UUID, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    held = sandbox.order("zoom", FaultKind.HOLD, Operation.REFRESH)
    reader = asyncio.create_task(app.refresher.renew(tenant, zoom, generation=1))
    await sandbox.holding(held)
    await connect(app, tenant, "zoom", renews=zoom)
    sandbox.release()
    await reader
    stored = await state(owner, zoom)
    assert (stored["status"], stored["token_generation"], stored["grant_version"]) == ("active", 2, 2)
    assert sandbox.is_live(await access_token(app, tenant, zoom))


async def test_an_answer_that_comes_after_all_sets_a_connection_right_again(
    app: App, tenant: TenantId, zoom: UUID, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    held = sandbox.order("zoom", FaultKind.HOLD, Operation.REFRESH)
    reader = asyncio.create_task(app.refresher.renew(tenant, zoom, generation=1))
    await sandbox.holding(held)
    # As another process does that found the lease run out, and got a refusal for the token.
    await owner.execute("update connections set status = 'reauthorization_required', status_reason = 'refresh_reply_lost'")
    sandbox.release()
    await reader
    stored = await state(owner, zoom)
    assert (stored["status"], stored["status_reason"], stored["token_generation"]) == ("active", None, 2)
    await at_once(owner)


async def test_a_new_consent_makes_good_whatever_was_before(
    app: App, tenant: TenantId, zoom: UUID, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    sandbox.withdraw("zoom", "ada")
    with pytest.raises(ReauthorizationRequired):
        await app.refresher.renew(tenant, zoom, generation=1)
    await connect(app, tenant, "zoom", renews=zoom)
    assert (await state(owner, zoom))["status"] == "active"
    await app.refresher.renew(tenant, zoom, generation=2)
    stored = await state(owner, zoom)
    assert (stored["status"], stored["token_generation"], stored["reason"]) == ("active", 3, None)


async def test_a_reply_for_another_account_is_refused(app: App, tenant: TenantId, sandbox: Sandbox, owner: asyncpg.Connection) -> None:
    slack = await connect(app, tenant, "slack")
    said = {"id": "TOTHER", "name": "Other"}
    reply(sandbox, "slack", ok=True, token_type="bot", team=said, authed_user={"id": "UOTHER"}, scope="chat:write,users:read")
    with pytest.raises(ReauthorizationRequired) as refused:
        await app.refresher.renew(tenant, slack, generation=1)
    assert refused.value.reason == "other_account"
    stored = await state(owner, slack)
    assert (stored["status"], stored["status_reason"], stored["token_generation"]) == ("revoked", "other_account", None)
    assert [one["reason"] for one in await entries(owner, "renewal.refused")] == ["other_account"]
