"""Migrating: once, by one at a time, by an owner that is no superuser, and never over what is not understood."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest

from customhouse.app import App, Store
from customhouse.config import load
from customhouse.db import Database, Migrator
from customhouse.embedded.binaries import binaries, for_other_users
from customhouse.errors import CustomhouseError, DatabaseRefused, SettingsError
from customhouse.sql.migrate import Migration, compare, migrate, migrations, status
from customhouse.types import PLATFORM, Secret
from tests import on_postgresql
from tests.conftest import Server, alone

pytestmark = pytest.mark.anyio


def secret(address: str) -> Secret:
    return Secret(address.encode())


@pytest.fixture
async def empty(server: Server, template: str) -> AsyncIterator[Server]:
    """A database with nothing in it, on a server that has our roles (`template` made them)."""
    assert template
    name = f"empty_{uuid4().hex[:12]}"
    conn = await asyncpg.connect(server.owner)
    await conn.execute(f"create database {name}")
    try:
        yield server.at(name)
    finally:
        await conn.execute(f"drop database {name} with (force)")
        await conn.close()


async def test_of_two_migrators_one_works_and_the_other_finds_it_done(empty: Server) -> None:
    async def run() -> int:
        async with Migrator.connect(secret(empty.owner)) as migrator:
            return len(await migrate(migrator))

    assert sorted(await asyncio.gather(run(), run(), run())) == [0, 0, len(migrations())]
    async with Migrator.connect(secret(empty.owner)) as migrator:
        found = await status(migrator)
        assert (found.applied, found.pending) == (tuple(m.version for m in migrations()), ())


async def test_an_empty_database_lacks_everything_and_looking_changes_nothing(empty: Server) -> None:
    async with Migrator.connect(secret(empty.owner)) as migrator:
        for _ in range(2):
            found = await status(migrator)
            assert (found.applied, found.pending) == ((), migrations())
    conn = await asyncpg.connect(empty.owner)
    assert await conn.fetchval("select to_regnamespace('customhouse')") is None
    await conn.close()


async def test_a_migration_that_fails_leaves_nothing_behind(empty: Server) -> None:
    async with Migrator.connect(secret(empty.owner)) as migrator:
        await migrate(migrator)
        with pytest.raises(DatabaseRefused):
            async with Migrator.connect(secret(empty.owner)) as other:
                await other.apply(99, "broken", "x", "create table customhouse.half (x int); select 1 / 0;")
        assert 99 not in await migrator.recorded()
    conn = await asyncpg.connect(empty.owner)
    assert await conn.fetchval("select to_regclass('customhouse.half')") is None
    await conn.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("update customhouse.schema_migrations set checksum = 'other' where version = 1", "other contents"),
        ("insert into customhouse.schema_migrations values (99, 'later', 'x')", "newer Customhouse"),
    ],
)
async def test_a_database_that_is_not_understood_is_refused_by_migrator_and_service(
    database_server: Server, owner: asyncpg.Connection, environ: dict[str, str], change: str, words: str
) -> None:
    await owner.execute(change)
    async with Migrator.connect(secret(database_server.owner)) as migrator:
        with pytest.raises(SettingsError, match=words):
            await migrate(migrator)
    with pytest.raises(SettingsError, match=words):
        await App.open(load(environ), Store(secret(database_server.app)))


async def test_a_service_does_not_start_before_its_migrations_ran(
    database_server: Server, owner: asyncpg.Connection, environ: dict[str, str]
) -> None:
    await owner.execute("delete from customhouse.schema_migrations where version = 2")
    with pytest.raises(SettingsError, match="run `customhouse db migrate`"):
        await App.open(load(environ), Store(secret(database_server.app)))


def test_what_was_recorded_is_compared_with_what_is_known() -> None:
    known = (Migration(1, "a", "select 1"), Migration(2, "b", "select 2"))
    assert compare({}, known).pending == known
    assert compare({1: known[0].checksum}, known).pending == known[1:]
    # A gap is filled: what was applied out of order by hand is not taken for more than it is.
    assert compare({2: known[1].checksum}, known).pending == known[:1]


async def test_a_login_that_could_step_over_the_walls_is_refused(database_server: Server, owner: asyncpg.Connection) -> None:
    database = await Database.connect(secret(database_server.app), size=1)
    await database.close()
    with pytest.raises(SettingsError, match="row-level security would"):
        await Database.connect(secret(database_server.owner), size=1)
    for power, back in (
        ("alter role customhouse_app bypassrls", "alter role customhouse_app nobypassrls"),
        ("grant customhouse_upkeep to customhouse_app", "revoke customhouse_upkeep from customhouse_app"),
        ("grant customhouse_revoker to customhouse_app", "revoke customhouse_revoker from customhouse_app"),
    ):
        with alone():
            await owner.execute(power)
            try:
                with pytest.raises(SettingsError, match="row-level security would"):
                    await Database.connect(secret(database_server.app), size=1)
            finally:
                await owner.execute(back)


# Owners that are no superusers, on a server that never saw us -----------------------------------------------------------


@pytest.fixture(scope="module")
def strange(request: pytest.FixtureRequest) -> Iterator[str]:
    """A superuser's address on a server without any of our roles, of the version that the suite runs on."""
    if os.environ.get("TEST_DATABASE_URL") is None:
        folder = binaries()
        folder = for_other_users(folder) if os.geteuid() == 0 else folder
    else:
        major = asyncio.run(_major(request.getfixturevalue("server").owner))
        found = on_postgresql.binaries(major)
        assert found is not None, f"the binaries of PostgreSQL {major} are needed for a second server"
        folder = found
    with on_postgresql.cluster(folder) as address:
        yield address


