"""The walls between tenants, read from the catalogue and tried on rows: a new table is covered by itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from customhouse import ids
from customhouse.app import App
from customhouse.audit.log import SYSTEM
from customhouse.errors import IdempotencyConflict, Invalid
from customhouse.notices.ports import Recipient
from customhouse.outbound.requests import read
from customhouse.outbound.roster import SQL
from customhouse.tenants.api_keys import ApiKey, Scope
from customhouse.tenants.idempotency import Once
from customhouse.types import PLATFORM, TenantId
from tests.conftest import Server
from tests.receivers import Recorder, status
from tests.scenes import connect, make_tenant, publish, settled, until

pytestmark = pytest.mark.anyio

WITHOUT_TENANT = {
    "processes",
    "schema_migrations",
    "brakes",
    "provider_brakes",
    "key_rotations",
    "pgqueuer",
    "pgqueuer_log",
    "pgqueuer_schedules",
    "pgqueuer_statistics",
}
"""Processes, versions, what is held back everywhere or at one provider, which rotations of keys were begun, and the job queue, whose
arguments are ids only (rulings §1).
Whatever is added here needs a reason."""

_TAKEN = (
    "TABLE(connection_id uuid, provider text, reason text, account_index bytea, api_origin text, tokens_sealed bytea, access_sealed bytea, "
    "refresh_sealed bytea, token_generation bigint, access_expires_at timestamp with time zone, key_id uuid, tenant_key_id uuid, "
    "wrapped_key bytea, ends_key boolean, attempts integer, asked_at timestamp with time zone, ends_at timestamp with time zone)"
)
CROSSING = {
    "resolve_api_key_v1": ("customhouse_crossing", "TABLE(tenant_id text, key_id uuid)"),
    "claim_due_v4": ("customhouse_crossing", "TABLE(tenant_id text, connection_id uuid, delivery_id uuid, lease integer)"),
    "recover_leases_v2": ("customhouse_crossing", "integer"),
    "queue_depth_v2": ("customhouse_crossing", "TABLE(due bigint, waiting bigint, leased bigint)"),
    "stalled_lines_v1": ("customhouse_crossing", "TABLE(tenant_id text, delivery_id uuid)"),
    "overdue_deliveries_v1": ("customhouse_crossing", "TABLE(tenant_id text, delivery_id uuid)"),
    "fleet_health_v1": ("customhouse_crossing", "TABLE(tried bigint, failing bigint)"),
    "long_failing_v1": ("customhouse_crossing", "TABLE(tenant_id text, connection_id uuid)"),
    "purge_keys_v1": ("customhouse_crossing", "integer"),
    "certificates_expiring_v1": ("customhouse_crossing", "TABLE(tenant_id text, connection_id uuid)"),
    "resolve_connect_link_v1": ("customhouse_crossing", "TABLE(tenant_id text, session_id uuid)"),
    "resolve_connect_state_v1": ("customhouse_crossing", "TABLE(tenant_id text, session_id uuid)"),
    "connect_sessions_due_v1": ("customhouse_crossing", "TABLE(tenant_id text, session_id uuid, over boolean)"),
    "grants_sharing_v1": ("customhouse_crossing", "bigint"),
    "grants_sharing_v2": ("customhouse_crossing", "bigint"),
    "disconnects_unfinished_v1": ("customhouse_crossing", "TABLE(tenant_id text, connection_id uuid)"),
    "dormant_connections_v1": ("customhouse_crossing", "TABLE(tenant_id text, connection_id uuid)"),
    "connections_of_account_v1": ("customhouse_crossing", "TABLE(tenant_id text, connection_id uuid)"),
    "connections_to_end_v1": ("customhouse_crossing", "TABLE(tenant_id text, connection_id uuid)"),
    "pasted_keys_due_v1": ("customhouse_crossing", "TABLE(tenant_id text, connection_id uuid)"),
    "revocations_due_v1": ("customhouse_crossing", "TABLE(tenant_id text, revocation_id uuid)"),
    "refreshes_due_v1": ("customhouse_crossing", "TABLE(tenant_id text, connection_id uuid, provider text, generation bigint)"),
    "outgrown_connections_v1": ("customhouse_crossing", "TABLE(tenant_id text, connection_id uuid)"),
    "claim_revocation_v1": ("customhouse_revoker", _TAKEN),
    "claim_revocation_v2": ("customhouse_revoker", _TAKEN.replace("ends_key", "pending_session uuid, ends_key")),
    "signing_turns_due_v1": ("customhouse_crossing", "TABLE(tenant_id text, connection_id uuid)"),
    "notice_mails_due_v1": ("customhouse_crossing", "TABLE(tenant_id text, notice_id uuid)"),
    "notices_past_v1": ("customhouse_crossing", "TABLE(tenant_id text, notice_id uuid)"),
    "key_holders_v1": ("customhouse_crossing", "TABLE(tenant_id text)"),
    "key_turns_v1": ("customhouse_crossing", "TABLE(tenant_id text)"),
    "upkeep_partitions_v1": ("customhouse_upkeep", "TABLE(made integer, dropped integer)"),
}
"""Everything that runs with other rights than the caller's, with its owner and what it answers. What may look across tenants answers ids
and counts (rulings §1); the revoker stays in the tenant of the call, and hands out one sealed token for a revocation that is due."""

POLICIES = {
    ("api_keys", "crossing", "customhouse_crossing", "SELECT"),
    ("connection_health", "crossing", "customhouse_crossing", "SELECT"),
    ("connections", "crossing_health", "customhouse_crossing", "SELECT"),
    ("connection_secrets", "crossing", "customhouse_crossing", "SELECT"),
    ("connections", "crossing_certificates", "customhouse_crossing", "SELECT"),
    ("connections", "crossing_consented", "customhouse_crossing", "SELECT"),
    ("connect_sessions", "crossing", "customhouse_crossing", "SELECT"),
    ("connect_states", "crossing", "customhouse_crossing", "SELECT"),
    ("pending_grants", "crossing", "customhouse_crossing", "SELECT"),
    ("connection_grants", "crossing", "customhouse_crossing", "SELECT"),
    ("revocation_escrow", "crossing", "customhouse_crossing", "SELECT"),
    ("revocation_escrow", "revoker", "customhouse_revoker", "ALL"),
    ("disconnect_receipts", "crossing", "customhouse_crossing", "SELECT"),
    ("consents", "crossing", "customhouse_crossing", "SELECT"),
    ("connection_dormancy", "crossing", "customhouse_crossing", "SELECT"),
    ("connection_uses", "crossing_dormant", "customhouse_crossing", "SELECT"),
    ("integration_tokens", "crossing", "customhouse_crossing", "SELECT"),
    ("token_refreshes", "crossing", "customhouse_crossing", "SELECT"),
    ("tenant_keys", "crossing", "customhouse_crossing", "SELECT"),
    ("data_keys", "crossing", "customhouse_crossing", "SELECT"),
    ("delivery_queue", "crossing", "customhouse_crossing", "ALL"),
    ("event_keys", "crossing", "customhouse_crossing", "ALL"),
    ("idempotency_keys", "crossing", "customhouse_crossing", "ALL"),
    ("notices", "crossing", "customhouse_crossing", "SELECT"),
    ("pasted_keys", "crossing", "customhouse_crossing", "SELECT"),
    ("tenants", "platform_is_readable", "customhouse_service", "SELECT"),
    ("event_types", "platform_is_readable", "customhouse_service", "SELECT"),
}
"""Every policy besides `own_tenant`."""

CROSSING_RIGHTS = {
    ("api_keys.tenant_id", "SELECT"),
    ("api_keys.key_id", "SELECT"),
    ("api_keys.token_hash", "SELECT"),
    *(
        (f"connection_secrets.{name}", "SELECT")
        for name in ("tenant_id", "connection_id", "purpose", "state", "activates_at", "valid_until")
    ),
    *(
        (f"connections.{name}", "SELECT")
        for name in ("tenant_id", "connection_id", "status", "certificate_expires_at", "certificate_told_for")
    ),
    *((f"connections.{name}", "SELECT") for name in ("tenant_id", "connection_id", "provider", "status")),
    *(
        (f"connection_health.{name}", "SELECT")
        for name in ("tenant_id", "connection_id", "failing_since", "last_success_at", "last_failure_at")
    ),
    ("connections.mode", "SELECT"),
    *((f"connect_sessions.{name}", "SELECT") for name in ("tenant_id", "session_id", "link_hash", "state", "deadline")),
    *((f"connect_states.{name}", "SELECT") for name in ("tenant_id", "session_id", "state_hash")),
    *((f"pending_grants.{name}", "SELECT") for name in ("tenant_id", "session_id", "account_index")),
    *((f"connection_grants.{name}", "SELECT") for name in ("tenant_id", "connection_id", "account_index", "requested")),
    *((f"revocation_escrow.{name}", "SELECT") for name in ("tenant_id", "revocation_id", "next_at")),
    ("connection_grants.shared_index", "SELECT"),
    ("pending_grants.shared_index", "SELECT"),
    ("connections.updated_at", "SELECT"),
    *((f"connection_dormancy.{name}", "SELECT") for name in ("tenant_id", "connection_id", "told_at")),
    *((f"connection_uses.{name}", "SELECT") for name in ("tenant_id", "connection_id", "last_used_at")),
    *((f"disconnect_receipts.{name}", "SELECT") for name in ("tenant_id", "connection_id", "key_released", "operation_id", "updated_at")),
    *((f"consents.{name}", "SELECT") for name in ("tenant_id", "connection_id", "confirmed_at")),
    *((f"token_refreshes.{name}", "SELECT") for name in ("tenant_id", "connection_id", "lease_until", "not_before")),
    *(
        (f"integration_tokens.{name}", "SELECT")
        for name in ("tenant_id", "connection_id", "token_generation", "access_expires_at", "issued_at")
    ),
    *((f"tenant_keys.{name}", "SELECT") for name in ("tenant_id", "state")),
    *((f"data_keys.{name}", "SELECT") for name in ("tenant_id", "state")),
    ("delivery_queue", "SELECT"),
    ("delivery_queue", "UPDATE"),
    ("event_keys", "SELECT"),
    ("event_keys", "DELETE"),
    ("idempotency_keys", "SELECT"),
    ("idempotency_keys", "DELETE"),
    *((f"pasted_keys.{name}", "SELECT") for name in ("tenant_id", "connection_id", "next_check_at")),
    *((f"notices.{name}", "SELECT") for name in ("tenant_id", "notice_id", "created_at", "read_at", "mail", "mail_next_at")),
    ("processes", "SELECT"),
    ("processes", "DELETE"),
}

_TABLES = """
    select c.relname, exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id') as with_tenant
    from pg_class c where c.relnamespace = 'customhouse'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
