"""The thinnest true path: accept, seal, sign, deliver, verify."""

from __future__ import annotations

import pytest

from customhouse.app import App
from customhouse.audit.log import SYSTEM
from customhouse.outbound.endpoints import Made
from customhouse.outbound.requests import read
from customhouse.types import JsonObject, TenantId
from customhouse_receiver import MemoryReplayCache, Receiver
from tests.receivers import Recorder

pytestmark = pytest.mark.anyio


async def test_an_accepted_event_arrives_signed_verified_and_without_what_the_policy_holds_back(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder
) -> None:
    body: JsonObject = {
        "event_type": "person.updated",
        "data": {"person": {"person_id": "p_4711", "work_email": "ada@example.com", "phone": "+49 151 12345678"}},
    }
    accepted = await app.acceptor.accept(read(body), tenant, SYSTEM, size_bytes=200)

    (request,) = await receiver.wait_for(1)
    assert endpoint.secret is not None
    event = Receiver(secrets={endpoint.key_id: endpoint.secret}, replay=MemoryReplayCache()).verify(request.headers, request.body)
    assert event.event_id == accepted.event_id
    assert event.data == {"person": {"person_id": "p_4711", "work_email": "ada@example.com"}}
    assert b"12345678" not in request.body
    (delivery,) = accepted.deliveries
    assert delivery[2] == {
        "contains_pii": True,
        "pii_fields": ["person.work_email"],
        "removed_fields": ["person.phone"],
        "policy": "tenant:0",
    }
