"""What time does: links run out, lost exchanges are settled, grants that nobody confirmed end, outgrown ones need a new consent."""

from __future__ import annotations

from datetime import timedelta
from typing import Final
from uuid import UUID

from customhouse import ids
from customhouse.audit import log, tags
from customhouse.audit.log import SYSTEM
from customhouse.clock import Clock
from customhouse.connections.confirming import Confirming
from customhouse.connections.ports import REAUTHORIZE, Announce
from customhouse.connections.returning import EXCHANGE_TIME
from customhouse.connections.revoking import Revoker, Unwanted
from customhouse.connections.sessions import Sessions
from customhouse.connections.speaking import Lost, Speaker
from customhouse.connections.sql import SQL
from customhouse.connections.tokens import GrantSeal, Tokens
from customhouse.db import Database, Executor, Row
from customhouse.errors import CustomhouseError, KeyDestroyed, NotFound, ProviderNotConfigured
from customhouse.logs import get
from customhouse.providers import scopes
from customhouse.providers.catalogue import Catalogue
from customhouse.providers.failures import Failure
from customhouse.providers.manifest import OAuth2, Provider
from customhouse.providers.replies import TokenReply
from customhouse.providers.vocabulary import Kind, Mode, Reason
from customhouse.types import Json, Secret, TenantId
from customhouse.vault.vault import Vault

_log: Final = get("customhouse.connections")
_AT_ONCE: Final = 100
_FORGET: Final = timedelta(days=7)
OUTGROWN: Final = "scopes_added"
"""The status reason of a connection whose provider now needs more than its user was asked for; what it has goes on working."""


_NOT_SET_UP: Final = Failure(Kind.APPLICATION, Reason.CLIENT_REFUSED)


