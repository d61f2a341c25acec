"""Leases and lanes: who may send, who takes over, how much at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import asyncpg
import pytest

from customhouse import ids
from customhouse.app import App
from customhouse.audit.log import SYSTEM
from customhouse.config import load
from customhouse.outbound.endpoints import Change, Made
from customhouse.outbound.presence import SILENCE_SECONDS
from customhouse.types import TenantId
from tests.conftest import running
from tests.receivers import Received, Recorder, recorder, status
from tests.scenes import connect, hasten, make_tenant, publish, settled, still, until

pytestmark = pytest.mark.anyio


def gated(gate: asyncio.Event, then: bytes = status(204)) -> Callable[[Received], Awaitable[bytes]]:
    """Answer when the gate opens."""

    async def answer(_: Received) -> bytes:
        await gate.wait()
        return then

    return answer


def metric(app: App, name: str) -> float:
    """Return a sample of a service's own metrics."""
    return next(
        float(line.rpartition(" ")[2]) for line in app.metrics.render().decode().splitlines() if line.startswith(f"customhouse_{name} ")
    )


async def silence(app: App, owner: asyncpg.Connection) -> None:
    """Let a process stop saying that it lives, as one that hangs would, and let that have lasted."""
    for task in app._tasks:
        if task.get_name() in {"presence", "claims"}:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    await owner.execute(
        "update processes set heartbeat_at = now() - make_interval(secs => $2) where process_id = $1", app.process_id, SILENCE_SECONDS + 1
    )


