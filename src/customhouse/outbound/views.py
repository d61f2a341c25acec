"""Connections as their owners see them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from customhouse.clock import Clock
from customhouse.crypto.credentials import ClientCertificate
from customhouse.db import Database, Row, queries
from customhouse.errors import NotFound
from customhouse.outbound.certificates import CertificateState, certificate_state
from customhouse.outbound.columns import described
from customhouse.outbound.sealed import Sealed
from customhouse.outbound.signing import State, Term, standing
from customhouse.outbound.throttle import Rate
from customhouse.types import TenantId
from customhouse.vault.vault import Vault

_SQL: Final = queries(__package__)


@dataclass(frozen=True, slots=True)
class Condition:
    """How a connection does, to within about a minute. All is None before the first attempt, and after its address was changed.

    `failing_since` is the first failure of a row without a success between; `last_failure` is a word of the attempts' `error`, or
    `status_` and the HTTP status.
    """

    failing_since: datetime | None
    last_success_at: datetime | None
    last_failure_at: datetime | None
    last_failure: str | None

    @property
    def seen_at(self) -> datetime | None:
        """When it was seen last, whatever came of it."""
        return max((at for at in (self.last_success_at, self.last_failure_at) if at is not None), default=None)


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection as its owner sees it; the URL is opened for them alone, secrets are not part of it."""

    tenant_id: TenantId
    connection_id: UUID
    provider: str
    user_id: str | None
    mode: str
    status: str
    status_reason: str | None
    grant_version: int
    description: str
    url: str | None
    host: str | None
    event_types: tuple[str, ...]
    signature_profile: str
    signature_algorithm: str
    header_names: tuple[str, ...]
    retry_schedule: tuple[int, ...] | None
    rate_limit: Rate | None
    client_certificate: ClientCertificate | None
    certificate_state: CertificateState | None
    signing_keys: tuple[Term, ...]
    condition: Condition
    created_at: datetime
    updated_at: datetime


class Views:
    """Reads connections and opens of them what their owner may see."""

    def __init__(self, database: Database, vault: Vault, clock: Clock) -> None:
        """Take the parts that it stands on."""
        self._database = database
        self._vault = vault
        self._clock = clock

    async def get(self, tenant: TenantId, connection_id: UUID) -> Connection:
        """Return a connection.

        Raises:
            NotFound: no such connection in this tenant.
            KeyServiceUnavailable: its address cannot be opened now.
        """
        async with self._database.transaction(tenant) as conn:
            rows = await conn.fetch(_SQL["connections"], tenant, connection_id, None, None, None, None, 1, None)
        if not rows:
            raise NotFound
        return await self._shown(tenant, rows[0])

    async def list(
        self,
        tenant: TenantId,
        *,
        user_id: str | None,
        provider: str | None,
        status: str | None,
        before: UUID | None,
        limit: int,
        healthy: bool | None = None,
    ) -> list[Connection]:
        """Return connections, the newest first.

        Raises:
            KeyServiceUnavailable: an address cannot be opened now.
        """
        async with self._database.transaction(tenant) as conn:
            rows = await conn.fetch(_SQL["connections"], tenant, None, before, user_id, provider, status, limit, healthy)
        return [await self._shown(tenant, row) for row in rows]

    async def _shown(self, tenant: TenantId, row: Row) -> Connection:
        # Outside of any transaction: a cold key must not hold a database connection while it waits for another.
        connection_id: UUID = row["connection_id"]
        url: str | None = None
        header_names: tuple[str, ...] = ()
        certificate: ClientCertificate | None = None
        if row["url_sealed"] is not None:
            key = self._vault.cached_connection_key(tenant, connection_id) or await self._vault.connection_key(tenant, connection_id)
            sealed = Sealed(self._vault.environment, tenant, connection_id, key)
            url = sealed.url(row)
            header_names = tuple(sorted(sealed.headers(row)))
            chain = sealed.chain(row)
            certificate = None if chain is None else described(chain)
        now = self._clock.now()
        return Connection(
            tenant,
            connection_id,
            row["provider"],
            row["user_id"],
            row["mode"],
            row["status"],
            row["status_reason"],
            row["grant_version"],
            row["description"],
            url,
            row["url_host"],
            tuple(row["event_types"]),
            row["signature_profile"],
            row["signature_algorithm"],
            header_names,
            None if row["retry_schedule"] is None else tuple(row["retry_schedule"]),
            None if row["rate_per_second"] is None else Rate(row["rate_per_second"], row["rate_burst"]),
            certificate,
            None if certificate is None else certificate_state(certificate.expires_at, now),
            _standing(row, now),
            Condition(row["failing_since"], row["last_success_at"], row["last_failure_at"], row["last_failure"]),
            row["created_at"],
            row["updated_at"],
        )


def _standing(row: Row, now: datetime) -> tuple[Term, ...]:
    """Return the signing keys, each in the state that it has at this moment, the oldest first."""
    recorded: zip[tuple[str, State, datetime, datetime | None]] = zip(
        row["key_ids"], row["key_states"], row["key_begins"], row["key_ends"], strict=True
    )
    terms = [Term(*one) for one in recorded]
    states = standing(terms, now)
    return tuple(replace(term, state=states[term.key_id]) for term in terms)
