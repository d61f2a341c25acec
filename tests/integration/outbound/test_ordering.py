"""Events with an ordering key: one after the other, whatever happens to them."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from datetime import timedelta

import asyncpg
import pytest

from customhouse import ids
from customhouse.app import App
from customhouse.audit.log import SYSTEM
from customhouse.config import load
from customhouse.errors import IdempotencyConflict, Invalid
from customhouse.outbound.endpoints import Change, Made
from customhouse.outbound.presence import SILENCE_SECONDS
from customhouse.outbound.reads import Search
from customhouse.outbound.requests import read
from customhouse.outbound.roster import SQL
from customhouse.types import JsonObject, TenantId
from tests.conftest import running
from tests.receivers import Received, Recorder, recorder, status
from tests.scenes import connect, hasten, make_tenant, publish, settled, still, until

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
async def no_jobs(app: App) -> None:
    """A periodic job that runs by itself would do what a test counts."""
    await still(app, "jobs")


def numbers(received: list[Received]) -> dict[str, list[int]]:
    """What arrived of each key, in order; `data` says which key and which number."""
    found: dict[str, list[int]] = defaultdict(list)
    for request in received:
        data = json.loads(request.body)["data"]
        found[data["key"]].append(data["n"])
    return found


def firsts(arrived: list[int]) -> list[int]:
    """Return the numbers in the order of their first arrival."""
    return list(dict.fromkeys(arrived))


async def send(app: App, tenant: TenantId, key: str, n: int, **more: object) -> str:
    """Publish number `n` of a key; return its delivery."""
    accepted = await publish(app, tenant, ordering_key=key, data={"key": key, "n": n}, **more)
    return accepted.deliveries[0][0]


async def test_events_of_a_key_arrive_one_after_the_other_and_keys_do_not_wait_for_each_other(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    gate = asyncio.Event()
    under_way: dict[str, int] = defaultdict(int)

    async def answer(request: Received) -> bytes:
        key = json.loads(request.body)["data"]["key"]
        under_way[key] += 1
        assert under_way[key] == 1, "two of one key on the wire"
        if key == "slow":
            await gate.wait()
        under_way[key] -= 1
        return status(204)

    receiver.answer = answer
    for n in range(3):
        await send(app, tenant, "slow", n)
    await asyncio.gather(*(send(app, tenant, key, n) for n in range(20) for key in ("a", "b")))
    await receiver.wait_for(41)
    gate.set()
    await settled(owner, 43)
    assert numbers(receiver.received) == {"slow": [0, 1, 2], "a": list(range(20)), "b": list(range(20))}


async def test_a_retry_holds_up_its_key_alone_and_a_failed_head_releases_the_next(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    refused = {("a", 0)}

    async def answer(request: Received) -> bytes:
        data = json.loads(request.body)["data"]
        return status(500 if (data["key"], data["n"]) in refused else 204)

    receiver.answer = answer
    first = await send(app, tenant, "a", 0)
    for n in (1, 2):
        await send(app, tenant, "a", n)
    await send(app, tenant, "b", 0)

    async def all_wait() -> bool:
        return bool(await owner.fetchrow("select due, waiting, leased from queue_depth_v2()") == (0, 3, 0))

    await receiver.wait_for(2)
    await until(all_wait)
    waiting = await app.reads.deliveries(tenant, Search(status="pending"), 10)
    assert [one.next_attempt_at for one in waiting] == [None, None]
    await owner.execute("update delivery_queue set attempts = 8, next_at = now() where attempts > 0")
    await settled(owner, 4)
    assert numbers(receiver.received) == {"a": [0, 0, 1, 2], "b": [0]}
    delivery, _ = await app.reads.delivery(tenant, ids.parse("dlv", first))
    assert (delivery.status, delivery.reason) == ("failed", "attempts_exhausted")


@pytest.mark.parametrize("ending", ["expired", "cancelled", "gone payload"])
async def test_a_head_that_ends_without_an_attempt_releases_the_next(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection, ending: str
) -> None:
    connection_id = endpoint.connection.connection_id
    await app.endpoints.change(tenant, connection_id, Change(paused=True), SYSTEM)
    await app.policies.put(tenant, ["work_email"], {}, "remove", SYSTEM)
    await send(app, tenant, "a", 0)
    if ending == "cancelled":
        await app.policies.put(tenant, [], {}, "remove", SYSTEM)
    for n in (1, 2):
        await send(app, tenant, "a", n)
    head = "ordering_place = (select min(ordering_place) from delivery_queue)"
    match ending:
        case "expired":
            await owner.execute(f"update delivery_queue set expires_at = now() where {head}")
        case "cancelled":
            pass
        case _:
            await owner.execute(f"delete from payloads where event_uid = (select event_uid from delivery_queue where {head})")
    await app.endpoints.change(tenant, connection_id, Change(paused=False), SYSTEM)
    await hasten(owner)
    await settled(owner, 3)
    assert numbers(receiver.received) == {"a": [1, 2]}
    assert await owner.fetchval("select outcome from attempts where outcome <> 'delivered'") in {"expired", "cancelled"}


async def test_pausing_holds_a_line_and_disconnecting_ends_all_of_it(
    app: App, tenant: TenantId, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    made = await connect(app, tenant, receiver.url())
    connection_id = made.connection.connection_id
    await app.endpoints.change(tenant, connection_id, Change(paused=True), SYSTEM)
    for n in range(4):
        await send(app, tenant, "a", n)
    await app.endpoints.change(tenant, connection_id, Change(paused=False), SYSTEM)
    gate = asyncio.Event()

    async def answer(_: Received) -> bytes:
        await gate.wait()
        return status(204)

    receiver.answer = answer
    await hasten(owner)
    await receiver.wait_for(1)
    await app.endpoints.change(tenant, connection_id, Change(paused=True), SYSTEM)
    gate.set()

    async def held() -> bool:
        return bool(await owner.fetchval("select count(*) = 3 and bool_and(owner is null) and max(lease) >= 2 from delivery_queue"))

    await until(held)
    assert numbers(receiver.received) == {"a": [0]}
    receipt = await app.endpoints.disconnect(tenant, connection_id, SYSTEM)
    assert receipt.deliveries_cancelled == 3
    assert await owner.fetchval("select count(*) from delivery_queue") == 0
    assert len(receiver.received) == 1


async def test_a_delivery_that_is_retried_takes_its_place_before_what_still_waits(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    connection_id = endpoint.connection.connection_id
    receiver.answer = status(500)
    await app.endpoints.change(tenant, connection_id, Change(paused=True), SYSTEM)
    sent = [ids.parse("dlv", await send(app, tenant, "a", n)) for n in range(5)]
    # The first two have failed for good while the third waits for a retry that is hours away.
    await owner.execute("update delivery_queue set attempts = 8 where delivery_id = any ($1)", sent[:2])
    await app.endpoints.change(tenant, connection_id, Change(paused=False), SYSTEM)
    await hasten(owner)

    async def third_failed() -> bool:
        return bool(await owner.fetchval("select attempts = 1 and owner is null from delivery_queue where delivery_id = $1", sent[2]))

    await until(third_failed)
    await owner.execute("update delivery_queue set next_at = now() + interval '4 h' where delivery_id = $1", sent[2])
    assert numbers(receiver.received) == {"a": [0, 1, 2]}

    receiver.answer = status(204)
    since = app.clock.now() - timedelta(hours=1)
    assert (await app.operations.recover(tenant, connection_id, since, None, None, SYSTEM)).queued == 2
    await receiver.wait_for(5)
    await settled_but(owner, 3)
    assert numbers(receiver.received) == {"a": [0, 1, 2, 0, 1]}
    assert await owner.fetchval("select next_at > now() + interval '3 h' from delivery_queue where not blocked")

    await owner.execute("update delivery_queue set next_at = now() where not blocked")
    await settled(owner, 7)
    assert numbers(receiver.received) == {"a": [0, 1, 2, 0, 1, 2, 3, 4]}


async def settled_but(owner: asyncpg.Connection, left: int) -> None:
    """Wait until so many deliveries are left in the queue, none of them in somebody's hands."""

    async def there() -> bool:
        return bool(await owner.fetchval("select count(*) = $1 and bool_and(owner is null) from delivery_queue", left))

    await until(there)