async def test_another_process_takes_over_after_silence_and_the_late_result_is_not_written(
    environ: dict[str, str], app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    gate = asyncio.Event()
    receiver.answer = gated(gate, status(500))
    await publish(app, tenant)
    await receiver.wait_for(1)
    receiver.answer = status(204)
    async with running(load(environ)) as other:
        await silence(app, owner)
        await receiver.wait_for(2)
        await settled(owner, 1)
        assert receiver.received[0].body == receiver.received[1].body
        assert metric(other, "leases_recovered_total") == 1
        gate.set()

        async def noticed() -> bool:
            return metric(app, 'deliveries_total{outcome="lost_lease"}') == 1

        await until(noticed)
    assert [row["outcome"] for row in await owner.fetch("select outcome from attempts")] == ["delivered"]
    assert await owner.fetchval("select count(*) from delivery_queue") == 0


async def test_a_process_that_lives_keeps_its_leases(
    environ: dict[str, str], app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    gate = asyncio.Event()
    receiver.answer = gated(gate)
    await publish(app, tenant)
    await receiver.wait_for(1)
    async with running(load(environ)) as other:
        for _ in range(3):
            await other.presence.beat()
        assert metric(other, "leases_recovered_total") == 0
        assert await owner.fetchval("select owner from delivery_queue") == app.process_id
        gate.set()
        await settled(owner, 1)
    assert len(receiver.received) == 1


async def test_a_lease_past_its_hard_deadline_is_free_even_while_its_owner_lives(
    environ: dict[str, str], app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    gate = asyncio.Event()
    receiver.answer = gated(gate)
    await publish(app, tenant)
    await receiver.wait_for(1)
    receiver.answer = status(204)
    await owner.execute("update delivery_queue set lease_until = now() - interval '1 second'")
    await receiver.wait_for(2)
    gate.set()
    await settled(owner, 1)
    # Both results may have been in one group: that of the lease that ended is not written, and takes nobody along.
    assert await owner.fetchval("select count(*) from attempts") == 1

    async def noticed() -> bool:
        return metric(app, 'deliveries_total{outcome="lost_lease"}') == 1

    await until(noticed)
    assert metric(app, 'deliveries_total{outcome="delivered"}') == 1


async def test_what_waited_through_a_silence_is_given_back_and_not_sent_from_memory(
    environ: dict[str, str], owner: asyncpg.Connection, receiver: Recorder
) -> None:
    gate = asyncio.Event()
    receiver.answer = gated(gate)
    async with running(load(environ | {"CUSTOMHOUSE_CONNECTION_CONCURRENCY": "1"})) as app:
        acme = await make_tenant(app, "acme")
        await connect(app, acme, receiver.url())
        for _ in range(3):
            await publish(app, acme)
        await receiver.wait_for(1)
        app.engine.suspend(suspended=True)
        before = {row[0]: int(row[1]) for row in await owner.fetch("select delivery_id, lease from delivery_queue")}
        app.engine.suspend(suspended=False)

        async def moved_on() -> bool:
            now = {row[0]: row[1] for row in await owner.fetch("select delivery_id, lease from delivery_queue")}
            return sum(int(now.get(key, 0)) > lease for key, lease in before.items()) == 2

        await until(moved_on)
        gate.set()
        await settled(owner, 3)
        assert len(receiver.received) == 3
        assert app.engine._lanes.held == 0


async def test_a_process_that_cannot_show_that_it_lives_starts_nothing(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder
) -> None:
    app.engine.suspend(suspended=True)
    assert app.engine.room == 0
    assert not app.engine.reserve(tenant, endpoint.connection.connection_id)
    await publish(app, tenant)
    assert receiver.received == []
    await app.presence.beat()
    assert await receiver.wait_for(1)


async def test_a_graceful_stop_finishes_what_is_on_the_wire_and_gives_the_rest_back(
    environ: dict[str, str], owner: asyncpg.Connection, receiver: Recorder
) -> None:
    gate = asyncio.Event()
    receiver.answer = gated(gate)
    environ = environ | {"CUSTOMHOUSE_CONNECTION_CONCURRENCY": "2"}
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(running(load(environ)))
        acme = await make_tenant(app, "acme")
        await connect(app, acme, receiver.url())
        for _ in range(8):
            await publish(app, acme)
        await receiver.wait_for(2)
        stopping = asyncio.create_task(stack.aclose())

        async def given_back() -> bool:
            return bool(await owner.fetchval("select count(*) filter (where owner is null and next_at <= now()) = 6 from delivery_queue"))

        await until(given_back)
        assert not stopping.done()
        gate.set()
        await stopping
    assert await owner.fetchval("select count(*) from delivery_queue") == 6
    assert await owner.fetchval("select count(*) from attempts") == 2
    assert await owner.fetchval("select count(*) from processes") == 0
    async with running(load(environ)):
        await settled(owner, 8)
    assert len(receiver.received) == 8
    assert await owner.fetchval("select max(attempt) from attempts") == 1


async def test_two_processes_never_claim_the_same_delivery(
    environ: dict[str, str], app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    app.engine.suspend(suspended=True)
    await asyncio.gather(*(publish(app, tenant) for _ in range(300)))
    app.engine.suspend(suspended=False)
    async with running(load(environ)), running(load(environ)):
        await settled(owner, 300)
    ids_seen = [request.body for request in receiver.received]
    assert len(ids_seen) == len(set(ids_seen)) == 300


async def test_the_dead_are_forgotten_but_not_before_their_leases_are_free(app: App, owner: asyncpg.Connection) -> None:
    gone = ids.new()
    await owner.execute("insert into processes values ($1, now(), now() - interval '1 hour')", gone)
    await app.presence.beat()
    assert [row[0] for row in await owner.fetch("select process_id from processes")] == [app.process_id]


# Lanes ---------------------------------------------------------------------------------------------------------------------------


async def test_one_endpoint_never_gets_more_at_once_than_its_cap_and_others_do_not_wait_for_it(
    environ: dict[str, str], owner: asyncpg.Connection, receiver: Recorder
) -> None:
    gate = asyncio.Event()
    environ = environ | {"CUSTOMHOUSE_CONNECTION_CONCURRENCY": "3", "CUSTOMHOUSE_WORKER_CONCURRENCY": "40"}
    async with running(load(environ)) as app, recorder() as stuck:
        stuck.answer = gated(gate)
        acme, other = await make_tenant(app, "acme"), await make_tenant(app, "other")
        await connect(app, acme, stuck.url())
        await connect(app, acme, receiver.url("/same-tenant"))
        await connect(app, other, receiver.url("/other-tenant"))
        for _ in range(40):
            await asyncio.gather(publish(app, acme), publish(app, other))
        await receiver.wait_for(80)
        assert len(stuck.received) == 3
        gate.set()
        await settled(owner, 120)
        assert stuck.most_in_flight == 3
        assert receiver.most_in_flight <= 6
        assert (len(stuck.received), len(receiver.received)) == (40, 80)
        assert app.engine._lanes.held == app.engine._in_flight == 0


async def test_all_endpoints_together_keep_to_the_cap_of_the_process(
    environ: dict[str, str], owner: asyncpg.Connection, receiver: Recorder
) -> None:
    gate = asyncio.Event()
    receiver.answer = gated(gate)
    async with running(load(environ | {"CUSTOMHOUSE_WORKER_CONCURRENCY": "5"})) as app:
        acme = await make_tenant(app, "acme")
        for number in range(10):
            await connect(app, acme, receiver.url(f"/{number}"))
        for _ in range(5):
            await publish(app, acme)
        await receiver.wait_for(5)
        gate.set()
        await settled(owner, 50)
    assert receiver.most_in_flight <= 5
    assert len(receiver.received) == 50


async def test_no_attempt_starts_after_a_pause_was_answered_in_either_process(
    environ: dict[str, str], app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    async with running(load(environ)) as other:
        for one in (app, other):
            await publish(one, tenant)
        await settled(owner, 2)
        await app.endpoints.change(tenant, endpoint.connection.connection_id, Change(paused=True), SYSTEM)

        async def both_know() -> bool:
            return all((held := one.rosters.held(tenant)) is None or held.version == 3 for one in (app, other))

        await until(both_know, within=1.0)
        for one in (app, other):
            await publish(one, tenant)
        await hasten(owner)
        before = await owner.fetchval("select sum(lease) from delivery_queue")

        async def tried_to_claim() -> bool:
            return bool(await owner.fetchval("select sum(lease) >= $1 + 2 from delivery_queue", before))

        await until(tried_to_claim)
        assert len(receiver.received) == 2


async def test_an_end_that_cannot_be_written_gives_its_place_back_once_and_keeps_no_other_waiting(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    await still(app, "claims", "jobs")
    connection_id = endpoint.connection.connection_id
    await app.endpoints.change(tenant, connection_id, Change(paused=True), SYSTEM)
    gone = await publish(app, tenant)
    await publish(app, tenant)
    await owner.execute("delete from payloads where event_uid = $1", ids.parse("evt", gone.event_id))
    await owner.execute("update delivery_queue set next_at = now() - interval '1 s' where event_uid = $1", ids.parse("evt", gone.event_id))
    await app.endpoints.change(tenant, connection_id, Change(paused=False), SYSTEM)
    # The end of what has no payload any more is refused; the other one goes out as always.
    await owner.execute("alter table attempts add check (outcome <> 'expired') not valid")
    free = app.engine.room
    assert await app._claims.once() == 2
    await receiver.wait_for(1)

    async def all_free() -> bool:
        return app.engine.room == free

    await until(all_free)
