"""Event types that operator and tenant both declare."""

from __future__ import annotations

import pytest

from customhouse.app import App
from customhouse.audit.log import SYSTEM
from customhouse.errors import Invalid
from customhouse.outbound.endpoints import Made
from customhouse.types import PLATFORM, JsonObject, TenantId
from tests.scenes import publish

pytestmark = pytest.mark.anyio

STRICT: JsonObject = {"type": "object", "required": ["a"], "properties": {"a": {}, "b": {}}}


async def test_neither_the_operator_nor_the_tenant_takes_back_what_the_other_declared_as_personal(
    app: App, tenant: TenantId, endpoint: Made
) -> None:
    await app.event_types.register(tenant, "both", "", None, {"/a": "phone"}, SYSTEM)
    await app.event_types.register(PLATFORM, "both", "", STRICT, {"/b": "name"}, SYSTEM)
    accepted = await publish(app, tenant, event_type="both", data={"a": "hello", "b": "world", "c": "stays"})
    assert accepted.deliveries[0][2]["removed_fields"] == ["a", "b"]
    with pytest.raises(Invalid):
        await publish(app, tenant, event_type="both", data={"c": "the operator's schema holds"})
