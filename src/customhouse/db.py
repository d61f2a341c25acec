"""PostgreSQL: the pool, transactions that know their tenant, named queries, and the channel on which changes are told."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib.resources import files
from typing import Any, Final, Protocol, cast

import asyncpg

from customhouse.errors import Conflict, DatabaseRefused, DatabaseUnavailable, SettingsError
from customhouse.types import Secret, TenantId

Row = Mapping[str, Any]
SCHEMA: Final = "customhouse"
CHANGES: Final = "customhouse_changed"
REFRESHED: Final = "customhouse_refreshed"
"""Where it is told that the refresh of a connection has ended, well or not; the payload is the connection's id."""
_COMMAND_TIMEOUT: Final = 30.0
_ACQUIRE_TIMEOUT: Final = 10.0
_RECONNECT_FIRST: Final = 0.05
_RECONNECT_LAST: Final = 1.0
_STATEMENT: Final = "select true"


class Executor(Protocol):
    """What runs queries: a transaction of ours. Queries are constants from `.sql` files, never built."""

    async def fetch(self, query: str, *args: Any) -> Sequence[Row]:
        """Return all rows."""
        ...

    async def fetchrow(self, query: str, *args: Any) -> Row | None:
        """Return the first row."""
        ...

    async def fetchval(self, query: str, *args: Any) -> Any:
        """Return the first column of the first row."""
        ...

    async def execute(self, query: str, *args: Any) -> str:
        """Run and return the command tag."""
        ...