class Sweeping:
    """The jobs of this room; each may be repeated, and run in several processes at once."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        clock: Clock,
        catalogue: Catalogue,
        sessions: Sessions,
        confirming: Confirming,
        speaker: Speaker,
        revoker: Revoker,
        announce: Announce,
    ) -> None:
        """Take the parts that it stands on."""
        self._database = database
        self._vault = vault
        self._clock = clock
        self._catalogue = catalogue
        self._sessions = sessions
        self._confirming = confirming
        self._speaker = speaker
        self._revoker = revoker
        self._announce = announce

    async def sessions(self) -> None:
        """End the sessions whose time is over; one that cannot be ended now does not keep the others."""
        for row in await self._database.call(SQL["sessions_due"], self._clock.now(), _FORGET.total_seconds(), _AT_ONCE):
            tenant, session_id = TenantId(row["tenant_id"]), row["session_id"]
            try:
                if row["over"]:
                    await self._forget(tenant, session_id)
                else:
                    await self._end(tenant, session_id)
            except CustomhouseError as error:
                _log.error("connect_session_not_ended", tenant_id=tenant, error=error.code)

    async def outgrown(self) -> None:
        """Mark the connections whose user was asked for less than the manifest asks for now; nothing is taken from or given to them."""
        for provider in self._catalogue.providers:
            if not isinstance(provider.auth, OAuth2):
                continue
            for mode in provider.modes:
                await self._mark_outgrown(provider, mode)

    async def _mark_outgrown(self, provider: Provider, mode: Mode) -> None:
        wanted = list(scopes.names(scopes.requested(provider, mode)))
        for row in await self._database.call(SQL["outgrown"], provider.id, mode.value, wanted, _AT_ONCE):
            tenant, connection_id = TenantId(row["tenant_id"]), row["connection_id"]
            await self._announce.prepare(tenant, REAUTHORIZE)
            async with self._database.transaction(tenant) as conn:
                if await conn.fetchval(SQL["want_consent"], tenant, connection_id, wanted, OUTGROWN) is None:
                    continue
                detail: dict[str, Json] = {"provider": provider.id, "reason": OUTGROWN, "manifest_version": provider.version}
                await log.append(conn, self._clock, tenant, SYSTEM, tags.CONNECTION_REAUTHORIZE, connection_id=connection_id, detail=detail)
                told: dict[str, Json] = {"connection_id": ids.show("con", connection_id), "provider": provider.id, "reason": OUTGROWN}
                await self._announce.announce(conn, tenant, REAUTHORIZE, told)

    async def _forget(self, tenant: TenantId, session_id: UUID) -> None:
        async with self._database.transaction(tenant) as conn:
            await conn.execute(SQL["forget_session"], tenant, session_id)

    async def _end(self, tenant: TenantId, session_id: UUID) -> None:
        now = self._clock.now()
        async with self._database.transaction(tenant) as conn:
            row = await conn.fetchrow(SQL["lock_session"], tenant, session_id)
            if row is None or row["deadline"] > now or row["state"] in {"confirmed", "ended"}:
                return
            if row["state"] in {"open", "authorizing"}:
                await conn.execute(SQL["drop_states"], tenant, session_id)
                await self._record(conn, tenant, session_id, row, "expired")
                return
            journal = None
            if row["state"] == "exchanging":
                journal = await conn.fetchrow(SQL["exchange"], tenant, session_id)
                # Whoever comes next within this time leaves it to us.
                await conn.execute(SQL["set_session"], tenant, session_id, "exchanging", now + EXCHANGE_TIME)
        if row["state"] == "granted":
            await self._confirming.decline(tenant, session_id, "not_confirmed", SYSTEM)
        elif journal is not None:
            await self._settle(tenant, session_id, row, journal)

    async def _settle(self, tenant: TenantId, session_id: UUID, row: Row, journal: Row) -> None:
        """Show the code of a lost exchange again: what comes is revoked, and a spent code lets good providers end what it gave."""
        flow = await self._sessions.flow_seal(tenant)
        code = flow.open("connect_exchanges", "code_sealed", str(session_id), journal["code_sealed"])
        verifier = flow.open("connect_exchanges", "verifier_sealed", str(session_id), journal["verifier_sealed"])
        provider, reply = await self._shown_again(row["provider"], code, journal["redirect_uri"], verifier)
        unwanted = None
        if provider is not None and isinstance(reply, TokenReply):
            held = Tokens(reply.access_token, reply.refresh_token)
            try:
                key = await self._vault.connection_key(tenant, row["connection_id"], create=True)
            except KeyDestroyed:
                # Its connection has ended: there is nothing to keep them under, so there is one try.
                await self._speaker.revoke(provider, held)
            else:
                seal = GrantSeal(self._vault.environment, tenant, row["connection_id"], key)
                unwanted = Unwanted(provider, seal, held, "reply_lost", None, reply.api_origin, ends_key=not row["renews"])
        patience = timedelta(seconds=600 if provider is None else provider.oauth2.code_seconds) + EXCHANGE_TIME
        if isinstance(reply, Lost) and self._clock.now() < journal["started_at"] + patience:
            return
        revocation_id = None
        async with self._database.transaction(tenant) as conn:
            locked = await conn.fetchrow(SQL["lock_session"], tenant, session_id)
            if locked is not None and locked["state"] == "exchanging":
                await conn.execute(SQL["end_exchange"], tenant, session_id)
                await self._record(conn, tenant, session_id, row, "reply_lost")
            if unwanted is not None:
                revocation_id = await self._revoker.take(conn, unwanted)
        if revocation_id is not None:
            await self._revoker.end(tenant, revocation_id)
        elif not row["renews"]:
            # Nothing is sealed under it, and nothing will be.
            await self._vault.destroy_connection_key(tenant, row["connection_id"])

    async def _shown_again(
        self, provider_id: str, code: Secret, redirect: str, verifier: Secret
    ) -> tuple[Provider | None, TokenReply | Failure | Lost]:
        try:
            provider = self._catalogue.get(provider_id)
            return provider, await self._speaker.exchange(provider, code, redirect, verifier)
        except (NotFound, ProviderNotConfigured):
            return None, Lost(_NOT_SET_UP)

    async def _record(self, conn: Executor, tenant: TenantId, session_id: UUID, row: Row, reason: str) -> None:
        await conn.execute(SQL["end_session"], tenant, session_id, "ended", reason, self._clock.now())
        await log.append(
            conn,
            self._clock,
            tenant,
            SYSTEM,
            tags.CONNECT_REFUSED,
            subject=ids.show("cns", session_id),
            connection_id=row["connection_id"] if row["renews"] else None,
            detail={"provider": row["provider"], "reason": reason},
        )
