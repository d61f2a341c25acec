"""Webhook connections: where a tenant's events go, how they are signed, which ones are wanted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from customhouse import ids
from customhouse.audit import log, tags
from customhouse.audit.log import Origin
from customhouse.clock import Clock
from customhouse.crypto.credentials import Credential
from customhouse.crypto.envelope import RecordKey, seal
from customhouse.crypto.signatures import Algorithm, new_secret, shown
from customhouse.db import Database, Executor
from customhouse.egress.clients import check_identity
from customhouse.egress.identities import identity_of
from customhouse.egress.targets import Target
from customhouse.errors import Conflict, NotFound, Unsealable
from customhouse.outbound.columns import certificate_columns, certificate_detail, chain_of, changed, columns_of
from customhouse.outbound.operational import Operational
from customhouse.outbound.roster import SQL
from customhouse.outbound.rotation import Plan, Rotated, Rotations
from customhouse.outbound.sealed import MAC_PURPOSE, Sealed, secret_place
from customhouse.outbound.views import Connection, Views
from customhouse.outbound.wishes import Change, Rules, Wish, checked
from customhouse.tenants.idempotency import Once
from customhouse.types import Json, Secret, TenantId
from customhouse.vault.vault import Vault

__all__ = ["PROVIDER", "Change", "Connection", "Endpoints", "Made", "Receipt", "Rules", "Wish"]

PROVIDER: Final = "webhook"
_CREATED: Final = "customhouse.connection.created"
_CHANGED: Final = "customhouse.connection.changed"
_DISCONNECTED: Final = "customhouse.connection.disconnected"
_CHANGEABLE: Final = frozenset({"active", "degraded", "paused", "disabled"})


@dataclass(frozen=True, slots=True)
class Made:
    """A connection that was just created or changed; `secret` is shown this once, None where no key was made by this very call."""

    connection: Connection
    key_id: str
    secret: str | None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a disconnect did."""

    connection_id: UUID
    deliveries_cancelled: int
    audit_entry_id: UUID
    at: datetime


class OnEnd(Protocol):
    """Who keeps the receipts of disconnects."""

    async def __call__(self, conn: Executor, tenant: TenantId, connection_id: UUID, deliveries_cancelled: int, entry_id: UUID) -> None:
        """Write one, in the open transaction that ends the connection."""
        ...


