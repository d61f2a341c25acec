"""That this process lives, and what those that do not live left behind."""

from __future__ import annotations

import asyncio
from typing import Final

from customhouse.clock import Clock
from customhouse.db import Database
from customhouse.errors import CustomhouseError
from customhouse.logs import get
from customhouse.metrics import LEASES_RECOVERED, QUEUE_DEPTH, Metrics
from customhouse.outbound.engine import Engine
from customhouse.outbound.roster import SQL
from customhouse.outbound.throttle import Throttle

_log: Final = get("customhouse.outbound.presence")
BEAT_SECONDS: Final = 2.0
SILENCE_SECONDS: Final = 10.0
"""A process that was not heard for this long is taken for dead, and its leases for free."""
_OWN_PATIENCE: Final = SILENCE_SECONDS * 0.7
"""This process stops sending before others may take it for dead."""


class Presence:
    """Beats, watches its own pulse, and recovers leases."""

    def __init__(self, database: Database, engine: Engine, throttle: Throttle, clock: Clock, metrics: Metrics) -> None:
        """Take the parts that it stands on."""
        self._database = database
        self._engine = engine
        self._throttle = throttle
        self._clock = clock
        self._recovered = metrics.counter(LEASES_RECOVERED)
        self._depth = {state: metrics.gauge(QUEUE_DEPTH, state=state) for state in ("due", "waiting", "leased")}
        self._heard = float("-inf")

    async def run(self) -> None:
        """Beat for ever."""
        watch = asyncio.get_running_loop().create_task(self._watch())
        try:
            while True:
                try:
                    await self.beat()
                except CustomhouseError as error:
                    _log.warning("heartbeat_failed", error=error.code)
                await asyncio.sleep(BEAT_SECONDS)
        finally:
            watch.cancel()

    async def beat(self) -> None:
        """Say once that this process lives, and take what the dead left.

        Raises:
            DatabaseUnavailable: nobody heard it.
        """
        sent_at = self._clock.monotonic()
        await self._database.call(SQL["heartbeat"], self._engine.process_id)
        alive = int((await self._database.call(SQL["live_processes"], SILENCE_SECONDS))[0]["alive"])
        # Whoever was silent for so long may have been left out of account: it waits until the others count on it again.
        joined = sent_at - self._heard > _OWN_PATIENCE
        alone = alive <= 1
        self._throttle.share(alive, self._clock.monotonic() + (SILENCE_SECONDS if joined and not alone else 0.0), joined=joined)
        self._heard = sent_at
        self._engine.suspend(suspended=False)
        recovered = (await self._database.call(SQL["recover_leases"], SILENCE_SECONDS))[0]["recovered"]
        if recovered:
            self._recovered.inc(recovered)
            _log.info("leases_recovered", count=recovered)
        depth = (await self._database.call(SQL["queue_depth"]))[0]
        for state, gauge in self._depth.items():
            gauge.set(depth[state])

    async def farewell(self) -> None:
        """Say that this process ends, so that nobody waits for its leases."""
        try:
            await self._database.call(SQL["farewell"], self._engine.process_id)
        except CustomhouseError as error:
            _log.warning("farewell_failed", error=error.code)

    async def _watch(self) -> None:
        # A beat can hang in a half-open connection; the pulse is watched apart from it.
        while True:
            await asyncio.sleep(0.5)
            if self._clock.monotonic() - self._heard > _OWN_PATIENCE:
                self._engine.suspend(suspended=True)
