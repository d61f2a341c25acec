"""The way to the provider: an invitation, the page that it leads to, and the consent that sends the browser on."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

from customhouse import ids
from customhouse.audit import log, tags
from customhouse.audit.log import Origin
from customhouse.clock import Clock
from customhouse.connections import tokens
from customhouse.connections.sql import SQL
from customhouse.connections.tokens import FLOW, INDEX, FlowSeal
from customhouse.connections.users import User, user_from
from customhouse.db import Database, Executor, Row
from customhouse.errors import Conflict, ConnectSessionOver, Fault, Invalid, NotFound
from customhouse.providers import calls, scopes
from customhouse.providers.catalogue import Catalogue
from customhouse.providers.manifest import OAuth2, Provider, Scope
from customhouse.providers.vocabulary import Mode
from customhouse.tenants.idempotency import Once
from customhouse.types import PLATFORM, Json, Secret, TenantId
from customhouse.vault.vault import Vault

LIFE: Final = timedelta(minutes=10)
"""Of a link, of the stay at the provider, and of the time to confirm."""
_LONGEST: Final = 3 * LIFE
"""From the invitation to the last press of the button, however often it was pressed."""
_LONGEST_URL: Final = 2048
_LONGEST_LINK: Final = 128
_RENEWABLE: Final = frozenset({"active", "degraded", "paused", "reauthorization_required"})


@dataclass(frozen=True, slots=True)
class Invitation:
    """What the host asks for."""

    user: User
    provider: str
    mode: str | None = None
    """None: the mode that may do least; for a connection that is renewed, its own."""
    connection_id: UUID | None = None
    """The connection that gets another grant; None: a new one."""
    return_url: str | None = None


@dataclass(frozen=True, slots=True)
class Invited:
    """An invitation that was made; the link is shown this once, None where the call is repeated."""

    session_id: UUID
    link: str | None
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Session:
    """One session, as the consent page and the way back need it."""

    tenant_id: TenantId
    session_id: UUID
    tenant_name: str
    user: User
    provider: Provider
    mode: Mode
    renews: bool
    held: tuple[str, ...]
    """Scopes that the connection was asked for before."""
    return_url: str | None
    expires_at: datetime

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """What is asked for."""
        return scopes.requested(self.provider, self.mode)

    @property
    def added(self) -> tuple[Scope, ...]:
        """What is asked for beyond what the connection had; for a new one nothing is highlighted."""
        return scopes.added(self.provider, self.mode, self.held) if self.renews else ()


class Sessions:
    """Makes invitations and takes consent."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        clock: Clock,
        catalogue: Catalogue,
        *,
        public_url: str,
        return_urls: Sequence[str],
    ) -> None:
        """Take the parts; `return_urls` are the origins to which browsers may be sent back."""
        self._database = database
        self._vault = vault
        self._clock = clock
        self._catalogue = catalogue
        self._public_url = public_url
        self._return_urls = frozenset(return_urls)

    async def invite(self, tenant: TenantId, wish: Invitation, origin: Origin, once: Once) -> Invited:
        """Make a link to a consent page, for one person and one provider.

        Raises:
            Invalid: no such provider or mode, the provider is connected by a key, or `return_url` leads elsewhere.
            ProviderNotConfigured: this installation is not registered with the provider.
            NotFound: no such tenant, or no such connection of this user at this provider.
            Conflict: the connection has ended.
            IdempotencyConflict: the key was used with another body.
            KeyServiceUnavailable: nothing can be sealed now.
        """
        provider = self._provider(wish.provider)
        mode = self._mode(provider, wish.mode)
        self._check_return(wish.return_url)
        session_id, link = ids.new(), tokens.new_token()
        index_key = await self._vault.mac_key(PLATFORM, INDEX)
        sealing = await self.flow_seal(tenant)
        now = self._clock.now()
        async with self._database.transaction(tenant) as conn:
            if await conn.fetchval(SQL["host"], tenant) is None:
                raise NotFound
            if wish.connection_id is not None:
                held = await _renewable(conn, tenant, wish.connection_id, provider, wish.user)
                mode = mode if wish.mode is not None else Mode(held["mode"])
            earlier = await once.claim(conn, tenant, ids.show("cns", session_id))
            if earlier is not None:
                row = await conn.fetchrow(SQL["session"], tenant, ids.parse("cns", earlier))
                if row is None:
                    raise NotFound
                return Invited(row["session_id"], None, row["created_at"] + LIFE)
            facts = sealing.seal("connect_sessions", "facts_sealed", str(session_id), tokens.pack(wish.user.facts()))
            await conn.execute(
                SQL["insert_session"],
                tenant,
                session_id,
                tokens.hashed(index_key, "link", link),
                wish.user.id,
                provider.id,
                mode.value,
                wish.connection_id or ids.new(),
                wish.connection_id is not None,
                wish.return_url,
                facts,
                now,
                now + LIFE,
            )
            await log.append(
                conn,
                self._clock,
                tenant,
                origin,
                tags.CONNECT_SESSION_CREATED,
                subject=ids.show("cns", session_id),
                connection_id=wish.connection_id,
                detail={"provider": provider.id, "mode": mode.value, "renews": wish.connection_id is not None},
            )
        return Invited(session_id, f"{self._public_url}/connect/{link}", now + LIFE)

    async def look(self, link: str, browser: str | None) -> Session:
        """Return the session of a link, and use nothing up.

        Raises:
            NotFound: there is no such link.
            ConnectSessionOver: it was used, or its time is over.
        """
        tenant, session_id = await self._resolve(link)
        index_key = await self._vault.mac_key(PLATFORM, INDEX)
        async with self._database.transaction(tenant) as conn:
            row = await conn.fetchrow(SQL["session"], tenant, session_id)
        if row is None or row["tenant_status"] != "active":
            raise NotFound
        self.check_open(row, None if browser is None else tokens.hashed(index_key, "browser", browser))
        return await self.opened(tenant, row)

    async def consent(self, link: str, browser: str) -> str:
        """Take the consent of the person at this browser; return where the browser goes: to the provider.

        Pressing again in the same browser, before the provider has answered, begins anew: the earlier state is void.

        Raises:
            NotFound: there is no such link.
            ConnectSessionOver: it was used in another browser, answered, or its time is over.
            ProviderNotConfigured: this installation is not registered with the provider any more.
        """
        tenant, session_id = await self._resolve(link)
        index_key = await self._vault.mac_key(PLATFORM, INDEX)
        sealing = await self.flow_seal(tenant)
        state, verifier = tokens.new_token(), tokens.new_token()
        state_hash, browser_hash = tokens.hashed(index_key, "state", state), tokens.hashed(index_key, "browser", browser)
        now = self._clock.now()
        async with self._database.transaction(tenant) as conn:
            row = await conn.fetchrow(SQL["lock_session"], tenant, session_id)
            if row is None or await conn.fetchval(SQL["host"], tenant) is None:
                raise NotFound
            self.check_open(row, browser_hash)
            provider = self._provider(row["provider"])
            mode = self._mode(provider, row["mode"])
            redirect = calls.redirect_uri(self._public_url, provider.id)
            await conn.execute(SQL["drop_states"], tenant, session_id)
            await conn.execute(SQL["consent"], tenant, session_id, browser_hash, now, now + LIFE)
            await conn.execute(
                SQL["insert_state"],
                tenant,
                state_hash,
                session_id,
                provider.id,
                browser_hash,
                sealing.seal("connect_states", "verifier_sealed", state_hash.hex(), verifier.encode()),
                redirect,
                now + LIFE,
            )
            asked: list[Json] = [*scopes.names(scopes.requested(provider, mode))]
            await log.append(
                conn,
                self._clock,
                tenant,
                origin_of(session_id),
                tags.CONNECT_CONSENTED,
                subject=ids.show("cns", session_id),
                connection_id=row["connection_id"] if row["renews"] else None,
                detail={"provider": provider.id, "mode": mode.value, "requested": asked, "manifest_version": provider.version},
            )
        client = self._catalogue.client(provider.id)
        return calls.authorize_url(provider, client, mode=mode, redirect=redirect, state=state, verifier=Secret(verifier.encode()))

    async def flow_seal(self, tenant: TenantId) -> FlowSeal:
        """Return what seals a flow's own secrets; raises `KeyServiceUnavailable` where its key cannot be had."""
        return FlowSeal(self._vault.environment, tenant, await self._vault.mac_key(tenant, FLOW))

    async def opened(self, tenant: TenantId, row: Row) -> Session:
        """Return a session from its row.

        Raises:
            Invalid: its provider is not offered any more.
        """
        provider = self._provider(row["provider"])
        sealing = await self.flow_seal(tenant)
        user = User(row["user_id"])
        if row["facts_sealed"] is not None:
            facts = sealing.open("connect_sessions", "facts_sealed", str(row["session_id"]), row["facts_sealed"])
            user = user_from(tokens.unpack(facts))
        return Session(
            tenant,
            row["session_id"],
            row["tenant_name"],
            user,
            provider,
            self._mode(provider, row["mode"]),
            row["renews"],
            tuple(row["held"] or ()),
            row["return_url"],
            row["deadline"],
        )

    async def _resolve(self, link: str) -> tuple[TenantId, UUID]:
        if not link.isascii() or not 0 < len(link) <= _LONGEST_LINK:
            raise NotFound
        index_key = await self._vault.mac_key(PLATFORM, INDEX)
        found = await self._database.call(SQL["resolve_link"], tokens.hashed(index_key, "link", link))
        if not found:
            raise NotFound
        return TenantId(found[0]["tenant_id"]), found[0]["session_id"]

    def check_open(self, row: Row, browser_hash: bytes | None) -> None:
        """Hold that the browser of this hash may still decide about a session.

        Raises:
            ConnectSessionOver: it was used in another browser, answered, or its time is over.
        """
        begun_here = (
            row["state"] == "authorizing" and browser_hash is not None and hmac.compare_digest(bytes(row["browser_hash"]), browser_hash)
        )
        now = self._clock.now()
        if row["deadline"] <= now or row["created_at"] + _LONGEST <= now:
            raise ConnectSessionOver("The time of this link is over.")
        if row["state"] != "open" and not begun_here:
            raise ConnectSessionOver("This link was used already.")

    def _provider(self, provider_id: str) -> Provider:
        try:
            provider = self._catalogue.get(provider_id)
        except NotFound:
            raise Invalid("There is no such provider.", (Fault("/provider", "is none of GET /v1/providers"),)) from None
        if not isinstance(provider.auth, OAuth2):
            raise Invalid(
                f"{provider.name} is connected by a key, not by consent.", (Fault("/provider", "is connected by POST /v1/connections"),)
            )
        self._catalogue.client(provider.id)
        return provider

    @staticmethod
    def _mode(provider: Provider, named: str | None) -> Mode:
        mode = provider.default_mode if named is None else Mode(named)
        if mode not in provider.modes:
            raise Invalid(f"{provider.name} has no such mode.", (Fault("/mode", f"is not {' or '.join(provider.modes)}"),))
        return mode

    def _check_return(self, url: str | None) -> None:
        """Refuse to send a browser anywhere but to the host's own origins: an open redirect lends our name to others."""
        if url is None:
            return
        try:
            parts = urlsplit(url)
            origin = f"{parts.scheme}://{parts.netloc}"
        except ValueError:
            origin = ""
        plain = len(url) <= _LONGEST_URL and url.isascii() and url.isprintable() and not set(url) & set(' \\"<>')
        if not plain or "#" in url or origin not in self._return_urls:
            raise Invalid(
                "The return_url is not acceptable.", (Fault("/return_url", "has none of the origins in CUSTOMHOUSE_RETURN_URLS"),)
            )


def origin_of(session_id: UUID) -> Origin:
    """Return who did it, for the ledger: whoever held the link of this session."""
    return Origin("connect_session", ids.show("cns", session_id))


async def _renewable(conn: Executor, tenant: TenantId, connection_id: UUID, provider: Provider, user: User) -> dict[str, Any]:
    row = await conn.fetchrow(SQL["connection"], tenant, connection_id)
    if row is None or row["provider"] != provider.id or row["user_id"] != user.id or row["account_index"] is None:
        raise NotFound("This user has no such connection at this provider.")
    if row["status"] not in _RENEWABLE:
        raise Conflict(f"This connection is {row['status']}: make a new one.")
    return dict(row)