async def _major(address: str) -> int:
    conn = await asyncpg.connect(address)
    try:
        return int(conn.get_server_version().major)
    finally:
        await conn.close()


async def _as(superuser: asyncpg.Connection, strange: str, login: str, database: str) -> str:
    password = uuid4().hex
    await superuser.execute(f"alter role {login} login password '{password}'")
    parts = urlsplit(strange)
    return urlunsplit(parts._replace(netloc=f"{login}:{password}@{parts.hostname}:{parts.port}", path=f"/{database}"))


async def test_an_owner_that_may_only_create_roles_can_migrate_and_the_service_then_runs(strange: str) -> None:
    superuser = await asyncpg.connect(strange)
    await superuser.execute("create role first_owner login createrole")
    await superuser.execute("create database first owner first_owner")
    address = await _as(superuser, strange, "first_owner", "first")
    async with Migrator.connect(secret(address)) as migrator:
        assert len(await migrate(migrator)) == len(migrations())
        assert await migrate(migrator) == ()
    owner = await asyncpg.connect(address)
    await owner.execute("create role first_app login")
    async with Migrator.connect(secret(address)) as migrator:
        await migrate(migrator, login="first_app")
    database = await Database.connect(secret(await _as(superuser, strange, "first_app", "first")), size=2)
    try:
        async with database.transaction(PLATFORM) as conn:
            assert await conn.fetchval("select name from tenants") == "The operator"
        assert (await database.call("select made, dropped from upkeep_partitions_v1(20, 7)"))[0]["made"] > 0
    finally:
        await database.close()
        await owner.close()
        await superuser.close()


async def test_roles_that_an_operator_made_have_to_be_given_to_the_owner(strange: str) -> None:
    superuser = await asyncpg.connect(strange)
    for role in ("customhouse_service", "customhouse_crossing", "customhouse_upkeep", "customhouse_revoker"):
        if not await superuser.fetchval("select true from pg_roles where rolname = $1", role):
            await superuser.execute(f"create role {role} nologin")
    await superuser.execute("create role second_owner login")
    await superuser.execute("create database second owner second_owner")
    address = await _as(superuser, strange, "second_owner", "second")
    with pytest.raises(CustomhouseError):
        async with Migrator.connect(secret(address)) as migrator:
            await migrate(migrator)
    inside = await asyncpg.connect(urlunsplit(urlsplit(strange)._replace(path="/second")))
    assert await inside.fetchval("select to_regnamespace('customhouse')") is None
    await inside.execute("grant customhouse_crossing, customhouse_upkeep, customhouse_revoker to second_owner")
    async with Migrator.connect(secret(address)) as migrator:
        assert len(await migrate(migrator)) == len(migrations())
    await inside.close()
    await superuser.close()
