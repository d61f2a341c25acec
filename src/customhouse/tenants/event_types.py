"""Event types: their JSON Schema and the personal data that they declare; a tenant's own, or the operator's for everybody."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

import jsonschema_rs

from customhouse.audit import log, tags
from customhouse.audit.log import Origin
from customhouse.canonical import dump, parse_object
from customhouse.clock import Clock
from customhouse.db import Database, Row
from customhouse.errors import Conflict, Fault, Invalid, NotFound
from customhouse.privacy.declaration import declare
from customhouse.privacy.detectors import identifier_carries_pii
from customhouse.tenants.labels import label_faults
from customhouse.tenants.sql import SQL
from customhouse.types import PLATFORM, Json, JsonObject, TenantId

NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
OPERATIONAL: Final = "customhouse."
ENVELOPE: Final = "envelope"
"""What the envelope's schema is published as, and so no name for an event type."""
_MOST_FIELDS: Final = 200
_DESCRIPTION: Final = 2_000
_SCHEMA_BYTES: Final = 64 * 1024
_FAULTS_SHOWN: Final = 20
_PLAIN_SEGMENT: Final = re.compile(r"\d{1,6}")


@dataclass(frozen=True, slots=True)
class EventType:
    """One declared kind of event."""

    tenant_id: TenantId
    event_type: str
    description: str
    schema: JsonObject | None
    pii: Mapping[str, str]
    created_at: datetime
    updated_at: datetime


class Checker:
    """An event type made ready: validates data, and says what the privacy inspection has to know."""

    __slots__ = ("_validator", "declaration")

    def __init__(self, schema: JsonObject | None, pii: Mapping[str, str]) -> None:
        """Compile the schema.

        Raises:
            Invalid: it is not a JSON Schema, it refers to something outside itself, or a PII declaration is not acceptable.
        """
        self._validator = None if schema is None else _compile(schema)
        self.declaration = declare(pii, schema or {})

    def check(self, data: JsonObject) -> None:
        """Validate data.

        Raises:
            Invalid: it does not fit; the faults name places and keywords, never values.
        """
        if self._validator is None or self._validator.is_valid(data):
            return
        faults = []
        for error in self._validator.iter_errors(data):
            safe = "".join(
                f"/{segment if str(segment) in self.declaration.named_segments or _PLAIN_SEGMENT.fullmatch(str(segment)) else '*'}"
                for segment in error.instance_path
            )
            faults.append(Fault(f"/data{safe}", f"does not fit the schema at {_keyword_path(error.schema_path)}"))
            if len(faults) == _FAULTS_SHOWN:
                break
        raise Invalid("The data does not fit the schema of its event type.", tuple(faults))


NOTHING_DECLARED: Final = Checker(None, {})


