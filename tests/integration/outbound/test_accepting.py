"""The door for events: durable, once, each for itself, under the tenant's newest connections and policy."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import asyncpg
import pytest

from customhouse import ids
from customhouse.app import App
from customhouse.audit import log
from customhouse.audit.log import SYSTEM, Filter
from customhouse.config import load
from customhouse.errors import DatabaseRefused, IdempotencyConflict, Invalid, NotFound, PolicyViolation
from customhouse.outbound.accept import Accepted
from customhouse.outbound.endpoints import Change, Made
from customhouse.types import PLATFORM, TenantId
from tests.conftest import running
from tests.receivers import Recorder
from tests.scenes import connect, make_tenant, publish, settled
from tests.wire import wire

pytestmark = pytest.mark.anyio

PERSON: dict[str, Any] = {
    "event_type": "person.updated",
    "data": {"person": {"person_id": "p_1", "work_email": "ada@example.com", "phone": "+49 151 12345678", "first_name": "Ada"}},
}


async def test_a_repeated_call_gets_the_first_answer_and_publishes_nothing(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    first = await publish(app, tenant, idempotency_key="k-1", data={"a": 1, "b": [2]})
    again = await publish(app, tenant, idempotency_key="k-1", data={"b": [2], "a": 1})
    assert not first.duplicate
    assert again == Accepted(first.event_id, duplicate=True, deliveries=first.deliveries)
    await settled(owner, 1)
    assert len(receiver.received) == 1
    assert await owner.fetchval("select count(*) from events") == 1


@pytest.mark.parametrize("names", [{"idempotency_key": "k-1"}, {"event_id": "e-1"}, {"event_id": "e-1", "idempotency_key": "k-1"}])
async def test_the_same_key_with_another_body_is_a_conflict(
    app: App, tenant: TenantId, endpoint: Made, owner: asyncpg.Connection, names: dict[str, str]
) -> None:
    first = await publish(app, tenant, **names)
    with pytest.raises(IdempotencyConflict):
        await publish(app, tenant, data={"order_id": "o_2"}, **names)
    assert (await publish(app, tenant, **names)).event_id == first.event_id
    assert await owner.fetchval("select count(*) from events") == 1


async def test_a_given_id_and_a_key_are_two_names_of_one_event(app: App, tenant: TenantId, endpoint: Made) -> None:
    first = await publish(app, tenant, event_id="e-1", idempotency_key="k-1")
    assert first.event_id == "e-1"
    # Either name alone, with what it said then, is another request: its body differs or its key does.
    with pytest.raises(IdempotencyConflict):
        await publish(app, tenant, idempotency_key="k-1")
    assert (await publish(app, tenant, event_id="e-1", idempotency_key="k-2")).duplicate
    # An event id is its own default key, and a key is no event id.
    assert not (await publish(app, tenant, idempotency_key="e-1")).duplicate


async def test_events_without_a_name_are_never_duplicates(app: App, tenant: TenantId, endpoint: Made) -> None:
    first, second = await publish(app, tenant), await publish(app, tenant)
    assert first.event_id != second.event_id
    assert not second.duplicate


async def test_two_hundred_calls_with_one_key_are_one_event(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    answers = await asyncio.gather(*(publish(app, tenant, idempotency_key="one") for _ in range(200)))
    assert sorted(answer.duplicate for answer in answers) == [False] + [True] * 199
    assert len({(answer.event_id, answer.deliveries[0][0]) for answer in answers}) == 1
    await settled(owner, 1)
    assert [await owner.fetchval(f"select count(*) from {table}") for table in ("events", "deliveries", "payloads", "event_keys")] == [
        1
    ] * 4
    assert len(receiver.received) == 1


async def test_two_processes_with_one_key_make_one_event(
    environ: dict[str, str], app: App, tenant: TenantId, endpoint: Made, owner: asyncpg.Connection
) -> None:
    async with running(load(environ)) as other:
        answers = await asyncio.gather(*(publish(one, tenant, event_id="one") for _ in range(40) for one in (app, other)))
    assert sorted(answer.duplicate for answer in answers) == [False] + [True] * 79
    assert await owner.fetchval("select count(*) from events") == 1


@pytest.mark.parametrize("turn", range(6))
async def test_what_meets_only_an_event_that_was_turned_away_itself_is_accepted(
    app: App, tenant: TenantId, endpoint: Made, owner: asyncpg.Connection, turn: int
) -> None:
    """Three in one group: the second has the first's key and so gives up its id, which the third then may have."""
    key, name = f"k-{turn}", f"e-{turn}"
    first, second, third = await asyncio.gather(
        publish(app, tenant, idempotency_key=key, data={"n": 1}),
        publish(app, tenant, idempotency_key=key, event_id=name, data={"n": 2}),
        publish(app, tenant, event_id=name, data={"n": 3}),
        return_exceptions=True,
    )
    accepted = [answer for answer in (first, second, third) if isinstance(answer, Accepted)]
    assert all(isinstance(answer, Accepted | IdempotencyConflict) for answer in (first, second, third))
    # Whichever of the rivals came first: what was answered is what is there, and nobody lost to a loser.
    assert isinstance(second, Accepted) != isinstance(first, Accepted)
    assert isinstance(third, Accepted) == isinstance(first, Accepted)
    assert {row["event_uid"] for row in await owner.fetch("select event_uid from events")} == {
        row["event_uid"] for row in await owner.fetch("select event_uid from event_keys")
    }
    assert await owner.fetchval("select count(*) from events") == len(accepted)