"""
ALL: dict[str, Any] = {"user_id": None, "provider": None, "status": None, "before": None, "limit": 100}
ONE, OTHER = TenantId("one"), TenantId("other")

_A_GRANT = """
    with session as (
      insert into connect_sessions (tenant_id, session_id, link_hash, user_id, provider, mode, connection_id, renews, state, deadline)
      values ($1, $3, $4, 'u1', 'zoom', 'observe', $2, false, 'confirmed', 'infinity') returning session_id
    ), state as (
      insert into connect_states (tenant_id, state_hash, session_id, provider, browser_hash, verifier_sealed, redirect_uri, expires_at)
      select $1, $4, session_id, 'zoom', $4, '', '', 'infinity' from session
    ), exchange as (
      insert into connect_exchanges (tenant_id, session_id, code_sealed, verifier_sealed, redirect_uri, started_at)
      select $1, session_id, '', '', '', now() from session
    ), pending as (
      insert into pending_grants (tenant_id, session_id, connection_id, requested, granted, missing, scopes_known, manifest_version,
                                  account_index, account_sealed, tokens_sealed, granted_at)
      select $1, session_id, $2, '{}', '{}', '{}', true, 1, $4, '', '', now() from session
    ), unused as (
      insert into connection_dormancy (tenant_id, connection_id, told_at) values ($1, $2, now())
    ), receipt as (
      insert into disconnect_receipts (tenant_id, connection_id, provider, reason, revocation_status, tokens_destroyed, audit_entry_id, at,
                                       updated_at)
      values ($1, $2, 'zoom', 'requested', 'pending', false, $3, now(), now())
    ), ended as (
      insert into ended_keys (tenant_id, connection_id, key_id, ended_at) values ($1, $2, $3, now())
    ), held as (
      insert into connection_grants (tenant_id, connection_id, grant_version, requested, granted, missing, scopes_known, manifest_version,
                                     account_index, account_sealed, user_sealed)
      values ($1, $2, 1, '{}', '{}', '{}', true, 1, $4, '', '')
    ), consented as (
      insert into consents (tenant_id, connection_id, grant_version, session_id, user_id, mode, requested, granted, manifest_version,
                            consented_at, confirmed_at)
      values ($1, $2, 1, $3, 'u1', 'observe', '{}', '{}', 1, now(), now())
    ), used as (
      insert into connection_uses (tenant_id, connection_id, last_used_at) values ($1, $2, now())
    ), seen as (
      insert into bulk_read_seen (tenant_id, window_at, actor_id, connection_id) values ($1, now(), 'key_suite', $2)
    ), counted as (
      insert into bulk_read_counts (tenant_id, actor_id, window_at, connections) values ($1, 'key_suite', now(), 1)
    ), alarm as (
      insert into bulk_read_alarms (tenant_id, actor_id, raised_at, window_at, connections, threshold)
      values ($1, 'key_suite', now(), now(), 1, 1)
    ), refreshes as (
      insert into token_refreshes (tenant_id, connection_id, generation, started_at, attempts) values ($1, $2, 1, now(), 1)
    ), tokens as (
      insert into integration_tokens (tenant_id, connection_id, token_generation, access_sealed, issued_at) values ($1, $2, 1, '', now())
    ), pasted as (
      insert into pasted_keys (tenant_id, connection_id, key_index, live, pasted_at, checked_at) values ($1, $2, $4, false, now(), now())
    )
    insert into revocation_escrow (tenant_id, revocation_id, connection_id, provider, reason, tokens_sealed, ends_key, next_at, ends_at)
    values ($1, $3, $2, 'zoom', 'suite', '', false, 'infinity', 'infinity')
