"""The wire to PostgreSQL as a test wants it: statements are read off it, replies get lost on it, it can be cut and led elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

_READY: bytes = b"Z\x00\x00\x00\x05I"
"""ReadyForQuery outside of a transaction: what was asked is committed."""


_ENCRYPTION = {struct.pack(">I", 80877103), struct.pack(">I", 80877104)}
"""SSLRequest and GSSENCRequest."""


class _Said:
    """Reads the messages of one client (PostgreSQL's protocol 3.0 without TLS) into the statements that it runs."""

    def __init__(self) -> None:
        self._buffer = b""
        self._started = False
        self._prepared: dict[bytes, bytes] = {}

    def feed(self, data: bytes) -> list[str]:
        """Return the statements that begin to run in these bytes."""
        self._buffer += data
        ran: list[str] = []
        while True:
            head = 1 if self._started else 0
            if len(self._buffer) < head + 4:
                return ran
            (length,) = struct.unpack_from(">I", self._buffer, head)
            if len(self._buffer) < head + length:
                return ran
            kind, body = self._buffer[:head], self._buffer[head + 4 : head + length]
            self._buffer = self._buffer[head + length :]
            # A client may ask for encryption first; the servers of the suite decline, and it goes on in clear.
            self._started = body not in _ENCRYPTION
            if kind == b"P":
                name, query, _ = body.split(b"\0", 2)
                self._prepared[name] = query
            elif kind == b"B":
                ran.append(self._prepared.get(body.split(b"\0", 2)[1], b"?").decode())
            elif kind == b"Q":
                ran.append(body.rstrip(b"\0").decode())


@dataclass
class Wire:
    """Leads connections on to a server."""

    target: tuple[str, int]
    port: int = 0
    ran: list[str] = field(default_factory=list)
    """Statements in the order in which they began, of all connections."""
    open: bool = True
    """False: nobody new gets through."""
    losing: bytes | None = None
    """The reply to the next message that holds these bytes is lost, after the server has given it."""
    lost: int = 0
    _streams: set[asyncio.StreamWriter] = field(default_factory=set)

    def leads(self, url: str) -> str:
        """Return a server's address as seen through this wire."""
        parts = urlsplit(url)
        login = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{self.port}"))

    def cut(self) -> None:
        """Break every connection; new ones get through if the wire is open."""
        for stream in list(self._streams):
            stream.transport.abort()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        if not self.open:
            writer.transport.abort()
            return
        try:
            server_reader, server_writer = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        self._streams |= {writer, server_writer}
        said, losing = _Said(), asyncio.Event()

        async def forth() -> None:
            while data := await reader.read(1 << 16):
                self.ran += said.feed(data)
                if self.losing is not None and self.losing in data:
                    self.losing = None
                    losing.set()
                server_writer.write(data)
                await server_writer.drain()

        async def back() -> None:
            while data := await server_reader.read(1 << 16):
                if losing.is_set():
                    if _READY in data:
                        self.lost += 1
                        return
                    continue
                writer.write(data)
                await writer.drain()

        tasks = [asyncio.create_task(forth()), asyncio.create_task(back())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            with contextlib.suppress(OSError):
                await asyncio.gather(*tasks, return_exceptions=True)
            for stream in (writer, server_writer):
                self._streams.discard(stream)
                stream.transport.abort()


@asynccontextmanager
async def wire(url: str) -> AsyncIterator[Wire]:
    """Lay a wire to the server of this address."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    made = Wire((parts.hostname, parts.port))
    server = await asyncio.start_server(made.carry, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        made.cut()
