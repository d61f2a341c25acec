"""API keys: 256 random bits, known here by a keyed hash only; each belongs to one tenant, or to the operator."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from customhouse import ids
from customhouse.audit import log, tags
from customhouse.audit.log import SYSTEM, Origin
from customhouse.clock import Clock, rfc3339
from customhouse.crypto.envelope import RecordKey
from customhouse.crypto.mac import mac
from customhouse.db import Database, Executor, Row
from customhouse.errors import Fault, Invalid, KeyServiceUnavailable, NotFound, ScopeMissing, Unauthenticated
from customhouse.tenants.idempotency import Once
from customhouse.tenants.labels import label_faults
from customhouse.tenants.sql import SQL
from customhouse.tenants.store import NAME_LENGTH
from customhouse.types import PLATFORM, Secret, TenantId
from customhouse.vault.vault import Vault

PREFIX: Final = "ck_"
_PURPOSE: Final = "api_keys"
_CACHE_SECONDS: Final = 10.0
_UNHEARD_SECONDS: Final = 1.0
"""How long a recognised key is remembered while changes are not heard (the LISTEN connection is down)."""
_CACHE_SIZE: Final = 10_000
_LONGEST: Final = 256
_PRESET: Final = "preset"


class Scope(StrEnum):
    """What a key may do; a key carries each one by name, none implies another."""

    EVENTS_WRITE = "events:write"
    CONNECTIONS_READ = "connections:read"
    CONNECTIONS_WRITE = "connections:write"
    TOKENS_READ = "tokens:read"
    ACTIONS_WRITE = "actions:write"
    ACTIONS_APPROVE = "actions:approve"
    AUDIT_READ = "audit:read"
    PAYLOADS_READ = "payloads:read"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its token."""

    tenant_id: TenantId
    key_id: UUID
    name: str
    scopes: frozenset[Scope]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    @property
    def platform(self) -> bool:
        """Whether the key is the operator's and may name any tenant."""
        return self.tenant_id == PLATFORM

    def require(self, scope: Scope) -> None:
        """Refuse a key without the scope.

        Raises:
            ScopeMissing: the key does not carry it.
        """
        if scope not in self.scopes:
            raise ScopeMissing(f"This call needs the scope {scope.value}.")

    def tenant_for(self, named: str | None) -> TenantId:
        """Return the tenant that a call is about: the key's own, or the one that a platform key names.

        Raises:
            NotFound: a tenant's key names another tenant.
            Invalid: a platform key names none (a missing tenant is an error, never everybody: R22).
        """
        if not self.platform:
            if named is not None and named != self.tenant_id:
                raise NotFound
            return self.tenant_id
        if named is None:
            raise Invalid("A platform key has to name the tenant.", (Fault("/tenant_id", "required with a platform key"),))
        return TenantId(named)


@dataclass(frozen=True, slots=True)
class _Token:
    """A token and what is stored of it."""

    secret: Secret
    token_hash: bytes


