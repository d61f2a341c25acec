"""A fresh schema and a migrated one are the same; what is written down is what there is."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from importlib.resources import files
from uuid import uuid4

import asyncpg
import pytest
from pgqueuer.queries import Queries

from customhouse.db import Migrator
from customhouse.embedded.binaries import binaries
from customhouse.embedded.throwaway import throwaway_cluster
from customhouse.sql.dump import dump
from customhouse.sql.migrate import migrate
from customhouse.types import Secret
from tests.conftest import Server
from tests.migration.catalogue import QUERIES, catalogue

pytestmark = pytest.mark.anyio

WRITTEN = files("customhouse.sql").joinpath("schema.sql").read_text(encoding="utf-8")


@pytest.fixture
async def fresh(server: Server, template: str) -> AsyncIterator[asyncpg.Connection]:
    """A database made from `schema.sql` alone (`template` has made the roles)."""
    assert template
    name = f"fresh_{uuid4().hex[:12]}"
    conn = await asyncpg.connect(server.owner)
    await conn.execute(f"create database {name}")
    inside = await asyncpg.connect(server.at(name).owner)
    try:
        await inside.execute(WRITTEN)
        yield inside
    finally:
        await inside.close()
        await conn.execute(f"drop database {name} with (force)")
        await conn.close()


async def test_a_fresh_schema_and_a_migrated_one_are_the_same(fresh: asyncpg.Connection, owner: asyncpg.Connection) -> None:
    made, migrated = await catalogue(fresh), await catalogue(owner)
    for kind in QUERIES:
        assert made[kind] == migrated[kind], kind
        assert made[kind], f"nothing of kind {kind} was compared"
    assert len(made["relation"]) > 20
    assert len(made["right"]) > 100


@pytest.fixture(scope="module")
def newest(request: pytest.FixtureRequest) -> Iterator[str]:
    """The owner's address on a server of the version that `make schema` uses."""
    if os.environ.get("TEST_DATABASE_URL") is None:
        yield request.getfixturevalue("server").owner
        return
    with throwaway_cluster() as cluster:
        yield cluster.dsn("owner")


async def test_the_file_says_what_the_migrations_add_up_to(newest: str) -> None:
    name = f"dumped_{uuid4().hex[:12]}"
    conn = await asyncpg.connect(newest)
    await conn.execute(f"create database {name}")
    address = Server(newest, newest).at(name).owner
    try:
        async with Migrator.connect(Secret(address.encode())) as migrator:
            await migrate(migrator)
        assert dump(address, binaries() / "pg_dump") == WRITTEN, "run `make schema`"
    finally:
        await conn.execute(f"drop database {name} with (force)")
        await conn.close()


async def test_the_job_queue_is_as_its_installed_version_asks(owner: asyncpg.Connection) -> None:
    queries = Queries.from_asyncpg_connection(owner)
    plan = await queries.plan_upgrade()
    assert plan.statements == ()
    assert plan.notes == ()
    await owner.execute("drop index customhouse.pgqueuer_updated_id_id1_idx")
    assert len((await queries.plan_upgrade()).statements) == 1, "the plan does not look at our tables"
