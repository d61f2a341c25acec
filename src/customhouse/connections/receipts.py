"""Receipts of disconnects: what was done, and what the provider was seen to do; they grow with the truth, each version in the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from customhouse import ids
from customhouse.audit import log, tags
from customhouse.audit.log import SYSTEM
from customhouse.clock import Clock, rfc3339
from customhouse.connections.sql import SQL
from customhouse.db import Database, Executor, Row
from customhouse.errors import NotFound
from customhouse.providers.manifest import OAuth2, Provider
from customhouse.types import Json, JsonObject, TenantId

REQUESTED: Final = "requested"
DEAUTHORIZED: Final = "deauthorized"
INCIDENT: Final = "incident"
SIGNED: Final = "customhouse-receipt"
"""`typ` of a signed receipt."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a disconnect did, as far as it is known.

    Attributes:
        connection_id: what ended.
        version: grows with each change.
        provider: whose connection it was.
        reason: why: `requested`, `deauthorized` (the provider said so), `incident` (a mass disconnect).
        operation_id: of the mass disconnect.
        status: `revoked`, `pending` (asked again until `escrow_until`), `unsupported` (this cannot be done at the provider), `failed` (it
            was not done in seven days).
        verified: a token was shown to the provider afterwards, and refused.
        attempts: how often the provider was asked.
        shared: other connections stand on the same permission: it was dropped here alone.
        tokens_destroyed: nothing of the tokens is left.
        key_destroyed: nor of the key that they were sealed under.
        escrow_until: until when the sealed tokens wait at the latest, for their revocation alone.
        actions_cancelled: actions that waited.
        deliveries_cancelled: deliveries that waited.
        subscriptions_ended: subscriptions at the provider.
        notified: a notice is in the user's inbox.
        instructions: what somebody has to do at the provider; empty: nothing.
        audit_entry_id: the entry of the disconnect.
        at: when the connection became unusable.
        updated_at: when this version was written.
    """

    connection_id: UUID
    version: int
    provider: str
    reason: str
    operation_id: UUID | None
    status: str
    verified: bool
    attempts: int
    shared: bool
    tokens_destroyed: bool
    key_destroyed: bool
    escrow_until: datetime | None
    actions_cancelled: int
    deliveries_cancelled: int
    subscriptions_ended: int
    notified: bool
    instructions: str
    audit_entry_id: UUID
    at: datetime
    updated_at: datetime

    def document(self, tenant: TenantId) -> JsonObject:
        """Return it as JSON, as the API answers it and as it is signed."""
        return {
            "tenant_id": tenant,
            "connection_id": ids.show("con", self.connection_id),
            "version": self.version,
            "provider": self.provider,
            "reason": self.reason,
            "revocation": {"status": self.status, "verified": self.verified, "attempts": self.attempts},
            "shared": self.shared,
            "tokens_destroyed": self.tokens_destroyed,
            "key_destroyed": self.key_destroyed,
            "escrow_until": None if self.escrow_until is None else rfc3339(self.escrow_until),
            "actions_cancelled": self.actions_cancelled,
            "deliveries_cancelled": self.deliveries_cancelled,
            "subscriptions_ended": self.subscriptions_ended,
            "notified": self.notified,
            "instructions": self.instructions or None,
            "audit_entry_id": ids.show("aud", self.audit_entry_id),
            "at": rfc3339(self.at),
            "updated_at": rfc3339(self.updated_at),
        }


@dataclass(frozen=True, slots=True)
class Opening:
    """The first version of a receipt."""

    connection_id: UUID
    provider: str
    reason: str
    revocation_id: UUID | None
    status: str
    shared: bool
    escrow_until: datetime | None
    actions_cancelled: int
    deliveries_cancelled: int
    notified: bool
    instructions: str
    audit_entry_id: UUID
    at: datetime
    operation_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class End:
    """How a grant ended: what the receipt says of it."""

    status: str
    verified: bool
    attempts: int
    shared: bool
    instructions: str


class Receipts:
    """Writes and reads receipts."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Take the parts that it stands on."""
        self._database = database
        self._clock = clock

    async def get(self, tenant: TenantId, connection_id: UUID) -> Receipt:
        """Return the newest version.

        Raises:
            NotFound: no such connection in this tenant, or it was not disconnected.
        """
        async with self._database.transaction(tenant) as conn:
            row = await conn.fetchrow(SQL["receipt"], tenant, connection_id)
        if row is None:
            raise NotFound
        return _receipt(row)

    async def open(self, conn: Executor, tenant: TenantId, first: Opening) -> None:
        """Write the first version, in the transaction that ends the connection."""
        waits = first.revocation_id is not None
        await conn.execute(
            SQL["open_receipt"],
            tenant,
            first.connection_id,
            first.provider,
            first.reason,
            first.operation_id,
            first.revocation_id,
            first.status,
            first.shared,
            not waits,
            first.escrow_until if waits else None,
            first.actions_cancelled,
            first.deliveries_cancelled,
            first.notified,
            first.instructions,
            first.audit_entry_id,
            first.at,
        )

    async def released(self, tenant: TenantId, connection_id: UUID) -> None:
        """Note that the key is destroyed in the keyring; where nothing waits in escrow, that was the last copy."""
        async with self._database.transaction(tenant) as conn:
            row = await conn.fetchrow(SQL["release_key"], tenant, connection_id, self._clock.now())
            if row is not None and row["key_destroyed"]:
                await self._tell(conn, tenant, row)

    async def asked(self, conn: Executor, tenant: TenantId, connection_id: UUID, revocation_id: UUID, attempts: int) -> None:
        """Note that the provider was asked once more, and was not seen to do it."""
        row = await conn.fetchrow(SQL["count_attempt"], tenant, connection_id, revocation_id, attempts, self._clock.now())
        if row is not None:
            await self._tell(conn, tenant, row)

    async def settle(self, conn: Executor, tenant: TenantId, connection_id: UUID, revocation_id: UUID, end: End) -> Receipt | None:
        """Write how the grant ended, in the transaction that empties the escrow; None: the revocation was no disconnect's."""
        row = await conn.fetchrow(
            SQL["settle_receipt"],
            tenant,
            connection_id,
            revocation_id,
            end.status,
            end.verified,
            end.attempts,
            end.shared,
            end.instructions,
            self._clock.now(),
        )
        if row is None:
            return None
        await self._tell(conn, tenant, row)
        return _receipt(row)

    async def _tell(self, conn: Executor, tenant: TenantId, row: Row) -> None:
        detail: dict[str, Json] = {
            "version": row["version"],
            "status": row["revocation_status"],
            "verified": row["verified"],
            "attempts": row["attempts"],
            "shared": row["shared"],
            "tokens_destroyed": row["tokens_destroyed"],
            "key_destroyed": row["key_destroyed"],
        }
        await log.append(conn, self._clock, tenant, SYSTEM, tags.RECEIPT_UPDATED, connection_id=row["connection_id"], detail=detail)


