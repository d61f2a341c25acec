"""The life of a delivery as its tenant sees it, and what ends it early."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from customhouse import ids
from customhouse.app import App
from customhouse.audit.log import SYSTEM
from customhouse.config import load
from customhouse.errors import Conflict, NotFound
from customhouse.outbound.endpoints import Change, Made
from customhouse.outbound.reads import Attempt, Delivery, Search
from customhouse.types import TenantId
from tests.conftest import running
from tests.receivers import Received, Recorder, recorder, status
from tests.scenes import connect, hasten, make_tenant, publish, settled, until

pytestmark = pytest.mark.anyio

PERSON: dict[str, Any] = {"event_type": "person.updated", "data": {"person": {"person_id": "p_1", "work_email": "ada@example.com"}}}


async def only(app: App, tenant: TenantId) -> tuple[Delivery, list[Attempt]]:
    """Return the tenant's one delivery."""
    (found,) = await app.reads.deliveries(tenant, Search(), 10)
    return await app.reads.delivery(tenant, found.delivery_id)


async def reaches(app: App, tenant: TenantId, word: str) -> tuple[Delivery, list[Attempt]]:
    """Wait until the tenant's one delivery has a status."""

    async def there() -> bool:
        return (await only(app, tenant))[0].status == word

    await until(there)
    return await only(app, tenant)


async def held(app: App, tenant: TenantId) -> UUID:
    """Publish one event whose first attempt fails, and wait until it waits for the second."""
    await publish(app, tenant, **PERSON)
    return (await reaches(app, tenant, "retrying"))[0].delivery_id


