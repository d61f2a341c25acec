"""History for the growth run, made by SQL: days of events, deliveries, attempts, payloads and keys, in the partitions they belong to.

Each partition is a table of its own until it is full and indexed, and is attached then. The server runs without fsync meanwhile and
is started again as it ships before anything is measured.
"""

from __future__ import annotations

import asyncio
import math
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
from benchmarks.report import Step

from customhouse.embedded.cluster import open_cluster
from customhouse.embedded.options import Options

DAYS: Final = 30
TENANTS: Final = 100
_PAYLOAD_DAYS: Final = 6
"""Payloads of the retention and of a delivery's longest life; upkeep drops older days."""
_KEY_DAYS: Final = 7
_PER_DELIVERY: Final = 1.062
"""Attempts per delivery in history.sql: 3 % need a second one, 0.4 % fail after nine."""
_WEEKEND: Final = 0.5
_MOST_WAITING: Final = 5000
_PARENTS: Final = ("events", "deliveries", "attempts", "payloads")
_OPTIONS: Final = Options(
    fsync=False,
    settings={
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "max_wal_size": "8GB",
        "maintenance_work_mem": "256MB",
        "work_mem": "128MB",
        "temp_buffers": "256MB",
        "autovacuum": "off",
    },
)
_PARTS: Final = re.split(r"^-- name: (\w+)\n", Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"), flags=re.MULTILINE)
_SQL: Final = dict(zip(_PARTS[1::2], _PARTS[2::2], strict=True))


@dataclass(frozen=True, slots=True)
class Day:
    """One day and how many events it has."""

    day: date
    events: int
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class History:
    """What was made."""

    attempts: int
    deliveries: int
    waiting: int
    database_gb: float


def days_of(rows: int, now: datetime) -> list[Day]:
    """Share the events behind so many attempts among the last days, the present one up to now, weekends with half."""
    today = now.astimezone(UTC).date()
    spans = []
    for back in range(DAYS - 1, -1, -1):
        day = today - timedelta(days=back)
        since = datetime(day.year, day.month, day.day, tzinfo=UTC)
        until = min(since + timedelta(days=1), now)
        weight = (until - since) / timedelta(days=1) * (_WEEKEND if day.isoweekday() > 5 else 1.0)
        spans.append((day, since, until, weight))
    whole = sum(weight for *_, weight in spans)
    # Never fewer attempts than asked for: how many a delivery took is drawn, and four deviations are added.
    wanted = (rows + 4 * math.sqrt(rows)) / _PER_DELIVERY
    return [Day(day, int(wanted * weight / whole) + 1, since, until) for day, since, until, weight in spans]


def _filled(name: str, **words: object) -> str:
    text = _SQL[name]
    for word in sorted(words, key=len, reverse=True):
        text = text.replace(f"${word}", str(words[word]))
    return text


async def make_history(directory: Path, rows: int, step: Step) -> History:
    """Fill the database of a stopped service, whose tenants and connections are there, with at least so many attempts."""
    cluster = await asyncio.to_thread(open_cluster, directory / "postgres", _OPTIONS)
    settings = {"search_path": "customhouse", "timezone": "UTC"}
    try:
        pool = await asyncpg.create_pool(cluster.dsn("owner"), min_size=2, max_size=2, command_timeout=3600, server_settings=settings)
        assert pool is not None
        async with pool:
            todo = days_of(rows, datetime.now(UTC))
            total, done = sum(day.events for day in todo), 0
            newest = todo[-1].day

            async def work() -> None:
                nonlocal done
                while todo:
                    day = todo.pop()
                    async with pool.acquire() as conn:
                        await _make_day(conn, day, age=(newest - day.day).days)
                    done += day.events
                    step("writing history", done=done, total=total)

            # The partitions of today and yesterday exist already, without a row; dropping one locks its parent.
            for parent in _PARENTS:
                for day in todo:
                    await pool.execute(f"drop table if exists {parent}_{day.day:%Y%m%d}")
            await asyncio.gather(work(), work())
            async with pool.acquire() as conn:
                step("vacuum and analyze")
                await conn.execute("vacuum (analyze, freeze)")
                await conn.execute("checkpoint")
                return History(
                    await conn.fetchval("select count(*) from attempts"),
                    await conn.fetchval("select count(*) from deliveries"),
                    await conn.fetchval("select count(*) from delivery_queue"),
                    await conn.fetchval("select pg_database_size(current_database())") / 1e9,
                )
    finally:
        await asyncio.to_thread(cluster.stop)


async def _make_day(conn: Any, day: Day, age: int) -> None:
    async with conn.transaction():
        words = {
            "day": day.day.strftime("%Y%m%d"),
            "tenants": TENANTS,
            "count": day.events,
            "from_ms": int(day.since.timestamp() * 1000),
            "until_ms": int(day.until.timestamp() * 1000),
        }
        await conn.execute(_filled("base", **words))
        wanted = _PARENTS if age <= _PAYLOAD_DAYS else _PARENTS[:-1]
        filled = [(parent, await _fill(conn, parent, day)) for parent in wanted]
        if age < _KEY_DAYS:
            await conn.execute(_filled("event_keys"))
        # Attaching comes last: it holds locks on the parents, for which the other days wait.
        for parent, table in filled:
            await _attach(conn, parent, table, day)
        if age == 1:
            await conn.execute(_filled("waiting", waiting=_MOST_WAITING))
            await conn.execute(_filled("waiting_deliveries"))


async def _fill(conn: Any, parent: str, day: Day) -> str:
    table = f"{parent}_{day.day:%Y%m%d}"
    await conn.execute(f"create table {table} (like {parent} including defaults including constraints)")
    await conn.execute(_filled(parent, table=table))
    indexes = await conn.fetch(
        """
        select c.relname, pg_get_indexdef(i.indexrelid) as definition, i.indisprimary
        from pg_index i join pg_class c on c.oid = i.indexrelid where i.indrelid = $1::regclass
        """,
        parent,
    )
    for index in indexes:
        name = f"{table}_{index['relname']}"
        made = index["definition"].replace(f"INDEX {index['relname']} ON ONLY customhouse.{parent} ", f"INDEX {name} ON {table} ")
        await conn.execute(made)
        if index["indisprimary"]:
            await conn.execute(f"alter table {table} add primary key using index {name}")
    return table


async def _attach(conn: Any, parent: str, table: str, day: Day) -> None:
    await conn.execute(f"alter table {table} owner to customhouse_upkeep")
    midnight = datetime(day.day.year, day.day.month, day.day.day, tzinfo=UTC)
    low, high = [await conn.fetchval("select uuid_floor($1)", each) for each in (midnight, midnight + timedelta(days=1))]
    await conn.execute(f"alter table {parent} attach partition {table} for values from ('{low}') to ('{high}')")
