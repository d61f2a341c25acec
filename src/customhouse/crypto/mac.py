"""Keyed hashes (HMAC-SHA256) with purposes, and keys derived from keys. Pure.

For what is looked up or checked but never opened: API keys, idempotency keys, guarded columns of a connection. The inputs
here are either 256-bit random (API keys) or not secret from who holds the key, so a fast keyed hash is the right one.
"""

from __future__ import annotations

import hmac
from typing import Final

from customhouse.crypto.envelope import RecordKey
from customhouse.errors import CustomhouseError
from customhouse.types import Secret

MAC_BYTES: Final = 32
"""Length of a MAC; a shorter one is never accepted."""

# No label is a prefix of another, nor of a label of `crypto.envelope`: one key may serve all of them.
_MAC: Final = b"customhouse/mac/1/"
_DERIVE: Final = b"customhouse/derive/1/"


def mac(key: RecordKey, purpose: str, *parts: bytes) -> bytes:
    """Return HMAC-SHA256 over the purpose and the parts, each behind its length (32 bytes).

    Different purposes, or the same bytes cut differently, give unrelated results.

    Raises:
        CustomhouseError: no purpose or no part.
    """
    if not purpose or not parts:
        raise CustomhouseError("a MAC needs a purpose and at least one part")
    return hmac.digest(key.material.reveal(), _MAC + _joined(purpose.encode("utf-8", "surrogatepass"), *parts), "sha256")


def verify_mac(key: RecordKey, expected: bytes, purpose: str, *parts: bytes) -> bool:
    """Tell, in constant time, whether `expected` is the complete MAC of the parts."""
    return hmac.compare_digest(mac(key, purpose, *parts), expected)


def derive(key: RecordKey, purpose: str) -> RecordKey:
    """Return a key for one purpose, expanded from `key` (HKDF-Expand, RFC 5869 §2.3, one block). It keeps the id of its parent.

    Raises:
        CustomhouseError: no purpose.
    """
    if not purpose:
        raise CustomhouseError("a derived key needs a purpose")
    info = _DERIVE + _joined(purpose.encode("utf-8", "surrogatepass")) + b"\x01"
    return RecordKey(key.key_id, Secret(hmac.digest(key.material.reveal(), info, "sha256")))


def _joined(*parts: bytes) -> bytes:
    return b"".join([b"%d:%b" % (len(part), part) for part in parts])
