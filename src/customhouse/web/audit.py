"""`/v1/audit`: the ledger, page by page."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import Query

from customhouse import ids
from customhouse.audit import log
from customhouse.audit.log import Entry, Filter
from customhouse.audit.tags import TAGS
from customhouse.errors import Fault, Invalid, NotFound
from customhouse.tenants.api_keys import Scope
from customhouse.web.auth import CallerOf, ConnectionFilter, NamedTenant, needs
from customhouse.web.moments import Moment
from customhouse.web.pages import Page, PageOf
from customhouse.web.routes import Shape, router

ROUTES: Final = router("ledger")


class Actor(Shape):
    """Who did it."""

    type: str
    id: str


class EntryShape(Shape):
    """One line of the ledger."""

    entry_id: str
    at: datetime
    type: str
    actor: Actor
    connection_id: str | None
    subject: str
    detail: dict[str, Any]
    request_id: str | None
    correlation_id: str | None


@ROUTES.get("/v1/audit", summary="Read the ledger")
@needs(Scope.AUDIT_READ)
async def read_audit(
    caller: CallerOf,
    page: PageOf,
    tenant_id: NamedTenant = None,
    connection_id: ConnectionFilter = None,
    actor_id: Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_.:-]{1,128}$")] = None,
    type: Annotated[str | None, Query(pattern=r"^[a-z_.]{1,64}$")] = None,  # noqa: A002 - the name of the parameter in the query
    since: Moment | None = None,
    until: Moment | None = None,
) -> Page[EntryShape]:
    """Read a tenant's entries, the newest first; `_platform` is the operator's own ledger."""
    tenant = await caller.tenant(tenant_id)
    faults = []
    connection = None
    if connection_id is not None:
        try:
            connection = ids.parse("con", connection_id)
        except NotFound:
            faults.append(Fault("/connection_id", "is not a connection id"))
    if type is not None and type not in TAGS:
        faults.append(Fault("/type", "is no type of entry"))
    if faults:
        raise Invalid("The query is not acceptable.", tuple(faults))
    wanted = Filter(connection, actor_id, type, since, until, page.before())
    async with caller.app.database.transaction(tenant) as conn:
        found = await log.read(conn, tenant, wanted, page.limit + 1)
    return page.page(found, _shown, lambda one: one.entry_id)


def _shown(one: Entry) -> EntryShape:
    return EntryShape(
        entry_id=ids.show("aud", one.entry_id),
        at=one.at,
        type=one.tag,
        actor=Actor(type=one.origin.actor_type, id=one.origin.actor_id),
        connection_id=None if one.connection_id is None else ids.show("con", one.connection_id),
        subject=one.subject,
        detail=one.detail,
        request_id=one.origin.request_id,
        correlation_id=one.origin.correlation_id,
    )
