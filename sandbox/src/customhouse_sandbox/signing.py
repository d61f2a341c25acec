"""JSON Web Tokens that a provider signs (RFC 7515, RFC 7519), and the keys that verify them (RFC 7517)."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

_BITS: Final = 2048


def signed(owner: str, claims: Mapping[str, Any]) -> str:
    """Return a token of a provider, signed with RS256 by its key of this process."""
    head = {"alg": "RS256", "kid": _kid(owner), "typ": "JWT"}
    text = ".".join(encoded(json.dumps(part, separators=(",", ":")).encode()) for part in (head, claims))
    return f"{text}.{encoded(_key(owner).sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def public_key(owner: str) -> dict[str, str]:
    """Return the key that verifies a provider's tokens, as JWK."""
    numbers = _key(owner).public_key().public_numbers()
    modulus = numbers.n.to_bytes(_BITS // 8)
    return {
        "kty": "RSA",
        "alg": "RS256",
        "use": "sig",
        "kid": _kid(owner),
        "n": encoded(modulus),
        "e": encoded(numbers.e.to_bytes(3)),
    }


def encoded(raw: bytes) -> str:
    """Return base64url without padding (RFC 7515 §2)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@cache
def _key(_owner: str) -> rsa.RSAPrivateKey:
    """Return a provider's key of this process: making one takes longer than everything else here together."""
    return rsa.generate_private_key(65537, _BITS)


def _kid(owner: str) -> str:
    return hashlib.sha256(str(_key(owner).public_key().public_numbers().n).encode()).hexdigest()[:40]
