"""`/v1/notices`: what users were told."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import Query

from customhouse import ids
from customhouse.notices.inbox import Notice
from customhouse.tenants.api_keys import Scope
from customhouse.web.auth import CallerOf, NamedTenant, needs
from customhouse.web.pages import Page, PageOf
from customhouse.web.routes import Shape, router

ROUTES: Final = router("notices")


class MailShape(Shape):
    """The e-mail that goes with a notice."""

    status: Literal["none", "pending", "sent", "failed"]
    reason: str | None


class NoticeShape(Shape):
    """One notice; `says` is the sentence of its kind."""

    notice_id: str
    user_id: str
    kind: str
    says: str
    connection_id: str | None
    detail: dict[str, Any]
    created_at: datetime
    read_at: datetime | None
    mail: MailShape


@ROUTES.get("/v1/notices", summary="List notices to users")
@needs(Scope.CONNECTIONS_READ, Scope.ADMIN)
async def list_notices(
    caller: CallerOf,
    page: PageOf,
    tenant_id: NamedTenant = None,
    user_id: Annotated[str | None, Query(min_length=1, max_length=128, pattern=r"^[!-~]+$")] = None,
    unread: Annotated[Literal["true"] | None, Query(description="`true`: only those that nobody has marked as read.")] = None,
) -> Page[NoticeShape]:
    """List a tenant's notices, or one user's, the newest first."""
    tenant = await caller.customer(tenant_id)
    found = await caller.app.notices.find(tenant, user_id=user_id, unread=unread is not None, before=page.before(), limit=page.limit + 1)
    return page.page(found, _shown, lambda one: one.notice_id)


@ROUTES.post("/v1/notices/{notice_id}/read", summary="Mark a notice as read")
@needs(Scope.CONNECTIONS_WRITE, Scope.ADMIN)
async def read_notice(notice_id: str, caller: CallerOf, tenant_id: NamedTenant = None) -> NoticeShape:
    """Mark a notice as read, as of now; one that is marked keeps its time."""
    tenant = await caller.customer(tenant_id)
    return _shown(await caller.app.notices.read(tenant, ids.parse("ntc", notice_id)))


def _shown(one: Notice) -> NoticeShape:
    return NoticeShape(
        notice_id=ids.show("ntc", one.notice_id),
        user_id=one.user_id,
        kind=one.kind,
        says=one.says,
        connection_id=None if one.connection_id is None else ids.show("con", one.connection_id),
        detail=one.detail,
        created_at=one.created_at,
        read_at=one.read_at,
        mail=MailShape.model_validate({"status": one.mail, "reason": one.mail_reason}),
    )
