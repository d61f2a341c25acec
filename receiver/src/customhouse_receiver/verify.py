"""Decides whether a request is genuine and fresh: pure, bytes and time are arguments.

The order: sizes, headers, time, signature over the raw bytes. The JSON is not touched before all of them hold.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Final, NamedTuple, Optional

from customhouse_receiver.errors import Reason, WebhookRejected
from customhouse_receiver.headers import HeaderNames, Headers, QueastHeaders, StandardHeaders
from customhouse_receiver.keys import Keyring

QUEAST_V1: Final = "queast-v1"
STANDARD_WEBHOOKS: Final = "standard-webhooks"

_MOST_SIGNATURES: Final = 8
_QUEAST_SIGNATURE_LENGTH: Final = len("v1=") + 64
_V1_LENGTH: Final = 44
_V1A_LENGTH: Final = 88
_LONGEST_TIMESTAMP: Final = 12
_LONGEST_KEY_ID: Final = 128
_MESSAGE_ID: Final = re.compile(r"[A-Za-z0-9_:-]{1,64}")
_ENTRY: Final = re.compile(r"[a-z0-9]{1,16},[A-Za-z0-9+/=_-]{1,512}")


class Rules(NamedTuple):
    """What a receiver demands of every request.

    Attributes:
        names: the header names.
        tolerance: seconds that the timestamp may lie before or after the present.
        max_body: bytes.
    """

    names: HeaderNames
    tolerance: float
    max_body: int


class Genuine(NamedTuple):
    """A request that a configured secret signed within the tolerance. Whether it is the first of its kind is not decided yet.

    Attributes:
        profile: `queast-v1` or `standard-webhooks`.
        key_id: of the secret that matched.
        timestamp: unix seconds, signed.
        fingerprint: the same for the same timestamp and body, whoever reorders, drops or respells signatures on the way.
        message_id: the id that was signed in a header; None where the profile signs none.
    """

    profile: str
    key_id: str
    timestamp: int
    fingerprint: str
    message_id: Optional[str]


def check(headers: Headers, body: bytes, keyring: Keyring, rules: Rules, *, now: float) -> Genuine:
    """Return the genuine request.

    Args:
        headers: a mapping or pairs, text or bytes, names in any case.
        body: the raw bytes as they came.
        keyring: the secrets.
        rules: what is demanded.
        now: unix seconds.

    Raises:
        WebhookRejected: whatever else arrives.
    """
    # Nothing that could change between the signature and the parsing.
    if not isinstance(body, bytes):
        raise WebhookRejected(Reason.BODY_NOT_BYTES)
    if len(body) > rules.max_body:
        raise WebhookRejected(Reason.BODY_TOO_LARGE)
    picked = rules.names.pick(headers)
    timestamp = _timestamp(picked.timestamp)
    # "not <=", because every comparison with a clock that says NaN is false.
    if not abs(now - timestamp) <= rules.tolerance:
        raise WebhookRejected(Reason.TIMESTAMP_OUTSIDE_TOLERANCE)
    if isinstance(picked, QueastHeaders):
        return Genuine(QUEAST_V1, _queast(picked, body, keyring), timestamp, picked.signature, None)
    if not _MESSAGE_ID.fullmatch(picked.message_id):
        raise WebhookRejected(Reason.MALFORMED_HEADER)
    prefix = f"{picked.message_id}.{picked.timestamp}.".encode()
    key_id = _standard(picked, prefix, body, keyring)
    # Not the matched signature: during a rotation there are two, and dropping one must not make a replay look new.
    content = hashlib.sha256(prefix)
    content.update(body)
    return Genuine(STANDARD_WEBHOOKS, key_id, timestamp, content.hexdigest(), picked.message_id)


def _timestamp(text: str) -> int:
    # ASCII digits without a leading zero: one spelling for one moment.
    if len(text) > _LONGEST_TIMESTAMP or not text.isascii() or not text.isdigit() or text[0] == "0":
        raise WebhookRejected(Reason.MALFORMED_HEADER)
    return int(text)


def _queast(headers: QueastHeaders, body: bytes, keyring: Keyring) -> str:
    """Spec 2, §2.1: `v1=<lowercase hex>` over `{timestamp}.{raw body}`. Returns the id of the key that made it."""
    given = headers.signature
    if len(given) != _QUEAST_SIGNATURE_LENGTH or not given.startswith("v1=") or not given.isascii():
        raise WebhookRejected(Reason.MALFORMED_HEADER)
    if headers.key_id is not None and len(headers.key_id) > _LONGEST_KEY_ID:
        raise WebhookRejected(Reason.MALFORMED_HEADER)
    prefix = f"{headers.timestamp}.".encode()
    for key_id, mac in keyring.candidates(headers.key_id):
        # The whole text is compared, so neither upper case nor a shorter one can pass for it.
        if hmac.compare_digest("v1=" + mac.over(prefix, body).hexdigest(), given):
            return key_id
    raise WebhookRejected(Reason.SIGNATURE_MISMATCH)


def _standard(headers: StandardHeaders, prefix: bytes, body: bytes, keyring: Keyring) -> str:
    """Standard Webhooks 1.0: any one of the space-separated entries suffices. Returns the id of the key that made it."""
    shared, pairs = _entries(headers.signatures)
    if shared:
        for key_id, mac in keyring.shared:
            expected = base64.b64encode(mac.over(prefix, body).digest()).decode()
            for given in shared:
                if hmac.compare_digest(expected, given):
                    return key_id
    if pairs:
        message = prefix + body
        for key_id, verify in keyring.pairs:
            if any(verify(given, message) for given in pairs):
                return key_id
    raise WebhookRejected(Reason.SIGNATURE_MISMATCH)


def _entries(text: str) -> tuple[list[str], list[bytes]]:
    """Return the `v1` signatures (base64) and the `v1a` signatures (bytes); versions that we do not know are passed over."""
    entries = text.split(" ")
    if len(entries) > _MOST_SIGNATURES:
        raise WebhookRejected(Reason.MALFORMED_HEADER)
    shared: list[str] = []
    pairs: list[bytes] = []
    for entry in entries:
        if not _ENTRY.fullmatch(entry):
            raise WebhookRejected(Reason.MALFORMED_HEADER)
        version, _, signature = entry.partition(",")
        if version == "v1":
            if len(signature) != _V1_LENGTH:
                raise WebhookRejected(Reason.MALFORMED_HEADER)
            shared.append(signature)
        elif version == "v1a":
            pairs.append(_pair_signature(signature))
    return shared, pairs


def _pair_signature(text: str) -> bytes:
    raw: Optional[bytes] = None
    if len(text) == _V1A_LENGTH:
        try:
            raw = base64.b64decode(text, validate=True)
        except ValueError:
            raw = None
    # Base64 can spell the same bytes in several ways; only the one that a signer writes is taken.
    if raw is None or base64.b64encode(raw).decode() != text:
        raise WebhookRejected(Reason.MALFORMED_HEADER)
    return raw
