"""What came of a refresh is written: tokens, or why there are none; what was answered is held until the database takes it."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from customhouse.audit import log, tags
from customhouse.audit.log import SYSTEM
from customhouse.clock import Clock
from customhouse.connections import tokens
from customhouse.connections.brakes import PAUSE, REGISTRATION_REFUSED, Brakes
from customhouse.connections.judging import Ended, Everyone, Good, Judgement, Later, Unacceptable
from customhouse.connections.ports import REAUTHORIZE, Announce
from customhouse.connections.revoking import Revoker, Unwanted
from customhouse.connections.sql import SQL
from customhouse.connections.storing import ENDED, Storing, Target, count, told, want_consent
from customhouse.connections.tokens import Tokens
from customhouse.db import Database, queries
from customhouse.errors import (
    CustomhouseError,
    DatabaseRefused,
    DatabaseUnavailable,
    KeyServiceUnavailable,
    ReauthorizationRequired,
    TokenUnavailable,
)
from customhouse.logs import get
from customhouse.metrics import Metrics
from customhouse.providers.replies import TokenReply
from customhouse.providers.vocabulary import Reason
from customhouse.types import Json

_SQL: Final = queries(__package__, "refreshing.sql")
_log: Final = get("customhouse.connections")
_FIRST_PAUSE: Final = 2.0
_LONGEST_PAUSE: Final = 300.0
_LONGEST_ASKED: Final = 3600.0
"""A provider's Retry-After counts up to here."""
_PATIENCE: Final = 600.0
"""Seconds for which an answer is held in memory while the database is away: it may be the only copy of a token."""
_AGAIN: Final = 1.0
_MOST_REFUSALS: Final = 5
"""How often a write is repeated that PostgreSQL refuses: a deadlock ends by itself, a damaged table does not."""
_SHOWN: Final = 50


