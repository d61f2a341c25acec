"""Fresh access tokens, whatever the number of processes and readers: one call per generation, and everybody who waits hears of it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final, TypeAlias
from uuid import UUID

from customhouse.clock import Clock
from customhouse.connections.renewing import Renewing
from customhouse.errors import CustomhouseError, TokenUnavailable
from customhouse.logs import get
from customhouse.types import TenantId

_log: Final = get("customhouse.connections")
PATIENCE: Final = 20.0
"""Seconds that a caller waits at most (rulings §8)."""
_POLL: Final = 1.0
"""Seconds between two looks while another process is at it; mostly its NOTIFY comes first."""
_GIVEN_UP: Final = 120.0
"""Seconds after which a flight ends that only watches others."""
_QUIET: Final = 5.0
"""Seconds for which a nudge for the same generation is not repeated."""
_MOST_NUDGES: Final = 64
_MOST_REMEMBERED: Final = 10_000
_FAREWELL: Final = 25.0
"""Seconds for which calls under way are waited for at the end of the process: an answer that nobody reads may cost a consent."""

_Flight: TypeAlias = tuple[TenantId, UUID, int, bool]


class Refresher:
    """The door to renewals of one process."""

    def __init__(self, renewing: Renewing, clock: Clock, *, patience: float = PATIENCE) -> None:
        """Take what renews, and the seconds that a caller waits."""
        self._renewing = renewing
        self._clock = clock
        self._patience = patience
        self._flights: dict[_Flight, asyncio.Task[CustomhouseError | None]] = {}
        self._waiting: dict[UUID, asyncio.Event] = {}
        self._nudged: dict[tuple[TenantId, UUID, int], float] = {}
        self._nudges = 0
        self._closed = False

    async def renew(self, tenant: TenantId, connection_id: UUID, *, generation: int) -> None:
        """Return when tokens of a later generation than `generation` are stored, whichever process stored them.

        Raises:
            NotFound: no such connection with a grant in this tenant.
            Conflict: it is paused, waits for its confirmation or has ended.
            ReauthorizationRequired: only a new consent of its user helps.
            TokenUnavailable: not within 20 s, or the provider is away; what was begun goes on.
            Unsealable: a row was edited by hand.
            KeyServiceUnavailable, DatabaseUnavailable: not now.
        """
        error = await self._flown((tenant, connection_id, generation, True), self._patience)
        if error is not None:
            raise error.with_traceback(None)

    async def freshen(self, tenant: TenantId, connection_id: UUID, *, generation: int) -> CustomhouseError | None:
        """Renew tokens before they end, for as long as it takes; return why not. Nothing is raised."""
        return await self._flown((tenant, connection_id, generation, False), None)

    def nudge(self, tenant: TenantId, connection_id: UUID, generation: int) -> None:
        """Have tokens renewed that are near their end. Nobody waits, and nobody is told if nothing comes of it."""
        now = self._clock.monotonic()
        key = (tenant, connection_id, generation)
        if self._closed or self._nudges >= _MOST_NUDGES or now < self._nudged.get(key, now):
            return
        if len(self._nudged) >= _MOST_REMEMBERED:
            self._nudged.clear()
        self._nudged[key] = now + _QUIET
        if (flight := (*key, False)) not in self._flights:
            self._nudges += 1
            self._start(flight).add_done_callback(lambda _: self._landed_nudge())

    def told(self, connection_id: str) -> None:
        """Look again at a connection whose refresh has ended somewhere: call it with what the database tells."""
        try:
            event = self._waiting.pop(UUID(connection_id), None)
        except ValueError:
            return
        if event is not None:
            event.set()

    async def close(self) -> None:
        """Begin nothing more, and let the calls under way come to their end."""
        self._closed = True
        if self._flights:
            await asyncio.wait(self._flights.values(), timeout=_FAREWELL)
        for task in self._flights.values():
            task.cancel()
        await asyncio.gather(*self._flights.values(), return_exceptions=True)

    async def _flown(self, flight: _Flight, patience: float | None) -> CustomhouseError | None:
        task = self._flights.get(flight)
        if task is None:
            if self._closed:
                return TokenUnavailable("This process is about to end.")
            task = self._start(flight)
        # A caller that goes away, or waits no longer, leaves the call to the others.
        await asyncio.wait({task}, timeout=patience)
        return task.result() if task.done() else TokenUnavailable()

    def _start(self, flight: _Flight) -> asyncio.Task[CustomhouseError | None]:
        task = asyncio.create_task(self._fly(flight), name="refresh")
        self._flights[flight] = task
        task.add_done_callback(lambda _: self._flights.pop(flight, None))
        return task

    async def _fly(self, flight: _Flight) -> CustomhouseError | None:
        tenant, connection_id, generation, urgent = flight
        deadline = self._clock.monotonic() + _GIVEN_UP
        try:
            while True:
                # Before the look, so that what is told during it is heard.
                ended = self._waiting.setdefault(connection_id, asyncio.Event())
                wait = await self._renewing.attempt(tenant, connection_id, generation, urgent=urgent)
                if wait is None:
                    return None
                if self._closed or self._clock.monotonic() >= deadline:
                    return TokenUnavailable()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), min(_POLL, wait))
        except CustomhouseError as error:
            return error
        except Exception as error:  # noqa: BLE001 - whoever waits gets an answer
            _log.error("refresh_failed", tenant_id=tenant, error=type(error).__name__)
            return CustomhouseError()
        finally:
            self._waiting.pop(connection_id, None)

    def _landed_nudge(self) -> None:
        self._nudges -= 1
