"""`/v1/connect-sessions`: the host invites a user to connect, and says who came back."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import Field

from customhouse import ids
from customhouse.connections.sessions import Invitation
from customhouse.connections.users import user_of
from customhouse.tenants.api_keys import Scope
from customhouse.web.auth import CallerOf, NamedTenant, needs
from customhouse.web.connections import ConnectionShape, complete
from customhouse.web.repeats import IdempotencyKey, once
from customhouse.web.routes import Body, Shape, router

ROUTES: Final = router("connections")


class UserBody(Body):
    """The person who is to connect. All but the id is sealed, and never shown to others."""

    id: Annotated[str, Field(description="The host's own opaque id.", json_schema_extra={"pattern": r"^[\x21-\x7e]{1,128}$"})]
    display_name: Annotated[str | None, Field(description="Shown on the consent page.")] = None
    email: Annotated[str | None, Field(description="Where notices go.")] = None
    locale: Annotated[str | None, Field(examples=["en", "pt-BR"])] = None


class NewConnectSession(Body):
    """Who is to connect what."""

    tenant_id: str | None = None
    user: UserBody
    provider: Annotated[str, Field(examples=["acme-idp"], max_length=64)]
    mode: Annotated[
        Literal["observe", "act"] | None, Field(description="Default: the mode that may do least, or the connection's own.")
    ] = None
    connection_id: Annotated[str | None, Field(description="A connection that gets another grant: another mode, or a new consent.")] = None
    return_url: Annotated[
        str | None,
        Field(description="Where the browser goes afterwards; `connect_session_id` and `connect_status` are added.", max_length=2048),
    ] = None


class ConnectSessionShape(Shape):
    """A link that is good for one person, once, for ten minutes."""

    session_id: str
    connect_url: str | None
    """Null where an idempotent call is repeated: a link is shown once."""
    secret_already_shown: bool = False
    expires_at: datetime


class Confirmation(Body):
    """Who is logged in at the host, in the browser that came back."""

    user_id: Annotated[str, Field(min_length=1, max_length=128)]


@ROUTES.post("/v1/connect-sessions", status_code=201, summary="Invite a user to connect a provider")
@needs(Scope.CONNECTIONS_WRITE)
async def create_connect_session(body: NewConnectSession, caller: CallerOf, _key: IdempotencyKey = None) -> ConnectSessionShape:
    """Make a link to the consent page. It is shown this once; give it to the browser of this user alone."""
    tenant = await caller.customer(body.tenant_id)
    wish = Invitation(
        user_of(body.user.id, body.user.display_name, body.user.email, body.user.locale),
        body.provider,
        body.mode,
        None if body.connection_id is None else ids.parse("con", body.connection_id),
        body.return_url,
    )
    made = await caller.app.sessions.invite(tenant, wish, caller.origin, await once(caller, tenant, "connect_sessions.create", body))
    return ConnectSessionShape(
        session_id=ids.show("cns", made.session_id),
        connect_url=made.link,
        secret_already_shown=made.link is None,
        expires_at=made.expires_at,
    )


@ROUTES.post("/v1/connect-sessions/{session_id}/confirm", summary="Confirm who connected")
@needs(Scope.CONNECTIONS_WRITE)
async def confirm_connect_session(session_id: str, body: Confirmation, caller: CallerOf, tenant_id: NamedTenant = None) -> ConnectionShape:
    """Say which user is logged in where the browser came back: the connection becomes usable. Another user: the grant is revoked."""
    tenant = await caller.customer(tenant_id)
    connection_id = await caller.app.confirming.confirm(tenant, ids.parse("cns", session_id), body.user_id, caller.origin)
    return await complete(caller, tenant, await caller.app.endpoints.get(tenant, connection_id))
