"""`/v1/tenants`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from pydantic import Field

from customhouse.tenants.api_keys import Scope
from customhouse.tenants.store import Tenant
from customhouse.types import PLATFORM
from customhouse.web.auth import CallerOf, needs
from customhouse.web.repeats import IdempotencyKey, once
from customhouse.web.routes import Body, Shape, router

ROUTES: Final = router("tenants")


class NewTenant(Body):
    """A tenant to create."""

    tenant_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$", examples=["acme"])]
    name: Annotated[str, Field(min_length=1, max_length=200, examples=["Acme Ltd"])]


class TenantShape(Shape):
    """A tenant."""

    tenant_id: str
    name: str
    status: str
    created_at: datetime


@ROUTES.post("/v1/tenants", status_code=201, summary="Create a tenant")
@needs(Scope.ADMIN, platform=True)
async def create_tenant(body: NewTenant, caller: CallerOf, _key: IdempotencyKey = None) -> TenantShape:
    """Create a tenant with its own key under the key service. Needs a platform key."""
    made = await caller.app.tenants.create(body.tenant_id, body.name, caller.origin, await once(caller, PLATFORM, "tenants.create", body))
    return _shown(made)


@ROUTES.get("/v1/tenants/{tenant_id}", summary="Show a tenant")
@needs(Scope.ADMIN)
async def get_tenant(tenant_id: str, caller: CallerOf) -> TenantShape:
    """Show a tenant."""
    return _shown(await caller.app.tenants.get(await caller.customer(tenant_id)))


def _shown(tenant: Tenant) -> TenantShape:
    return TenantShape(tenant_id=tenant.tenant_id, name=tenant.name, status=tenant.status, created_at=tenant.created_at)