"""


async def tables(owner: asyncpg.Connection, *, with_tenant: bool = True) -> set[str]:
    return {row["relname"] for row in await owner.fetch(_TABLES) if row["with_tenant"] == with_tenant}


@pytest.fixture
async def service(database_server: Server) -> AsyncIterator[asyncpg.Connection]:
    """A bare connection as the service's login."""
    conn = await asyncpg.connect(database_server.app, server_settings={"search_path": "customhouse"})
    try:
        yield conn
    finally:
        conn.terminate()


@pytest.fixture
async def inhabited(app: App, receiver: Recorder, owner: asyncpg.Connection) -> App:
    """Two tenants with rows in every table, the queue included."""
    receiver.answer = status(500)
    root = ApiKey(PLATFORM, ids.new(), "root", frozenset(Scope), app.clock.now())
    for tenant in (ONE, OTHER):
        await make_tenant(app, tenant)
        once = await Once.prepare(app.vault, tenant, "keys", "k-1", b"{}")
        await app.api_keys.create(tenant, "a key", ["admin"], SYSTEM, by=root, once=once)
        await app.policies.put(tenant, ["work_email"], {}, "remove", SYSTEM)
        await app.event_types.register(tenant, "order.created", "", {"type": "object"}, {}, SYSTEM)
        await connect(app, tenant, receiver.url(f"/{tenant}"))
        await publish(app, tenant, event_id="e-1", idempotency_key="k-1")
        async with app.database.transaction(tenant) as conn:
            await app.notices.notify(conn, tenant, Recipient("u1"), "connection.created")

    async def both_tried() -> bool:
        return bool(await owner.fetchval("select count(distinct tenant_id) = 2 from attempts"))

    await until(both_tried)
    failing = [(one.tenant_id, one.connection_id) for name in (ONE, OTHER) for one in await app.endpoints.list(name, **ALL)]
    for tenant, connection_id in failing:
        await owner.execute(_A_GRANT, tenant, connection_id, ids.new(), bytes(32))
    now = [app.clock.now()] * len(failing)
    await app.database.call(SQL["note_health"], [t for t, _ in failing], [c for _, c in failing], now, now, now, ["timeout"] * len(failing))
    return app


