"""Tenants: the customer organisations of the host application."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from customhouse.audit import log, tags
from customhouse.audit.log import Origin
from customhouse.clock import Clock
from customhouse.db import Database, Executor, enter
from customhouse.errors import Conflict, Fault, Invalid, NotFound
from customhouse.privacy.detectors import identifier_carries_pii
from customhouse.tenants.idempotency import Once
from customhouse.tenants.labels import label_faults
from customhouse.tenants.sql import SQL
from customhouse.types import PLATFORM, TenantId
from customhouse.vault.vault import Vault

_TENANT_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")
NAME_LENGTH: Final = 200


@dataclass(frozen=True, slots=True)
class Tenant:
    """One customer organisation."""

    tenant_id: TenantId
    name: str
    status: str
    created_at: datetime


def tenant_id_of(text: str) -> TenantId:
    """Check a host's name for a tenant: 1–128 of `A-Za-z0-9_.:-`, not beginning with a mark, no personal data.

    Raises:
        Invalid: it is not of that form.
    """
    if not _TENANT_ID.fullmatch(text) or identifier_carries_pii(text):
        raise Invalid(
            "The tenant id is not acceptable.",
            (Fault("/tenant_id", "1–128 characters of A-Z a-z 0-9 _ . : -, beginning with a letter or digit, and no personal data"),),
        )
    return TenantId(text)


class Tenants:
    """Creates and finds tenants."""

    def __init__(self, database: Database, vault: Vault, clock: Clock) -> None:
        """Take the parts that it stands on."""
        self._database = database
        self._vault = vault
        self._clock = clock

    async def create(self, tenant_id: str, name: str, origin: Origin, once: Once) -> Tenant:
        """Create a tenant with its own key under the key service.

        Raises:
            Invalid: the id or the name is not acceptable.
            Conflict: the tenant exists.
            KeyServiceUnavailable: no key could be made; nothing was created.
        """
        tenant = tenant_id_of(tenant_id)
        name = name.strip()
        if faults := label_faults(name, "/name", shortest=1, longest=NAME_LENGTH):
            raise Invalid("The name is not acceptable.", faults)
        # The key comes first: a key without a tenant harms nobody and is found again, a tenant without a key could not work.
        await self._vault.create_tenant_key(tenant)
        async with self._database.transaction(PLATFORM) as conn:
            earlier = await once.claim(conn, PLATFORM, tenant)
            await enter(conn, tenant)
            if earlier is not None:
                return await self._get(conn, TenantId(earlier))
            created_at = await conn.fetchval(SQL["insert_tenant"], tenant, name)
            if created_at is None:
                raise Conflict("This tenant exists already.")
            await log.append(conn, self._clock, tenant, origin, tags.TENANT_CREATED)
        return Tenant(tenant, name, "active", created_at)

    async def get(self, tenant: TenantId) -> Tenant:
        """Return a tenant.

        Raises:
            NotFound: there is none of that name.
        """
        if tenant == PLATFORM:
            raise NotFound
        async with self._database.transaction(tenant) as conn:
            return await self._get(conn, tenant)

    @staticmethod
    async def _get(conn: Executor, tenant: TenantId) -> Tenant:
        row = await conn.fetchrow(SQL["get_tenant"], tenant)
        if row is None:
            raise NotFound
        return Tenant(tenant, row["name"], row["status"], row["created_at"])
