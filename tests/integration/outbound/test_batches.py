"""Batches of many tenants: each row in its own tenant, each event with its own answer, and no statement that reads the whole queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from customhouse import ids
from customhouse.app import App
from customhouse.clock import SystemClock
from customhouse.config import load
from customhouse.db import Database, Executor
from customhouse.errors import CustomhouseError, IdempotencyConflict, NotFound
from customhouse.outbound.accept import Accepted
from customhouse.outbound.roster import SQL
from customhouse.types import Secret
from tests.conftest import Server, running
from tests.receivers import Recorder
from tests.scenes import connect, make_tenant, publish, settled
from tests.wire import wire

pytestmark = pytest.mark.anyio

STRAYS = """
select 'delivery' from deliveries d join connections c using (connection_id) where d.tenant_id <> c.tenant_id
union all select 'attempt' from attempts a join deliveries d using (delivery_id) where a.tenant_id <> d.tenant_id
union all select 'event' from events e join deliveries d using (event_uid) where e.tenant_id <> d.tenant_id
union all select 'listed' from events e join deliveries d using (event_uid) where d.delivery_id <> all (e.delivery_ids)
union all select 'payload' from payloads p join events e using (event_uid) where p.tenant_id <> e.tenant_id
union all select 'key' from event_keys k join events e using (event_uid) where k.tenant_id <> e.tenant_id
"""


async def test_rows_of_a_batch_of_many_tenants_are_each_in_their_own(
    environ: dict[str, str], database_server: Server, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    async with wire(database_server.app) as line:
        environ["CUSTOMHOUSE_DATABASE_URL"] = line.leads(database_server.app)
        async with running(load(environ)) as app:
            tenants = [await make_tenant(app, f"t-{number}") for number in range(12)]
            for number, tenant in enumerate(tenants):
                for _ in range(number % 3):
                    await connect(app, tenant, receiver.url(f"/{tenant}"))
                await publish(app, tenant)
            await settled(owner, 12)
            line.ran.clear()
            accepted = await asyncio.gather(
                *(publish(app, tenant, idempotency_key=f"k-{turn}", data={"of": tenant}) for turn in range(10) for tenant in tenants)
            )
            await settled(owner, 132)
            statements = sum("accept_batch" in query for query in line.ran)
    assert 1 <= statements < 12
    assert [len(answer.deliveries) for answer in accepted] == [number % 3 for number in range(12)] * 10
    assert await owner.fetch(STRAYS) == []
    assert await owner.fetchval("select count(*) from event_keys") == 120
    for request in receiver.received[12:]:
        assert f'"of":"{request.path[1:]}"'.encode() in request.body
        assert f'"tenant_id":"{request.path[1:]}"'.encode() in request.body


async def test_in_one_batch_each_event_gets_the_answer_of_its_own_tenant(app: App, receiver: Recorder, owner: asyncpg.Connection) -> None:
    names = ("fresh", "gone", "repeats", "conflicts", "changed", "twice")
    tenants = {name: await make_tenant(app, name) for name in names}
    for tenant in tenants.values():
        await connect(app, tenant, receiver.url(f"/{tenant}"))
        await publish(app, tenant, idempotency_key="warm")
    first = await publish(app, tenants["repeats"], idempotency_key="k", data={"n": 1})
    await publish(app, tenants["conflicts"], idempotency_key="k", data={"n": 1})
    await settled(owner, 8)
    # Behind the back of this process, so that it prepares from what it holds.
    await owner.execute("alter table tenants disable trigger user")
    await owner.execute("update tenants set status = 'deleting' where tenant_id = 'gone'")
    await owner.execute("update tenants set version = version + 1 where tenant_id = 'changed'")

    async def ask(name: str, **body: Any) -> Accepted | CustomhouseError:
        try:
            return await publish(app, tenants[name], **body)
        except CustomhouseError as error:
            return error

    answers = await asyncio.gather(
        ask("fresh"),
        ask("gone"),
        ask("repeats", idempotency_key="k", data={"n": 1}),
        ask("conflicts", idempotency_key="k", data={"n": 2}),
        ask("changed", idempotency_key="c"),
        ask("twice", idempotency_key="t"),
        ask("twice", idempotency_key="t"),
        ask("fresh", idempotency_key="k"),
    )
    fresh, gone, repeated, conflict, changed, one, other, keyed = answers
    assert isinstance(gone, NotFound)
    assert isinstance(conflict, IdempotencyConflict)
    assert repeated == Accepted(first.event_id, duplicate=True, deliveries=first.deliveries)
    for answer in (fresh, changed, keyed):
        assert isinstance(answer, Accepted)
        assert not answer.duplicate
    assert isinstance(one, Accepted)
    assert isinstance(other, Accepted)
    assert one.event_id == other.event_id
    assert {one.duplicate, other.duplicate} == {True, False}
    await settled(owner, 12)
    assert await owner.fetch(STRAYS) == []
    assert await owner.fetchval("select count(*) from events") == 12
    assert await owner.fetchval("select count(*) from event_keys where tenant_id in ('gone', 'conflicts')") == 3


# A long queue that PostgreSQL takes for an empty one ---------------------------------------------------------------------------

LONG = 3000
PROCESS = UUID(int=7)
FEW = 5

READ = "select seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables where relname = 'delivery_queue'"


@pytest.fixture
async def database(database_server: Server, owner: asyncpg.Connection) -> AsyncIterator[Database]:
    """The service's login, and no service that would take what is due or leased to nobody."""
    await owner.execute("insert into tenants (tenant_id, name) values ('acme', 'Acme')")
    database = await Database.connect(Secret(database_server.app.encode()), size=2)
    try:
        yield database
    finally:
        await database.close()


