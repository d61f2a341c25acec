"""Periodic jobs, run by whichever process comes first: PgQueuer's schedules on our PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from customhouse.db import Database
from customhouse.errors import CustomhouseError
from customhouse.logs import get
from customhouse.metrics import JOBS, Metrics

if TYPE_CHECKING:
    from pgqueuer import PgQueuer
    from pgqueuer.models import Schedule

_log: Final = get("customhouse.jobs")
_FIRST_PAUSE: Final = 1.0
_LAST_PAUSE: Final = 30.0


@dataclass(frozen=True, slots=True)
class Periodic:
    """A job with a cron expression (UTC). It is told nothing, finds its work itself, and may be repeated without harm."""

    name: str
    cron: str
    run: Callable[[], Awaitable[None]]


class Worker:
    """Runs periodic jobs until cancelled; a lost database connection is a pause."""

    def __init__(self, database: Database, metrics: Metrics, jobs: tuple[Periodic, ...]) -> None:
        """Take the jobs.

        Raises:
            ValueError: two jobs of one name.
        """
        if len({job.name for job in jobs}) != len(jobs):
            raise ValueError("two jobs have the same name")
        self._database = database
        self._metrics = metrics
        self._jobs = jobs

    async def run(self) -> None:
        """Run for ever."""
        # 17 MB that a process without jobs does not need.
        from pgqueuer import PgQueuer  # noqa: PLC0415

        pause = _FIRST_PAUSE
        while True:
            try:
                async with self._database.own_connection() as connection:
                    queuer = PgQueuer.from_asyncpg_connection(connection)
                    for job in self._jobs:
                        self._schedule(queuer, job)
                    pause = _FIRST_PAUSE
                    await queuer.run(shutdown_on_listener_failure=True)
            except Exception as error:  # noqa: BLE001 - whatever ended the queue's own loops, jobs go on a moment later
                _log.warning("jobs_interrupted", error=type(error).__name__)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LAST_PAUSE)

    def _schedule(self, queuer: PgQueuer, job: Periodic) -> None:
        @queuer.schedule(job.name, job.cron)
        async def _(_schedule: Schedule) -> None:
            await self.once(job)

    async def once(self, job: Periodic) -> bool:
        """Run a job now; False when it failed. Nothing is raised: the queue would store the traceback, and with it values."""
        try:
            await job.run()
        except CustomhouseError as error:
            _log.error("job_failed", component=job.name, error=error.code)
            self._metrics.counter(JOBS, job=job.name, outcome="failed").inc()
            return False
        self._metrics.counter(JOBS, job=job.name, outcome="ok").inc()
        return True
