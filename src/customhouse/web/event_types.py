"""`/v1/event-types`, and the JSON Schemas below `/v1/schemas`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import Response
from pydantic import ConfigDict, Field

from customhouse.canonical import dump
from customhouse.outbound.envelope import JSON_SCHEMA
from customhouse.privacy.classes import CLASS_NAMES
from customhouse.tenants.api_keys import Scope
from customhouse.tenants.event_types import ENVELOPE, EventType
from customhouse.types import JsonObject
from customhouse.web.auth import CallerOf, NamedTenant, needs
from customhouse.web.pages import Page, PageOf
from customhouse.web.routes import Body, Shape, router

ROUTES: Final = router("event types")
_SCHEMA_TYPE: Final = "application/schema+json"
_SCHEMA_ANSWER: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The schema", "content": {_SCHEMA_TYPE: {"schema": {"type": "object"}}}}
}


class NewEventType(Body):
    """An event type to declare, or to declare anew."""

    tenant_id: Annotated[str | None, Field(description="Required with a platform key; `_platform` declares it for all tenants.")] = None
    event_type: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,128}$", examples=["person.updated"])]
    description: Annotated[str, Field(max_length=2000)] = ""
    json_schema: Annotated[
        dict[str, Any] | None, Field(alias="schema", description="JSON Schema 2020-12 of `data`; it refers to nothing outside itself.")
    ] = None
    pii: Annotated[
        dict[str, str],
        Field(
            default_factory=dict,
            description="JSON pointer below `data` → class of personal data.",
            examples=[{"/person/phone": "phone"}],
            json_schema_extra={"propertyNames": {"pattern": "^/"}, "additionalProperties": {"enum": sorted(CLASS_NAMES)}},
        ),
    ]


class EventTypeShape(Shape):
    """A declared event type; `tenant_id` is `_platform` where the operator declared it for all."""

    model_config = ConfigDict(populate_by_name=True)

    event_type: str
    tenant_id: str
    description: str
    json_schema: Annotated[dict[str, Any] | None, Field(alias="schema")]
    pii: dict[str, str]
    created_at: datetime
    updated_at: datetime


class SchemaLink(Shape):
    """Where a schema is."""

    name: str
    href: str


@ROUTES.post(
    "/v1/event-types",
    status_code=201,
    summary="Declare an event type",
    responses={200: {"model": EventTypeShape, "description": "Changed"}},
)
@needs(Scope.ADMIN)
async def declare_event_type(body: NewEventType, caller: CallerOf, response: Response) -> EventTypeShape:
    """Declare an event type, or declare it anew: what its data looks like, and which of it is personal."""
    tenant = await caller.tenant(body.tenant_id)
    made = await caller.app.event_types.register(tenant, body.event_type, body.description, body.json_schema, body.pii, caller.origin)
    if made.updated_at != made.created_at:
        response.status_code = 200
    return _shown(made)


@ROUTES.get("/v1/event-types", summary="List event types")
@needs(Scope.CONNECTIONS_READ, Scope.EVENTS_WRITE, Scope.ADMIN)
async def list_event_types(caller: CallerOf, page: PageOf, tenant_id: NamedTenant = None) -> Page[EventTypeShape]:
    """List the types that hold for a tenant, the operator's included, by name."""
    tenant = await caller.tenant(tenant_id)
    found = await caller.app.event_types.list(tenant, page.after(), page.limit + 1)
    return page.page(found, _shown, lambda one: one.event_type)


@ROUTES.get("/v1/schemas", summary="List schemas")
@needs(Scope.CONNECTIONS_READ, Scope.EVENTS_WRITE, Scope.ADMIN)
async def list_schemas(caller: CallerOf, page: PageOf, tenant_id: NamedTenant = None) -> Page[SchemaLink]:
    """List the schemas of the event types; that of the envelope is always at `/v1/schemas/envelope`."""
    tenant = await caller.tenant(tenant_id)
    found = await caller.app.event_types.list(tenant, page.after(), page.limit + 1)
    return page.page(found, lambda one: SchemaLink(name=one.event_type, href=f"/v1/schemas/{one.event_type}"), lambda one: one.event_type)


@ROUTES.get(f"/v1/schemas/{ENVELOPE}", summary="Show the envelope's schema", response_class=Response, responses=_SCHEMA_ANSWER)
@needs(Scope.CONNECTIONS_READ, Scope.EVENTS_WRITE, Scope.ADMIN)
async def get_envelope_schema(_caller: CallerOf) -> Response:
    """Show the JSON Schema of what receivers get."""
    return _schema(JSON_SCHEMA)


@ROUTES.get("/v1/schemas/{event_type}", summary="Show an event type's schema", response_class=Response, responses=_SCHEMA_ANSWER)
@needs(Scope.CONNECTIONS_READ, Scope.EVENTS_WRITE, Scope.ADMIN)
async def get_schema(event_type: str, caller: CallerOf, tenant_id: NamedTenant = None) -> Response:
    """Show the JSON Schema of an event type's `data`; where none was given, any object fits."""
    tenant = await caller.tenant(tenant_id)
    found = await caller.app.event_types.get(tenant, event_type)
    return _schema({"type": "object"} if found.schema is None else found.schema)


def _schema(schema: JsonObject) -> Response:
    return Response(dump(schema), media_type=_SCHEMA_TYPE)


def _shown(one: EventType) -> EventTypeShape:
    return EventTypeShape(
        event_type=one.event_type,
        tenant_id=one.tenant_id,
        description=one.description,
        json_schema=one.schema,
        pii=dict(one.pii),
        created_at=one.created_at,
        updated_at=one.updated_at,
    )