async def test_a_delivery_is_seen_pending_delivering_retrying_and_delivered(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    gate, answers = asyncio.Event(), iter([status(503), status(204)])

    async def answer(_: Received) -> bytes:
        await gate.wait()
        return next(answers)

    receiver.answer = answer
    await app.endpoints.change(tenant, endpoint.connection.connection_id, Change(paused=True), SYSTEM)
    accepted = await publish(app, tenant, event_id="e-1", correlation_id="c-1")
    waiting, attempts = await reaches(app, tenant, "pending")
    assert (waiting.event_id, waiting.event_type, waiting.reason, attempts) == ("e-1", "order.created", None, [])
    assert waiting.next_attempt_at is not None

    await app.endpoints.change(tenant, endpoint.connection.connection_id, Change(paused=False), SYSTEM)
    await hasten(owner)
    under_way, _ = await reaches(app, tenant, "delivering")
    assert under_way.next_attempt_at is None
    gate.set()
    later, attempts = await reaches(app, tenant, "retrying")
    assert later.next_attempt_at is not None
    assert [(one.outcome, one.status_code, one.reason) for one in attempts] == [("retrying", 503, None)]
    await hasten(owner)
    done, attempts = await reaches(app, tenant, "delivered")
    assert [(one.outcome, one.status_code) for one in attempts] == [("retrying", 503), ("delivered", 204)]
    assert done.next_attempt_at is None
    assert ids.show("dlv", done.delivery_id) == accepted.deliveries[0][0]
    assert attempts[0].at < attempts[1].at
    first, second = receiver.received
    assert attempts[1].request_bytes == len(first.body)
    assert first.body == second.body, "a retry has the very same bytes"
    assert first.headers["x-queast-signature"] != second.headers["x-queast-signature"] or (
        first.headers["x-queast-timestamp"] == second.headers["x-queast-timestamp"]
    )
    (row,) = await owner.fetch("select body_sha256 from attempts where attempt = 2")
    assert row["body_sha256"] == hashlib.sha256(second.body).digest()
    assert json.loads(first.body)["trace"] == {"correlation_id": "c-1"}


async def test_an_endpoint_that_says_gone_gets_no_second_attempt(app: App, tenant: TenantId, endpoint: Made, receiver: Recorder) -> None:
    receiver.answer = status(410)
    await publish(app, tenant)
    done, attempts = await reaches(app, tenant, "failed")
    assert (done.reason, len(attempts)) == ("gone", 1)


async def test_attempts_come_to_an_end(app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection) -> None:
    receiver.answer = status(500)
    await held(app, tenant)
    await owner.execute("update delivery_queue set attempts = 8, next_at = now()")
    done, attempts = await reaches(app, tenant, "failed")
    assert (done.reason, len(attempts)) == ("attempts_exhausted", 2)
    assert await owner.fetchval("select count(*) from delivery_queue") == 0


async def test_a_delivery_past_its_life_expires_without_an_attempt(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    receiver.answer = status(500)
    await held(app, tenant)
    await owner.execute("update delivery_queue set expires_at = now() - interval '1 second', next_at = now()")
    done, attempts = await reaches(app, tenant, "expired")
    assert (done.reason, len(attempts), len(receiver.received)) == ("life_exhausted", 1, 1)


async def test_a_receiver_that_asks_for_patience_gets_it_up_to_a_day(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    receiver.answer = status(429, "retry-after: 999999999")
    await held(app, tenant)
    assert await owner.fetchval("select next_at between now() + interval '23 hours' and now() + interval '25 hours' from delivery_queue")


async def test_an_endpoint_that_was_down_gets_its_event_later(app: App, tenant: TenantId, owner: asyncpg.Connection) -> None:
    async with recorder() as before:
        port = before.port
    await connect(app, tenant, f"http://127.0.0.1:{port}/hook")
    await publish(app, tenant)
    _, attempts = await reaches(app, tenant, "retrying")
    assert attempts[0].status_code is None
    assert attempts[0].error
    async with recorder(port) as back:
        await hasten(owner)
        assert len(await back.wait_for(1)) == 1
        await reaches(app, tenant, "delivered")


# Pausing and ending -----------------------------------------------------------------------------------------------------------


async def test_a_paused_connection_is_held_without_an_attempt_and_resumed_is_sent(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    receiver.answer = status(500)
    await held(app, tenant)
    await app.endpoints.change(tenant, endpoint.connection.connection_id, Change(paused=True), SYSTEM)
    before = await owner.fetchval("select lease from delivery_queue")
    await hasten(owner)

    async def was_claimed_and_given_back() -> bool:
        return bool(await owner.fetchval("select lease >= $1 + 2 and owner is null from delivery_queue", before))

    await until(was_claimed_and_given_back)
    assert (await only(app, tenant))[0].status == "retrying"
    assert await owner.fetchval("select attempts from delivery_queue") == 1
    assert len(receiver.received) == 1
    receiver.answer = status(204)
    await app.endpoints.change(tenant, endpoint.connection.connection_id, Change(paused=False), SYSTEM)
    await hasten(owner)
    await reaches(app, tenant, "delivered")
    assert len(receiver.received) == 2


async def test_disconnecting_cancels_what_waits_and_destroys_the_keys(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    receiver.answer = status(500)
    await held(app, tenant)
    connection_id = endpoint.connection.connection_id
    receipt = await app.endpoints.disconnect(tenant, connection_id, SYSTEM)
    assert receipt.deliveries_cancelled == 1
    done, attempts = await only(app, tenant)
    assert (done.status, done.reason, len(attempts)) == ("cancelled", "disconnected", 1)
    assert (await publish(app, tenant)).deliveries == ()
    ended = await app.endpoints.get(tenant, connection_id)
    assert (ended.status, ended.url) == ("disconnected", None)
    assert await owner.fetchval("select count(*) from connection_secrets where sealed is not null or state <> 'destroyed'") == 0
    assert await owner.fetchval("select count(*) from data_keys where purpose = 'connection' and wrapped is not null") == 0
    with pytest.raises(Conflict):
        await app.endpoints.disconnect(tenant, connection_id, SYSTEM)
    with pytest.raises(Conflict):
        await app.endpoints.change(tenant, connection_id, Change(paused=False), SYSTEM)
    assert len(receiver.received) == 1


async def test_a_new_address_counts_for_what_waits(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    receiver.answer = status(500)
    await held(app, tenant)
    async with recorder() as moved:
        await app.endpoints.change(tenant, endpoint.connection.connection_id, Change(url=moved.url("/new")), SYSTEM)
        await hasten(owner)
        (request,) = await moved.wait_for(1)
        assert request.path == "/new"
        assert request.body == receiver.received[0].body
    assert len(receiver.received) == 1


# Policy --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allowed", "narrower", "sent"),
    [
        ([], {}, False),
        (["phone"], {}, False),
        (["work_email"], {"here": []}, False),
        (["work_email"], {"elsewhere": []}, True),
        (["work_email", "phone"], {}, True),
        (["phone", "work_email"], {"here": ["work_email"]}, True),
    ],
)
async def test_a_policy_that_became_narrower_cancels_what_waits_and_no_other_does(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection,
    allowed: list[str], narrower: dict[str, list[str]], sent: bool,
) -> None:  # fmt: skip
    receiver.answer = status(500)
    await held(app, tenant)
    other = await connect(app, tenant, receiver.url("/elsewhere"), event_types=("nothing.like.it",))
    names = {"here": endpoint.connection.connection_id, "elsewhere": other.connection.connection_id}
    await app.policies.put(tenant, allowed, {ids.show("con", names[name]): fields for name, fields in narrower.items()}, "refuse", SYSTEM)
    receiver.answer = status(204)
    await hasten(owner)
    done, attempts = await reaches(app, tenant, "delivered" if sent else "cancelled")
    assert done.reason == (None if sent else "policy_changed")
    assert len(attempts) == len(receiver.received) == (2 if sent else 1)
    if sent:
        # Never edited under the same id, in either direction.
        assert receiver.received[0].body == receiver.received[1].body


async def test_bytes_that_differ_from_the_first_attempt_are_not_sent(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    receiver.answer = status(500)
    await held(app, tenant)
    await owner.execute("update delivery_queue set body_sha256 = $1, next_at = now()", bytes(32))
    done, attempts = await reaches(app, tenant, "failed")
    assert (done.reason, len(attempts), len(receiver.received)) == ("body_changed", 1, 1)


# Rows edited by hand ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def thief(app: App, tenant: TenantId) -> AsyncIterator[Recorder]:
    """Another receiver, of another connection of the same tenant that wants nothing of this."""
    async with recorder() as made:
        await connect(app, tenant, made.url("/thief"), event_types=("nothing.of.this",))
        yield made


@pytest.mark.parametrize(
    "edit",
    [
        "update connections c set url_sealed = t.url_sealed from connections t where t.event_types <> c.event_types",
        "update connections c set url_sealed = t.url_sealed, mac = t.mac from connections t where t.event_types = '{nothing.of.this}'",
        "update connections set event_types = '{*}'",
        "update connections set event_types = '{person.updated,x}'",
        "update connections set mac = substr(mac, 1, 16)",
        "update connections set mac = ''",
        "update connections set grant_version = grant_version + 1",
        "update connections set mode = 'act'",
        "update connections set signature_profile = 'standard-webhooks'",
        "update connections set signature_algorithm = 'v1a'",
        "update connections set url_sealed = overlay(url_sealed placing '\\x00' from 100)",
        "update connection_secrets c set sealed = t.sealed from connection_secrets t where t.key_id <> c.key_id",
        "update connection_secrets set key_id = key_id || 'x'",
    ],
)
async def test_a_row_edited_by_hand_sends_nothing(
    app: App, tenant: TenantId, receiver: Recorder, thief: Recorder, owner: asyncpg.Connection, edit: str
) -> None:
    await connect(app, tenant, receiver.url("/hook"), event_types=("person.*",))
    receiver.answer = status(500)
    await held(app, tenant)
    assert await owner.execute(edit) in {"UPDATE 1", "UPDATE 2"}
    receiver.answer = status(204)
    assert (await publish(app, tenant, **PERSON)).deliveries == ()
    await hasten(owner)
    found = await app.reads.deliveries(tenant, Search(), 10)
    await until_status(app, tenant, found[0].delivery_id, "cancelled")
    assert len(receiver.received) == 1
    assert thief.received == []


async def until_status(app: App, tenant: TenantId, delivery_id: UUID, word: str) -> None:
    async def there() -> bool:
        return (await app.reads.delivery(tenant, delivery_id))[0].status == word

    await until(there)


@pytest.mark.parametrize(
    "edit",
    [
        "update payloads set sealed = overlay(sealed placing '\\x00' from 120)",
        "update payloads set sealed = substr(sealed, 1, 90)",
        "update payloads set sealed = ''",
        "update payloads p set sealed = o.sealed from payloads o where o.event_uid <> p.event_uid",
    ],
)
async def test_a_payload_edited_or_moved_by_hand_is_not_sent(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection, edit: str
) -> None:
    receiver.answer = status(500)
    await publish(app, tenant, **PERSON)
    await publish(app, tenant)
    await receiver.wait_for(2)

    async def both_wait() -> bool:
        return bool(await owner.fetchval("select count(*) = 2 from delivery_queue where owner is null and attempts = 1"))

    await until(both_wait)
    await owner.execute(edit)
    await hasten(owner)
    await settled(owner, 2)
    assert {(one.status, one.reason) for one in await app.reads.deliveries(tenant, Search(), 10)} == {("failed", "unsealable")}
    assert len(receiver.received) == 2


async def test_a_payload_that_is_gone_ends_its_delivery(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    receiver.answer = status(500)
    await held(app, tenant)
    await owner.execute("delete from payloads")
    await hasten(owner)
    done, _ = await reaches(app, tenant, "expired")
    assert (done.reason, len(receiver.received)) == ("payload_expired", 1)


# No retention ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def forgetful(environ: dict[str, str]) -> AsyncIterator[App]:
    """A service that keeps no payload once its deliveries have ended."""
    async with running(load(environ | {"CUSTOMHOUSE_PAYLOAD_RETENTION": "0"})) as app:
        yield app


async def test_without_retention_a_payload_goes_with_the_last_delivery_and_not_before(
    forgetful: App, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    acme = await make_tenant(forgetful, "acme")
    receiver.answer = lambda request: status(500 if request.path == "/late" else 204)
    _, _, bare = [await connect(forgetful, acme, receiver.url(path)) for path in ("/early", "/late", "/bare")]
    # The last one has a variant of its own.
    await forgetful.policies.put(acme, ["work_email"], {ids.show("con", bare.connection.connection_id): []}, "remove", SYSTEM)
    await publish(forgetful, acme, **PERSON)

    async def two_ended() -> bool:
        return bool(await owner.fetchval("select count(*) = 1 from delivery_queue where owner is null and attempts = 1")) and bool(
            await owner.fetchval("select count(*) = 2 from attempts where outcome = 'delivered'")
        )

    await until(two_ended)
    assert [row[0] for row in await owner.fetch("select variant from payloads")] == [0], "each variant goes with its own last delivery"
    receiver.answer = status(204)
    await hasten(owner)
    await settled(owner, 3)
    assert await owner.fetchval("select count(*) from payloads") == 0


async def test_without_retention_two_last_deliveries_that_end_together_leave_no_payload(
    forgetful: App, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    acme = await make_tenant(forgetful, "acme")
    for path in range(4):
        await connect(forgetful, acme, receiver.url(f"/{path}"))
    await asyncio.gather(*(publish(forgetful, acme) for _ in range(150)))
    await settled(owner, 600)
    assert await owner.fetchval("select count(*) from payloads") == 0


async def test_without_retention_a_disconnect_takes_the_payload_along(
    forgetful: App, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    acme = await make_tenant(forgetful, "acme")
    receiver.answer = status(500)
    made = await connect(forgetful, acme, receiver.url())
    await held(forgetful, acme)
    assert await owner.fetchval("select count(*) from payloads") == 1
    await forgetful.endpoints.disconnect(acme, made.connection.connection_id, SYSTEM)
    assert await owner.fetchval("select count(*) from payloads") == 0


async def test_with_retention_a_payload_outlives_its_delivery(
    app: App, tenant: TenantId, endpoint: Made, owner: asyncpg.Connection
) -> None:
    await publish(app, tenant)
    await settled(owner, 1)
    assert await owner.fetchval("select count(*) from payloads") == 1


# Reading ------------------------------------------------------------------------------------------------------------------------------


async def test_deliveries_are_found_by_event_connection_status_time_and_page(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    receiver.answer = lambda request: status(500 if request.path == "/bad" else 204)
    bad = await connect(app, tenant, receiver.url("/bad"))
    for number in range(6):
        await publish(app, tenant, event_id=f"e-{number}")
    await receiver.wait_for(12)

    async def all_judged() -> bool:
        return bool(await owner.fetchval("select count(*) = 12 from attempts"))

    await until(all_judged)

    async def search(limit: int = 100, **wanted: Any) -> list[Delivery]:
        return await app.reads.deliveries(tenant, Search(**wanted), limit)

    everything = await search()
    assert [one.delivery_id for one in everything] == sorted((one.delivery_id for one in everything), reverse=True)
    assert len(everything) == 12
    assert {one.connection_id for one in await search(event_id="e-3")} == {endpoint.connection.connection_id, bad.connection.connection_id}
    assert {one.status for one in await search(connection_id=bad.connection.connection_id)} == {"retrying"}
    assert len(await search(status="delivered")) == len(await search(status="retrying")) == 6
    assert await search(status="failed") == []
    assert len(await search(since=everything[5].created_at, status="retrying")) >= 1
    pages: list[Delivery] = []
    while page := await search(limit=5, before=pages[-1].delivery_id if pages else None):
        pages += page
    assert pages == everything
    with pytest.raises(NotFound):
        await search(event_id="e-99")


async def test_an_event_is_found_by_the_id_that_the_world_knows_and_no_other(app: App, tenant: TenantId, endpoint: Made) -> None:
    named = await publish(app, tenant, event_id="e-1")
    unnamed = await publish(app, tenant)
    assert (await app.reads.event(tenant, "e-1")).event_id == named.event_id == "e-1"
    assert (await app.reads.event(tenant, unnamed.event_id)).deliveries
    other = await make_tenant(app, "other")
    for text in ("e-2", "E-1", "evt_" + "0" * 26, "", "e-1\n"):
        with pytest.raises(NotFound):
            await app.reads.event(tenant, text)
    for text in ("e-1", unnamed.event_id):
        with pytest.raises(NotFound):
            await app.reads.event(other, text)
    with pytest.raises(NotFound):
        await app.reads.delivery(other, ids.parse("dlv", named.deliveries[0][0]))
