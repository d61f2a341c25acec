"""How other rooms tell a user something, and how this one tells the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol
from uuid import UUID

from customhouse.db import Executor
from customhouse.types import Json, TenantId

CREATED: Final = "customhouse.notice.created"


@dataclass(frozen=True, slots=True)
class Recipient:
    """Whom a notice is for."""

    user_id: str
    """The host's own, opaque."""
    email: str | None = field(default=None, repr=False)
    """None: the inbox alone, and the host's event."""


class Notify(Protocol):
    """Who tells users. `prepare` comes first: a cold key must not hold an open transaction."""

    async def prepare(self, tenant: TenantId) -> None:
        """Have the keys at hand that `notify` needs; keys that cannot be had are left."""
        ...

    async def notify(
        self,
        conn: Executor,
        tenant: TenantId,
        to: Recipient,
        kind: str,
        *,
        connection_id: UUID | None = None,
        detail: Mapping[str, Json] | None = None,
    ) -> UUID:
        """Write a notice in the caller's open transaction, which is in `tenant`: both are kept, or neither. Return its id.

        Raises:
            ValueError: the kind or its detail is not declared.
        """
        ...


class Announce(Protocol):
    """Who tells the host about us."""

    async def prepare(self, tenant: TenantId, event_type: str) -> None:
        """Have the keys at hand that `announce` needs, before a transaction is open."""
        ...

    async def announce(self, conn: Executor, tenant: TenantId, event_type: str, data: Mapping[str, Json]) -> None:
        """Tell, in the caller's open transaction, which is in `tenant`; never holds up what it tells of."""
        ...
