"""A connection's own pace: its retry schedule and its rate limit."""

from __future__ import annotations

import asyncpg
import pytest

from customhouse.app import App
from customhouse.audit.log import SYSTEM
from customhouse.config import load
from customhouse.outbound.endpoints import Change
from customhouse.outbound.throttle import Rate
from customhouse.types import TenantId
from tests.conftest import running
from tests.receivers import Recorder, status
from tests.scenes import connect, hasten, make_tenant, publish, settled, until

pytestmark = pytest.mark.anyio

SLOW = Rate(0.1, 2)
"""Two at once, then one in ten seconds."""


@pytest.fixture
def environ(environ: dict[str, str]) -> dict[str, str]:
    return environ | {"CUSTOMHOUSE_WORKER_CONCURRENCY": "4", "CUSTOMHOUSE_CONNECTION_CONCURRENCY": "4"}


@pytest.fixture
async def app(app: App) -> App:
    """A service that has run for long: its buckets are full."""
    app.throttle.share(1, app.clock.monotonic() - 3600, joined=True)
    return app


async def waits(owner: asyncpg.Connection) -> list[float]:
    """The seconds until each waiting delivery is due."""
    rows = await owner.fetch(
        "select extract(epoch from next_at - now())::float8 as wait from delivery_queue where owner is null order by 1"
    )
    return [row["wait"] for row in rows]


