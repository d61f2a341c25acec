"""One try to renew the tokens of a connection: the lease and its journal are committed before the call, and no connection to the database
is held while the provider answers."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final
from uuid import UUID

from customhouse import ids
from customhouse.clock import Clock
from customhouse.connections import tokens
from customhouse.connections.brakes import Brakes
from customhouse.connections.judging import REPLY_LOST, TOKEN_MISSING, Ended, Journal, judge, may_show, repeated
from customhouse.connections.settling import Settling
from customhouse.connections.speaking import Speaker
from customhouse.connections.storing import Target
from customhouse.connections.sweeping import OUTGROWN
from customhouse.connections.tokens import INDEX, GrantSeal
from customhouse.crypto.envelope import key_id_of
from customhouse.db import Database, Row, queries
from customhouse.errors import (
    Conflict,
    ConnectionEnded,
    ConnectionPaused,
    ConnectionPending,
    CustomhouseError,
    NotFound,
    ProviderNotConfigured,
    ReauthorizationRequired,
    TokenUnavailable,
)
from customhouse.failpoints import Failpoints
from customhouse.metrics import TOKEN_REFRESH_SECONDS, Metrics
from customhouse.providers.catalogue import Catalogue
from customhouse.providers.replies import TokenReply
from customhouse.types import PLATFORM, Secret, TenantId
from customhouse.vault.vault import Vault

_SQL: Final = queries(__package__, "refreshing.sql")
LEASE: Final = 15.0
"""Seconds after which the call of a silent process counts as lost; a living one renews its lease while it waits."""
CALL_SECONDS: Final = 60.0
"""For the whole call: a slow answer costs nothing, an answer that nobody waits for may cost a consent."""
_SOON: Final = 0.1
"""Seconds before another look at what somebody else has just changed."""
_KEPT: Final = 3
"""How often a lease is renewed within its time."""


class Renewing:
    """Renews the tokens of one connection at a time; whoever calls sees to it that one process does so once at a time."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        clock: Clock,
        catalogue: Catalogue,
        speaker: Speaker,
        settling: Settling,
        brakes: Brakes,
        failpoints: Failpoints,
        metrics: Metrics,
        *,
        lease: float = LEASE,
    ) -> None:
        """Take the parts that it stands on, and the seconds of a lease."""
        self._database = database
        self._vault = vault
        self._clock = clock
        self._catalogue = catalogue
        self._speaker = speaker
        self._settling = settling
        self._brakes = brakes
        self._failpoints = failpoints
        self._seconds = metrics.histogram(TOKEN_REFRESH_SECONDS)
        self._lease = lease

    async def attempt(self, tenant: TenantId, connection_id: UUID, generation: int, *, urgent: bool) -> float | None:
        """Try once.

        Args:
            tenant: whose connection it is.
            connection_id: the connection.
            generation: of the tokens that are of no use any more, or soon.
            urgent: they are of no use any more: where nothing can be renewed, the user has to consent again.

        Returns:
            None: tokens of a later generation are stored. Else the seconds after which to look again: another process is at it.

        Raises:
            NotFound: no such connection with a grant in this tenant.
            Conflict: it is paused, waits or has ended.
            ReauthorizationRequired: only a new consent helps.
            TokenUnavailable: not now.
            Unsealable: a row was edited by hand.
            KeyServiceUnavailable, DatabaseUnavailable: not now.
        """
        async with self._database.transaction(tenant) as conn:
            row = await conn.fetchrow(_SQL["refreshable"], tenant, connection_id)
        if row is None or row["account_index"] is None:
            raise NotFound
        _refuse_by_status(row)
        if row["token_generation"] is None:
            raise ConnectionEnded("Nothing is held for this connection any more.")
        if row["token_generation"] > generation:
            return None
        if row["provider"] in self._catalogue.by_key:
            raise Conflict("This connection stands on a key that its owner made: it is replaced, not renewed.")
        if row["leased"]:
            return float(row["leased"])
        if row["pause"]:
            raise TokenUnavailable(retry_after=max(1, round(row["pause"])))
        target = await self._target(tenant, connection_id, row)
        if target.shown is None:
            ended = row["access_expires_at"] is not None and row["access_expires_at"] <= self._clock.now()
            if urgent or ended:
                await self._settling.settle(target, Ended(TOKEN_MISSING))
            raise TokenUnavailable("There is nothing to renew this access token with.")
        journal, probes = await self._claim(target)
        if journal is None:
            return _SOON
        self._failpoints.hit("refresh.after_claim")
        await self._call(target, target.shown, journal, probes=probes)
        return None

    async def _target(self, tenant: TenantId, connection_id: UUID, row: Row) -> Target:
        try:
            provider = self._catalogue.get(row["provider"])
            client_id = self._speaker.client(provider).id
        except (NotFound, ProviderNotConfigured):
            raise TokenUnavailable("The provider is not set up in this installation.", retry_after=60) from None
        mac_key = await self._vault.mac_key(tenant, tokens.MAC_PURPOSE)
        tokens.check_guard(mac_key, connection_id, provider.id, row)
        seal = GrantSeal(self._vault.environment, tenant, connection_id, await self._vault.connection_key(tenant, connection_id))
        shown = None if row["refresh_sealed"] is None else await self._open(seal, row)
        index_key = await self._vault.mac_key(PLATFORM, INDEX)
        return Target(ids.new(), provider, client_id, seal, mac_key, index_key, row, shown, self._clock.now())

    async def _open(self, seal: GrantSeal, row: Row) -> Secret:
        """Open the refresh token, under the key that sealed it: that may be one which is being replaced."""
        key_id = key_id_of(row["refresh_sealed"])
        if key_id != seal.key.key_id:
            seal = replace(seal, key=await self._vault.key(seal.tenant_id, key_id))
        return seal.open("integration_tokens", "refresh_sealed", str(seal.connection_id), row["refresh_sealed"], row["token_generation"])

    async def _claim(self, target: Target) -> tuple[Journal | None, bool]:
        """Take the lease and write the journal; None: somebody else was quicker. And whether this call tries a brake."""
        tenant, connection_id = target.seal.tenant_id, target.seal.connection_id
        async with self._database.transaction(tenant) as conn:
            held = await conn.fetchrow(_SQL["share_connection"], tenant, connection_id)
            if held is None:
                raise NotFound
            _refuse_by_status(held)
            if await conn.fetchval(_SQL["held_generation"], tenant, connection_id) != target.generation:
                return None, False
            taken = await conn.fetchrow(_SQL["take_lease"], tenant, connection_id, target.generation, target.holder, self._lease)
            if taken is None:
                return None, False
            probes = await self._brakes.pass_by(conn, target.provider.id)
        return Journal(taken["attempts"], taken["lost"], taken["lost_for"] or 0.0), probes

    async def _call(self, target: Target, shown: Secret, journal: Journal, *, probes: bool) -> None:
        requested = tuple(target.row["requested"])
        async with self._kept(target):
            if not may_show(target.provider.oauth2.refresh, journal):
                await self._settling.settle(target, Ended(REPLY_LOST))
                return
            began = self._clock.monotonic()
            said = await self._speaker.refresh(target.provider, shown, repeated(target.provider, requested, target.row["granted"]))
            self._seconds.observe(self._clock.monotonic() - began)
            self._failpoints.hit("refresh.after_call")
            judgement = judge(target.provider, requested, journal, said.found, same_account=_same_account(target, said.found))
            reply = said.found if isinstance(said.found, TokenReply) else None
            await self._settling.settle(target, judgement, reply, said.retry_after, probes=probes)

    @contextlib.asynccontextmanager
    async def _kept(self, target: Target) -> AsyncIterator[None]:
        """Renew the lease for as long as the call and its settlement last: a slow provider is asked once."""
        keeping = asyncio.create_task(self._keep(target))
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    async def _keep(self, target: Target) -> None:
        tenant, connection_id = target.seal.tenant_id, target.seal.connection_id
        while True:
            await asyncio.sleep(self._lease / _KEPT)
            # Without the database nobody else can take it either.
            with contextlib.suppress(CustomhouseError):
                async with self._database.transaction(tenant) as conn:
                    await conn.execute(_SQL["keep_lease"], tenant, connection_id, target.holder, self._lease)


def _refuse_by_status(row: Row) -> None:
    """Refuse a connection whose tokens are not to be renewed.

    Raises:
        ReauthorizationRequired: its user has to consent again, and what it has does not go on working.
        Conflict: it is paused, waits or has ended.
    """
    status, reason = row["status"], row["status_reason"]
    if status in {"active", "degraded"} or (status == "reauthorization_required" and reason == OUTGROWN):
        return
    if status == "reauthorization_required":
        raise ReauthorizationRequired(reason or "unknown")
    raise {"paused": ConnectionPaused, "pending": ConnectionPending}.get(status, ConnectionEnded)


def _same_account(target: Target, found: object) -> bool:
    """Tell whether a reply that names an account names the connection's."""
    if not isinstance(found, TokenReply) or found.account is None:
        return True
    index = tokens.account_index(target.index_key, target.provider.id, target.client_id, found.account.id)
    return hmac.compare_digest(index, bytes(target.row["account_index"]))