async def test_without_a_tenant_no_table_shows_a_row_and_with_one_only_its_own(
    inhabited: App, owner: asyncpg.Connection, service: asyncpg.Connection
) -> None:
    found = await tables(owner)
    assert len(found) >= 16
    for table in sorted(found):
        there = {row[0] for row in await owner.fetch(f"select distinct tenant_id from {table}")}
        assert {ONE, OTHER} <= there, f"the scene has no rows of two tenants in {table}: extend it"
        assert await service.fetch(f"select from {table}") == [], table
        for unset in ("", "nobody", "ONE", "one ", "%"):
            async with service.transaction():
                await service.execute("select set_config('app.tenant_id', $1, true)", unset)
                seen = {row[0] for row in await service.fetch(f"select tenant_id from {table}")}
                assert seen <= {PLATFORM}, (table, unset)
        async with service.transaction():
            await service.execute("select set_config('app.tenant_id', $1, true)", ONE)
            seen = {row[0] for row in await service.fetch(f"select tenant_id from {table}")}
        # What the operator declares for everybody is the only exception, and it is listed in POLICIES.
        assert seen - ({PLATFORM} if table in {"tenants", "event_types"} else set()) == {ONE}, table
        assert await service.fetch(f"select from {table}") == [], f"{table}: the tenant outlived its transaction"


