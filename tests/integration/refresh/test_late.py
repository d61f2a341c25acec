"""Answers that come too late, or twice: what was got is dropped or ended, and never written over something newer."""

from __future__ import annotations

import asyncio
from uuid import UUID

import asyncpg
import pytest

from customhouse.app import App
from customhouse.audit.log import SYSTEM
from customhouse.connections.judging import Ended, Good, Unacceptable
from customhouse.connections.renewing import _SQL
from customhouse.connections.storing import Target
from customhouse.errors import ConnectionEnded, CustomhouseError, NotFound, TokenUnavailable
from customhouse.providers.replies import TokenReply
from customhouse.types import Secret, TenantId
from customhouse_sandbox.faults import FaultKind, Operation
from tests.connected import access_token, connect
from tests.integration.refresh.scene import calls, entries, state
from tests.sandboxes import Sandbox

pytestmark = pytest.mark.anyio

REPLY = TokenReply(Secret(b"access-that-came-late"), Secret(b"refresh-that-came-late"), 3600, None, None, None, None)


async def asked(app: App, tenant: TenantId, connection_id: UUID, sandbox: Sandbox, name: str) -> asyncio.Task[None]:
    """Return a renewal whose call is at the provider, which waits with its effect."""
    held = sandbox.order(name, FaultKind.HOLD, Operation.REFRESH)
    reader = asyncio.create_task(app.refresher.renew(tenant, connection_id, generation=1))
    await sandbox.holding(held)
    return reader


