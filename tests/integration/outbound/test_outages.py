"""What the service stands on goes away and comes back while events flow: refusals that say so, nothing lost, no help needed."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import asyncpg
import pytest

from customhouse import ids
from customhouse.app import App, Store, key_service, migrate_store
from customhouse.audit.log import SYSTEM
from customhouse.clock import SystemClock
from customhouse.config import Settings, load
from customhouse.crypto.kms import KeyService
from customhouse.db import Database
from customhouse.embedded.cluster import Cluster
from customhouse.embedded.throwaway import throwaway_cluster
from customhouse.errors import CustomhouseError, DatabaseUnavailable, KeyServiceUnavailable, Overloaded, Unauthenticated
from customhouse.outbound.endpoints import Change
from customhouse.tenants.api_keys import ApiKey, Scope
from customhouse.types import PLATFORM, Secret
from tests.conftest import Server, running
from tests.receivers import Recorder, status
from tests.scenes import NOT_REPEATED, connect, hasten, make_tenant, publish, settled, until
from tests.wire import Wire, wire

pytestmark = pytest.mark.anyio


@pytest.fixture
async def line(database_server: Server, environ: dict[str, str]) -> AsyncIterator[Wire]:
    """A wire between the service and its database."""
    async with wire(database_server.app) as made:
        environ["CUSTOMHOUSE_DATABASE_URL"] = made.leads(database_server.app)
        yield made


class Ahead(SystemClock):
    """The machine's clock as it will be in a little more than what may be remembered unheard: a second."""

    def monotonic(self) -> float:
        return super().monotonic() + 1.01


async def hears(app: App) -> bool:
    """Tell whether the service says that it hears of changes."""
    return next(check.ok for check in await app.ready() if check.name == "changes")


# Changes ------------------------------------------------------------------------------------------------------------------------


async def test_a_killed_listener_comes_back_by_itself(environ: dict[str, str], owner: asyncpg.Connection, receiver: Recorder) -> None:
    async with running(load(environ)) as app:
        acme = await make_tenant(app, "acme")
        made = await connect(app, acme, receiver.url())
        await publish(app, acme)
        listeners = (
            "select pid from pg_stat_activity where usename = 'customhouse_app' and datname = current_database() and application_name = ''"
        )
        before = {row[0] for row in await owner.fetch(listeners)}
        assert before
        for pid in before:
            await owner.execute("select pg_terminate_backend($1)", pid)

        async def replaced() -> bool:
            return bool({row[0] for row in await owner.fetch(listeners)} - before) and await hears(app)

        await until(replaced)
        await app.endpoints.change(acme, made.connection.connection_id, Change(paused=True), SYSTEM)

        async def told() -> bool:
            return app.rosters.held(acme) is None

        await until(told)


async def test_while_changes_are_not_heard_nothing_remembered_is_trusted_for_long(
    environ: dict[str, str], line: Wire, database_server: Server, receiver: Recorder
) -> None:
    async with running(load(environ)) as app, running(load(environ | {"CUSTOMHOUSE_DATABASE_URL": database_server.app})) as other:
        acme = await make_tenant(app, "acme")
        await connect(app, acme, receiver.url())
        root = ApiKey(PLATFORM, ids.new(), "root", frozenset(Scope), app.clock.now())
        key, token = await app.api_keys.create(acme, "a key", ["admin"], SYSTEM, by=root, once=NOT_REPEATED)
        assert token is not None
        text = token.reveal().decode()
        await app.api_keys.authenticate(text)
        await publish(app, acme)

        async def hearing() -> bool:
            return await hears(app)

        await until(hearing)
        # The pool is left alone; the listener alone is cut, and does not get through again.
        line.open = False
        await cut_listeners(database_server)

        async def deaf() -> bool:
            return not await hears(app)

        await until(deaf)
        assert (await app.api_keys.authenticate(text)).key_id == key.key_id
        await other.api_keys.revoke(acme, key.key_id, SYSTEM)

        app.api_keys._clock = Ahead()
        with pytest.raises(Unauthenticated):
            await app.api_keys.authenticate(text)
        # A tenant that changes meanwhile is read again because the database says so, not because it was heard.
        made = await connect(other, acme, receiver.url("/new"))
        accepted = await publish(app, acme)
        assert ids.show("con", made.connection.connection_id) in {shown for _, shown, _ in accepted.deliveries}
        line.open = True
        await until(hearing)