async def test_one_bad_row_fails_alone(app: App, tenant: TenantId, endpoint: Made, owner: asyncpg.Connection, receiver: Recorder) -> None:
    await owner.execute("alter table events add constraint no_bad check (event_type <> 'bad.one')")
    answers = await asyncio.gather(
        *(publish(app, tenant, event_type="bad.one" if number == 7 else "good.one") for number in range(20)), return_exceptions=True
    )
    assert [number for number, answer in enumerate(answers) if not isinstance(answer, Accepted)] == [7]
    assert isinstance(answers[7], DatabaseRefused)
    await settled(owner, 19)
    assert len(receiver.received) == 19
    # Its place in the lane was given back: nothing is counted as under way.
    assert app.engine._lanes.held == 0


@pytest.mark.parametrize("name", ["nobody", "Acme", "acme ", "", "_platform'", "acme\n"])
async def test_a_tenant_that_is_not_there_is_not_found(app: App, tenant: TenantId, owner: asyncpg.Connection, name: str) -> None:
    with pytest.raises(NotFound):
        await publish(app, TenantId(name))
    assert await owner.fetchval("select count(*) from events") == 0


async def test_a_tenant_that_is_being_deleted_accepts_nothing(app: App, tenant: TenantId, owner: asyncpg.Connection) -> None:
    await publish(app, tenant)
    await owner.execute("update tenants set status = 'deleting' where tenant_id = 'acme'")
    with pytest.raises(NotFound):
        await publish(app, tenant)
    assert await owner.fetchval("select count(*) from events") == 1


# The newest connections and policy ----------------------------------------------------------------------------------------


async def test_a_connection_made_in_one_process_gets_an_event_published_at_once_in_another(
    environ: dict[str, str], app: App, tenant: TenantId, receiver: Recorder
) -> None:
    async with running(load(environ)) as other:
        for number in range(5):
            await publish(other, tenant)  # so that the other process holds the tenant as it is
            made = await connect(app, tenant, receiver.url(f"/{number}"))
            accepted = await publish(other, tenant)
            assert made.connection.connection_id in {ids.parse("con", shown) for _, shown, _ in accepted.deliveries}


@pytest.mark.parametrize("hearing", [True, False])
async def test_what_changed_between_preparing_and_writing_is_prepared_again(
    app: App,
    tenant: TenantId,
    endpoint: Made,
    owner: asyncpg.Connection,
    receiver: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    hearing: bool,
) -> None:
    await publish(app, tenant, **PERSON)
    if not hearing:
        monkeypatch.setattr(app, "_on_change", lambda _tenant: None)
    await owner.execute("""insert into privacy_policies values ('acme', 1, '{}', '{}', 'remove')""")
    second = await connect(app, tenant, receiver.url("/second"))
    accepted = await publish(app, tenant, **PERSON)
    assert [privacy["policy"] for _, _, privacy in accepted.deliveries] == ["tenant:1", "tenant:1"]
    assert {shown for _, shown, _ in accepted.deliveries} == {endpoint_id(endpoint), endpoint_id(second)}
    await settled(owner, 3)
    assert sum(b"ada@example.com" in request.body for request in receiver.received) == 1