class Settling:
    """Writes what came of refreshes."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        storing: Storing,
        revoker: Revoker,
        announce: Announce,
        brakes: Brakes,
        metrics: Metrics,
    ) -> None:
        """Take the parts that it stands on."""
        self._database = database
        self._clock = clock
        self._storing = storing
        self._revoker = revoker
        self._announce = announce
        self._brakes = brakes
        self._metrics = metrics

    async def settle(
        self, target: Target, judgement: Judgement, reply: TokenReply | None = None, retry_after: int | None = None, *, probes: bool = False
    ) -> None:
        """Write it; an answer is held until the database takes it.

        Raises:
            ReauthorizationRequired: the grant is of no use any more.
            TokenUnavailable: not now.
            DatabaseUnavailable: it stayed away for ten minutes.
        """
        if probes and not isinstance(judgement, Everyone | Later):
            await self._insistently(partial(self._brakes.let_go, target.provider.id))
        match judgement:
            case Good() if reply is not None:
                await self._insistently(partial(self._storing.store, target, judgement, reply))
            case Unacceptable() if reply is not None:
                await self._insistently(partial(self._unacceptable, target, judgement, reply))
            case Ended():
                await self._insistently(partial(self._ended, target, judgement))
            case Later():
                await self._later(target, judgement, retry_after)
            case Everyone():
                await self._everyone(target, judgement)
            case _:
                raise AssertionError

    # Tokens that may not be kept, and none -------------------------------------------------------------------------------

    async def _unacceptable(self, target: Target, judgement: Unacceptable, reply: TokenReply) -> None:
        tenant, connection_id = target.seal.tenant_id, target.seal.connection_id
        got = Tokens(reply.access_token, reply.refresh_token or target.shown)
        account = reply.account
        index = bytes(target.row["shared_index"])
        if account is not None and not target.provider.oauth2.revocation.by_organisation:
            index = tokens.account_index(target.index_key, target.provider.id, target.client_id, account.id)
        elif account is not None and account.organisation is not None:
            index = tokens.organisation_index(target.index_key, target.provider.id, target.client_id, account.organisation)
        unwanted = Unwanted(target.provider, target.seal, got, judgement.reason, index, target.row["api_origin"], ends_key=True)
        wider: list[Json] = [*judgement.wider[:_SHOWN]]
        forbidden: list[Json] = [*judgement.forbidden[:_SHOWN]]
        detail: dict[str, Json] = {"provider": target.provider.id, "reason": judgement.reason, "wider": wider, "forbidden": forbidden}
        await self._announce.prepare(tenant, REAUTHORIZE)
        revocation_id = None
        async with self._database.transaction(tenant) as conn:
            held = await conn.fetchrow(SQL["lock_connection"], tenant, connection_id)
            current = await conn.fetchval(_SQL["held_generation"], tenant, connection_id)
            if held is not None and held["status"] not in ENDED and current == target.generation:
                # `revoked`, so that nobody takes this connection for one that still stands on the grant.
                await conn.execute(SQL["set_status"], tenant, connection_id, "revoked", judgement.reason)
                await conn.execute(SQL["drop_tokens"], tenant, connection_id)
                revocation_id = await self._revoker.take(conn, unwanted)
                await log.append(conn, self._clock, tenant, SYSTEM, tags.RENEWAL_REFUSED, connection_id=connection_id, detail=detail)
                await self._announce.announce(conn, tenant, REAUTHORIZE, told(target, judgement.reason))
            await conn.execute(_SQL["lose_lease"], tenant, connection_id, target.holder)
            await conn.execute(_SQL["tell_refreshed"], str(connection_id))
        if revocation_id is None:
            await self._storing.late(target, reply, "connection_ended" if current is None else "newer_tokens")
            return
        count(self._metrics, target, "unacceptable")
        await self._revoker.end(tenant, revocation_id)
        raise ReauthorizationRequired(judgement.reason)

    async def _ended(self, target: Target, judgement: Ended) -> None:
        tenant, connection_id = target.seal.tenant_id, target.seal.connection_id
        await self._announce.prepare(tenant, REAUTHORIZE)
        async with self._database.transaction(tenant) as conn:
            held = await conn.fetchrow(SQL["lock_connection"], tenant, connection_id)
            current = await conn.fetchval(_SQL["held_generation"], tenant, connection_id)
            if held is None or current != target.generation:
                # Somebody of ours has renewed it in the meantime: what was refused was an old token.
                await conn.execute(_SQL["give_lease_back"], tenant, connection_id, target.holder)
                return
            if await conn.fetchval(_SQL["need_consent"], tenant, connection_id, judgement.reason) is not None:
                await want_consent(conn, self._clock, self._announce, target, judgement.reason)
            await conn.execute(_SQL["end_lease"], tenant, connection_id, target.holder, judgement.reason, 0.0, False)  # noqa: FBT003
            await conn.execute(_SQL["tell_refreshed"], str(connection_id))
        count(self._metrics, target, "ended")
        raise ReauthorizationRequired(judgement.reason)

    async def _later(self, target: Target, judgement: Later, retry_after: int | None) -> None:
        asked = 0.0 if retry_after is None else min(float(retry_after), _LONGEST_ASKED)
        pause = max(asked, pause_after(int(target.row["failures"]), random.random()))  # noqa: S311 - spreads calls, guards nothing
        count(self._metrics, target, "lost" if judgement.lost else "later")
        try:
            if judgement.reason == Reason.RATE_LIMITED:
                await self._brakes.slow_down(target.provider.id, judgement.reason, asked or _LONGEST_PAUSE)
            await self._end(target, "end_lease", judgement.reason, pause, judgement.lost)
        except CustomhouseError as error:
            # Then its lease runs out, and the call counts as lost.
            _log.warning("refresh_not_recorded", tenant_id=target.seal.tenant_id, error=error.code)
        raise TokenUnavailable(retry_after=max(1, math.ceil(pause)))

    async def _everyone(self, target: Target, judgement: Everyone) -> None:
        count(self._metrics, target, "refused")
        try:
            await self._brakes.pull(target.provider.id, judgement.reason)
            await self._end(target, "give_lease_back")
        except CustomhouseError as error:
            _log.warning("refresh_not_recorded", tenant_id=target.seal.tenant_id, error=error.code)
        raise TokenUnavailable(REGISTRATION_REFUSED, retry_after=round(PAUSE))

    async def _end(self, target: Target, query: str, *values: object) -> None:
        tenant, connection_id = target.seal.tenant_id, target.seal.connection_id
        async with self._database.transaction(tenant) as conn:
            await conn.execute(_SQL[query], tenant, connection_id, target.holder, *values)
            await conn.execute(_SQL["tell_refreshed"], str(connection_id))

    async def _insistently(self, write: Callable[[], Awaitable[None]]) -> None:
        """Write, and while database or keys are away again and again: what was answered may be the only copy of a token."""
        deadline, refusals = self._clock.monotonic() + _PATIENCE, 0
        while True:
            try:
                await write()
            except (DatabaseUnavailable, KeyServiceUnavailable):
                if self._clock.monotonic() >= deadline:
                    raise
            except DatabaseRefused:
                refusals += 1
                if refusals >= _MOST_REFUSALS:
                    raise
            else:
                return
            await asyncio.sleep(_AGAIN)


def pause_after(failures: int, draw: float) -> float:
    """Return the seconds before the next call after so many failures in a row; `draw` in [0, 1) spreads them."""
    return min(_FIRST_PAUSE * 2.0 ** min(failures, 16), _LONGEST_PAUSE) * (0.5 + draw)