async def cut_listeners(server: Server) -> None:
    conn = await asyncpg.connect(server.owner)
    await conn.execute(
        """select pg_terminate_backend(pid) from pg_stat_activity
           where usename = 'customhouse_app' and datname = current_database() and application_name = ''"""
    )
    await conn.close()


# PostgreSQL ---------------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def own_cluster(settings: Settings) -> AsyncIterator[tuple[Cluster, Settings]]:
    """A PostgreSQL that nobody else uses; its guard starts it again when it dies."""
    with throwaway_cluster() as cluster:
        await migrate_store(Store(Secret(b""), cluster), settings)
        yield cluster, dataclasses.replace(settings, database_url=Secret(cluster.dsn("app").encode()))


def kill(cluster: Cluster) -> None:
    """SIGKILL to the server."""
    pid = int((cluster.directory / "pgdata" / "postmaster.pid").read_text(encoding="utf-8").split("\n", 1)[0])
    os.kill(pid, signal.SIGKILL)


async def test_a_database_killed_and_restarted_while_events_flow_loses_nothing(settings: Settings, receiver: Recorder) -> None:
    async with own_cluster(settings) as (cluster, own), running(own) as app:
        acme = await make_tenant(app, "acme")
        await connect(app, acme, receiver.url())
        accepted: set[str] = set()
        refused: list[CustomhouseError] = []
        stop = asyncio.Event()

        async def flow(name: int) -> None:
            number = 0
            while not stop.is_set():
                wanted = f"e-{name}-{number}"
                try:
                    accepted.add((await publish(app, acme, event_id=wanted)).event_id)
                    number += 1
                except CustomhouseError as error:
                    refused.append(error)
                    await asyncio.sleep(0.05)

        flows = [asyncio.create_task(flow(name)) for name in range(8)]
        await receiver.wait_for(100)
        kill(cluster)

        async def noticed() -> bool:
            return bool(refused)

        await until(noticed)
        before = len(accepted)

        async def flowing() -> bool:
            return len(accepted) > before + 50

        await until(flowing, within=40)
        stop.set()
        await asyncio.gather(*flows)
        assert {type(error) for error in refused} <= {DatabaseUnavailable, Overloaded}
        owner = await asyncpg.connect(cluster.dsn("owner"), server_settings={"search_path": "customhouse"})
        await owner.execute(
            "update delivery_queue set lease_until = now() where owner is not null and lease_until > now() + interval '1 min'"
        )
        await settled(owner, len(accepted), within=40)
        arrived = {row["event_id"] for row in await owner.fetch("select event_id from events")}
        assert accepted == arrived
        got = [request.body.split(b'"event_id":"', 1)[1].split(b'"', 1)[0].decode() for request in receiver.received]
        assert set(got) == accepted
        await owner.close()

        async def in_order() -> bool:
            return all(check.ok for check in await app.ready())

        await until(in_order)


