"""ASGI glue: put it around the one endpoint that takes the webhooks.

There is no list of paths to guard: a path can be spelt in many ways, and the ones that were forgotten would be open.
"""

from __future__ import annotations

from collections.abc import Awaitable, MutableMapping
from typing import Any, Callable, Final, Optional, final

from customhouse_receiver.answers import DUPLICATE, EVENT_KEY, NOT_A_POST, Answer, refusal, settles
from customhouse_receiver.errors import Reason, WebhookRejected
from customhouse_receiver.event import Event
from customhouse_receiver.receiver import Receiver

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SCOPE_KEY: Final = EVENT_KEY


class WebhookMiddleware:
    """Calls the app with a verified, claimed `Event` in `scope["customhouse.event"]`, and settles it by the app's answer.

    - 2xx: the event is done, before the answer leaves. Any other answer, or an exception: it is released, and the sender tries again.
    - A duplicate is answered 200 here; the app does not see it.
    - What is rejected is answered here, with `{"reason": …, "retryable": …}`.
    """

    def __init__(self, app: App, receiver: Receiver) -> None:
        """Take the endpoint and the receiver."""
        self._app = app
        self._receiver = receiver

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["method"] != "POST":
            await _answer(send, NOT_A_POST)
        else:
            await self._deliver(scope, receive, send)

    async def _deliver(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await _read(scope, receive, self._receiver.max_body)
            if body is None:
                return
            event = await self._receiver.averify(scope["headers"], body)
        except WebhookRejected as rejected:
            await _answer(send, refusal(rejected))
            return
        if event.duplicate:
            await _answer(send, DUPLICATE)
            return
        async with _Outcome(event, send) as outcome:
            await self._app({**scope, SCOPE_KEY: event}, _replaying(body, receive), outcome.send)


@final
class _Outcome:
    """Passes the app's answer on, and settles the event when the answer starts."""

    def __init__(self, event: Event, send: Send) -> None:
        self._event = event
        self._send = send
        self._replaced = False

    async def __aenter__(self) -> _Outcome:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._event.arelease()  # does nothing after done()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if settles(message["status"]):
                try:
                    await self._event.adone()
                except WebhookRejected as rejected:
                    # Answering 2xx now would let a captured copy of this request through.
                    self._replaced = True
                    await _answer(self._send, refusal(rejected))
            else:
                await self._event.arelease()
        if not self._replaced:
            await self._send(message)


async def _read(scope: Scope, receive: Receive, most: int) -> Optional[bytes]:
    """Return the body; None where the client has gone."""
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    if declared.isdigit() and (len(declared) > len(str(most)) or int(declared) > most):
        raise WebhookRejected(Reason.BODY_TOO_LARGE)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > most:
            raise WebhookRejected(Reason.BODY_TOO_LARGE)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def _replaying(body: bytes, receive: Receive) -> Receive:
    """Hand the body to the app once, then whatever the server says next."""
    waiting = [body]

    async def again() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return again


async def _answer(send: Send, answer: Answer) -> None:
    headers = [(name.lower().encode(), value.encode()) for name, value in answer.headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
