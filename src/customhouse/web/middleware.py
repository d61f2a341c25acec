"""The door: every call gets its id, its headers, its line in the log and its place in the metrics, and no exception leaves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from starlette.requests import ClientDisconnect

from customhouse.app import App
from customhouse.errors import CustomhouseError, Overloaded
from customhouse.logs import get
from customhouse.metrics import HTTP_REQUESTS, HTTP_SECONDS, OTHER
from customhouse.web.bodies import Receive
from customhouse.web.calls import Call, Scope
from customhouse.web.problems import Problem, problem_of
from customhouse.web.publish import Send

Asgi = Callable[[Any, Any, Any], Awaitable[None]]
MOST_AT_ONCE: Final = 6_000
"""Calls under way in one process; more are refused at the door, before they cost anything."""
_GONE: Final = 499
_POLICY: Final = b"content-security-policy"
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_CLOSED: Final = (_POLICY, b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
_SECRET: Final = (b"cache-control", b"no-store")


class Door:
    """The outermost ASGI application: hot routes go straight to their handlers, all else to the framework."""

    def __init__(
        self, app: App, inner: Asgi, hot: Mapping[tuple[str, str], Asgi], *, https: bool, most_at_once: int = MOST_AT_ONCE
    ) -> None:
        """Take what is behind it.

        Args:
            app: the running application, for its clock and metrics.
            inner: the framework.
            hot: handlers by (method, path).
            https: callers come by https only, and are told to keep to it (RFC 6797).
            most_at_once: calls under way; more are refused.
        """
        self._inner = inner
        self._hot = dict(hot)
        self._hot_paths = frozenset(path for _, path in hot)
        self._monotonic = app.clock.monotonic
        self._metrics = app.metrics
        self._under_way = 0
        self._most_at_once = most_at_once
        # Templates, the parser's methods and our statuses: a closed set.
        self._bound: dict[tuple[str, str, int], tuple[Callable[[], None], Callable[[float], None]]] = {}
        # Bound once: the level is chosen by now, and what it leaves out costs half a microsecond.
        self._log = get("customhouse.web").bind()
        transport = ((b"strict-transport-security", b"max-age=31536000"),) if https else ()
        self._open = (*_HEADERS, *transport)
        self._private = (*self._open, _CLOSED, _SECRET)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call."""
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, send)
            return
        if scope["type"] != "http":
            # There are no WebSocket routes; closing before accepting is answered with 403.
            await send({"type": "websocket.close", "code": 1000})
            return
        started = self._monotonic()
        call = Call(scope)
        path: str = scope["path"]
        private = path.startswith("/v1")
        answer = self._answering(call, send, private=private)
        self._under_way += 1
        try:
            hot = self._hot.get((scope["method"], path))
            if self._under_way > self._most_at_once:
                await self._refuse(call, answer, Overloaded())
            elif hot is not None:
                call.route = path
                await hot(scope, receive, answer)
            else:
                await self._inner(scope, receive, answer)
        except CustomhouseError as error:
            await self._refuse(call, answer, error)
        except ClientDisconnect:
            call.status = _GONE
        except Exception as error:  # noqa: BLE001 - the last place where a surprise can become an answer
            await self._refuse(call, answer, error)
        finally:
            self._under_way -= 1
            if call.route is None:
                call.route = getattr(scope.get("route"), "path", path if path in self._hot_paths else None)
            self._record(call, scope["method"], self._monotonic() - started)

    def _answering(self, call: Call, send: Send, *, private: bool) -> Send:
        added = [(b"x-request-id", call.request_id.encode()), *(self._private if private else self._open)]
        if call.correlation_id is not None:
            added.append((b"x-correlation-id", call.correlation_id.encode()))

        async def answer(message: Any) -> None:
            if message["type"] == "http.response.start":
                call.started = True
                call.status = message["status"]
                headers = message["headers"]
                if not private and all(name != _POLICY for name, _ in headers):
                    headers = [*headers, _CLOSED]
                message = {"type": "http.response.start", "status": call.status, "headers": [*headers, *added]}
            else:
                call.response_bytes += len(message.get("body", b""))
            await send(message)

        return answer

    async def _refuse(self, call: Call, answer: Send, error: Exception) -> None:
        problem = problem_of(error)
        if problem.status >= 500 and not problem.retry_after:  # noqa: PLR2004 - server errors
            self._log.error("unexpected", request_id=call.request_id, route=call.route, exc_info=error)
        if not call.started:
            await send_problem(answer, problem)

    def _record(self, call: Call, method: str, seconds: float) -> None:
        route = call.route or OTHER
        key = (route, method, call.status)
        bound = self._bound.get(key)
        if bound is None:
            bound = self._bound[key] = (
                self._metrics.counter(HTTP_REQUESTS, route=route, method=method, status=str(call.status)).inc,
                self._metrics.histogram(HTTP_SECONDS, route=route).observe,
            )
        count, observe = bound
        count()
        observe(seconds)
        # An accepted event has its own traces; a line for each would cost more than its signature.
        say = self._log.debug if call.status == 202 else self._log.info  # noqa: PLR2004 - Accepted
        say(
            "http_request",
            request_id=call.request_id,
            correlation_id=call.correlation_id,
            tenant_id=call.tenant_id,
            route=call.route,
            method=method,
            status_code=call.status,
            latency_ms=seconds * 1000,
            request_bytes=call.request_bytes,
            response_bytes=call.response_bytes,
        )


async def send_problem(send: Send, problem: Problem) -> None:
    """Answer with a problem."""
    body = problem.body()
    headers = [(name.encode(), value.encode()) for name, value in problem.headers().items()]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
