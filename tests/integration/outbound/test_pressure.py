"""More comes in than goes out: who waits, who is refused, and that nothing accepted is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from customhouse.config import load
from customhouse.errors import Overloaded, TooManyRequests
from customhouse.metrics import ACCEPT_HELD
from customhouse.outbound.accept import _GROUPS_AT_ONCE
from tests.conftest import Server, running
from tests.receivers import Recorder, recorder, status
from tests.scenes import connect, make_tenant, publish, settled, until

pytestmark = pytest.mark.anyio

SMALL = {"CUSTOMHOUSE_WORKER_CONCURRENCY": "4", "CUSTOMHOUSE_CONNECTION_CONCURRENCY": "2"}
"""Sixteen places in memory, eight of them before calls wait."""


@asynccontextmanager
async def standstill(server: Server) -> AsyncIterator[asyncio.Event]:
    """Have every accepting transaction wait for a lock; the event ends it."""
    conn = await asyncpg.connect(server.owner, server_settings={"search_path": "customhouse"})
    ended = asyncio.Event()

    async def release() -> None:
        await ended.wait()
        await conn.execute("rollback")

    try:
        await conn.execute("begin; lock table events in access exclusive mode")
        releasing = asyncio.create_task(release())
        yield ended
        ended.set()
        await releasing
    finally:
        conn.terminate()


async def blocked(owner: asyncpg.Connection, count: int) -> None:
    """Wait until so many statements wait for the lock."""

    async def wait() -> bool:
        return bool(
            await owner.fetchval(
                "select count(*) >= $1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'", count
            )
        )

    await until(wait)


async def test_an_overload_loses_nothing_delivers_once_and_stays_within_the_places(
    environ: dict[str, str], owner: asyncpg.Connection, receiver: Recorder
) -> None:
    async with running(load(environ | SMALL)) as app:
        acme = await make_tenant(app, "acme")
        await connect(app, acme, receiver.url())
        accepted: list[str] = []
        refused = 0
        most = 0

        async def publisher() -> None:
            nonlocal refused, most
            done = 0
            while done < 8:
                try:
                    accepted.append((await publish(app, acme)).event_id)
                    done += 1
                except TooManyRequests:
                    refused += 1
                    await asyncio.sleep(0.05)
                most = max(most, app.engine._lanes.held)

        await asyncio.gather(*(publisher() for _ in range(64)))
        await settled(owner, len(accepted), within=60)
        assert len(set(accepted)) == 512
        assert most <= 16
        got = Counter(request.body.split(b'"event_id":"', 1)[1].split(b'"', 1)[0].decode() for request in receiver.received)
        assert got == Counter(accepted)
        assert (app.engine._lanes.held, len(app.engine.gate), app.acceptor._places, app.acceptor._inside) == (0, 0, {}, {})


async def test_a_dead_endpoint_never_makes_publishing_fail_or_wait(
    environ: dict[str, str], owner: asyncpg.Connection, receiver: Recorder
) -> None:
    gate = asyncio.Event()

    async def silent(_: object) -> bytes:
        await gate.wait()
        return status(204)

    async with running(load(environ | SMALL)) as app, recorder() as other:
        acme = await make_tenant(app, "acme")
        receiver.answer = silent
        await connect(app, acme, receiver.url())
        await asyncio.gather(*(publish(app, acme) for _ in range(300)))
        assert await owner.fetchval("select count(*) from delivery_queue") == 300
        assert [app.metrics.counter(ACCEPT_HELD, outcome=word)._value.get() for word in ("placed", "spilled", "refused")] == [0, 0, 0]
        # Its neighbour is served meanwhile.
        globex = await make_tenant(app, "globex")
        await connect(app, globex, other.url())
        await asyncio.gather(*(publish(app, globex) for _ in range(20)))
        await other.wait_for(20)
        gate.set()
        await settled(owner, 320, within=60)


async def test_while_the_database_is_slow_the_tenant_that_floods_is_refused_and_no_other(
    environ: dict[str, str], owner: asyncpg.Connection, database_server: Server, receiver: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("customhouse.outbound.accept._MOST_INSIDE", 20)
    monkeypatch.setattr("customhouse.outbound.accept._PATIENCE", 60.0)
    async with running(load(environ)) as app:
        acme, globex = await make_tenant(app, "acme"), await make_tenant(app, "globex")
        for tenant in (acme, globex):
            await connect(app, tenant, receiver.url())
            await publish(app, tenant)
        async with standstill(database_server) as ended:
            flood = [asyncio.create_task(publish(app, acme)) for _ in range(50)]
            await blocked(owner, 1)
            assert sum(task.done() for task in flood) == 40
            quiet = [asyncio.create_task(publish(app, globex)) for _ in range(3)]
            await asyncio.sleep(0)
            assert not any(task.done() for task in quiet)
            ended.set()
            answers = await asyncio.gather(*flood, return_exceptions=True)
            await asyncio.gather(*quiet)
        assert Counter(type(answer).__name__ for answer in answers) == {"TooManyRequests": 40, "Accepted": 10}
        await settled(owner, 15)
        assert await owner.fetchval("select count(*) from events") == 15


async def test_calls_that_wait_too_long_for_the_database_are_told_so_and_nothing_of_them_is_written(
    environ: dict[str, str], owner: asyncpg.Connection, database_server: Server, receiver: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("customhouse.outbound.accept._PATIENCE", 0.2)
    async with running(load(environ)) as app:
        acme = await make_tenant(app, "acme")
        await connect(app, acme, receiver.url())
        await publish(app, acme)
        async with standstill(database_server) as ended:
            # As many groups as may be are on their way; what comes later waits for them.
            under_way = []
            for count in range(1, _GROUPS_AT_ONCE + 1):
                under_way.append(asyncio.create_task(publish(app, acme)))
                await blocked(owner, count)
            late = await asyncio.gather(*(publish(app, acme) for _ in range(10)), return_exceptions=True)
            assert {type(answer) for answer in late} == {Overloaded}
            assert app.engine._lanes.held == _GROUPS_AT_ONCE
            ended.set()
            await asyncio.gather(*under_way)
        await settled(owner, 1 + _GROUPS_AT_ONCE)
        assert await owner.fetchval("select count(*) from events") == 1 + _GROUPS_AT_ONCE
        assert not (await publish(app, acme)).duplicate


async def test_a_call_that_is_given_up_in_the_group_leaves_no_place_behind(
    environ: dict[str, str], owner: asyncpg.Connection, database_server: Server, receiver: Recorder
) -> None:
    async with running(load(environ)) as app:
        acme = await make_tenant(app, "acme")
        await connect(app, acme, receiver.url())
        await publish(app, acme)
        async with standstill(database_server) as ended:
            calls = []
            for count in range(1, _GROUPS_AT_ONCE + 1):
                calls.append(asyncio.create_task(publish(app, acme)))
                await blocked(owner, count)
            calls.append(asyncio.create_task(publish(app, acme)))
            await asyncio.sleep(0)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            ended.set()
        # They were durable by then, or are soon: who was not told repeats, and the promise is kept either way.
        await settled(owner, 2 + _GROUPS_AT_ONCE)

        async def empty() -> bool:
            return app.engine._lanes.held == 0 and not app.acceptor._places

        await until(empty)
