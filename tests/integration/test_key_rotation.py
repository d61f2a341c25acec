"""Rotation of keys on a real database: at no moment is there a value that does not open, nor a reader who cannot."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from rich.console import Console

from customhouse import ids
from customhouse.app import App, Store, key_service
from customhouse.audit.log import SYSTEM
from customhouse.cli.keys import Run, progress
from customhouse.cli.keys_shown import Pace
from customhouse.clock import SystemClock
from customhouse.connections.places import GRANTS, HELD_TENANT_KEYS
from customhouse.connections.tokens import GrantSeal
from customhouse.db import Database
from customhouse.errors import DatabaseRefused, KeyDestroyed, KeyServiceUnavailable, Unsealable
from customhouse.failpoints import Failpoints
from customhouse.jobs.upkeep import upkeep_partitions
from customhouse.outbound.places import ENDPOINTS
from customhouse.types import PLATFORM, TenantId
from customhouse.vault.rotating import Rotating
from customhouse.vault.steps import Kind, Outlook, Step
from customhouse.vault.turns import SQL
from tests.conftest import NOT_REPEATED
from tests.integration.outbound.test_outages import Switchable
from tests.scenes import connect

pytestmark = pytest.mark.anyio

ACME, OTHER = TenantId("acme"), TenantId("other")
SCHEMA = Path(__file__).parents[2] / "src/customhouse/sql/schema.sql"


class HeldClock:
    """A clock that moves when told, and begins now: the database has a clock of its own."""

    def __init__(self) -> None:
        self.began = datetime.now(UTC)
        self.seconds = 0.0

    def now(self) -> datetime:
        return self.began + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


async def unheard(_step: Step, _count: int) -> None:
    return


@dataclass
class Scene:
    """A service on a clock that is held, and other processes on the same database."""

    app: App
    clock: HeldClock
    settings: Any
    owner: asyncpg.Connection
    others: list[App] = field(default_factory=list)

    async def another(self, clock: HeldClock | None = None) -> App:
        """Open a further process; it hears of no change, as if the channel were lost and nobody had noticed."""
        assert self.settings.database_url is not None
        app = await App.open(self.settings, Store(self.settings.database_url), clock or self.clock)
        self.others.append(app)
        return app

    def wait(self) -> None:
        """Let the time pass that a key waits."""
        self.clock.seconds += self.app.rotating.wait.total_seconds() + 1

    async def rotate(self, kind: Kind = Kind.ALL, tenant: TenantId | None = None) -> dict[Step, int]:
        """Rotate from beginning to end; return the sums."""
        sums: dict[Step, int] = {}

        async def told(step: Step, count: int) -> None:
            sums[step] = sums.get(step, 0) + count

        self.clock.seconds += 1
        await self.app.rotating.make(await self.app.rotating.begin(kind, tenant, self.clock.now()), told)
        for _ in range(2):
            self.wait()
            await self.app.rotating.advance(tenant, told)
        return sums

    async def grant(self, tenant: TenantId, *, app: App | None = None) -> UUID:
        """Make a connection with a grant, tokens, and something that waits, as consent makes them."""
        by = app or self.app
        connection_id = ids.new()
        seal = GrantSeal("dev", tenant, connection_id, await by.vault.connection_key(tenant, connection_id, create=True))
        name, session = str(connection_id), ids.new()
        about = seal.seal("connection_grants", "account_sealed", name, b"account", 1)
        user = seal.seal("connection_grants", "user_sealed", name, b"user", 1)
        async with by.database.transaction(tenant) as tx:
            await tx.execute(
                "insert into connections (tenant_id, connection_id, provider, status, mac) values ($1, $2, 'zoom', 'active', '')",
                tenant,
                connection_id,
            )
            await tx.execute(
                """
                insert into connection_grants (tenant_id, connection_id, grant_version, requested, granted, missing, scopes_known,
                                               manifest_version, account_index, account_sealed, user_sealed)
                values ($1, $2, 1, '{}', '{}', '{}', true, 1, $3, $4, $5)
                """,
                tenant,
                connection_id,
                bytes(32),
                about,
                user,
            )
            access = seal.seal("integration_tokens", "access_sealed", name, b"access", 7)
            refresh = seal.seal("integration_tokens", "refresh_sealed", name, b"refresh", 7)
            await tx.execute(
                """
                insert into integration_tokens (tenant_id, connection_id, token_generation, access_sealed, refresh_sealed, issued_at)
                values ($1, $2, 7, $3, $4, now())
                """,
                tenant,
                connection_id,
                access,
                refresh,
            )
            await tx.execute(
                """
                insert into connect_sessions (tenant_id, session_id, link_hash, user_id, provider, mode, connection_id, renews,
                                              state, deadline)
                values ($1, $2, $3, 'u1', 'zoom', 'observe', $4, true, 'granted', 'infinity')
                """,
                tenant,
                session,
                bytes(32),
                connection_id,
            )
            await tx.execute(
                """
                insert into pending_grants (tenant_id, session_id, connection_id, requested, granted, missing, scopes_known,
                                            manifest_version, account_index, account_sealed, tokens_sealed, granted_at)
                values ($1, $2, $3, '{}', '{}', '{}', true, 1, $4, $5, $6, now())
                """,
                tenant,
                session,
                connection_id,
                bytes(32),
                seal.seal("pending_grants", "account_sealed", str(session), b"pending account"),
                seal.seal("pending_grants", "tokens_sealed", str(session), b"pending tokens"),
            )
        return connection_id

    async def opens(self, tenant: TenantId, connection_id: UUID, *, app: App | None = None) -> None:
        """Read all of a connection as the service does: the row, and the connection's key."""
        by = app or self.app
        seal = GrantSeal("dev", tenant, connection_id, await by.vault.connection_key(tenant, connection_id))
        async with by.database.transaction(tenant) as tx:
            tokens = await tx.fetchrow("select * from integration_tokens where connection_id = $1", connection_id)
            grant = await tx.fetchrow("select * from connection_grants where connection_id = $1", connection_id)
            pending = await tx.fetchrow("select * from pending_grants where connection_id = $1", connection_id)
        assert tokens is not None
        assert grant is not None
        name = str(connection_id)
        for column, value in (("access_sealed", b"access"), ("refresh_sealed", b"refresh")):
            assert seal.open("integration_tokens", column, name, tokens[column], tokens["token_generation"]).reveal() == value
        for column, value in (("account_sealed", b"account"), ("user_sealed", b"user")):
            assert seal.open("connection_grants", column, name, grant[column], 1).reveal() == value
        if pending is not None:
            session = str(pending["session_id"])
            for column, value in (("account_sealed", b"pending account"), ("tokens_sealed", b"pending tokens")):
                assert seal.open("pending_grants", column, session, pending[column]).reveal() == value

    async def states(self, tenant: TenantId, connection_id: UUID) -> list[str]:
        """Return the states of a connection's keys, the oldest first."""
        rows = await self.owner.fetch(
            "select state from data_keys where tenant_id = $1 and scope = $2 order by created_at, key_id", tenant, str(connection_id)
        )
        return [row["state"] for row in rows]


