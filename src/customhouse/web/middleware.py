"""The door: every call gets its id, its headers, its line in the log and its place in the metrics, and no exception leaves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from starlette.requests import ClientDisconnect

from customhouse.app import App
from customhouse.web.bodies import Receive
from customhouse.web.calls import Call, Scope
from customhouse.web.express import GONE, Express, Find, Handler
from customhouse.web.problems import Problem
from customhouse.web.traffic import MOST_AT_ONCE, Traffic

Asgi = Callable[[Any, Any, Any], Awaitable[None]]
Send = Callable[[Any], Awaitable[None]]
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
    """The outermost ASGI application: hot routes go straight to their handlers, all else to the framework.

    Where the listener is ours, it takes the hot routes to `express` before they become ASGI; what it leaves to ASGI (a pipelined
    request, one that asks to continue) is answered here, alike.
    """

    def __init__(
        self,
        app: App,
        inner: Asgi,
        hot: Mapping[str, Handler],
        *,
        https: bool,
        most_at_once: int = MOST_AT_ONCE,
        finds: Sequence[Find] = (),
    ) -> None:
        """Take what is behind it.

        Args:
            app: the running application, for its clock and metrics.
            inner: the framework.
            hot: handlers of POST by path, below `/v1`.
            https: callers come by https only, and are told to keep to it (RFC 6797).
            most_at_once: calls under way; more are refused.
            finds: hot routes with a value in their path; what does not come by the short way is the framework's.
        """
        self._inner = inner
        self._hot = dict(hot)
        self._traffic = Traffic(app, most_at_once)
        transport = ((b"strict-transport-security", b"max-age=31536000"),) if https else ()
        self._open = (*_HEADERS, *transport)
        self._private = (*self._open, _CLOSED, _SECRET)
        self.express = Express(self._traffic, hot, self._private, finds)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call."""
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, send)
            return
        if scope["type"] != "http":
            # There are no WebSocket routes; closing before accepting is answered with 403.
            await send({"type": "websocket.close", "code": 1000})
            return
        began = self._traffic.enter()
        call = Call(scope)
        path: str = scope["path"]
        private = path.startswith("/v1")
        answer = self._answering(call, send, private=private)
        try:
            self._traffic.check()
            hot = self._hot.get(path) if scope["method"] == "POST" else None
            if hot is not None:
                call.route = path
                await _send_json(answer, await hot(call, receive))
            else:
                await self._inner(scope, receive, answer)
        except ClientDisconnect:
            call.status = GONE
        except Exception as error:  # noqa: BLE001 - the last place where a surprise can become an answer
            problem = self._traffic.problem(call, error)
            if not call.started:
                await send_problem(answer, problem)
        finally:
            if call.route is None:
                call.route = getattr(scope.get("route"), "path", path if path in self._hot else None)
            self._traffic.leave(call, scope["method"], began)

    def _answering(self, call: Call, send: Send, *, private: bool) -> Send:
        added = [(b"x-request-id", call.request_id.encode()), *self._open]
        if private:
            added.append(_SECRET)
        if call.correlation_id is not None:
            added.append((b"x-correlation-id", call.correlation_id.encode()))

        async def answer(message: Any) -> None:
            if message["type"] == "http.response.start":
                call.started = True
                call.status = message["status"]
                headers = message["headers"]
                if all(name != _POLICY for name, _ in headers):
                    headers = [*headers, _CLOSED]
                message = {"type": "http.response.start", "status": call.status, "headers": [*headers, *added]}
            else:
                call.response_bytes += len(message.get("body", b""))
            await send(message)

        return answer


async def _send_json(send: Send, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 202, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_problem(send: Send, problem: Problem) -> None:
    """Answer with a problem."""
    body = problem.body()
    headers = [(name.encode(), value.encode()) for name, value in problem.headers().items()]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
