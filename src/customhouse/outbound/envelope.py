"""The envelope, data contract v1 (design §4): built once at accept, byte-identical on every attempt. Pure."""

from __future__ import annotations

import struct
from datetime import datetime
from typing import Final

from customhouse.canonical import dump, write
from customhouse.clock import rfc3339
from customhouse.privacy.inspect import Inspected
from customhouse.types import Json, JsonObject, TenantId

SCHEMA_VERSION: Final = "1.0"
_HEAD_LENGTH: Final = struct.Struct(">I")

JSON_SCHEMA: Final[JsonObject] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Customhouse event envelope",
    "description": "Receivers ignore members that they do not know, and refuse a schema_version that they do not know.",
    "type": "object",
    "required": [
        "schema_version",
        "event_id",
        "event_type",
        "occurred_at",
        "tenant_id",
        "idempotency_key",
        "integration",
        "trace",
        "privacy",
        "data",
    ],
    "properties": {
        "schema_version": {"const": SCHEMA_VERSION},
        "event_id": {"type": "string", "pattern": "^[A-Za-z0-9_:-]{1,64}$", "description": "the same on every attempt: the replay key"},
        "event_type": {"type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,128}$"},
        "occurred_at": {"type": "string", "format": "date-time"},
        "tenant_id": {"type": "string"},
        "idempotency_key": {"type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,128}$"},
        "integration": {
            "type": "object",
            "required": ["connection_id", "provider"],
            "properties": {"connection_id": {"type": "string"}, "provider": {"type": "string"}},
        },
        "trace": {"type": "object", "required": ["correlation_id"], "properties": {"correlation_id": {"type": "string"}}},
        "privacy": {
            "type": "object",
            "required": ["contains_pii", "pii_fields", "removed_fields", "policy"],
            "description": "names fields, never values: safe to log",
            "properties": {
                "contains_pii": {"type": "boolean"},
                "pii_fields": {"type": "array", "items": {"type": "string"}},
                "removed_fields": {"type": "array", "items": {"type": "string"}},
                "policy": {"type": "string"},
            },
        },
        "data": {"type": "object"},
    },
}
"""Published at `/v1/schemas/envelope`."""


def privacy_of(inspected: Inspected, policy: str) -> JsonObject:
    """Return the `privacy` member of one variant."""
    pii: list[Json] = list(inspected.pii_fields)
    removed: list[Json] = list(inspected.removed_fields)
    return {"contains_pii": inspected.contains_pii, "pii_fields": pii, "removed_fields": removed, "policy": policy}


def build(
    *,
    event_id: str,
    event_type: str,
    occurred_at: datetime,
    tenant: TenantId,
    idempotency_key: str,
    correlation_id: str,
    privacy: JsonObject,
    data: JsonObject,
) -> bytes:
    """Return a variant: everything of the envelope but `integration`, whose place is kept. This is what is sealed and stored."""
    head = write(
        {
            "schema_version": SCHEMA_VERSION,
            "event_id": event_id,
            "event_type": event_type,
            "occurred_at": rfc3339(occurred_at),
            "tenant_id": tenant,
            "idempotency_key": idempotency_key,
        }
    )
    tail = write({"trace": {"correlation_id": correlation_id}, "privacy": privacy, "data": data})
    return _HEAD_LENGTH.pack(len(head)) + head + tail


def assemble(variant: bytes, integration: bytes) -> bytes:
    """Return the body for one connection: the variant with `integration` (from `integration_of`) in its place."""
    (length,) = _HEAD_LENGTH.unpack_from(variant)
    cut = _HEAD_LENGTH.size + length
    return b"".join((variant[_HEAD_LENGTH.size : cut - 1], b',"integration":', integration, b",", variant[cut + 1 :]))


def integration_of(connection_id: str, provider: str) -> bytes:
    """Return the `integration` member of one connection, as JSON."""
    return dump({"connection_id": connection_id, "provider": provider})
