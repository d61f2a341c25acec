"""Rotation of signing keys: make the next one, and write down what time has done (rulings §4)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from customhouse import ids
from customhouse.audit import log, tags
from customhouse.audit.log import SYSTEM, Origin
from customhouse.clock import Clock
from customhouse.crypto.envelope import RecordKey, seal
from customhouse.crypto.signatures import Algorithm, new_secret, shown
from customhouse.db import Database, Executor, queries
from customhouse.errors import Conflict, Fault, Invalid, NotFound, Unsealable
from customhouse.outbound.roster import SQL
from customhouse.outbound.sealed import secret_place
from customhouse.tenants.idempotency import Once
from customhouse.types import TenantId
from customhouse.vault.vault import Vault

_SQL: Final = queries(__package__, "secrets.sql")
DEFAULT_DELAY: Final = timedelta(hours=1)
DEFAULT_OVERLAP: Final = timedelta(hours=24)
LONGEST_DELAY: Final = timedelta(days=30)
LONGEST_OVERLAP: Final = timedelta(days=30)
_MOST_KEYS: Final = 6
"""Keys of one connection that may be alive at once: below what a signature header may carry."""
_ROTATABLE: Final = frozenset({"active", "degraded", "paused", "disabled"})
_WEBHOOK: Final = "webhook"
_SECOND: Final = timedelta(seconds=1)
_DUE_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Plan:
    """When the next key begins to sign, and for how long the earlier ones stay valid after that.

    Attributes:
        activate_at: None: at once, as after a leak. A waiting key is then destroyed with its predecessor's turn.
        overlap: 0 to 30 days, whole seconds.
    """

    activate_at: datetime | None
    overlap: timedelta = DEFAULT_OVERLAP


@dataclass(frozen=True, slots=True)
class Rotated:
    """The key that was made; `secret` is shown this once, None when an idempotent call is repeated."""

    key_id: str
    secret: str | None
    activates_at: datetime
    previous_valid_until: datetime


class Rotations:
    """Makes the next signing key of a connection, and keeps the recorded states up with time."""

    def __init__(self, database: Database, vault: Vault, clock: Clock) -> None:
        """Take the parts that it stands on."""
        self._database = database
        self._vault = vault
        self._clock = clock

    async def rotate(self, tenant: TenantId, connection_id: UUID, plan: Plan | None, origin: Origin, once: Once) -> Rotated:
        """Make the next signing key; without a plan it begins to sign in an hour and the earlier ones stay valid for a day more.

        Raises:
            Invalid: the times are not acceptable.
            NotFound: no such connection in this tenant.
            Conflict: it has ended, a next key is waiting already, or too many earlier ones are still valid.
            IdempotencyConflict: the key was used with another body.
            KeyServiceUnavailable: the connection's key cannot be had; nothing was changed.
        """
        key = await self._key(tenant, connection_id)
        key_id = ids.show("whk", ids.new())
        async with self._database.transaction(tenant) as conn:
            row = await conn.fetchrow(SQL["lock_connection"], tenant, connection_id)
            if row is None:
                raise NotFound
            earlier = await once.claim(conn, tenant, key_id)
            if earlier is not None:
                made = await conn.fetchrow(_SQL["rotated"], tenant, connection_id, earlier)
                if made is None:
                    raise NotFound
                return Rotated(made["key_id"], None, made["activates_at"], made["previous_until"])
            if row["provider"] != _WEBHOOK:
                raise Conflict("Only webhook connections have signing keys.")
            if row["status"] not in _ROTATABLE or key is None:
                raise Conflict(f"This connection is {row['status']}: it has no keys to rotate.")
            return await self.make(conn, tenant, connection_id, key, key_id, plan, Algorithm(row["signature_algorithm"]), origin)

    async def make(
        self,
        conn: Executor,
        tenant: TenantId,
        connection_id: UUID,
        key: RecordKey,
        key_id: str,
        plan: Plan | None,
        algorithm: Algorithm,
        origin: Origin,
    ) -> Rotated:
        """Make the key in the caller's transaction, which holds the connection's row for update.

        Raises:
            Invalid, Conflict: as `rotate`.
        """
        now = self._clock.now()
        begins, ends, at_once = _times(plan or Plan(now + DEFAULT_DELAY), now)
        await advance(conn, self._clock, tenant, connection_id, now)
        superseded = [row["key_id"] for row in await conn.fetch(_SQL["destroy_next"], tenant, connection_id)]
        if superseded and not at_once:
            raise Conflict("A next key is waiting already; it takes over at its time. To replace it now, give activate_at: now.")
        await conn.execute(_SQL["end_overlap"], tenant, connection_id, ends, at_once)
        destroyed = [row["key_id"] for row in await conn.fetch(_SQL["advance_ended"], tenant, connection_id, now)]
        if len(await conn.fetch(_SQL["live_secrets"], tenant, connection_id)) >= _MOST_KEYS:
            raise Conflict(f"{_MOST_KEYS} keys are still valid; with a shorter overlap the earlier ones end sooner.")
        secret = new_secret(algorithm)
        sealed = seal(key, secret_place(self._vault.environment, tenant, connection_id, key_id), secret.reveal())
        await conn.execute(_SQL["insert_key"], tenant, connection_id, key_id, "active" if at_once else "next", sealed, begins, ends)
        await log.append(
            conn,
            self._clock,
            tenant,
            origin,
            tags.SIGNING_KEY_ROTATED,
            subject=key_id,
            connection_id=connection_id,
            detail={
                "activates_at": begins.isoformat(),
                "previous_valid_until": ends.isoformat(),
                "destroyed": [*superseded, *destroyed],
            },
        )
        return Rotated(key_id, shown(secret), begins, ends)

    async def advance_due(self) -> int:
        """Write down the turns that time has brought, in all tenants; return how many connections were looked at.

        Raises:
            CustomhouseError: PostgreSQL is away; the next run goes on.
        """
        looked_at = 0
        while True:
            now = self._clock.now()
            due = await self._database.call(_SQL["turns_due"], now, _DUE_AT_ONCE)
            for row in due:
                tenant = TenantId(row["tenant_id"])
                async with self._database.transaction(tenant) as conn:
                    await conn.fetchrow(SQL["lock_connection"], tenant, row["connection_id"])
                    await advance(conn, self._clock, tenant, row["connection_id"], now)
            looked_at += len(due)
            if len(due) < _DUE_AT_ONCE:
                return looked_at

    async def _key(self, tenant: TenantId, connection_id: UUID) -> RecordKey | None:
        """Return the connection's key; None where it was destroyed, or never was."""
        try:
            return await self._vault.connection_key(tenant, connection_id)
        except Unsealable:
            return None