@pytest.fixture
async def scene(settings: Any, owner: asyncpg.Connection) -> AsyncIterator[Scene]:
    clock = HeldClock()
    app = await App.open(settings, Store(settings.database_url), clock)
    scene = Scene(app, clock, settings, owner, [app])
    try:
        await app.vault.create_tenant_key(PLATFORM)
        await upkeep(app)
        for name in (ACME, OTHER):
            await app.tenants.create(name, name, SYSTEM, NOT_REPEATED)
        yield scene
    finally:
        for one in scene.others:
            await one.stop()


async def upkeep(app: App) -> None:
    await upkeep_partitions(app.database, app.settings.payload_retention)


async def test_a_rotation_replaces_every_key_and_everything_still_opens(scene: Scene) -> None:
    first, second = await scene.grant(ACME), await scene.grant(OTHER)
    endpoint = await connect(scene.app, ACME, "https://example.com/hook", headers={"X-Key": "k"})
    before = set(await scene.owner.fetch("select key_id from data_keys where state = 'active' and purpose = 'connection'"))
    roots = set(await scene.owner.fetch("select key_id from tenant_keys where state = 'active'"))
    sums = await scene.rotate()
    assert sums[Step.MADE] == sums[Step.TAKEN_OVER] == sums[Step.ENDED] == 3
    assert sums[Step.TENANT_KEYS_MADE] == sums[Step.TENANT_KEYS_ENDED] == 3
    assert Step.UNREADABLE not in sums
    assert await scene.states(ACME, first) == ["destroyed", "active"]
    after = set(await scene.owner.fetch("select key_id from data_keys where state = 'active' and purpose = 'connection'"))
    assert not before & after
    assert not roots & set(await scene.owner.fetch("select key_id from tenant_keys where state = 'active'"))
    assert await scene.owner.fetchval("select count(*) from data_keys where state in ('next', 'retired')") == 0
    assert await scene.owner.fetchval("select count(*) from data_keys where state = 'destroyed' and wrapped is not null") == 0
    for app in (scene.app, await scene.another()):
        await scene.opens(ACME, first, app=app)
        await scene.opens(OTHER, second, app=app)
        roster = await app.rosters.get(ACME)
        assert list(roster.endpoints) == [endpoint.connection.connection_id]
    assert await scene.app.rotating.outlook(None) == Outlook(0, 0, 0, None)


