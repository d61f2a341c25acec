"""How connections do: what is seen, what is written, who is disabled, and when nobody is."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import asyncpg
import pytest

from customhouse.app import App
from customhouse.audit.log import SYSTEM
from customhouse.config import load
from customhouse.outbound.endpoints import Change, Connection, Made, Wish
from customhouse.outbound.roster import SQL
from customhouse.types import PLATFORM, TenantId
from tests.conftest import NOT_REPEATED, running
from tests.receivers import Recorder, recorder, status
from tests.scenes import connect, hasten, make_tenant, publish, settled, still, until

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
async def no_jobs(app: App) -> None:
    """A periodic job that runs by itself would do what a test counts."""
    await still(app, "jobs")


async def seen(app: App, made: Made, *, failing: bool) -> Connection:
    """Wait until a connection is shown as failing, or as not; return it."""
    found: list[Connection] = []

    async def shown() -> bool:
        found[:] = [await app.endpoints.get(made.connection.tenant_id, made.connection.connection_id)]
        condition = found[0].condition
        return condition.seen_at is not None and (condition.failing_since is not None) == failing

    await until(shown)
    return found[0]


async def age(owner: asyncpg.Connection, since: str) -> None:
    """Let failures have begun long ago."""
    await owner.execute(
        "update connection_health set failing_since = failing_since - $1::text::interval where failing_since is not null", since
    )


async def test_failures_are_seen_with_their_beginning_and_reason_and_a_success_ends_them(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    before = await app.endpoints.get(tenant, endpoint.connection.connection_id)
    assert before.condition.seen_at is None
    receiver.answer = status(503)
    await publish(app, tenant)
    failing = (await seen(app, endpoint, failing=True)).condition
    assert failing.last_failure == "status_503"
    assert failing.failing_since == failing.last_failure_at
    assert failing.last_success_at is None

    receiver.answer = status(204)
    await hasten(owner)
    well = (await seen(app, endpoint, failing=False)).condition
    assert well.last_success_at is not None
    assert failing.last_failure_at is not None
    assert well.last_success_at > failing.last_failure_at
    assert well.last_failure == "status_503", "the last failure stays readable"


async def test_a_healthy_connection_is_not_written_with_each_delivery(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    await publish(app, tenant)
    await seen(app, endpoint, failing=False)
    before = await owner.fetchval("select xmin::text from connection_health")
    for _ in range(20):
        await publish(app, tenant)
    await settled(owner, 21)
    await app.health.flush()
    assert await owner.fetchval("select xmin::text from connection_health") == before


async def test_what_two_processes_see_adds_up(
    environ: dict[str, str], app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    """The news of one is older than the other's: it does not undo it."""
    now = app.clock.now()
    connection_id = endpoint.connection.connection_id
    minute = timedelta(minutes=1)

    async def note(success: int | None, since: int | None, failure: int | None) -> tuple[int | None, int | None, int | None]:
        at = [None if n is None else now + n * minute for n in (success, since, failure)]
        await app.database.call(
            SQL["note_health"], [tenant], [connection_id], *([moment] for moment in at), ["timeout" if failure else None]
        )
        row = await owner.fetchrow("select last_success_at, failing_since, last_failure_at from connection_health")
        assert row is not None
        return tuple(None if moment is None else round((moment - now) / minute) for moment in row)  # type: ignore[return-value]

    assert await note(None, 10, 11) == (None, 10, 11)
    assert await note(None, 8, 9) == (None, 8, 11), "it began earlier than was known"
    assert await note(5, None, None) == (5, 8, 11), "an older success ends nothing"
    assert await note(12, None, None) == (12, None, 11)
    assert await note(None, 6, 7) == (12, None, 11), "an older failure begins nothing"
    assert await note(None, 13, 14) == (12, 13, 14)
    assert await note(16, 17, 18) == (16, 17, 18), "a success between them"


