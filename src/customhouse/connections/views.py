"""What the owner of a connection sees of its grant; tokens are never part of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from customhouse import ids
from customhouse.audit import log, tags
from customhouse.audit.log import Origin
from customhouse.clock import Clock
from customhouse.connections import tokens
from customhouse.connections.confirming import standing
from customhouse.connections.ports import CHANGED, Announce
from customhouse.connections.sql import SQL
from customhouse.connections.tokens import GrantSeal
from customhouse.db import Database
from customhouse.errors import Conflict, KeyDestroyed, NotFound, Unsealable
from customhouse.types import Json, TenantId
from customhouse.vault.vault import Vault

_CHANGEABLE: Final = frozenset({"active", "degraded", "paused"})


@dataclass(frozen=True, slots=True)
class Grant:
    """One connection's grant."""

    account_id: str | None
    account_label: str | None
    requested: tuple[str, ...]
    granted: tuple[str, ...]
    missing: tuple[str, ...]
    token_generation: int
    expires_at: datetime | None
    refreshed_at: datetime | None
    used: tuple[str, ...] = ()
    """The scopes that were used, or may have been: those of a token that was handed out."""
    last_used_at: datetime | None = None


class Grants:
    """Reads grants, and pauses connections that have one."""

    def __init__(self, database: Database, vault: Vault, clock: Clock, announce: Announce) -> None:
        """Take the parts that it stands on."""
        self._database = database
        self._vault = vault
        self._clock = clock
        self._announce = announce

    async def provider_of(self, tenant: TenantId, connection_id: UUID) -> str:
        """Return the provider of a connection, a webhook's too; nothing of it is opened.

        Raises:
            NotFound: no such connection in this tenant.
        """
        async with self._database.transaction(tenant) as conn:
            row = await conn.fetchrow(SQL["connection"], tenant, connection_id)
        if row is None:
            raise NotFound
        return str(row["provider"])

    async def of(self, tenant: TenantId, connections: Iterable[UUID]) -> Mapping[UUID, Grant]:
        """Return the grants of those connections that have one.

        Raises:
            KeyServiceUnavailable: an account cannot be opened now.
        """
        wanted = list(connections)
        if not wanted:
            return {}
        async with self._database.transaction(tenant) as conn:
            rows = await conn.fetch(SQL["shown_grants"], tenant, wanted)
        found: dict[UUID, Grant] = {}
        for row in rows:
            connection_id = row["connection_id"]
            account_id, label = None, None
            try:
                key = await self._vault.connection_key(tenant, connection_id)
                seal = GrantSeal(self._vault.environment, tenant, connection_id, key)
                facts = tokens.unpack(
                    seal.open("connection_grants", "account_sealed", str(connection_id), row["account_sealed"], row["grant_version"])
                )
                account_id, label = str(facts["id"]), str(facts["label"])
            except (KeyDestroyed, Unsealable):
                # Of a connection that has ended, nobody knows any more whose account it was.
                pass
            found[connection_id] = Grant(
                account_id,
                label,
                tuple(row["requested"]),
                tuple(row["granted"]),
                tuple(row["missing"]),
                row["token_generation"] or 0,
                row["access_expires_at"],
                row["refreshed_at"],
                tuple(row["used"] or ()),
                row["last_used_at"],
            )
        return found

    async def pause(self, tenant: TenantId, connection_id: UUID, origin: Origin, *, paused: bool) -> None:
        """Pause a connection, or let it work again.

        Raises:
            NotFound: no such connection with a grant in this tenant.
            Conflict: it has ended, or waits for a person.
        """
        await self._announce.prepare(tenant, CHANGED)
        async with self._database.transaction(tenant) as conn:
            row = await conn.fetchrow(SQL["lock_connection"], tenant, connection_id)
            grant = await conn.fetchrow(SQL["grant"], tenant, connection_id)
            if row is None or grant is None:
                raise NotFound
            if row["status"] not in _CHANGEABLE:
                raise Conflict(f"This connection is {row['status']} and cannot be paused or resumed.")
            if (row["status"] == "paused") == paused:
                return
            status, reason = ("paused", None) if paused else standing(grant)
            await conn.execute(SQL["set_status"], tenant, connection_id, status, reason)
            names: list[Json] = ["paused"]
            detail: dict[str, Json] = {"changed": names, "status": status}
            await log.append(conn, self._clock, tenant, origin, tags.CONNECTION_CHANGED, connection_id=connection_id, detail=detail)
            told = {"connection_id": ids.show("con", connection_id), "provider": row["provider"], **detail}
            await self._announce.announce(conn, tenant, CHANGED, told)