async def test_nothing_can_be_written_into_another_tenant(inhabited: App, owner: asyncpg.Connection, service: asyncpg.Connection) -> None:
    for table in sorted(await tables(owner)):
        theirs = f"select to_jsonb(x)::text from {table} x where tenant_id = $1 order by 1"
        before = await owner.fetch(theirs, OTHER)
        attempts = (
            f"insert into {table} select (jsonb_populate_record(null::{table}, '{{}}'::jsonb || $1::text::jsonb)).*",
            f"update {table} set tenant_id = $1::text::jsonb ->> 'tenant_id'",
            f"update {table} set tenant_id = tenant_id where tenant_id = $1::text::jsonb ->> 'tenant_id'",
            f"delete from {table} where tenant_id = $1::text::jsonb ->> 'tenant_id'",
        )
        for attempt in attempts:
            changed = "0"
            with contextlib.suppress(asyncpg.InsufficientPrivilegeError):
                async with service.transaction():
                    await service.execute("select set_config('app.tenant_id', $1, true)", ONE)
                    changed = (await service.execute(attempt, before[0][0])).rpartition(" ")[2]
            assert changed == "0", (table, attempt)
        assert await owner.fetch(theirs, OTHER) == before


async def test_a_statement_with_rows_of_two_tenants_writes_neither(
    inhabited: App, owner: asyncpg.Connection, service: asyncpg.Connection
) -> None:
    insert = "insert into event_keys select t, $2, $3, '', now() from unnest($1::text[]) t"
    async with service.transaction():
        await service.execute("select set_config('app.tenant_id', $1, true)", ONE)
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            async with service.transaction():
                await service.execute(insert, [ONE, OTHER], bytes(32), ids.new())
        await service.execute(insert, [ONE], bytes(32), ids.new())
    with pytest.raises(asyncpg.FeatureNotSupportedError, match="row-level security"):
        await service.copy_records_to_table("event_keys", records=[(ONE, bytes(32), ids.new(), b"", None)])
    assert await owner.fetchval("select array_agg(tenant_id) from event_keys where key_hash = $1", bytes(32)) == [ONE]


async def test_row_level_security_is_forced_on_every_table_with_a_tenant(owner: asyncpg.Connection) -> None:
    rows = await owner.fetch("select relname, relrowsecurity and relforcerowsecurity as forced from pg_class where relname = any ($1)",
                             await tables(owner))  # fmt: skip
    assert {row["relname"] for row in rows if not row["forced"]} == set()
    own = await owner.fetch("select tablename, qual, with_check, roles::text from pg_policies where policyname = 'own_tenant'")
    expression = "(tenant_id = NULLIF(current_setting('app.tenant_id'::text, true), ''::text))"
    assert {row["tablename"] for row in own} == await tables(owner)
    assert {(row["qual"], row["with_check"], row["roles"]) for row in own} == {(expression, expression, "{customhouse_service}")}


async def test_there_are_no_other_policies_than_those_listed(owner: asyncpg.Connection) -> None:
    rows = await owner.fetch("select tablename, policyname, roles, cmd from pg_policies where policyname <> 'own_tenant'")
    assert {(row["tablename"], row["policyname"], ",".join(row["roles"]), row["cmd"]) for row in rows} == POLICIES


