"""What may only exist sealed or hashed: links, states, verifiers, codes, tokens, and who somebody is."""

from __future__ import annotations

import base64
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from customhouse.canonical import dump_sorted, parse_object
from customhouse.crypto.envelope import Place, RecordKey, open_sealed, seal
from customhouse.crypto.mac import mac, verify_mac
from customhouse.errors import Unsealable
from customhouse.types import Json, JsonObject, Secret, TenantId

FLOW: Final = "connect-flow"
"""Purpose of the tenant's key under which a flow's own secrets are sealed; they are gone within minutes."""
INDEX: Final = "connect-index"
"""Purpose of the operator's key for what is looked up across tenants: links, states, accounts."""
MAC_PURPOSE: Final = "connections"
_RANDOM: Final = 32


def new_token() -> str:
    """Return 256 random bits as 43 characters: a link, a state, a browser's mark, a code verifier (RFC 7636 §4.1)."""
    return secrets.token_urlsafe(_RANDOM)


def hashed(key: RecordKey, what: str, token: str) -> bytes:
    """Return the keyed hash under which a random token is stored (R29)."""
    return mac(key, INDEX, what.encode(), token.encode("utf-8", "surrogatepass"))


def account_index(key: RecordKey, provider: str, client_id: str, account_id: str) -> bytes:
    """Return what two grants of one account to one client have in common, and nothing else has."""
    return mac(key, INDEX, b"account", provider.encode(), client_id.encode(), account_id.encode("utf-8", "surrogatepass"))


def organisation_index(key: RecordKey, provider: str, client_id: str, organisation: str) -> bytes:
    """Return what all grants of one organisation to one client have in common, and nothing else has."""
    return mac(key, INDEX, b"organisation", provider.encode(), client_id.encode(), organisation.encode("utf-8", "surrogatepass"))


def proof_against_forgery(browser: str, link: str) -> str:
    """Return the form's token: it takes the browser's cookie and the link to make it, and a page elsewhere knows neither."""
    return base64.urlsafe_b64encode(hmac.digest(browser.encode(), b"consent:" + link.encode(), "sha256")).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class FlowSeal:
    """Seals what a flow needs for minutes, under a tenant's key of that purpose."""

    environment: str
    tenant_id: TenantId
    key: RecordKey

    def seal(self, table: str, column: str, row: str, value: bytes) -> bytes:
        """Return a value sealed for its place."""
        return seal(self.key, Place(self.environment, self.tenant_id, "", table, column, row, 0), value)

    def open(self, table: str, column: str, row: str, sealed: bytes) -> Secret:
        """Return what was sealed there.

        Raises:
            Unsealable: it is not what was sealed in this place.
        """
        return Secret(open_sealed(self.key, Place(self.environment, self.tenant_id, "", table, column, row, 0), sealed))


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of one grant."""

    access: Secret
    refresh: Secret | None


@dataclass(frozen=True, slots=True)
class GrantSeal:
    """Seals what belongs to one connection, under its own key."""

    environment: str
    tenant_id: TenantId
    connection_id: UUID
    key: RecordKey

    def seal(self, table: str, column: str, row: str, value: bytes, generation: int = 0) -> bytes:
        """Return a value sealed for its place and generation."""
        return seal(self.key, self._place(table, column, row, generation), value)

    def open(self, table: str, column: str, row: str, sealed: bytes, generation: int = 0) -> Secret:
        """Return what was sealed there.

        Raises:
            Unsealable: it is not what was sealed in this place, or not in this generation.
        """
        return Secret(open_sealed(self.key, self._place(table, column, row, generation), sealed))

    def seal_both(self, table: str, row: str, tokens: Tokens) -> bytes:
        """Return both tokens sealed as one value: where they only wait."""
        refresh = b"" if tokens.refresh is None else tokens.refresh.reveal()
        access = tokens.access.reveal()
        return self.seal(table, "tokens_sealed", row, len(access).to_bytes(4, "big") + access + refresh)

    def open_both(self, table: str, row: str, sealed: bytes) -> Tokens:
        """Return both tokens; raises as `open` does."""
        raw = self.open(table, "tokens_sealed", row, sealed).reveal()
        end = 4 + int.from_bytes(raw[:4], "big")
        return Tokens(Secret(raw[4:end]), Secret(raw[end:]) if len(raw) > end else None)

    def _place(self, table: str, column: str, row: str, generation: int) -> Place:
        return Place(self.environment, self.tenant_id, str(self.connection_id), table, column, row, generation)


def pack(value: Mapping[str, Json]) -> bytes:
    """Return an object as bytes to seal."""
    return dump_sorted(dict(value))


def unpack(value: Secret) -> JsonObject:
    """Return a sealed object's members."""
    return parse_object(value.reveal())


def guard(key: RecordKey, connection_id: UUID, provider: str, row: Mapping[str, Any]) -> bytes:
    """Return the MAC of a connection with a grant (rulings §1): over everything that decides what may be done with it."""
    return mac(key, MAC_PURPOSE, *_guarded(connection_id, provider, row))


def check_guard(key: RecordKey, connection_id: UUID, provider: str, row: Mapping[str, Any]) -> None:
    """Check that a row is what we wrote.

    Raises:
        Unsealable: it was edited by hand.
    """
    if not verify_mac(key, row["mac"], MAC_PURPOSE, *_guarded(connection_id, provider, row)):
        raise Unsealable


def _guarded(connection_id: UUID, provider: str, row: Mapping[str, Any]) -> tuple[bytes, ...]:
    return (
        connection_id.bytes,
        b"grant",
        provider.encode(),
        row["mode"].encode(),
        str(row["grant_version"]).encode(),
        "\n".join(row["granted"]).encode(),
        bytes(row["account_index"]),
        (row["api_origin"] or "").encode(),
    )