async def test_a_connection_that_fails_for_days_is_disabled_written_down_and_told(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    async with recorder() as operator, recorder() as well:
        await app.endpoints.create(PLATFORM, Wish(operator.url("/us"), ("customhouse.connection.disabled",)), SYSTEM, NOT_REPEATED)
        await connect(app, tenant, well.url())
        receiver.answer = status(500)
        await publish(app, tenant)
        await seen(app, endpoint, failing=True)
        assert await app.disabler.failing() == 0
        await age(owner, "5 days 1 minute")
        assert await app.disabler.failing() == 1
        assert await app.disabler.failing() == 0
        (event,) = await operator.wait_for(1)
        assert b'"reason":"failing"' in event.body
        assert b'"failing_since":' in event.body
        found = await app.endpoints.get(tenant, endpoint.connection.connection_id)
        assert (found.status, found.status_reason) == ("disabled", "failing")
        entry = await owner.fetchrow("select * from audit_entries where tag = 'connection.disabled'")
        assert entry is not None
        assert entry["connection_id"] == endpoint.connection.connection_id
        assert 'customhouse_connections_disabled_total{reason="failing"} 1.0' in app.metrics.render().decode()

        await hasten(owner)
        await settled(owner, 3)
        assert await owner.fetchval("select count(*) from attempts where outcome = 'cancelled'") == 1
        assert len(receiver.received) == 1

        receiver.answer = status(204)
        await app.endpoints.change(tenant, endpoint.connection.connection_id, Change(paused=False), SYSTEM)
        back = await app.endpoints.get(tenant, endpoint.connection.connection_id)
        assert (back.status, back.status_reason, back.condition.seen_at) == ("active", None, None)
        assert await app.disabler.failing() == 0
        await publish(app, tenant)
        await receiver.wait_for(2)
        await seen(app, endpoint, failing=False)


async def test_one_failure_long_ago_and_silence_since_is_not_failing_for_days(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    receiver.answer = status(500)
    await publish(app, tenant)
    await seen(app, endpoint, failing=True)
    await owner.execute(
        "update connection_health set failing_since = now() - interval '9 days', last_failure_at = now() - interval '9 days'"
    )
    assert await app.disabler.failing() == 0


async def test_a_success_between_ends_the_count(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    receiver.answer = status(500)
    await publish(app, tenant)
    await seen(app, endpoint, failing=True)
    await age(owner, "6 days")
    receiver.answer = status(204)
    await hasten(owner)
    await seen(app, endpoint, failing=False)
    assert await app.disabler.failing() == 0


async def test_while_over_half_of_the_connections_in_use_fail_nobody_is_disabled_and_that_is_told_once(
    app: App, tenant: TenantId, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    async with recorder() as operator:
        made = [await connect(app, tenant, receiver.url(f"/{n}")) for n in range(3)]
        other = await make_tenant(app, "other")
        made.append(await connect(app, other, receiver.url("/other")))
        # Nothing was ever sent to these: they say nothing about the network.
        for _ in range(10):
            await connect(app, other, receiver.url("/idle"), event_types=("never.sent",))
        down = {"/0", "/1", "/other"}

        async def answer(request: object) -> bytes:
            return status(500 if request.path in down else 204)  # type: ignore[attr-defined]

        receiver.answer = answer
        await publish(app, tenant)
        await publish(app, other)
        for n, failing in ((0, True), (1, True), (2, False), (3, True)):
            await seen(app, made[n], failing=failing)
        await app.endpoints.create(PLATFORM, Wish(operator.url("/us"), ("*",)), SYSTEM, NOT_REPEATED)
        await age(owner, "6 days")
        assert await app.disabler.failing() == 0
        assert await app.disabler.failing() == 0
        (event,) = await operator.wait_for(1)
        assert b"customhouse.auto_disable.braked" in event.body
        assert b'"failing":3,"tried":4' in event.body
        assert "customhouse_auto_disable_braked_total 2.0" in app.metrics.render().decode()
        assert await owner.fetchval("select count(*) from connections where status = 'disabled'") == 0

        # One is well again: half is not more than half.
        down.remove("/1")
        await hasten(owner)
        await seen(app, made[1], failing=False)
        assert await app.disabler.failing() == 2
        assert await owner.fetchval("select count(*) from brakes") == 0
        await operator.wait_for(3)
        assert sum(b"braked" in one.body for one in operator.received) == 1


async def test_a_tenant_whose_keys_are_gone_keeps_no_other_from_being_disabled(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    async with recorder() as well:
        other = await make_tenant(app, "other")
        failing = await connect(app, other, receiver.url())
        # Enough that work to keep the brake off.
        healthy = [await connect(app, other, well.url(f"/{n}")) for n in range(3)]
        receiver.answer = status(500)
        await publish(app, tenant)
        await publish(app, other)
        for made, fails in ((endpoint, True), (failing, True), *((one, False) for one in healthy)):
            await seen(app, made, failing=fails)
        await age(owner, "6 days")
        await owner.execute("update connection_health set failing_since = failing_since - interval '1 day' where tenant_id = 'acme'")
        await app.vault.destroy_tenant(tenant)
        assert await app.disabler.failing() == 1
        found = await owner.fetch("select tenant_id from connections where status = 'disabled'")
        assert [row["tenant_id"] for row in found] == ["other"]


async def test_the_only_connection_in_use_is_disabled_too_and_a_period_of_zero_disables_nobody(
    environ: dict[str, str], app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    receiver.answer = status(500)
    await publish(app, tenant)
    await seen(app, endpoint, failing=True)
    await age(owner, "30 days")
    async with running(load(environ | {"CUSTOMHOUSE_DISABLE_AFTER": "0"})) as never:
        assert await never.disabler.failing() == 0
    assert await app.disabler.failing() == 1


async def test_another_address_begins_with_a_clean_record(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    receiver.answer = status(500)
    await publish(app, tenant)
    await seen(app, endpoint, failing=True)
    await app.endpoints.change(tenant, endpoint.connection.connection_id, Change(description="the same address"), SYSTEM)
    await seen(app, endpoint, failing=True)
    async with recorder() as moved:
        moved.answer = status(404)
        await app.endpoints.change(tenant, endpoint.connection.connection_id, Change(url=moved.url()), SYSTEM)
        found = await app.endpoints.get(tenant, endpoint.connection.connection_id)
        assert found.condition.seen_at is None
        await hasten(owner)
        assert (await seen(app, endpoint, failing=True)).condition.last_failure == "status_404"


async def test_a_delivery_that_fails_for_good_is_told_with_its_reason_and_an_operational_one_is_not(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    async with recorder() as operator, recorder() as own:
        await app.endpoints.create(PLATFORM, Wish(operator.url("/us"), ("customhouse.delivery.failed",)), SYSTEM, NOT_REPEATED)
        await connect(app, tenant, own.url(), event_types=("customhouse.delivery.*",))
        receiver.answer = status(503)
        accepted = await publish(app, tenant, ordering_key="a", event_id="e-1")
        await publish(app, tenant, ordering_key="a", event_id="e-2")

        async def tried() -> bool:
            return bool(await owner.fetchval("select count(*) = 1 from attempts"))

        await until(tried)
        operator.answer = own.answer = status(500)
        await owner.execute("update delivery_queue set attempts = 8, next_at = now()")
        for heard in (operator, own):
            body = (await heard.wait_for(2))[0].body
            assert b'"event_id":"e-1"' in body
            assert accepted.deliveries[0][0].encode() in body
            assert b'"reason":"attempts_exhausted"' in body
            assert b'"attempts":9' in body
            assert b'"status_code":503' in body
        assert await owner.fetchval("select count(*) from events where event_type = 'customhouse.delivery.failed'") == 4

        # These fail for good as well, and nobody is told: it would never end.

        async def all_ended() -> bool:
            await owner.execute("update delivery_queue set attempts = 8, next_at = now() where owner is null")
            return not await owner.fetchval("select count(*) from delivery_queue")

        await until(all_ended)
        assert await owner.fetchval("select count(*) from events where event_type = 'customhouse.delivery.failed'") == 4
        assert await owner.fetchval("select count(*) from attempts where outcome = 'failed'") == 6


async def test_nobody_is_told_of_a_failure_whose_lease_was_lost(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    async with recorder() as operator:
        await app.endpoints.create(PLATFORM, Wish(operator.url("/us"), ("*",)), SYSTEM, NOT_REPEATED)
        gate = asyncio.Event()

        async def answer(_: object) -> bytes:
            await gate.wait()
            return status(410)

        receiver.answer = answer
        await publish(app, tenant)
        await receiver.wait_for(1)
        await owner.execute("update delivery_queue set lease = lease + 1, next_at = now() + interval '1 h'")
        gate.set()

        async def noticed() -> bool:
            return 'deliveries_total{outcome="lost_lease"} 1.0' in app.metrics.render().decode()

        await until(noticed)
        assert await owner.fetchval("select count(*) from events where event_type like 'customhouse.%'") == 0


async def test_a_failure_that_cannot_be_told_is_written_all_the_same(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    async with recorder() as operator:
        await app.endpoints.create(PLATFORM, Wish(operator.url("/us"), ("customhouse.delivery.failed",)), SYSTEM, NOT_REPEATED)
        # No operational event can be written: the transaction that would tell it is refused.
        await owner.execute("alter table events add check (event_type not like 'customhouse.%') not valid")
        receiver.answer = status(410)
        await publish(app, tenant)

        async def written() -> bool:
            return bool(await owner.fetchval("select count(*) = 1 from attempts where outcome = 'failed'"))

        await until(written)
        assert await owner.fetchval("select count(*) from delivery_queue") == 0