async def test_a_connection_is_retried_by_its_own_schedule_to_its_end(
    app: App, tenant: TenantId, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    receiver.answer = status(500)
    made = await connect(app, tenant, receiver.url(), retry_schedule=(1000, 5000))
    assert made.connection.retry_schedule == (1000, 5000)
    await publish(app, tenant)

    for turn, step in enumerate((1000, 5000), 1):

        async def attempted(turn: int = turn) -> bool:
            return bool(await owner.fetchval("select count(*) = $1 from attempts", turn))

        await until(attempted)
        (wait,) = await waits(owner)
        assert 0.8 * step - 60 < wait < 1.2 * step
        await hasten(owner)
    await settled(owner, 1)
    assert await owner.fetchval("select reason from attempts where outcome = 'failed'") == "attempts_exhausted"
    assert len(receiver.received) == 3


async def test_a_schedule_that_is_taken_away_gives_way_to_the_services_own(
    app: App, tenant: TenantId, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    receiver.answer = status(500)
    made = await connect(app, tenant, receiver.url(), retry_schedule=(80_000,))
    changed = await app.endpoints.change(tenant, made.connection.connection_id, Change(retry_schedule=None), SYSTEM)
    assert changed.connection.retry_schedule is None
    await publish(app, tenant)

    async def waiting() -> list[float]:
        return await waits(owner)

    await until(waiting)
    assert (await waits(owner))[0] < 60


async def test_what_is_over_the_limit_waits_uncounted_and_keeps_nobody_else_waiting(
    app: App, tenant: TenantId, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    await connect(app, tenant, receiver.url("/slow"), rate_limit=SLOW, event_types=("slow",))
    await connect(app, tenant, receiver.url("/fast"), event_types=("fast",))
    for _ in range(12):
        await publish(app, tenant, event_type="slow")
    for _ in range(12):
        await publish(app, tenant, event_type="fast")
    await receiver.wait_for(14)

    async def recorded() -> bool:
        return bool(await owner.fetchval("select count(*) = 14 from attempts"))

    await until(recorded)
    assert sorted(one.path for one in receiver.received) == ["/fast"] * 12 + ["/slow"] * 2
    assert await owner.fetchval("select count(*) from delivery_queue where attempts = 0") == 10
    assert await owner.fetchval("select count(*) from delivery_queue where owner is not null") <= 2, "in memory is what soon can go"
    assert app.engine._in_flight == 0


async def test_a_limit_that_is_taken_away_lets_everything_go(
    app: App, tenant: TenantId, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    made = await connect(app, tenant, receiver.url(), rate_limit=SLOW)
    for _ in range(12):
        await publish(app, tenant)
    await receiver.wait_for(2)
    assert made.connection.rate_limit == SLOW
    changed = await app.endpoints.change(tenant, made.connection.connection_id, Change(rate_limit=None), SYSTEM)
    assert changed.connection.rate_limit is None
    await hasten(owner)
    await receiver.wait_for(12)
    await settled(owner, 12)


async def test_deliveries_go_no_faster_than_their_limit(app: App, tenant: TenantId, receiver: Recorder, owner: asyncpg.Connection) -> None:
    await connect(app, tenant, receiver.url(), rate_limit=Rate(40.0, 5))
    begun = app.clock.monotonic()
    for _ in range(45):
        await publish(app, tenant)
    await receiver.wait_for(45)
    assert app.clock.monotonic() - begun >= 1.0
    await settled(owner, 45)
    assert await owner.fetchval("select count(*) from attempts where outcome <> 'delivered'") == 0


async def test_whoever_would_wait_longer_than_a_lease_allows_waits_in_the_database(
    app: App, tenant: TenantId, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    app.throttle.share(1, app.clock.monotonic() + 3600, joined=True)
    await connect(app, tenant, receiver.url(), rate_limit=SLOW)
    await publish(app, tenant)

    async def given_back() -> bool:
        return bool(await owner.fetchval("select owner is null and attempts = 0 and next_at > now() + interval '30 s' from delivery_queue"))

    await until(given_back)
    assert receiver.received == []
    app.throttle.share(1, app.clock.monotonic() - 3600, joined=True)
    await hasten(owner)
    await receiver.wait_for(1)


async def test_limits_of_two_tenants_are_two(app: App, receiver: Recorder, owner: asyncpg.Connection) -> None:
    for name in ("acme", "other"):
        tenant = await make_tenant(app, name)
        await connect(app, tenant, receiver.url(f"/{name}"), rate_limit=SLOW)
        for _ in range(4):
            await publish(app, tenant)
    await receiver.wait_for(4)
    assert sorted(one.path for one in receiver.received) == ["/acme"] * 2 + ["/other"] * 2


async def test_processes_share_a_limit_and_one_that_joins_waits_until_the_others_must_know(
    environ: dict[str, str], app: App, tenant: TenantId, receiver: Recorder
) -> None:
    rate = Rate(10.0, 10)
    assert app.throttle.each(rate) == 0.1
    made = await connect(app, tenant, receiver.url(), rate_limit=rate)
    async with running(load(environ)) as other:
        assert other.throttle.each(rate) == 0.2
        assert other.throttle.take(made.connection.connection_id, rate, other.clock.monotonic()) > 5
        await app.presence.beat()
        assert app.throttle.each(rate) == 0.2
    await app.presence.beat()
    assert app.throttle.each(rate) == 0.1


async def test_two_processes_together_go_no_faster_than_the_limit(
    environ: dict[str, str], app: App, tenant: TenantId, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    await connect(app, tenant, receiver.url(), rate_limit=Rate(40.0, 4))
    async with running(load(environ)) as other:
        for process in (app, other):
            process.throttle.share(2, process.clock.monotonic() - 3600, joined=True)
        begun = app.clock.monotonic()
        for turn in range(44):
            await publish((app, other)[turn % 2], tenant)
        await receiver.wait_for(44)
        assert app.clock.monotonic() - begun >= 1.0
        await settled(owner, 44)
    assert await owner.fetchval("select count(*) from attempts") == 44


@pytest.mark.parametrize(
    "edit", ["rate_per_second = 1000", "rate_burst = 99", "rate_per_second = null, rate_burst = null", "retry_schedule = '{1}'"]
)
async def test_a_pace_that_was_edited_by_hand_sends_nothing(
    app: App, tenant: TenantId, receiver: Recorder, owner: asyncpg.Connection, edit: str
) -> None:
    await connect(app, tenant, receiver.url(), rate_limit=Rate(100.0, 100), retry_schedule=(60,))
    await publish(app, tenant)
    await receiver.wait_for(1)
    await owner.execute(f"update connections set {edit}")
    app.rosters.forget()
    assert (await publish(app, tenant)).deliveries == ()