async def test_the_tables_without_a_tenant_are_those_listed(owner: asyncpg.Connection) -> None:
    assert await tables(owner, with_tenant=False) == WITHOUT_TENANT


async def test_every_key_of_a_table_with_a_tenant_contains_it(owner: asyncpg.Connection) -> None:
    rows = await owner.fetch(
        """
        select c.relname, i.indexrelid::regclass::text as name, array(
            select a.attname::text
            from unnest(i.indkey::smallint[]) k join pg_attribute a on a.attrelid = c.oid and a.attnum = k) as columns
        from pg_index i join pg_class c on c.oid = i.indrelid where c.relname = any ($1) and i.indisunique
        union all
        select c.relname, f.conname, array(
            select a.attname::text from unnest(f.conkey) k join pg_attribute a on a.attrelid = c.oid and a.attnum = k)
        from pg_constraint f join pg_class c on c.oid = f.conrelid where c.relname = any ($1) and f.contype = 'f'
        """,
        await tables(owner),
    )
    assert {row["relname"] for row in rows} == await tables(owner)
    assert [(row["relname"], row["name"]) for row in rows if "tenant_id" not in row["columns"]] == []


async def test_the_functions_that_cross_tenants_are_those_listed(owner: asyncpg.Connection) -> None:
    rows = await owner.fetch(
        """
        select p.proname, pg_get_userbyid(p.proowner) as owner, pg_get_function_result(p.oid) as result, p.proconfig,
               has_function_privilege('public', p.oid, 'execute') as anybody,
               has_function_privilege('customhouse_service', p.oid, 'execute') as service
        from pg_proc p where p.pronamespace = 'customhouse'::regnamespace and p.prosecdef
        """
    )
    assert {row["proname"]: (row["owner"], row["result"]) for row in rows} == CROSSING
    for row in rows:
        assert "search_path=customhouse, pg_temp" in row["proconfig"], row["proname"]
        assert (row["anybody"], row["service"]) == (False, True), row["proname"]


async def test_every_function_of_ours_pins_its_search_path_or_is_a_trigger_that_names_its_schema(owner: asyncpg.Connection) -> None:
    rows = await owner.fetch(
        """
        select p.proname, p.prosrc from pg_proc p
        where p.pronamespace = 'customhouse'::regnamespace and p.prolang <> (select oid from pg_language where lanname = 'internal')
          and not coalesce(p.proconfig::text ~ 'search_path=customhouse, pg_temp', false)
        """
    )
    assert {row["proname"] for row in rows} == {"tell_change", "tell_key_change", "uuid_floor", "fn_pgqueuer_changed"}
    assert "update customhouse.tenants" in next(row["prosrc"] for row in rows if row["proname"] == "tell_change")


async def test_the_crossing_role_has_the_rights_listed_and_nobody_is_a_member_of_it_but_the_migrator(owner: asyncpg.Connection) -> None:
    rows = await owner.fetch(
        """
        select table_name || '.' || column_name as thing, privilege_type from information_schema.column_privileges c
        where grantee = 'customhouse_crossing' and table_schema = 'customhouse'
          and not exists (select from information_schema.table_privileges t where t.grantee = c.grantee
                          and t.table_name = c.table_name and t.privilege_type = c.privilege_type)
        union all
        select table_name, privilege_type from information_schema.table_privileges
        where grantee = 'customhouse_crossing' and table_schema = 'customhouse'
        """
    )
    assert {(row["thing"], row["privilege_type"]) for row in rows} == CROSSING_RIGHTS
    for role in ("customhouse_crossing", "customhouse_upkeep", "customhouse_revoker"):
        asked = "select rolcanlogin, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb from pg_roles where rolname = $1"
        flags = await owner.fetchrow(asked, role)
        assert flags is not None
        assert not any(flags.values()), role
        assert not await owner.fetchval("select pg_has_role('customhouse_app', $1, 'member')", role)
        assert not await owner.fetchval("select has_schema_privilege('customhouse_crossing', 'customhouse', 'create')")


