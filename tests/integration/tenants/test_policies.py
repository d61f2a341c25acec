"""Privacy policies: what is narrowed has to be there, and to be one's own."""

from __future__ import annotations

import pytest

from customhouse import ids
from customhouse.app import App
from customhouse.audit.log import SYSTEM
from customhouse.errors import Invalid
from customhouse.types import TenantId
from tests.scenes import connect, make_tenant

pytestmark = pytest.mark.anyio


async def test_a_policy_names_connections_of_its_own_tenant_only(app: App, tenant: TenantId) -> None:
    other = await make_tenant(app, "other")
    own, foreign = [ids.show("con", (await connect(app, one, "http://127.0.0.1:9/")).connection.connection_id) for one in (tenant, other)]
    unknown = ids.show("con", ids.new())

    answers = set()
    for name in (foreign, unknown):
        with pytest.raises(Invalid) as refused:
            await app.policies.put(tenant, ["work_email"], {own: [], name: []}, "remove", SYSTEM)
        [fault] = refused.value.faults
        assert fault.pointer == f"/connections/{name}"
        answers.add(fault.detail)

    assert len(answers) == 1
    assert (await app.policies.get(tenant)).version == 0
    assert (await app.policies.get(other)).version == 0


async def test_a_connection_that_has_ended_may_stay_in_the_policy(app: App, tenant: TenantId) -> None:
    made = (await connect(app, tenant, "http://127.0.0.1:9/")).connection
    await app.endpoints.disconnect(tenant, made.connection_id, SYSTEM)

    kept = await app.policies.put(tenant, ["work_email"], {ids.show("con", made.connection_id): []}, "remove", SYSTEM)

    assert kept.connections == {made.connection_id: frozenset()}
