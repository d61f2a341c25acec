"""Disconnecting, and the receipt of it: as JSON, signed, and as a page for people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from fastapi import Query, Request, Response

from customhouse import ids
from customhouse.canonical import dump, dump_sorted
from customhouse.connections.receipts import SIGNED, Receipt
from customhouse.crypto import statements
from customhouse.crypto.envelope import RecordKey
from customhouse.errors import NotFound
from customhouse.outbound.endpoints import PROVIDER
from customhouse.tenants.api_keys import Scope
from customhouse.types import PLATFORM, TenantId
from customhouse.web.auth import CallerOf, NamedTenant, app_of, needs
from customhouse.web.rendering import page
from customhouse.web.routes import Shape, router

ROUTES: Final = router("connections")
KEYS: Final = "/.well-known/customhouse-keys.json"
_PURPOSE: Final = "receipt-signing"


class Revocation(Shape):
    """What the provider was seen to do; there is nobody to revoke a webhook at."""

    status: Literal["revoked", "pending", "unsupported", "failed"]
    """`pending`: asked again until `escrow_until`; `unsupported`: cannot be done there (`instructions`); `failed`: was not done."""
    verified: bool
    """A token was shown to the provider afterwards, and refused."""
    attempts: int


class ReceiptShape(Shape):
    """What a disconnect did, as far as it is known; `version` grows."""

    tenant_id: str
    connection_id: str
    version: int
    provider: str
    reason: str
    revocation: Revocation
    shared: bool
    """Other connections stand on the same permission: it was dropped here alone."""
    tokens_destroyed: bool
    key_destroyed: bool
    escrow_until: datetime | None
    """Until when the sealed tokens wait at the latest, for their revocation alone."""
    actions_cancelled: int
    deliveries_cancelled: int
    subscriptions_ended: int
    notified: bool
    """A notice is in the user's inbox."""
    instructions: str | None
    """What somebody has to do at the provider."""
    audit_entry_id: str
    at: datetime
    updated_at: datetime


@ROUTES.delete("/v1/connections/{connection_id}", summary="Disconnect")
@needs(Scope.CONNECTIONS_WRITE)
async def disconnect(connection_id: str, caller: CallerOf, tenant_id: NamedTenant = None) -> ReceiptShape:
    """End a connection: unusable at once, revoked at the provider and probed, secrets and key destroyed, what waits cancelled.

    Answers the receipt.
    """
    tenant = await caller.tenant(tenant_id)
    found = ids.parse("con", connection_id)
    if await caller.app.grants.provider_of(tenant, found) != PROVIDER:
        return _shape(tenant, await caller.app.ending.disconnect(tenant, found, caller.origin))
    await caller.app.endpoints.disconnect(tenant, found, caller.origin)
    await caller.app.receipts.released(tenant, found)
    return _shape(tenant, await caller.app.receipts.get(tenant, found))


@ROUTES.get(
    "/v1/connections/{connection_id}/receipt",
    summary="Show the receipt of a disconnect",
    response_model=ReceiptShape,
    responses={200: {"content": {"application/jose+json": {}, "text/html": {}}}},
)
@needs(Scope.CONNECTIONS_READ)
async def get_receipt(
    connection_id: str,
    caller: CallerOf,
    request: Request,
    tenant_id: NamedTenant = None,
    format: Annotated[  # noqa: A002 - the parameter's name
        Literal["json", "signed", "html"] | None,
        Query(description="`signed`: a JWS (RFC 7515) that anybody can check; `html`: a page, also by `Accept: text/html`. Default: JSON."),
    ] = None,
) -> Response | ReceiptShape:
    """Show the newest version of a receipt."""
    tenant = await caller.tenant(tenant_id)
    receipt = await caller.app.receipts.get(tenant, ids.parse("con", connection_id))
    if format == "signed":
        signed = statements.sign(await _key(request), SIGNED, dump_sorted(receipt.document(tenant)))
        return Response(dump(signed), media_type="application/jose+json", headers={"cache-control": "no-store"})
    if format == "html" or (format is None and _wants_a_page(request)):
        return _page(request, receipt)
    return _shape(tenant, receipt)


@ROUTES.get(
    KEYS,
    summary="Show the keys that receipts are signed with",
    response_class=Response,
    responses={200: {"content": {"application/jwk-set+json": {}}}},
)
async def get_keys(request: Request) -> Response:
    """Show the public keys of this installation as a JSON Web Key Set (RFC 7517)."""
    keys = {"keys": [statements.public_key(await _key(request))]}
    return Response(dump(keys), media_type="application/jwk-set+json", headers={"cache-control": "public, max-age=300"})


async def _key(request: Request) -> RecordKey:
    return await app_of(request).vault.mac_key(PLATFORM, _PURPOSE)


def _shape(tenant: TenantId, receipt: Receipt) -> ReceiptShape:
    return ReceiptShape.model_validate(receipt.document(tenant))


def _wants_a_page(request: Request) -> bool:
    accepted = ",".join(request.headers.getlist("accept")).lower()
    return "text/html" in accepted and "application/json" not in accepted


def _page(request: Request, receipt: Receipt) -> Response:
    try:
        name = app_of(request).catalogue.get(receipt.provider).name
    except NotFound:
        name = receipt.provider.capitalize()
    return receipt_page(receipt, name)


def receipt_page(receipt: Receipt, provider: str) -> Response:
    """Return the page of a receipt; `provider` is what people call it."""
    return page(
        "receipt.html",
        receipt=receipt,
        document=receipt.document(TenantId("")),
        provider=provider,
        granted=receipt.provider != PROVIDER,
        spoken=_spoken,
    )


def _spoken(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%d %B %Y, %H:%M} UTC".removeprefix("0")
