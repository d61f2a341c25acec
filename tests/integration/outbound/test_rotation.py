"""Rotation of signing keys: no delivery that its receiver cannot verify, whichever of the keys it knows."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import asyncpg
import pytest

from customhouse.app import App
from customhouse.audit.log import SYSTEM
from customhouse.crypto.signatures import Profile
from customhouse.errors import Conflict, Invalid, NotFound
from customhouse.outbound.endpoints import Made
from customhouse.outbound.rotation import Plan, Rotated
from customhouse.tenants.idempotency import Once
from customhouse.types import TenantId
from customhouse_receiver import MemoryReplayCache, Receiver, WebhookRejected
from tests.receivers import Received, Recorder
from tests.scenes import NOT_REPEATED, connect, publish, settled

pytestmark = pytest.mark.anyio

NOW = Plan(None)


def stamp(request: Received) -> int:
    """The second that a request was signed for."""
    return int(request.headers.get("webhook-timestamp") or request.headers["x-queast-timestamp"])


def refused(secrets: dict[str, str], requests: list[Received]) -> list[int]:
    """The seconds of the requests that a receiver with these secrets refuses."""
    receiver = Receiver(secrets, replay=MemoryReplayCache())
    seconds = []
    for request in requests:
        try:
            receiver.verify(request.headers, request.body)
        except WebhookRejected:
            seconds.append(stamp(request))
    return seconds


def known(made: Made | Rotated) -> dict[str, str]:
    """What the customer was shown."""
    assert made.secret is not None
    return {made.key_id: made.secret}


async def rotate(app: App, tenant: TenantId, made: Made, plan: Plan | None = None, once: Once = NOT_REPEATED) -> Rotated:
    return await app.rotations.rotate(tenant, made.connection.connection_id, plan, SYSTEM, once)


async def states(app: App, tenant: TenantId, made: Made) -> list[str]:
    return [term.state for term in (await app.endpoints.get(tenant, made.connection.connection_id)).signing_keys]


async def delivered(app: App, tenant: TenantId, receiver: Recorder) -> Received:
    """Publish one event and return how it arrived."""
    count = len(receiver.received)
    await publish(app, tenant)
    return (await receiver.wait_for(count + 1))[count]


@pytest.mark.parametrize("profile", [Profile.QUEAST_V1, Profile.STANDARD_WEBHOOKS])
async def test_a_rotation_under_load_leaves_no_delivery_unverifiable(
    app: App, tenant: TenantId, receiver: Recorder, owner: asyncpg.Connection, profile: Profile
) -> None:
    made = await connect(app, tenant, receiver.url(), signature_profile=profile)
    rotated = await rotate(app, tenant, made, Plan(app.clock.now() + timedelta(seconds=1.2), timedelta(seconds=2)))
    turn, end = int(rotated.activates_at.timestamp()), int(rotated.previous_valid_until.timestamp())
    assert end == turn + 2
    published = 0

    async def customer() -> None:
        nonlocal published
        while not receiver.received or stamp(receiver.received[-1]) <= end:
            await publish(app, tenant)
            published += 1

    async def job() -> None:
        """Turns are written down, or not, while deliveries go on."""
        while await owner.fetchval("select count(*) from connection_secrets where state = 'destroyed'") == 0:
            await app.rotations.advance_due()
            await asyncio.sleep(0.1)

    async with asyncio.timeout(30):
        await asyncio.gather(*(customer() for _ in range(4)), job())
        await settled(owner, published)
    requests = receiver.received
    seconds = {stamp(request) for request in requests}
    assert len(requests) == published > 50
    assert min(seconds) < turn < end <= max(seconds), "the load did not span the rotation"
    old, new = known(made), known(rotated)
    assert refused(old | new, requests) == []
    assert set(refused(new, requests)) == {second for second in seconds if second < turn}
    old_until = end if profile is Profile.STANDARD_WEBHOOKS else turn
    assert set(refused(old, requests)) == {second for second in seconds if second >= old_until}


async def test_the_switch_needs_no_query(app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection) -> None:
    rotated = await rotate(app, tenant, endpoint, Plan(app.clock.now() + timedelta(seconds=1)))
    roster = await app.rosters.get(tenant)
    signer = roster.endpoints[endpoint.connection.connection_id].signer
    turn = int(rotated.activates_at.timestamp())
    names = [signer.headers("evt_1", second, b"{}")["X-Queast-Signature-Key-Id"] for second in (turn - 1, turn)]
    assert names == [endpoint.key_id, rotated.key_id]
    # Not written down by anybody, and yet shown as it is.
    while app.clock.now() < rotated.activates_at:
        await asyncio.sleep(0.05)
    assert await owner.fetchval("select state from connection_secrets where key_id = $1", rotated.key_id) == "next"
    assert await states(app, tenant, endpoint) == ["previous", "active"]
    assert refused(known(rotated), [await delivered(app, tenant, receiver)]) == []


async def test_after_a_leak_the_new_key_signs_at_once_and_alone(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    waiting = await rotate(app, tenant, endpoint)
    leaked = await rotate(app, tenant, endpoint, Plan(None, timedelta()))
    assert leaked.activates_at == leaked.previous_valid_until
    assert await states(app, tenant, endpoint) == ["destroyed", "destroyed", "active"]
    assert await owner.fetchval("select count(*) from connection_secrets where sealed is not null") == 1
    request = await delivered(app, tenant, receiver)
    assert refused(known(leaked), [request]) == []
    assert len(refused(known(endpoint) | known(waiting), [request])) == 1


async def test_without_wishes_a_key_waits_an_hour_and_the_earlier_one_stays_a_day(app: App, tenant: TenantId, endpoint: Made) -> None:
    before = app.clock.now()
    rotated = await rotate(app, tenant, endpoint)
    assert timedelta(0) <= rotated.activates_at - before - timedelta(hours=1) < timedelta(seconds=5)
    assert rotated.previous_valid_until - rotated.activates_at == timedelta(days=1)
    assert await states(app, tenant, endpoint) == ["active", "next"]


async def test_at_most_one_key_waits(app: App, tenant: TenantId, endpoint: Made, owner: asyncpg.Connection) -> None:
    first = await rotate(app, tenant, endpoint)
    with pytest.raises(Conflict, match="waiting"):
        await rotate(app, tenant, endpoint)
    assert await states(app, tenant, endpoint) == ["active", "next"]
    assert await owner.fetchval("select sealed is not null from connection_secrets where key_id = $1", first.key_id)
    both = await asyncio.gather(*(rotate(app, tenant, endpoint, NOW) for _ in range(2)))
    found = (await app.endpoints.get(tenant, endpoint.connection.connection_id)).signing_keys
    assert sorted(term.state for term in found) == ["active", "destroyed", "previous", "previous"]
    assert {one.key_id for one in both} == {term.key_id for term in found} - {endpoint.key_id, first.key_id}


async def test_more_earlier_keys_than_a_header_may_carry_are_refused_until_the_overlap_ends(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder
) -> None:
    for _ in range(5):
        await rotate(app, tenant, endpoint, NOW)
    with pytest.raises(Conflict, match="still valid"):
        await rotate(app, tenant, endpoint, NOW)
    last = await rotate(app, tenant, endpoint, Plan(None, timedelta()))
    assert (await states(app, tenant, endpoint)).count("active") == 1
    assert refused(known(last), [await delivered(app, tenant, receiver)]) == []


@pytest.mark.parametrize(
    ("delay", "overlap", "place"),
    [
        (timedelta(seconds=-5), timedelta(1), "/activate_at"),
        (timedelta(days=31), timedelta(1), "/activate_at"),
        (timedelta(hours=1), timedelta(seconds=-1), "/overlap_seconds"),
        (timedelta(hours=1), timedelta(days=31), "/overlap_seconds"),
    ],
)
async def test_times_out_of_bounds_are_refused(
    app: App, tenant: TenantId, endpoint: Made, delay: timedelta, overlap: timedelta, place: str
) -> None:
    with pytest.raises(Invalid) as caught:
        await rotate(app, tenant, endpoint, Plan(app.clock.now() + delay, overlap))
    assert [fault.pointer for fault in caught.value.faults] == [place]
    assert await states(app, tenant, endpoint) == ["active"]


async def test_a_repeated_call_answers_the_same_without_the_secret_whatever_happened_since(
    app: App, tenant: TenantId, endpoint: Made
) -> None:
    once = Once(b"k" * 32, b"body")
    plan = Plan(app.clock.now() + timedelta(seconds=1), timedelta())
    first = await rotate(app, tenant, endpoint, plan, once)
    again = await rotate(app, tenant, endpoint, plan, once)
    assert (again.key_id, again.secret) == (first.key_id, None)
    assert (again.activates_at, again.previous_valid_until) == (first.activates_at, first.previous_valid_until)
    while app.clock.now() < first.activates_at:
        await asyncio.sleep(0.05)
    assert (await rotate(app, tenant, endpoint, plan, once)).key_id == first.key_id, "its time is past by now"
    await app.endpoints.disconnect(tenant, endpoint.connection.connection_id, SYSTEM)
    assert (await rotate(app, tenant, endpoint, plan, once)).key_id == first.key_id


async def test_what_has_ended_or_never_was_has_no_keys_to_rotate(app: App, tenant: TenantId, endpoint: Made) -> None:
    await app.endpoints.disconnect(tenant, endpoint.connection.connection_id, SYSTEM)
    with pytest.raises(Conflict, match="disconnected"):
        await rotate(app, tenant, endpoint)
    with pytest.raises(NotFound):
        await app.rotations.rotate(tenant, app.process_id, None, SYSTEM, NOT_REPEATED)


async def test_a_pair_is_rotated_to_a_pair(app: App, tenant: TenantId, receiver: Recorder) -> None:
    made = await connect(app, tenant, receiver.url(), signature_profile="standard-webhooks", signature_algorithm="v1a")
    rotated = await rotate(app, tenant, made, NOW)
    assert rotated.secret is not None
    assert rotated.secret.startswith("whpk_")
    request = await delivered(app, tenant, receiver)
    assert request.headers["webhook-signature"].count("v1a,") == 2
    assert refused(known(made), [request]) == refused(known(rotated), [request]) == []


async def test_turns_are_written_down_and_told_to_the_ledger(app: App, tenant: TenantId, endpoint: Made, owner: asyncpg.Connection) -> None:
    rotated = await rotate(app, tenant, endpoint, Plan(app.clock.now() + timedelta(hours=1), timedelta(hours=1)))
    assert await app.rotations.advance_due() == 0
    await owner.execute("update connection_secrets set activates_at = now() - interval '1 s' where state = 'next'")
    assert await app.rotations.advance_due() == 1
    assert await owner.fetchval("select state from connection_secrets where key_id = $1", endpoint.key_id) == "previous"
    await owner.execute("update connection_secrets set valid_until = now() where state = 'previous'")
    assert await app.rotations.advance_due() == 1
    assert await app.rotations.advance_due() == 0
    row = await owner.fetchrow("select state, sealed from connection_secrets where key_id = $1", endpoint.key_id)
    assert row is not None
    assert tuple(row) == ("destroyed", None)
    told = await owner.fetch("select tag, subject from audit_entries where tag like 'signing_key.%' order by entry_id")
    assert [tuple(one) for one in told] == [
        ("signing_key.rotated", rotated.key_id),
        ("signing_key.activated", rotated.key_id),
        ("signing_key.destroyed", endpoint.key_id),
    ]


async def test_a_retry_is_signed_with_the_key_of_its_own_moment(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    answer, receiver.answer = receiver.answer, b"HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n"
    first = await delivered(app, tenant, receiver)
    async with asyncio.timeout(10):
        while not await owner.fetchval("select count(*) from delivery_queue where owner is null and attempts = 1"):
            await asyncio.sleep(0.02)
    rotated = await rotate(app, tenant, endpoint, NOW)
    receiver.answer = answer
    await owner.execute("update delivery_queue set next_at = now()")
    second = (await receiver.wait_for(2))[1]
    assert second.body == first.body
    assert second.headers["x-queast-signature-key-id"] == rotated.key_id
    assert refused(known(rotated), [second]) == []
