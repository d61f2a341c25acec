"""Upkeep: days made ahead, old payloads dropped and nothing else, harmless when repeated, patient with locks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg
import pytest

from customhouse.db import Database
from customhouse.errors import DatabaseRefused, DatabaseUnavailable
from customhouse.jobs.upkeep import PARTITIONS_AHEAD_DAYS, payload_days, periodic, purge_keys, upkeep_partitions
from customhouse.jobs.worker import Periodic, Worker
from customhouse.metrics import Metrics
from customhouse.types import Secret
from tests.conftest import Server
from tests.scenes import until

pytestmark = pytest.mark.anyio

RETENTION: Final = timedelta(hours=72)
DAILY: Final = ("events", "payloads", "deliveries", "attempts")
_PARTITIONS = """
    select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid join pg_class p on p.oid = i.inhparent
    where p.relname = $1 and c.relkind = 'r' order by 1
"""


@pytest.fixture
async def database(database_server: Server) -> AsyncIterator[Database]:
    made = await Database.connect(Secret(database_server.app.encode()), size=3)
    try:
        yield made
    finally:
        await made.close()


async def partitions(owner: asyncpg.Connection, table: str) -> list[str]:
    return [row[0] for row in await owner.fetch(_PARTITIONS, table)]


def day(offset: int) -> str:
    return f"{datetime.now(UTC) + timedelta(days=offset):%Y%m%d}"


async def test_days_are_there_before_they_begin_and_months_of_the_ledger(database: Database, owner: asyncpg.Connection) -> None:
    await owner.execute(f"drop table events_{day(14)}, deliveries_{day(13)}")
    assert await upkeep_partitions(database, RETENTION) == (2, 0)
    for table in DAILY:
        found = await partitions(owner, table)
        assert {f"{table}_{day(offset)}" for offset in range(PARTITIONS_AHEAD_DAYS + 1)} <= set(found)
    assert {f"audit_entries_{datetime.now(UTC) + timedelta(days=offset):%Y%m}" for offset in (0, 14)} <= set(
        await partitions(owner, "audit_entries")
    )
    # A row of the last moment of a day and of the first of the next one each find their place.
    for moment in ("23:59:59.999", "00:00:00"):
        await owner.execute(
            "insert into payloads values ('t', uuid_floor((current_date + $1::time) at time zone 'UTC'), 0, '')",
            datetime.strptime(moment, "%H:%M:%S.%f" if "." in moment else "%H:%M:%S").time(),  # noqa: DTZ007 - a time of day
        )
    assert await owner.fetchval("select count(distinct tableoid) from payloads") == 1


async def test_repeating_it_changes_nothing(database: Database, owner: asyncpg.Connection) -> None:
    await upkeep_partitions(database, RETENTION)
    before = [await partitions(owner, table) for table in (*DAILY, "audit_entries")]
    assert await asyncio.gather(*(upkeep_partitions(database, RETENTION) for _ in range(3))) == [(0, 0)] * 3
    assert [await partitions(owner, table) for table in (*DAILY, "audit_entries")] == before


async def test_payloads_past_their_retention_are_dropped_and_nothing_else(database: Database, owner: asyncpg.Connection) -> None:
    days = payload_days(RETENTION)
    for table in DAILY:
        for offset in (-days - 1, -days, -days + 1):
            await owner.execute(
                f"""create table {table}_{day(offset)} partition of {table}
                    for values from ('{await floor(owner, offset)}') to ('{await floor(owner, offset + 1)}')"""
            )
            await owner.execute(f"alter table {table}_{day(offset)} owner to customhouse_upkeep")
    before = {table: set(await partitions(owner, table)) for table in DAILY}
    assert await upkeep_partitions(database, RETENTION) == (0, 1)
    gone = {table: before[table] - set(await partitions(owner, table)) for table in DAILY}
    assert gone == {"events": set(), "payloads": {f"payloads_{day(-days - 1)}"}, "deliveries": set(), "attempts": set()}


async def floor(owner: asyncpg.Connection, offset: int) -> str:
    return str(await owner.fetchval("select uuid_floor((current_date + $1::int)::timestamp at time zone 'UTC')", offset))


@pytest.mark.parametrize(("retention", "days"), [(timedelta(0), 4), (timedelta(hours=1), 5), (RETENTION, 7), (timedelta(days=30), 34)])
def test_a_day_is_dropped_only_when_its_last_delivery_has_certainly_outlived_its_retention(retention: timedelta, days: int) -> None:
    # Accepted at the end of the day, delivered at the end of its life of 72 hours, kept for the retention.
    assert payload_days(retention) == days
    assert timedelta(days=days) >= timedelta(hours=72) + retention


async def test_it_is_patient_while_somebody_else_holds_a_table(
    database: Database, owner: asyncpg.Connection, database_server: Server
) -> None:
    await owner.execute(f"drop table events_{day(14)}")
    holder = await asyncpg.connect(database_server.owner, server_settings={"search_path": "customhouse"})
    held = holder.transaction()
    await held.start()
    await holder.execute("lock table events in access share mode")
    working = asyncio.create_task(upkeep_partitions(database, RETENTION))
    waiting = "select count(*) from pg_locks where not granted and relation = 'customhouse.events'::regclass"

    async def asked_and_left() -> bool:
        return not await owner.fetchval(waiting)

    async def asks() -> bool:
        return bool(await owner.fetchval(waiting))

    for _ in range(2):
        await until(asks)
        # It lets go after 200 ms: whoever came behind it was not held up for long.
        await until(asked_and_left, within=2.0)
    assert not working.done()
    await held.rollback()
    assert await working == (1, 0)
    await holder.close()


async def test_old_keys_are_purged_in_portions_and_young_ones_stay(database: Database, owner: asyncpg.Connection) -> None:
    for number, age in enumerate(("-1 hour", "-1 second", "1 hour")):
        await owner.execute(f"insert into tenants values ('t{number}', 't')")
        await owner.execute(
            f"""insert into event_keys select 't{number}', sha256(i::text::bytea), gen_random_uuid(), '', now() + interval '{age}'
                from generate_series(1, 50) i"""
        )
        await owner.execute(
            f"""insert into idempotency_keys select 't{number}', sha256(i::text::bytea), '', 'x', now() + interval '{age}'
                from generate_series(1, 5) i"""
        )
    # At most so many of each kind at a time.
    assert (await database.call("select purge_keys_v1(10) as n"))[0]["n"] == 20
    assert await purge_keys(database) == 110 - 20
    assert await purge_keys(database) == 0
    for table in ("event_keys", "idempotency_keys"):
        assert {row[0] for row in await owner.fetch(f"select distinct tenant_id from {table}")} == {"t2"}


async def test_jobs_run_by_themselves_once_among_all_processes_and_leave_nothing_of_a_tenant(
    database: Database, owner: asyncpg.Connection
) -> None:
    ran = asyncio.Event()

    async def work() -> None:
        ran.set()

    metrics = [Metrics("1"), Metrics("1")]
    workers = [Worker(database, one, (Periodic("a.job", "* * * * *", work),)) for one in metrics]
    tasks = [asyncio.create_task(worker.run()) for worker in workers]

    async def scheduled() -> bool:
        return bool(await owner.fetchval("select count(*) = 1 from pgqueuer_schedules"))

    await until(scheduled)
    # The schedulers sleep until the next minute: let the job be due when they look for the first time.
    await stop(tasks)
    await owner.execute("update pgqueuer_schedules set next_run = now() - interval '1 second', status = 'queued'")
    tasks = [asyncio.create_task(worker.run()) for worker in workers]
    async with asyncio.timeout(20):
        await ran.wait()

    def counted() -> float:
        lines = [line for one in metrics for line in one.render().decode().splitlines()]
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith('customhouse_jobs_total{job="a.job"'))

    async def told() -> bool:
        return counted() >= 1

    await until(told)
    await stop(tasks)
    assert counted() == 1
    assert [dict(row) for row in await owner.fetch("select payload, headers from pgqueuer")] == []
    assert await owner.fetchval("select count(*) from pgqueuer_log where traceback is not null") == 0


async def stop(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_job_that_fails_is_counted_and_leaves_no_traceback(database: Database, owner: asyncpg.Connection) -> None:
    async def fails() -> None:
        raise DatabaseUnavailable

    metrics = Metrics("1")
    assert not await Worker(database, metrics, ()).once(Periodic("a.job", "* * * * *", fails))
    assert b'customhouse_jobs_total{job="a.job",outcome="failed"} 1.0' in metrics.render()
    with pytest.raises(ValueError, match="same name"):
        Worker(database, metrics, (Periodic("a", "* * * * *", fails), Periodic("a", "* * * * *", fails)))


async def test_the_upkeep_jobs_are_those_that_the_service_needs(database: Database) -> None:
    jobs = periodic(database, RETENTION)
    assert [job.name for job in jobs] == ["partitions.upkeep", "keys.purge"]
    for job in jobs:
        await job.run()


async def test_upkeep_gives_up_when_it_never_gets_its_turn(
    database: Database, owner: asyncpg.Connection, database_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("customhouse.jobs.upkeep._PAUSE", 0.0)
    await owner.execute(f"drop table events_{day(14)}")
    holder = await asyncpg.connect(database_server.owner, server_settings={"search_path": "customhouse"})
    async with holder.transaction():
        await holder.execute("lock table events in access share mode")
        with pytest.raises(DatabaseRefused):
            await upkeep_partitions(database, RETENTION)
    await holder.close()
