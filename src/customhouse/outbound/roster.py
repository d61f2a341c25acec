"""What a tenant has at one version: its endpoints ready to be sent to, its policy, its event types. Held in memory until it changes."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import UUID

from customhouse import ids
from customhouse.clock import Clock
from customhouse.crypto.envelope import open_sealed
from customhouse.crypto.signatures import Profile, Signer
from customhouse.db import Database, Row, queries
from customhouse.egress.targets import Target, parse_target
from customhouse.errors import EgressRefused, Invalid, NotFound, Unsealable, Unsignable
from customhouse.logs import get
from customhouse.outbound.envelope import integration_of
from customhouse.outbound.sealed import MAC_PURPOSE, Sealed, secret_place
from customhouse.outbound.signing import Term, timed_signer, with_headers
from customhouse.outbound.throttle import Rate
from customhouse.outbound.wishes import header_faults
from customhouse.privacy.policy import Policy
from customhouse.tenants import policies
from customhouse.tenants.event_types import NOTHING_DECLARED, OPERATIONAL, Checker, EventType, event_type_of
from customhouse.tenants.policies import TenantPolicy
from customhouse.types import PLATFORM, Secret, TenantId
from customhouse.vault.vault import Vault

SQL: Final = queries(__package__)
_log: Final = get("customhouse.outbound.roster")
SENDABLE: Final = frozenset({"active", "degraded"})
HELD: Final = frozenset({"paused"})
_MOST_TENANTS: Final = 5_000
_MOST_ROUTES: Final = 1_000
_UNHEARD_SECONDS: Final = 1.0
"""How long a roster may be used while changes are not heard (the LISTEN connection is down)."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A webhook connection, opened and checked."""

    tenant_id: TenantId
    connection_id: UUID
    shown_id: str
    status: str
    patterns: tuple[str, ...]
    target: Target
    signer: Signer
    integration: bytes
    policy: Policy
    retry_schedule: tuple[int, ...] | None = None
    rate: Rate | None = None

    def wants(self, event_type: str) -> bool:
        """Tell whether the subscription covers an event type: `*`, an exact name, or `prefix.*`; `*` leaves out our own events."""
        for pattern in self.patterns:
            if pattern == "*":
                if not event_type.startswith(OPERATIONAL):
                    return True
            elif pattern == event_type or (pattern.endswith(".*") and event_type.startswith(pattern[:-1])):
                return True
        return False


@dataclass(slots=True)
class Roster:
    """A tenant at one version."""

    tenant_id: TenantId
    version: int
    platform_version: int
    endpoints: dict[UUID, Endpoint]
    policy: TenantPolicy
    checkers: dict[str, Checker]
    loaded_at: float
    _routes: dict[str, tuple[Endpoint, ...]] = field(default_factory=dict)

    def subscribed(self, event_type: str) -> tuple[Endpoint, ...]:
        """Return the endpoints that get an event type; paused ones too: theirs is held."""
        found = self._routes.get(event_type)
        if found is None:
            found = tuple(
                endpoint for endpoint in self.endpoints.values() if endpoint.status in SENDABLE | HELD and endpoint.wants(event_type)
            )
            if len(self._routes) >= _MOST_ROUTES:
                self._routes.clear()
            self._routes[event_type] = found
        return found

    def checker(self, event_type: str) -> Checker:
        """Return the declaration of an event type; an undeclared one declares nothing."""
        return self.checkers.get(event_type, NOTHING_DECLARED)