async def test_a_process_that_hears_of_no_change_reads_at_every_step(scene: Scene) -> None:
    connection_id = await scene.grant(ACME)
    deaf = await scene.another()
    rotating = scene.app.rotating

    async def reads() -> None:
        # With what it holds from before the step, and a process that holds nothing.
        await scene.opens(ACME, connection_id, app=deaf)
        fresh = await scene.another()
        await scene.opens(ACME, connection_id, app=fresh)
        await fresh.stop()
        scene.others.remove(fresh)

    await reads()
    scene.clock.seconds += 1
    await rotating.make(await rotating.begin(Kind.ALL, None, scene.clock.now()), unheard)
    await reads()
    assert await scene.states(ACME, connection_id) == ["active", "next"]
    for expected in (["retired", "active"], ["destroyed", "active"]):
        scene.wait()
        await reads()
        await rotating.advance(None, unheard)
        assert await scene.states(ACME, connection_id) == expected
        await reads()


async def test_nothing_takes_over_or_ends_before_its_time(scene: Scene) -> None:
    connection_id = await scene.grant(ACME)
    rotating = scene.app.rotating
    scene.clock.seconds += 1
    await rotating.make(await rotating.begin(Kind.CONNECTION, None, scene.clock.now()), unheard)
    for states in (["active", "next"], ["retired", "active"]):
        since = scene.clock.now()
        scene.clock.seconds += rotating.wait.total_seconds() - 1
        await rotating.advance(None, unheard)
        assert await scene.states(ACME, connection_id) == states
        outlook = await rotating.outlook(None)
        assert outlook.due_at is not None
        assert abs(outlook.due_at - since - rotating.wait) < timedelta(seconds=1)
        scene.clock.seconds += 2
        await rotating.advance(None, unheard)
    assert await scene.states(ACME, connection_id) == ["destroyed", "active"]