def queries(package: str, name: str = "queries.sql") -> Mapping[str, str]:
    """Read a file of queries, each headed by `-- name: word`, from a package.

    Raises:
        SettingsError: text before the first name, or a name twice: the installation is damaged.
    """
    text = files(package).joinpath(name).read_text(encoding="utf-8")
    head, *parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)
    found = {key: body.strip().rstrip(";") for key, body in zip(parts[::2], parts[1::2], strict=True)}
    if any(line and not line.startswith("--") for line in head.splitlines()) or len(found) * 2 != len(parts):
        raise SettingsError(f"{package}/{name} is damaged")
    return found


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what the driver raises into our family; messages of PostgreSQL can quote values and stay inside."""
    try:
        yield
    except asyncpg.UniqueViolationError:
        raise Conflict from None
    except (
        OSError,
        TimeoutError,
        asyncpg.PostgresConnectionError,
        asyncpg.CannotConnectNowError,
        asyncpg.TooManyConnectionsError,
        asyncpg.OperatorInterventionError,
        asyncpg.InternalClientError,
    ) as error:
        raise DatabaseUnavailable from error
    except asyncpg.InterfaceError as error:
        # The driver's word for "the connection (or the pool) is gone", and for a query that is called with the wrong arguments.
        if str(error).startswith("the server expects"):
            raise DatabaseRefused from error
        raise DatabaseUnavailable from error
    except asyncpg.PostgresError as error:
        raise DatabaseRefused from error


async def enter(conn: Executor, tenant: TenantId) -> None:
    """Move an open transaction into a tenant: for the few calls that write in two (the operator's and a tenant's)."""
    await conn.execute("select set_config('app.tenant_id', $1, true)", tenant)


async def _nothing_to_reset(_conn: asyncpg.Connection) -> None:
    """Save the round trip of a reset: every setting of ours is local to its transaction (`set_config(…, true)`)."""


class Database:
    """A pool of connections of the service role, and one more that listens for changes."""

    def __init__(self, pool: asyncpg.Pool, dsn: Secret) -> None:
        """Take an open pool; use `connect`."""
        self._pool = pool
        self._dsn = dsn

    @classmethod
    async def connect(cls, dsn: Secret, *, size: int, application_name: str = "customhouse") -> Database:
        """Open the pool.

        Raises:
            DatabaseUnavailable: nobody answers, or the login is refused.
            SettingsError: the login could step over row-level security (superuser, BYPASSRLS, or owner of our tables).
        """
        try:
            with _translated():
                pool = await asyncpg.create_pool(
                    dsn.reveal().decode(),
                    min_size=1,
                    max_size=size,
                    command_timeout=_COMMAND_TIMEOUT,
                    timeout=_ACQUIRE_TIMEOUT,
                    max_inactive_connection_lifetime=300,
                    reset=_nothing_to_reset,
                    server_settings={
                        "search_path": SCHEMA,
                        "application_name": application_name,
                        "jit": "off",
                        "timezone": "UTC",
                        "idle_in_transaction_session_timeout": "30s",
                    },
                )
        except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError, ValueError) as error:
            raise DatabaseUnavailable(
                "PostgreSQL refused the login: check user, password and database name in CUSTOMHOUSE_DATABASE_URL."
            ) from error
        database = cls(pool, dsn)
        try:
            await database._refuse_powerful_login()
        except BaseException:
            await database.close()
            raise
        return database

    async def _refuse_powerful_login(self) -> None:
        async with self.transaction() as conn:
            powerful = await conn.fetchval(
                """
                select rolsuper or rolbypassrls or exists (
                    select from pg_class c join pg_namespace n on n.oid = c.relnamespace
                    where n.nspname = 'customhouse' and pg_has_role(current_user, c.relowner, 'member'))
                  or exists (select from pg_roles r where r.rolname = 'customhouse_revoker' and pg_has_role(current_user, r.oid, 'member'))
                from pg_roles where rolname = current_user
                """
            )
        if powerful:
            raise SettingsError(
                "CUSTOMHOUSE_DATABASE_URL logs in as a superuser, a BYPASSRLS role or an owner of the tables: row-level security would "
                "not hold. Use a login that is only a member of customhouse_service (docs/how-to/run-with-your-own-postgresql.md)."
            )

    @asynccontextmanager
    async def transaction(self, tenant: TenantId | None = None) -> AsyncIterator[Executor]:
        """Run a transaction in one tenant; without one, tables with tenants show no rows.

        Raises:
            DatabaseUnavailable: the connection could not be had or was lost; what happened to a COMMIT in flight is unknown.
            Conflict: a unique key is taken.
        """
        with _translated():
            async with self._pool.acquire(timeout=_ACQUIRE_TIMEOUT) as conn, conn.transaction():
                executor = cast("Executor", conn)
                if tenant is not None:
                    await enter(executor, tenant)
                yield executor

    async def call(self, query: str, *args: Any) -> Sequence[Row]:
        """Run one statement as its own transaction, in one round trip: for the batch and crossing functions.

        Raises:
            DatabaseUnavailable: as for `transaction`.
        """
        with _translated():
            async with self._pool.acquire(timeout=_ACQUIRE_TIMEOUT) as conn:
                return cast("Sequence[Row]", await conn.fetch(query, *args))

    @asynccontextmanager
    async def own_connection(self) -> AsyncIterator[Any]:
        """Open a driver connection outside the pool, for a library that brings its own queries (the job queue).

        Raises:
            DatabaseUnavailable: nobody answers.
        """
        with _translated():
            conn = await asyncpg.connect(
                self._dsn.reveal().decode(), timeout=_ACQUIRE_TIMEOUT, server_settings={"search_path": SCHEMA, "timezone": "UTC"}
            )
        try:
            yield conn
        finally:
            conn.terminate()

    async def listen(
        self,
        on_change: Callable[[str], None],
        on_lost: Callable[[], None],
        on_ready: Callable[[], None],
        on_refreshed: Callable[[str], None] | None = None,
    ) -> None:
        """Hear changes until cancelled, on a connection of its own; reconnect when it is lost.

        Args:
            on_change: called with the tenant that changed.
            on_lost: called when changes may be missed from now on.
            on_ready: called when changes are heard (again).
            on_refreshed: called with the id of a connection whose refresh has ended.
        """
        delay = _RECONNECT_FIRST
        while True:
            ended = asyncio.Event()
            conn: asyncpg.Connection | None = None
            try:
                conn = await asyncpg.connect(self._dsn.reveal().decode(), timeout=_ACQUIRE_TIMEOUT, server_settings={"search_path": SCHEMA})
                conn.add_termination_listener(lambda _conn, ended=ended: ended.set())
                await conn.add_listener(CHANGES, lambda _conn, _pid, _channel, payload: on_change(str(payload)))
                if on_refreshed is not None:
                    await conn.add_listener(REFRESHED, lambda _conn, _pid, _channel, payload: on_refreshed(str(payload)))
                delay = _RECONNECT_FIRST
                on_ready()
                while not ended.is_set():
                    try:
                        await asyncio.wait_for(ended.wait(), timeout=5.0)
                    except TimeoutError:
                        # A half-open connection tells nothing: ask.
                        await conn.execute("select 1", timeout=5.0)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                pass
            finally:
                on_lost()
                if conn is not None:
                    conn.terminate()
            await asyncio.sleep(delay)
            delay = min(delay * 2, _RECONNECT_LAST)

    async def close(self) -> None:
        """Close the pool; connections in use get a moment to finish."""
        try:
            await asyncio.wait_for(self._pool.close(), timeout=5.0)
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self._pool.terminate()


async def look(dsn: Secret, query: str, *args: Any) -> Sequence[Row]:
    """Ask one question on a connection of its own: for the benchmark and the demo, which look at tables as their owner.

    Raises:
        DatabaseUnavailable: nobody answers.
    """
    with _translated():
        conn = await asyncpg.connect(dsn.reveal().decode(), timeout=_ACQUIRE_TIMEOUT, server_settings={"search_path": SCHEMA})
        try:
            return cast("Sequence[Row]", await conn.fetch(query, *args))
        finally:
            conn.terminate()


class Migrator:
    """A connection as the owner of the schema: it alone may change tables."""

    _LOCK: Final = 0x637573746F6D  # "custom": any constant that nobody else uses

    def __init__(self, conn: asyncpg.Connection) -> None:
        """Take an open connection; use `connect`."""
        self._conn = conn

    @classmethod
    @asynccontextmanager
    async def connect(cls, dsn: Secret) -> AsyncIterator[Migrator]:
        """Open and close the connection.

        Raises:
            DatabaseUnavailable: nobody answers, or the login is refused.
        """
        try:
            with _translated():
                conn = await asyncpg.connect(dsn.reveal().decode(), timeout=_ACQUIRE_TIMEOUT, server_settings={"search_path": SCHEMA})
        except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError, ValueError) as error:
            raise DatabaseUnavailable("PostgreSQL refused the migrator's login.") from error
        try:
            with _translated():
                yield cls(conn)
        finally:
            conn.terminate() if conn.is_closed() else await conn.close(timeout=5)

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Hold the migration lock of this database."""
        await self._conn.execute("select pg_advisory_lock($1)", self._LOCK)
        try:
            yield
        finally:
            await self._conn.execute("select pg_advisory_unlock($1)", self._LOCK)

    async def recorded(self) -> dict[int, str]:
        """Return version → checksum of what was applied; an empty database has none."""
        if await self._conn.fetchval("select to_regclass('customhouse.schema_migrations')") is None:
            return {}
        rows = await self._conn.fetch("select version, checksum from customhouse.schema_migrations")
        return {row["version"]: row["checksum"] for row in rows}

    async def apply(self, version: int, name: str, checksum: str, sql: str) -> None:
        """Run one migration and record it, both or neither."""
        # The driver stumbles over a text without any statement, as one of comments alone is.
        whole = f"{sql}\n{_STATEMENT}"
        async with self._conn.transaction():
            await self._conn.execute(
                """
                create schema if not exists customhouse;
                create table if not exists customhouse.schema_migrations (
                    version integer primary key, name text not null, checksum text not null, applied_at timestamptz not null default now());
                """
            )
            await self._conn.execute(whole)
            await self._conn.execute("grant select on customhouse.schema_migrations to customhouse_service")
            await self._conn.execute(
                "insert into customhouse.schema_migrations (version, name, checksum) values ($1, $2, $3)", version, name, checksum
            )

    async def admit(self, login: str) -> None:
        """Make a login a member of `customhouse_service`."""
        granted = await self._conn.fetchval("select format('grant customhouse_service to %I', $1::text)", login)
        await self._conn.execute(granted)
