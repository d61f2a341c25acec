"""What the hot paths cost, as structure: statements per event, and plans that do not read whole tables."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from customhouse import ids
from customhouse.app import App
from customhouse.config import load
from customhouse.db import CHANGES
from customhouse.outbound.reads import SEARCH
from customhouse.outbound.roster import SQL
from customhouse.types import TenantId
from tests.conftest import Server, running
from tests.receivers import Recorder
from tests.scenes import connect, make_tenant, publish, settled, still, until
from tests.wire import wire

pytestmark = pytest.mark.anyio


async def test_events_that_come_together_share_their_statements(
    environ: dict[str, str], database_server: Server, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    async with wire(database_server.app) as line:
        environ["CUSTOMHOUSE_DATABASE_URL"] = line.leads(database_server.app)
        async with running(load(environ)) as app:
            acme = await make_tenant(app, "acme")
            await connect(app, acme, receiver.url())
            await publish(app, acme)
            await settled(owner, 1)
            line.ran.clear()
            await asyncio.gather(*(publish(app, acme, event_id=f"e-{number}") for number in range(200)))
            await settled(owner, 201)
            ours = re.compile(r"accept_batch|record_batch|claim_due|load_batch|release_batch|begin|set_config")
            mine = [query for query in line.ran if ours.search(query.lower())]
            accepts = sum("accept_batch" in query for query in mine)
            records = sum("record_batch" in query for query in mine)
            assert 1 <= accepts <= 3
            # Reading the tenant, its keys, policy or connections again would show here: nothing of that is asked per event.
            assert len(mine) - records <= 20, mine
            assert accepts + records < 100
            assert sum("load_batch" in query or "claim_due" in query for query in mine) <= len(receiver.received) / 10


async def forgotten(app: App, tenant: TenantId) -> bool:
    """Tell whether a change of the tenant was heard since its roster was read."""
    return app.rosters.held(tenant) is None


async def test_a_warm_publish_is_one_statement_and_so_is_its_result(
    environ: dict[str, str], database_server: Server, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    async with wire(database_server.app) as line:
        environ["CUSTOMHOUSE_DATABASE_URL"] = line.leads(database_server.app)
        async with running(load(environ)) as app:
            # Once a second the keys in memory are looked at, and read anew where somebody may have changed them; once a minute a job
            # looks for keys whose turn has come. Neither belongs to a publish, however long that takes on a busy machine.
            await still(app, "keys", "jobs")
            acme = await make_tenant(app, "acme")
            await connect(app, acme, receiver.url())
            # What is heard comes in the order in which it was done: once this one is, the changes above are no longer on their way.
            last = await make_tenant(app, "last")
            await app.rosters.get(last)
            await owner.execute(f"notify {CHANGES}, 'last'")
            await until(lambda: forgotten(app, last))
            for number in range(1, 4):
                await publish(app, acme)
                await settled(owner, number)
            line.ran.clear()
            await publish(app, acme)
            await settled(owner, 4)
            found = re.compile(r"accept_batch|record_batch|roster|tenant_keys|data_keys|policies|connection_secrets|begin|load_batch")
            assert sorted(found.findall(" ".join(line.ran).lower())) == ["accept_batch", "record_batch"]


# Plans ------------------------------------------------------------------------------------------------------------------------

NOBODY = UUID(int=0)
"""Less than every id."""


@pytest.fixture
async def full(owner: asyncpg.Connection) -> UUID:
    """Tables with history: 10 tenants, 3,000 events each, and a long queue; the connection of the first one.

    Nobody but this fixture counts or clears what is in them: a plan is a matter of what the planner knows, not of who came by meanwhile.
    """
    await owner.execute(
        """
        do $$
        declare
          one regclass;
        begin
          for one in select oid from pg_class where relnamespace = 'customhouse'::regnamespace and relkind = 'r' loop
            execute format('alter table %s set (autovacuum_enabled = off)', one);
          end loop;
        end $$;
        """
    )
    tenants = [f"t{number}" for number in range(10)]
    await owner.execute("insert into tenants select t, t from unnest($1::text[]) t", tenants)
    connection = ids.new()
    await owner.execute(
        """
        create function uuid_at(p_tenant integer, i integer) returns uuid language sql immutable as
          $$ select overlay(uuid_floor(date_trunc('day', now()) + make_interval(secs => i * 10))::text
               placing lpad(to_hex(p_tenant * 100000 + i), 12, '0') from 25)::uuid $$;
        """
    )
    for number, tenant in enumerate(tenants):
        rows = f"select $1::text as t, uuid_at({number}, i) as u, i from generate_series(1, 3000) i"
        for insert in (
            f"insert into events select t, u, null, 'order.created', now(), null, 100, '[{{}}]', array[u] from ({rows}) x",
            f"insert into payloads select t, u, 0, '\\x00' from ({rows}) x",
            f"insert into event_keys select t, sha256(u::text::bytea), u, '', now() + interval '1 day' * (i % 7 - 1) from ({rows}) x",
        ):
            await owner.execute(insert, tenant)
        await owner.execute(f"insert into deliveries select t, u, u, $2::uuid, 0, 0 from ({rows}) x", tenant, connection)
        await owner.execute(
            f"""insert into attempts select t, u, 1, u, case when i % 50 = 1 then 'failed' else 'delivered' end, null, true, now()
                from ({rows}) x where i % 10 <> 0""",
            tenant,
        )
        await owner.execute(
            f"""insert into delivery_queue select t, u, u, $2::uuid, 0, 0, 0, now() + interval '1 h' * (i % 3 - 1), now() + interval '1 d'
                from ({rows}) x""",
            tenant, connection,
        )  # fmt: skip
    await owner.execute("analyze")
    return connection


def scans(plan: Any) -> Iterator[tuple[str, str]]:
    """Return (node, table) of every sequential scan in a plan."""
    if isinstance(plan, list):
        for one in plan:
            yield from scans(one)
    elif isinstance(plan, dict):
        if plan.get("Node Type") == "Seq Scan":
            yield "Seq Scan", plan["Relation Name"]
        for value in plan.values():
            if isinstance(value, dict | list):
                yield from scans(value)


async def planned(conn: asyncpg.Connection, query: str, *args: object) -> list[tuple[str, str]]:
    """Explain a query with these arguments; return the sequential scans of tables that have grown."""
    text = query
    for place in range(len(args), 0, -1):
        text = text.replace(f"${place}", literal(args[place - 1]))
    return await whole(conn, json.loads(await conn.fetchval(f"explain (format json) {text}")))


async def whole(conn: asyncpg.Connection, plan: Any) -> list[tuple[str, str]]:
    """Return the sequential scans of tables that have grown; an empty partition may be read as one likes."""
    rows = await conn.fetch("select relname from pg_class where relnamespace = 'customhouse'::regnamespace and reltuples > 1000")
    grown = {row["relname"] for row in rows}
    assert {"delivery_queue", "event_keys"} < grown
    return [scan for scan in scans(plan) if scan[1] in grown]


def literal(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, list):
        return "'{" + ",".join(str(one) for one in value) + "}'::uuid[]"
    if isinstance(value, UUID):
        return f"'{value}'::uuid"
    return str(value) if isinstance(value, int | float) else f"'{value}'"


async def test_what_is_asked_often_does_not_read_whole_tables(full: UUID, owner: asyncpg.Connection, database_server: Server) -> None:
    service = await asyncpg.connect(database_server.app, server_settings={"search_path": "customhouse", "jit": "off"})
    one: UUID = await owner.fetchval("select delivery_id from deliveries where tenant_id = 't0' limit 1 offset 700")
    async with service.transaction():
        await service.execute("select set_config('app.tenant_id', 't0', true)")
        assert await service.fetchval("select count(*) from deliveries") == 3000
        asked: dict[str, list[tuple[str, str]]] = {
            "by id": await planned(service, SEARCH["search"], "t0", [one], None, None, None),
            "newest": await planned(service, SEARCH["window_of_tenant"], "t0", NOBODY, one, 50),
            "of a connection": await planned(service, SEARCH["window_of_connection"], "t0", NOBODY, one, 50, full),
            "retrying": await planned(service, SEARCH["window_of_queue"], "t0", NOBODY, one, 50),
            "failed": await planned(service, SEARCH["window_of_unhappy"], "t0", NOBODY, one, 50, "failed"),
            "event": await planned(service, SQL["event_by_uid"], "t0", one),
            "event by its own id": await planned(service, SQL["event_by_id"], "t0", "e-1"),
            "attempts": await planned(service, SQL["attempts"], "t0", one),
            "cancel": await planned(service, "select * from delivery_queue where tenant_id = $1 and delivery_id = $2", "t0", one),
            "keys": await planned(
                service, "select * from event_keys held where held.tenant_id = $1 and held.key_hash = $2", "t0", "\\x" + "00" * 32
            ),
        }
    assert {name: found for name, found in asked.items() if found} == {}
    await service.close()


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("claim_due_v4", {}),
        ("purge_keys_v1", {}),
        ("resolve_api_key_v1", {"p_token_hash": "sha256('x')"}),
    ],
)
async def test_what_crosses_tenants_does_not_read_whole_tables(
    full: UUID, owner: asyncpg.Connection, function: str, arguments: dict[str, str]
) -> None:
    source: str = await owner.fetchval("select prosrc from pg_proc where proname = $1", function)
    if function == "purge_keys_v1":
        chosen = "select e.tenant_id, e.key_hash from customhouse.event_keys e where e.expires_at < now() order by e.expires_at limit "
        assert f"{chosen}p_limit" in source
        statements = [f"{chosen}1000"]
    elif function == "claim_due_v4":
        place = "('t0', '00000000-0000-0000-0000-000000000000')"
        nearest = "where q.owner is null and not q.blocked and (q.tenant_id, q.connection_id) > (at_tenant, at_connection)"
        due = (
            "where d.owner is null and not d.blocked and d.tenant_id = at_tenant and d.connection_id = at_connection and d.next_at <= now()"
        )
        assert nearest in source
        assert due in source
        statements = [
            f"select q.tenant_id from customhouse.delivery_queue q {nearest.replace('(at_tenant, at_connection)', place)} "  # noqa: ISC004
            "order by q.tenant_id, q.connection_id limit 1",
            "select d.tenant_id, d.delivery_id from customhouse.delivery_queue d "
            + due.replace("at_tenant", "'t0'").replace("at_connection", "'00000000-0000-0000-0000-000000000001'")
            + " order by d.next_at limit 32 for update skip locked",
        ]
    else:
        for name, value in arguments.items():
            source = source.replace(name, value)
        statements = [source]
    async with owner.transaction():
        await owner.execute("set local role customhouse_crossing")
        for statement in statements:
            found = json.loads(await owner.fetchval(f"explain (format json) {statement}"))
            assert await whole(owner, found) == [], found


async def test_a_search_keeps_its_good_plans_whatever_its_arguments_are(
    full: UUID, database_server: Server, owner: asyncpg.Connection
) -> None:
    """PostgreSQL may turn to a plan for any arguments after five runs: it must not be one that reads everything."""
    one: UUID = await owner.fetchval("select delivery_id from deliveries where tenant_id = 't0' order by 1 limit 1 offset 700")
    period = f"'{NOBODY}', '{one}', 50"
    asked = {
        "search": ("text, uuid[], uuid, text, text", f"'t0', '{{{one}}}', null, null, null", 1),
        "window_of_tenant": ("text, uuid, uuid, integer", f"'t0', {period}", 50),
        "window_of_connection": ("text, uuid, uuid, integer, uuid", f"'t0', {period}, '{full}'", 50),
        "window_of_queue": ("text, uuid, uuid, integer", f"'t0', {period}", 50),
        "window_of_unhappy": ("text, uuid, uuid, integer, text", f"'t0', {period}, 'failed'", 14),
    }
    assert asked.keys() == SEARCH.keys()
    service = await asyncpg.connect(database_server.app, server_settings={"search_path": "customhouse", "jit": "off"})
    await service.execute("set plan_cache_mode = force_generic_plan")
    async with service.transaction():
        await service.execute("select set_config('app.tenant_id', 't0', true)")
        for name, (types, arguments, expected) in asked.items():
            await service.execute(f"prepare {name} ({types}) as {SEARCH[name]}")
            run = f"execute {name} ({arguments})"
            assert len(await service.fetch(run)) == expected, name
            found = json.loads(await service.fetchval(f"explain (analyze, format json) {run}"))
            assert await whole(owner, found) == [], name
            assert rows_read(found) < 20 * expected + 50, name
    await service.close()


def rows_read(plan: Any) -> int:
    """Return the rows that all nodes of an analysed plan handled."""
    if isinstance(plan, list):
        return sum(map(rows_read, plan))
    if isinstance(plan, dict):
        own = int(plan.get("Actual Rows", 0) * plan.get("Actual Loops", 0) + plan.get("Rows Removed by Filter", 0))
        return own + sum(rows_read(value) for value in plan.values() if isinstance(value, dict | list))
    return 0