def of_webhook(connection_id: UUID, deliveries_cancelled: int, entry_id: UUID, at: datetime) -> Opening:
    """Return the first version of a webhook connection's receipt: there is nobody to revoke anything at."""
    return Opening(
        connection_id=connection_id,
        provider="webhook",
        reason=REQUESTED,
        revocation_id=None,
        status="unsupported",
        shared=False,
        escrow_until=None,
        actions_cancelled=0,
        deliveries_cancelled=deliveries_cancelled,
        notified=False,
        instructions="",
        audit_entry_id=entry_id,
        at=at,
    )


def instructions(provider: Provider | None, status: str, *, shared: bool) -> str:
    """Return what somebody has to do at the provider, in a sentence; empty: nothing.

    Args:
        provider: the manifest; None: it is not in the catalogue any more.
        status: of the revocation.
        shared: other connections stand on the permission.
    """
    name = "the provider" if provider is None else provider.name
    if shared:
        return f"Other connections stand on the same permission at {name}; it is withdrawn with the last of them."
    if provider is None:
        return "This provider is not set up here any more: remove the application in the account's settings there."
    advice = provider.auth.revocation.advice if isinstance(provider.auth, OAuth2) else provider.auth.advice
    if status == "failed":
        return (
            f"{name} was not seen to withdraw the permission: remove the application in the account's settings at {name}. {advice}".strip()
        )
    if status == "pending":
        return f"{name} is asked again until it is seen to have withdrawn the permission. You need not wait: remove it there yourself."
    return advice


def _receipt(row: Row) -> Receipt:
    return Receipt(
        row["connection_id"],
        row["version"],
        row["provider"],
        row["reason"],
        row["operation_id"],
        row["revocation_status"],
        row["verified"],
        row["attempts"],
        row["shared"],
        row["tokens_destroyed"],
        row["key_destroyed"],
        row["escrow_until"],
        row["actions_cancelled"],
        row["deliveries_cancelled"],
        row["subscriptions_ended"],
        row["notified"],
        row["instructions"],
        row["audit_entry_id"],
        row["at"],
        row["updated_at"],
    )
