"""The secrets of a receiver, prepared for verification."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from typing import Callable, Final, Optional

SHARED: Final = "whsec_"
PUBLIC: Final = "whpk_"
PRIVATE: Final = "whsk_"

_SHARED_KEY_BYTES: Final = range(24, 65)
_PUBLIC_KEY_BYTES: Final = 32
_SHORTEST_TEXT: Final = 16
_MOST_SECRETS: Final = 16

Verify = Callable[[bytes, bytes], bool]
"""`(signature, message)` -> whether the pair's private half made it."""


class Mac:
    """HMAC-SHA256 (RFC 2104) with its key schedule done, so that each message costs a copy instead of a new key."""

    __slots__ = ("_keyed",)

    def __init__(self, key: bytes) -> None:
        """Take the key."""
        self._keyed = hmac.new(key, digestmod="sha256")

    def over(self, prefix: bytes, body: bytes) -> hmac.HMAC:
        """Return the code over the prefix and the body."""
        mac = self._keyed.copy()
        mac.update(prefix)
        mac.update(body)
        return mac


class Keyring:
    """Secrets by key id, each under the only algorithm that it may be used with.

    - `whsec_<base64>`: both profiles; `queast-v1` keys with the text itself, `standard-webhooks` with the decoded bytes.
    - `whpk_<base64>`: Ed25519 (`v1a`) alone. It is public: used as an HMAC key it would let anyone sign.
    - any other text of 16 bytes or more: `queast-v1` alone.
    """

    __slots__ = ("_orders", "pairs", "shared", "text")

    def __init__(self, secrets: Mapping[str, str]) -> None:
        """Take the secrets as the sender showed them, by key id.

        Raises:
            ValueError: no secret, too many, or one that cannot be what it says.
            TypeError: a secret or its id is no text: a variable that is not set, for example.
        """
        if not 0 < len(secrets) <= _MOST_SECRETS:
            raise ValueError(f"a receiver needs 1 to {_MOST_SECRETS} secrets, not {len(secrets)}")
        text: list[tuple[str, Mac]] = []
        shared: list[tuple[str, Mac]] = []
        pairs: list[tuple[str, Verify]] = []
        for key_id, secret in secrets.items():
            _check_text(key_id, secret)
            if secret.startswith(PUBLIC):
                pairs.append((key_id, _ed25519(key_id, _decoded(key_id, secret[len(PUBLIC) :]))))
                continue
            text.append((key_id, Mac(secret.encode())))
            if secret.startswith(SHARED):
                key = _decoded(key_id, secret[len(SHARED) :])
                if len(key) not in _SHARED_KEY_BYTES:
                    raise ValueError(f"the secret of {key_id!r} does not hold 24 to 64 bytes: it may have been cut when it was copied")
                shared.append((key_id, Mac(key)))
        self.text = tuple(text)
        self.shared = tuple(shared)
        self.pairs = tuple(pairs)
        self._orders = {first: tuple(sorted(text, key=lambda item: item[0] != first)) for first, _ in text}

    def candidates(self, key_id: Optional[str]) -> tuple[tuple[str, Mac], ...]:
        """Return the `queast-v1` keys in the order in which to try them: the named one first, then all the others."""
        if key_id is None:
            return self.text
        return self._orders.get(key_id, self.text)


def _check_text(key_id: object, secret: object) -> None:
    # Callers are not all typed, and `os.environ.get` says None.
    if not isinstance(key_id, str):
        raise TypeError(f"a key id is a text, not {type(key_id).__name__}")
    if not key_id:
        raise ValueError("a secret needs the key id that it was shown with")
    if not isinstance(secret, str):
        raise TypeError(f"the secret of {key_id!r} is a text, not {type(secret).__name__}: is the variable set that should hold it?")
    if secret.startswith(PRIVATE):
        raise ValueError(f"the secret of {key_id!r} is a private signing key; a receiver holds the public one, {PUBLIC}…")
    if secret != secret.strip():
        raise ValueError(f"the secret of {key_id!r} begins or ends with white space")
    if len(secret.encode()) < _SHORTEST_TEXT:
        raise ValueError(f"the secret of {key_id!r} is shorter than {_SHORTEST_TEXT} bytes")


def _decoded(key_id: str, text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise ValueError(f"the secret of {key_id!r} is not base64 after its prefix: it may have been cut when it was copied") from None


def _ed25519(key_id: str, raw: bytes) -> Verify:
    try:
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - an extra: only these keys need it
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
    except ImportError:
        raise ValueError(f"the secret of {key_id!r} is an Ed25519 key: install customhouse-receiver[ed25519]") from None
    if len(raw) != _PUBLIC_KEY_BYTES:
        raise ValueError(f"the secret of {key_id!r} does not hold {_PUBLIC_KEY_BYTES} bytes")
    public = Ed25519PublicKey.from_public_bytes(raw)

    def verify(signature: bytes, message: bytes) -> bool:
        try:
            public.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    return verify
