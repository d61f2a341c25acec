"""What the host asked to publish: read from JSON, checked, typed. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, cast
from uuid import UUID

from customhouse import ids
from customhouse.canonical import dump_sorted
from customhouse.errors import Fault, Invalid, NotFound
from customhouse.privacy.detectors import identifier_carries_pii
from customhouse.tenants.event_types import NAME, OPERATIONAL
from customhouse.types import Json, JsonObject

# Under an id that we gave to another event (`ids.show`), a receiver would take this one for that, and leave it.
_EVENT_ID: Final = re.compile(r"(?!evt_[0-7][0-9a-hjkmnp-tv-z]{25}\Z)[A-Za-z0-9_:-]{1,64}")
_KEY: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")
_MEMBERS: Final = frozenset(
    {"tenant_id", "event_type", "data", "event_id", "idempotency_key", "occurred_at", "correlation_id", "connection_ids", "ordering_key"}
)
_MOST_CONNECTIONS: Final = 1000
_KEPT_TYPES: Final = 1024
# Event types repeat endlessly; only those that were found in order are kept.
_sound_types: set[str] = set()


@dataclass(frozen=True, slots=True)
class EventRequest:
    """One event to publish. `digest_form` is equal for equal requests, whatever the order of members; it leaves the key out."""

    tenant_id: str | None
    event_type: str
    data: JsonObject
    event_id: str | None
    idempotency_key: str | None
    occurred_at: datetime | None
    correlation_id: str | None
    connection_ids: tuple[UUID, ...] | None
    ordering_key: str | None
    raw: Mapping[str, Json]

    def digest_form(self) -> bytes:
        """Return the bytes that tell whether a repeated call says the same."""
        return dump_sorted({name: value for name, value in self.raw.items() if name != "idempotency_key"})


def read(body: JsonObject, header_key: str | None = None, at: str = "") -> EventRequest:
    """Check one request.

    Args:
        body: strict JSON (`canonical.parse_object`).
        header_key: the `Idempotency-Key` header; it and the body's are one.
        at: the JSON pointer of this request, for faults.

    Raises:
        Invalid: with a fault for each wrong member; values are not repeated.
    """
    faults: list[Fault] = [Fault(f"{at}/", "has an unknown member")] if not body.keys() <= _MEMBERS else []

    def text(name: str, form: re.Pattern[str], words: str) -> str | None:
        value = body.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or not form.fullmatch(value):
            faults.append(Fault(f"{at}/{name}", words))
        elif identifier_carries_pii(value):
            faults.append(Fault(f"{at}/{name}", "looks like personal data; identifiers are stored and logged, use an opaque one"))
        else:
            return value
        return None

    tenant_id = body.get("tenant_id")
    if tenant_id is not None and not isinstance(tenant_id, str):
        faults.append(Fault(f"{at}/tenant_id", "is not a string"))
        tenant_id = None
    event_type = body.get("event_type")
    if not isinstance(event_type, str) or event_type not in _sound_types:
        event_type = text("event_type", NAME, "1–128 characters of A-Z a-z 0-9 _ . : -")
        _check_type(body.get("event_type"), event_type, f"{at}/event_type", faults)
    data = body.get("data")
    if not isinstance(data, dict):
        faults.append(Fault(f"{at}/data", "is required, a JSON object"))
    event_id = text("event_id", _EVENT_ID, "1–64 characters of A-Z a-z 0-9 _ : -, not of the form evt_… of the ids that are given here")
    key = text("idempotency_key", _KEY, "1–128 characters of A-Z a-z 0-9 _ . : -")
    if header_key is not None:
        if key is not None and key != header_key:
            faults.append(Fault(f"{at}/idempotency_key", "differs from the Idempotency-Key header; give one of them"))
        key = header_key
    correlation_id = text("correlation_id", _KEY, "1–128 characters of A-Z a-z 0-9 _ . : -")
    ordering_key = text("ordering_key", _KEY, "1–128 characters of A-Z a-z 0-9 _ . : -")
    occurred_at = _moment(body.get("occurred_at"), f"{at}/occurred_at", faults)
    connection_ids = _connections(body.get("connection_ids"), f"{at}/connection_ids", faults)
    if faults:
        raise Invalid("The event is not acceptable.", tuple(faults))
    return EventRequest(
        tenant_id,
        cast("str", event_type),
        cast("JsonObject", data),
        event_id,
        key,
        occurred_at,
        correlation_id,
        connection_ids,
        ordering_key,
        body,
    )


def check_key(text: str) -> str:
    """Check an `Idempotency-Key` header.

    Raises:
        Invalid: it is not of the form, or carries personal data.
    """
    if not _KEY.fullmatch(text) or identifier_carries_pii(text):
        raise Invalid(
            "The Idempotency-Key header is not acceptable.", (Fault("", "1–128 characters of A-Z a-z 0-9 _ . : -, no personal data"),)
        )
    return text


def _check_type(given: Json, event_type: str | None, pointer: str, faults: list[Fault]) -> None:
    if given is None:
        faults.append(Fault(pointer, "is required"))
    elif event_type is not None and event_type.startswith(OPERATIONAL):
        faults.append(Fault(pointer, "customhouse. is reserved for operational events"))
    elif event_type is not None:
        if len(_sound_types) >= _KEPT_TYPES:
            _sound_types.clear()
        _sound_types.add(event_type)


def _moment(value: Json, pointer: str, faults: list[Fault]) -> datetime | None:
    if value is None:
        return None
    if isinstance(value, str) and _MOMENT.fullmatch(value):
        try:
            moment = datetime.fromisoformat(value.upper())
            return moment.astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    faults.append(Fault(pointer, "is not an RFC 3339 time with an offset"))
    return None


def _connections(value: Json, pointer: str, faults: list[Fault]) -> tuple[UUID, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not 1 <= len(value) <= _MOST_CONNECTIONS:
        faults.append(Fault(pointer, f"is not a list of 1–{_MOST_CONNECTIONS} connection ids"))
        return None
    found = []
    for place, item in enumerate(value):
        try:
            found.append(ids.parse("con", item if isinstance(item, str) else ""))
        except NotFound:
            faults.append(Fault(f"{pointer}/{place}", "is not a connection id"))
    return tuple(dict.fromkeys(found))
