"""`Idempotency-Key` on calls that create: the same key and body gives the same id, another body is refused (7 days)."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from typing import Final

from customhouse.crypto.mac import mac
from customhouse.db import Executor
from customhouse.errors import Fault, IdempotencyConflict, Invalid
from customhouse.privacy.detectors import identifier_carries_pii
from customhouse.tenants.sql import SQL
from customhouse.types import TenantId
from customhouse.vault.vault import Vault

_FORM: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_PURPOSE: Final = "idempotency"


def key_of(text: str, pointer: str = "/idempotency_key") -> str:
    """Check a host's key: 1–128 of `A-Za-z0-9_.:-`, no personal data.

    Raises:
        Invalid: it is not of that form.
    """
    if not _FORM.fullmatch(text) or identifier_carries_pii(text):
        raise Invalid(
            "The idempotency key is not acceptable.", (Fault(pointer, "1–128 characters of A-Z a-z 0-9 _ . : -, and no personal data"),)
        )
    return text


@dataclass(frozen=True, slots=True)
class Once:
    """One call that must not create twice; without a key each call stands for itself."""

    key_hash: bytes | None
    body_digest: bytes

    @classmethod
    async def prepare(cls, vault: Vault, tenant: TenantId, operation: str, key: str | None, body: bytes) -> Once:
        """Compute what `claim` needs, before a transaction is open: a cold key must not hold a connection.

        Args:
            vault: holds the key of the hashes.
            tenant: whose key it is; the operator's for calls that create tenants.
            operation: the same key on another operation is another key.
            key: the host's idempotency key, checked by `key_of`.
            body: the request, in a form that is equal for equal requests.
        """
        if key is None:
            return cls(None, b"")
        mac_key = await vault.mac_key(tenant, _PURPOSE)
        return cls(mac(mac_key, _PURPOSE, operation.encode(), key.encode()), mac(mac_key, "body", body))

    async def claim(self, conn: Executor, tenant: TenantId, result_id: str) -> str | None:
        """Take the key for `result_id` in the caller's transaction, or return the id that an earlier call made.

        Raises:
            IdempotencyConflict: the key was used with another body.
        """
        if self.key_hash is None:
            return None
        # A second call waits here until the first one has committed, so that the row below is there to be read.
        if await conn.fetchval(SQL["remember"], tenant, self.key_hash, self.body_digest, result_id) is not None:
            return None
        row = await conn.fetchrow(SQL["remembered"], tenant, self.key_hash)
        if row is None or not hmac.compare_digest(row["body_digest"], self.body_digest):
            raise IdempotencyConflict
        return str(row["result_id"])
