"""From a request to rows: schema, policy, envelope, seal. Pure, and all of it before the request joins a group."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from customhouse import ids
from customhouse.canonical import write
from customhouse.crypto.envelope import RecordKey, seal
from customhouse.crypto.mac import mac
from customhouse.errors import Fault, Invalid, PolicyViolation
from customhouse.outbound import envelope
from customhouse.outbound.requests import EventRequest
from customhouse.outbound.roster import HELD, SENDABLE, Endpoint, Roster
from customhouse.outbound.sealed import payload_place
from customhouse.privacy.declaration import Declaration
from customhouse.privacy.inspect import Inspected, inspect
from customhouse.privacy.policy import Policy
from customhouse.types import Json, JsonObject, TenantId

KEY_PURPOSE: Final = "event_keys"


@dataclass(frozen=True, slots=True)
class Planned:
    """One delivery to be."""

    delivery_id: UUID
    endpoint: Endpoint
    variant: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """An event ready to be written: what personal data may not leave is gone, and the rest is sealed."""

    tenant_id: TenantId
    version: int
    platform_version: int
    policy_version: int
    event_uid: UUID
    given_id: str | None
    event_id: str
    """The id that the world sees."""
    event_type: str
    occurred_at: datetime
    correlation_id: str
    size_bytes: int
    privacy: tuple[JsonObject, ...]
    privacy_text: str
    keys: tuple[tuple[bytes, bytes], ...]
    variants: tuple[bytes, ...]
    sealed: tuple[bytes, ...]
    planned: tuple[Planned, ...]
    removed: int
    ordering_key: bytes | None
    """Keyed hash of the host's ordering key: the events that have it are delivered one after the other, to each connection."""


def prepare(
    request: EventRequest,
    roster: Roster,
    *,
    payload_key: RecordKey,
    mac_key: RecordKey,
    environment: str,
    now: datetime,
    request_id: str,
    size_bytes: int,
) -> Prepared:
    """Check, strip, build and seal one event.

    Args:
        request: what the host asked for.
        roster: the tenant at one version.
        payload_key: today's payload key of the tenant.
        mac_key: the tenant's key for idempotency keys and given ids.
        environment: bound into the seal.
        now: the moment of acceptance.
        request_id: stands in for a missing correlation id.
        size_bytes: bytes of the request.

    Raises:
        Invalid: the data does not fit its schema, or a named connection is none of the tenant's.
        PolicyViolation: the policy refuses personal data in the event.
    """
    checker = roster.checker(request.event_type)
    checker.check(request.data)
    endpoints = _endpoints(request, roster)
    event_uid = ids.new()
    event_id = request.event_id or ids.show("evt", event_uid)
    occurred_at = request.occurred_at or now
    correlation_id = request.correlation_id or request_id
    idempotency_key = request.idempotency_key or event_id

    numbers: dict[Policy, int] = {}
    inspections: list[Inspected] = []
    privacy: list[JsonObject] = []
    variants: list[bytes] = []
    planned: list[Planned] = []
    for endpoint in endpoints:
        number = numbers.get(endpoint.policy)
        if number is None:
            number = numbers[endpoint.policy] = len(variants)
            inspected = _inspected(request, endpoint.policy, checker.declaration)
            inspections.append(inspected)
            privacy.append(envelope.privacy_of(inspected, endpoint.policy.version_label))
            variants.append(
                envelope.build(
                    event_id=event_id,
                    event_type=request.event_type,
                    occurred_at=occurred_at,
                    tenant=roster.tenant_id,
                    idempotency_key=idempotency_key,
                    correlation_id=correlation_id,
                    privacy=privacy[-1],
                    data=inspected.data,
                )
            )
        planned.append(Planned(ids.new(), endpoint, number))
    return Prepared(
        roster.tenant_id,
        roster.version,
        roster.platform_version,
        roster.policy.version,
        event_uid,
        request.event_id,
        event_id,
        request.event_type,
        occurred_at,
        correlation_id,
        size_bytes,
        tuple(privacy),
        write(list[Json](privacy)).decode(),
        _keys(request, mac_key),
        tuple(variants),
        tuple(
            seal(payload_key, payload_place(environment, roster.tenant_id, event_uid, number), variant)
            for number, variant in enumerate(variants)
        ),
        tuple(planned),
        sum(len(inspected.removed_fields) for inspected in inspections),
        None if request.ordering_key is None else mac(mac_key, KEY_PURPOSE, b"ordering_key", request.ordering_key.encode()),
    )


def _inspected(request: EventRequest, policy: Policy, declaration: Declaration) -> Inspected:
    try:
        return inspect(request.data, policy, declaration)
    except PolicyViolation as violation:
        # The inspection sees the data; whoever sent it looks for the place in the request.
        raise PolicyViolation(faults=tuple(Fault(f"/data{fault.pointer}", fault.detail) for fault in violation.faults)) from None


def _endpoints(request: EventRequest, roster: Roster) -> tuple[Endpoint, ...]:
    if request.connection_ids is None:
        return roster.subscribed(request.event_type)
    faults = tuple(
        Fault(f"/connection_ids/{place}", "is no webhook connection of this tenant that events can be sent to")
        for place, connection_id in enumerate(request.connection_ids)
        if (endpoint := roster.endpoints.get(connection_id)) is None or endpoint.status not in SENDABLE | HELD
    )
    if faults:
        raise Invalid("The event is not acceptable.", faults)
    wanted = set(request.connection_ids)
    return tuple(endpoint for endpoint in roster.subscribed(request.event_type) if endpoint.connection_id in wanted)


def _keys(request: EventRequest, mac_key: RecordKey) -> tuple[tuple[bytes, bytes], ...]:
    """Return (hash, body digest) of what makes the request unique: the idempotency key, by default the given id, and the given id."""
    key = request.idempotency_key or request.event_id
    if key is None:
        return ()
    digest = mac(mac_key, KEY_PURPOSE, b"body", request.digest_form())
    found = [(mac(mac_key, KEY_PURPOSE, b"key", key.encode()), digest)]
    if request.event_id is not None:
        found.append((mac(mac_key, KEY_PURPOSE, b"event_id", request.event_id.encode()), digest))
    return tuple(found)