async def test_a_cut_wire_answers_that_the_database_is_away_and_repairs_itself(
    environ: dict[str, str], line: Wire, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    async with running(load(environ)) as app:
        acme = await make_tenant(app, "acme")
        await connect(app, acme, receiver.url())
        await publish(app, acme)
        line.open = False
        line.cut()
        with pytest.raises(DatabaseUnavailable):
            await publish(app, acme, event_id="lost-1")
        assert await owner.fetchval("select count(*) from events where event_id = 'lost-1'") == 0
        line.open = True

        async def in_order() -> bool:
            return all(check.ok for check in await app.ready())

        await until(in_order)
        assert not (await publish(app, acme, event_id="lost-1")).duplicate
        await settled(owner, 2)


async def test_a_service_stops_in_time_although_the_database_is_away(
    environ: dict[str, str], line: Wire, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    gate = asyncio.Event()

    async def answer(_: object) -> bytes:
        await gate.wait()
        return status(204)

    receiver.answer = answer
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(running(load(environ)))
        acme = await make_tenant(app, "acme")
        await connect(app, acme, receiver.url())
        await publish(app, acme)
        await receiver.wait_for(1)
        line.open = False
        line.cut()
        gate.set()
        async with asyncio.timeout(20):
            await stack.aclose()
    assert await owner.fetchval("select count(*) from delivery_queue where owner is not null") == 1


async def test_results_wait_for_the_database_and_are_written_once(
    environ: dict[str, str], line: Wire, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    gate = asyncio.Event()

    async def answer(_: object) -> bytes:
        await gate.wait()
        return status(204)

    async with running(load(environ)) as app:
        acme = await make_tenant(app, "acme")
        await connect(app, acme, receiver.url())
        receiver.answer = answer
        await asyncio.gather(*(publish(app, acme) for _ in range(20)))
        await receiver.wait_for(20)
        line.open = False
        line.cut()
        gate.set()

        async def all_answered() -> bool:
            return app.engine._in_flight == 0

        await until(all_answered)
        assert await owner.fetchval("select count(*) from attempts") == 0
        line.open = True
        await settled(owner, 20)
        assert len(receiver.received) == await owner.fetchval("select count(*) from attempts") == 20


# The key service -----------------------------------------------------------------------------------------------------------------


class Switchable:
    """A key service that can be away."""

    def __init__(self, inner: KeyService) -> None:
        self._inner = inner
        self.away = False
        self.calls = 0

    @property
    def name(self) -> str:
        return self._inner.name

    def _pass(self) -> None:
        self.calls += 1
        if self.away:
            raise KeyServiceUnavailable

    async def generate(self, context: Mapping[str, str]) -> tuple[Secret, bytes]:
        self._pass()
        return await self._inner.generate(context)

    async def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> Secret:
        self._pass()
        return await self._inner.unwrap(wrapped, context)

    async def check(self) -> None:
        self._pass()
        await self._inner.check()


async def test_a_key_service_that_goes_away_stops_accepting_counts_no_attempt_and_comes_back(
    settings: Settings, receiver: Recorder, owner: asyncpg.Connection
) -> None:
    own = dataclasses.replace(settings, kms_cache_ttl=1)
    assert own.database_url is not None
    keys = Switchable(key_service(own))
    app = App(own, await Database.connect(own.database_url, size=5), keys)
    await app.start()
    try:
        acme = await make_tenant(app, "acme")
        await connect(app, acme, receiver.url())
        receiver.answer = status(500)
        await publish(app, acme)

        async def waits() -> bool:
            return bool(await owner.fetchval("select count(*) = 1 from delivery_queue where owner is null and attempts = 1"))

        await until(waits)
        calls = keys.calls
        keys.away = True
        assert [check.name for check in await app.ready() if not check.ok] == ["key_service"]

        async def refused() -> bool:
            try:
                await publish(app, acme)
            except KeyServiceUnavailable:
                return True
            return False

        await until(refused, within=5.0)
        stored = await owner.fetchval("select count(*) from events")
        with pytest.raises(KeyServiceUnavailable):
            await publish(app, acme)
        with pytest.raises(KeyServiceUnavailable):
            await make_tenant(app, "newcomer")
        assert await owner.fetchval("select count(*) from events") == stored
        assert await owner.fetchval("select count(*) from tenants where tenant_id = 'newcomer'") == 0

        attempts = await owner.fetchval("select count(*) from attempts")
        lease = await owner.fetchval("select sum(lease) from delivery_queue")
        await hasten(owner)

        async def was_claimed_and_given_back() -> bool:
            return bool(await owner.fetchval("select sum(lease) >= $1 + 2 and bool_and(owner is null) from delivery_queue", lease))

        await until(was_claimed_and_given_back)
        assert await owner.fetchval("select count(*) from attempts") == attempts
        assert keys.calls > calls

        keys.away = False
        receiver.answer = status(204)

        async def accepts() -> bool:
            try:
                await publish(app, acme)
            except KeyServiceUnavailable:
                return False
            return True

        await until(accepts)
        await hasten(owner)
        await settled(owner, stored + 1)
        assert await owner.fetchval("select max(attempt) from attempts") == 2
    finally:
        await app.stop()


async def test_without_a_key_service_nothing_starts(settings: Settings) -> None:
    assert settings.database_url is not None
    keys = Switchable(key_service(settings))
    keys.away = True
    app = App(settings, await Database.connect(settings.database_url, size=2), keys)
    with pytest.raises(KeyServiceUnavailable):
        await app.start()
    await app.database.close()
    assert urlsplit(settings.database_url.reveal().decode()).hostname == "127.0.0.1"
