"""What a connection may say about its deliveries: headers, profile, algorithm, filters."""

from __future__ import annotations

import asyncpg
import pytest

from customhouse.app import App
from customhouse.audit.log import SYSTEM
from customhouse.errors import Invalid
from customhouse.outbound.endpoints import Change, Made
from customhouse.types import TenantId
from customhouse_receiver import MemoryReplayCache, Receiver
from tests.receivers import Received, Recorder
from tests.scenes import connect, publish, settled

pytestmark = pytest.mark.anyio

HEADERS = {"Authorization": "Bearer canary-of-the-receiver", "X-Route": "blue green"}


async def delivered(app: App, tenant: TenantId, receiver: Recorder) -> Received:
    """Publish one event and return how it arrived."""
    count = len(receiver.received)
    await publish(app, tenant)
    return (await receiver.wait_for(count + 1))[count]


def verify(secrets: dict[str, str | None], request: Received) -> None:
    """Fail unless a receiver with these secrets takes it."""
    known = {key_id: secret for key_id, secret in secrets.items() if secret is not None}
    Receiver(known, replay=MemoryReplayCache()).verify(request.headers, request.body)


async def test_custom_headers_travel_with_every_delivery_and_lie_sealed(
    app: App, tenant: TenantId, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    made = await connect(app, tenant, receiver.url(), headers=HEADERS)
    request = await delivered(app, tenant, receiver)
    assert (request.headers["authorization"], request.headers["x-route"]) == (HEADERS["Authorization"], HEADERS["X-Route"])
    assert request.headers["content-type"] == "application/json"
    verify({made.key_id: made.secret}, request)
    assert made.connection.header_names == ("Authorization", "X-Route")
    row = await owner.fetchrow("select * from connections")
    assert row is not None
    assert b"canary" not in row["headers_sealed"]
    assert "canary" not in repr(row)
    assert "canary" not in str(await owner.fetch("select detail from audit_entries"))


async def test_headers_are_replaced_kept_and_taken_away(app: App, tenant: TenantId, receiver: Recorder) -> None:
    made = await connect(app, tenant, receiver.url(), headers=HEADERS)
    connection_id = made.connection.connection_id
    kept = await app.endpoints.change(tenant, connection_id, Change(description="x"), SYSTEM)
    assert kept.connection.header_names == ("Authorization", "X-Route")
    await app.endpoints.change(tenant, connection_id, Change(headers={"X-Key": "1"}), SYSTEM)
    request = await delivered(app, tenant, receiver)
    assert ("authorization" in request.headers, request.headers["x-key"]) == (False, "1")
    await app.endpoints.change(tenant, connection_id, Change(headers={}), SYSTEM)
    assert "x-key" not in (await delivered(app, tenant, receiver)).headers


@pytest.mark.parametrize("edit", ["headers_sealed = null", "signature_profile = 'standard-webhooks'", "event_types = '{a}'"])
async def test_a_connection_that_was_edited_by_hand_sends_nothing(
    app: App, tenant: TenantId, receiver: Recorder, owner: asyncpg.Connection, edit: str
) -> None:
    await connect(app, tenant, receiver.url(), headers=HEADERS)
    await delivered(app, tenant, receiver)
    await owner.execute(f"update connections set {edit}")
    app.rosters.forget()
    accepted = await publish(app, tenant)
    assert accepted.deliveries == ()
    assert len(receiver.received) == 1


async def test_disconnecting_takes_the_headers_away(app: App, tenant: TenantId, receiver: Recorder, owner: asyncpg.Connection) -> None:
    made = await connect(app, tenant, receiver.url(), headers=HEADERS)
    await app.endpoints.disconnect(tenant, made.connection.connection_id, SYSTEM)
    assert await owner.fetchval("select headers_sealed from connections") is None
    assert (await app.endpoints.get(tenant, made.connection.connection_id)).header_names == ()


async def test_another_profile_signs_with_the_same_key(app: App, tenant: TenantId, endpoint: Made, receiver: Recorder) -> None:
    connection_id = endpoint.connection.connection_id
    changed = await app.endpoints.change(tenant, connection_id, Change(signature_profile="standard-webhooks"), SYSTEM)
    assert (changed.secret, changed.key_id, changed.connection.signature_profile) == (None, endpoint.key_id, "standard-webhooks")
    request = await delivered(app, tenant, receiver)
    assert "webhook-signature" in request.headers
    assert "x-queast-signature" not in request.headers
    verify({endpoint.key_id: endpoint.secret}, request)


async def test_another_algorithm_makes_a_key_of_its_kind_and_the_old_one_stays_valid(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder
) -> None:
    connection_id = endpoint.connection.connection_id
    to_pair = Change(signature_profile="standard-webhooks", signature_algorithm="v1a")
    pair = await app.endpoints.change(tenant, connection_id, to_pair, SYSTEM)
    assert pair.secret is not None
    assert pair.secret.startswith("whpk_")
    request = await delivered(app, tenant, receiver)
    verify({pair.key_id: pair.secret}, request)
    verify({endpoint.key_id: endpoint.secret}, request)
    assert (await app.endpoints.change(tenant, connection_id, to_pair, SYSTEM)).secret is None, "there is nothing to change"
    back = await app.endpoints.change(tenant, connection_id, Change(signature_profile="queast-v1", signature_algorithm="v1"), SYSTEM)
    request = await delivered(app, tenant, receiver)
    assert request.headers["x-queast-signature-key-id"] == back.key_id
    verify({back.key_id: back.secret}, request)


async def test_a_profile_that_the_keys_do_not_fit_is_refused(app: App, tenant: TenantId, receiver: Recorder) -> None:
    made = await connect(app, tenant, receiver.url(), signature_profile="standard-webhooks", signature_algorithm="v1a")
    with pytest.raises(Invalid) as caught:
        await app.endpoints.change(tenant, made.connection.connection_id, Change(signature_profile="queast-v1"), SYSTEM)
    assert [fault.pointer for fault in caught.value.faults] == ["/signature_algorithm"]


async def test_filters_choose_by_name_by_prefix_and_all(app: App, tenant: TenantId, receiver: Recorder, owner: asyncpg.Connection) -> None:
    for path, patterns in {"/all": ("*",), "/prefix": ("person.*",), "/name": ("person.created", "invoice.paid")}.items():
        await connect(app, tenant, receiver.url(path), event_types=patterns)
    expected = {
        "person.created": {"/all", "/prefix", "/name"},
        "person.address.changed": {"/all", "/prefix"},
        "person": {"/all"},
        "personal.created": {"/all"},
        "invoice.paid": {"/all", "/name"},
        "invoice.paid.late": {"/all"},
    }
    for event_type in expected:
        await publish(app, tenant, event_type=event_type, data={"type": event_type.replace(".", "_")})
    await settled(owner, sum(len(paths) for paths in expected.values()))
    arrived: dict[str, set[str]] = {}
    for request in receiver.received:
        (name,) = [name for name in expected if f'"{name.replace(".", "_")}"'.encode() in request.body]
        arrived.setdefault(name, set()).add(request.path)
    assert arrived == expected