class Rosters:
    """Loads rosters once, however many ask, and drops them when their tenant changes."""

    def __init__(
        self, database: Database, vault: Vault, clock: Clock, *, https_required: bool, environment: str, header_prefix: str
    ) -> None:
        """Take the parts that it stands on."""
        self._database = database
        self._vault = vault
        self._clock = clock
        self._https_required = https_required
        self._environment = environment
        self._header_prefix = header_prefix
        self._held: OrderedDict[TenantId, Roster] = OrderedDict()
        self._loading: dict[TenantId, asyncio.Task[Roster]] = {}
        self._generation = 0
        self._hearing = False

    def hearing(self, *, hears: bool) -> None:
        """Take note whether changes are heard; what was held before is not trusted after a gap."""
        self._hearing = hears
        self.forget()

    def forget(self, tenant: TenantId | None = None) -> None:
        """Drop what is held of a tenant; of all when it is the operator's or none is named."""
        self._generation += 1
        if tenant is None or tenant == PLATFORM:
            self._held.clear()
            self._loading.clear()
        else:
            self._held.pop(tenant, None)
            self._loading.pop(tenant, None)

    def held(self, tenant: TenantId) -> Roster | None:
        """Return the roster if it is at hand: the hot path."""
        roster = self._held.get(tenant)
        if roster is None or (not self._hearing and self._clock.monotonic() - roster.loaded_at > _UNHEARD_SECONDS):
            return None
        return roster

    async def get(self, tenant: TenantId) -> Roster:
        """Return the roster of a tenant.

        Raises:
            NotFound: no such active tenant.
            KeyServiceUnavailable: its keys cannot be had.
            DatabaseUnavailable: it cannot be read.
        """
        held = self.held(tenant)
        if held is not None:
            return held
        task = self._loading.get(tenant)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._load(tenant, self._generation))
            self._loading[tenant] = task
            task.add_done_callback(lambda done: self._loaded(tenant, done))
        return await asyncio.shield(task)

    def _loaded(self, tenant: TenantId, task: asyncio.Task[Roster]) -> None:
        if self._loading.get(tenant) is task:
            del self._loading[tenant]
        if not task.cancelled():
            task.exception()

    async def _load(self, tenant: TenantId, generation: int) -> Roster:
        loaded_at = self._clock.monotonic()
        async with self._database.transaction(tenant) as conn:
            head = await conn.fetchrow(SQL["roster_head"], tenant)
            if head is None:
                raise NotFound
            policy = await policies.latest(conn, tenant)
            types = [event_type_of(row) for row in await conn.fetch(SQL["roster_event_types"])]
            rows = await conn.fetch(SQL["roster_connections"], tenant)
            secrets: dict[UUID, list[Row]] = {}
            for row in await conn.fetch(SQL["roster_secrets"], tenant):
                secrets.setdefault(row["connection_id"], []).append(row)
        endpoints = {}
        for row in rows:
            endpoint = await self._open(tenant, row, secrets.get(row["connection_id"], []), policy)
            if endpoint is not None:
                endpoints[endpoint.connection_id] = endpoint
        roster = Roster(
            tenant,
            head["version"],
            head["platform_version"],
            endpoints,
            policy,
            _checkers(types),
            loaded_at,
        )
        if generation == self._generation:
            self._held[tenant] = roster
            self._held.move_to_end(tenant)
            if len(self._held) > _MOST_TENANTS:
                self._held.popitem(last=False)
        return roster

    async def _open(self, tenant: TenantId, row: Row, secrets: list[Row], policy: TenantPolicy) -> Endpoint | None:
        """Open one connection; None for a row that does not hold what our MAC says: it was edited by hand, and does nothing."""
        connection_id: UUID = row["connection_id"]
        try:
            key = await self._vault.connection_key(tenant, connection_id)
            sealed = Sealed(self._environment, tenant, connection_id, key)
            url, headers, chain = sealed.url(row), sealed.headers(row), sealed.chain(row)
            if header_faults(headers, self._header_prefix):
                # The operator chose another prefix since: a custom header of that name would stand beside the signature.
                raise Unsignable  # noqa: TRY301 - one exit for every row that cannot be sent from
            sealed.verify(await self._vault.mac_key(tenant, MAC_PURPOSE), row, url, headers, chain)
            terms = [Term(one["key_id"], one["state"], one["activates_at"], one["valid_until"]) for one in secrets]
            opened = {
                term.key_id: Secret(open_sealed(key, secret_place(self._environment, tenant, connection_id, term.key_id), one["sealed"]))
                for term, one in zip(terms, secrets, strict=True)
            }
            shown = ids.show("con", connection_id)
            target = parse_target(url, https_required=self._https_required)
            return Endpoint(
                tenant,
                connection_id,
                shown,
                row["status"],
                tuple(row["event_types"]),
                target if chain is None else replace(target, identity=sealed.identity(row, chain)),
                with_headers(timed_signer(Profile(row["signature_profile"]), terms, opened, self._header_prefix), headers),
                integration_of(shown, row["provider"]),
                policy.effective(connection_id),
                None if row["retry_schedule"] is None else tuple(row["retry_schedule"]),
                None if row["rate_per_second"] is None else Rate(row["rate_per_second"], row["rate_burst"]),
            )
        except (Unsealable, Unsignable, Invalid, EgressRefused) as error:
            _log.error("connection_unusable", tenant_id=tenant, connection_id=ids.show("con", connection_id), error=type(error).__name__)
            return None


def _checkers(types: list[EventType]) -> dict[str, Checker]:
    """Make event types ready. Where operator and tenant declare the same name, the operator's schema holds, and both declarations
    of personal data: neither can take back what the other declared.
    """
    operators = {one.event_type: one for one in types if one.tenant_id == PLATFORM}
    own = {one.event_type: one for one in types if one.tenant_id != PLATFORM}
    made = {}
    for name in operators.keys() | own.keys():
        declared = operators.get(name) or own[name]
        pii = dict(own[name].pii) if name in own else {}
        made[name] = Checker(declared.schema, pii | dict(declared.pii))
    return made
