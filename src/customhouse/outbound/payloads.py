"""How long a payload may be used, and the one door through which somebody may look at it."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Final
from uuid import UUID

from customhouse import ids
from customhouse.audit import log, tags
from customhouse.audit.log import Origin
from customhouse.clock import Clock
from customhouse.crypto.envelope import key_id_of, open_sealed
from customhouse.db import Database, Executor, Row
from customhouse.errors import Fault, Invalid, NotFound, PayloadExpired, Unsealable
from customhouse.jobs.upkeep import payload_days
from customhouse.outbound.endpoints import PROVIDER
from customhouse.outbound.envelope import assemble, integration_of
from customhouse.outbound.operational import SQL
from customhouse.outbound.sealed import payload_place
from customhouse.privacy.detectors import identifier_carries_pii
from customhouse.types import TenantId
from customhouse.vault.vault import Vault

_SHORTEST_REASON: Final = 3
_LONGEST_REASON: Final = 200


@dataclass(frozen=True, slots=True)
class Standing:
    """What a delivery has become, and what is left of its payload.

    `last_end` is the moment in which the last delivery of the same payload ended; None where none has.
    """

    delivery_id: UUID
    event_uid: UUID
    event_id: str
    event_type: str
    connection_id: UUID
    variant: int
    queued: bool
    outcome: str | None
    kept: bool
    awaited: bool
    last_end: datetime | None

    def usable(self, now: datetime, retention: timedelta) -> bool:
        """Tell whether the payload may still be opened or sent: exactly `retention` from the end of its last delivery."""
        if not self.kept or now >= stored_until(self.event_uid, retention):
            return False
        ended = self.last_end or ids.made_at(self.delivery_id)
        return self.awaited or now < ended + retention


def stored_until(event_uid: UUID, retention: timedelta) -> datetime:
    """Return the moment from which the payload's partition may be dropped: no delivery of it lives longer, however often retried."""
    day = ids.made_at(event_uid).date() + timedelta(days=payload_days(retention) + 1)
    return datetime.combine(day, time(), UTC)


async def standings(conn: Executor, tenant: TenantId, delivery_ids: list[UUID]) -> list[Standing]:
    """Return where these deliveries stand, in the caller's transaction; unknown ones are left out."""
    return [_standing(row) for row in await conn.fetch(SQL["standing"], tenant, delivery_ids)]


@dataclass(frozen=True, slots=True)
class Payload:
    """The exact body of a delivery, opened for one look; `body` does not show in `repr`."""

    delivery_id: UUID
    event_id: str
    event_type: str
    connection_id: UUID
    body: bytes
    audit_entry_id: UUID

    def __repr__(self) -> str:
        return f"Payload({self.delivery_id}, {len(self.body)} bytes)"

    @property
    def sha256(self) -> str:
        """SHA-256 of the body in hex: what the attempts recorded."""
        return hashlib.sha256(self.body).hexdigest()


class Payloads:
    """Opens a payload for a person who says why (rulings §3)."""

    def __init__(self, database: Database, vault: Vault, clock: Clock, retention: timedelta) -> None:
        """Take the parts, and how long a payload is kept after its last delivery ended."""
        self._database = database
        self._vault = vault
        self._clock = clock
        self._retention = retention

    async def view(self, tenant: TenantId, delivery_id: UUID, reason: str, origin: Origin) -> Payload:
        """Return the body of a delivery; the ledger says who looked and why before anybody sees it.

        Args:
            tenant: whose delivery it is.
            delivery_id: the delivery.
            reason: why, 3–200 printable characters without personal data; it goes into the ledger.
            origin: who asks. The face has checked the key's scopes.

        Raises:
            Invalid: the reason is not acceptable.
            NotFound: no such delivery in this tenant.
            PayloadExpired: the payload's retention has ended.
            Unsealable: the row is not what was sealed, or not what was sent.
            KeyServiceUnavailable: its key cannot be had.
        """
        reason = checked_reason(reason)
        async with self._database.transaction(tenant) as conn:
            standing, sealed, sent = await self._look(conn, tenant, delivery_id)
        # Outside of a transaction: a cold key must not hold a connection while it waits for another.
        key_id = key_id_of(sealed)
        key = self._vault.cached_key(tenant, key_id) or await self._vault.key(tenant, key_id)
        variant = open_sealed(key, payload_place(self._vault.environment, tenant, standing.event_uid, standing.variant), sealed)
        body = assemble(variant, integration_of(ids.show("con", standing.connection_id), PROVIDER))
        if sent is not None and not hmac.compare_digest(sent, hashlib.sha256(body).digest()):
            raise Unsealable
        async with self._database.transaction(tenant) as conn:
            # Once more: its retention may have ended meanwhile.
            await self._look(conn, tenant, delivery_id)
            entry_id = await log.append(
                conn,
                self._clock,
                tenant,
                origin,
                tags.PAYLOAD_VIEWED,
                subject=ids.show("dlv", delivery_id),
                connection_id=standing.connection_id,
                detail={"reason": reason},
            )
        return Payload(delivery_id, standing.event_id, standing.event_type, standing.connection_id, body, entry_id)

    async def _look(self, conn: Executor, tenant: TenantId, delivery_id: UUID) -> tuple[Standing, bytes, bytes | None]:
        found = await standings(conn, tenant, [delivery_id])
        if not found:
            raise NotFound
        (standing,) = found
        sealed = await conn.fetchval(SQL["payload"], tenant, standing.event_uid, standing.variant)
        if sealed is None or not standing.usable(self._clock.now(), self._retention):
            raise PayloadExpired
        return standing, sealed, await conn.fetchval(SQL["first_body"], tenant, delivery_id)


def checked_reason(text: str) -> str:
    """Return a reason that may stand in the ledger.

    Raises:
        Invalid: it is too short or too long, has control characters, or tells who somebody is.
    """
    reason = text.strip()
    if not _SHORTEST_REASON <= len(reason) <= _LONGEST_REASON or not reason.isprintable() or identifier_carries_pii(reason):
        words = f"{_SHORTEST_REASON}–{_LONGEST_REASON} printable characters that name no person: it is written into the ledger"
        raise Invalid("The reason is not acceptable.", (Fault("/reason", words),))
    return reason


def _standing(row: Row) -> Standing:
    return Standing(
        row["delivery_id"],
        row["event_uid"],
        row["event_id"] or ids.show("evt", row["event_uid"]),
        row["event_type"],
        row["connection_id"],
        row["variant"],
        row["queued"],
        row["outcome"],
        row["kept"],
        row["awaited"],
        row["last_end"],
    )
