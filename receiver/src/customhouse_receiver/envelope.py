"""Reads the envelope, the data contract, from a body whose signature is genuine. Unknown fields are kept and ignored."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection
from typing import Any, Final, NoReturn, Optional

from customhouse_receiver.errors import Reason, WebhookRejected

_EVENT_ID: Final = re.compile(r"[A-Za-z0-9_:-]{1,64}")
# No colon: it ends the connection id in the replay key, so two pairs of ids can never make the same key.
_CONNECTION_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_LONGEST_LABEL: Final = 256
_LONGEST_NUMBER: Final = 400
_LABELS: Final = ("event_type", "tenant_id", "occurred_at", "idempotency_key")


def parse(body: bytes, accepted_versions: Collection[str], message_id: Optional[str] = None) -> dict[str, Any]:
    """Return the envelope.

    Args:
        body: UTF-8 JSON.
        accepted_versions: the `schema_version`s that the receiver understands.
        message_id: what `event_id` must be, where a header signed it.

    Raises:
        WebhookRejected: `envelope_malformed`, or `schema_version_unknown` where the version is not among the accepted ones.
    """
    try:
        envelope = _DECODER.decode(body.decode("utf-8"))
    except (ValueError, RecursionError):  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise WebhookRejected(Reason.ENVELOPE_MALFORMED, "the body is not strict JSON") from None
    if type(envelope) is not dict:
        raise _malformed("the body is no JSON object")
    version = envelope.get("schema_version")
    if not isinstance(version, str):
        raise _malformed("schema_version is missing")
    if version not in accepted_versions:
        raise WebhookRejected(Reason.SCHEMA_VERSION_UNKNOWN)
    _check(envelope)
    if message_id is not None and envelope["event_id"] != message_id:
        raise _malformed("event_id is not the id that was signed in the header")
    return envelope


def _check(envelope: dict[str, Any]) -> None:
    event_id = envelope.get("event_id")
    if not isinstance(event_id, str) or not _EVENT_ID.fullmatch(event_id):
        raise _malformed("event_id is missing or not of the agreed form")
    integration = envelope.get("integration")
    connection_id = integration.get("connection_id") if isinstance(integration, dict) else None
    if not isinstance(connection_id, str) or not _CONNECTION_ID.fullmatch(connection_id):
        raise _malformed("integration.connection_id is missing or not of the agreed form")
    for name in _LABELS:
        value = envelope.get(name)
        # Printable: neither control characters nor lone surrogates, so that these may be logged and stored as they are.
        if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_LABEL or not value.isprintable():
            raise _malformed(f"{name} is missing or not printable text")
    if not isinstance(envelope.get("data"), dict):
        raise _malformed("data is no object")


def _malformed(detail: str) -> WebhookRejected:
    return WebhookRejected(Reason.ENVELOPE_MALFORMED, detail)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Two readers may take different ones of two values with one name.
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ValueError("a name occurs twice in one object")
    return names


def _integer(text: str) -> int:
    # Reading an integer costs the square of its length.
    if len(text) > _LONGEST_NUMBER:
        raise ValueError("a number is too long")
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_number, parse_constant=_constant)