async def test_a_delivery_that_is_retried_does_not_join_the_one_on_the_wire(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    first = ids.parse("dlv", await send(app, tenant, "a", 0))
    await settled(owner, 1)
    gate = asyncio.Event()

    async def answer(_: Received) -> bytes:
        await gate.wait()
        return status(204)

    receiver.answer = answer
    await send(app, tenant, "a", 1)
    await send(app, tenant, "a", 2)
    await receiver.wait_for(2)
    await app.operations.retry(tenant, first, SYSTEM, force=True)
    assert await owner.fetchval("select blocked from delivery_queue where delivery_id = $1", first)
    gate.set()
    await settled(owner, 4)
    assert numbers(receiver.received) == {"a": [0, 1, 0, 2]}


async def test_the_head_of_a_dead_process_is_sent_again_before_the_next(
    environ: dict[str, str], app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    gate = asyncio.Event()

    async def answer(_: Received) -> bytes:
        await gate.wait()
        return status(204)

    receiver.answer = answer
    for n in range(3):
        await send(app, tenant, "a", n)
    await receiver.wait_for(1)
    receiver.answer = status(204)
    async with running(load(environ)):
        for task in app._tasks:
            if task.get_name() in {"presence", "claims"}:
                task.cancel()
        await owner.execute(
            "update processes set heartbeat_at = now() - make_interval(secs => $2) where process_id = $1",
            app.process_id, SILENCE_SECONDS + 1,
        )  # fmt: skip
        await settled(owner, 3)
        gate.set()
    assert numbers(receiver.received) == {"a": [0, 0, 1, 2]}


async def test_two_processes_that_accept_and_send_keep_the_order_of_acceptance(
    environ: dict[str, str], app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    """Each number is published after the one before was answered, by either process; between them both are busy with other keys."""
    wobble = iter(range(10**6))

    async def answer(_: Received) -> bytes:
        await asyncio.sleep(next(wobble) % 3 / 1000)
        return status(500 if next(wobble) % 11 == 0 else 204)

    receiver.answer = answer
    async with running(load(environ)) as other:

        async def publish_all(key: str) -> None:
            for n in range(25):
                await send((app, other)[(n + len(key)) % 2], tenant, key, n)

        keys = [f"key{'x' * length}" for length in range(6)]
        publishing = asyncio.gather(*(publish_all(key) for key in keys))

        async def all_ended() -> bool:
            await hasten(owner)
            return publishing.done() and not await owner.fetchval("select count(*) from delivery_queue")

        await until(all_ended, within=60)
        await publishing
    arrived = numbers(receiver.received)
    assert {key: firsts(arrived[key]) for key in keys} == {key: list(range(25)) for key in keys}
    # A repetition is one of the head: it comes before the next number, never after it.
    assert all(arrived[key] == sorted(arrived[key]) for key in keys)


async def test_calls_at_the_same_time_get_places_in_the_order_in_which_they_came(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    """A large event takes longer to prepare than the small ones behind it."""
    body: JsonObject = {"tenant_id": "acme", "event_type": "order.created", "ordering_key": "a"}
    large: JsonObject = {"key": "a", "n": 0, "notes": ["x" * 100] * 400}
    calls: list[JsonObject] = [body | {"data": large}, *(body | {"data": {"key": "a", "n": n}} for n in range(1, 30))]
    await asyncio.gather(*(app.acceptor.accept(read(call), tenant, SYSTEM, size_bytes=len(json.dumps(call))) for call in calls))
    await settled(owner, 30)
    assert numbers(receiver.received) == {"a": list(range(30))}


async def test_each_connection_has_a_line_of_its_own(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    async with recorder() as dead:
        dead.answer = status(500)
        await connect(app, tenant, dead.url())
        for n in range(5):
            await send(app, tenant, "a", n)
        await receiver.wait_for(5)
        await settled_but(owner, 5)
        assert numbers(receiver.received) == {"a": [0, 1, 2, 3, 4]}
        assert numbers(dead.received) == {"a": [0]}


async def test_the_key_is_stored_as_a_keyed_hash_of_its_tenant_and_belongs_to_what_the_event_says(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    other = await make_tenant(app, "other")
    await connect(app, other, receiver.url())
    for one in (tenant, other):
        await send(app, one, "customer-7", 0, idempotency_key="k-1")
    await settled(owner, 2)
    keys = [bytes(row[0]) for row in await owner.fetch("select ordering_key from events")]
    assert len(set(keys)) == 2
    assert {len(key) for key in keys} == {32}
    with pytest.raises(IdempotencyConflict):
        await send(app, tenant, "customer-8", 0, idempotency_key="k-1")
    for wrong in ("", "a b", "x" * 129, "ada@example.com", 7):
        with pytest.raises(Invalid):
            await send(app, tenant, wrong, 0)  # type: ignore[arg-type]


async def test_a_line_that_lost_its_head_gets_another(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    await app.endpoints.change(tenant, endpoint.connection.connection_id, Change(paused=True), SYSTEM)
    for n in range(3):
        await send(app, tenant, "a", n)
    await owner.execute("delete from delivery_queue where not blocked")
    await send(app, tenant, "a", 3)
    await app.endpoints.change(tenant, endpoint.connection.connection_id, Change(paused=False), SYSTEM)
    assert [row["tenant_id"] for row in await app.database.call(SQL["stalled_lines"], 10)] == ["acme"]
    assert await app.sweeps.mend_lines() == 1
    await settled(owner, 3)
    assert numbers(receiver.received) == {"a": [1, 2, 3]}


async def test_a_backlog_of_one_key_is_not_read_again_and_again(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    """What waits behind a head is in no index that a claim reads."""
    receiver.answer = status(500)
    await asyncio.gather(*(send(app, tenant, "a", n) for n in range(50)))

    async def tried() -> bool:
        return bool(await owner.fetchval("select count(*) = 1 from attempts"))

    await until(tried)
    definition = await owner.fetchval(
        "select pg_get_expr(indpred, indrelid) from pg_index where indexrelid = 'delivery_queue_next'::regclass"
    )
    assert definition == "((owner IS NULL) AND (NOT blocked))"
    assert await owner.fetchval("select count(*) from delivery_queue where owner is null and not blocked") == 1
