"""Sending again, bringing back, testing, looking: what people do with deliveries after the engine is done with them."""

from __future__ import annotations

import asyncio
import hashlib
import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from customhouse import ids
from customhouse.app import App
from customhouse.audit.log import SYSTEM, Filter, read
from customhouse.config import load
from customhouse.errors import Conflict, IdempotencyConflict, Invalid, NotFound, PayloadExpired, Unsealable
from customhouse.outbound.endpoints import Change, Made
from customhouse.outbound.operations import Recovered
from customhouse.outbound.reads import Attempt, Delivery, Search
from customhouse.tenants.idempotency import Once
from customhouse.types import TenantId
from tests.conftest import running
from tests.receivers import Recorder, recorder, status
from tests.scenes import NOT_REPEATED, connect, hasten, make_tenant, publish, settled, until

pytestmark = pytest.mark.anyio


async def one(app: App, tenant: TenantId, delivery_id: UUID) -> tuple[Delivery, list[Attempt]]:
    return await app.reads.delivery(tenant, delivery_id)


async def reaches(app: App, tenant: TenantId, delivery_id: UUID, word: str) -> list[Attempt]:
    async def there() -> bool:
        return (await one(app, tenant, delivery_id))[0].status == word

    await until(there)
    return (await one(app, tenant, delivery_id))[1]


async def failed(app: App, tenant: TenantId, receiver: Recorder, **body: Any) -> UUID:
    """Publish an event whose delivery fails at once, and return the delivery."""
    receiver.answer = status(500)
    accepted = await publish(app, tenant, **body)
    delivery_id = ids.parse("dlv", accepted.deliveries[0][0])
    await reaches(app, tenant, delivery_id, "retrying")
    return delivery_id


async def end(owner: asyncpg.Connection, *delivery_ids: UUID, outcome: str = "failed", ago: timedelta = timedelta()) -> None:
    """End deliveries that wait as if their last attempt had been `ago`, in the way that the engine records it."""
    for delivery_id in delivery_ids:
        tenant, made = await owner.fetchrow("delete from delivery_queue where delivery_id = $1 returning tenant_id, attempts", delivery_id)
        await owner.execute("update attempts set at = at - $2::interval where delivery_id = $1", delivery_id, ago)
        await owner.execute(
            "insert into attempts (tenant_id, delivery_id, attempt, attempt_id, outcome, reason, sent, at)"
            " values ($1, $2, $3, $4, $5, 'by_test', false, now() - $6::interval)",
            tenant, delivery_id, made + 1, ids.new(), outcome, ago,
        )  # fmt: skip


async def tags_of(app: App, tenant: TenantId) -> list[str]:
    async with app.database.transaction(tenant) as conn:
        return [entry.tag for entry in await read(conn, tenant, Filter())]


# Retry ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["failed", "cancelled", "expired"])
async def test_a_delivery_that_ended_unhappily_is_sent_again_with_the_same_bytes_and_counts_on(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection, outcome: str
) -> None:
    delivery_id = await failed(app, tenant, receiver)
    await end(owner, delivery_id, outcome=outcome)
    receiver.answer = status(204)
    await app.operations.retry(tenant, delivery_id, SYSTEM, force=False)
    attempts = await reaches(app, tenant, delivery_id, "delivered")
    assert [(attempt.outcome, attempt.status_code) for attempt in attempts] == [("retrying", 500), ("delivered", 204)]
    numbers = [row["attempt"] for row in await owner.fetch("select attempt from attempts order by attempt")]
    assert numbers == [1, 2, 3]
    first, second = receiver.received
    assert first.body == second.body
    assert "delivery.retried" in await tags_of(app, tenant)


