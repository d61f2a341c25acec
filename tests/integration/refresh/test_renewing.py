"""Renewing access tokens, over every provider of the sandbox that has refresh tokens."""

from __future__ import annotations

import asyncio
from uuid import UUID

import asyncpg
import pytest

from customhouse.app import App
from customhouse.errors import NotFound, ReauthorizationRequired, TokenUnavailable
from customhouse.providers.vocabulary import Rotation
from customhouse.types import TenantId
from customhouse_sandbox.faults import FaultKind, Operation
from customhouse_sandbox.state import Kind
from tests.connected import access_token, connect
from tests.integration.refresh.scene import at_once, calls, entries, state
from tests.sandboxes import Sandbox
from tests.scenes import make_tenant

pytestmark = pytest.mark.anyio

ALL = ("zoom", "gmail", "slack", "hubspot", "pipedrive", "microsoft-teams")


@pytest.fixture(params=ALL)
async def connection(request: pytest.FixtureRequest, app: App, tenant: TenantId) -> tuple[str, UUID]:
    return request.param, await connect(app, tenant, request.param)


async def test_a_renewed_token_works_and_takes_the_place_of_the_old_one(
    app: App, tenant: TenantId, connection: tuple[str, UUID], sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    _, connection_id = connection
    old = await access_token(app, tenant, connection_id)
    await app.refresher.renew(tenant, connection_id, generation=1)
    new = await access_token(app, tenant, connection_id)
    assert new != old
    assert sandbox.is_live(new)
    stored = await state(owner, connection_id)
    assert (stored["status"], stored["token_generation"], stored["grant_version"]) == ("active", 2, 1)
    assert (stored["holder"], stored["lost"], stored["failures"], stored["reason"]) == (None, 0, 0, None)
    assert stored["refreshed_at"] is not None
    await app.refresher.renew(tenant, connection_id, generation=2)
    assert sandbox.is_live(await access_token(app, tenant, connection_id))
    assert calls(sandbox, 200) == 2
    assert len(await entries(owner, "token.refreshed")) == 2


async def test_a_generation_that_is_past_costs_no_call(app: App, tenant: TenantId, connection: tuple[str, UUID], sandbox: Sandbox) -> None:
    _, connection_id = connection
    await app.refresher.renew(tenant, connection_id, generation=0)
    assert calls(sandbox) == 0


async def test_a_hundred_readers_cost_one_call(app: App, tenant: TenantId, connection: tuple[str, UUID], sandbox: Sandbox) -> None:
    name, connection_id = connection
    held = sandbox.order(name, FaultKind.HOLD, Operation.REFRESH)
    readers = [asyncio.create_task(app.refresher.renew(tenant, connection_id, generation=1)) for _ in range(100)]
    await sandbox.holding(held)
    sandbox.release()
    await asyncio.gather(*readers)
    assert calls(sandbox) == 1


async def test_a_connection_of_another_tenant_is_not_there(app: App, connection: tuple[str, UUID], sandbox: Sandbox) -> None:
    other = await make_tenant(app, "other")
    with pytest.raises(NotFound):
        await app.refresher.renew(other, connection[1], generation=1)
    assert calls(sandbox) == 0


async def test_a_grant_that_was_withdrawn_needs_a_new_consent_and_the_host_is_told(
    app: App, tenant: TenantId, connection: tuple[str, UUID], sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    name, connection_id = connection
    # Microsoft says that nobody consented to these scopes.
    reason = "scope_missing" if name == "microsoft-teams" else "grant_ended"
    sandbox.withdraw(name, "ada")
    for _ in range(2):
        with pytest.raises(ReauthorizationRequired) as refused:
            await app.refresher.renew(tenant, connection_id, generation=1)
        assert refused.value.reason == reason
    assert calls(sandbox) == 1
    stored = await state(owner, connection_id)
    assert (stored["status"], stored["status_reason"]) == ("reauthorization_required", reason)
    assert len(await entries(owner, "connection.reauthorization_required")) == 1


async def test_a_provider_that_is_away_marks_nobody_and_is_not_asked_again_at_once(
    app: App, tenant: TenantId, connection: tuple[str, UUID], sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    name, connection_id = connection
    sandbox.order(name, FaultKind.STATUS, Operation.REFRESH, status=503)
    for _ in range(3):
        with pytest.raises(TokenUnavailable) as refused:
            await app.refresher.renew(tenant, connection_id, generation=1)
        assert refused.value.retry_after >= 1
    assert calls(sandbox) == 1
    stored = await state(owner, connection_id)
    assert (stored["status"], stored["reason"], stored["failures"]) == ("active", "provider_unavailable", 1)
    await at_once(owner)
    await app.refresher.renew(tenant, connection_id, generation=1)
    stored = await state(owner, connection_id)
    assert (stored["status"], stored["reason"], stored["failures"], stored["lost"]) == ("active", None, 0, 0)


async def test_an_answer_that_was_lost_is_asked_for_once_more(
    app: App, tenant: TenantId, connection: tuple[str, UUID], sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    name, connection_id = connection
    sandbox.order(name, FaultKind.LOST, Operation.REFRESH)
    with pytest.raises(TokenUnavailable):
        await app.refresher.renew(tenant, connection_id, generation=1)
    assert (await state(owner, connection_id))["lost"] == 1
    await at_once(owner)
    if app.catalogue.get(name).oauth2.refresh.rotation is Rotation.SINGLE_USE:
        # Its refresh tokens are good for one use: the second showing says that the first one was taken.
        with pytest.raises(ReauthorizationRequired) as refused:
            await app.refresher.renew(tenant, connection_id, generation=1)
        assert refused.value.reason == "refresh_reply_lost"
        return
    await app.refresher.renew(tenant, connection_id, generation=1)
    assert (await state(owner, connection_id))["status"] == "active"
    assert sandbox.is_live(await access_token(app, tenant, connection_id))


async def test_an_answer_that_was_lost_before_it_had_an_effect_costs_nothing(
    app: App, tenant: TenantId, connection: tuple[str, UUID], sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    name, connection_id = connection
    sandbox.order(name, FaultKind.UNREACHED, Operation.REFRESH)
    with pytest.raises(TokenUnavailable):
        await app.refresher.renew(tenant, connection_id, generation=1)
    await at_once(owner)
    await app.refresher.renew(tenant, connection_id, generation=1)
    assert sandbox.is_live(await access_token(app, tenant, connection_id))


async def test_expired_tokens_can_be_renewed(app: App, tenant: TenantId, connection: tuple[str, UUID], sandbox: Sandbox) -> None:
    name, connection_id = connection
    sandbox.expire(name, Kind.ACCESS)
    await app.refresher.renew(tenant, connection_id, generation=1)
    assert sandbox.is_live(await access_token(app, tenant, connection_id))


async def test_slacks_other_word_for_a_spent_token_is_believed_when_it_stays(
    app: App, tenant: TenantId, sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    slack = await connect(app, tenant, "slack")
    sandbox.set_fact("slack", "spent_refresh_error", "internal_error")
    sandbox.order("slack", FaultKind.LOST, Operation.REFRESH)
    for _ in range(4):
        with pytest.raises(TokenUnavailable):
            await app.refresher.renew(tenant, slack, generation=1)
        await at_once(owner)
    assert (await state(owner, slack))["status"] == "active"
    await owner.execute("update token_refreshes set lost_since = now() - interval '61 minutes'")
    with pytest.raises(ReauthorizationRequired) as refused:
        await app.refresher.renew(tenant, slack, generation=1)
    assert refused.value.reason == "refresh_reply_lost"
