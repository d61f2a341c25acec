"""One port for all providers: finds the route, obeys the orders for faults, and writes down what came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from customhouse_sandbox import oauth
from customhouse_sandbox.admin import ADMIN, administer
from customhouse_sandbox.faults import FaultKind, Operation
from customhouse_sandbox.http import CUT, HOST, Reply, Request, Server, as_json
from customhouse_sandbox.routing import Ask, Handshake, Route, Vendor
from customhouse_sandbox.sandbox import PUBLIC_URL, VENDORS, Call, Sandbox
from customhouse_sandbox.state import Token

_VENDORS: Final = {vendor.name: vendor for vendor in VENDORS}


class Front:
    """Answers every request."""

    def __init__(self, sandbox: Sandbox) -> None:
        """Take the sandbox; `open` says where it is."""
        self._sandbox = sandbox
        self._names: frozenset[str] = frozenset()

    def open(self, port: int) -> None:
        """Begin below a port of this machine."""
        self._names = frozenset({f"{HOST}:{port}", f"localhost:{port}"})
        self._sandbox.open(port)

    async def answer(self, request: Request) -> Reply:
        """Answer one call: to a provider, or to the sandbox itself."""
        if request.headers.get("host", "") not in self._names:
            # Another name for this machine means a web page that plays with DNS.
            return as_json(421, {"error": "Call the sandbox by 127.0.0.1."})
        name, _, rest = request.path.removeprefix("/").partition("/")
        if name == ADMIN:
            return administer(self._sandbox, request)
        vendor = _VENDORS.get(name)
        if vendor is None:
            return as_json(404, {"error": "There is no such provider here."})
        return await self._provide(vendor, request, f"/{rest}")

    async def _provide(self, vendor: Vendor, request: Request, path: str) -> Reply:
        realm = self._sandbox.realms[vendor.name]
        for route in vendor.routes:
            parts = route.match(request.method, path)
            if parts is not None:
                break
        else:
            return vendor.unknown(Ask(request, realm, {}))
        operation, application, shown = _about(vendor, route, Ask(request, realm, parts))
        faults = realm.faults.take(operation, application)
        reply = await self._faulty(vendor, route, Ask(request, realm, parts, faults))
        person = shown.grant.person if shown else ""
        grant, token = (shown.grant.id, shown.number) if shown else ("", 0)
        number = len(self._sandbox.calls) + 1
        call = Call(
            number, realm.now(), vendor.name, operation, request.method, route.path, application, person, grant, token, reply.status
        )
        await self._sandbox.note(call)
        return reply

    async def _faulty(self, vendor: Vendor, route: Route, ask: Ask) -> Reply:
        faults = ask.faults
        if FaultKind.SLOW in faults:
            await asyncio.sleep(faults[FaultKind.SLOW].values["seconds"])
        if FaultKind.HOLD in faults:
            await self._sandbox.hold(faults[FaultKind.HOLD])
        if FaultKind.UNREACHED in faults:
            return CUT
        if FaultKind.STATUS in faults:
            values = faults[FaultKind.STATUS].values
            wait = () if values.get("retry_after") is None else (("Retry-After", str(values["retry_after"])),)
            failing = vendor.failing(values["status"])
            return replace(failing, headers=(*failing.headers, *wait))
        if FaultKind.RATE_LIMITED in faults:
            return vendor.limited(ask.realm, faults[FaultKind.RATE_LIMITED].values.get("retry_after"))
        if FaultKind.INVALID_GRANT in faults:
            return vendor.ended(ask.realm)
        seconds = _wait(vendor, route, ask)
        if seconds is not None:
            return vendor.limited(ask.realm, seconds)
        reply = await self._answered(route, ask)
        if FaultKind.LOST in faults:
            return CUT
        if FaultKind.REPLY in faults:
            values = faults[FaultKind.REPLY].values
            return Reply(values.get("status", 200), values["body"].encode(), (("Content-Type", "application/json"),))
        return reply

    async def _answered(self, route: Route, ask: Ask) -> Reply:
        reply = route.answer(ask)
        if isinstance(reply, Handshake):
            proven = [await self._sandbox.send(outgoing) for outgoing in reply.asks]
            return reply.then(all(proven))
        return reply


def _wait(vendor: Vendor, route: Route, ask: Ask) -> int | None:
    if ask.realm.limit is None or route.operation not in {Operation.API, Operation.IDENTITY}:
        return None
    shown = oauth.opened_by(ask.realm, vendor.shows(ask.request))
    return None if shown is None else ask.realm.limit.wait(vendor.counted(*shown), ask.realm.now())


def _about(vendor: Vendor, route: Route, ask: Ask) -> tuple[Operation, str, Token | None]:
    """Return what a call is for, whose it is and what token it shows, before anything is judged."""
    request, realm = ask.request, ask.realm
    said = oauth.parameters(request)
    operation = route.operation
    if operation is Operation.EXCHANGE and said.get("grant_type") == "refresh_token":
        operation = Operation.REFRESH
    value = vendor.shows(request)
    candidates = [value] if value else [said.get("refresh_token", ""), said.get("token", ""), ask.parts.get("token", "")]
    shown = next((realm.tokens[text] for text in candidates if text in realm.tokens), None)
    named = realm.application((oauth.basic(request) or (said.get("client_id", ""), ""))[0])
    application = named.key if named else shown.grant.application if shown else ""
    return operation, application, shown


@asynccontextmanager
async def running(*, port: int = 0, public_url: str = PUBLIC_URL, seed: str = "sandbox") -> AsyncIterator[Sandbox]:
    """Run a sandbox on loopback for the length of a block.

    Raises:
        OSError: the port is taken.
    """
    sandbox = Sandbox(public_url=public_url, seed=seed)
    front = Front(sandbox)
    server = Server(front.answer)
    await server.start(port)
    front.open(server.port)
    postman = asyncio.create_task(sandbox.deliver())
    try:
        yield sandbox
    finally:
        postman.cancel()
        await asyncio.gather(postman, return_exceptions=True)
        await server.close()
