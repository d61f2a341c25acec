"""The HTTP protocol of uvicorn with limits that it lacks: on a request's head, its size and the time in which it has to be here."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, Final

import httptools
from uvicorn import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from customhouse import ids
from customhouse.errors import Overloaded
from customhouse.logs import get
from customhouse.web.express import Exchange, Express
from customhouse.web.problems import Problem, problem_of, problem_of_router

HEAD_BYTES: Final = 32 * 1024
HEAD_FIELDS: Final = 100
HEAD_SECONDS: Final = 20.0
BODY_SECONDS: Final = 60.0
MOST_CONNECTIONS: Final = 10_000
"""Per process; one more is told to come back later."""
_log: Final = get("customhouse.web")


class BoundedProtocol(HttpToolsProtocol):
    """One connection.

    What is not HTTP is answered with 400, a head that is too large with 431; a head or a body that takes too long is cut off.
    A request to a hot route is served by `express`, every other one by the ASGI application.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        express: Express | None = None,
    ) -> None:
        """Take what uvicorn gives, and the hot routes."""
        super().__init__(config, server_state, app_state, _loop)
        self._express = express
        self._begun: Exchange | None = None
        """Waits for the rest of what has just been received, so that its handler mostly finds the whole body there."""
        self._watch: asyncio.TimerHandle | None = None
        """Runs while a head or a body is awaited."""
        self._in_head = True
        self._in_body = False
        self._had_head = False
        self._received = 0
        self._fields = 0
        self._ahead = -1
        """Bytes of a head that comes while an earlier request is answered, beyond the piece in which it began; -1: it has just begun."""
        self._refused = False
        self._quiet_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Give the first request its time."""
        super().connection_made(transport)
        self._watch = self.loop.call_later(HEAD_SECONDS, self._cut_off)
        if len(self.connections) > MOST_CONNECTIONS:
            self._refuse(problem_of(Overloaded("Too many connections are open.")))

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the watches."""
        self._stop_watch()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read; nothing more after a refusal."""
        if self._refused:
            return
        idle = self._idle()
        if idle:
            self._had_head = False
            if self._watch is None:
                self._received = 0
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self.send_400_response("")
        # The parser keeps a field until it ends, so what was received counts, not only what was reported.
        self._received += len(data)
        self._look_after(len(data), head_begun=idle and not self._had_head)
        if self._begun is not None:
            self._serve(self._begun)

    def _parse(self, data: bytes) -> None:
        """Feed the parser; a request that would rather speak another protocol is served as it is (RFC 9110 §7.8).

        The parser takes what follows such a head for the other protocol, so a body would be lost, or read as the next request.
        Hence the head is read again without its wish.
        """
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as wish:
            if self._refused:
                return
            before = self.parser
            if before.get_method() == b"CONNECT" or not self._idle():
                self.send_400_response("")
                return
            fields = [b"%b: %b\r\n" % field for field in self.headers if field[0] != b"upgrade"]
            head = b"%b %b HTTP/%b\r\n%b\r\n" % (before.get_method(), self.url, before.get_http_version().encode(), b"".join(fields))
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self._parse(head + data[wish.args[0] :])

    def _look_after(self, size: int, *, head_begun: bool) -> None:
        """Give what is still to come its time and its size; what came whole in one piece costs no timer."""
        if self._refused:
            return
        if self._in_body:
            if self._watch is None:
                self._watch = self.loop.call_later(BODY_SECONDS, self._cut_off)
        elif head_begun or self._watch is not None:
            if self._watch is None:
                self._watch = self.loop.call_later(HEAD_SECONDS, self._cut_off)
            if self._received > HEAD_BYTES:
                self._refuse(problem_of_router(431))
        elif self._in_head:
            # An answer that nobody reads may take long, and so may what comes behind it.
            self._ahead = 0 if self._ahead < 0 else self._ahead + size
            if self._ahead > HEAD_BYTES:
                self._refuse(problem_of_router(431))

    def on_message_begin(self) -> None:
        """Begin a head."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._in_head = True
        self._fields = 0
        self._ahead = -1

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of the head; trailers are not looked at, or they could pass for headers (RFC 9110 §6.5.1)."""
        self._fields += 1
        if self._fields > HEAD_FIELDS or len(name) + len(value) > HEAD_BYTES:
            self._refuse(problem_of_router(431))
        elif self._in_head:
            name = name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Hand the request over, unless its head was refused."""
        if self.parser.should_upgrade():
            return
        self._stop_watch()
        self._in_head = False
        self._in_body = self._had_head = True
        if self._refused:
            return
        found = self._express.route(self.url) if self._express is not None and self._takes_express() else None
        if found is not None:
            self._begun = Exchange(self, *found, self.headers, keep=self.parser.should_keep_alive())
            self.cycle = self._begun  # type: ignore[assignment]  # has what uvicorn asks of its own
            return
        # Only now is what ASGI asks for made.
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expect
        self.headers.extend(headers)
        super().on_headers_complete()

    def _takes_express(self) -> bool:
        """Tell whether there is nothing about the request that only the long way knows: an answer before it, 1.0, `Expect`."""
        parser = self.parser
        return (
            parser.get_method() == b"POST"
            and self._idle()
            and not self.pipeline
            and not self.expect_100_continue
            and parser.get_http_version() == "1.1"
        )

    def _serve(self, exchange: Exchange) -> None:
        self._begun = None
        assert self._express is not None  # it made the exchange
        task = self.loop.create_task(self._express.serve(exchange, self.server_state.default_headers))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def on_body(self, body: bytes) -> None:
        """Hand the body over, unless the head was refused or nobody wants it any more."""
        cycle = self.cycle
        if self._refused or cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        """End the request, unless the head was refused."""
        if self.parser.should_upgrade():
            return
        self._stop_watch()
        self._in_body = False
        cycle = self.cycle
        if self._refused or cycle.response_complete:
            return
        cycle.more_body = False
        cycle.message_event.set()

    def on_response_complete(self) -> None:
        """Go on with the request that waits, or let the connection rest for a while.

        One timer per rest, not per request: it looks at the clock when it goes off.
        """
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._quiet_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection if it has rested long enough."""
        self.timeout_keep_alive_task = None
        if self.transport.is_closing() or not self._idle():
            return
        # What is being received has a watch of its own.
        left = self.timeout_keep_alive if self._watch is not None else self._quiet_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self.timeout_keep_alive_task = self.loop.call_later(left, self.timeout_keep_alive_handler)
        else:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words are not ours
        """Answer what is not HTTP with a problem."""
        self._refuse(problem_of_router(400))

    def _refuse(self, problem: Problem) -> None:
        if self._refused:
            return
        self._refused = True
        self._begun = None
        request_id = ids.show("req", ids.new())
        _log.info("request_refused", request_id=request_id, error=problem.code, status_code=problem.status)
        # While an earlier request is being answered, an answer to this one would look like that one's: then it is just cut off.
        if self._idle() or self._next_in_line():
            body = problem.body()
            headers = problem.headers() | {"x-request-id": request_id, "content-length": str(len(body)), "connection": "close"}
            lines = [
                f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}",
                *(f"{name}: {text}" for name, text in headers.items()),
            ]
            self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self.transport.close()

    def _idle(self) -> bool:
        cycle: RequestResponseCycle | Exchange | None = self.cycle
        return cycle is None or cycle.response_complete

    def _next_in_line(self) -> bool:
        """Take the place of the application where it is at this very request and has not begun to answer."""
        cycle = self.cycle
        if not self._in_body or self.pipeline or cycle.response_started:
            return False
        cycle.disconnected = True
        cycle.message_event.set()
        return True

    def _stop_watch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _cut_off(self) -> None:
        self._watch = None
        self.transport.close()