async def test_what_comes_after_a_new_consent_is_dropped_where_to_revoke_it_would_end_the_new_one(
    app: App, tenant: TenantId, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    gmail = await connect(app, tenant, "gmail")
    reader = await asked(app, tenant, gmail, sandbox, "gmail")
    await connect(app, tenant, "gmail", renews=gmail)
    newer = await access_token(app, tenant, gmail)
    sandbox.release()
    await reader
    assert calls(sandbox, 200) == 1
    assert [(one["reason"], one["revoked"]) for one in await entries(owner, "renewal.superseded")] == [("newer_consent", False)]
    assert await access_token(app, tenant, gmail) == newer
    assert sandbox.is_live(newer)
    assert (await state(owner, gmail))["holder"] is None


async def test_what_comes_after_a_disconnect_is_ended_at_the_provider(
    app: App, tenant: TenantId, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    zoom = await connect(app, tenant, "zoom")
    reader = await asked(app, tenant, zoom, sandbox, "zoom")
    # The provider says that it has ended the grant, and has not: so the renewal comes to something.
    sandbox.order("zoom", FaultKind.REVOCATION_LIES, Operation.REVOKE)
    await app.ending.disconnect(tenant, zoom, SYSTEM)
    sandbox.release()
    await asyncio.wait({reader})
    assert [one["reason"] for one in await entries(owner, "renewal.superseded")] == ["connection_ended"]
    # They wait in the place of the tokens that were spent for them, and the disconnect goes on with them.
    await owner.execute("update revocation_escrow set next_at = now()")
    await app.revoker.end_due()
    assert await owner.fetchval("select count(*) from revocation_escrow") == 0
    assert not [token for token in sandbox.tokens("zoom") if token.is_live(sandbox.clock.now())]
    assert (await state(owner, zoom))["token_generation"] is None


async def test_what_cannot_be_ended_at_once_waits_in_escrow(
    app: App, tenant: TenantId, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    zoom = await connect(app, tenant, "zoom")
    reader = await asked(app, tenant, zoom, sandbox, "zoom")
    sandbox.order("zoom", FaultKind.STATUS, Operation.REVOKE, times=None, status=503)
    await app.ending.disconnect(tenant, zoom, SYSTEM)
    sandbox.release()
    await asyncio.wait({reader})
    assert [one["revoked"] for one in await entries(owner, "renewal.superseded")] == [False]
    assert await owner.fetchval("select count(*) from revocation_escrow") == 1
    sandbox.clear()
    await owner.execute("update revocation_escrow set next_at = now()")
    await app.revoker.end_due()
    assert await owner.fetchval("select count(*) from revocation_escrow") == 0
    assert not [token for token in sandbox.tokens("zoom") if token.is_live(sandbox.clock.now())]


async def test_a_commit_whose_answer_was_lost_is_recognised(app: App, tenant: TenantId, owner: asyncpg.Connection) -> None:
    zoom = await connect(app, tenant, "zoom")
    target = await _target(app, tenant, zoom)
    await app.renewing._claim(target)
    await app.settling.settle(target, Good(None), REPLY)
    await app.settling.settle(target, Good(None), REPLY)
    stored = await state(owner, zoom)
    assert (stored["status"], stored["token_generation"]) == ("active", 2)
    assert await entries(owner, "renewal.superseded") == []
    assert await access_token(app, tenant, zoom) == "access-that-came-late"


async def test_a_refusal_of_an_old_token_says_nothing_of_a_newer_one(app: App, tenant: TenantId, owner: asyncpg.Connection) -> None:
    zoom = await connect(app, tenant, "zoom")
    target = await _target(app, tenant, zoom)
    await app.refresher.renew(tenant, zoom, generation=1)
    await app.settling.settle(target, Ended("grant_ended"))
    stored = await state(owner, zoom)
    assert (stored["status"], stored["token_generation"]) == ("active", 2)


async def test_two_answers_for_one_generation_leave_the_first(app: App, tenant: TenantId, owner: asyncpg.Connection) -> None:
    zoom = await connect(app, tenant, "zoom")
    target = await _target(app, tenant, zoom)
    await app.refresher.renew(tenant, zoom, generation=1)
    first = await access_token(app, tenant, zoom)
    await app.settling.settle(target, Good(None), REPLY)
    await app.settling.settle(target, Unacceptable("scope_wider", ("more",)), REPLY)
    assert await access_token(app, tenant, zoom) == first
    assert (await state(owner, zoom))["status"] == "active"
    assert {one["reason"] for one in await entries(owner, "renewal.superseded")} == {"newer_tokens"}


async def test_a_connection_that_ended_before_its_token_was_shown_is_not_asked_for(
    app: App, tenant: TenantId, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    zoom = await connect(app, tenant, "zoom")
    target = await _target(app, tenant, zoom)
    await owner.execute("update connections set status = 'disconnected'")
    with pytest.raises(ConnectionEnded):
        await app.renewing._claim(target)
    await owner.execute("update connections set status = 'active'")
    await owner.execute("update integration_tokens set token_generation = 2")
    assert await app.renewing._claim(target) == (None, False)
    assert calls(sandbox) == 0


async def test_one_of_two_that_claim_gets_the_lease(app: App, tenant: TenantId) -> None:
    zoom = await connect(app, tenant, "zoom")
    targets = [await _target(app, tenant, zoom) for _ in range(2)]
    both = await asyncio.gather(*map(app.renewing._claim, targets))
    assert sorted(journal is None for journal, _ in both) == [False, True]


async def test_a_provider_that_is_not_set_up_any_more_is_said_to_be_away(app: App, tenant: TenantId, owner: asyncpg.Connection) -> None:
    zoom = await connect(app, tenant, "zoom")
    await owner.execute("update connections set provider = 'gone-since'")
    with pytest.raises(TokenUnavailable, match="not set up"):
        await app.refresher.renew(tenant, zoom, generation=1)


async def test_a_surprise_inside_is_an_answer_too_and_tells_nothing(app: App, tenant: TenantId, monkeypatch: pytest.MonkeyPatch) -> None:
    async def surprise(*_: object, **__: object) -> None:
        raise RuntimeError("canary")

    monkeypatch.setattr(app.renewing, "attempt", surprise)
    with pytest.raises(CustomhouseError) as raised:
        await app.refresher.renew(tenant, UUID(int=1), generation=1)
    assert "canary" not in raised.value.detail
    app.refresher.told("not an id")
    monkeypatch.undo()
    with pytest.raises(NotFound):
        await app.refresher.renew(tenant, UUID(int=1), generation=1)


async def _target(app: App, tenant: TenantId, connection_id: UUID) -> Target:
    """Return what a renewal is about to show, as one process found it."""
    async with app.database.transaction(tenant) as conn:
        row = await conn.fetchrow(_SQL["refreshable"], tenant, connection_id)
    assert row is not None
    return await app.renewing._target(tenant, connection_id, row)
