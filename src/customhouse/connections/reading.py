"""Reading a fresh access token: one look, no write of its own; it is handed out when its entry in the ledger is durable."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

from customhouse.audit import tags
from customhouse.audit.lines import Line
from customhouse.audit.log import Origin
from customhouse.audit.tags import Tag
from customhouse.clock import Clock
from customhouse.connections import tokens
from customhouse.connections.looking import Looks
from customhouse.connections.ports import Refresher
from customhouse.connections.register import Register, Use
from customhouse.connections.sweeping import OUTGROWN
from customhouse.connections.tokens import GrantSeal
from customhouse.crypto.envelope import RecordKey, key_id_of
from customhouse.db import Row
from customhouse.errors import (
    BulkReadStopped,
    Conflict,
    ConnectionEnded,
    ConnectionPaused,
    ConnectionPending,
    KeyDestroyed,
    NotFound,
    ReauthorizationRequired,
    TokenUnavailable,
)
from customhouse.providers.catalogue import Catalogue
from customhouse.providers.manifest import Provider
from customhouse.types import Json, Secret, TenantId
from customhouse.vault.vault import Vault

_SOON: Final = timedelta(minutes=5)
"""What is left of a token's life when its renewal is asked for; nobody waits for it."""
_TRIES: Final = 3
_STALE: Final = 0.25
"""Seconds after which what a look found is not trusted any more: no use begins later than 1 s after a pause or an end (rulings §9)."""
REFUSED_BY_PROVIDER: Final = "access_token_refused"
"""The status reason of a connection whose token the provider refused although its time was not over."""
Purpose = Literal["export", "proxy"]


@dataclass(frozen=True, slots=True)
class Asker:
    """Who reads.

    Attributes:
        origin: for the ledger.
        home: the tenant of the key that asks: the connection's own, or the operator's. None: not a key, but a job of ours.
    """

    origin: Origin
    home: TenantId | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """A usable connection as one SELECT found it, checked against its MAC; its token is still sealed.

    Attributes:
        tenant_id: whose.
        connection_id: which.
        provider: its manifest.
        mode: `observe` or `act`.
        requested: the scopes of its last consent.
        granted: those that the provider granted, as far as it said so.
        scopes_known: whether it said so.
        generation: of the token.
        expires_at: of the token; None: it does not end by itself.
        api_origin: this account's own API.
        hold_until: until when the provider asked to be left alone.
        sealed: the token.
    """

    tenant_id: TenantId
    connection_id: UUID
    provider: Provider
    mode: str
    requested: tuple[str, ...]
    granted: tuple[str, ...]
    scopes_known: bool
    generation: int
    expires_at: datetime | None
    api_origin: str | None
    hold_until: datetime | None
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Reading:
    """A token that may be used now."""

    access: Secret
    token_type: str
    expires_at: datetime | None
    scopes: tuple[str, ...]
    generation: int
    held: Held


