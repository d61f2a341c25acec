"""`/v1/connections/{connection_id}/credentials`: another key in the place of a pasted one."""

from __future__ import annotations

from typing import Final

from customhouse import ids
from customhouse.tenants.api_keys import Scope
from customhouse.web.auth import CallerOf, NamedTenant, needs
from customhouse.web.connections import MadeConnection, complete, inbound_of
from customhouse.web.credentials import Credentials
from customhouse.web.routes import Body, router

ROUTES: Final = router("connections")


class NewCredentials(Body):
    """What takes the place of what is held; a webhook secret that is left out stays."""

    credentials: Credentials


class ReplacedConnection(MadeConnection):
    """A connection whose key was replaced."""

    instructions: str
    """What is left to do for whoever made the key."""


@ROUTES.post("/v1/connections/{connection_id}/credentials", summary="Replace a pasted key")
@needs(Scope.CONNECTIONS_WRITE)
async def replace_credentials(
    connection_id: str, body: NewCredentials, caller: CallerOf, tenant_id: NamedTenant = None
) -> ReplacedConnection:
    """Probe another key of the same account, put it in the place of the one that is held, and destroy that one here."""
    tenant = await caller.customer(tenant_id)
    given = body.credentials
    kept = await caller.app.pasted_keys.replace(tenant, ids.parse("con", connection_id), given.key(), given.inbound(), caller.origin)
    shown = await complete(caller, tenant, await caller.app.endpoints.get(tenant, kept.connection_id))
    return ReplacedConnection(**shown.model_dump(), secrets=inbound_of(kept), instructions=kept.instructions)
