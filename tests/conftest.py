"""A real PostgreSQL per run (per xdist worker), a fresh copy of a migrated template per test, real servers on loopback."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from customhouse import logs
from customhouse.app import EMBEDDED_LOGIN, App, Store
from customhouse.audit.log import SYSTEM
from customhouse.config import Settings, load
from customhouse.db import Migrator
from customhouse.embedded.throwaway import throwaway_cluster
from customhouse.outbound.endpoints import Made, Wish
from customhouse.sql.migrate import migrate
from customhouse.tenants.idempotency import Once
from customhouse.types import Secret, TenantId
from tests.receivers import Recorder, recorder

hypothesis_settings.register_profile(
    "suite", derandomize=True, deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow], database=None
)
hypothesis_settings.load_profile("suite")

# Where the suite runs in the background, a shell has SIGINT ignored, and nohup SIGHUP: processes that it starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def plain_logs() -> Iterator[None]:
    """Whatever a command that a test ran in this process chose for the log ends with the test."""
    yield
    logs._door.stream, logs._door.pretty = None, False
    logs._install("info")


NOT_REPEATED = Once(None, b"")
"""A call without an idempotency key."""


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server: where its owner and the service log in."""

    owner: str
    app: str

    def at(self, database: str) -> Server:
        """Return the addresses of another database on it."""
        return Server(_with_database(self.owner, database), _with_database(self.app, database))


def _with_database(url: str, database: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


@contextmanager
def alone() -> Iterator[None]:
    """Keep workers that share a server (TEST_DATABASE_URL) from making its roles at the same time."""
    with (Path(tempfile.gettempdir()) / "customhouse-tests.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    given = os.environ.get("TEST_DATABASE_URL")
    if given is None:
        with throwaway_cluster() as cluster:
            yield Server(cluster.dsn("owner"), cluster.dsn("app"))
        return
    password = "suite-only"
    parts = urlsplit(given)
    with alone():
        asyncio.run(_make_login(given, password))
    yield Server(given, urlunsplit(parts._replace(netloc=f"{EMBEDDED_LOGIN}:{password}@{parts.hostname}:{parts.port}")))


async def _make_login(url: str, password: str) -> None:
    conn = await asyncpg.connect(url)
    try:
        if not await conn.fetchval("select true from pg_roles where rolname = $1", EMBEDDED_LOGIN):
            await conn.execute(f"create role {EMBEDDED_LOGIN} login password '{password}'")
    finally:
        await conn.close()


@pytest.fixture(scope="session")
def template(server: Server) -> str:
    """The name of a migrated database to copy."""
    name = f"template_{uuid4().hex[:12]}"

    async def make() -> None:
        conn = await asyncpg.connect(server.owner)
        await conn.execute(f"create database {name}")
        await conn.close()
        async with Migrator.connect(Secret(server.at(name).owner.encode())) as migrator:
            await migrate(migrator, login=EMBEDDED_LOGIN)

    with alone():
        asyncio.run(make())
    return name


@pytest.fixture
async def database_server(server: Server, template: str) -> AsyncIterator[Server]:
    """A fresh, migrated database of this test alone."""
    name = f"test_{uuid4().hex[:12]}"
    conn = await asyncpg.connect(server.owner)
    try:
        await conn.execute(f"create database {name} template {template} strategy wal_log")
        yield server.at(name)
        await conn.execute(f"drop database {name} with (force)")
    finally:
        await conn.close()


@pytest.fixture
async def owner(database_server: Server) -> AsyncIterator[asyncpg.Connection]:
    """A connection as the owner of the schema, who sees every row: for looking, never for the service."""
    conn = await asyncpg.connect(database_server.owner, server_settings={"search_path": "customhouse"})
    try:
        yield conn
    finally:
        conn.terminate()


@pytest.fixture
def environ(tmp_path: Path, database_server: Server) -> dict[str, str]:
    """Settings of a service for tests; a test changes what it needs before it makes one."""
    return {
        "CUSTOMHOUSE_ENVIRONMENT": "dev",
        "CUSTOMHOUSE_DATA_DIR": str(tmp_path / "data"),
        "CUSTOMHOUSE_DATABASE_URL": database_server.app,
        "CUSTOMHOUSE_EGRESS_ALLOW": "127.0.0.0/8",
        "CUSTOMHOUSE_LISTEN": "127.0.0.1:0",
        "CUSTOMHOUSE_DATABASE_POOL_SIZE": "5",
    }


@pytest.fixture
def settings(environ: dict[str, str]) -> Settings:
    return load(environ)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[App]:
    """Run a service on its database, without a face."""
    assert settings.database_url is not None
    app = await App.open(settings, Store(settings.database_url))
    try:
        await app.start()
        yield app
    finally:
        await app.stop()


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[App]:
    async with running(settings) as app:
        yield app


MakeTenant = Callable[[str], Any]


@pytest.fixture
async def tenant(app: App) -> TenantId:
    """A tenant called acme."""
    await app.tenants.create("acme", "Acme", SYSTEM, NOT_REPEATED)
    return TenantId("acme")


@pytest.fixture
async def receiver() -> AsyncIterator[Recorder]:
    """A real HTTP server on loopback that keeps what it gets and answers as told."""
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(recorder())


@pytest.fixture
async def endpoint(app: App, tenant: TenantId, receiver: Recorder) -> Made:
    """A webhook connection of acme to `receiver`, for all event types."""
    return await app.endpoints.create(tenant, Wish(receiver.url("/hook")), SYSTEM, NOT_REPEATED)