async def test_what_a_writer_seals_with_the_key_before_is_moved_and_not_lost(scene: Scene) -> None:
    connection_id = await scene.grant(ACME)
    slow = await scene.another()
    rotating = scene.app.rotating
    scene.clock.seconds += 1
    await rotating.make(await rotating.begin(Kind.CONNECTION, None, scene.clock.now()), unheard)
    scene.wait()
    # It has the key of before in its hands, and writes after the successor has taken over.
    key = await slow.vault.connection_key(ACME, connection_id)
    await rotating.advance(None, unheard)
    seal = GrantSeal("dev", ACME, connection_id, key)
    await put_access(slow, seal, b"access")
    assert await scene.states(ACME, connection_id) == ["retired", "active"]
    await scene.opens(ACME, connection_id)
    scene.wait()
    await rotating.advance(None, unheard)
    assert await scene.states(ACME, connection_id) == ["destroyed", "active"]
    await scene.opens(ACME, connection_id)


async def put_access(app: App, seal: GrantSeal, value: bytes) -> None:
    sealed = seal.seal("integration_tokens", "access_sealed", str(seal.connection_id), value, 7)
    async with app.database.transaction(seal.tenant_id) as tx:
        await tx.execute("update integration_tokens set access_sealed = $2 where connection_id = $1", seal.connection_id, sealed)


async def test_a_writer_that_slept_for_too_long_is_refused_and_nothing_is_lost(scene: Scene) -> None:
    connection_id = await scene.grant(ACME)
    asleep = GrantSeal("dev", ACME, connection_id, await scene.app.vault.connection_key(ACME, connection_id))
    await scene.rotate(Kind.CONNECTION)
    with pytest.raises(DatabaseRefused):
        await put_access(scene.app, asleep, b"of yesterday")
    with pytest.raises(DatabaseRefused):
        async with scene.app.database.transaction(ACME) as tx:
            await tx.execute(
                """
                insert into revocation_escrow (tenant_id, revocation_id, connection_id, provider, reason, tokens_sealed, ends_key,
                                               next_at, ends_at)
                values ($1, $2, $3, 'zoom', 'suite', $4, false, now(), now())
                """,
                ACME,
                ids.new(),
                connection_id,
                asleep.seal("revocation_escrow", "tokens_sealed", "x", b"both"),
            )
    await scene.opens(ACME, connection_id)


async def test_a_key_waits_for_a_writer_who_is_at_it_and_for_nobody_else(scene: Scene) -> None:
    busy, free = await scene.grant(ACME), await scene.grant(ACME)
    rotating = scene.app.rotating
    scene.clock.seconds += 1
    await rotating.make(await rotating.begin(Kind.CONNECTION, None, scene.clock.now()), unheard)
    scene.wait()
    await rotating.advance(None, unheard)
    scene.wait()
    for hold in (
        "select from integration_tokens where connection_id = $1 for update",
        "update pending_grants set account_sealed = account_sealed where connection_id = $1",
    ):
        other = await scene.another()
        async with other.database.transaction(ACME) as tx:
            await tx.execute(hold, busy)
            async with asyncio.timeout(10):
                await rotating.advance(None, unheard)
        assert await scene.states(ACME, free) == ["destroyed", "active"]
        assert await scene.states(ACME, busy) == ["retired", "active"]
        await scene.opens(ACME, busy)
    await rotating.advance(None, unheard)
    assert await scene.states(ACME, busy) == ["destroyed", "active"]
    await scene.opens(ACME, busy)


async def test_two_at_once_do_the_work_once(scene: Scene) -> None:
    connections = [await scene.grant(ACME) for _ in range(12)]
    other = await scene.another()
    scene.clock.seconds += 1
    cutoff = scene.clock.now()
    first, second = await asyncio.gather(*(one.rotating.begin(Kind.ALL, None, cutoff) for one in (scene.app, other)))
    assert first.rotation_id == second.rotation_id
    assert first.resumed != second.resumed
    await asyncio.gather(scene.app.rotating.make(first, unheard), other.rotating.make(second, unheard))
    for _ in range(2):
        scene.wait()
        await asyncio.gather(scene.app.rotating.advance(None, unheard), other.rotating.advance(None, unheard))
    await scene.app.rotating.advance(None, unheard)
    for connection_id in connections:
        assert await scene.states(ACME, connection_id) == ["destroyed", "active"]
        await scene.opens(ACME, connection_id)
    assert await scene.owner.fetchval("select count(*) from tenant_keys where tenant_id = $1", ACME) == 2


