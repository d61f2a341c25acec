"""Tokens are renewed before they end: a job takes what is due, provider by provider, at a pace that providers bear."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

from customhouse.clock import Clock
from customhouse.connections.brakes import REFUSED, Brakes
from customhouse.connections.refreshing import Refresher
from customhouse.db import Database, Row, queries
from customhouse.errors import (
    ConnectionEnded,
    ConnectionPaused,
    DatabaseUnavailable,
    KeyServiceUnavailable,
    NotFound,
    ReauthorizationRequired,
    TokenUnavailable,
)
from customhouse.logs import get
from customhouse.providers.catalogue import Catalogue
from customhouse.providers.manifest import OAuth2, Provider
from customhouse.providers.vocabulary import Rotation
from customhouse.types import TenantId

_SQL: Final = queries(__package__, "refreshing.sql")
_log: Final = get("customhouse.connections")
_EACH: Final = 1000
"""Connections of one provider in one run; what is left is due in the next one, a minute later."""
_RUN_SECONDS: Final = 50.0
_AT_ONCE: Final = 8
"""Calls to one provider at the same time."""
PER_SECOND: Final = 20.0
"""Calls to one provider, whatever it would bear: what users ask for comes besides."""
_AWAY: Final = 5
"""So many tries in a row to no avail, and the rest of the provider's turn waits for the next run."""
_NEVER: Final = timedelta(days=3650)
_MISSES: Final = (TokenUnavailable, KeyServiceUnavailable, DatabaseUnavailable)
_EXPECTED: Final = (ConnectionEnded, ConnectionPaused, NotFound, ReauthorizationRequired)
"""What became of a connection between the list and its turn, or of its grant: it is told where it happened."""


class Keeping:
    """Renews tokens that end soon, and refresh tokens that would lapse unused."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        catalogue: Catalogue,
        refresher: Refresher,
        brakes: Brakes,
        *,
        per_second: float = PER_SECOND,
    ) -> None:
        """Take the parts that it stands on, and the pace for each provider."""
        self._database = database
        self._clock = clock
        self._catalogue = catalogue
        self._refresher = refresher
        self._brakes = brakes
        self._space = 1 / per_second

    async def due(self) -> None:
        """Renew what is due; one provider that is away does not keep the others.

        Raises:
            DatabaseUnavailable: the list cannot be had.
        """
        pulled = {brake.provider: brake.kind for brake in await self._brakes.pulled()}
        unused = {
            provider.id: unused_for(provider)
            for provider in self._catalogue.providers
            # One that asked for fewer calls gets none that can wait.
            if _renewable(provider) and provider.id in self._catalogue.clients and pulled.get(provider.id, REFUSED) == REFUSED
        }
        rows = await self._database.call(_SQL["refreshes_due"], self._clock.now(), list(unused), list(unused.values()), _EACH)
        turns: dict[str, list[Row]] = {}
        for row in rows:
            turns.setdefault(row["provider"], []).append(row)
        # Where our registration is refused, one call tries whether it still is.
        limited = {name: found[:1] if pulled.get(name) == REFUSED else found for name, found in turns.items()}
        await asyncio.gather(*(self._of(found) for found in limited.values()))

    async def _of(self, rows: Sequence[Row]) -> None:
        deadline = self._clock.monotonic() + _RUN_SECONDS
        places, run = asyncio.Semaphore(_AT_ONCE), _Run()
        async with asyncio.TaskGroup() as group:
            for row in rows:
                await places.acquire()
                if run.misses >= _AWAY or self._clock.monotonic() >= deadline:
                    places.release()
                    return
                group.create_task(self._one(row, run)).add_done_callback(lambda _: places.release())
                await asyncio.sleep(self._space)

    async def _one(self, row: Row, run: _Run) -> None:
        error = await self._refresher.freshen(TenantId(row["tenant_id"]), row["connection_id"], generation=row["generation"])
        run.misses = run.misses + 1 if isinstance(error, _MISSES) else 0
        if error is not None and not isinstance(error, (*_MISSES, *_EXPECTED)):
            _log.error("refresh_failed", tenant_id=row["tenant_id"], provider=row["provider"], error=error.code)


class _Run:
    """One provider's turn."""

    misses = 0


def unused_for(provider: Provider) -> timedelta:
    """Return after how long an unused refresh token is renewed, well before it lapses."""
    seconds = provider.oauth2.refresh.keepalive_seconds
    return _NEVER if seconds is None else timedelta(seconds=seconds)


def notes(refusing: Mapping[str, str]) -> list[str]:
    """Return what an operator should know about providers that refuse our registration."""
    return [f"{provider} does not accept this installation's registration ({reason})" for provider, reason in sorted(refusing.items())]


def _renewable(provider: Provider) -> bool:
    return isinstance(provider.auth, OAuth2) and provider.auth.refresh.rotation is not Rotation.NONE