async def fill(owner: asyncpg.Connection, process: UUID | None) -> tuple[UUID, list[UUID]]:
    """Put a long queue of one tenant, all leased or all due, into a table that is known as empty; return connection and deliveries."""
    await owner.execute("alter table delivery_queue set (autovacuum_enabled = off)")
    connection = ids.new()
    deliveries = [ids.new() for _ in range(LONG)]
    await owner.execute(
        """
        insert into delivery_queue (tenant_id, delivery_id, event_uid, connection_id, variant, policy_version, next_at, expires_at,
                                    owner, lease_until)
        select 'acme', d, d, $2, 0, 0, now() - interval '1 s', now() + interval '1 day',
               $3::uuid, case when $3 is not null then now() + interval '1 h' end
        from unnest($1::uuid[]) d
        """,
        deliveries, connection, process,
    )  # fmt: skip
    return connection, deliveries


def result_arguments(deliveries: list[UUID], outcome: str) -> tuple[object, ...]:
    count = len(deliveries)
    now = SystemClock().now()
    return (
        PROCESS, False, ["acme"], [count], deliveries, [0] * count, [outcome] * count, [None] * count, [True] * count,
        [ids.new() for _ in deliveries], [now] * count, [200] * count, [None] * count, [1] * count, [1] * count, [0] * count,
        [bytes(32)] * count, [5.0] * count, [], [],
    )  # fmt: skip


Ask = Callable[[Executor, list[UUID]], Awaitable[Any]]


async def record(conn: Executor, deliveries: list[UUID]) -> list[Any]:
    done = await conn.fetch(SQL["record_batch"], *result_arguments(deliveries[:FEW], "delivered"))
    return [*done, *await conn.fetch(SQL["record_batch"], *result_arguments(deliveries[FEW : 2 * FEW], "retrying"))]


async def release(conn: Executor, deliveries: list[UUID]) -> list[Any]:
    await conn.execute(SQL["release_batch"], PROCESS, ["acme"] * FEW, deliveries[:FEW], [0] * FEW, 5.0)
    return [None] * FEW


async def fetch(conn: Executor, deliveries: list[UUID]) -> Any:
    return await conn.fetch(SQL["load_batch"], PROCESS, ["acme"] * FEW, deliveries[:FEW])


async def recover(conn: Executor, _deliveries: list[UUID]) -> list[Any]:
    await conn.fetch(SQL["heartbeat"], PROCESS)
    return [None] * int((await conn.fetch(SQL["recover_leases"], 10.0))[0]["recovered"])


@pytest.mark.parametrize(("ask", "handled"), [(record, 2 * FEW), (release, FEW), (fetch, FEW), (recover, 0)])
async def test_few_of_many_leased_deliveries_are_handled_without_reading_the_others(
    database: Database, owner: asyncpg.Connection, ask: Ask, handled: int
) -> None:
    await owner.execute("vacuum (analyze) delivery_queue")
    _, deliveries = await fill(owner, PROCESS)
    async with database.transaction() as conn:
        assert len(await ask(conn, deliveries)) == handled
        assert await conn.fetchval(READ) <= 4 * handled + 4


async def test_few_of_many_due_deliveries_are_claimed_without_reading_the_others(database: Database, owner: asyncpg.Connection) -> None:
    await owner.execute("vacuum (analyze) delivery_queue")
    connection, deliveries = await fill(owner, None)
    async with database.transaction() as conn:
        *claimed, place = await conn.fetch(SQL["claim_due"], PROCESS, FEW, FEW, 60.0, [], "", UUID(int=0), 10)
        assert {row["delivery_id"] for row in claimed} < set(deliveries)
        assert len(claimed) == FEW
        assert place["connection_id"] == connection
        assert await conn.fetchval(READ) <= 4 * FEW + 4


async def test_leases_of_the_silent_are_freed_in_parts_and_those_of_the_living_are_not(
    database: Database, owner: asyncpg.Connection
) -> None:
    dead, late, lively = UUID(int=1), UUID(int=2), UUID(int=3)
    for process in (dead, late, lively):
        await fill(owner, process)
    await owner.execute("insert into processes (process_id) values ($1), ($2)", late, lively)
    await owner.execute(
        "update delivery_queue set lease_until = now() - interval '1 s' where owner = $1 and delivery_id::text like '%0'", late
    )
    expected = await owner.fetchval("select count(*) from delivery_queue where owner = $1 or lease_until < now()", dead)
    freed = 0
    while part := int((await database.call(SQL["recover_leases"], 10.0))[0]["recovered"]):
        freed += part
    assert freed == expected
    assert await owner.fetchval("select count(*) from delivery_queue where owner is null and lease = 1") == expected
    assert await owner.fetchval("select count(*) from delivery_queue where owner = $1", lively) == LONG
