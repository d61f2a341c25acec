"""`/v1/tenants/{tenant_id}/privacy-policy`."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from customhouse import ids
from customhouse.tenants.api_keys import Scope
from customhouse.tenants.policies import TenantPolicy
from customhouse.web.auth import CallerOf, needs
from customhouse.web.routes import Body, Shape, router

ROUTES: Final = router("privacy")
Fields = Annotated[
    list[Annotated[str, Field(json_schema_extra={"pattern": "^[a-z][a-z0-9_]{0,63}$"})]], Field(max_length=100, examples=[["work_email"]])
]


class Narrower(Body):
    """What one connection may carry; it can only be narrower than the tenant's."""

    allowed_fields: Fields


class NewPolicy(Body):
    """A policy that replaces the present one."""

    allowed_fields: Fields
    connections: Annotated[
        dict[str, Narrower],
        Field(
            default_factory=dict,
            max_length=1000,
            description="Connection id → narrower list.",
            json_schema_extra={"propertyNames": {"pattern": "^con_[0-7][0-9a-hjkmnp-tv-z]{25}$"}},
        ),
    ]
    on_violation: Literal["remove", "refuse"] = "remove"


class NarrowerShape(Shape):
    """What one connection may carry."""

    allowed_fields: list[str]


class PolicyShape(Shape):
    """The policy in force; version 0 is the default that holds before the first one is set."""

    version: int
    allowed_fields: list[str]
    connections: dict[str, NarrowerShape]
    on_violation: str


@ROUTES.get("/v1/tenants/{tenant_id}/privacy-policy", summary="Show the privacy policy")
@needs(Scope.CONNECTIONS_READ, Scope.ADMIN)
async def get_policy(tenant_id: str, caller: CallerOf) -> PolicyShape:
    """Show which personal data may leave."""
    return _shown(await caller.app.policies.get(await caller.customer(tenant_id)))


@ROUTES.put("/v1/tenants/{tenant_id}/privacy-policy", summary="Replace the privacy policy")
@needs(Scope.ADMIN)
async def put_policy(tenant_id: str, body: NewPolicy, caller: CallerOf) -> PolicyShape:
    """Replace the policy; what is accepted from now on is judged by the new version."""
    tenant = await caller.customer(tenant_id)
    narrower = {name: one.allowed_fields for name, one in body.connections.items()}
    return _shown(await caller.app.policies.put(tenant, body.allowed_fields, narrower, body.on_violation, caller.origin))


def _shown(policy: TenantPolicy) -> PolicyShape:
    return PolicyShape(
        version=policy.version,
        allowed_fields=sorted(policy.allowed_fields),
        connections={ids.show("con", key): NarrowerShape(allowed_fields=sorted(fields)) for key, fields in policy.connections.items()},
        on_violation=policy.on_violation.value,
    )
