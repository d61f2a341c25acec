"""`/v1/connections/{connection_id}/proxy/{path}`: raw path in, the provider's answer out, piece by piece. No framework looks at either."""

from __future__ import annotations

import re
from typing import Any, Final

from starlette.requests import ClientDisconnect
from starlette.routing import Route

from customhouse import ids
from customhouse.app import App
from customhouse.connections.proxying import LARGEST_BODY, PASSED_ON, Request
from customhouse.connections.reading import Asker
from customhouse.egress.relaying import Answer, Broken
from customhouse.errors import Fault, Invalid, NotFound, TooLarge
from customhouse.logs import get
from customhouse.tenants.api_keys import Scope
from customhouse.web.auth import authenticate, named_tenant, origin_of
from customhouse.web.bodies import Receive
from customhouse.web.calls import Call, call_of

_log: Final = get("customhouse.web.proxy")
TEMPLATE: Final = "/v1/connections/{connection_id}/proxy/{path}"
METHODS: Final = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
TENANT: Final = b"x-customhouse-tenant"
"""Where a platform key names the tenant: the query is the provider's."""
RELAYED: Final = b"x-customhouse-relayed"
"""Marks answers that are the provider's, so that its 404 is not taken for ours."""
_RAW: Final = re.compile(rb"/v1/connections/([A-Za-z0-9_]{1,64})/proxy(/.*)", re.DOTALL)
_VALUE: Final = re.compile(rb"[\x20-\x7e]{0,1024}")


def route(app: App) -> Route:
    """Return the route; it serves itself, without what the framework would read out of a decoded path."""
    return Route("/v1/connections/{connection_id}/proxy/{path:path}", Passage(app), methods=list(METHODS), include_in_schema=False)


class Passage:
    """Serves calls for providers."""

    def __init__(self, app: App) -> None:
        """Take the running application."""
        self._app = app

    async def __call__(self, scope: Any, receive: Receive, send: Any) -> None:
        """Serve one call; raises what the door answers."""
        call = call_of(scope)
        call.route = TEMPLATE
        key = await authenticate(self._app.api_keys, call)
        key.require(Scope.ACTIONS_WRITE)
        # The decoded path has made a `/` of `%2F`: what decides is the one of the request line (threats R25).
        raw = _RAW.fullmatch(scope["raw_path"])
        if raw is None:
            raise NotFound
        tenant = named_tenant(key, _tenant(scope))
        connection_id = ids.parse("con", raw[1].decode())
        body = await _body(call, receive)
        request = Request(scope["method"], raw[2], scope["query_string"], _headers(scope), body)
        asker = Asker(origin_of(key, call), key.tenant_id)
        async with self._app.proxy.call(tenant, connection_id, asker, request) as answer:
            await _pass_back(answer, request.method, send, call)


async def _pass_back(answer: Answer, method: str, send: Any, call: Call) -> None:
    headers = [(name.encode(), value.encode("latin-1")) for name, value in answer.headers]
    if answer.length is not None:
        headers.append((b"content-length", str(answer.length).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": [*headers, (RELAYED, b"1")]})
    try:
        if method != "HEAD":
            async for piece in answer.chunks():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
    except Broken as broken:
        # The head is on its way: the connection is cut, so that nobody takes a part for the whole.
        _log.warning("relay_broken", request_id=call.request_id, error=broken.failure)
        return
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _body(call: Call, receive: Receive) -> bytes:
    declared = call.headers.get(b"content-length")
    if declared is not None and (not declared.isdigit() or len(declared) > 19 or int(declared) > LARGEST_BODY):  # noqa: PLR2004
        raise TooLarge(f"The body is larger than {LARGEST_BODY} bytes.")
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > LARGEST_BODY:
            raise TooLarge(f"The body is larger than {LARGEST_BODY} bytes.")
        more = message.get("more_body", False)
    call.request_bytes = len(body)
    return bytes(body)


def _tenant(scope: Any) -> str | None:
    found = [value for name, value in scope["headers"] if name == TENANT]
    if len(found) > 1:
        raise Invalid("The tenant is named more than once.", (Fault("/x-customhouse-tenant", "is given more than once"),))
    return found[0].decode("latin-1") if found else None


def _headers(scope: Any) -> dict[str, str]:
    """Return the headers that are passed on.

    Raises:
        Invalid: one of them is given twice, or holds what a header of ours may not.
    """
    found: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name = raw.decode("latin-1")
        if name not in PASSED_ON:
            continue
        if name in found or _VALUE.fullmatch(value) is None:
            raise Invalid("The headers are not acceptable.", (Fault(f"/{name}", "is given twice, is too long, or is not printable ASCII"),))
        found[name] = value.decode("ascii")
    return found