@pytest.mark.parametrize("turns", [0, 1, 2])
async def test_a_connection_that_ends_in_between_keeps_no_key(scene: Scene, turns: int) -> None:
    connection_id = await scene.grant(ACME)
    rotating = scene.app.rotating
    scene.clock.seconds += 1
    await rotating.make(await rotating.begin(Kind.CONNECTION, None, scene.clock.now()), unheard)
    for _ in range(turns):
        scene.wait()
        await rotating.advance(None, unheard)
    await scene.app.vault.destroy_connection_key(ACME, connection_id)
    for _ in range(3):
        scene.wait()
        await rotating.advance(None, unheard)
    assert set(await scene.states(ACME, connection_id)) == {"destroyed"}
    with pytest.raises(KeyDestroyed):
        await scene.app.vault.connection_key(ACME, connection_id, create=True)


async def test_what_waits_in_escrow_keeps_its_key_until_it_is_gone(scene: Scene) -> None:
    connection_id = await scene.grant(ACME)
    key = await scene.app.vault.connection_key(ACME, connection_id)
    revocation = ids.new()
    sealed = GrantSeal("dev", ACME, connection_id, key).seal("revocation_escrow", "tokens_sealed", str(revocation), b"both")
    await scene.owner.execute(
        """
        insert into revocation_escrow (tenant_id, revocation_id, connection_id, provider, reason, tokens_sealed, ends_key, next_at,
                                       ends_at, key_id)
        values ($1, $2, $3, 'zoom', 'suite', $4, false, 'infinity', 'infinity', $5)
        """,
        ACME,
        revocation,
        connection_id,
        sealed,
        key.key_id,
    )
    await scene.rotate(Kind.CONNECTION)
    assert await scene.states(ACME, connection_id) == ["retired", "active"]
    await scene.opens(ACME, connection_id)
    opened = GrantSeal("dev", ACME, connection_id, await scene.app.vault.connection_key(ACME, connection_id))
    assert opened.open("revocation_escrow", "tokens_sealed", str(revocation), sealed).reveal() == b"both"
    await scene.owner.execute("delete from revocation_escrow")
    await scene.app.rotating.advance(None, unheard)
    assert await scene.states(ACME, connection_id) == ["destroyed", "active"]


async def test_a_key_that_was_copied_out_of_the_keyring_keeps_its_tenant_key(scene: Scene) -> None:
    connection_id = await scene.grant(ACME)
    row = await scene.owner.fetchrow("select key_id, tenant_key_id, wrapped from data_keys where scope = $1", str(connection_id))
    assert row is not None
    await scene.owner.execute(
        """
        insert into revocation_escrow (tenant_id, revocation_id, connection_id, provider, reason, access_sealed, ends_key, next_at, ends_at,
                                       key_id, tenant_key_id, wrapped_key)
        values ($1, $2, $3, 'zoom', 'suite', '', true, 'infinity', 'infinity', $4, $5, $6)
        """,
        ACME,
        ids.new(),
        connection_id,
        row["key_id"],
        row["tenant_key_id"],
        row["wrapped"],
    )
    await scene.rotate(Kind.TENANT, ACME)
    states = "select state from tenant_keys where tenant_id = $1 order by created_at"
    assert [one["state"] for one in await scene.owner.fetch(states, ACME)] == ["retired", "active"]
    await scene.owner.execute("delete from revocation_escrow")
    await scene.app.rotating.advance(None, unheard)
    assert [one["state"] for one in await scene.owner.fetch(states, ACME)] == ["destroyed", "active"]


