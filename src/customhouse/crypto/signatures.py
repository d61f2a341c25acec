"""Webhook signatures, the signing side: `queast-v1` (spec 2, §2.1) and Standard Webhooks (`v1`, `v1a`).

Pure: bytes and time come as arguments. `signer()` decodes and prepares the keys once per connection, because what it returns runs
for every attempt. The verifying side is the distribution `customhouse-receiver`; both read the vectors in `vectors/signatures`.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from customhouse.errors import Unsignable
from customhouse.types import Secret

DEFAULT_HEADER_PREFIX: Final = "X-Queast"

_SHARED: Final = b"whsec_"
_PRIVATE: Final = b"whsk_"
_PUBLIC: Final = "whpk_"
_NEW_KEY_BYTES: Final = 32
_SHARED_KEY_BYTES: Final = range(24, 65)
"""What the Standard Webhooks specification allows for a shared secret."""
_MOST_KEYS: Final = 8
"""As many signatures as the receiver library looks at in one header."""
_TIMESTAMP_LIMIT: Final = 10**12

_PREFIX: Final = re.compile(r"[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*")
_KEY_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_EVENT_ID: Final = re.compile(r"[A-Za-z0-9_:-]{1,64}")
"""No full stop: it separates the parts of what is signed, so an id that holds one could be read in two ways."""


class Profile(StrEnum):
    """How a delivery is signed; chosen per connection."""

    QUEAST_V1 = "queast-v1"
    STANDARD_WEBHOOKS = "standard-webhooks"


class Algorithm(StrEnum):
    """The kind of key: shared (HMAC-SHA256) or a pair (Ed25519, with `standard-webhooks` only)."""

    V1 = "v1"
    V1A = "v1a"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key of a connection.

    Attributes:
        key_id: the name that travels in `{prefix}-Signature-Key-Id`.
        secret: UTF-8 bytes of the text: `whsec_<base64>` (shared) or `whsk_<base64>` (the private half of a pair).
    """

    key_id: str
    secret: Secret


class Signer(Protocol):
    """The prepared keys of one connection."""

    def headers(self, event_id: str, timestamp: int, body: bytes) -> dict[str, str]:
        """Return the headers that sign these bytes.

        Args:
            event_id: the envelope's `event_id`.
            timestamp: unix seconds of this attempt.
            body: the very bytes that go to the socket.

        Raises:
            Unsignable: the event id or the timestamp cannot stand in a header.
        """
        ...


def new_secret(algorithm: Algorithm) -> Secret:
    """Return a fresh secret: `whsec_` and 32 random bytes, or `whsk_` and an Ed25519 private key (RFC 8032), in base64."""
    prefix = _PRIVATE if algorithm is Algorithm.V1A else _SHARED
    return Secret(prefix + base64.b64encode(secrets.token_bytes(_NEW_KEY_BYTES)))


def shown(secret: Secret) -> str:
    """Return what the customer is given: the shared secret itself, or `whpk_<base64>`, the public half of a pair.

    Raises:
        Unsignable: the secret is of neither kind.
    """
    if secret.reveal().startswith(_PRIVATE):
        return _PUBLIC + base64.b64encode(_private_key(secret).public_key().public_bytes_raw()).decode()
    _shared_key(secret)
    return secret.reveal().decode()


def signer(profile: Profile, keys: Sequence[SigningKey], header_prefix: str = DEFAULT_HEADER_PREFIX) -> Signer:
    """Prepare the keys of a connection: the active one first, then those whose overlap still runs.

    `queast-v1` has room for one signature: the first key signs. `standard-webhooks` carries one per key, in this order.

    Raises:
        Unsignable: no key at all, too many, one that does not fit the profile, or a header prefix that is none.
    """
    if not 0 < len(keys) <= _MOST_KEYS:
        raise Unsignable(f"A delivery is signed with 1 to {_MOST_KEYS} keys, not {len(keys)}.")
    if not all(_KEY_ID.fullmatch(key.key_id) for key in keys):
        raise Unsignable("A signing key id is not of the form [A-Za-z0-9_.:-]{1,128}.")
    if profile is Profile.QUEAST_V1:
        return _QueastSigner(keys, header_prefix)
    return _StandardSigner(keys)


