"""What a client certificate is once it was read. Apart from its reading: X.509 is 2 MB that only a process that reads one needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from customhouse.types import Secret

MOST_CHAIN_BYTES: Final = 32 * 1024
MOST_KEY_BYTES: Final = 8 * 1024


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A certificate with those that lead from it towards its root.

    Attributes:
        pem: The chain, the own certificate first; as it is stored and shown to receivers.
        subject: Who it says we are (RFC 4514).
        issuer: Who says so.
        fingerprint: SHA-256 of the own certificate, in hex.
        begins_at: From when on the whole chain is valid.
        expires_at: Until when it is.
    """

    pem: bytes = field(repr=False)
    subject: str
    issuer: str
    fingerprint: str
    begins_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate and its private key (PKCS #8 as PEM, not encrypted)."""

    certificate: ClientCertificate
    private_key: Secret
