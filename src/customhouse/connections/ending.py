"""Disconnecting what was connected by consent: unusable at once, the tokens in escrow until the provider has ended the grant."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from customhouse import ids
from customhouse.audit import log, tags
from customhouse.audit.log import Origin
from customhouse.clock import Clock
from customhouse.connections.ports import DISCONNECTED, Announce
from customhouse.connections.revoking import HELD_FOR, Revoker, Settled, Unwanted
from customhouse.connections.sql import SQL
from customhouse.connections.tokens import GrantSeal, Tokens
from customhouse.db import Database, Executor, Row
from customhouse.errors import Conflict, NotFound, Unsealable
from customhouse.logs import get
from customhouse.providers.catalogue import Catalogue
from customhouse.types import Json, TenantId
from customhouse.vault.vault import Vault

_log = get("customhouse.connections")


@dataclass(frozen=True, slots=True)
class Ended:
    """What a disconnect did; `settled` is None while the provider has not ended the grant: then it is tried again until `escrow_until`."""

    connection_id: UUID
    settled: Settled | None
    escrow_until: datetime | None
    audit_entry_id: UUID
    at: datetime


class Ending:
    """Ends connections that have a grant."""

    def __init__(self, database: Database, vault: Vault, clock: Clock, catalogue: Catalogue, revoker: Revoker, announce: Announce) -> None:
        """Take the parts that it stands on."""
        self._database = database
        self._vault = vault
        self._clock = clock
        self._catalogue = catalogue
        self._revoker = revoker
        self._announce = announce

    async def disconnect(self, tenant: TenantId, connection_id: UUID, origin: Origin) -> Ended:
        """End a connection, and its grant at the provider.

        Raises:
            NotFound: no such connection in this tenant.
            Conflict: it has ended already, or waits for its confirmation and ends by itself without.
            KeyServiceUnavailable: not now: its tokens cannot be moved.
        """
        await self._announce.prepare(tenant, DISCONNECTED)
        key = None
        try:
            key = await self._vault.connection_key(tenant, connection_id)
        except Unsealable:
            # Destroyed already, or never made: then there is nothing to revoke with.
            _log.warning("connection_without_key", tenant_id=tenant, connection_id=ids.show("con", connection_id))
        async with self._database.transaction(tenant) as conn:
            row = await conn.fetchrow(SQL["lock_connection"], tenant, connection_id)
            if row is None:
                raise NotFound
            if row["status"] in {"disconnected", "pending"}:
                raise Conflict(f"This connection is {row['status']} and cannot be disconnected.")
            seal = None if key is None else GrantSeal(self._vault.environment, tenant, connection_id, key)
            revocation_id = None if seal is None else await self._escrow(conn, seal, row)
            await conn.execute(SQL["drop_tokens"], tenant, connection_id)
            await conn.execute(SQL["set_status"], tenant, connection_id, "disconnected", "disconnected")
            entry_id = await log.append(
                conn,
                self._clock,
                tenant,
                origin,
                tags.CONNECTION_DISCONNECTED,
                connection_id=connection_id,
                detail={"deliveries_cancelled": 0},
            )
            told: dict[str, Json] = {
                "connection_id": ids.show("con", connection_id),
                "provider": row["provider"],
                "deliveries_cancelled": 0,
            }
            await self._announce.announce(conn, tenant, DISCONNECTED, told)
        now = self._clock.now()
        if revocation_id is None:
            await self._vault.destroy_connection_key(tenant, connection_id)
            return Ended(connection_id, Settled("unsupported", verified=False, attempts=0), None, entry_id, now)
        settled = await self._revoker.end(tenant, revocation_id)
        return Ended(connection_id, settled, None if settled is not None else now + HELD_FOR, entry_id, now)

    async def _escrow(self, conn: Executor, seal: GrantSeal, row: Row) -> UUID | None:
        held = await conn.fetchrow(SQL["held_tokens"], seal.tenant_id, seal.connection_id)
        grant = await conn.fetchrow(SQL["connection"], seal.tenant_id, seal.connection_id)
        if held is None or grant is None:
            return None
        generation, name, refresh = held["token_generation"], str(seal.connection_id), held["refresh_sealed"]
        try:
            tokens = Tokens(
                seal.open("integration_tokens", "access_sealed", name, held["access_sealed"], generation),
                None if refresh is None else seal.open("integration_tokens", "refresh_sealed", name, refresh, generation),
            )
            provider = self._catalogue.get(row["provider"])
        except (Unsealable, NotFound):
            return None
        index = None if grant["account_index"] is None else bytes(grant["account_index"])
        unwanted = Unwanted(provider, seal, tokens, "disconnected", index, held["api_origin"], ends_key=True)
        return await self._revoker.take(conn, unwanted)
