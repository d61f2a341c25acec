"""The closed vocabulary of the ledger: what can be said, with which details. A tag is never reused or renamed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Tag:
    """One kind of entry. `fields` are the only details that it may carry: names, numbers and codes, never values of customers."""

    name: str
    number: int
    fields: frozenset[str]
    sentence: str


_REGISTERED: dict[str, Tag] = {}


def _tag(name: str, number: int, sentence: str, *fields: str) -> Tag:
    tag = Tag(name, number, frozenset(fields), sentence)
    if name in _REGISTERED or any(other.number == number for other in _REGISTERED.values()):
        raise ValueError(f"the audit tag {name} or its number {number} is taken")
    _REGISTERED[name] = tag
    return tag


TENANT_CREATED: Final = _tag("tenant.created", 1, "A tenant was created.")
API_KEY_CREATED: Final = _tag("api_key.created", 2, "An API key was created.", "scopes", "expires_at")
API_KEY_REVOKED: Final = _tag("api_key.revoked", 3, "An API key was revoked.")
CONNECTION_CREATED: Final = _tag(
    "connection.created",
    4,
    "A connection was created.",
    "provider",
    "host",
    "event_types",
    "signature_profile",
    "key_id",
    "certificate",
    "mode",
    "granted",
    "missing",
    "status",
)
CONNECTION_CHANGED: Final = _tag(
    "connection.changed", 5, "A connection was changed.", "changed", "host", "status", "event_types", "certificate"
)
CONNECTION_DISCONNECTED: Final = _tag(
    "connection.disconnected",
    6,
    "A connection was disconnected; its key and secrets were destroyed.",
    "deliveries_cancelled",
    "actions_cancelled",
    "provider",
    "reason",
    "operation_id",
)
EVENT_TYPE_REGISTERED: Final = _tag("event_type.registered", 7, "An event type was registered or changed.", "event_type", "pii_fields")
POLICY_CHANGED: Final = _tag(
    "privacy_policy.changed", 8, "The privacy policy was changed.", "version", "allowed_fields", "connections", "on_violation"
)
TENANT_KEY_CREATED: Final = _tag("tenant_key.created", 9, "A tenant key was created under the key service.", "key_id", "kms_key")
TENANT_KEY_UNWRAPPED: Final = _tag("tenant_key.unwrapped", 10, "A tenant key was unwrapped by the key service.", "key_id", "kms_key")
TENANT_KEY_DESTROYED: Final = _tag("tenant_key.destroyed", 11, "A tenant key was destroyed.", "key_id")
CONNECTION_KEY_DESTROYED: Final = _tag("connection_key.destroyed", 12, "A connection key was destroyed.", "key_id")
EVENT_REFUSED: Final = _tag("event.refused", 13, "An event was refused by the privacy policy.", "event_type", "fields")
DATA_KEY_CREATED: Final = _tag("data_key.created", 14, "A data key was created under a tenant key.", "key_id", "purpose")
SIGNING_KEY_ROTATED: Final = _tag(
    "signing_key.rotated", 15, "A signing key was made; it takes over at its time.", "activates_at", "previous_valid_until", "destroyed"
)
SIGNING_KEY_ACTIVATED: Final = _tag("signing_key.activated", 16, "A signing key took over from the one before it.")
SIGNING_KEY_DESTROYED: Final = _tag("signing_key.destroyed", 17, "The overlap of a signing key ended; it was destroyed.")
DELIVERY_RETRIED: Final = _tag("delivery.retried", 18, "A delivery that had ended was queued again on request.", "was", "forced")
CONNECTION_RECOVERED: Final = _tag(
    "connection.recovered", 19, "Deliveries that a connection had missed were queued again.", "deliveries", "was"
)
CONNECTION_TESTED: Final = _tag("connection.tested", 20, "A test event was sent to a connection.")
PAYLOAD_VIEWED: Final = _tag("payload.viewed", 21, "The body of a delivery was shown to somebody who said why.", "reason")
CONNECTION_DISABLED: Final = _tag(
    "connection.disabled", 22, "A connection was disabled: its endpoint is gone, or failed for too long.", "reason", "failing_since"
)
CERTIFICATE_EXPIRING: Final = _tag(
    "certificate.expiring", 23, "The client certificate of a connection is near its end, or past it.", "certificate_expires_at"
)
CONNECT_SESSION_CREATED: Final = _tag(
    "connect_session.created", 24, "A link to a consent page was made for a user.", "provider", "mode", "renews"
)
CONNECT_CONSENTED: Final = _tag(
    "connect_session.consented",
    25,
    "Whoever held the link read what is asked for and went on to the provider.",
    "provider",
    "mode",
    "requested",
    "manifest_version",
)
CONNECT_GRANTED: Final = _tag(
    "connect_session.granted",
    26,
    "The provider granted; the grant is sealed and waits for the host to confirm the user.",
    "provider",
    "mode",
    "granted",
    "missing",
)
CONNECT_REFUSED: Final = _tag(
    "connect_session.refused",
    27,
    "Nothing came of a connect session; what was granted in spite of that is revoked.",
    "provider",
    "reason",
    "wider",
    "forbidden",
)
CONNECTION_RENEWED: Final = _tag(
    "connection.renewed",
    28,
    "A connection got another grant by a new consent; it took the place of the one before.",
    "provider",
    "mode",
    "granted",
    "missing",
    "status",
)
CONNECTION_REAUTHORIZE: Final = _tag(
    "connection.reauthorization_required", 29, "A connection needs a new consent of its user.", "provider", "reason", "manifest_version"
)
GRANT_REVOKED: Final = _tag(
    "grant.revoked",
    30,
    "A grant that may not be kept was ended; its tokens were destroyed here.",
    "provider",
    "reason",
    "outcome",
    "verified",
    "attempts",
)
TOKEN_READ: Final = _tag("token.read", 31, "The access token of a connection was read.", "provider", "purpose", "token_generation")
CREDENTIAL_REFUSED: Final = _tag(
    "token.refused", 32, "A call for the access token of a connection, or with it, was refused.", "provider", "purpose", "reason", "method"
)
BULK_READ: Final = _tag(
    "tokens.bulk_read",
    33,
    "A key has read the credentials of more connections than is usual for it, or than the limit allows.",
    "connections",
    "threshold",
    "usual",
    "window_seconds",
    "stopped_until",
)
TOKEN_REFRESHED: Final = _tag(
    "token.refreshed",
    34,
    "An access token was renewed.",
    "provider",
    "token_generation",
    "granted",
    "missing",
    "api_host_changed",
)
RENEWAL_REFUSED: Final = _tag(
    "renewal.refused",
    35,
    "A renewed token may not be kept: it was more than was asked for, or another account's; the grant is revoked.",
    "provider",
    "reason",
    "wider",
    "forbidden",
)
RENEWAL_SUPERSEDED: Final = _tag(
    "renewal.superseded", 36, "A renewed token came too late; it was dropped or revoked.", "provider", "reason", "revoked"
)
PROVIDER_REFUSES: Final = _tag("provider.refuses_registration", 37, "A provider does not accept our registration.", "provider", "reason")
PROVIDER_ACCEPTS: Final = _tag("provider.accepts_registration", 38, "A provider accepts our registration again.", "provider")
KEY_REFUSED: Final = _tag("connection.key_refused", 39, "A pasted key was refused, and not kept.", "provider", "reason", "wider", "missing")
KEY_REPLACED: Final = _tag(
    "connection.key_replaced",
    40,
    "A pasted key was replaced by another one of the same account; the one before was destroyed here.",
    "provider",
    "granted",
    "missing",
    "status",
    "token_generation",
)
KEY_RECHECKED: Final = _tag(
    "connection.key_rechecked",
    41,
    "A pasted key was found to be worth something else than before.",
    "provider",
    "granted",
    "missing",
    "wider",
    "status",
    "reason",
)
KEY_OLD: Final = _tag("connection.key_old", 42, "A pasted key is older than keys should become; its replacement was asked for.", "age_days")
RECEIPT_UPDATED: Final = _tag(
    "receipt.updated",
    43,
    "More became known about a disconnect: another version of its receipt.",
    "version",
    "status",
    "verified",
    "attempts",
    "shared",
    "tokens_destroyed",
    "key_destroyed",
)
TENANT_KEY_REPLACED: Final = _tag(
    "tenant_key.replaced", 44, "Another tenant key took over; what the old one wrapped is wrapped anew.", "key_id", "kms_key"
)
CONNECTION_KEY_REPLACED: Final = _tag(
    "connection_key.replaced", 45, "Another key of the connection took over; what the old one sealed is sealed anew.", "key_id"
)
PROVIDER_CALLED: Final = _tag(
    "provider.called",
    46,
    "A call was made at a provider with a connection's token, through the proxy.",
    "provider",
    "method",
    "rule",
    "scope",
    "status",
    "error",
)
MASS_DISCONNECT_BEGUN: Final = _tag(
    "mass_disconnect.begun", 47, "The end of all connections of a selection was ordered.", "provider", "tenant_id", "since"
)
MASS_DISCONNECT_ENDED: Final = _tag(
    "mass_disconnect.ended", 48, "A mass disconnect came to its end; what providers did not do yet goes on.", "ended", "gone", "failed"
)
CONNECTION_DORMANT: Final = _tag(
    "connection.dormant", 49, "Nobody uses a connection: host and user were told, or it was paused.", "provider", "unused_since", "paused"
)

TAGS: Final = dict(_REGISTERED)
"""Every tag by its name."""


def reference() -> str:
    """Return the table of `docs/reference/audit.md`."""
    rows = ["| tag | number | says | details |", "| --- | --- | --- | --- |"]
    for tag in sorted(TAGS.values(), key=lambda one: one.number):
        details = ", ".join(f"`{name}`" for name in sorted(tag.fields)) or "none"
        rows.append(f"| `{tag.name}` | {tag.number} | {tag.sentence} | {details} |")
    return "\n".join(rows) + "\n"