def endpoint_id(made: Made) -> str:
    return ids.show("con", made.connection.connection_id)


async def test_what_the_operator_declares_counts_from_the_next_event_on(app: App, tenant: TenantId, endpoint: Made) -> None:
    said = {"event_type": "shared.one", "data": {"nick": "ada"}}
    assert (await publish(app, tenant, **said)).deliveries[0][2]["removed_fields"] == []
    await app.event_types.register(PLATFORM, "shared.one", "", None, {"/nick": "online_id"}, SYSTEM)
    assert (await publish(app, tenant, **said)).deliveries[0][2]["removed_fields"] == ["nick"]


async def test_changes_while_events_flow_never_let_one_pass_under_the_old_policy(
    app: App, tenant: TenantId, endpoint: Made, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    """The version that an event was accepted under is the one that its transaction saw."""
    stop = asyncio.Event()
    answers: list[Accepted] = []

    async def flow() -> None:
        while not stop.is_set():
            answers.append(await publish(app, tenant, **PERSON))

    flows = [asyncio.create_task(flow()) for _ in range(8)]
    for allowed in (["work_email", "phone"], [], ["work_email"], []):
        await app.policies.put(tenant, allowed, {}, "remove", SYSTEM)
        told = await publish(app, tenant, **PERSON)
        assert told.deliveries[0][2]["policy"] == f"tenant:{(await app.policies.get(tenant)).version}"
    stop.set()
    await asyncio.gather(*flows)
    rows = await owner.fetch(
        """select e.privacy->0->>'policy' as label, d.policy_version from events e
           join deliveries d on d.tenant_id = e.tenant_id and d.event_uid = e.event_uid"""
    )
    assert len(rows) == len(answers) + 4
    assert all(row["label"] == f"tenant:{row['policy_version']}" for row in rows)


# Privacy on the way in ------------------------------------------------------------------------------------------------------


async def test_each_distinct_policy_gets_its_own_variant_and_each_body_is_as_it_should_be(
    app: App, tenant: TenantId, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    wide, narrow, bare, narrow_too = [
        await connect(app, tenant, receiver.url(path)) for path in ("/wide", "/narrow", "/bare", "/narrow-too")
    ]
    await app.policies.put(
        tenant,
        ["work_email", "phone"],
        {
            endpoint_id(narrow): ["work_email"],
            endpoint_id(narrow_too): ["work_email", "salary"],
            endpoint_id(bare): [],
        },
        "remove",
        SYSTEM,
    )
    accepted = await publish(app, tenant, **PERSON)
    said = {shown: privacy for _, shown, privacy in accepted.deliveries}
    assert said[endpoint_id(wide)]["removed_fields"] == ["person.first_name"]
    assert said[endpoint_id(narrow)]["removed_fields"] == ["person.phone", "person.first_name"]
    assert said[endpoint_id(bare)]["removed_fields"] == ["person.work_email", "person.phone", "person.first_name"]
    await settled(owner, 4)
    bodies = {request.path: json.loads(request.body)["data"]["person"] for request in receiver.received}
    assert bodies == {
        "/wide": {"person_id": "p_1", "work_email": "ada@example.com", "phone": "+49 151 12345678"},
        "/narrow": {"person_id": "p_1", "work_email": "ada@example.com"},
        "/narrow-too": {"person_id": "p_1", "work_email": "ada@example.com"},
        "/bare": {"person_id": "p_1"},
    }
    assert await owner.fetchval("select count(*) from payloads") == 3
    assert await owner.fetchval("select count(distinct variant) from deliveries") == 3


async def test_a_refused_event_is_an_entry_and_nothing_else(
    app: App, tenant: TenantId, endpoint: Made, owner: asyncpg.Connection, receiver: Recorder
) -> None:
    await app.policies.put(tenant, ["work_email"], {}, "refuse", SYSTEM)
    with pytest.raises(PolicyViolation) as refused:
        await publish(app, tenant, idempotency_key="k-1", **PERSON)
    assert {fault.pointer for fault in refused.value.faults} == {"/data/person/phone", "/data/person/first_name"}
    for table in ("events", "payloads", "deliveries", "delivery_queue", "event_keys", "attempts"):
        assert await owner.fetchval(f"select count(*) from {table}") == 0, table
    async with app.database.transaction(tenant) as conn:
        (entry,) = await log.read(conn, tenant, Filter(tag="event.refused"))
    assert entry.detail["event_type"] == "person.updated"
    assert "12345678" not in str(entry)
    assert receiver.received == []
    # The key was not used up: the corrected event may have it.
    assert not (await publish(app, tenant, idempotency_key="k-1")).duplicate


async def test_data_that_does_not_fit_its_schema_is_refused_before_anything_is_stored(
    app: App, tenant: TenantId, endpoint: Made, owner: asyncpg.Connection
) -> None:
    schema: dict[str, Any] = {"type": "object", "required": ["order_id"], "properties": {"order_id": {"type": "string"}}}
    await app.event_types.register(tenant, "order.created", "", schema, {}, SYSTEM)
    with pytest.raises(Invalid) as refused:
        await publish(app, tenant, data={"order_id": 7})
    assert [fault.pointer for fault in refused.value.faults] == ["/data/order_id"]
    assert await owner.fetchval("select count(*) from events") == 0
    assert (await publish(app, tenant)).deliveries


async def test_an_event_can_be_narrowed_to_some_connections(
    app: App, tenant: TenantId, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    one, other, paused, picky = [await connect(app, tenant, receiver.url(path)) for path in ("/1", "/2", "/3", "/4")]
    await app.endpoints.change(tenant, picky.connection.connection_id, Change(event_types=("invoice.*",)), SYSTEM)
    await app.endpoints.change(tenant, paused.connection.connection_id, Change(paused=True), SYSTEM)
    named = [endpoint_id(made) for made in (one, paused, picky)]
    accepted = await publish(app, tenant, connection_ids=named)
    assert {shown for _, shown, _ in accepted.deliveries} == {endpoint_id(one), endpoint_id(paused)}
    await app.endpoints.disconnect(tenant, other.connection.connection_id, SYSTEM)
    with pytest.raises(Invalid) as refused:
        await publish(app, tenant, connection_ids=[endpoint_id(one), endpoint_id(other), ids.show("con", ids.new())])
    assert [fault.pointer for fault in refused.value.faults] == ["/connection_ids/1", "/connection_ids/2"]


async def test_an_event_that_nobody_wants_is_accepted_and_kept_without_a_payload(
    app: App, tenant: TenantId, owner: asyncpg.Connection
) -> None:
    accepted = await publish(app, tenant, event_id="e-1")
    assert accepted.deliveries == ()
    assert (await app.reads.event(tenant, "e-1")).deliveries == ()
    assert (await publish(app, tenant, event_id="e-1")).duplicate
    assert await owner.fetchval("select count(*) from payloads") == 0


# Replies that get lost -------------------------------------------------------------------------------------------------------


async def test_a_commit_whose_reply_was_lost_is_looked_up_before_anybody_is_answered(
    environ: dict[str, str], database_server: Any, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    async with wire(database_server.app) as line:
        environ["CUSTOMHOUSE_DATABASE_URL"] = line.leads(database_server.app)
        async with running(load(environ)) as app:
            acme = await make_tenant(app, "acme")
            await connect(app, acme, receiver.url())
            await publish(app, acme)
            line.losing = b"lost.reply"
            accepted = await publish(app, acme, event_type="lost.reply")
            assert line.lost == 1
            assert not accepted.duplicate
            assert await owner.fetchval("select count(*) from events") == 2
            # Nothing holds it back for the length of a lease: it is claimed by whoever comes first.
            await receiver.wait_for(2, within=10)
            assert json.loads(receiver.received[1].body)["event_id"] == accepted.event_id


async def test_the_operators_own_tenant_accepts_nothing_for_others(app: App, tenant: TenantId, endpoint: Made, receiver: Recorder) -> None:
    accepted = await publish(app, PLATFORM)
    assert accepted.deliveries == ()
    assert receiver.received == []
