"""`POST /v1/connections/{connection_id}/access-token`: a hot route, and its description for the framework, which serves it too."""

from __future__ import annotations

import re
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect

from customhouse import ids
from customhouse.app import App
from customhouse.canonical import dump
from customhouse.clock import rfc3339
from customhouse.connections.exporting import export
from customhouse.connections.reading import Asker, Reading
from customhouse.errors import Fault, Invalid
from customhouse.metrics import TOKEN_READS
from customhouse.tenants.api_keys import ApiKey, Scope
from customhouse.web.auth import CallerOf, NamedTenant, authenticate, named_tenant, needs, origin_of
from customhouse.web.bodies import Receive
from customhouse.web.calls import Call
from customhouse.web.express import Handler
from customhouse.web.routes import Shape, router

ROUTES: Final = router("connections")
TEMPLATE: Final = "/v1/connections/{connection_id}/access-token"
_URL: Final = re.compile(rb"/v1/connections/([A-Za-z0-9_]{1,64})/access-token(?:\?([\x21-\x7e]*))?")


class TokenShape(Shape):
    """An access token of the provider, to be shown to the provider alone."""

    access_token: str
    token_type: str
    expires_at: datetime | None
    scopes: tuple[str, ...]


@ROUTES.post(TEMPLATE, summary="Read the access token")
@needs(Scope.TOKENS_READ)
async def read_access_token(connection_id: str, caller: CallerOf, tenant_id: NamedTenant = None) -> TokenShape:
    """Read a fresh access token, renewed where its time is over. Written into the ledger before it is answered.

    Only where `TOKEN_EXPORT` is `on`, and never for a grant with which something can be changed, or whose limits are kept here alone
    (409 `token_not_exportable`): such connections are used through the proxy.
    """
    found = await _exported(caller.app, caller.key, caller.call, connection_id, tenant_id)
    return TokenShape(
        access_token=found.access.reveal().decode(), token_type=found.token_type, expires_at=found.expires_at, scopes=found.scopes
    )


class Tokens:
    """The same without a framework, for callers that ask thousands of times a second."""

    def __init__(self, app: App) -> None:
        """Take the running application."""
        self._app = app

    def find(self, url: bytes) -> tuple[str, Handler] | None:
        """Return template and handler of a request target; None: it is none of this route, or not spelt plainly."""
        if not url.startswith(b"/v1/connections/") or b"/access-token" not in url:
            return None
        found = _URL.fullmatch(url)
        return None if found is None else (TEMPLATE, partial(self._answer, found[1].decode(), found[2]))

    async def _answer(self, connection_id: str, query: bytes | None, call: Call, receive: Receive) -> bytes:
        key = await authenticate(self._app.api_keys, call)
        key.require(Scope.TOKENS_READ)
        tenant_id = None if query is None else _tenant_in(query)
        if (await receive())["type"] == "http.disconnect":
            raise ClientDisconnect
        found = await _exported(self._app, key, call, connection_id, tenant_id)
        # The ledger has its own line of it.
        call.status, call.told = HTTPStatus.OK, True
        return dump(
            {
                "access_token": found.access.reveal().decode(),
                "token_type": found.token_type,
                "expires_at": None if found.expires_at is None else rfc3339(found.expires_at),
                "scopes": list(found.scopes),
            }
        )


async def _exported(app: App, key: ApiKey, call: Call, connection_id: str, tenant_id: str | None) -> Reading:
    tenant = named_tenant(key, tenant_id)
    try:
        asker = Asker(origin_of(key, call), key.tenant_id)
        found = await export(app.reader, tenant, ids.parse("con", connection_id), asker, allowed=app.settings.token_export)
    except Exception:
        app.metrics.counter(TOKEN_READS, outcome="refused").inc()
        raise
    app.metrics.counter(TOKEN_READS, outcome="read").inc()
    return found


def _tenant_in(query: bytes) -> str | None:
    """Return `tenant_id` of a query; raises `Invalid` as the framework's routes do."""
    given = parse_qsl(query.decode("ascii"), keep_blank_values=True)
    names = [name for name, _ in given]
    faults = [Fault("/tenant_id", "is given more than once")] if names.count("tenant_id") > 1 else []
    if set(names) - {"tenant_id"}:
        faults.append(Fault("", "has an unknown query parameter; known are tenant_id"))
    if faults:
        raise Invalid("The query is not acceptable.", tuple(faults))
    return dict(given).get("tenant_id")
