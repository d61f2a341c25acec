"""What the vault tells the ledger. The vault does not know the ledger: `app` joins them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from customhouse.db import Executor
from customhouse.types import TenantId


class KeyDeed(StrEnum):
    """What the vault did with a key."""

    TENANT_KEY_CREATED = "tenant_key.created"
    TENANT_KEY_UNWRAPPED = "tenant_key.unwrapped"
    TENANT_KEY_REPLACED = "tenant_key.replaced"
    TENANT_KEY_DESTROYED = "tenant_key.destroyed"
    DATA_KEY_CREATED = "data_key.created"
    CONNECTION_KEY_REPLACED = "connection_key.replaced"
    CONNECTION_KEY_DESTROYED = "connection_key.destroyed"


@dataclass(frozen=True, slots=True)
class KeyEvent:
    """One line for the ledger."""

    deed: KeyDeed
    tenant_id: TenantId
    key_id: UUID
    root: str = ""
    """Name of the root key, where the key service was asked."""
    purpose: str = ""
    """Of a data key: `connection`, `payload`, `mac`."""
    scope: str = ""
    """Of a data key: the connection's id, the day."""


class Witness(Protocol):
    """Who writes the vault's deeds into the ledger. What it raises undoes the deed, and the caller of the vault gets it."""

    async def __call__(self, tx: Executor | None, event: KeyEvent) -> None:
        """Write one entry.

        Args:
            tx: the keyring's open transaction in the tenant, to be written in where the ledger is in the same database; None for an
                unwrapping, which changes nothing in the keyring.
            event: what happened.
        """
        ...
