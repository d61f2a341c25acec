"""Grants that were got and may not be kept: held sealed in escrow until the provider has ended them, and seen to be ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from customhouse import ids
from customhouse.audit import log, tags
from customhouse.audit.log import SYSTEM
from customhouse.clock import Clock
from customhouse.connections.speaking import Speaker
from customhouse.connections.sql import SQL
from customhouse.connections.tokens import GrantSeal, Tokens
from customhouse.db import Database, Executor, Row
from customhouse.errors import CustomhouseError, KeyDestroyed, NotFound, ProviderNotConfigured, Unsealable
from customhouse.logs import get
from customhouse.providers.catalogue import Catalogue
from customhouse.providers.manifest import Provider
from customhouse.providers.vocabulary import Extent
from customhouse.types import TenantId
from customhouse.vault.vault import Vault

_log: Final = get("customhouse.connections")
_AT_ONCE: Final = 50
_CLAIM: Final = timedelta(minutes=2)
"""Longer than all calls of one revocation together."""
_LONGEST_PAUSE: Final = timedelta(hours=6)
HELD_FOR: Final = timedelta(days=7)
_TABLE: Final = "revocation_escrow"
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
        account_index: whose account it is; None: it could not be learnt.
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

    def __init__(self, database: Database, vault: Vault, clock: Clock, catalogue: Catalogue, speaker: Speaker) -> None:
        """Take the parts that it stands on."""
        self._database = database
        self._vault = vault
        self._clock = clock
        self._catalogue = catalogue
        self._speaker = speaker

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
        return revocation_id

    async def end_due(self) -> None:
        """End what is due; what cannot be ended now is tried again, for at most seven days."""
        for row in await self._database.call(SQL["revocations_due"], self._clock.now(), _AT_ONCE):
            try:
                await self.end(TenantId(row["tenant_id"]), row["revocation_id"])
            except (KeyDestroyed, Unsealable) as error:
                # Nobody can open it any more, so nobody can use it either.
                _log.error("revocation_unreadable", tenant_id=row["tenant_id"], error=error.code)
                await self._close(TenantId(row["tenant_id"]), row["revocation_id"], "unreadable", verified=False)
            except CustomhouseError as error:
                _log.error("revocation_put_off", tenant_id=row["tenant_id"], error=error.code)

    async def end(self, tenant: TenantId, revocation_id: UUID) -> Settled | None:
        """Try to end one grant now; None: it has to be tried again, or another process is at it.

        Raises:
            Unsealable: its tokens cannot be opened.
            KeyServiceUnavailable: not now.
        """
        now = self._clock.now()
        async with self._database.transaction(tenant) as conn:
            row = await conn.fetchrow(SQL["claim_revocation"], revocation_id, now, now + _CLAIM)
            attempts = 0 if row is None else await conn.fetchval(SQL["begin_attempt"], tenant, revocation_id)
        if row is None:
            return None
        outcome, verified = await self._settle(tenant, revocation_id, row)
        if outcome is None and now < row["ends_at"]:
            pause = min(_CLAIM * 2 ** min(attempts, 16), _LONGEST_PAUSE)
            async with self._database.transaction(tenant) as conn:
                await conn.execute(SQL["postpone_revocation"], tenant, revocation_id, now + pause)
            return None
        settled = Settled(outcome or "given_up", verified, attempts)
        await self._close(tenant, revocation_id, settled.outcome, verified=verified)
        return settled

    async def _settle(self, tenant: TenantId, revocation_id: UUID, row: Row) -> tuple[str | None, bool]:
        """Return the outcome, None where it has to be tried again, and whether it was seen that the token is dead."""
        try:
            provider = self._catalogue.get(row["provider"])
            self._speaker.client(provider)
        except (NotFound, ProviderNotConfigured):
            return None, False
        revocation = provider.oauth2.revocation
        if not revocation.supported:
            return "unsupported", False
        shared = row["account_index"] is not None and revocation.extent in _SHARED
        if shared and (await self._database.call(SQL["sharing"], row["account_index"]))[0]["sharing"]:
            return "shared", False
        key = await self._vault.connection_key(tenant, row["connection_id"])
        seal = GrantSeal(self._vault.environment, tenant, row["connection_id"], key)
        held = seal.open_both(_TABLE, str(revocation_id), row["tokens_sealed"])
        if await self._speaker.revoke(provider, held) is not None:
            return None, False
        if revocation.proof_seconds:
            # Issued access tokens live on for a while: nothing can be seen yet.
            return "revoked", False
        lives = await self._speaker.lives(provider, held, row["api_origin"])
        # A good answer to a revocation proves nothing: a token that still works was not revoked.
        return (None if lives else "revoked"), lives is False

    async def _close(self, tenant: TenantId, revocation_id: UUID, outcome: str, *, verified: bool) -> None:
        async with self._database.transaction(tenant) as conn:
            row = await conn.fetchrow(SQL["end_revocation"], tenant, revocation_id)
            if row is None:
                return
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
                    "outcome": outcome,
                    "verified": verified,
                    "attempts": row["attempts"],
                },
            )
        if row["ends_key"]:
            await self._vault.destroy_connection_key(tenant, row["connection_id"])
