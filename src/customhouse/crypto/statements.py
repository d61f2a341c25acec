"""Signed statements that anybody can check: JSON Web Signatures with Ed25519 (RFC 7515, RFC 8037). Pure.

The key pair comes from a key of the vault, so it is sealed like everything else, and is the same in every process.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from customhouse.crypto.envelope import RecordKey
from customhouse.errors import Invalid
from customhouse.types import JsonObject

ALGORITHM: Final = "EdDSA"
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]*")
_MEMBERS: Final = {"protected": None, "payload": None, "signature": None}.keys()


def public_key(key: RecordKey) -> JsonObject:
    """Return the public half as a JSON Web Key (RFC 8037 §2), named by its thumbprint (RFC 7638)."""
    x = _encoded(_pair(key).public_key().public_bytes_raw())
    return {"kty": "OKP", "crv": "Ed25519", "x": x, "use": "sig", "alg": ALGORITHM, "kid": _thumbprint(x)}


def sign(key: RecordKey, kind: str, statement: bytes) -> JsonObject:
    """Return a statement signed: a JWS in the flattened JSON serialization (RFC 7515 §7.2.2).

    Args:
        key: of the vault, of this purpose alone.
        kind: what it states (`typ` of the header), so that no statement passes for another.
        statement: the bytes that are signed; they travel in `payload`.
    """
    protected, payload = _header(str(public_key(key)["kid"]), kind), _encoded(statement)
    signature = _pair(key).sign(f"{protected}.{payload}".encode())
    return {"protected": protected, "payload": payload, "signature": _encoded(signature)}


def verify(keys: JsonObject, kind: str, document: JsonObject) -> bytes:
    """Check a signed statement against a set of public keys (RFC 7517 §5), and return what it states.

    Raises:
        Invalid: it is not genuine, not of this kind, or unreadable; nothing else, whatever it holds.
    """
    protected, payload, signature = (document.get(name) for name in _MEMBERS)
    if document.keys() != _MEMBERS or not (isinstance(protected, str) and isinstance(payload, str) and isinstance(signature, str)):
        raise Invalid("This is not a signed statement: it has other members than protected, payload and signature.")
    listed = keys.get("keys")
    for one in listed if isinstance(listed, list) else []:
        x = one.get("x") if isinstance(one, dict) and (one.get("kty"), one.get("crv")) == ("OKP", "Ed25519") else None
        # There is one way to write the header of a kind under a key, so nothing of it has to be read.
        if isinstance(x, str) and _BASE64URL.fullmatch(x) and protected == _header(_thumbprint(x), kind):
            try:
                Ed25519PublicKey.from_public_bytes(_decoded(x)).verify(_decoded(signature), f"{protected}.{payload}".encode())
                return _decoded(payload)
            except InvalidSignature:
                raise Invalid("The signature does not fit: the statement was altered, or somebody else signed it.") from None
            except ValueError:
                raise Invalid("This is not a signed statement: a part of it is no base64url, or of the wrong length.") from None
    raise Invalid("None of the keys made such a statement: it is of another installation, of another kind, or not signed by us.")


def _header(kid: str, kind: str) -> str:
    return _encoded(f'{{"alg":"{ALGORITHM}","kid":"{kid}","typ":"{kind}"}}'.encode())


def _pair(key: RecordKey) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(key.material.reveal())


def _thumbprint(x: str) -> str:
    return _encoded(hashlib.sha256(f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'.encode()).digest())


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    # One spelling for each value: no padding, no other alphabet, no bits to spare.
    if not _BASE64URL.fullmatch(text):
        raise ValueError
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if _encoded(raw) != text:
        raise ValueError
    return raw