async def test_a_value_that_does_not_open_stops_nothing_else_and_keeps_its_key(scene: Scene) -> None:
    broken, good = await scene.grant(ACME), await scene.grant(ACME)
    await scene.owner.execute(
        "update integration_tokens set access_sealed = set_byte(access_sealed, 80, 255 - get_byte(access_sealed, 80)) "
        "where connection_id = $1",
        broken,
    )
    sums = await scene.rotate(Kind.CONNECTION)
    assert sums[Step.UNREADABLE] == 1
    assert await scene.states(ACME, good) == ["destroyed", "active"]
    assert await scene.states(ACME, broken) == ["retired", "active"]


async def test_a_wrapped_key_that_does_not_open_keeps_the_tenant_key_that_it_names(scene: Scene) -> None:
    broken, good = await scene.grant(ACME), await scene.grant(ACME)
    await scene.owner.execute(
        "update data_keys set wrapped = set_byte(wrapped, 90, get_byte(wrapped, 90) # 1) where scope = $1", str(broken)
    )
    scene.app.vault.changed(ACME)
    sums = await scene.rotate(Kind.TENANT, ACME)
    assert sums[Step.UNREADABLE] >= 1
    states = "select state from tenant_keys where tenant_id = $1 order by created_at"
    assert [one["state"] for one in await scene.owner.fetch(states, ACME)] == ["retired", "active"]
    await scene.opens(ACME, good)
    with pytest.raises(Unsealable):
        await scene.app.vault.connection_key(ACME, broken)


async def test_a_tenant_whose_root_key_is_gone_holds_up_nobody_else(scene: Scene) -> None:
    gone, good = await scene.grant(ACME), await scene.grant(OTHER)
    rotating = scene.app.rotating
    scene.clock.seconds += 1
    await rotating.make(await rotating.begin(Kind.CONNECTION, None, scene.clock.now()), unheard)
    # Its tenant key was replaced by a process that had the root key of before; this one has it not.
    await scene.owner.execute(
        "update tenant_keys set kms_key = 'file:gone', state = 'retired', retired_at = created_at where tenant_id = $1", ACME
    )
    replaced = await scene.app.vault.opener.tenant_key(ACME)
    await scene.owner.execute(
        "insert into tenant_keys (tenant_id, key_id, kms_key, wrapped) values ($1, $2, $3, $4)",
        ACME,
        replaced.key_id,
        replaced.root,
        replaced.wrapped,
    )
    fresh = await scene.another()
    for _ in range(2):
        scene.wait()
        with pytest.raises(KeyServiceUnavailable):
            await fresh.rotating.advance(None, unheard)
    assert await scene.states(OTHER, good) == ["destroyed", "active"]
    assert await scene.states(ACME, gone) == ["active", "next"]
    states = "select state from tenant_keys where tenant_id = $1 order by created_at"
    assert "destroyed" not in {one["state"] for one in await scene.owner.fetch(states, ACME)}


async def test_every_step_is_in_the_ledger(scene: Scene) -> None:
    connection_id = await scene.grant(ACME)
    await scene.rotate(Kind.ALL, ACME)
    rows = await scene.owner.fetch("select tag, connection_id, detail from audit_entries where tenant_id = $1 order by entry_id", ACME)
    by_tag = [row["tag"] for row in rows]
    for tag in ("tenant_key.replaced", "tenant_key.created", "tenant_key.destroyed"):
        assert tag in by_tag
    about = [row["tag"] for row in rows if row["connection_id"] == connection_id]
    assert about == ["data_key.created", "data_key.created", "connection_key.replaced", "connection_key.destroyed"]
    assert by_tag.count("tenant_key.unwrapped") >= 1


async def test_only_what_is_asked_for_is_rotated(scene: Scene) -> None:
    mine, theirs = await scene.grant(ACME), await scene.grant(OTHER)
    await scene.rotate(Kind.CONNECTION, ACME)
    assert (await scene.states(ACME, mine), await scene.states(OTHER, theirs)) == (["destroyed", "active"], ["active"])
    assert await scene.owner.fetchval("select count(*) from tenant_keys where state <> 'active'") == 0
    begun = await scene.app.rotating.begin(Kind.CONNECTION, None, scene.clock.now() - timedelta(days=1))
    await scene.app.rotating.make(begun, unheard)
    assert await scene.states(OTHER, theirs) == ["active"], "younger than the cutoff"