async def advance(conn: Executor, clock: Clock, tenant: TenantId, connection_id: UUID, now: datetime) -> None:
    """Write down what time has done to a connection's signing keys: the next one signs, what has ended is destroyed."""
    await conn.execute(_SQL["advance_previous"], tenant, connection_id, now)
    for row in await conn.fetch(_SQL["advance_next"], tenant, connection_id, now):
        await log.append(conn, clock, tenant, SYSTEM, tags.SIGNING_KEY_ACTIVATED, subject=row["key_id"], connection_id=connection_id)
    for row in await conn.fetch(_SQL["advance_ended"], tenant, connection_id, now):
        await log.append(conn, clock, tenant, SYSTEM, tags.SIGNING_KEY_DESTROYED, subject=row["key_id"], connection_id=connection_id)


def _times(plan: Plan, now: datetime) -> tuple[datetime, datetime, bool]:
    """Return when the next key begins, when the earlier ones end, and whether the first is now.

    Timestamps of signatures are whole seconds, so turns are too: the signer and the customer read them alike.
    """
    faults = []
    begins = now if plan.activate_at is None else _second_from(plan.activate_at)
    if plan.activate_at is not None and not now <= begins <= now + LONGEST_DELAY + _SECOND:
        faults.append(Fault("/activate_at", f"is not within the next {LONGEST_DELAY.days} days"))
    if not timedelta() <= plan.overlap <= LONGEST_OVERLAP:
        faults.append(Fault("/overlap_seconds", f"is not from 0 to {int(LONGEST_OVERLAP.total_seconds())}"))
    if faults:
        raise Invalid("The rotation is not acceptable.", tuple(faults))
    ends = begins + plan.overlap
    at_once = plan.activate_at is None
    # An overlap of nothing, at once: the leaked key signs nothing more, not even for the rest of this second.
    return begins, ends if at_once and not plan.overlap else _second_from(ends), at_once


def _second_from(moment: datetime) -> datetime:
    whole = moment.replace(microsecond=0)
    return whole if whole == moment else whole + _SECOND