async def test_a_delivery_in_the_queue_is_not_queued_twice(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    delivery_id = await failed(app, tenant, receiver)
    with pytest.raises(Conflict, match="queue already"):
        await app.operations.retry(tenant, delivery_id, SYSTEM, force=True)
    await end(owner, delivery_id)
    receiver.answer = status(204)
    tries = [app.operations.retry(tenant, delivery_id, SYSTEM, force=False) for _ in range(5)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert [result for result in results if result is not None and not isinstance(result, Conflict)] == []
    assert results.count(None) == 1
    await reaches(app, tenant, delivery_id, "delivered")
    assert len(receiver.received) == 2


async def test_what_was_delivered_is_sent_again_by_force_only(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    accepted = await publish(app, tenant)
    delivery_id = ids.parse("dlv", accepted.deliveries[0][0])
    await settled(owner, 1)
    with pytest.raises(Conflict, match="force"):
        await app.operations.retry(tenant, delivery_id, SYSTEM, force=False)
    await app.operations.retry(tenant, delivery_id, SYSTEM, force=True)
    await receiver.wait_for(2)
    await settled(owner, 2)
    assert receiver.received[0].body == receiver.received[1].body


async def test_a_delivery_of_a_connection_that_is_gone_or_of_nobody_is_not_retried(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    delivery_id = await failed(app, tenant, receiver)
    await end(owner, delivery_id)
    other = await make_tenant(app, "other")
    for whose, which in ((other, delivery_id), (tenant, ids.new())):
        with pytest.raises(NotFound):
            await app.operations.retry(whose, which, SYSTEM, force=True)
    await app.endpoints.disconnect(tenant, endpoint.connection.connection_id, SYSTEM)
    with pytest.raises(Conflict, match="disconnected"):
        await app.operations.retry(tenant, delivery_id, SYSTEM, force=True)
    assert await owner.fetchval("select count(*) from delivery_queue") == 0


async def test_a_retry_of_a_paused_connection_is_held(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    delivery_id = await failed(app, tenant, receiver)
    await end(owner, delivery_id)
    await app.endpoints.change(tenant, endpoint.connection.connection_id, Change(paused=True), SYSTEM)
    await app.operations.retry(tenant, delivery_id, SYSTEM, force=False)
    receiver.answer = status(204)
    assert len(receiver.received) == 1
    await app.endpoints.change(tenant, endpoint.connection.connection_id, Change(paused=False), SYSTEM)

    async def came() -> bool:
        await hasten(owner)
        return len(receiver.received) == 2

    await until(came)
    await reaches(app, tenant, delivery_id, "delivered")


async def test_an_exhausted_schedule_leaves_one_attempt_per_retry(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    delivery_id = await failed(app, tenant, receiver)
    await owner.execute("update delivery_queue set attempts = 8, next_at = now()")
    await reaches(app, tenant, delivery_id, "failed")
    await app.operations.retry(tenant, delivery_id, SYSTEM, force=False)
    await receiver.wait_for(3)
    await reaches(app, tenant, delivery_id, "failed")
    assert await owner.fetchval("select max(attempt) from attempts") == 10


async def test_a_body_that_is_not_the_one_of_the_first_attempt_is_not_sent(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    delivery_id = await failed(app, tenant, receiver)
    await end(owner, delivery_id)
    await owner.execute("update attempts set body_sha256 = $1 where body_sha256 is not null", bytes(32))
    await app.operations.retry(tenant, delivery_id, SYSTEM, force=False)
    await reaches(app, tenant, delivery_id, "failed")
    assert (await one(app, tenant, delivery_id))[0].reason == "body_changed"
    assert len(receiver.received) == 1


async def test_a_late_result_from_before_the_retry_writes_nothing(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    delivery_id = await failed(app, tenant, receiver)
    highest = await owner.fetchval("select lease from delivery_queue")
    await end(owner, delivery_id)
    await app.endpoints.change(tenant, endpoint.connection.connection_id, Change(paused=True), SYSTEM)
    await app.operations.retry(tenant, delivery_id, SYSTEM, force=False)
    assert await owner.fetchval("select lease from delivery_queue") > highest + 1_000_000


async def test_a_delivery_that_is_held_expires_at_the_end_of_its_life_and_can_be_brought_back(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    delivery_id = await failed(app, tenant, receiver)
    await app.endpoints.change(tenant, endpoint.connection.connection_id, Change(paused=True), SYSTEM)
    await owner.execute("update delivery_queue set expires_at = now(), next_at = now() where owner is null")
    await reaches(app, tenant, delivery_id, "expired")
    assert (await one(app, tenant, delivery_id))[0].reason == "life_exhausted"
    assert len(receiver.received) == 1
    await app.operations.retry(tenant, delivery_id, SYSTEM, force=False)
    assert (await one(app, tenant, delivery_id))[0].status in {"retrying", "delivering"}


# Retention ----------------------------------------------------------------------------------------------------------------


async def test_a_payload_ends_exactly_its_retention_after_the_last_delivery_although_it_is_still_there(
    environ: dict[str, str], receiver: Recorder, owner: asyncpg.Connection
) -> None:
    environ["CUSTOMHOUSE_PAYLOAD_RETENTION"] = "1h"
    async with running(load(environ)) as app:
        tenant = await make_tenant(app, "acme")
        await connect(app, tenant, receiver.url("/a"))
        early, late = [await failed(app, tenant, receiver) for _ in range(2)]
        await end(owner, early, ago=timedelta(hours=1))
        await end(owner, late, ago=timedelta(minutes=59, seconds=30))
        assert await owner.fetchval("select count(*) from payloads") == 2
        with pytest.raises(PayloadExpired):
            await app.operations.retry(tenant, early, SYSTEM, force=False)
        with pytest.raises(PayloadExpired):
            await app.payloads.view(tenant, early, "support case 4711", SYSTEM)
        assert (await app.payloads.view(tenant, late, "support case 4711", SYSTEM)).body == receiver.received[1].body
        await app.operations.retry(tenant, late, SYSTEM, force=False)


async def test_a_payload_is_kept_while_another_delivery_of_it_waits(
    environ: dict[str, str], receiver: Recorder, owner: asyncpg.Connection
) -> None:
    environ["CUSTOMHOUSE_PAYLOAD_RETENTION"] = "1h"
    receiver.answer = status(500)
    async with running(load(environ)) as app:
        tenant = await make_tenant(app, "acme")
        for path in ("/a", "/b"):
            await connect(app, tenant, receiver.url(path))
        accepted = await publish(app, tenant)
        ended, waiting = [ids.parse("dlv", shown) for shown, _, _ in accepted.deliveries]
        for delivery_id in (ended, waiting):
            await reaches(app, tenant, delivery_id, "retrying")
        await end(owner, ended, ago=timedelta(hours=2))
        await app.operations.retry(tenant, ended, SYSTEM, force=False)
        assert (await one(app, tenant, ended))[0].status in {"retrying", "delivering"}


async def test_where_payloads_are_not_kept_nothing_is_retried_or_shown(
    environ: dict[str, str], receiver: Recorder, owner: asyncpg.Connection
) -> None:
    environ["CUSTOMHOUSE_PAYLOAD_RETENTION"] = "0"
    async with running(load(environ)) as app:
        tenant = await make_tenant(app, "acme")
        await connect(app, tenant, receiver.url("/a"))
        delivery_id = await failed(app, tenant, receiver)
        await owner.execute("update delivery_queue set attempts = 8, next_at = now()")
        await reaches(app, tenant, delivery_id, "failed")
        with pytest.raises(PayloadExpired):
            await app.operations.retry(tenant, delivery_id, SYSTEM, force=False)
        with pytest.raises(PayloadExpired):
            await app.payloads.view(tenant, delivery_id, "support case 4711", SYSTEM)


# Recover ------------------------------------------------------------------------------------------------------------------


async def test_recover_brings_back_what_was_missed_in_a_period_and_only_that(
    app: App, tenant: TenantId, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    made = await connect(app, tenant, receiver.url("/a"))
    begin = app.clock.now() - timedelta(seconds=1)
    fell = [await failed(app, tenant, receiver) for _ in range(5)]
    await end(owner, *fell[:2])
    await end(owner, fell[2], outcome="expired")
    await end(owner, fell[3], outcome="cancelled")
    waiting = fell[4]
    receiver.answer = status(204)
    done = ids.parse("dlv", (await publish(app, tenant)).deliveries[0][0])
    await reaches(app, tenant, done, "delivered")
    connection_id = made.connection.connection_id
    later = ids.made_at(fell[1])
    assert await app.operations.recover(tenant, connection_id, begin, later, None, SYSTEM) == Recovered(1, 0, more=False)
    assert await app.operations.recover(tenant, connection_id, begin, None, None, SYSTEM) == Recovered(2, 0, more=False)
    for delivery_id in fell[:3]:
        await reaches(app, tenant, delivery_id, "delivered")
    assert await app.operations.recover(tenant, connection_id, begin, None, None, SYSTEM) == Recovered(0, 0, more=False)
    assert (await one(app, tenant, fell[3]))[0].status == "cancelled"
    assert (await one(app, tenant, waiting))[0].status == "retrying"
    assert await app.operations.recover(tenant, connection_id, begin, None, "cancelled", SYSTEM) == Recovered(1, 0, more=False)
    await reaches(app, tenant, fell[3], "delivered")
    assert (await tags_of(app, tenant)).count("connection.recovered") == 4


async def test_recover_goes_on_where_a_bounded_call_stopped(
    app: App, tenant: TenantId, receiver: Recorder, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await connect(app, tenant, receiver.url("/a"))
    fell = [await failed(app, tenant, receiver) for _ in range(7)]
    await app.endpoints.change(tenant, made.connection.connection_id, Change(paused=True), SYSTEM)
    await end(owner, *fell)
    monkeypatch.setattr("customhouse.outbound.operations._AT_ONCE", 2)
    monkeypatch.setattr("customhouse.outbound.operations.MOST_RECOVERED", 5)
    since = app.clock.now() - timedelta(hours=1)
    calls = [await app.operations.recover(tenant, made.connection.connection_id, since, None, None, SYSTEM) for _ in range(3)]
    assert calls == [Recovered(5, 0, more=True), Recovered(2, 0, more=False), Recovered(0, 0, more=False)]
    assert {row[0] for row in await owner.fetch("select delivery_id from delivery_queue")} == set(fell)


async def test_recover_counts_what_is_past_its_retention(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    fresh, old = [await failed(app, tenant, receiver) for _ in range(2)]
    await end(owner, fresh)
    await end(owner, old, ago=timedelta(hours=72))
    receiver.answer = status(204)
    since = app.clock.now() - timedelta(days=30)
    done = await app.operations.recover(tenant, endpoint.connection.connection_id, since, None, "failed", SYSTEM)
    assert done == Recovered(1, 1, more=False)


async def test_recover_refuses_an_empty_period_and_what_is_not_there(app: App, tenant: TenantId, endpoint: Made) -> None:
    now, connection_id = app.clock.now(), endpoint.connection.connection_id
    for since, until_ in ((now, now), (now + timedelta(days=1), None)):
        with pytest.raises(Invalid):
            await app.operations.recover(tenant, connection_id, since, until_, None, SYSTEM)
    with pytest.raises(NotFound):
        await app.operations.recover(tenant, ids.new(), now - timedelta(days=1), None, None, SYSTEM)
    await app.endpoints.disconnect(tenant, connection_id, SYSTEM)
    with pytest.raises(Conflict):
        await app.operations.recover(tenant, connection_id, now - timedelta(days=1), None, None, SYSTEM)


# Test -----------------------------------------------------------------------------------------------------------------------


async def test_a_ping_reaches_one_connection_whatever_it_subscribed_to(
    app: App, tenant: TenantId, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    async with recorder() as bystander:
        await connect(app, tenant, bystander.url("/all"), event_types=("*", "customhouse.ping"))
        made = await connect(app, tenant, receiver.url("/hook"), event_types=("order.created",))
        delivery_id = await app.operations.test(tenant, made.connection.connection_id, SYSTEM, NOT_REPEATED)
        (request,) = await receiver.wait_for(1)
        await reaches(app, tenant, delivery_id, "delivered")
        said = json.loads(request.body)
        shown = ids.show("con", made.connection.connection_id)
        assert (said["event_type"], said["integration"]["connection_id"]) == ("customhouse.ping", shown)
        assert said["data"] == {"tenant_id": "acme", "connection_id": shown}
        assert said["privacy"] == {"contains_pii": False, "pii_fields": [], "removed_fields": [], "policy": "tenant:0"}
        assert request.headers["x-queast-signature"].startswith("v1=")
        event = await app.reads.event(tenant, said["event_id"])
        assert [each.delivery_id for each in event.deliveries] == [delivery_id]
        assert bystander.received == []


async def test_a_ping_is_sent_once_per_idempotency_key(app: App, tenant: TenantId, endpoint: Made, receiver: Recorder) -> None:
    connection_id = endpoint.connection.connection_id
    once = await Once.prepare(app.vault, tenant, "connections.test", "k-1", connection_id.bytes)
    first = await app.operations.test(tenant, connection_id, SYSTEM, once)
    assert await app.operations.test(tenant, connection_id, SYSTEM, once) == first
    other = await connect(app, tenant, receiver.url("/b"))
    body = await Once.prepare(app.vault, tenant, "connections.test", "k-1", other.connection.connection_id.bytes)
    with pytest.raises(IdempotencyConflict):
        await app.operations.test(tenant, other.connection.connection_id, SYSTEM, body)
    await reaches(app, tenant, first, "delivered")
    assert len(await app.reads.deliveries(tenant, Search(), 10)) == 1


async def test_a_connection_that_cannot_be_sent_to_is_not_tested(app: App, tenant: TenantId, endpoint: Made) -> None:
    connection_id = endpoint.connection.connection_id
    await app.endpoints.change(tenant, connection_id, Change(paused=True), SYSTEM)
    with pytest.raises(Conflict, match="paused"):
        await app.operations.test(tenant, connection_id, SYSTEM, NOT_REPEATED)
    with pytest.raises(NotFound):
        await app.operations.test(tenant, ids.new(), SYSTEM, NOT_REPEATED)
    assert await app.reads.deliveries(tenant, Search(), 10) == []


# Payloads -------------------------------------------------------------------------------------------------------------------


async def test_a_payload_is_shown_as_it_was_sent_and_the_ledger_says_who_looked_and_why(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder
) -> None:
    accepted = await publish(app, tenant)
    (request,) = await receiver.wait_for(1)
    delivery_id = ids.parse("dlv", accepted.deliveries[0][0])
    seen = await app.payloads.view(tenant, delivery_id, "  support case 4711 ", SYSTEM)
    assert seen.body == request.body
    assert seen.sha256 == hashlib.sha256(request.body).hexdigest()
    assert "order" not in repr(seen)
    async with app.database.transaction(tenant) as conn:
        entries = await read(conn, tenant, Filter(tag="payload.viewed"))
    assert [(entry.entry_id, entry.subject, entry.detail) for entry in entries] == [
        (seen.audit_entry_id, accepted.deliveries[0][0], {"reason": "support case 4711"})
    ]


async def test_a_payload_is_not_shown_without_an_acceptable_reason_or_to_another_tenant(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder
) -> None:
    delivery_id = ids.parse("dlv", (await publish(app, tenant)).deliveries[0][0])
    for reason in ("", "  x ", "a\nb c", "x" * 201, "asked by ada@example.com"):
        with pytest.raises(Invalid):
            await app.payloads.view(tenant, delivery_id, reason, SYSTEM)
    other = await make_tenant(app, "other")
    with pytest.raises(NotFound):
        await app.payloads.view(other, delivery_id, "support case", SYSTEM)
    assert "payload.viewed" not in await tags_of(app, tenant)


async def test_a_payload_that_is_not_what_was_sent_is_not_shown(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    delivery_id = ids.parse("dlv", (await publish(app, tenant)).deliveries[0][0])
    await settled(owner, 1)
    await owner.execute("update attempts set body_sha256 = $1", bytes(32))
    with pytest.raises(Unsealable):
        await app.payloads.view(tenant, delivery_id, "support case", SYSTEM)
    assert "payload.viewed" not in await tags_of(app, tenant)
