"""Privacy policies: what personal data may leave, per tenant and, narrower, per connection. Versions are kept for ever."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast
from uuid import UUID

from customhouse import ids
from customhouse.audit import log, tags
from customhouse.audit.log import Origin
from customhouse.canonical import dump, parse_object
from customhouse.clock import Clock
from customhouse.db import Database, Executor, Row
from customhouse.errors import Fault, Invalid, NotFound
from customhouse.privacy.policy import DEFAULT_ALLOWED, OnViolation, Policy
from customhouse.tenants.sql import SQL
from customhouse.types import PLATFORM, Json, TenantId

_FIELD: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_MOST_FIELDS: Final = 100
_MOST_CONNECTIONS: Final = 1000


@dataclass(frozen=True, slots=True)
class TenantPolicy:
    """One version of a tenant's policy; version 0 is the default that holds before the first one is set."""

    version: int
    allowed_fields: frozenset[str]
    connections: Mapping[UUID, frozenset[str]]
    on_violation: OnViolation

    def effective(self, connection_id: UUID) -> Policy:
        """Return what holds for one connection: tenant ∩ connection, never wider."""
        whole = Policy(f"tenant:{self.version}", self.allowed_fields, self.on_violation)
        own = self.connections.get(connection_id)
        return whole if own is None else whole.narrowed_by(own, f"tenant:{self.version}/connection")


DEFAULT: Final = TenantPolicy(0, DEFAULT_ALLOWED, {}, OnViolation.REMOVE)


class Policies:
    """Reads and replaces policies."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Take the parts that it stands on."""
        self._database = database
        self._clock = clock

    async def get(self, tenant: TenantId) -> TenantPolicy:
        """Return the policy in force.

        Raises:
            NotFound: no such tenant.
        """
        if tenant == PLATFORM:
            raise NotFound
        async with self._database.transaction(tenant) as conn:
            if await conn.fetchrow(SQL["get_tenant"], tenant) is None:
                raise NotFound
            return await latest(conn, tenant)

    async def put(
        self, tenant: TenantId, allowed_fields: Sequence[str], connections: Mapping[str, Sequence[str]], on_violation: str, origin: Origin
    ) -> TenantPolicy:
        """Replace the policy; what is accepted from now on is judged by the new version.

        Raises:
            Invalid: a field name or `on_violation` is not acceptable, or a connection is none of the tenant's.
            NotFound: no such tenant.
        """
        if tenant == PLATFORM:
            raise NotFound
        wanted = _checked(allowed_fields, connections, on_violation)
        async with self._database.transaction(tenant) as conn:
            if await conn.fetchval(SQL["lock_tenant"], tenant) is None:
                raise NotFound
            await _refuse_unknown(conn, tenant, wanted)
            version = (await latest(conn, tenant)).version + 1
            narrower: dict[str, Json] = {ids.show("con", key): list[Json](sorted(fields)) for key, fields in wanted.connections.items()}
            fields = sorted(wanted.allowed_fields)
            await conn.fetchval(SQL["insert_policy"], tenant, version, fields, dump(narrower).decode(), wanted.on_violation.value)
            await log.append(
                conn,
                self._clock,
                tenant,
                origin,
                tags.POLICY_CHANGED,
                subject=f"tenant:{version}",
                detail={
                    "version": version,
                    "allowed_fields": list[Json](fields),
                    "connections": list[Json](sorted(narrower)),
                    "on_violation": wanted.on_violation.value,
                },
            )
        return TenantPolicy(version, wanted.allowed_fields, wanted.connections, wanted.on_violation)


async def latest(conn: Executor, tenant: TenantId) -> TenantPolicy:
    """Return the policy in force, in the caller's transaction."""
    row = await conn.fetchrow(SQL["latest_policy"], tenant)
    return DEFAULT if row is None else _policy_of(row)


async def at_version(conn: Executor, tenant: TenantId, version: int) -> TenantPolicy:
    """Return the policy that was in force as `version`; an unknown one allows nothing."""
    if version == 0:
        return DEFAULT
    row = await conn.fetchrow(SQL["policy_at"], tenant, version)
    return TenantPolicy(version, frozenset(), {}, OnViolation.REMOVE) if row is None else _policy_of(row)


async def _refuse_unknown(conn: Executor, tenant: TenantId, wanted: TenantPolicy) -> None:
    """Refuse connections that the tenant does not have: a narrower list for one that was misspelt would narrow nothing."""
    known = {row["connection_id"] for row in await conn.fetch(SQL["known_connections"], tenant, list(wanted.connections))}
    faults = tuple(
        Fault(f"/connections/{ids.show('con', key)}", "is no connection of this tenant") for key in wanted.connections if key not in known
    )
    if faults:
        raise Invalid("The privacy policy is not acceptable.", faults)


def _checked(allowed_fields: Sequence[str], connections: Mapping[str, Sequence[str]], on_violation: str) -> TenantPolicy:
    faults = [Fault(f"/allowed_fields/{place}", "is not a field name (a-z, 0-9, _)") for place, name in _bad(allowed_fields)]
    if len(allowed_fields) > _MOST_FIELDS or len(connections) > _MOST_CONNECTIONS:
        faults.append(Fault("", f"at most {_MOST_FIELDS} fields and {_MOST_CONNECTIONS} connections"))
    narrower: dict[UUID, frozenset[str]] = {}
    for place, (name, fields) in enumerate(connections.items()):
        try:
            narrower[ids.parse("con", name)] = frozenset(fields)
        except NotFound:
            faults.append(Fault("/connections", f"key {place} is not a connection id"))
            continue
        faults += [Fault(f"/connections/{name}/{index}", "is not a field name (a-z, 0-9, _)") for index, _ in _bad(fields)]
    if on_violation not in {member.value for member in OnViolation}:
        faults.append(Fault("/on_violation", "is not one of remove, refuse"))
    if faults:
        raise Invalid("The privacy policy is not acceptable.", tuple(faults))
    return TenantPolicy(-1, frozenset(allowed_fields), narrower, OnViolation(on_violation))


def _bad(names: Sequence[str]) -> list[tuple[int, str]]:
    return [(place, name) for place, name in enumerate(names) if not _FIELD.fullmatch(name)]


def _policy_of(row: Row) -> TenantPolicy:
    narrower = cast("dict[str, list[str]]", parse_object(row["connections"].encode()))
    return TenantPolicy(
        row["version"],
        frozenset(row["allowed_fields"]),
        {ids.parse("con", key): frozenset(fields) for key, fields in narrower.items()},
        OnViolation(row["on_violation"]),
    )
