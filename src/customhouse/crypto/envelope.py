"""Sealed values, record format 1: encrypted, committed to one key, bound to one place. Pure.

A sealed value is 81 bytes longer than its plaintext::

    version 1 | key id 16 | salt 16 | commitment 32 | ciphertext n | tag 16

Every record has keys of its own, expanded from the uniformly random record key K in one block (HKDF-Expand with SHA-512,
RFC 5869 §2.3; §3.3 lets a uniformly random K go without Extract). With A the associated data of the place::

    header                    = version | key id | salt
    encryption | commitment   = HMAC-SHA512(K, "customhouse/record/1" | header | A | 0x01)
    body                      = AES-256-GCM(encryption, nonce = 0, plaintext, associated data = header | A)

*Why a fixed nonce is sound.* GCM breaks when one key meets one nonce twice. Here the encryption key is a pseudorandom function of
a fresh 128-bit random salt and encrypts exactly one message, so the pair repeats only when a salt repeats under one K: with 2^48
records under one key the chance is below 2^-32 (the bound of NIST SP 800-38D §8), where a random 96-bit nonce under one kept key
reaches it after 2^32. Opening never encrypts, and nothing else uses the encryption key.

*Why a commitment.* GCM binds no key: one ciphertext can be made that opens under two keys. The commitment is a collision-resistant
function of key, header and place, so a sealed value opens in one place under one key, or nowhere. It is compared in constant time
before anything is decrypted, and says nothing about the encryption key: the two are disjoint parts of one pseudorandom output.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from customhouse.errors import CustomhouseError, TooLarge, Unsealable
from customhouse.types import Secret

KEY_BYTES: Final = 32
"""Length of every key in the hierarchy."""
OVERHEAD: Final = 81
"""How much longer a sealed value is than its plaintext."""
MAX_PLAINTEXT: Final = 1 << 30
"""Longest plaintext, in bytes; AES-GCM itself ends at 2^36 - 32."""

_VERSION: Final = b"\x01"
_HEADER: Final = 33
_BODY: Final = 65
_LABEL: Final = b"customhouse/record/1"
_BLOCK: Final = b"\x01"
_NONCE: Final = bytes(12)


class Binding(Protocol):
    """What a sealed value is bound to."""

    def associated_data(self) -> bytes:
        """Return bytes that no other binding returns. Empty bytes refuse."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sealed value lives. A value opens at the place it was sealed for, and nowhere else."""

    environment: str
    """`prod`, `dev`: a backup restored elsewhere does not open."""
    tenant_id: str
    connection_id: str
    """The connection's id; empty for what belongs to the tenant as a whole."""
    table: str
    column: str
    row: str
    """The primary key, as text."""
    generation: int
    """The version of the value in its row; an older value put back does not open."""

    def associated_data(self) -> bytes:
        """Return the coordinates, each behind its length, so that no two places give the same bytes.

        Empty where a coordinate other than `connection_id` is empty.
        """
        if not (self.environment and self.tenant_id and self.table and self.column and self.row):
            return b""
        text = (
            f"place:{len(self.environment)}:{self.environment}{len(self.tenant_id)}:{self.tenant_id}"
            f"{len(self.connection_id)}:{self.connection_id}{len(self.table)}:{self.table}"
            f"{len(self.column)}:{self.column}{len(self.row)}:{self.row}{self.generation}"
        )
        # surrogatepass: every str has bytes, and different strs have different bytes.
        return text.encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True, repr=False)
class RecordKey:
    """A key that seals records. Its `repr` shows the id only."""

    key_id: UUID
    material: Secret
    """32 uniformly random bytes."""
    others: tuple[RecordKey, ...] = ()
    """Keys of the same things, before or after this one in a rotation: they open what names them, and never seal."""

    def __post_init__(self) -> None:
        """Refuse material of another length."""
        if len(self.material) != KEY_BYTES:
            raise CustomhouseError("a record key has exactly 32 bytes")

    def __repr__(self) -> str:
        return f"RecordKey({self.key_id})"


def seal(key: RecordKey, place: Binding, plaintext: bytes) -> bytes:
    """Return `plaintext` sealed under `key` for `place`, 81 bytes longer.

    Raises:
        TooLarge: more than `MAX_PLAINTEXT` bytes.
        CustomhouseError: the place lacks a coordinate.
    """
    if len(plaintext) > MAX_PLAINTEXT:
        raise TooLarge
    associated = place.associated_data()
    if not associated:
        raise CustomhouseError("a sealed value needs a complete place")
    header = _VERSION + key.key_id.bytes + os.urandom(16)
    bound = header + associated
    keys = hmac.digest(key.material.reveal(), _LABEL + bound + _BLOCK, "sha512")
    return header + keys[32:] + AESGCM(keys[:32]).encrypt(_NONCE, plaintext, bound)


def open_sealed(key: RecordKey, place: Binding, sealed: bytes) -> bytes:
    """Return the plaintext of a sealed value; `key.others` open what names them.

    Raises:
        Unsealable: and nothing else, whatever `sealed` holds: not this format, another key, another place, or altered.
    """
    if len(sealed) < OVERHEAD:
        raise Unsealable
    if sealed[:17] != _VERSION + key.key_id.bytes:
        key = _named(key.others, sealed)
    associated = place.associated_data()
    if not associated:
        raise Unsealable
    header = sealed[:_HEADER]
    bound = header + associated
    keys = hmac.digest(key.material.reveal(), _LABEL + bound + _BLOCK, "sha512")
    if not hmac.compare_digest(keys[32:], sealed[_HEADER:_BODY]):
        raise Unsealable
    try:
        return AESGCM(keys[:32]).decrypt(_NONCE, sealed[_BODY:], bound)
    except (InvalidTag, OverflowError):
        raise Unsealable from None


def _named(keys: tuple[RecordKey, ...], sealed: bytes) -> RecordKey:
    for key in keys:
        if sealed[:17] == _VERSION + key.key_id.bytes:
            return key
    raise Unsealable


def key_id_of(sealed: bytes) -> UUID:
    """Return the id of the key that a sealed value names; it proves nothing before `open_sealed`.

    Raises:
        Unsealable: these bytes are no sealed value of a known format.
    """
    if len(sealed) < OVERHEAD or sealed[:1] != _VERSION:
        raise Unsealable
    return UUID(bytes=sealed[1:17])
