"""What providers tell of withdrawn permissions: a hint, believed when a token of the grant is seen to be refused (rulings §5)."""

from __future__ import annotations

import base64
import binascii
import hmac
from datetime import timedelta
from typing import Final, Protocol
from uuid import UUID

from customhouse.canonical import parse_object
from customhouse.clock import Clock
from customhouse.connections import tokens
from customhouse.connections.ending import Ending
from customhouse.connections.speaking import Speaker
from customhouse.connections.sql import SQL
from customhouse.connections.tokens import INDEX, GrantSeal, Tokens
from customhouse.crypto.envelope import key_id_of
from customhouse.db import Database
from customhouse.errors import (
    Conflict,
    CustomhouseError,
    Invalid,
    NotFound,
    Overloaded,
    ProviderNotConfigured,
    ReauthorizationRequired,
    Unauthenticated,
    Unsealable,
)
from customhouse.logs import get
from customhouse.providers.calls import Client
from customhouse.providers.catalogue import Catalogue
from customhouse.providers.manifest import OAuth2, Provider
from customhouse.providers.members import text_at
from customhouse.types import PLATFORM, TenantId
from customhouse.vault.vault import Vault

_log: Final = get("customhouse.connections")
_LEEWAY: Final = timedelta(seconds=30)
_AGAIN: Final = 60


class Freshener(Protocol):
    """Who renews access tokens, and tells what came of it."""

    async def freshen(self, tenant: TenantId, connection_id: UUID, *, generation: int) -> CustomhouseError | None:
        """Renew, and return why there is no newer token; None: there is one."""
        ...


class Withdrawals:
    """Takes what providers tell, and ends the connections of which it is true."""

    def __init__(
        self, database: Database, vault: Vault, clock: Clock, catalogue: Catalogue, speaker: Speaker, freshener: Freshener, ending: Ending
    ) -> None:
        """Take the parts that it stands on."""
        self._database = database
        self._vault = vault
        self._clock = clock
        self._catalogue = catalogue
        self._speaker = speaker
        self._freshener = freshener
        self._ending = ending

    async def uninstalled(self, provider_id: str, authorization: str | None, body: bytes) -> int:
        """Take the call that says that our application was removed from an account; return how many connections ended.

        Raises:
            Unauthenticated: it does not show our client id and secret, or this provider makes no such calls.
            Invalid, MalformedJson: it does not name an account.
            Overloaded: it could not be seen whether it is true; the same call may come again.
            KeyServiceUnavailable, DatabaseUnavailable: not now.
        """
        provider, client = self._caller(provider_id, authorization)
        said = parse_object(body)
        parts = [text_at(said, pointer) for pointer in provider.oauth2.uninstalled]
        if text_at(said, "/client_id") not in {None, client.id} or any(part is None or ":" in part for part in parts):
            raise Invalid("This names no account of ours.")
        account = ":".join(part for part in parts if part is not None)
        index = tokens.account_index(await self._vault.mac_key(PLATFORM, INDEX), provider.id, client.id, account)
        ended, unknown = 0, 0
        for row in await self._database.call(SQL["connections_of_account"], index):
            tenant, connection_id = TenantId(row["tenant_id"]), row["connection_id"]
            over = await self._is_over(provider, tenant, connection_id)
            if over is None:
                unknown += 1
            elif over:
                try:
                    await self._ending.deauthorized(tenant, connection_id)
                    ended += 1
                except Conflict:
                    # A consent of this very moment waits: whoever withdrew did not mean that one.
                    _log.warning("withdrawal_too_late", tenant_id=tenant)
        if unknown:
            raise Overloaded("Whether that is so could not be seen just now; repeat the call.", retry_after=_AGAIN)
        return ended

    def _caller(self, provider_id: str, authorization: str | None) -> tuple[Provider, Client]:
        try:
            provider = self._catalogue.get(provider_id)
            client = self._speaker.client(provider)
        except (NotFound, ProviderNotConfigured):
            raise Unauthenticated(_WHO) from None
        if not isinstance(provider.auth, OAuth2) or not provider.auth.uninstalled or not _shows(authorization, client):
            raise Unauthenticated(_WHO)
        return provider, client

    async def _is_over(self, provider: Provider, tenant: TenantId, connection_id: UUID) -> bool | None:
        """Tell whether a grant is dead; None: that cannot be said now."""
        async with self._database.transaction(tenant) as conn:
            row = await conn.fetchrow(SQL["held_access"], tenant, connection_id)
        if row is None:
            return True
        ends = row["access_expires_at"]
        if ends is not None and ends <= self._clock.now() + _LEEWAY:
            # What has run out is refused for its age: whether it is renewed says more.
            error = await self._freshener.freshen(tenant, connection_id, generation=row["token_generation"])
            if error is None:
                return False
            return True if isinstance(error, ReauthorizationRequired) else None
        try:
            key = await self._vault.key(tenant, key_id_of(row["access_sealed"]))
            seal = GrantSeal(self._vault.environment, tenant, connection_id, key)
            access = seal.open("integration_tokens", "access_sealed", str(connection_id), row["access_sealed"], row["token_generation"])
        except Unsealable:
            return None
        lives = await self._speaker.lives(provider, Tokens(access, None), row["api_origin"])
        return None if lives is None else not lives


_WHO: Final = "Show the client id and secret of the application, as the provider does."


def _shows(authorization: str | None, client: Client) -> bool:
    """Tell whether a header shows our own client id and secret (RFC 7617); compared in constant time."""
    scheme, _, encoded = (authorization or "").partition(" ")
    try:
        shown = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        shown = b""
    same = hmac.compare_digest(shown, client.id.encode() + b":" + client.secret.reveal())
    return same and scheme.lower() == "basic"
