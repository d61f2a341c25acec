"""`/v1/api-keys`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from fastapi import Response
from pydantic import Field

from customhouse import ids
from customhouse.tenants.api_keys import ApiKey, Scope
from customhouse.web.auth import CallerOf, NamedTenant, needs
from customhouse.web.moments import Moment
from customhouse.web.pages import Page, PageOf
from customhouse.web.repeats import IdempotencyKey, once
from customhouse.web.routes import Body, Shape, router

ROUTES: Final = router("API keys")


class NewApiKey(Body):
    """A key to make."""

    tenant_id: Annotated[str | None, Field(description="Required with a platform key; `_platform` for a further platform key.")] = None
    name: Annotated[str, Field(min_length=1, max_length=200)]
    scopes: Annotated[list[str], Field(min_length=1, max_length=len(Scope), json_schema_extra={"items": {"enum": [*Scope]}})]
    expires_at: Moment | None = None


class ApiKeyShape(Shape):
    """A key without its token."""

    key_id: str
    tenant_id: str
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class MadeApiKey(ApiKeyShape):
    """A key that was just made; `api_key` is shown this once, and null where an idempotent call is repeated."""

    api_key: str | None
    secret_already_shown: bool = False


@ROUTES.post("/v1/api-keys", status_code=201, summary="Make an API key")
@needs(Scope.ADMIN)
async def create_api_key(body: NewApiKey, caller: CallerOf, _key: IdempotencyKey = None) -> MadeApiKey:
    """Make a key; it cannot get scopes that the caller's own key does not carry. The token is shown this once."""
    tenant = await caller.tenant(body.tenant_id)
    key, token = await caller.app.api_keys.create(
        tenant,
        body.name,
        body.scopes,
        caller.origin,
        by=caller.key,
        expires_at=body.expires_at,
        once=await once(caller, tenant, "api_keys.create", body),
    )
    return MadeApiKey(
        **_shown(key).model_dump(),
        api_key=None if token is None else token.reveal().decode(),
        secret_already_shown=token is None,
    )


@ROUTES.get("/v1/api-keys", summary="List API keys")
@needs(Scope.ADMIN)
async def list_api_keys(caller: CallerOf, page: PageOf, tenant_id: NamedTenant = None) -> Page[ApiKeyShape]:
    """List keys, the newest first, revoked ones included."""
    tenant = await caller.tenant(tenant_id)
    keys = await caller.app.api_keys.list(tenant, page.before(), page.limit + 1)
    return page.page(keys, _shown, lambda key: key.key_id)


@ROUTES.delete("/v1/api-keys/{key_id}", status_code=204, summary="Revoke an API key")
@needs(Scope.ADMIN)
async def revoke_api_key(key_id: str, caller: CallerOf, tenant_id: NamedTenant = None) -> Response:
    """Revoke a key: it ends at once, in every process."""
    tenant = await caller.tenant(tenant_id)
    await caller.app.api_keys.revoke(tenant, ids.parse("key", key_id), caller.origin)
    return Response(status_code=204)


def _shown(key: ApiKey) -> ApiKeyShape:
    return ApiKeyShape(
        key_id=ids.show("key", key.key_id),
        tenant_id=key.tenant_id,
        name=key.name,
        scopes=sorted(key.scopes),
        created_at=key.created_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
    )