def sign(
    profile: Profile,
    keys: Sequence[SigningKey],
    *,
    event_id: str,
    timestamp: int,
    body: bytes,
    header_prefix: str = DEFAULT_HEADER_PREFIX,
) -> dict[str, str]:
    """Sign once. Who signs more than once with the same keys keeps a `signer`.

    Raises:
        Unsignable: as `signer` and `Signer.headers`.
    """
    return signer(profile, keys, header_prefix).headers(event_id, timestamp, body)


class _Mac:
    """HMAC-SHA256 (RFC 2104) with its key schedule done: copying it costs less than keying again for each message."""

    __slots__ = ("_keyed",)

    def __init__(self, key: bytes) -> None:
        self._keyed = hmac.new(key, digestmod="sha256")

    def over(self, prefix: bytes, body: bytes) -> hmac.HMAC:
        mac = self._keyed.copy()
        mac.update(prefix)
        mac.update(body)
        return mac


class _QueastSigner:
    __slots__ = ("_key_id", "_key_id_name", "_mac", "_signature_name", "_timestamp_name")

    def __init__(self, keys: Sequence[SigningKey], header_prefix: str) -> None:
        # "Webhook-Timestamp" would be read as a header of the other profile.
        if not _PREFIX.fullmatch(header_prefix) or header_prefix.lower() == "webhook":
            raise Unsignable("The signature header prefix is no header name of its own, such as X-Queast.")
        for key in keys:
            _shared_key(key.secret)
        self._timestamp_name = f"{header_prefix}-Timestamp"
        self._signature_name = f"{header_prefix}-Signature"
        self._key_id_name = f"{header_prefix}-Signature-Key-Id"
        self._key_id = keys[0].key_id
        self._mac = _Mac(keys[0].secret.reveal())

    def headers(self, event_id: str, timestamp: int, body: bytes) -> dict[str, str]:  # noqa: ARG002 - the profile signs no id
        _check_timestamp(timestamp)
        return {
            self._timestamp_name: str(timestamp),
            self._signature_name: "v1=" + self._mac.over(b"%d." % timestamp, body).hexdigest(),
            self._key_id_name: self._key_id,
        }


class _StandardSigner:
    __slots__ = ("_keys",)

    def __init__(self, keys: Sequence[SigningKey]) -> None:
        self._keys: tuple[_Mac | Ed25519PrivateKey, ...] = tuple(
            _private_key(key.secret) if key.secret.reveal().startswith(_PRIVATE) else _Mac(_shared_key(key.secret)) for key in keys
        )

    def headers(self, event_id: str, timestamp: int, body: bytes) -> dict[str, str]:
        _check_timestamp(timestamp)
        if not _EVENT_ID.fullmatch(event_id):
            raise Unsignable("The event id is not of the form [A-Za-z0-9_:-]{1,64}.")
        prefix = f"{event_id}.{timestamp}.".encode()
        entries = [
            f"v1,{_base64(key.over(prefix, body).digest())}" if isinstance(key, _Mac) else f"v1a,{_base64(key.sign(prefix + body))}"
            for key in self._keys
        ]
        return {"webhook-id": event_id, "webhook-timestamp": str(timestamp), "webhook-signature": " ".join(entries)}


def _check_timestamp(timestamp: int) -> None:
    # `True` is an int too, and would be written as text.
    if type(timestamp) is not int or not 0 < timestamp < _TIMESTAMP_LIMIT:
        raise Unsignable("The timestamp is not a whole number of unix seconds.")


def _base64(raw: bytes) -> str:
    return binascii.b2a_base64(raw, newline=False).decode()


def _shared_key(secret: Secret) -> bytes:
    """Return the bytes of a `whsec_…` secret, which is how Standard Webhooks keys with it."""
    key = _decoded(secret, _SHARED)
    if len(key) not in _SHARED_KEY_BYTES:
        raise Unsignable("A shared signing secret holds 24 to 64 bytes.")
    return key


def _private_key(secret: Secret) -> Ed25519PrivateKey:
    key = _decoded(secret, _PRIVATE)
    if len(key) != _NEW_KEY_BYTES:
        raise Unsignable("A private signing key holds 32 bytes.")
    return Ed25519PrivateKey.from_private_bytes(key)


def _decoded(secret: Secret, prefix: bytes) -> bytes:
    text = secret.reveal()
    if not text.startswith(prefix):
        raise Unsignable(f"This profile needs signing keys that begin with {prefix.decode()}.")
    try:
        return base64.b64decode(text[len(prefix) :], validate=True)
    except ValueError:
        raise Unsignable("A signing key is not base64 after its prefix.") from None
