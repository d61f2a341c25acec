"""Who we are to a receiver that asks for a client certificate."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from customhouse.types import Secret


@dataclass(frozen=True, slots=True)
class Identity:
    """A client certificate with its key. Two are the same when their chains are: the key belongs to the certificate.

    Attributes:
        name: The SHA-256 of the chain, in hex.
        pem: The chain and the private key, as the HTTP client reads them.
    """

    name: str
    pem: Secret = field(repr=False, compare=False)


def identity_of(chain: bytes, private_key: Secret) -> Identity:
    """Return the identity of a chain of PEM certificates and the PEM key of the first one."""
    return Identity(hashlib.sha256(chain).hexdigest(), Secret(chain + private_key.reveal()))
