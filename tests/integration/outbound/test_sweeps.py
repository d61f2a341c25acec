"""What ends although nobody can send it: deliveries whose time has passed while they were held."""

from __future__ import annotations

import asyncpg
import pytest

from customhouse import ids
from customhouse.app import App
from customhouse.audit.log import SYSTEM
from customhouse.config import load
from customhouse.outbound.endpoints import Change, Made
from customhouse.types import TenantId
from tests.conftest import running
from tests.receivers import Recorder
from tests.scenes import connect, make_tenant, publish, still

pytestmark = pytest.mark.anyio


async def paused(app: App, made: Made) -> None:
    """Let a connection's deliveries be held."""
    await app.endpoints.change(made.connection.tenant_id, made.connection.connection_id, Change(paused=True), SYSTEM)


async def nobody_takes_any(app: App, owner: asyncpg.Connection) -> None:
    """Let the service claim and sweep nothing by itself; what it was about to claim is nobody's."""
    await still(app, "claims", "jobs")
    await owner.execute("update delivery_queue set owner = null, lease_until = null, lease = lease + 1 where owner is not null")


async def test_held_deliveries_expire_in_time_although_nothing_can_be_opened(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    await paused(app, endpoint)
    other = await make_tenant(app, "other")
    await paused(app, await connect(app, other, receiver.url()))
    late = [(await publish(app, one)).deliveries[0][0] for one in (tenant, other)]
    early = (await publish(app, tenant)).deliveries[0][0]
    await nobody_takes_any(app, owner)
    # The sealed bodies are unreadable for good: whoever has to open them could never end these.
    await owner.execute("update payloads set sealed = '\\x00'")
    await owner.execute(
        "update delivery_queue set expires_at = now() where delivery_id = any ($1)", [ids.parse("dlv", one) for one in late]
    )
    assert await app.sweeps.expire() == 2
    assert await app.sweeps.expire() == 0
    for one, (whose, status) in zip((*late, early), ((tenant, "expired"), (other, "expired"), (tenant, "pending")), strict=True):
        delivery, attempts = await app.reads.delivery(whose, ids.parse("dlv", one))
        assert (delivery.status, attempts) == (status, [])
        assert delivery.reason == ("life_exhausted" if status == "expired" else None)
    assert 'customhouse_deliveries_total{outcome="expired"} 2.0' in app.metrics.render().decode()
    assert receiver.received == []


async def test_what_a_process_holds_is_left_to_it(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    await paused(app, endpoint)
    await publish(app, tenant)
    await nobody_takes_any(app, owner)
    await owner.execute(
        "update delivery_queue set owner = $1, lease_until = now() + interval '1 min', expires_at = now() - interval '1 s'", app.process_id
    )
    assert await app.sweeps.expire() == 0
    assert await owner.fetchval("select count(*) from delivery_queue") == 1


async def test_an_expired_head_makes_way_for_the_next_of_its_line(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    await paused(app, endpoint)
    for n in range(4):
        await publish(app, tenant, ordering_key="a", data={"n": n})
    await nobody_takes_any(app, owner)
    # The head, and one in the middle.
    places = [row[0] for row in await owner.fetch("select delivery_id from delivery_queue order by ordering_place")]
    await owner.execute("update delivery_queue set expires_at = now() where delivery_id = any ($1)", [places[0], places[2]])
    assert await app.sweeps.expire() == 2
    assert await owner.fetch("select delivery_id, blocked from delivery_queue order by ordering_place") == [
        (places[1], False), (places[3], True),
    ]  # fmt: skip
    assert await app.sweeps.mend_lines() == 0


@pytest.mark.parametrize("count", [1, 1203])
async def test_a_long_queue_is_ended_in_groups(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection, count: int
) -> None:
    await paused(app, endpoint)
    await publish(app, tenant)
    await nobody_takes_any(app, owner)
    await owner.execute("update delivery_queue set expires_at = now()")
    await owner.execute(
        """
        insert into delivery_queue (tenant_id, delivery_id, event_uid, connection_id, variant, policy_version, next_at, expires_at)
        select tenant_id, (left(delivery_id::text, 24) || lpad(to_hex(n), 12, '0'))::uuid, event_uid, connection_id, variant,
               policy_version, next_at, expires_at
        from delivery_queue, generate_series(2, $1) n
        """,
        count,
    )
    assert await app.sweeps.expire() == count
    assert await owner.fetchval("select count(*) from attempts where outcome = 'expired'") == count


async def test_without_retention_the_payload_ends_with_its_last_delivery(
    environ: dict[str, str], receiver: Recorder, owner: asyncpg.Connection
) -> None:
    async with running(load(environ | {"CUSTOMHOUSE_PAYLOAD_RETENTION": "0"})) as app:
        acme = await make_tenant(app, "acme")
        made = [await connect(app, acme, receiver.url(f"/{n}")) for n in range(2)]
        for one in made:
            await paused(app, one)
        await publish(app, acme, ordering_key="a")
        await nobody_takes_any(app, owner)
        await owner.execute("update delivery_queue set expires_at = now() where connection_id = $1", made[0].connection.connection_id)
        assert await app.sweeps.expire() == 1
        assert await owner.fetchval("select count(*) from payloads") == 1
        await owner.execute("update delivery_queue set expires_at = now()")
        assert await app.sweeps.expire() == 1
        assert await owner.fetchval("select count(*) from payloads") == 0
