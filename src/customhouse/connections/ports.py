"""What this room asks of its neighbours; `app` joins them (rulings §14)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

from customhouse.db import Executor
from customhouse.providers.manifest import Provider
from customhouse.types import Json, Secret, TenantId

CREATED: Final = "customhouse.connection.created"
CHANGED: Final = "customhouse.connection.changed"
DEGRADED: Final = "customhouse.connection.degraded"
DISCONNECTED: Final = "customhouse.connection.disconnected"
REFUSED: Final = "customhouse.connection.refused"
DORMANT: Final = "customhouse.connection.dormant"
PAUSED: Final = "customhouse.connection.paused"
REVOCATION_ENDED: Final = "customhouse.connection.revocation_ended"
REAUTHORIZE: Final = "customhouse.connection.reauthorization_required"
PROVIDER_REFUSES: Final = "customhouse.provider.refuses_registration"
DISABLED: Final = "customhouse.connection.disabled"
KEY_OLD: Final = "customhouse.connection.key_old"


class Announce(Protocol):
    """Who tells the host about us."""

    async def prepare(self, tenant: TenantId, event_type: str) -> None:
        """Have the keys at hand that `announce` needs, before a transaction is open."""
        ...

    async def announce(self, conn: Executor, tenant: TenantId, event_type: str, data: Mapping[str, Json]) -> None:
        """Tell, in the caller's open transaction, which is in `tenant`."""
        ...


class Refresher(Protocol):
    """Who renews access tokens."""

    async def renew(self, tenant: TenantId, connection_id: UUID, *, generation: int) -> None:
        """Return when a token of a later generation is stored, by whichever process.

        Raises:
            ReauthorizationRequired: the provider gives no more.
            TokenUnavailable: not within the time that a caller waits, or the provider is away.
            NotFound: no such connection in this tenant.
        """
        ...

    def nudge(self, tenant: TenantId, connection_id: UUID, generation: int) -> None:
        """Ask for a renewal of what is still valid; nobody waits for it."""
        ...


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What a disconnect took along."""

    deliveries: int = 0
    actions: int = 0


class OnDisconnect(Protocol):
    """Who has work waiting for connections: it ends with them."""

    async def __call__(self, conn: Executor, tenant: TenantId, connection_id: UUID) -> Cancelled:
        """Cancel what waits, in the caller's open transaction, which is in `tenant` and holds the connection's row for update."""
        ...


class Subscriptions(Protocol):
    """Who has subscriptions at providers: they end before the grant does, because ending them takes its token."""

    async def __call__(self, tenant: TenantId, connection_id: UUID, provider: Provider, access: Secret, api_origin: str | None) -> int:
        """End them, and return how many were ended. What fails is left: a provider ends what belongs to a grant with the grant."""
        ...
