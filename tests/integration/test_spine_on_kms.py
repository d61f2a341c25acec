"""The whole spine with its root key in AWS KMS: disabled midway, nothing accepted is lost; enabled again, all goes on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pytest

from customhouse.app import App, Store
from customhouse.audit.log import SYSTEM
from customhouse.clock import SystemClock
from customhouse.config import load
from customhouse.errors import KeyServiceUnavailable
from customhouse.outbound.endpoints import Wish
from customhouse.outbound.requests import read
from customhouse.types import JsonObject, TenantId
from customhouse_receiver import MemoryReplayCache, Receiver
from tests.conftest import NOT_REPEATED
from tests.kms import Warden, moto, world_of
from tests.receivers import Recorder

pytestmark = pytest.mark.anyio

TENANT = TenantId("acme")
EVENT: JsonObject = {"event_type": "person.updated", "data": {"person": {"person_id": "p_4711", "work_email": "ada@example.com"}}}


class LaterClock(SystemClock):
    """The machine's clock, with a monotonic time that can be moved on."""

    def __init__(self) -> None:
        self.later = 0.0

    def now(self) -> datetime:
        return super().now()

    def monotonic(self) -> float:
        return super().monotonic() + self.later


@pytest.fixture
def kms() -> Iterator[tuple[str, Warden]]:
    with moto() as found:
        yield found


async def test_a_root_key_that_is_disabled_midway_stops_the_spine_and_loses_nothing(
    kms: tuple[str, Warden], environ: dict[str, str], receiver: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = world_of(*kms, monkeypatch)
    settings = load({**environ, "CUSTOMHOUSE_KMS_KEY": f"aws:{world.arn}"})
    assert settings.database_url is not None
    clock = LaterClock()
    app = await App.open(settings, Store(settings.database_url), clock)
    try:
        await app.start()
        await app.tenants.create(TENANT, "Acme", SYSTEM, NOT_REPEATED)
        endpoint = await app.endpoints.create(TENANT, Wish(receiver.url("/hook")), SYSTEM, NOT_REPEATED)
        first = await app.acceptor.accept(read(EVENT), TENANT, SYSTEM, size_bytes=100)
        await receiver.wait_for(1)

        world.client.disable_key(KeyId=world.key_id)
        second = await app.acceptor.accept(read(EVENT), TENANT, SYSTEM, size_bytes=100)
        await receiver.wait_for(2)  # within the cache time an outage is not noticed
        clock.later += settings.kms_cache_ttl
        with pytest.raises(KeyServiceUnavailable):
            await app.acceptor.accept(read(EVENT), TENANT, SYSTEM, size_bytes=100)
        assert [check.name for check in await app.ready() if not check.ok] == ["key_service"]

        world.client.enable_key(KeyId=world.key_id)
        third = await app.acceptor.accept(read(EVENT), TENANT, SYSTEM, size_bytes=100)
        received = await receiver.wait_for(3)
    finally:
        await app.stop()

    assert endpoint.secret is not None
    customer = Receiver(secrets={endpoint.key_id: endpoint.secret}, replay=MemoryReplayCache())
    seen = {customer.verify(request.headers, request.body).event_id for request in received}
    assert seen == {first.event_id, second.event_id, third.event_id}
    asked = [(operation, call["EncryptionContext"]["tenant_id"]) for operation, call in world.warden.calls if "EncryptionContext" in call]
    assert asked.count(("GenerateDataKey", TENANT)) == 1
    assert {tenant for _, tenant in asked} == {TENANT, "_platform"}
    records = 3 * 2  # payloads and secrets that were sealed and opened
    assert sum(tenant == TENANT for _, tenant in asked) < records


async def test_without_its_root_key_the_service_does_not_start(
    kms: tuple[str, Warden], environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = world_of(*kms, monkeypatch)
    world.client.disable_key(KeyId=world.key_id)
    settings = load({**environ, "CUSTOMHOUSE_KMS_KEY": f"aws:{world.arn}"})
    assert settings.database_url is not None
    app = await App.open(settings, Store(settings.database_url))
    try:
        with pytest.raises(KeyServiceUnavailable, match="disabled: enable it"):
            await app.start()
    finally:
        await app.stop()