async def test_the_service_cannot_read_what_waits_in_escrow_and_gets_it_for_a_due_revocation_in_its_tenant(
    inhabited: App, owner: asyncpg.Connection, service: asyncpg.Connection
) -> None:
    for column in ("tokens_sealed", "access_sealed", "refresh_sealed", "wrapped_key", "*"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await service.fetch(f"select {column} from revocation_escrow")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await service.fetch("delete from revocation_escrow returning tokens_sealed")
    await owner.execute("update revocation_escrow set next_at = now()")
    waiting = await owner.fetchval("select revocation_id from revocation_escrow where tenant_id = $1", ONE)
    claim = "select connection_id from claim_revocation_v1($1, now(), now() + interval '1 minute')"
    assert await service.fetch(claim, waiting) == []
    for tenant, found in ((OTHER, 0), (ONE, 1), (ONE, 0)):
        async with service.transaction():
            await service.execute("select set_config('app.tenant_id', $1, true)", tenant)
            assert len(await service.fetch(claim, waiting)) == found


async def test_the_service_owns_nothing_and_can_create_nothing(owner: asyncpg.Connection, service: asyncpg.Connection) -> None:
    owned = await owner.fetch(
        """
        select c.relname from pg_class c where pg_get_userbyid(c.relowner) in ('customhouse_service', 'customhouse_app')
        union all select p.proname from pg_proc p where pg_get_userbyid(p.proowner) in ('customhouse_service', 'customhouse_app')
        union all select n.nspname from pg_namespace n where pg_get_userbyid(n.nspowner) in ('customhouse_service', 'customhouse_app')
        """
    )
    assert owned == []
    for statement in (
        "create table customhouse.mine (x int)",
        "create table public.mine (x int)",
        "create function customhouse.mine() returns int language sql as 'select 1'",
        "create schema mine",
        "alter table customhouse.events disable row level security",
        "alter table customhouse.events no force row level security",
        "drop policy own_tenant on customhouse.events",
        "create policy mine on customhouse.events using (true)",
        "truncate customhouse.events",
        "set role customhouse_crossing",
        "set role customhouse_upkeep",
        "set session authorization customhouse_owner",
        "alter role customhouse_app bypassrls",
        "update customhouse.schema_migrations set version = 99",
        "delete from customhouse.audit_entries",
        "update customhouse.audit_entries set tag = 'x'",
        "update customhouse.attempts set outcome = 'delivered'",
        "delete from customhouse.attempts",
        "update customhouse.events set event_type = 'x'",
        "update customhouse.privacy_policies set allowed_fields = '{phone}'",
        "delete from customhouse.tenants",
        "delete from customhouse.tenant_keys",
    ):
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.InvalidParameterValueError)):
            await service.execute(statement)


async def test_partitions_can_be_reached_through_their_parent_only(
    inhabited: App, owner: asyncpg.Connection, service: asyncpg.Connection
) -> None:
    partitions = [row[0] for row in await owner.fetch(
        "select relname from pg_class where relispartition and relkind = 'r' and relnamespace = 'customhouse'::regnamespace")]  # fmt: skip
    assert len(partitions) > 50
    rights = """
        select has_table_privilege($1, format('customhouse.%I', $2::text), 'select, insert, update, delete, truncate, references, trigger')
    """
    for role in ("customhouse_service", "customhouse_app", "customhouse_crossing"):
        assert [name for name in partitions if await owner.fetchval(rights, role, name)] == []
    (filled,) = [name for name in partitions if name.startswith("payloads_") and await owner.fetchval(f"select count(*) from {name}")]
    async with service.transaction():
        await service.execute("select set_config('app.tenant_id', $1, true)", ONE)
        assert await service.fetchval("select count(*) from payloads") == 1
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await service.fetch(f"select * from {filled}")


async def test_the_same_event_id_in_two_tenants_is_two_events(inhabited: App, owner: asyncpg.Connection) -> None:
    assert await owner.fetchval("select count(*) from events where event_id = 'e-1'") == 2
    first, second = [await inhabited.reads.event(tenant, "e-1") for tenant in (ONE, OTHER)]
    assert {one.delivery_id for one in first.deliveries}.isdisjoint(one.delivery_id for one in second.deliveries)
    # Each tenant's own repetition finds its own event; what the other said is no conflict.
    for tenant in (ONE, OTHER):
        assert (await publish(inhabited, tenant, event_id="e-1", idempotency_key="k-1")).duplicate
    with pytest.raises(IdempotencyConflict):
        await publish(inhabited, ONE, event_id="e-1", data={"order_id": "o_2"})


