"""A provider that refuses our registration is not a thousand users who withdrew their consent."""

from __future__ import annotations

import asyncio
import json
from uuid import UUID

import asyncpg
import pytest

from customhouse.app import App
from customhouse.audit.log import SYSTEM
from customhouse.errors import TokenUnavailable
from customhouse.outbound.endpoints import Wish
from customhouse.types import PLATFORM, TenantId
from customhouse_sandbox.faults import FaultKind, Operation
from tests.conftest import NOT_REPEATED
from tests.connected import connect
from tests.integration.refresh.scene import at_once, calls, entries, state
from tests.receivers import Recorder
from tests.sandboxes import Sandbox
from tests.scenes import make_tenant

pytestmark = pytest.mark.anyio


@pytest.fixture
async def three(app: App, tenant: TenantId) -> list[tuple[TenantId, UUID]]:
    other = await make_tenant(app, "other")
    made = [(tenant, await connect(app, tenant, "gmail", account=account)) for account in ("ada", "grace")]
    return [*made, (other, await connect(app, other, "gmail"))]


async def refused(app: App, tenant: TenantId, connection_id: UUID) -> TokenUnavailable:
    with pytest.raises(TokenUnavailable) as raised:
        await app.refresher.renew(tenant, connection_id, generation=1)
    return raised.value


async def test_a_refused_registration_marks_nobody_and_one_call_at_a_time_tries_again(
    app: App, three: list[tuple[TenantId, UUID]], sandbox: Sandbox, owner: asyncpg.Connection, receiver: Recorder
) -> None:
    await app.endpoints.create(PLATFORM, Wish(receiver.url("/operator")), SYSTEM, NOT_REPEATED)
    sandbox.realm_of("gmail").change("gmail", disabled=True)
    for tenant, connection_id in three:
        assert (await refused(app, tenant, connection_id)).retry_after <= 30
    assert calls(sandbox) == 1
    for _, connection_id in three:
        stored = await state(owner, connection_id)
        assert (stored["status"], stored["reason"], stored["holder"]) == ("active", None, None)
    assert len(await entries(owner, "provider.refuses_registration")) == 1
    assert any("gmail" in str(note) for note in (await app.report())["notes"])  # type: ignore[union-attr]
    shown = [await app.endpoints.get(tenant, connection_id) for tenant, connection_id in three]
    assert {one.condition.last_failure for one in shown} == {"application_disabled"}
    told = (await receiver.wait_for(1))[0]
    said = json.loads(told.body)
    assert (said["event_type"], said["data"]["reason"]) == ("customhouse.provider.refuses_registration", "application_disabled")
    # The pause is over: of all that ask, one may.
    await owner.execute("update provider_brakes set until = now()")
    held = sandbox.order("gmail", FaultKind.HOLD, Operation.REFRESH)
    first = asyncio.create_task(app.refresher.renew(*three[0], generation=1))
    await sandbox.holding(held)
    await refused(app, *three[1])
    await refused(app, *three[2])
    sandbox.realm_of("gmail").change("gmail", disabled=False)
    sandbox.release()
    await first
    for tenant, connection_id in three[1:]:
        await app.refresher.renew(tenant, connection_id, generation=1)
    assert calls(sandbox) == 4
    assert len(await entries(owner, "provider.accepts_registration")) == 1
    assert await owner.fetchval("select count(*) from provider_brakes") == 0


async def test_a_grant_that_has_ended_shows_too_that_we_are_accepted_again(
    app: App, three: list[tuple[TenantId, UUID]], sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    sandbox.realm_of("gmail").change("gmail", disabled=True)
    await refused(app, *three[0])
    sandbox.realm_of("gmail").change("gmail", disabled=False)
    sandbox.withdraw("gmail", "ada")
    await owner.execute("update provider_brakes set until = now()")
    with pytest.raises(Exception, match="consent again"):
        await app.refresher.renew(*three[0], generation=1)
    assert await owner.fetchval("select count(*) from provider_brakes") == 0


async def test_a_process_that_dies_over_a_trial_holds_nobody_up_for_long(
    app: App, three: list[tuple[TenantId, UUID]], sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    await app.brakes.pull("gmail", "client_refused")
    await owner.execute("update provider_brakes set until = now()")
    async with app.database.transaction(three[0][0]) as conn:
        assert await app.brakes.pass_by(conn, "gmail")
    assert await owner.fetchval("select until <= now() + interval '90 seconds' from provider_brakes")


async def test_a_request_that_is_refused_as_such_concerns_one_connection(
    app: App, three: list[tuple[TenantId, UUID]], sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    sandbox.order("gmail", FaultKind.REPLY, Operation.REFRESH, body='{"error": "invalid_request"}', status=400)
    await refused(app, *three[0])
    await app.refresher.renew(*three[1], generation=1)
    assert (await state(owner, three[0][1]))["reason"] == "request_refused"
    await at_once(owner)
    await app.refresher.renew(*three[0], generation=1)


async def test_a_provider_that_wants_fewer_calls_is_left_alone_by_what_can_wait(
    app: App, three: list[tuple[TenantId, UUID]], sandbox: Sandbox, owner: asyncpg.Connection
) -> None:
    sandbox.order("gmail", FaultKind.STATUS, Operation.REFRESH, status=429, retry_after=120)
    assert 100 < (await refused(app, *three[0])).retry_after <= 180
    stored = await state(owner, three[0][1])
    assert (stored["status"], stored["reason"], stored["lost"]) == ("active", "rate_limited", 0)
    await owner.execute(
        "update integration_tokens set access_expires_at = now() + interval '1 minute', issued_at = now() - interval '1 hour'"
    )
    await app.keeping.due()
    assert calls(sandbox) == 1
    # Whom a user waits for is asked all the same.
    await app.refresher.renew(*three[1], generation=1)
    assert calls(sandbox) == 2
    await owner.execute("update provider_brakes set until = now()")
    await app.keeping.due()
    assert calls(sandbox) == 3
