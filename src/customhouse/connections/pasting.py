"""Connecting by a key that the customer made and pasted: judged, probed, kept sealed; and replaced by another one of the same account."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from customhouse import ids
from customhouse.audit import log, tags
from customhouse.audit.log import Origin
from customhouse.clock import Clock
from customhouse.connections import pasted, probing, tokens
from customhouse.connections.pasted import KEYS, KeyGrant
from customhouse.connections.ports import CHANGED, CREATED, DEGRADED, Announce
from customhouse.connections.probing import Findings, Prober, Verdict
from customhouse.connections.sql import SQL
from customhouse.connections.tokens import INDEX, GrantSeal
from customhouse.connections.users import User
from customhouse.db import Database, Executor, Row
from customhouse.errors import (
    Conflict,
    CredentialRefused,
    CustomhouseError,
    DatabaseUnavailable,
    Fault,
    Invalid,
    NotFound,
    ProviderUnavailable,
)
from customhouse.providers.catalogue import Catalogue
from customhouse.providers.manifest import Provider, RestrictedKey
from customhouse.tenants.idempotency import Once
from customhouse.types import PLATFORM, Json, Secret, TenantId
from customhouse.vault.vault import Vault

_REPLACEABLE: Final = frozenset({"active", "degraded", "paused", "reauthorization_required", "disabled"})
_TOKENS: Final = "integration_tokens"


@dataclass(frozen=True, slots=True)
class Pasting:
    """What the host pastes for a user.

    Attributes:
        provider: whose key it is.
        api_key: the key.
        webhook_secret: what the customer's endpoint at the provider signs with.
        user: whose connection it becomes; None: the tenant's own.
    """

    provider: str
    api_key: Secret
    webhook_secret: Secret | None = None
    user: User | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """A key that was kept; `inbound_key_id` names the secret of the webhook endpoint."""

    connection_id: UUID
    inbound_key_id: str | None
    instructions: str = ""
    """What the customer has to do now."""


@dataclass(frozen=True, slots=True)
class _Proved:
    """A key whose probes were all answered, and showed nothing that it must not."""

    provider: Provider
    auth: RestrictedKey
    findings: Findings
    account_index: bytes
    account: bytes
    key_index: bytes
    live: bool


class PastedKeys:
    """Takes pasted keys, and replaces them."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        clock: Clock,
        catalogue: Catalogue,
        prober: Prober,
        announce: Announce,
        *,
        live: bool,
        test: bool,
    ) -> None:
        """Take the parts; `live` and `test`: whether keys for real money and for test data are taken here."""
        self._database = database
        self._vault = vault
        self._clock = clock
        self._catalogue = catalogue
        self._prober = prober
        self._announce = announce
        self._live = live
        self._test = test

    async def paste(self, tenant: TenantId, wish: Pasting, origin: Origin, once: Once) -> Kept:
        """Probe a key, and make a connection of it; without proof that it may just what is needed, nothing is stored.

        Raises:
            Invalid: the provider is not connected by a key.
            CredentialRefused: the key may not be kept, and why.
            Conflict: this tenant holds the key already.
            NotFound: no such tenant.
            ProviderUnavailable: the provider's answers prove nothing now.
            IdempotencyConflict: the idempotency key was used with another body.
            KeyServiceUnavailable: nothing can be sealed now.
        """
        provider, auth = self._provider(wish.provider)
        self._check_shape(provider, auth, wish.api_key, wish.webhook_secret)
        async with self._database.transaction(tenant) as conn:
            if await conn.fetchval(SQL["host"], tenant) is None:
                raise NotFound
        proved = await self._prove(tenant, provider, auth, wish.api_key, origin)
        connection_id = ids.new()
        mac_key = await self._vault.mac_key(tenant, tokens.MAC_PURPOSE)
        await self._announce.prepare(tenant, CREATED)
        seal = await self._seal(tenant, connection_id, create=True)
        try:
            earlier, key_id = None, None
            async with self._database.transaction(tenant) as conn:
                earlier = await once.claim(conn, tenant, ids.show("con", connection_id))
                if earlier is None:
                    mode = provider.default_mode
                    grant = self._grant(proved, 1, tokens.pack({} if wish.user is None else wish.user.facts()))
                    await self._refuse_held(conn, tenant, proved.key_index, None)
                    user_id = None if wish.user is None else wish.user.id
                    mac = grant.mac(mac_key, connection_id)
                    await conn.execute(KEYS["insert_key_connection"], tenant, connection_id, provider.id, user_id, mode.value, mac)
                    await grant.put(conn, seal)
                    await self._put_key(conn, seal, proved, wish.api_key, 1)
                    key_id = await self._put_inbound(conn, seal, wish.webhook_secret)
                    await self._record_made(conn, tenant, connection_id, proved, origin)
        except DatabaseUnavailable:
            # The reply to the commit may have been lost: a key is destroyed only where it is certain that nothing is sealed under it.
            if not await self._came_to_be(tenant, connection_id):
                raise
            return await self._again(tenant, connection_id)
        except CustomhouseError:
            await self._vault.destroy_connection_key(tenant, connection_id)
            raise
        if earlier is None:
            return Kept(connection_id, key_id)
        # Nothing was sealed under the new one's key, and nothing will be.
        await self._vault.destroy_connection_key(tenant, connection_id)
        return await self._again(tenant, ids.parse("con", earlier))

    async def replace(self, tenant: TenantId, connection_id: UUID, api_key: Secret, webhook_secret: Secret | None, origin: Origin) -> Kept:
        """Put another key of the same account in the place of the one that is held; its generation grows, and the old one is destroyed.

        Raises:
            NotFound: no such connection in this tenant.
            Conflict: it is not connected by a key, has ended, was changed meanwhile, or this tenant holds the key elsewhere.
            CredentialRefused, ProviderUnavailable, KeyServiceUnavailable: as `paste`; the key that is held stays.
        """
        before = await self._held(tenant, connection_id)
        provider, auth = self._provider(before["provider"])
        self._check_shape(provider, auth, api_key, webhook_secret)
        held_seal = await self._seal(tenant, connection_id)
        user = await pasted.opened(self._vault, held_seal, before, "connection_grants", "user_sealed", before["grant_version"])
        proved = await self._prove(tenant, provider, auth, api_key, origin, connection_id)
        mac_key = await self._vault.mac_key(tenant, tokens.MAC_PURPOSE)
        seal = await self._seal(tenant, connection_id)
        for event_type in (CHANGED, DEGRADED):
            await self._announce.prepare(tenant, event_type)
        async with self._database.transaction(tenant) as conn:
            await conn.fetchrow(SQL["lock_connection"], tenant, connection_id)
            held = await conn.fetchrow(KEYS["key_held"], tenant, connection_id)
            if held is None or held["status"] not in _REPLACEABLE or _moved(before, held):
                raise Conflict("This connection was changed meanwhile: look at it, and replace its key again if that is still needed.")
            _refuse_other(held, proved)
            await self._refuse_held(conn, tenant, proved.key_index, connection_id)
            version, generation = held["grant_version"], held["token_generation"] + 1
            changed = list(held["granted"]) != list(proved.findings.granted)
            grant = self._grant(proved, version + 1 if changed else version, user.reveal())
            status = "paused" if held["status"] == "paused" else "active"
            mac = grant.mac(mac_key, connection_id)
            await conn.execute(SQL["activate"], tenant, connection_id, status, None, grant.mode.value, grant.version, mac)
            await grant.put(conn, seal)
            await self._put_key(conn, seal, proved, api_key, generation)
            if webhook_secret is not None:
                await conn.execute(KEYS["destroy_inbound_secrets"], tenant, connection_id)
                key_id = await self._put_inbound(conn, seal, webhook_secret)
            else:
                key_id = await conn.fetchval(KEYS["inbound_key"], tenant, connection_id)
            await self._record_replaced(conn, tenant, connection_id, proved, status, generation, origin)
        return Kept(connection_id, key_id, f"Delete the key before it at {provider.name}: here it is destroyed, there it goes on working.")

    # Steps --------------------------------------------------------------------------------------------------------------

    def _provider(self, provider_id: str) -> tuple[Provider, RestrictedKey]:
        provider = self._catalogue.get(provider_id)
        if not isinstance(provider.auth, RestrictedKey):
            raise Invalid(
                f"{provider.name} is connected by consent, not by a key.",
                (Fault("/provider", "is connected by POST /v1/connect-sessions"),),
            )
        return provider, provider.auth

    def _check_shape(self, provider: Provider, auth: RestrictedKey, api_key: Secret, webhook_secret: Secret | None) -> None:
        probing.check_shape(provider, auth, _text(api_key), live=self._live, test=self._test)
        if webhook_secret is not None:
            probing.check_webhook_secret(provider, auth, _text(webhook_secret))

    async def _held(self, tenant: TenantId, connection_id: UUID) -> Row:
        async with self._database.transaction(tenant) as conn:
            known = await conn.fetchrow(SQL["connection"], tenant, connection_id)
            held = await conn.fetchrow(KEYS["key_held"], tenant, connection_id)
        if known is None:
            raise NotFound
        if held is None:
            if known["status"] in {"disconnected", "revoked"}:
                raise Conflict(f"This connection is {known['status']}: make a new one.")
            raise Conflict("This connection is not made by a key: only a pasted key can be replaced.")
        return held

    async def _prove(
        self, tenant: TenantId, provider: Provider, auth: RestrictedKey, api_key: Secret, origin: Origin, about: UUID | None = None
    ) -> _Proved:
        """Probe a key; no database connection is held meanwhile.

        Raises:
            CredentialRefused: it may not be kept; the ledger says why.
            ProviderUnavailable: nothing is proved.
        """
        found = await self._prober.probe(provider, auth, api_key)
        try:
            probing.refuse_unfit(provider, auth, found)
        except CredentialRefused:
            await self._record_refused(tenant, provider, found, origin, about)
            raise
        if found.verdict is not Verdict.FIT or found.account is None:
            raise ProviderUnavailable(f"{provider.name} did not answer all questions about this key ({found.why}); nothing was stored.")
        index_key = await self._vault.mac_key(PLATFORM, INDEX)
        own_key = await self._vault.mac_key(tenant, INDEX)
        return _Proved(
            provider,
            auth,
            found,
            # No registration of ours is part of it.
            tokens.account_index(index_key, provider.id, "", found.account.id),
            pasted.account_facts(found.account),
            tokens.hashed(own_key, f"pasted:{provider.id}", _text(api_key)),
            live=_text(api_key).startswith(auth.live_prefix),
        )

    async def _seal(self, tenant: TenantId, connection_id: UUID, *, create: bool = False) -> GrantSeal:
        key = await self._vault.connection_key(tenant, connection_id, create=create)
        return GrantSeal(self._vault.environment, tenant, connection_id, key)

    @staticmethod
    def _grant(proved: _Proved, version: int, user: bytes) -> KeyGrant:
        mode = proved.provider.default_mode
        return KeyGrant(proved.provider, mode, version, proved.findings, proved.account_index, proved.account, user)

    @staticmethod
    async def _refuse_held(conn: Executor, tenant: TenantId, key_index: bytes, own: UUID | None) -> None:
        """Refuse a key that another connection of the tenant holds: to end one would be to end both."""
        holder = await conn.fetchval(KEYS["key_holder"], tenant, key_index)
        if holder is not None and holder != own:
            raise Conflict(f"This key is held by {ids.show('con', holder)} already: make one key for each connection.")

    async def _put_key(self, conn: Executor, seal: GrantSeal, proved: _Proved, api_key: Secret, generation: int) -> None:
        tenant, connection_id, now = seal.tenant_id, seal.connection_id, self._clock.now()
        sealed = seal.seal(_TOKENS, "access_sealed", str(connection_id), api_key.reveal(), generation)
        await conn.execute(SQL["put_tokens"], tenant, connection_id, generation, sealed, None, None, None, None, now)
        again = pasted.next_check(proved.auth, now)
        await conn.execute(KEYS["put_key"], tenant, connection_id, proved.key_index, proved.live, now, again)
        await conn.execute(KEYS["note_answered"], tenant, connection_id, now)

    async def _put_inbound(self, conn: Executor, seal: GrantSeal, secret: Secret | None) -> str | None:
        if secret is None:
            return None
        key_id = ids.show("whk", ids.new())
        sealed = seal.seal("connection_secrets", "sealed", key_id, secret.reveal())
        await conn.execute(KEYS["insert_inbound_secret"], seal.tenant_id, seal.connection_id, key_id, sealed, self._clock.now())
        return key_id

    async def _came_to_be(self, tenant: TenantId, connection_id: UUID) -> bool:
        async with self._database.transaction(tenant) as conn:
            return await conn.fetchrow(SQL["connection"], tenant, connection_id) is not None

    async def _again(self, tenant: TenantId, connection_id: UUID) -> Kept:
        async with self._database.transaction(tenant) as conn:
            return Kept(connection_id, await conn.fetchval(KEYS["inbound_key"], tenant, connection_id))

    # The ledger, and who is told ----------------------------------------------------------------------------------------

    async def _record_refused(self, tenant: TenantId, provider: Provider, found: Findings, origin: Origin, about: UUID | None) -> None:
        wider: list[Json] = [*found.wider]
        missing: list[Json] = [*found.missing]
        detail: dict[str, Json] = {"provider": provider.id, "reason": str(found.verdict), "wider": wider, "missing": missing}
        async with self._database.transaction(tenant) as conn:
            await log.append(conn, self._clock, tenant, origin, tags.KEY_REFUSED, connection_id=about, detail=detail)

    async def _record_made(self, conn: Executor, tenant: TenantId, connection_id: UUID, proved: _Proved, origin: Origin) -> None:
        granted: list[Json] = [*proved.findings.granted]
        detail: dict[str, Json] = {"provider": proved.provider.id, "mode": proved.provider.default_mode.value, "granted": granted}
        detail |= {"missing": [], "status": "active"}
        await log.append(conn, self._clock, tenant, origin, tags.CONNECTION_CREATED, connection_id=connection_id, detail=detail)
        about: dict[str, Json] = {"connection_id": ids.show("con", connection_id), "provider": proved.provider.id}
        await self._announce.announce(conn, tenant, CREATED, about)

    async def _record_replaced(
        self, conn: Executor, tenant: TenantId, connection_id: UUID, proved: _Proved, status: str, generation: int, origin: Origin
    ) -> None:
        granted: list[Json] = [*proved.findings.granted]
        detail: dict[str, Json] = {"provider": proved.provider.id, "granted": granted, "missing": [], "status": status}
        detail["token_generation"] = generation
        await log.append(conn, self._clock, tenant, origin, tags.KEY_REPLACED, connection_id=connection_id, detail=detail)
        changed: list[Json] = ["key"]
        told: dict[str, Json] = {"connection_id": ids.show("con", connection_id), "provider": proved.provider.id, "changed": changed}
        await self._announce.announce(conn, tenant, CHANGED, {**told, "status": status})


def _moved(before: Row, held: Row) -> bool:
    """Tell whether the key or the grant is another one than before the probes."""
    return any(before[name] != held[name] for name in ("token_generation", "grant_version"))


def _refuse_other(held: Row, proved: _Proved) -> None:
    """Refuse a key that is not of the same account, or not of the same kind of money: that would be another connection.

    Raises:
        Conflict: it is not.
    """
    if not hmac.compare_digest(bytes(held["account_index"]), proved.account_index):
        raise Conflict("This key belongs to another account: make a connection of its own for it.")
    if held["live"] != proved.live:
        kind = "test data" if held["live"] else "real money"
        raise Conflict(f"This key is for {kind}, and the one that is held is not: make a connection of its own for it.")


def _text(secret: Secret) -> str:
    return secret.reveal().decode("utf-8", "surrogatepass")
