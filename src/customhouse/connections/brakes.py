"""What holds for all connections of a provider: it refuses our registration, or wants fewer calls. In the database, for all processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from customhouse.audit import log, tags
from customhouse.audit.log import SYSTEM
from customhouse.clock import Clock
from customhouse.connections.ports import PROVIDER_REFUSES, Announce
from customhouse.db import Database, Executor, queries
from customhouse.errors import TokenUnavailable
from customhouse.logs import get
from customhouse.types import PLATFORM, Json

_SQL: Final = queries(__package__, "refreshing.sql")
_log: Final = get("customhouse.connections")
REFUSED: Final = "refused"
SLOW: Final = "slow"
REGISTRATION_REFUSED: Final = "The provider does not accept this installation's registration; the operator has been told."
PAUSE: Final = 30.0
"""Seconds between two calls that try whether a provider accepts us again."""
_TRIAL: Final = 90.0
"""Longer than one call: who dies over it holds nobody up for longer."""
_LONGEST_SLOW: Final = 900.0


@dataclass(frozen=True, slots=True)
class Brake:
    """One brake that is pulled."""

    provider: str
    kind: Literal["refused", "slow"]
    reason: str
    since: datetime


class Brakes:
    """Pulls brakes, looks at them, and lets them go."""

    def __init__(self, database: Database, clock: Clock, announce: Announce) -> None:
        """Take the parts that it stands on."""
        self._database = database
        self._clock = clock
        self._announce = announce

    async def pulled(self) -> tuple[Brake, ...]:
        """Return the brakes that hold now."""
        rows = await self._database.call(_SQL["brakes"])
        return tuple(
            Brake(row["provider"], row["kind"], row["reason"], row["since"]) for row in rows if row["kind"] == REFUSED or row["wait"] > 0
        )

    async def refusing(self) -> Mapping[str, str]:
        """Return the providers that refuse our registration, with the reason."""
        return {one.provider: one.reason for one in await self.pulled() if one.kind == REFUSED}

    async def pass_by(self, conn: Executor, provider: str) -> bool:
        """Let a call through, in the transaction that takes its lease; True: it is the one that tries whether we are accepted again.

        Raises:
            TokenUnavailable: the provider refuses our registration, and somebody else tries, or has just tried.
        """
        wait = await conn.fetchval(_SQL["brake"], provider)
        if wait is None:
            return False
        if await conn.fetchval(_SQL["try_brake"], provider, _TRIAL) is not None:
            return True
        raise TokenUnavailable(REGISTRATION_REFUSED, retry_after=max(1, round(wait)))

    async def pull(self, provider: str, reason: str) -> None:
        """Note that the provider refuses our registration: the operator has to act."""
        await self._announce.prepare(PLATFORM, PROVIDER_REFUSES)
        async with self._database.transaction(PLATFORM) as conn:
            times = await conn.fetchval(_SQL["pull_brake"], provider, REFUSED, reason, PAUSE)
            if times == 1:
                detail: dict[str, Json] = {"provider": provider, "reason": reason}
                await log.append(conn, self._clock, PLATFORM, SYSTEM, tags.PROVIDER_REFUSES, detail=detail)
                await self._announce.announce(conn, PLATFORM, PROVIDER_REFUSES, detail)
        if times == 1:
            _log.error("provider_refuses_registration", provider=provider, error=reason)

    async def let_go(self, provider: str) -> None:
        """Note that the provider accepts us again."""
        async with self._database.transaction(PLATFORM) as conn:
            row = await conn.fetchrow(_SQL["let_go"], provider, REFUSED)
            if row is not None:
                await log.append(conn, self._clock, PLATFORM, SYSTEM, tags.PROVIDER_ACCEPTS, detail={"provider": provider})
        if row is not None:
            _log.info("provider_accepts_registration", provider=provider)

    async def slow_down(self, provider: str, reason: str, seconds: float) -> None:
        """Note that the provider wants fewer calls: what can wait is not asked for so long."""
        async with self._database.transaction() as conn:
            await conn.execute(_SQL["pull_brake"], provider, SLOW, reason, min(seconds, _LONGEST_SLOW))