class Endpoints:
    """Creates, changes, shows and ends webhook connections."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        clock: Clock,
        operational: Operational,
        rotations: Rotations,
        rules: Rules,
        on_end: OnEnd,
        *,
        drop_payloads: bool,
    ) -> None:
        """Take the parts.

        `on_end` keeps the receipts; `drop_payloads` deletes a payload in the transaction that ends its last delivery (retention 0).
        """
        self._database = database
        self._vault = vault
        self._clock = clock
        self._operational = operational
        self._rotations = rotations
        self._rules = rules
        self._on_end = on_end
        self._drop_payloads = drop_payloads
        self._views = Views(database, vault, clock)
        self.get = self._views.get
        self.list = self._views.list

    async def create(self, tenant: TenantId, wish: Wish, origin: Origin, once: Once) -> Made:
        """Create a connection with its own key and signing secret.

        Raises:
            Invalid: the URL, a pattern, the profile or the algorithm is not acceptable.
            NotFound: no such tenant.
            IdempotencyConflict: the key was used with another body.
            KeyServiceUnavailable: no key could be made; nothing was created.
        """
        target = checked(wish, self._rules)
        _prove(wish.client_certificate)
        connection_id = ids.new()
        async with self._database.transaction(tenant) as conn:
            if await conn.fetchrow(SQL["roster_head"], tenant) is None:
                raise NotFound
        key = await self._vault.connection_key(tenant, connection_id, create=True)
        mac_key = await self._vault.mac_key(tenant, MAC_PURPOSE)
        secret = new_secret(Algorithm(wish.signature_algorithm))
        key_id = ids.show("whk", ids.new())
        await self._operational.prepare(tenant, _CREATED)
        async with self._database.transaction(tenant) as conn:
            earlier = await once.claim(conn, tenant, ids.show("con", connection_id))
            if earlier is None:
                # Before it is there: nobody is told of their own beginning.
                await self._operational.announce(conn, tenant, _CREATED, _about(connection_id))
                await self._insert(conn, wish, target, self._sealed(tenant, connection_id, key), mac_key, key_id, secret, origin)
        if earlier is not None:
            found = await self._views.get(tenant, ids.parse("con", earlier))
            return Made(found, found.signing_keys[0].key_id, None)
        return Made(await self._views.get(tenant, connection_id), key_id, shown(secret))

    async def change(self, tenant: TenantId, connection_id: UUID, change: Change, origin: Origin) -> Made:
        """Change a connection; every process knows within a second.

        Another algorithm needs another kind of key: one is made and signs at once; the one before stays valid for a day where the
        profile has room for it. In every other case the answer's secret is None.

        Raises:
            Invalid: what it would become is not acceptable.
            NotFound: no such connection in this tenant.
            Conflict: it has ended, or too many earlier keys are still valid.
        """
        _prove(change.client_certificate)
        key = await self._key(tenant, connection_id)
        mac_key = await self._vault.mac_key(tenant, MAC_PURPOSE)
        await self._operational.prepare(tenant, _CHANGED)
        rotated: Rotated | None = None
        async with self._database.transaction(tenant) as conn:
            row = await conn.fetchrow(SQL["lock_connection"], tenant, connection_id)
            if row is None:
                raise NotFound
            if row["status"] not in _CHANGEABLE or key is None:
                raise Conflict(f"This connection is {row['status']} and cannot be changed.")
            sealed = self._sealed(tenant, connection_id, key)
            wish = changed(sealed, row, change)
            target = checked(wish, self._rules, url_is_new=change.url is not None)
            if wish.signature_algorithm != row["signature_algorithm"]:
                key_id, algorithm = ids.show("whk", ids.new()), Algorithm(wish.signature_algorithm)
                rotated = await self._rotations.make(conn, tenant, connection_id, key, key_id, Plan(None), algorithm, origin)
            status = row["status"] if change.paused is None else "paused" if change.paused else "active"
            columns = columns_of(wish)
            await conn.execute(
                SQL["update_connection"],
                tenant,
                connection_id,
                wish.description,
                sealed.seal_url(target.url),
                target.host,
                sealed.mac(mac_key, dict(row) | columns, target.url, wish.headers, chain_of(wish)),
                sealed.seal_headers(wish.headers),
                *columns.values(),
                *certificate_columns(sealed, wish, row),
                status,
            )
            if change.url is not None or (change.paused is False and row["status"] != "active"):
                # What was seen says nothing about what comes now; nor shall a connection be disabled again for what was.
                await conn.execute(SQL["forget_health"], tenant, connection_id)
            names: list[Json] = [*change.names()]
            patterns: list[Json] = list(wish.event_types)
            await log.append(
                conn,
                self._clock,
                tenant,
                origin,
                tags.CONNECTION_CHANGED,
                connection_id=connection_id,
                detail={"changed": names, "host": target.host, "status": status, "event_types": patterns, **certificate_detail(wish)},
            )
            told: dict[str, Json] = {**_about(connection_id), "changed": names, "status": status}
            await self._operational.announce(conn, tenant, _CHANGED, told)
        found = await self._views.get(tenant, connection_id)
        if rotated is None:
            return Made(found, next(term.key_id for term in found.signing_keys if term.state == "active"), None)
        return Made(found, rotated.key_id, rotated.secret)

    def _sealed(self, tenant: TenantId, connection_id: UUID, key: RecordKey) -> Sealed:
        return Sealed(self._vault.environment, tenant, connection_id, key)

    async def disconnect(self, tenant: TenantId, connection_id: UUID, origin: Origin) -> Receipt:
        """End a connection: unusable at once, secrets and key destroyed, waiting deliveries cancelled.

        Raises:
            NotFound: no such connection in this tenant.
            Conflict: it has ended already.
        """
        await self._operational.prepare(tenant, _DISCONNECTED)
        async with self._database.transaction(tenant) as conn:
            row = await conn.fetchrow(SQL["lock_connection"], tenant, connection_id)
            if row is None:
                raise NotFound
            ended = None if row["status"] == "disconnected" else await self._end(conn, tenant, connection_id, origin)
        # Also for one that has ended already: the process that ended it may have died before it came here.
        await self._vault.destroy_connection_key(tenant, connection_id)
        if ended is None:
            raise Conflict("This connection is disconnected already.")
        entry_id, cancelled = ended
        return Receipt(connection_id, cancelled, entry_id, self._clock.now())

    async def _end(self, conn: Executor, tenant: TenantId, connection_id: UUID, origin: Origin) -> tuple[UUID, int]:
        await conn.execute(SQL["end_connection"], tenant, connection_id)
        await conn.execute(SQL["destroy_secrets"], tenant, connection_id)
        cancelled = await self.cancel_deliveries(conn, tenant, connection_id)
        entry_id = await log.append(
            conn,
            self._clock,
            tenant,
            origin,
            tags.CONNECTION_DISCONNECTED,
            connection_id=connection_id,
            detail={"deliveries_cancelled": cancelled},
        )
        told: dict[str, Json] = {**_about(connection_id), "deliveries_cancelled": cancelled}
        await self._operational.announce(conn, tenant, _DISCONNECTED, told)
        await self._on_end(conn, tenant, connection_id, cancelled, entry_id)
        return entry_id, cancelled

    async def cancel_deliveries(self, conn: Executor, tenant: TenantId, connection_id: UUID) -> int:
        """Cancel what waits for a connection that ends, in the caller's transaction, which holds its row for update; return how many."""
        await conn.execute(SQL["hold_waiting_lines"], tenant, connection_id)
        if self._drop_payloads:
            await conn.execute(SQL["hold_waiting_payloads"], tenant, connection_id)
        cancelled = [row["delivery_id"] for row in await conn.fetch(SQL["cancel_deliveries"], tenant, connection_id, "disconnected")]
        if self._drop_payloads:
            await conn.execute(SQL["drop_ended_payloads"], tenant, cancelled)
        return len(cancelled)

    async def _insert(
        self,
        conn: Executor,
        wish: Wish,
        target: Target,
        sealed: Sealed,
        mac_key: RecordKey,
        key_id: str,
        secret: Secret,
        origin: Origin,
    ) -> None:
        tenant, connection_id = sealed.tenant_id, sealed.connection_id
        columns = columns_of(wish)
        row = {"provider": PROVIDER, "mode": "observe", "grant_version": 1} | columns
        await conn.execute(
            SQL["insert_connection"],
            tenant,
            connection_id,
            wish.description,
            sealed.seal_url(target.url),
            target.host,
            sealed.mac(mac_key, row, target.url, wish.headers, chain_of(wish)),
            sealed.seal_headers(wish.headers),
            *columns.values(),
            *certificate_columns(sealed, wish, None),
            wish.user_id,
        )
        place = secret_place(sealed.environment, tenant, connection_id, key_id)
        await conn.execute(SQL["insert_secret"], tenant, connection_id, key_id, seal(sealed.key, place, secret.reveal()), self._clock.now())
        patterns: list[Json] = list(wish.event_types)
        await log.append(
            conn,
            self._clock,
            tenant,
            origin,
            tags.CONNECTION_CREATED,
            connection_id=connection_id,
            detail={
                "provider": PROVIDER,
                "host": target.host,
                "event_types": patterns,
                "signature_profile": wish.signature_profile,
                "key_id": key_id,
                **certificate_detail(wish),
            },
        )

    async def _key(self, tenant: TenantId, connection_id: UUID) -> RecordKey | None:
        """Return the connection's key; None where it was destroyed, or never was."""
        try:
            return await self._vault.connection_key(tenant, connection_id)
        except Unsealable:
            return None


def _prove(given: object) -> None:
    """Let the HTTP client itself judge a new certificate: what is stored can be sent with."""
    if isinstance(given, Credential):
        check_identity(identity_of(given.certificate.pem, given.private_key))


def _about(connection_id: UUID) -> dict[str, Json]:
    """Return what an operational event says of every connection."""
    return {"connection_id": ids.show("con", connection_id), "provider": PROVIDER}
