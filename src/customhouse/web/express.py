"""The hot routes without a framework and without ASGI: one task per request, and its answer in one write.

An `Exchange` stands where uvicorn keeps its request-response cycle, and has what uvicorn's protocol asks of one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import ClientDisconnect

from customhouse.web.bodies import Receive
from customhouse.web.calls import Call
from customhouse.web.traffic import Traffic

if TYPE_CHECKING:
    from customhouse.web.protocol import BoundedProtocol

Headers = Sequence[tuple[bytes, bytes]]
Handler = Callable[[Call, Receive], Awaitable[bytes]]
"""Takes a call and ASGI's `receive`; returns the JSON of a 202, or of the status that it leaves in the call, or raises."""
Find = Callable[[bytes], tuple[str, Handler] | None]
"""Takes a request target; returns the template of its route, without a value of the target, and who answers it."""
GONE: Final = 499
_ACCEPTED: Final = 202
_METHOD: Final = "POST"
_JSON: Final = ((b"content-type", b"application/json"),)


class Exchange:
    """One request and its answer."""

    __slots__ = (
        "_protocol",
        "_waiter",
        "body",
        "disconnected",
        "handler",
        "headers",
        "keep_alive",
        "more_body",
        "response_complete",
        "response_started",
        "route",
    )

    def __init__(self, protocol: BoundedProtocol, route: str, handler: Handler, headers: list[tuple[bytes, bytes]], *, keep: bool) -> None:
        """Take a request whose head has been read.

        Args:
            protocol: its connection.
            route: its path.
            handler: answers it.
            headers: names in lower case.
            keep: whether the connection goes on after the answer.
        """
        self._protocol = protocol
        self._waiter: asyncio.Future[None] | None = None
        self.route = route
        self.handler = handler
        self.headers = headers
        self.body = bytearray()
        self.more_body = True
        self.keep_alive = keep
        self.disconnected = False
        self.response_started = False
        self.response_complete = False

    @property
    def message_event(self) -> Exchange:
        """What uvicorn sets when there is news."""
        return self

    def set(self) -> None:
        """Tell the handler that there is news: bytes of the body, its end, or that nobody listens any more."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def receive(self) -> dict[str, Any]:
        """Return the next piece of the body, as ASGI says it."""
        while self.more_body and not self.body and not self.disconnected:
            self._protocol.flow.resume_reading()
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self.disconnected:
            return {"type": "http.disconnect"}
        piece = bytes(self.body)
        self.body.clear()
        return {"type": "http.request", "body": piece, "more_body": self.more_body}

    async def answer(self, data: bytes) -> None:
        """Write a whole answer, head and body; to nobody if nobody is there. Waits for a client that does not read."""
        flow = self._protocol.flow
        if flow.write_paused and not self.disconnected:
            await flow.drain()
        if self.disconnected:
            return
        self.response_started = self.response_complete = True
        self._protocol.transport.write(data)
        if not self.keep_alive:
            self._protocol.transport.close()
        self._protocol.on_response_complete()

    def drop(self) -> None:
        """Close the connection of a request that gets no answer."""
        if not self.response_started:
            self._protocol.transport.close()


class Express:
    """Serves the hot routes."""

    def __init__(self, traffic: Traffic, routes: Mapping[str, Handler], headers: Headers, finds: Sequence[Find] = ()) -> None:
        """Take the handlers by path, for POST alone, the headers that every answer carries, and routes with a value in their path."""
        self._traffic = traffic
        self._routes = {path.encode(): (path, handler) for path, handler in routes.items()}
        self._finds = tuple(finds)
        self._headers = b"".join([b"%b: %b\r\n" % header for header in headers])
        self._good: dict[int, bytes] = {}
        self._dated: Headers = ()

    def route(self, url: bytes) -> tuple[str, Handler] | None:
        """Return route and handler of a request target, spelt exactly so; everything else is for the framework."""
        found = self._routes.get(url)
        for find in self._finds if found is None else ():
            found = find(url)
            if found is not None:
                break
        return found

    async def serve(self, exchange: Exchange, dated: Headers) -> None:
        """Serve one request.

        Args:
            exchange: the request.
            dated: uvicorn's own headers (the date); a new list each second.
        """
        traffic = self._traffic
        began = traffic.enter()
        call = Call({"headers": exchange.headers})
        call.route = exchange.route
        try:
            try:
                traffic.check()
                body = await exchange.handler(call, exchange.receive)
                call.status = call.status or _ACCEPTED
                headers: Headers = _JSON
            except ClientDisconnect:
                call.status = GONE
                return
            except Exception as error:  # noqa: BLE001 - the last place where a surprise can become an answer
                problem = traffic.problem(call, error)
                call.status, body = problem.status, problem.body()
                headers = [(name.encode(), value.encode()) for name, value in problem.headers().items()]
            call.response_bytes = len(body)
            await exchange.answer(self._head(call, headers, dated, len(body), keep=exchange.keep_alive) + body)
        finally:
            exchange.drop()
            traffic.leave(call, _METHOD, began)

    def _head(self, call: Call, headers: Headers, dated: Headers, size: int, *, keep: bool) -> bytes:
        if dated is not self._dated:
            self._dated = dated
            self._good.clear()
        first = self._good.get(call.status) if headers is _JSON else self._lines(call.status, [*headers, *dated])
        if first is None:
            first = self._good[call.status] = self._lines(call.status, [*_JSON, *dated])
        more = b"" if call.correlation_id is None else b"x-correlation-id: %b\r\n" % call.correlation_id.encode()
        if not keep:
            more += b"connection: close\r\n"
        return b"%bx-request-id: %b\r\n%bcontent-length: %d\r\n\r\n" % (first, call.request_id.encode(), more, size)

    def _lines(self, status: int, headers: Headers) -> bytes:
        lines = b"".join([b"%b: %b\r\n" % header for header in headers])
        return b"HTTP/1.1 %d %b\r\n%b%b" % (status, HTTPStatus(status).phrase.encode(), lines, self._headers)