class EventTypes:
    """Registers and lists event types."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Take the parts that it stands on."""
        self._database = database
        self._clock = clock

    async def register(
        self, tenant: TenantId, event_type: str, description: str, schema: JsonObject | None, pii: Mapping[str, str], origin: Origin
    ) -> EventType:
        """Declare an event type, or declare it anew; `tenant` is the operator's for a type that everybody shares.

        Raises:
            Invalid: the name, the description, the schema or a PII declaration is not acceptable.
            Conflict: the operator declared this type: a tenant cannot say otherwise.
            NotFound: no such tenant.
        """
        _check(event_type, description, schema, pii)
        Checker(schema, pii)
        async with self._database.transaction(tenant) as conn:
            if await conn.fetchrow(SQL["get_tenant"], tenant) is None:
                raise NotFound
            if tenant != PLATFORM and await conn.fetchrow(SQL["platform_event_type"], event_type) is not None:
                raise Conflict("The operator declared this event type for all tenants.")
            row = await conn.fetchrow(
                SQL["upsert_event_type"],
                tenant,
                event_type,
                description,
                None if schema is None else dump(schema).decode(),
                dump(dict(pii)).decode(),
            )
            await log.append(
                conn,
                self._clock,
                tenant,
                origin,
                tags.EVENT_TYPE_REGISTERED,
                subject=event_type,
                detail={"event_type": event_type, "pii_fields": list[Json](sorted(pii))},
            )
        made = cast("Row", row)
        return EventType(tenant, event_type, description, schema, pii, made["created_at"], made["updated_at"])

    async def get(self, tenant: TenantId, event_type: str) -> EventType:
        """Return the type that holds for a tenant under a name: the operator's before its own.

        Raises:
            NotFound: there is none of that name.
        """
        if not NAME.fullmatch(event_type):
            raise NotFound
        async with self._database.transaction(tenant) as conn:
            row = await conn.fetchrow(SQL["event_type"], event_type)
        if row is None:
            raise NotFound
        return event_type_of(row)

    async def list(self, tenant: TenantId, after: str | None, limit: int) -> list[EventType]:
        """Return the types that hold for a tenant, the operator's included, by name."""
        async with self._database.transaction(tenant) as conn:
            rows = await conn.fetch(SQL["event_types"], after, limit)
        return [event_type_of(row) for row in rows]


def event_type_of(row: Row) -> EventType:
    """Read a row of `event_types`."""
    return EventType(
        TenantId(row["tenant_id"]),
        row["event_type"],
        row["description"],
        None if row["schema"] is None else parse_object(row["schema"].encode()),
        cast("dict[str, str]", parse_object(row["pii"].encode())),
        row["created_at"],
        row["updated_at"],
    )


def _check(event_type: str, description: str, schema: JsonObject | None, pii: Mapping[str, str]) -> None:
    faults = [*label_faults(description, "/description", longest=_DESCRIPTION)]
    if not NAME.fullmatch(event_type):
        faults.append(Fault("/event_type", "1–128 characters of A-Z a-z 0-9 _ . : -"))
    elif event_type.startswith(OPERATIONAL):
        faults.append(Fault("/event_type", "customhouse. is reserved for operational events"))
    elif event_type == ENVELOPE:
        faults.append(Fault("/event_type", "is the name of the envelope's own schema"))
    elif identifier_carries_pii(event_type):
        faults.append(Fault("/event_type", "looks like personal data; event types are stored and logged"))
    # Declared names are printed, logged and written into the ledger: that is what declaring them is for.
    if any(identifier_carries_pii(name) for name in declare({}, schema or {}).named_segments):
        faults.append(Fault("/schema", "names a property by what looks like personal data"))
    faults += [
        Fault("/pii", f"member {number}: a name in the pointer looks like personal data")
        for number, pointer in enumerate(pii, 1)
        if any(identifier_carries_pii(segment) for segment in pointer.split("/"))
    ]
    if schema is not None and len(dump(schema)) > _SCHEMA_BYTES:
        faults.append(Fault("/schema", f"at most {_SCHEMA_BYTES} bytes"))
    if len(pii) > _MOST_FIELDS:
        faults.append(Fault("/pii", f"at most {_MOST_FIELDS} fields"))
    if faults:
        raise Invalid("The event type is not acceptable.", tuple(faults))


def _no_retrieval(_uri: str) -> Any:
    raise ValueError("a schema refers to nothing outside itself")


def _compile(schema: JsonObject) -> Any:
    try:
        return jsonschema_rs.Draft202012Validator(
            schema, retriever=_no_retrieval, validate_formats=True, pattern_options=jsonschema_rs.RegexOptions()
        )
    except (ValueError, TypeError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError):
        raise Invalid(
            "The schema is not acceptable.",
            (Fault("/schema", "is not a JSON Schema (2020-12) that stands by itself, with patterns of linear time"),),
        ) from None


def _keyword_path(path: list[str | int]) -> str:
    return "/" + "/".join(str(segment) for segment in path)
