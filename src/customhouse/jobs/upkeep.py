"""Upkeep of tables: partitions ahead of time, old payloads and keys away."""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta
from typing import Final

from customhouse.db import Database
from customhouse.errors import CustomhouseError
from customhouse.jobs.worker import Periodic

PARTITIONS_AHEAD_DAYS: Final = 14
_TRIES: Final = 10
_PAUSE: Final = 0.5
_PURGE_AT_ONCE: Final = 10_000
_DELIVERY_LIFE: Final = timedelta(hours=72)
_UPKEEP: Final = "select made, dropped from upkeep_partitions_v1($1, $2)"
_PURGE: Final = "select purge_keys_v1($1) as purged"


def payload_days(retention: timedelta) -> int:
    """Return after how many whole days a day's payloads have certainly ended their retention: it counts from the last delivery's end."""
    return math.ceil((retention + _DELIVERY_LIFE) / timedelta(days=1)) + 1


async def upkeep_partitions(database: Database, retention: timedelta) -> tuple[int, int]:
    """Make partitions ahead and drop payloads whose retention has ended; return how many of each.

    The lock is asked for 200 ms at a time, so that traffic never queues behind it.

    Raises:
        CustomhouseError: the lock could not be had, or PostgreSQL is away.
    """
    for tries_left in range(_TRIES - 1, -1, -1):
        try:
            row = (await database.call(_UPKEEP, PARTITIONS_AHEAD_DAYS, payload_days(retention)))[0]
            return row["made"], row["dropped"]
        except CustomhouseError:
            if not tries_left:
                raise
            await asyncio.sleep(_PAUSE)
    raise AssertionError


async def purge_keys(database: Database) -> int:
    """Delete idempotency keys that have ended, a bounded number at a time; return how many."""
    total = 0
    while True:
        purged = int((await database.call(_PURGE, _PURGE_AT_ONCE))[0]["purged"])
        total += purged
        if purged < _PURGE_AT_ONCE:
            return total


def periodic(database: Database, retention: timedelta) -> tuple[Periodic, ...]:
    """Return the upkeep jobs."""

    async def partitions() -> None:
        await upkeep_partitions(database, retention)

    async def keys() -> None:
        await purge_keys(database)

    return (Periodic("partitions.upkeep", "17 * * * *", partitions), Periodic("keys.purge", "41 * * * *", keys))
