"""The customer's side, as a process of its own: the receiver library's ASGI middleware on uvicorn.

Standard input brings one line, `{"port": …, "secrets": {key id: secret}}`, and its end is the order to end. Standard output tells, line
by line in JSON, what was answered to each request and what was in it.
"""

from __future__ import annotations

import asyncio
import base64
import sys
from typing import Any

import uvicorn

from customhouse.canonical import dump, parse_object
from customhouse.cli.loopback import HOST
from customhouse_receiver import Event, MemoryReplayCache, Receiver
from customhouse_receiver.asgi import SCOPE_KEY, Message, Receive, Scope, Send, WebhookMiddleware

_NOTE = "demo.note"


async def _work(scope: Scope, _receive: Receive, send: Send) -> None:
    """Do what a customer would do with a verified event: here, remember what it says."""
    event: Event = scope[SCOPE_KEY]
    scope[_NOTE]["event"] = {"event_id": event.event_id, "key_id": event.key_id, **event.envelope}
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


class Watched:
    """Tells on standard output what went through the middleware."""

    def __init__(self, secrets: dict[str, str]) -> None:
        """Take the secrets as the control panel showed them."""
        self._guarded = WebhookMiddleware(_work, Receiver(secrets, replay=MemoryReplayCache()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        asked = bytearray()
        answered = bytearray()
        note: dict[str, Any] = {"status": 0}

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
        note["answer"] = parse_object(bytes(answered)) if answered else {}
        note["headers"] = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
        note["body"] = base64.b64encode(asked).decode()
        _tell(note)


def _tell(note: dict[str, Any]) -> None:
    sys.stdout.buffer.write(dump(note) + b"\n")
    sys.stdout.buffer.flush()


async def _serve(port: int, secrets: dict[str, str]) -> None:
    options = {"lifespan": "off", "ws": "none", "access_log": False, "log_config": None, "timeout_graceful_shutdown": 5}
    server = uvicorn.Server(uvicorn.Config(Watched(secrets), host=HOST, port=port, **options))  # type: ignore[arg-type]  # as uvicorn names them
    serving = asyncio.ensure_future(server.serve())
    while not server.started:
        if serving.done():
            await serving
            return
        await asyncio.sleep(0.01)
    _tell({"listening": port})
    await asyncio.to_thread(sys.stdin.buffer.read)
    server.should_exit = True
    await serving


def main() -> None:
    """Run until standard input ends."""
    order: dict[str, Any] = parse_object(sys.stdin.buffer.readline())
    asyncio.run(_serve(order["port"], order["secrets"]))


if __name__ == "__main__":
    main()
