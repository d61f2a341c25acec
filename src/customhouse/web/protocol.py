"""The HTTP protocol of uvicorn with limits that it lacks: on a request's head, its size and the time in which it has to be here."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from customhouse import ids
from customhouse.errors import Overloaded
from customhouse.logs import get
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
    """

    _watch: asyncio.TimerHandle | None = None
    """Runs while a head or a body is awaited."""
    _in_head = True
    _in_body = False
    _received = 0
    _fields = 0
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Give the first request its time."""
        super().connection_made(transport)
        self._watch = self.loop.call_later(HEAD_SECONDS, self._cut_off)
        if len(self.connections) > MOST_CONNECTIONS:
            self._refuse(problem_of(Overloaded("Too many connections are open.")))

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the watch."""
        self._stop_watch()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read; nothing more after a refusal."""
        if self._refused:
            return
        if self._watch is None and self._idle():
            self._watch = self.loop.call_later(HEAD_SECONDS, self._cut_off)
            self._received = 0
        super().data_received(data)
        # The parser keeps a field until it ends, so what was received counts, not only what was reported.
        self._received += len(data)
        if self._in_body:
            if self._watch is None:
                self._watch = self.loop.call_later(BODY_SECONDS, self._cut_off)
        elif self._watch is not None and self._received > HEAD_BYTES:
            self._refuse(problem_of_router(431))

    def on_message_begin(self) -> None:
        """Begin a head."""
        super().on_message_begin()
        self._in_head = True
        self._fields = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of the head; trailers are not looked at, or they could pass for headers (RFC 9110 §6.5.1)."""
        self._fields += 1
        if self._fields > HEAD_FIELDS or len(name) + len(value) > HEAD_BYTES:
            self._refuse(problem_of_router(431))
        elif self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Hand the request over, unless its head was refused."""
        self._stop_watch()
        self._in_head = False
        self._in_body = True
        if not self._refused:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Hand the body over, unless the head was refused."""
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request, unless the head was refused."""
        self._stop_watch()
        self._in_body = False
        if not self._refused:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words are not ours
        """Answer what is not HTTP with a problem."""
        self._refuse(problem_of_router(400))

    def _refuse(self, problem: Problem) -> None:
        if self._refused:
            return
        self._refused = True
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
        cycle: RequestResponseCycle | None = self.cycle
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
