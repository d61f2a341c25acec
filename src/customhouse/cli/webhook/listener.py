"""A local receiver: the library's ASGI middleware on uvicorn, and a verdict for each request."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any, Final

import uvicorn

from customhouse.canonical import parse_object
from customhouse.cli.webhook.diagnosis import hint
from customhouse.cli.webhook.verdict import Verdict, reason_of
from customhouse.clock import Clock
from customhouse.errors import CustomhouseError, Invalid
from customhouse_receiver import Event, MemoryReplayCache, Reason, Receiver, WebhookRejected
from customhouse_receiver.asgi import SCOPE_KEY, Message, Receive, Scope, Send, WebhookMiddleware

_NOTE: Final = "customhouse.webhook.note"
_OK: Final = range(200, 300)


class PortTaken(CustomhouseError):
    """The port cannot be listened on; choose another with --port."""


def receiver(secrets: Mapping[str, str], clock: Clock, *, header_prefix: str, tolerance: float) -> Receiver:
    """Return a receiver of this process.

    Raises:
        Invalid: a secret, the prefix or the tolerance cannot be right; the text holds no secret.
    """
    now = clock.now
    try:
        return Receiver(
            secrets, replay=MemoryReplayCache(), header_prefix=header_prefix, tolerance=tolerance, clock=lambda: now().timestamp()
        )
    except ValueError as error:
        raise Invalid(f"{error}.") from None


class Watched:
    """The receiving end: answers as the library does, with one status for what is genuine, and tells what it saw."""

    def __init__(
        self,
        secrets: Mapping[str, str],
        clock: Clock,
        tell: Callable[[Verdict], None],
        *,
        status: int = 204,
        header_prefix: str = "X-Queast",
        tolerance: float = 300,
    ) -> None:
        """Take the secrets by name, and whom to tell.

        Args:
            secrets: by name.
            clock: the time.
            tell: is given each verdict, after its answer was given.
            status: what to answer to a genuine event; anything but 2xx makes the sender try again.
            header_prefix: of the sender.
            tolerance: seconds.

        Raises:
            Invalid: see `receiver`.
        """
        self._secrets = secrets
        self._clock = clock
        self._tell = tell
        self._status = status
        self._rules: dict[str, Any] = {"header_prefix": header_prefix, "tolerance": tolerance}
        self._guarded = WebhookMiddleware(self._work, receiver(secrets, clock, **self._rules))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._guarded(scope, receive, send)
            return
        note: dict[str, Any] = {"status": 0, "event": None}
        asked, answered = bytearray(), bytearray()

        async def hear() -> Message:
            message = await receive()
            asked.extend(message.get("body", b""))
            return message

        async def speak(message: Message) -> None:
            if message["type"] == "http.response.start":
                note["status"] = message["status"]
            else:
                answered.extend(message.get("body", b""))
            await send(message)

        await self._guarded({**scope, _NOTE: note}, hear, speak)
        if note["status"]:
            self._tell(self._judge(scope, bytes(asked), bytes(answered), note))

    async def _work(self, scope: Scope, _receive: Receive, send: Send) -> None:
        scope[_NOTE]["event"] = scope[SCOPE_KEY]
        await send({"type": "http.response.start", "status": self._status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def _judge(self, scope: Scope, asked: bytes, answered: bytes, note: dict[str, Any]) -> Verdict:
        at, status = self._clock.now(), note["status"]
        event: Event | None = note["event"]
        if event is not None:
            return Verdict(at, len(asked), status, event=event)
        if status in _OK:
            return Verdict(at, len(asked), status, duplicate=True)
        name = str(parse_object(answered)["reason"])
        reason = reason_of(name)
        detail = None
        if reason is not None:
            headers = [(key.decode("latin-1"), value.decode("latin-1")) for key, value in scope["headers"]]
            detail = explain(reason, headers, asked, self._secrets, now=at.timestamp(), **self._rules)
        return Verdict(at, len(asked), status, name, detail)


def explain(
    reason: Reason,
    headers: list[tuple[str, str]],
    body: bytes,
    secrets: Mapping[str, str],
    *,
    header_prefix: str,
    tolerance: float,
    now: float,
) -> str:
    """Return what the reason means, and the likely cause where there is one."""
    said = str(WebhookRejected(reason)).partition(": ")[2]
    likely = hint(reason, headers, body, secrets, header_prefix=header_prefix, tolerance=tolerance, now=now)
    return said if likely is None else f"{said}; {likely}"


def bound(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        PortTaken: somebody else has the port, or this machine has no such address.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise PortTaken(f"{host}:{port} cannot be listened on ({error.strerror}); choose another with --port.") from None


class Server:
    """uvicorn, quiet, until Ctrl-C or `stop`."""

    def __init__(self, app: Watched) -> None:
        """Take what answers."""
        options: dict[str, Any] = {"lifespan": "off", "ws": "none", "access_log": False, "log_config": None, "server_header": False}
        self._server = uvicorn.Server(uvicorn.Config(app, timeout_graceful_shutdown=5, **options))

    def run(self, listening: socket.socket) -> None:
        """Serve."""
        self._server.run(sockets=[listening])

    def stop(self) -> None:
        """End soon, after the answers under way."""
        self._server.should_exit = True
