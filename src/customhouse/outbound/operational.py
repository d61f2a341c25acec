"""Events about Customhouse itself (rulings §11): `customhouse.…`, written in the transaction of what they tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

from customhouse import ids
from customhouse.canonical import dump
from customhouse.clock import Clock
from customhouse.crypto.envelope import seal
from customhouse.db import Database, Executor, enter, queries
from customhouse.errors import KeyServiceUnavailable, Unsealable
from customhouse.logs import get
from customhouse.outbound import envelope
from customhouse.outbound.accept import DELIVERY_LIFE
from customhouse.outbound.sealed import payload_place
from customhouse.tenants import policies
from customhouse.tenants.event_types import OPERATIONAL
from customhouse.types import PLATFORM, Json, JsonObject, TenantId
from customhouse.vault.vault import Vault

SQL: Final = queries(__package__, "operations.sql")
_log: Final = get("customhouse.outbound.operational")
PING: Final = "customhouse.ping"
_NO_CALL: Final = "customhouse"
"""The correlation id of what no call of the host caused."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One operational event; `members` are all that its data may hold: ids, codes and numbers, never a value of a customer's."""

    sentence: str
    members: frozenset[str]


KINDS: Final[Mapping[str, Kind]] = {
    "customhouse.connection.created": Kind("A connection was created.", frozenset({"connection_id", "provider"})),
    "customhouse.connection.certificate_expiring": Kind(
        "The client certificate of a connection is near its end, or past it; told once for each certificate.",
        frozenset({"connection_id", "provider", "certificate_expires_at"}),
    ),
    "customhouse.connection.changed": Kind(
        "A connection was changed, paused or resumed.", frozenset({"connection_id", "provider", "status", "changed"})
    ),
    "customhouse.connection.disabled": Kind(
        "A connection was disabled: its endpoint said 410 or failed for too long, or its pasted key may more than it should (`key_wider`).",
        frozenset({"connection_id", "provider", "reason", "failing_since"}),
    ),
    "customhouse.connection.degraded": Kind(
        "A connection works with less than it asked for: scopes are missing, or the provider does not say which it granted.",
        frozenset({"connection_id", "provider", "reason", "missing"}),
    ),
    "customhouse.connection.reauthorization_required": Kind(
        "A connection needs a new consent of its user; what it has goes on working where the reason is `scopes_added`.",
        frozenset({"connection_id", "provider", "reason"}),
    ),
    "customhouse.connection.key_old": Kind(
        "A pasted key is older than `KEY_MAX_AGE`: it should be replaced. Told again every 30 days.",
        frozenset({"connection_id", "provider", "age_days"}),
    ),
    "customhouse.connection.refused": Kind(
        "Nothing came of a connect session; what the provider granted in spite of that is revoked.",
        frozenset({"session_id", "connection_id", "provider", "reason"}),
    ),
    "customhouse.provider.refuses_registration": Kind(
        "A provider does not accept the client id or secret of this installation, or has disabled its application; for the operator.",
        frozenset({"provider", "reason"}),
    ),
    "customhouse.delivery.failed": Kind(
        "A delivery failed for good: it will not be tried again by itself.",
        frozenset({"delivery_id", "connection_id", "event_id", "event_type", "reason", "attempts", "status_code", "error"}),
    ),
    "customhouse.auto_disable.braked": Kind(
        "More than half of the connections in use fail: nothing is disabled until that ends. Look at your own network first.",
        frozenset({"failing", "tried"}),
    ),
    "customhouse.connection.disconnected": Kind(
        "A connection was disconnected; its key and secrets are destroyed.",
        frozenset({"connection_id", "provider", "deliveries_cancelled", "reason"}),
    ),
    "customhouse.connection.dormant": Kind(
        "Nobody has used a connection for long: it will be paused, unless somebody does. Told once.",
        frozenset({"connection_id", "provider", "pauses_at"}),
    ),
    "customhouse.connection.paused": Kind(
        "A connection was paused because nobody used it (`dormant`); `PATCH` with `paused: false` lets it work again.",
        frozenset({"connection_id", "provider", "reason"}),
    ),
    "customhouse.connection.revocation_ended": Kind(
        "What became of a disconnected connection's permission at the provider: `revoked`, `unsupported` or `failed`.",
        frozenset({"connection_id", "provider", "status", "verified", "attempts"}),
    ),
    "customhouse.notice.created": Kind(
        "A notice was put into a user's inbox.", frozenset({"notice_id", "user_id", "kind", "connection_id"})
    ),
    "customhouse.tokens.bulk_read": Kind(
        "A key has read the credentials of more connections than is usual for it, or than the limit allows.",
        frozenset({"key_id", "connections", "threshold", "stopped_until"}),
    ),
    PING: Kind("A test of one connection, sent on request to it alone.", frozenset({"connection_id"})),
}
"""The closed vocabulary. `tenant_id` is added to each."""