class Reader:
    """Hands out tokens, each one written down before."""

    def __init__(self, looks: Looks, vault: Vault, clock: Clock, catalogue: Catalogue, refresher: Refresher, register: Register) -> None:
        """Take the parts that it stands on."""
        self._looks = looks
        self._vault = vault
        self._clock = clock
        self._catalogue = catalogue
        self._refresher = refresher
        self._register = register

    async def token(self, tenant: TenantId, connection_id: UUID, asker: Asker, purpose: Purpose) -> Reading:
        """Return the access token of a connection; raises as `look` and `open` do."""
        return await self.open(await self.look(tenant, connection_id, asker), asker, purpose)

    async def look(self, tenant: TenantId, connection_id: UUID, asker: Asker) -> Held:
        """Return a connection that may be used now; nothing is opened and nothing written.

        Raises:
            NotFound: no such connection in this tenant.
            Conflict: it has no token, or is pending, paused, or ended.
            ReauthorizationRequired: its user has to consent again.
            BulkReadStopped: the key that asks is stopped.
            Unsealable: its row was edited by hand.
        """
        now = self._clock.now()
        home = tenant if asker.home is None else asker.home
        row = await self._looks.row(tenant, connection_id, home, asker.origin.actor_id)
        if row is None:
            raise NotFound
        if row["stopped_until"] is not None and asker.home is not None:
            raise BulkReadStopped(retry_after=max(1, round((row["stopped_until"] - now).total_seconds())))
        _check_status(row)
        mac_key = self._vault.cached_mac_key(tenant, tokens.MAC_PURPOSE) or await self._vault.mac_key(tenant, tokens.MAC_PURPOSE)
        tokens.check_guard(mac_key, connection_id, row["provider"], row)
        return Held(
            tenant_id=tenant,
            connection_id=connection_id,
            provider=self._catalogue.get(row["provider"]),
            mode=row["mode"],
            requested=tuple(row["requested"]),
            granted=tuple(row["granted"]),
            scopes_known=row["scopes_known"],
            generation=row["token_generation"],
            expires_at=row["access_expires_at"],
            api_origin=row["api_origin"],
            hold_until=row["hold_until"],
            sealed=row["access_sealed"],
        )

    async def open(self, held: Held, asker: Asker, purpose: Purpose, scopes: tuple[str, ...] | None = None) -> Reading:
        """Return the token, renewed where its time is over; its entry in the ledger is durable then.

        Args:
            held: from `look`.
            asker: who reads.
            purpose: what for.
            scopes: what it is used for; None: that cannot be told, so it may be all that was granted.

        Raises:
            ReauthorizationRequired, TokenUnavailable: there is no valid token; else as `look`.
            Overloaded, DatabaseUnavailable: the entry could not be written.
            KeyServiceUnavailable: the token cannot be opened now.
        """
        access, now, looked = None, self._clock.now(), self._clock.monotonic()
        for _ in range(_TRIES):
            if held.expires_at is not None and held.expires_at <= now:
                await self._refresher.renew(held.tenant_id, held.connection_id, generation=held.generation)
            else:
                access = await self._opened(held)
                if access is not None:
                    break
            held, now = await self.look(held.tenant_id, held.connection_id, asker), self._clock.now()
            looked = self._clock.monotonic()
        if access is None:
            raise TokenUnavailable
        if held.expires_at is not None and held.expires_at <= now + _SOON:
            self._refresher.nudge(held.tenant_id, held.connection_id, held.generation)
        detail: dict[str, Json] = {"provider": held.provider.id, "purpose": purpose, "token_generation": held.generation}
        await self.note(held, asker, tags.TOKEN_READ, detail, held.granted if scopes is None else scopes)
        if self._clock.monotonic() - looked > _STALE:
            await self.look(held.tenant_id, held.connection_id, asker)
        return Reading(access, "Bearer", held.expires_at, held.granted, held.generation, held)

    async def refuse(self, held: Held, asker: Asker, purpose: Purpose, reason: str, method: str | None = None) -> None:
        """Write down that a call was refused; the caller raises afterwards. Raises where that cannot be written."""
        detail: dict[str, Json] = {"provider": held.provider.id, "purpose": purpose, "reason": reason}
        if method is not None:
            detail["method"] = method
        await self.note(held, asker, tags.CREDENTIAL_REFUSED, detail, None)

    async def note(self, held: Held, asker: Asker, tag: Tag, detail: dict[str, Json], scopes: tuple[str, ...] | None) -> None:
        """Write an entry about a use into the ledger, and wait for it; raises as `Register.note` does."""
        line = Line.of(held.tenant_id, self._clock.now(), tag, asker.origin, held.connection_id, detail)
        homes = () if asker.home is None else tuple(dict.fromkeys((held.tenant_id, asker.home)))
        await self._register.note(Use(line, held.connection_id, scopes, homes))

    async def _opened(self, held: Held) -> Secret | None:
        """Return the token; None: its key was replaced or destroyed since the row was read, so it has to be read again."""
        try:
            key = await self._key(held)
        except KeyDestroyed:
            return None
        seal = GrantSeal(self._vault.environment, held.tenant_id, held.connection_id, key)
        return seal.open("integration_tokens", "access_sealed", str(held.connection_id), held.sealed, held.generation)

    async def _key(self, held: Held) -> RecordKey:
        # By the id that the sealed value names, so that a rotation of keys goes on beneath the reads.
        key_id = key_id_of(held.sealed)
        return self._vault.cached_key(held.tenant_id, key_id) or await self._vault.key(held.tenant_id, key_id)


def _goes_on(row: Row) -> bool:
    """Tell whether a connection whose user has to be asked again may be used until then.

    It may where only more is wanted of it, and as long as a token of limited time is not refused. What would never end by itself, such as
    a pasted key, does not outlive the word that it is over.
    """
    reason = row["status_reason"]
    return bool(reason == OUTGROWN or (reason != REFUSED_BY_PROVIDER and row["access_expires_at"] is not None))


def _check_status(row: Row) -> None:
    found: Any = row["status"]
    if row["provider"] == "webhook":
        raise Conflict("A webhook connection has no access token.")
    if found == "pending":
        raise ConnectionPending
    if found == "paused":
        raise ConnectionPaused
    if found in {"active", "degraded", "reauthorization_required"}:
        if found == "reauthorization_required" and not _goes_on(row):
            raise ReauthorizationRequired(row["status_reason"] or REFUSED_BY_PROVIDER)
        if row["access_sealed"] is None or row["requested"] is None:
            raise ConnectionEnded("Nothing is held for this connection any more.")
        return
    raise ConnectionEnded