class ApiKeys:
    """Makes, revokes and recognises keys. Recognised ones are remembered for seconds, and forgotten when their tenant changes."""

    def __init__(self, database: Database, vault: Vault, clock: Clock) -> None:
        """Take the parts that it stands on."""
        self._database = database
        self._vault = vault
        self._clock = clock
        self._known: dict[bytes, tuple[float, ApiKey]] = {}
        self._generation = 0
        self._hearing = False
        self._hash_key: RecordKey | None = None

    async def authenticate(self, token: str) -> ApiKey:
        """Return the key of a token.

        Raises:
            Unauthenticated: unknown, expired or revoked, all alike.
            KeyServiceUnavailable: it is away, and this process has never had the key of the hashes.
        """
        if not token.startswith(PREFIX) or len(token) > _LONGEST or not token.isascii():
            raise Unauthenticated
        # In memory a plain digest finds the key again; the keyed hash is for what is stored.
        digest = hashlib.sha256(token.encode()).digest()
        held = self._known.get(digest)
        now = self._clock.monotonic()
        if held is None or held[0] < now:
            generation = self._generation
            key = await self._find(await self._hash(token))
            if len(self._known) >= _CACHE_SIZE:
                self._known.clear()
            # What was read before a change was told is good for this call alone.
            if generation == self._generation:
                self._known[digest] = (now + (_CACHE_SECONDS if self._hearing else _UNHEARD_SECONDS), key)
        else:
            key = held[1]
        if not self._is_live(key):
            raise Unauthenticated
        return key

    def hearing(self, *, hears: bool) -> None:
        """Take note whether changes are heard; what was remembered before is not trusted after a gap."""
        self._hearing = hears
        self.forget()

    def forget(self, tenant: TenantId | None = None) -> None:
        """Drop what is remembered, of one tenant or of all."""
        self._generation += 1
        if tenant is None:
            self._known.clear()
        else:
            self._known = {token_hash: held for token_hash, held in self._known.items() if held[1].tenant_id != tenant}

    async def create(
        self,
        tenant: TenantId,
        name: str,
        scopes: Iterable[str],
        origin: Origin,
        *,
        by: ApiKey,
        expires_at: datetime | None = None,
        once: Once,
    ) -> tuple[ApiKey, Secret | None]:
        """Make a key; its token is returned this once (None when an idempotent call is repeated).

        Raises:
            Invalid: no scope, an unknown scope, a name that is not acceptable, or an end in the past.
            ScopeMissing: the maker does not carry a scope that it would give.
            NotFound: no such tenant.
        """
        wanted = _scopes_of(scopes)
        if not wanted <= by.scopes:
            raise ScopeMissing("A key cannot give scopes that it does not carry itself.")
        if faults := label_faults(name, "/name", shortest=1, longest=NAME_LENGTH):
            raise Invalid("The name is not acceptable.", faults)
        if expires_at is not None and expires_at <= self._clock.now():
            raise Invalid("The end is not acceptable.", (Fault("/expires_at", "has to lie in the future"),))
        token = await self._minted(new_token())
        async with self._database.transaction(tenant) as conn:
            if await conn.fetchrow(SQL["get_tenant"], tenant) is None:
                raise NotFound
            key_id = ids.new()
            earlier = await once.claim(conn, tenant, ids.show("key", key_id))
            if earlier is not None:
                return await self._get(conn, tenant, ids.parse("key", earlier)), None
            return await self._insert(conn, tenant, key_id, name, wanted, origin, token, expires_at), token.secret

    async def get(self, tenant: TenantId, key_id: UUID) -> ApiKey:
        """Return a key.

        Raises:
            NotFound: no such key in this tenant.
        """
        async with self._database.transaction(tenant) as conn:
            return await self._get(conn, tenant, key_id)

    async def list(self, tenant: TenantId, before: UUID | None, limit: int) -> list[ApiKey]:
        """Return keys, the newest first, revoked ones included."""
        async with self._database.transaction(tenant) as conn:
            rows = await conn.fetch(SQL["list_api_keys"], tenant, before, limit)
        return [_key_of(tenant, row) for row in rows]

    async def revoke(self, tenant: TenantId, key_id: UUID, origin: Origin) -> None:
        """End a key at once, in every process. Ending it twice is the same as once.

        Raises:
            NotFound: no such key in this tenant.
        """
        async with self._database.transaction(tenant) as conn:
            await self._get(conn, tenant, key_id)
            if await conn.fetchval(SQL["revoke_api_key"], tenant, key_id) is not None:
                await log.append(conn, self._clock, tenant, origin, tags.API_KEY_REVOKED, subject=ids.show("key", key_id))
        self.forget(tenant)

    async def first_platform_key(self, preset: Secret | None) -> Secret | None:
        """See to it that the operator can get in: take the preset key, or make one where there is none.

        Returns:
            The token of a key that was just made, to be shown once; None otherwise.
        """
        token = await self._minted(preset or new_token())
        async with self._database.transaction(PLATFORM) as conn:
            await conn.fetchval(SQL["lock_tenant"], PLATFORM)
            if preset is not None:
                there = False
                # A key that was made in another way, the first one for example, may be named as the preset: it is there already.
                for row in await conn.fetch(SQL["live_preset_keys"], PLATFORM, _PRESET, token.token_hash):
                    if row["token_hash"] == token.token_hash:
                        there = True
                    else:
                        await conn.fetchval(SQL["revoke_api_key"], PLATFORM, row["key_id"])
                        await log.append(conn, self._clock, PLATFORM, SYSTEM, tags.API_KEY_REVOKED, subject=ids.show("key", row["key_id"]))
                if not there:
                    await self._insert(conn, PLATFORM, ids.new(), _PRESET, frozenset(Scope), SYSTEM, token, None)
                return None
            if await conn.fetchval(SQL["count_live_api_keys"], PLATFORM):
                return None
            await self._insert(conn, PLATFORM, ids.new(), "first", frozenset(Scope), SYSTEM, token, None)
            return token.secret

    async def _insert(
        self,
        conn: Executor,
        tenant: TenantId,
        key_id: UUID,
        name: str,
        scopes: frozenset[Scope],
        origin: Origin,
        token: _Token,
        expires_at: datetime | None,
    ) -> ApiKey:
        listed = sorted(scopes)
        created_at = await conn.fetchval(SQL["insert_api_key"], tenant, key_id, name, listed, token.token_hash, expires_at)
        await log.append(
            conn,
            self._clock,
            tenant,
            origin,
            tags.API_KEY_CREATED,
            subject=ids.show("key", key_id),
            detail={"scopes": [scope.value for scope in listed], "expires_at": rfc3339(expires_at) if expires_at else None},
        )
        return ApiKey(tenant, key_id, name, scopes, created_at, expires_at)

    async def _get(self, conn: Executor, tenant: TenantId, key_id: UUID) -> ApiKey:
        row = await conn.fetchrow(SQL["get_api_key"], tenant, key_id)
        if row is None:
            raise NotFound
        return _key_of(tenant, row)

    async def _find(self, token_hash: bytes) -> ApiKey:
        # Nothing but ids may cross tenants: the key itself is read inside its tenant. A preset token can have been set before,
        # and ended since: one hash then has several rows, of which one at most is live.
        found = [
            key
            for row in await self._database.call(SQL["resolve_api_key"], token_hash)
            if (key := await self._matching(TenantId(row["tenant_id"]), row["key_id"], token_hash)) is not None and self._is_live(key)
        ]
        if len(found) != 1:
            raise Unauthenticated
        return found[0]

    async def _matching(self, tenant: TenantId, key_id: UUID, token_hash: bytes) -> ApiKey | None:
        async with self._database.transaction(tenant) as conn:
            row = await conn.fetchrow(SQL["get_api_key"], tenant, key_id)
        return None if row is None or not secrets.compare_digest(row["token_hash"], token_hash) else _key_of(tenant, row)

    def _is_live(self, key: ApiKey) -> bool:
        return key.revoked_at is None and (key.expires_at is None or key.expires_at > self._clock.now())

    async def _minted(self, secret: Secret) -> _Token:
        # Before any transaction: a cold key must not hold a database connection while it waits for another.
        return _Token(secret, await self._hash(secret.reveal().decode()))

    async def _hash(self, token: str) -> bytes:
        # A fast keyed hash is enough for 256 random bits (R29).
        try:
            self._hash_key = await self._vault.mac_key(PLATFORM, _PURPOSE)
        except KeyServiceUnavailable:
            # The one key that outlives its time here: it opens nothing, and without it nobody could disconnect anything while the key
            # service is away (rulings §6).
            if self._hash_key is None:
                raise
        return mac(self._hash_key, _PURPOSE, token.encode())


def new_token() -> Secret:
    """Return a fresh token of 256 random bits."""
    return Secret(f"{PREFIX}{secrets.token_urlsafe(32)}".encode())


def _scopes_of(names: Iterable[str]) -> frozenset[Scope]:
    listed = list(names)
    known = {scope.value for scope in Scope}
    faults = tuple(Fault(f"/scopes/{place}", "is not a scope") for place, name in enumerate(listed) if name not in known)
    if faults or not listed:
        raise Invalid("The scopes are not acceptable.", faults or (Fault("/scopes", "at least one"),))
    return frozenset(Scope(name) for name in listed)


def _key_of(tenant: TenantId, row: Row) -> ApiKey:
    return ApiKey(
        tenant,
        row["key_id"],
        row["name"],
        frozenset(Scope(name) for name in row["scopes"]),
        row["created_at"],
        row["expires_at"],
        row["revoked_at"],
    )
