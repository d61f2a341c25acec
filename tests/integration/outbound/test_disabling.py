"""A connection whose endpoint says that it is gone."""

from __future__ import annotations

import asyncpg
import pytest

from customhouse import ids
from customhouse.app import App
from customhouse.audit.log import SYSTEM
from customhouse.outbound.endpoints import Change, Made, Wish
from customhouse.types import PLATFORM, TenantId
from tests.conftest import NOT_REPEATED
from tests.receivers import Recorder, recorder, status
from tests.scenes import publish, settled

pytestmark = pytest.mark.anyio


async def test_a_410_disables_the_connection_writes_it_down_and_tells_the_operator_once(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    connection_id = endpoint.connection.connection_id
    async with recorder() as operator:
        await app.endpoints.create(PLATFORM, Wish(operator.url("/us"), ("customhouse.connection.disabled",)), SYSTEM, NOT_REPEATED)
        receiver.answer = status(410)
        await publish(app, tenant)
        (told,) = await operator.wait_for(1)
        assert b'"reason":"gone"' in told.body
        assert ids.show("con", connection_id).encode() in told.body
        await settled(owner, 2)
        found = await app.endpoints.get(tenant, connection_id)
        assert (found.status, found.status_reason) == ("disabled", "gone")
        assert await owner.fetchval("select count(*) from audit_entries where tag = 'connection.disabled'") == 1
        assert [row["reason"] for row in await owner.fetch("select reason from attempts where outcome = 'failed'")] == ["gone"]

        await publish(app, tenant)
        assert len(receiver.received) == 1, "a disabled connection gets nothing"

        receiver.answer = status(204)
        await app.endpoints.change(tenant, connection_id, Change(paused=False), SYSTEM)
        await publish(app, tenant)
        await receiver.wait_for(2)
        assert len(operator.received) == 1
