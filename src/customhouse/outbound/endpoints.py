"""Webhook connections: where a tenant's events go, how they are signed, which ones are wanted."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from customhouse import ids
from customhouse.audit import log, tags
from customhouse.audit.log import Origin
from customhouse.canonical import dump_sorted
from customhouse.clock import Clock
from customhouse.crypto.envelope import RecordKey, open_sealed, seal
from customhouse.crypto.mac import mac
from customhouse.crypto.signatures import Algorithm, new_secret, shown
from customhouse.db import Database, Executor, Row
from customhouse.egress.targets import Target
from customhouse.errors import Conflict, NotFound, Unsealable
from customhouse.outbound.operational import Operational
from customhouse.outbound.roster import MAC_PURPOSE, SQL, guarded, headers_place, open_headers, secret_place, url_place
from customhouse.outbound.rotation import Plan, Rotated, Rotations
from customhouse.outbound.signing import State, Term, standing
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
class Connection:
    """A connection as its owner sees it; the URL is opened for them alone, secrets are not part of it."""

    tenant_id: TenantId
    connection_id: UUID
    provider: str
    user_id: str | None
    mode: str
    status: str
    status_reason: str | None
    grant_version: int
    description: str
    url: str | None
    host: str | None
    event_types: tuple[str, ...]
    signature_profile: str
    signature_algorithm: str
    header_names: tuple[str, ...]
    signing_keys: tuple[Term, ...]
    created_at: datetime
    updated_at: datetime


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
        *,
        drop_payloads: bool,
    ) -> None:
        """Take the parts; `drop_payloads` deletes a payload in the transaction that ends its last delivery (retention 0)."""
        self._database = database
        self._vault = vault
        self._clock = clock
        self._operational = operational
        self._rotations = rotations
        self._rules = rules
        self._drop_payloads = drop_payloads

    async def create(self, tenant: TenantId, wish: Wish, origin: Origin, once: Once) -> Made:
        """Create a connection with its own key and signing secret.

        Raises:
            Invalid: the URL, a pattern, the profile or the algorithm is not acceptable.
            NotFound: no such tenant.
            IdempotencyConflict: the key was used with another body.
            KeyServiceUnavailable: no key could be made; nothing was created.
        """
        target = checked(wish, self._rules)
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
                await self._insert(conn, tenant, connection_id, wish, target, key, mac_key, key_id, secret, origin)
        if earlier is not None:
            found = await self._read(tenant, ids.parse("con", earlier))
            return Made(found, found.signing_keys[0].key_id, None)
        return Made(await self._read(tenant, connection_id), key_id, shown(secret))

    async def get(self, tenant: TenantId, connection_id: UUID) -> Connection:
        """Return a connection.

        Raises:
            NotFound: no such connection in this tenant.
        """
        return await self._read(tenant, connection_id)

    async def list(
        self, tenant: TenantId, *, user_id: str | None, provider: str | None, status: str | None, before: UUID | None, limit: int
    ) -> list[Connection]:
        """Return connections, the newest first."""
        async with self._database.transaction(tenant) as conn:
            rows = await conn.fetch(SQL["connections"], tenant, None, before, user_id, provider, status, limit)
        return [await self._shown(tenant, row) for row in rows]

    async def change(self, tenant: TenantId, connection_id: UUID, change: Change, origin: Origin) -> Made:
        """Change a connection; every process knows within a second.

        Another algorithm needs another kind of key: one is made and signs at once; the one before stays valid for a day where the
        profile has room for it. In every other case the answer's secret is None.

        Raises:
            Invalid: what it would become is not acceptable.
            NotFound: no such connection in this tenant.
            Conflict: it has ended, or too many earlier keys are still valid.
        """
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
            wish = self._changed(tenant, key, row, change)
            target = checked(wish, self._rules, url_is_new=change.url is not None)
            if wish.signature_algorithm != row["signature_algorithm"]:
                key_id, algorithm = ids.show("whk", ids.new()), Algorithm(wish.signature_algorithm)
                rotated = await self._rotations.make(conn, tenant, connection_id, key, key_id, Plan(None), algorithm, origin)
            status = row["status"] if change.paused is None else "paused" if change.paused else "active"
            after = dict(row) | _columns(wish)
            await conn.execute(
                SQL["update_connection"],
                tenant,
                connection_id,
                status,
                wish.description,
                seal(key, url_place(self._vault.environment, tenant, connection_id), target.url.encode()),
                target.host,
                list(wish.event_types),
                mac(mac_key, MAC_PURPOSE, *guarded(connection_id, after, target.url, wish.headers)),
                wish.signature_profile,
                wish.signature_algorithm,
                self._sealed_headers(tenant, connection_id, key, wish),
            )
            names: list[Json] = [one.name for one in fields(change) if getattr(change, one.name) is not None]
            patterns: list[Json] = list(wish.event_types)
            await log.append(
                conn,
                self._clock,
                tenant,
                origin,
                tags.CONNECTION_CHANGED,
                connection_id=connection_id,
                detail={"changed": names, "host": target.host, "status": status, "event_types": patterns},
            )
            told: dict[str, Json] = {**_about(connection_id), "changed": names, "status": status}
            await self._operational.announce(conn, tenant, _CHANGED, told)
        found = await self._read(tenant, connection_id)
        if rotated is None:
            return Made(found, next(term.key_id for term in found.signing_keys if term.state == "active"), None)
        return Made(found, rotated.key_id, rotated.secret)

    def _changed(self, tenant: TenantId, key: RecordKey, row: Row, change: Change) -> Wish:
        """Return what the connection would be after a change."""
        environment, connection_id = self._vault.environment, row["connection_id"]
        place = url_place(environment, tenant, connection_id)
        return Wish(
            url=open_sealed(key, place, row["url_sealed"]).decode() if change.url is None else change.url,
            event_types=tuple(row["event_types"]) if change.event_types is None else change.event_types,
            signature_profile=row["signature_profile"] if change.signature_profile is None else change.signature_profile,
            signature_algorithm=row["signature_algorithm"] if change.signature_algorithm is None else change.signature_algorithm,
            description=row["description"] if change.description is None else change.description,
            headers=open_headers(key, environment, tenant, row) if change.headers is None else change.headers,
        )

    def _sealed_headers(self, tenant: TenantId, connection_id: UUID, key: RecordKey, wish: Wish) -> bytes | None:
        if not wish.headers:
            return None
        return seal(key, headers_place(self._vault.environment, tenant, connection_id), dump_sorted(dict(wish.headers)))

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
        if self._drop_payloads:
            await conn.execute(SQL["hold_waiting_payloads"], tenant, connection_id)
        cancelled = [row["delivery_id"] for row in await conn.fetch(SQL["cancel_deliveries"], tenant, connection_id, "disconnected")]
        if self._drop_payloads:
            await conn.execute(SQL["drop_ended_payloads"], tenant, cancelled)
        entry_id = await log.append(
            conn,
            self._clock,
            tenant,
            origin,
            tags.CONNECTION_DISCONNECTED,
            connection_id=connection_id,
            detail={"deliveries_cancelled": len(cancelled)},
        )
        told: dict[str, Json] = {**_about(connection_id), "deliveries_cancelled": len(cancelled)}
        await self._operational.announce(conn, tenant, _DISCONNECTED, told)
        return entry_id, len(cancelled)

    async def _insert(
        self,
        conn: Executor,
        tenant: TenantId,
        connection_id: UUID,
        wish: Wish,
        target: Target,
        key: RecordKey,
        mac_key: RecordKey,
        key_id: str,
        secret: Secret,
        origin: Origin,
    ) -> None:
        environment = self._vault.environment
        row = {"provider": PROVIDER, "mode": "observe", "grant_version": 1} | _columns(wish)
        await conn.execute(
            SQL["insert_connection"],
            tenant,
            connection_id,
            wish.user_id,
            wish.description,
            seal(key, url_place(environment, tenant, connection_id), target.url.encode()),
            target.host,
            list(wish.event_types),
            wish.signature_profile,
            wish.signature_algorithm,
            mac(mac_key, MAC_PURPOSE, *guarded(connection_id, row, target.url, wish.headers)),
            self._sealed_headers(tenant, connection_id, key, wish),
        )
        sealed = seal(key, secret_place(environment, tenant, connection_id, key_id), secret.reveal())
        await conn.execute(SQL["insert_secret"], tenant, connection_id, key_id, sealed, self._clock.now())
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
            },
        )

    async def _key(self, tenant: TenantId, connection_id: UUID) -> RecordKey | None:
        """Return the connection's key; None where it was destroyed, or never was."""
        try:
            return await self._vault.connection_key(tenant, connection_id)
        except Unsealable:
            return None

    async def _read(self, tenant: TenantId, connection_id: UUID) -> Connection:
        async with self._database.transaction(tenant) as conn:
            rows = await conn.fetch(SQL["connections"], tenant, connection_id, None, None, None, None, 1)
        if not rows:
            raise NotFound
        return await self._shown(tenant, rows[0])

    async def _shown(self, tenant: TenantId, row: Row) -> Connection:
        # Outside of any transaction: a cold key must not hold a database connection while it waits for another.
        connection_id: UUID = row["connection_id"]
        url: str | None = None
        header_names: tuple[str, ...] = ()
        if row["url_sealed"] is not None:
            key = self._vault.cached_connection_key(tenant, connection_id) or await self._vault.connection_key(tenant, connection_id)
            url = open_sealed(key, url_place(self._vault.environment, tenant, connection_id), row["url_sealed"]).decode()
            header_names = tuple(sorted(open_headers(key, self._vault.environment, tenant, row)))
        return Connection(
            tenant,
            connection_id,
            row["provider"],
            row["user_id"],
            row["mode"],
            row["status"],
            row["status_reason"],
            row["grant_version"],
            row["description"],
            url,
            row["url_host"],
            tuple(row["event_types"]),
            row["signature_profile"],
            row["signature_algorithm"],
            header_names,
            _standing(row, self._clock.now()),
            row["created_at"],
            row["updated_at"],
        )


def _columns(wish: Wish) -> dict[str, object]:
    return {
        "signature_profile": wish.signature_profile,
        "signature_algorithm": wish.signature_algorithm,
        "event_types": wish.event_types,
    }


def _standing(row: Row, now: datetime) -> tuple[Term, ...]:
    """Return the signing keys, each in the state that it has at this moment, the oldest first."""
    recorded: zip[tuple[str, State, datetime, datetime | None]] = zip(
        row["key_ids"], row["key_states"], row["key_begins"], row["key_ends"], strict=True
    )
    terms = [Term(*one) for one in recorded]
    states = standing(terms, now)
    return tuple(replace(term, state=states[term.key_id]) for term in terms)


def _about(connection_id: UUID) -> dict[str, Json]:
    """Return what an operational event says of every connection."""
    return {"connection_id": ids.show("con", connection_id), "provider": PROVIDER}