async def test_the_same_idempotency_key_in_two_tenants_is_two_keys(inhabited: App, owner: asyncpg.Connection) -> None:
    hashes = [row[0] for row in await owner.fetch("select key_hash from idempotency_keys")]
    assert len(hashes) == len(set(hashes)) == 2
    assert await owner.fetchval("select count(*) = count(distinct key_hash) from event_keys")


async def test_a_group_with_a_hundred_tenants_keeps_them_apart(app: App, receiver: Recorder, owner: asyncpg.Connection) -> None:
    tenants = [await make_tenant(app, f"t{number}") for number in range(100)]
    made = {}
    for tenant in tenants:
        made[tenant] = await connect(app, tenant, receiver.url(f"/{tenant}"))
    groups, before = "customhouse_accept_batch_size_count", 0.0
    for turn in range(2):
        before = float(next(line.split()[1] for line in app.metrics.render().decode().splitlines() if line.startswith(groups)))
        await asyncio.gather(*(publish(app, tenant, event_id=f"same-{turn}", data={"whose": str(tenant)}) for tenant in tenants))
    after = float(next(line.split()[1] for line in app.metrics.render().decode().splitlines() if line.startswith(groups)))
    assert after - before <= 20, "hardly any tenants shared a transaction: nothing was tried"
    await receiver.wait_for(200)
    await settled(owner, 200)
    for request in receiver.received:
        said = json.loads(request.body)
        tenant = TenantId(request.path[1:])
        assert said["tenant_id"] == said["data"]["whose"] == tenant
        assert said["integration"]["connection_id"] == ids.show("con", made[tenant].connection.connection_id)
    for table in ("events", "deliveries", "attempts"):
        rows = await owner.fetch(f"select tenant_id, count(*) as n from {table} group by 1")
        assert {row["tenant_id"]: row["n"] for row in rows} == dict.fromkeys(tenants, 2), table


async def test_a_batch_that_names_a_row_of_another_tenant_does_not_reach_it(
    inhabited: App, owner: asyncpg.Connection, service: asyncpg.Connection
) -> None:
    process = ids.new()
    theirs: UUID = await owner.fetchval("select delivery_id from delivery_queue where tenant_id = $1", OTHER)
    await owner.execute("update delivery_queue set owner = $1, lease = 7, lease_until = now() + interval '1 hour'", process)
    before = [dict(row) for row in await owner.fetch("select * from delivery_queue order by 1, 2")]
    counts = "select (select count(*) from attempts), (select count(*) from payloads)"
    rows_before = await owner.fetchrow(counts)

    assert await service.fetch(SQL["load_batch"], process, [ONE], [theirs]) == []
    await service.fetch(SQL["release_batch"], process, [ONE], [theirs], [7], 0.0)
    drop_payloads = True
    written = await service.fetch(
        SQL["record_batch"], process, drop_payloads, [ONE], [1], [theirs], [7], ["delivered"], [None], [True], [ids.new()],
        [inhabited.clock.now()], [200], [None], [1], [1], [1], [b""], [0.0], [], [],
    )  # fmt: skip
    assert written == []
    assert await service.fetch(SQL["accepted_among"], [ONE], [UUID(int=theirs.int)]) == []
    assert [dict(row) for row in await owner.fetch("select * from delivery_queue order by 1, 2")] == before
    assert await owner.fetchrow(counts) == rows_before


async def test_an_event_cannot_be_sent_to_a_connection_of_another_tenant(inhabited: App, receiver: Recorder) -> None:
    (theirs,) = await inhabited.endpoints.list(OTHER, user_id=None, provider=None, status=None, before=None, limit=10)
    shown = ids.show("con", theirs.connection_id)
    body: dict[str, Any] = {"event_type": "order.created", "data": {}, "connection_ids": [shown]}
    seen = len(receiver.received)
    with pytest.raises(Invalid) as refused:
        await inhabited.acceptor.accept(read(body), ONE, SYSTEM, size_bytes=10)
    assert [fault.pointer for fault in refused.value.faults] == ["/connection_ids/0"]
    assert len(receiver.received) == seen
