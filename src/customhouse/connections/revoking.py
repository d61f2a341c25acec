"""Grants that were got and may not be kept: held sealed in escrow until the provider has ended them, and seen to be ended."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final
from uuid import UUID

from customhouse import ids
from customhouse.audit import log, tags
from customhouse.audit.log import SYSTEM
from customhouse.clock import Clock
from customhouse.connections.closing import Held, settle
from customhouse.connections.ports import REVOCATION_ENDED, Announce, Subscriptions
from customhouse.connections.receipts import End, Receipts, instructions
from customhouse.connections.speaking import Speaker
from customhouse.connections.sql import SQL
from customhouse.connections.tokens import GrantSeal, Tokens
from customhouse.db import Database, Executor, Row
from customhouse.errors import CustomhouseError, NotFound, ProviderNotConfigured, Unsealable
from customhouse.failpoints import Failpoints
from customhouse.logs import get
from customhouse.providers.catalogue import Catalogue
from customhouse.providers.manifest import OAuth2, Provider
from customhouse.providers.vocabulary import Extent, Rotation
from customhouse.types import Json, TenantId
from customhouse.vault.vault import Vault

_log: Final = get("customhouse.connections")
_AT_ONCE: Final = 50
_ONE_RUN: Final = 50.0
"""Seconds after which the job makes room for its next run."""
_CLAIM: Final = timedelta(minutes=2)
"""Longer than all calls of one revocation together."""
_LONGEST_PAUSE: Final = timedelta(hours=6)
HELD_FOR: Final = timedelta(days=7)
_TABLE: Final = "revocation_escrow"
_FRESH_SECONDS: Final = 30.0
"""For how long the seal of what was just put into escrow is at hand: no longer than the vault keeps any key."""
_SHARED: Final = frozenset({Extent.GRANT, Extent.PROJECT, Extent.INSTALLATION})
"""What these end, other connections of the account may stand on."""


@dataclass(frozen=True, slots=True)
class Unwanted:
    """A grant to be ended.

    Attributes:
        provider: whose it is.
        seal: of its connection.
        tokens: the tokens.
        reason: a code of ours, for the ledger.
        account_index: whose account it is, or whose organisation where a revocation ends that one's; None: it could not be learnt.
        api_origin: of this account.
        ends_key: the connection has nothing else: its key is destroyed with the tokens.
    """

    provider: Provider
    seal: GrantSeal
    tokens: Tokens
    reason: str
    account_index: bytes | None
    api_origin: str | None
    ends_key: bool


@dataclass(frozen=True, slots=True)
class Settled:
    """How the end of a grant came about."""

    outcome: str
    """`revoked`, `shared` (others stand on it: dropped here alone), `unsupported`, `given_up` or `unreadable`."""
    verified: bool
    """Its token was shown to the provider afterwards, and refused."""
    attempts: int


class Revoker:
    """Takes unwanted grants into escrow, and ends them."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        clock: Clock,
        catalogue: Catalogue,
        speaker: Speaker,
        receipts: Receipts,
        announce: Announce,
        failpoints: Failpoints,
        subscriptions: Sequence[Subscriptions] = (),
    ) -> None:
        """Take the parts that it stands on; `subscriptions`: who has some at providers."""
        self._database = database
        self._vault = vault
        self._clock = clock
        self._catalogue = catalogue
        self._speaker = speaker
        self._receipts = receipts
        self._announce = announce
        self._failpoints = failpoints
        self._subscriptions = subscriptions
        self._fresh: dict[UUID, GrantSeal] = {}

    @property
    def ends_subscriptions(self) -> bool:
        """Whether something has to be done with tokens before the grant is ended, or where it cannot be ended."""
        return bool(self._subscriptions)

    async def take(self, conn: Executor, unwanted: Unwanted) -> UUID:
        """Put a grant into escrow in the caller's transaction, which is in its tenant; `end` or the job ends it afterwards."""
        revocation_id = ids.new()
        now = self._clock.now()
        await conn.execute(
            SQL["put_in_escrow"],
            unwanted.seal.tenant_id,
            revocation_id,
            unwanted.seal.connection_id,
            unwanted.provider.id,
            unwanted.reason,
            unwanted.account_index,
            unwanted.api_origin,
            unwanted.seal.seal_both(_TABLE, str(revocation_id), unwanted.tokens),
            unwanted.ends_key,
            now,
            now + HELD_FOR,
            unwanted.seal.key.key_id,
            None,
        )
        # `end` comes next, and the connection's key may have been destroyed in between.
        self._fresh[revocation_id] = unwanted.seal
        asyncio.get_running_loop().call_later(_FRESH_SECONDS, self._fresh.pop, revocation_id, None)
        return revocation_id

    async def hand_over(self, conn: Executor, seal: GrantSeal, generation: int, held: Held) -> UUID | None:
        """Put tokens that a renewal brought into the place of those of `generation`, which it spent, in the escrow of their connection.

        None: nothing of that generation waits there, or under another key.
        """
        tenant, connection_id = seal.tenant_id, seal.connection_id
        found = await conn.fetchval(SQL["lock_escrow"], tenant, connection_id, generation, seal.key.key_id)
        if found is None:
            return None
        sealed = seal.seal_both(_TABLE, str(found), held.tokens)
        await conn.execute(SQL["keep_renewed"], tenant, found, sealed, held.access_expires_at, held.api_origin)
        return UUID(str(found))

    async def end_due(self) -> None:
        """End what is due; what cannot be ended now is tried again, for at most seven days."""
        until = self._clock.monotonic() + _ONE_RUN
        while await self._end_some() == _AT_ONCE and self._clock.monotonic() < until:
            # After an incident more is due than one look shows.
            pass

    async def _end_some(self) -> int:
        rows = await self._database.call(SQL["revocations_due"], self._clock.now(), _AT_ONCE)
        for row in rows:
            try:
                await self.end(TenantId(row["tenant_id"]), row["revocation_id"])
            except CustomhouseError as error:
                _log.error("revocation_put_off", tenant_id=row["tenant_id"], error=error.code)
        return len(rows)

    async def end(self, tenant: TenantId, revocation_id: UUID) -> Settled | None:
        """Try to end one grant now; None: it has to be tried again, or another process is at it.

        Raises:
            KeyServiceUnavailable: not now.
        """
        now = self._clock.now()
        async with self._database.transaction(tenant) as conn:
            row = await conn.fetchrow(SQL["claim_revocation"], revocation_id, now, now + _CLAIM)
        if row is None:
            return None
        provider = self._provider(row["provider"])
        if now >= row["ends_at"]:
            # It said that it did, and could not be seen to; or it never did.
            outcome = "given_up" if row["asked_at"] is None else "revoked"
            return await self._close(tenant, revocation_id, row, provider, Settled(outcome, verified=False, attempts=row["attempts"]))
        if provider is None:
            return None
        supported = isinstance(provider.auth, OAuth2) and provider.auth.revocation.supported
        if not supported and not (self._subscriptions and isinstance(provider.auth, OAuth2)):
            return await self._close(tenant, revocation_id, row, provider, Settled("unsupported", verified=False, attempts=row["attempts"]))
        if await self._is_shared(provider, row):
            return await self._close(tenant, revocation_id, row, provider, Settled("shared", verified=False, attempts=row["attempts"]))
        try:
            seal, held = await self._open(tenant, revocation_id, row)
        except Unsealable as error:
            # Nobody can open it any more, so nobody can use it either.
            _log.error("revocation_unreadable", tenant_id=tenant, error=error.code)
            return await self._close(tenant, revocation_id, row, provider, Settled("unreadable", verified=False, attempts=row["attempts"]))
        if self._subscriptions:
            await self._end_subscriptions(tenant, row, provider, held)
            if not supported:
                settled = Settled("unsupported", verified=False, attempts=row["attempts"])
                return await self._close(tenant, revocation_id, row, provider, settled)
        async with self._database.transaction(tenant) as conn:
            # Written down before the call: whoever finds the row afterwards knows that it was asked.
            attempts = await conn.fetchval(SQL["begin_attempt"], tenant, revocation_id)
        self._failpoints.hit("disconnect.before_revoke")
        verdict = await settle(self._speaker, provider, held, now, partial(self._keep, seal, revocation_id))
        self._failpoints.hit("disconnect.after_revoke")
        if verdict.outcome is None:
            pause = min(_CLAIM * 2 ** min(attempts, 16), _LONGEST_PAUSE)
            again = verdict.again_at if verdict.again_at is not None else self._clock.now() + pause
            async with self._database.transaction(tenant) as conn:
                await conn.execute(SQL["postpone_revocation"], tenant, revocation_id, min(again, row["ends_at"]), verdict.asked_at)
                await self._receipts.asked(conn, tenant, row["connection_id"], revocation_id, attempts)
            return None
        return await self._close(tenant, revocation_id, row, provider, Settled(verdict.outcome, verdict.verified, attempts))

    def _provider(self, provider_id: str) -> Provider | None:
        """Return a provider that can be spoken with; None: it is not set up any more, and perhaps will be again."""
        try:
            provider = self._catalogue.get(provider_id)
            self._speaker.client(provider)
        except (NotFound, ProviderNotConfigured):
            return None
        return provider

    async def _is_shared(self, provider: Provider, row: Row) -> bool:
        if row["account_index"] is None or not ends_others(provider):
            return False
        return bool((await self._database.call(SQL["sharing"], row["account_index"]))[0]["sharing"])

    async def _end_subscriptions(self, tenant: TenantId, row: Row, provider: Provider, held: Held) -> None:
        connection_id, ended = row["connection_id"], 0
        for subscriptions in self._subscriptions:
            ended += await subscriptions(tenant, connection_id, provider, held.tokens.access, held.api_origin)
        async with self._database.transaction(tenant) as conn:
            await conn.execute(SQL["note_subscriptions"], tenant, connection_id, ended)

    async def _seal(self, tenant: TenantId, revocation_id: UUID, row: Row) -> GrantSeal:
        fresh, connection_id = self._fresh.pop(revocation_id, None), row["connection_id"]
        if fresh is not None and fresh.key.key_id == row["key_id"]:
            return fresh
        if row["wrapped_key"] is not None:
            key = await self._vault.open_wrapped(tenant, connection_id, row["key_id"], row["tenant_key_id"], row["wrapped_key"])
        elif row["key_id"] is not None:
            key = await self._vault.key(tenant, row["key_id"])
        else:
            key = await self._vault.connection_key(tenant, connection_id)
        return GrantSeal(self._vault.environment, tenant, connection_id, key)

    async def _open(self, tenant: TenantId, revocation_id: UUID, row: Row) -> tuple[GrantSeal, Held]:
        seal, connection_id, spent = await self._seal(tenant, revocation_id, row), row["connection_id"], False
        if row["pending_session"] is not None:
            held = seal.open_both("pending_grants", str(row["pending_session"]), row["tokens_sealed"])
        elif row["tokens_sealed"] is not None:
            held = seal.open_both(_TABLE, str(revocation_id), row["tokens_sealed"])
        else:
            # As they were moved, unopened: sealed for the place where they lay.
            name, generation, refresh = str(connection_id), row["token_generation"], row["refresh_sealed"]
            held = Tokens(
                seal.open("integration_tokens", "access_sealed", name, row["access_sealed"], generation),
                None if refresh is None else seal.open("integration_tokens", "refresh_sealed", name, refresh, generation),
            )
            if self._catalogue.get(row["provider"]).oauth2.refresh.rotation is Rotation.SINGLE_USE:
                async with self._database.transaction(tenant) as conn:
                    spent = bool(await conn.fetchval(SQL["maybe_spent"], tenant, connection_id, generation))
        return seal, Held(held, row["access_expires_at"], row["api_origin"], row["asked_at"], spent)

    async def _keep(self, seal: GrantSeal, revocation_id: UUID, held: Held) -> None:
        """Keep tokens that a refresh gave instead of those in escrow, or that those may be spent."""
        if held.spent:
            async with self._database.transaction(seal.tenant_id) as conn:
                await conn.execute(SQL["note_spent"], seal.tenant_id, revocation_id)
            return
        sealed = seal.seal_both(_TABLE, str(revocation_id), held.tokens)
        async with self._database.transaction(seal.tenant_id) as conn:
            await conn.execute(SQL["keep_renewed"], seal.tenant_id, revocation_id, sealed, held.access_expires_at, held.api_origin)

    async def _close(self, tenant: TenantId, revocation_id: UUID, row: Row, provider: Provider | None, settled: Settled) -> Settled:
        status, shared = receipt_status(settled.outcome), settled.outcome == "shared"
        end = End(status, settled.verified, settled.attempts, shared, instructions(provider, status, shared=shared))
        await self._announce.prepare(tenant, REVOCATION_ENDED)
        self._failpoints.hit("disconnect.before_close")
        async with self._database.transaction(tenant) as conn:
            if await conn.fetchrow(SQL["end_revocation"], tenant, revocation_id) is None:
                return settled
            await log.append(
                conn,
                self._clock,
                tenant,
                SYSTEM,
                tags.GRANT_REVOKED,
                subject=ids.show("rev", revocation_id),
                connection_id=row["connection_id"],
                detail={
                    "provider": row["provider"],
                    "reason": row["reason"],
                    "outcome": settled.outcome,
                    "verified": settled.verified,
                    "attempts": settled.attempts,
                },
            )
            receipt = await self._receipts.settle(conn, tenant, row["connection_id"], revocation_id, end)
            if receipt is not None:
                told: dict[str, Json] = {
                    "connection_id": ids.show("con", row["connection_id"]),
                    "provider": row["provider"],
                    "status": end.status,
                    "verified": end.verified,
                    "attempts": end.attempts,
                }
                await self._announce.announce(conn, tenant, REVOCATION_ENDED, told)
        self._failpoints.hit("disconnect.after_close")
        if row["ends_key"] and row["wrapped_key"] is None:
            await self._vault.destroy_connection_key(tenant, row["connection_id"])
        return settled


def ends_others(provider: Provider) -> bool:
    """Tell whether a revocation ends what other connections may stand on."""
    if not isinstance(provider.auth, OAuth2):
        return False
    return provider.auth.revocation.extent in _SHARED or provider.auth.revocation.by_organisation


def receipt_status(outcome: str) -> str:
    """Return what a receipt says for an outcome."""
    return {"revoked": "revoked", "shared": "unsupported", "unsupported": "unsupported"}.get(outcome, "failed")
