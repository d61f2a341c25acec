"""WSGI glue (PEP 3333): put it around the one endpoint that takes the webhooks, as the ASGI glue."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from http.client import responses
from typing import Any, Callable, Final, Optional, final

from customhouse_receiver.answers import DUPLICATE, EVENT_KEY, NOT_A_POST, Answer, refusal, settles
from customhouse_receiver.errors import Reason, WebhookRejected
from customhouse_receiver.event import Event
from customhouse_receiver.receiver import Receiver

Environ = dict[str, Any]
Write = Callable[[bytes], object]
StartResponse = Callable[..., Write]
App = Callable[[Environ, StartResponse], Iterable[bytes]]

ENVIRON_KEY: Final = EVENT_KEY
_CHUNK: Final = 65536


class WebhookMiddleware:
    """Calls the app with a verified, claimed `Event` in `environ["customhouse.event"]`, and settles it by the app's answer.

    - 2xx: the event is done, before the answer leaves. Any other answer, or an exception: it is released, and the sender tries again.
    - A duplicate is answered 200 here; the app does not see it.
    - What is rejected is answered here, with `{"reason": …, "retryable": …}`.

    The answer leaves with the first piece of its body: until then the app may still replace it (`exc_info`), and nothing is settled.
    """

    def __init__(self, app: App, receiver: Receiver) -> None:
        """Take the endpoint and the receiver."""
        self._app = app
        self._receiver = receiver

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        if environ["REQUEST_METHOD"] != "POST":
            return _answer(start_response, NOT_A_POST)
        try:
            body = read(environ, self._receiver.max_body)
            event = self._receiver.verify(headers(environ), body)
        except WebhookRejected as rejected:
            return _answer(start_response, refusal(rejected))
        if event.duplicate:
            return _answer(start_response, DUPLICATE)
        inner = {**environ, ENVIRON_KEY: event, "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        return _Outcome(event, start_response).run(self._app, inner)


def read(environ: Mapping[str, Any], most: int) -> bytes:
    """Return the body of a request, which must be unread.

    Raises:
        WebhookRejected: `body_too_large`, found before more than `most` bytes are in memory.
    """
    declared = str(environ.get("CONTENT_LENGTH") or "")
    left = most + 1
    if declared.isascii() and declared.isdigit():
        if len(declared) > len(str(most)) or int(declared) > most:
            raise WebhookRejected(Reason.BODY_TOO_LARGE)
        left = int(declared)
    elif not environ.get("wsgi.input_terminated"):
        left = 0  # without a length and without an end there is no body (PEP 3333); reading would hang
    source = environ["wsgi.input"]
    chunks: list[bytes] = []
    while left:
        chunk = source.read(min(left, _CHUNK))
        if not chunk:
            break
        chunks.append(chunk)
        left -= len(chunk)
    body = b"".join(chunks)
    if len(body) > most:
        raise WebhookRejected(Reason.BODY_TOO_LARGE)
    return body


def headers(environ: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the request's headers. Repeated ones come joined by commas, which no signature header may hold."""
    return [(name[5:].replace("_", "-"), value) for name, value in environ.items() if name.startswith("HTTP_")]


def _answer(start_response: StartResponse, answer: Answer) -> Iterable[bytes]:
    start_response(f"{answer.status} {responses[answer.status]}", list(answer.headers))
    return [answer.body]


@final
class _Outcome:
    """Holds the app's answer back until its body begins, settles the event by it, then passes it on."""

    def __init__(self, event: Event, start_response: StartResponse) -> None:
        self._event = event
        self._start_response = start_response
        self._started: Optional[tuple[str, list[tuple[str, str]]]] = None
        self._write: Optional[Write] = None
        self._replacement: Optional[bytes] = None

    def run(self, app: App, environ: Environ) -> Iterable[bytes]:
        """Return the body; what is raised before its first piece frees the event."""
        with ExitStack() as undo:
            undo.callback(self._event.release)
            body = app(environ, self.start)
            undo.callback(_close, body)
            # Many apps are generators: nothing of them runs before the first piece is asked for.
            pieces = iter(body)
            first = next((piece for piece in pieces if piece), b"")
            self._leave()
            undo.pop_all()  # all went well: the answer has settled the event, and the server closes the body
        return _Body(first, pieces, body) if self._replacement is None else _Body(self._replacement, iter(()), body)

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Write:
        """Be the app's `start_response`."""
        if self._started is not None and exc_info is None:
            raise AssertionError("start_response was called twice without exc_info (PEP 3333)")
        if self._write is not None and exc_info is not None:
            raise exc_info[1].with_traceback(exc_info[2])
        self._started = (status, headers)
        return self._send

    def _send(self, data: bytes) -> None:
        """Be the old `write` callable."""
        self._leave()
        if self._replacement is None and self._write is not None:
            self._write(data)

    def _leave(self) -> None:
        if self._write is not None:
            return
        if self._started is None:
            raise AssertionError("the app answered without start_response (PEP 3333)")
        status, headers = self._started
        if not settles(int(status[:3])):
            self._event.release()
        else:
            try:
                self._event.done()
            except WebhookRejected as rejected:
                # Answering 2xx now would let a captured copy of this request through.
                self._event.release()
                answer = refusal(rejected)
                self._replacement = answer.body
                status, headers = f"{answer.status} {responses[answer.status]}", list(answer.headers)
        self._write = self._start_response(status, headers)


class _Body:
    """The app's body with its first piece put back."""

    def __init__(self, first: bytes, rest: Iterator[bytes], owner: Iterable[bytes]) -> None:
        self._first = first
        self._rest = rest
        self._owner = owner

    def __iter__(self) -> Iterator[bytes]:
        if self._first:
            yield self._first
        yield from self._rest

    def close(self) -> None:
        """End the app's own body, as PEP 3333 asks."""
        _close(self._owner)


def _close(body: Iterable[bytes]) -> None:
    close = getattr(body, "close", None)
    if close is not None:
        close()