async def test_what_was_begun_is_resumed_with_its_own_cutoff(scene: Scene) -> None:
    connection_id = await scene.grant(ACME)
    scene.clock.seconds += 1
    cutoff = scene.clock.now()
    begun = await scene.app.rotating.begin(Kind.ALL, None, cutoff)
    scene.clock.seconds += 60
    young = await scene.grant(ACME)
    again = await scene.app.rotating.begin(Kind.ALL, None, scene.clock.now())
    assert (again.rotation_id, again.cutoff, again.resumed) == (begun.rotation_id, cutoff, True)
    assert not (await scene.app.rotating.begin(Kind.TENANT, ACME, cutoff)).resumed
    assert await scene.app.rotating.count_due(again) == 1
    await scene.app.rotating.make(again, unheard)
    assert await scene.app.rotating.count_due(again) == 0
    assert await scene.states(ACME, connection_id) == ["active", "next"]
    assert await scene.states(ACME, young) == ["active"]
    assert not (await scene.app.rotating.begin(Kind.ALL, None, cutoff)).resumed


def test_every_sealed_column_is_declared_by_its_room_or_sealed_under_another_key() -> None:
    under_other_keys = {
        ("payloads", "sealed"),
        ("connect_sessions", "facts_sealed"),
        ("connect_states", "verifier_sealed"),
        ("connect_exchanges", "code_sealed"),
        ("connect_exchanges", "verifier_sealed"),
        ("notices", "address_sealed"),
    }
    # What moved into escrow unopened, with the id of its key beside it.
    by_id = {("revocation_escrow", "access_sealed"), ("revocation_escrow", "refresh_sealed")}
    tables = re.findall(r"^CREATE TABLE customhouse\.(\w+) \((.*?)^\)", SCHEMA.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    found = {(table, column) for table, body in tables for column in re.findall(r"^    (\w*sealed) bytea", body, re.MULTILINE)}
    declared = {(table.name, column) for table in (*GRANTS, *ENDPOINTS) for column in table.columns}
    assert found - under_other_keys - by_id == declared
    assert under_other_keys <= found
    assert by_id <= found


async def test_every_declared_column_refuses_ended_keys(scene: Scene) -> None:
    rows = await scene.owner.fetch(
        "select tgrelid::regclass::text as name, encode(tgargs, 'escape') as args from pg_trigger where tgname = 'refuse_ended_keys'"
    )
    guarded = {(row["name"], column) for row in rows for column in row["args"].split("\\000")}
    assert {(table.name, column) for table in (*GRANTS, *ENDPOINTS) for column in table.columns} <= guarded


async def test_a_key_service_that_goes_away_stops_a_rotation_and_loses_nothing(
    settings: Any, owner: asyncpg.Connection, scene: Scene
) -> None:
    connections = [(tenant, await scene.grant(tenant)) for tenant in (ACME, OTHER)]
    keys = Switchable(key_service(settings))
    database = await Database.connect(settings.database_url, size=5)
    app = App(settings, database, keys, scene.clock)
    scene.others.append(app)
    rotating = app.rotating

    async def away_after_the_first(step: Step, _count: int) -> None:
        keys.away = keys.away or step is Step.TENANT_KEYS_MADE

    scene.clock.seconds += 1
    begun = await rotating.begin(Kind.ALL, None, scene.clock.now())
    with pytest.raises(KeyServiceUnavailable):
        await rotating.make(begun, away_after_the_first)
    keys.away = False
    for tenant, connection_id in connections:
        await scene.opens(tenant, connection_id)
    again = await rotating.begin(Kind.ALL, None, scene.clock.now())
    assert again.rotation_id == begun.rotation_id
    await rotating.make(again, unheard)
    for expected in ("retired", "destroyed"):
        scene.wait()
        keys.away = True
        if expected == "destroyed":
            with pytest.raises(KeyServiceUnavailable):
                await rotating.advance(None, unheard)
        keys.away = False
        for tenant, connection_id in connections:
            await scene.opens(tenant, connection_id)
        await rotating.advance(None, unheard)
        for tenant, connection_id in connections:
            await scene.opens(tenant, connection_id)
            assert await scene.states(tenant, connection_id) == [expected, "active"]
    assert await rotating.outlook(None) == Outlook(0, 0, 0, None)


async def test_the_command_waits_until_everybody_knows_and_shows_how_far_it_is(scene: Scene) -> None:
    connections = [await scene.grant(ACME) for _ in range(3)]
    app, clock, wait = scene.app, SystemClock(), timedelta(seconds=1.2)
    rotating = Rotating(
        app.database,
        app.vault.opener,
        app._witness,
        clock,
        (*GRANTS, *ENDPOINTS),
        HELD_TENANT_KEYS,
        Failpoints(),
        environment="dev",
        wait=wait,
    )
    run = Run(rotating, clock, ACME, Pace(1000))
    shown = StringIO()
    began = clock.now()
    async with progress(Console(file=shown, force_terminal=True, width=120), shown=True) as bars:
        await run.make(await rotating.begin(Kind.ALL, ACME, began), bars)
        outlook = await run.wait(bars, patient=True)
    assert outlook == Outlook(0, 0, 0, None)
    assert clock.now() - began >= 2 * wait
    assert run.counts[Step.ENDED] == 3
    assert run.counts[Step.TENANT_KEYS_ENDED] == 1
    for connection_id in connections:
        assert await scene.states(ACME, connection_id) == ["destroyed", "active"]
    for words in ("making new keys", "taking over", "sealing anew, ending the old keys", "when every process knows", "3/3"):
        assert words in shown.getvalue()


async def test_the_command_does_not_wait_for_what_does_not_open(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    broken = await scene.grant(ACME)
    await scene.owner.execute(
        "update integration_tokens set access_sealed = substring(access_sealed for 85) where connection_id = $1", broken
    )
    rotation = await scene.app.rotating.begin(Kind.CONNECTION, ACME, scene.clock.now() + timedelta(seconds=1))
    run = Run(scene.app.rotating, scene.clock, ACME, Pace(None))
    await run.make(rotation, None)
    scene.wait()
    await scene.app.rotating.advance(ACME, unheard)
    scene.wait()
    outlook = await run.wait(None, patient=True)
    assert (outlook.replaced, outlook.overdue, outlook.due_at) == (1, 1, None)
    run.report(rotation, outlook, as_json=False)
    said = capsys.readouterr()
    assert "1 replaced are still needed" in said.out
    assert "Something does not open" in said.err
    found = await scene.app.counting.count(ACME, timedelta(days=365))
    assert [one.held_by for one in found.held] == [("integration_tokens",)]


async def test_what_is_due_is_looked_up_key_by_key_whatever_the_planner_believes(scene: Scene) -> None:
    await scene.grant(ACME)
    await scene.owner.execute("analyze data_keys; set plan_cache_mode = force_generic_plan")
    for query, given in (
        ("due", "'acme', now(), gen_random_uuid(), 100"),
        ("count_due", "'acme', now()"),
        ("retire", "'acme', '{}', now(), now()"),
        ("add_next", "'acme', gen_random_uuid(), now(), '{}', '{}', '{}'"),
    ):
        await scene.owner.execute(f"prepare {query} as {SQL[query]}")
        plan = "\n".join(row[0] for row in await scene.owner.fetch(f"explain execute {query} ({given})"))
        assert "SubPlan" in plan, plan
        assert "Anti Join" not in plan, plan
        assert "Semi Join" not in plan, plan
