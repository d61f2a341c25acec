"""Makes requests as the sender would, so that you can test your endpoint. For tests only: a receiver never signs."""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from customhouse_receiver.keys import SHARED, Mac
from customhouse_receiver.verify import QUEAST_V1, STANDARD_WEBHOOKS

SECRET: Final = "whsec_" + base64.b64encode(b"a secret for tests and only tests"[:32]).decode()
"""A secret that everybody knows."""


def envelope(**changes: Any) -> dict[str, Any]:
    """Return an envelope with every field that a sender sets, and your changes to the top level."""
    return {
        "schema_version": "1.0",
        "event_id": "evt_test",
        "event_type": "person.updated",
        "occurred_at": "2026-11-22T09:30:00Z",
        "tenant_id": "acme",
        "idempotency_key": "test",
        "integration": {"connection_id": "con_test", "provider": "webhook"},
        "trace": {"correlation_id": "test"},
        "privacy": {"contains_pii": False, "pii_fields": [], "removed_fields": [], "policy": "tenant:1"},
        "data": {"person": {"person_id": "p_1"}},
        **changes,
    }


def body(**changes: Any) -> bytes:
    """Return the bytes of `envelope(**changes)`."""
    return json.dumps(envelope(**changes), ensure_ascii=False, separators=(",", ":")).encode()


def headers(
    raw_body: bytes,
    timestamp: int,
    *,
    secret: str = SECRET,
    profile: str = QUEAST_V1,
    event_id: str = "evt_test",
    key_id: str = "key_1",
    header_prefix: str = "X-Queast",
) -> dict[str, str]:
    """Return the headers that sign this body at this time (unix seconds) with a `whsec_…` secret.

    Args:
        raw_body: the bytes to send.
        timestamp: unix seconds.
        secret: `whsec_…`, or any text for `queast-v1`.
        profile: `queast-v1` or `standard-webhooks`.
        event_id: of the envelope; signed by `standard-webhooks` only.
        key_id: named by `queast-v1` only.
        header_prefix: of `queast-v1`.

    Raises:
        ValueError: the profile is unknown, or the secret does not fit it.
    """
    if profile == QUEAST_V1:
        signature = Mac(secret.encode()).over(f"{timestamp}.".encode(), raw_body).hexdigest()
        return {
            f"{header_prefix}-Timestamp": str(timestamp),
            f"{header_prefix}-Signature": f"v1={signature}",
            f"{header_prefix}-Signature-Key-Id": key_id,
        }
    if profile != STANDARD_WEBHOOKS or not secret.startswith(SHARED):
        raise ValueError("this makes queast-v1, and standard-webhooks with a whsec_ secret")
    mac = Mac(base64.b64decode(secret[len(SHARED) :], validate=True))
    code = base64.b64encode(mac.over(f"{event_id}.{timestamp}.".encode(), raw_body).digest()).decode()
    return {"webhook-id": event_id, "webhook-timestamp": str(timestamp), "webhook-signature": f"v1,{code}"}
