"""What of a connection lies sealed, where, and what its MAC covers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from customhouse.canonical import dump_sorted, parse_object
from customhouse.crypto.credentials import Credential
from customhouse.crypto.envelope import Place, RecordKey, open_sealed, seal
from customhouse.crypto.mac import mac, verify_mac
from customhouse.db import Row
from customhouse.egress.identities import Identity, identity_of
from customhouse.errors import Unsealable
from customhouse.types import Secret, TenantId

MAC_PURPOSE: Final = "connections"


@dataclass(frozen=True, slots=True)
class Sealed:
    """The sealed columns of one connection, to write and to read.

    Attributes:
        environment: `prod`, `dev`: part of every place.
        tenant_id: Whose connection it is.
        connection_id: Which.
        key: The connection's own key.
    """

    environment: str
    tenant_id: TenantId
    connection_id: UUID
    key: RecordKey

    def url(self, row: Row) -> str:
        """Return where deliveries go.

        Raises:
            Unsealable: it is not what was sealed in this place; so for the others.
        """
        return self._open("url_sealed", row["url_sealed"]).decode()

    def headers(self, row: Row) -> dict[str, str]:
        """Return the custom headers."""
        if row["headers_sealed"] is None:
            return {}
        return {name: str(value) for name, value in parse_object(self._open("headers_sealed", row["headers_sealed"])).items()}

    def chain(self, row: Row) -> bytes | None:
        """Return the client certificate with its chain."""
        sealed = row["client_certificate_sealed"]
        return None if sealed is None else self._open("client_certificate_sealed", sealed)

    def identity(self, row: Row, chain: bytes) -> Identity:
        """Return who the connection is to its receiver: the one place where the private key is opened."""
        return identity_of(chain, Secret(self._open("client_key_sealed", row["client_key_sealed"])))

    def seal_credential(self, credential: Credential) -> tuple[bytes, bytes, datetime]:
        """Return certificate, key and end of validity as they are stored."""
        return (
            self._seal("client_certificate_sealed", credential.certificate.pem),
            self._seal("client_key_sealed", credential.private_key.reveal()),
            credential.certificate.expires_at,
        )

    def seal_url(self, url: str) -> bytes:
        """Return the URL as it is stored."""
        return self._seal("url_sealed", url.encode())

    def seal_headers(self, headers: Mapping[str, str]) -> bytes | None:
        """Return the custom headers as they are stored."""
        return self._seal("headers_sealed", dump_sorted(dict(headers))) if headers else None

    def mac(self, mac_key: RecordKey, row: Mapping[str, Any], url: str, headers: Mapping[str, str], chain: bytes | None) -> bytes:
        """Return the MAC of a row with this URL, these headers and this client certificate."""
        return mac(mac_key, MAC_PURPOSE, *_guarded(self.connection_id, row, url, headers, chain))

    def verify(self, mac_key: RecordKey, row: Row, url: str, headers: Mapping[str, str], chain: bytes | None) -> None:
        """Check that a row is what we wrote.

        Raises:
            Unsealable: it was edited by hand.
        """
        if not verify_mac(mac_key, row["mac"], MAC_PURPOSE, *_guarded(self.connection_id, row, url, headers, chain)):
            raise Unsealable

    def _place(self, column: str) -> Place:
        return Place(self.environment, self.tenant_id, str(self.connection_id), "connections", column, str(self.connection_id), 0)

    def _open(self, column: str, sealed: bytes) -> bytes:
        return open_sealed(self.key, self._place(column), sealed)

    def _seal(self, column: str, plaintext: bytes) -> bytes:
        return seal(self.key, self._place(column), plaintext)


def secret_place(environment: str, tenant: TenantId, connection_id: UUID, key_id: str) -> Place:
    """Return where a signing secret is sealed."""
    return Place(environment, tenant, str(connection_id), "connection_secrets", "sealed", key_id, 0)


def payload_place(environment: str, tenant: TenantId, event_uid: UUID, variant: int) -> Place:
    """Return where a payload variant is sealed."""
    return Place(environment, tenant, "", "payloads", "sealed", str(event_uid), variant)


def _guarded(connection_id: UUID, row: Mapping[str, Any], url: str, headers: Mapping[str, str], chain: bytes | None) -> tuple[bytes, ...]:
    """Return what the MAC of a connection covers (rulings §1): everything that decides where, what and how fast is sent."""
    found = [
        connection_id.bytes,
        row["provider"].encode(),
        row["mode"].encode(),
        str(row["grant_version"]).encode(),
        row["signature_profile"].encode(),
        row["signature_algorithm"].encode(),
        "\n".join(row["event_types"]).encode(),
        url.encode(),
    ]
    # What came later is named, and left out where it is not set: the MACs of before stay what they were.
    if headers:
        found += [b"headers", dump_sorted(dict(headers))]
    if row["retry_schedule"] is not None:
        found += [b"retry_schedule", ",".join(str(seconds) for seconds in row["retry_schedule"]).encode()]
    if row["rate_per_second"] is not None:
        found += [b"rate_limit", f"{float(row['rate_per_second'])!r} {row['rate_burst']}".encode()]
    if chain is not None:
        # The key needs no MAC: none but its own fits the certificate.
        found += [b"client_certificate", chain]
    return tuple(found)