class Publish(Protocol):
    """How other parts tell something: in their own open transaction, which is in `tenant`."""

    async def __call__(
        self, conn: Executor, tenant: TenantId, event_type: str, data: Mapping[str, Json], *, cause: str | None = None
    ) -> int:
        """Write the event for whoever asked for it; return how many deliveries were made."""
        ...


class Operational:
    """Writes operational events for the operator's webhook connections, and for a tenant's that name them."""

    def __init__(self, database: Database, vault: Vault, clock: Clock) -> None:
        """Take the parts that it stands on."""
        self._database = database
        self._vault = vault
        self._clock = clock

    async def warm(self, tenant: TenantId, *, operator: bool = True) -> None:
        """Have the keys at hand that `publish` needs, before a transaction is open: a cold key must not hold a connection.

        Args:
            tenant: whom the event will be about.
            operator: whether it may go to the operator too; a ping does not.

        Raises:
            KeyServiceUnavailable: they cannot be had.
        """
        day = self._clock.now().date()
        for each in (tenant, PLATFORM) if operator else (tenant,):
            if self._vault.cached_payload_key(each, day) is None:
                await self._vault.payload_key(each, day)

    async def prepare(self, tenant: TenantId, event_type: str) -> None:
        """Do for `announce` what `warm` does for `publish`, where somebody asked for the event; keys that cannot be had are left."""
        day = self._clock.now().date()
        for each in (tenant, PLATFORM):
            async with self._database.transaction(each) as conn:
                wanted = bool(await conn.fetch(SQL["operational_recipients"], each, patterns_for(event_type, each)))
            if wanted and self._vault.cached_payload_key(each, day) is None:
                with suppress(KeyServiceUnavailable, Unsealable):
                    await self._vault.payload_key(each, day)

    async def announce(self, conn: Executor, tenant: TenantId, event_type: str, data: Mapping[str, Json]) -> None:
        """Publish for what must not wait for it: pausing and disconnecting work while the key service is away, and nobody is told."""
        try:
            await self.publish(conn, tenant, event_type, data)
        except (KeyServiceUnavailable, Unsealable) as error:
            _log.error("operational_event_lost", tenant_id=tenant, event_type=event_type, error=error.code)

    async def publish(
        self, conn: Executor, tenant: TenantId, event_type: str, data: Mapping[str, Json], *, cause: str | None = None
    ) -> int:
        """Write an operational event in the caller's transaction, which is in `tenant` before and after.

        It goes to the connections of the tenant that name it (`customhouse.connection.disabled`, `customhouse.*`; `*` does not), and
        to the operator's own connections, in the tenant `_platform`, where nothing else is published and `*` covers it too.

        Args:
            conn: the open transaction.
            tenant: whom it is about.
            event_type: one of `KINDS`.
            data: its members; `tenant_id` is added.
            cause: the type of the event that led to this, if one did: an operational event never leads to another.

        Returns:
            How many deliveries were made; 0 where nobody asked for it, and nothing was written.

        Raises:
            ValueError: the type or a member is not declared: a mistake of the code, never of an input.
            KeyServiceUnavailable: it cannot be sealed; the caller's transaction has to end without what it would have told.
        """
        _check(event_type, data)
        if cause is not None and cause.startswith(OPERATIONAL):
            return 0
        return await self._tell_both(conn, tenant, event_type, [{"tenant_id": tenant, **data}])

    async def publish_each(self, conn: Executor, tenant: TenantId, event_type: str, many: Sequence[Mapping[str, Json]]) -> int:
        """Do what `publish` does for several events of one type that no operational event led to; raises as it does."""
        for data in many:
            _check(event_type, data)
        return await self._tell_both(conn, tenant, event_type, [{"tenant_id": tenant, **data} for data in many])

    async def _tell_both(self, conn: Executor, tenant: TenantId, event_type: str, many: Sequence[JsonObject]) -> int:
        made = await self._tell(conn, tenant, event_type, many)
        if tenant != PLATFORM:
            await enter(conn, PLATFORM)
            try:
                made += await self._tell(conn, PLATFORM, event_type, many)
            except (KeyServiceUnavailable, Unsealable):
                await enter(conn, tenant)
                raise
            await enter(conn, tenant)
        return made

    async def ping(self, conn: Executor, tenant: TenantId, connection_id: UUID, delivery_id: UUID, correlation_id: str | None) -> None:
        """Write a test event for one connection, whatever it subscribed to, with this delivery.

        Raises:
            KeyServiceUnavailable: it cannot be sealed.
        """
        told: JsonObject = {"tenant_id": tenant, "connection_id": ids.show("con", connection_id)}
        await self._write(conn, tenant, PING, told, {delivery_id: connection_id}, correlation_id or _NO_CALL)

    async def _tell(self, conn: Executor, tenant: TenantId, event_type: str, many: Sequence[JsonObject]) -> int:
        rows = await conn.fetch(SQL["operational_recipients"], tenant, patterns_for(event_type, tenant))
        if rows:
            for data in many:
                await self._write(conn, tenant, event_type, data, {ids.new(): row["connection_id"] for row in rows}, _NO_CALL)
        return len(rows) * len(many)

    async def _write(
        self,
        conn: Executor,
        tenant: TenantId,
        event_type: str,
        data: JsonObject,
        deliveries: Mapping[UUID, UUID],
        correlation_id: str,
    ) -> None:
        now = self._clock.now()
        key = self._vault.cached_payload_key(tenant, now.date()) or await self._vault.payload_key(tenant, now.date())
        policy = await policies.latest(conn, tenant)
        event_uid = ids.new()
        event_id = ids.show("evt", event_uid)
        privacy: JsonObject = {"contains_pii": False, "pii_fields": [], "removed_fields": [], "policy": f"tenant:{policy.version}"}
        variant = envelope.build(
            event_id=event_id,
            event_type=event_type,
            occurred_at=now,
            tenant=tenant,
            idempotency_key=event_id,
            correlation_id=correlation_id,
            privacy=privacy,
            data=data,
        )
        listed: list[Json] = [privacy]
        await conn.execute(
            SQL["write_operational"],
            tenant,
            event_uid,
            event_type,
            now,
            correlation_id,
            len(dump(data)),
            dump(listed).decode(),
            seal(key, payload_place(self._vault.environment, tenant, event_uid, 0), variant),
            list(deliveries),
            list(deliveries.values()),
            policy.version,
            DELIVERY_LIFE.total_seconds(),
        )


def patterns_for(event_type: str, tenant: TenantId) -> list[str]:
    """Return every subscription that covers an operational event: its name, each `prefix.*`, and at the operator's `*`."""
    words = event_type.split(".")
    found = [event_type, *(".".join(words[:count]) + ".*" for count in range(1, len(words)))]
    return [*found, "*"] if tenant == PLATFORM else found


def reference() -> str:
    """Return the table of `docs/reference/operational-events.md`."""
    rows = ["| event type | says | data |", "| --- | --- | --- |"]
    for name, kind in sorted(KINDS.items()):
        members = ", ".join(f"`{member}`" for member in sorted(kind.members | {"tenant_id"}))
        rows.append(f"| `{name}` | {kind.sentence} | {members} |")
    return "\n".join(rows) + "\n"


def _check(event_type: str, data: Mapping[str, Json]) -> None:
    kind = KINDS.get(event_type)
    if kind is None or event_type == PING or not data.keys() <= kind.members:
        raise ValueError(f"{event_type} is no operational event, or does not declare {sorted(data)}")
