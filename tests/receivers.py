"""A receiver for tests: a bare HTTP/1.1 server on loopback that records raw requests and answers what the test says."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Received:
    """One request as it was on the wire; header names in lower case. `shown`: the SHA-256 of the client certificate, in hex."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    shown: str | None = None


Answer = bytes | Callable[[Received], bytes | Awaitable[bytes]]


def status(code: int, *headers: str, body: bytes = b"") -> bytes:
    """Return a whole answer."""
    lines = [f"HTTP/1.1 {code} X", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@dataclass
class Recorder:
    """What a receiver got, and what it answers; `answer` may be changed at any moment."""

    port: int = 0
    answer: Answer = field(default_factory=lambda: status(204))
    received: list[Received] = field(default_factory=list)
    scheme: str = "http"
    in_flight: int = 0
    most_in_flight: int = 0
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)
    _open: dict[asyncio.Task[None], asyncio.StreamWriter] = field(default_factory=dict)

    def url(self, path: str = "/") -> str:
        """Return an address of this server."""
        return f"{self.scheme}://127.0.0.1:{self.port}{path}"

    async def wait_for(self, count: int, within: float = 20.0) -> list[Received]:
        """Wait until `count` requests have come."""
        async with asyncio.timeout(within), self._news:
            await self._news.wait_for(lambda: len(self.received) >= count)
        return self.received

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        me = asyncio.current_task()
        assert me is not None
        self._open[me] = writer
        tls = writer.get_extra_info("ssl_object")
        certificate = None if tls is None else tls.getpeercert(binary_form=True)
        shown = None if certificate is None else hashlib.sha256(certificate).hexdigest()
        try:
            while True:
                request = await _read(reader, shown)
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                try:
                    async with self._news:
                        self.received.append(request)
                        self._news.notify_all()
                    answer = self.answer
                    if callable(answer):
                        made = answer(request)
                        answer = made if isinstance(made, bytes) else await made
                    writer.write(answer)
                    await writer.drain()
                finally:
                    self.in_flight -= 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            del self._open[me]
            writer.close()

    async def hang_up(self) -> None:
        """End what is open; a TLS connection lives on for a moment otherwise, longer than its test."""
        tasks = dict(self._open)
        for task, writer in tasks.items():
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read(reader: asyncio.StreamReader, shown: str | None) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ", 2)
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(method, path, headers, body, shown)


@asynccontextmanager
async def recorder(port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[Recorder]:
    """Run a receiver; with a port, on that one (to come back after an outage); with `tls` it speaks https."""
    made = Recorder(scheme="http" if tls is None else "https")
    server = await asyncio.start_server(made.serve, "127.0.0.1", port, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        if tls is not None:
            await made.hang_up()
        server.close_clients() if hasattr(server, "close_clients") else None
