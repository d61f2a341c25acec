"""HTTP/1.1 on loopback, one request per connection, with one ability that no framework has: to cut the line instead of answering."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import parse_qsl

import httptools

HOST: Final = "127.0.0.1"
LARGEST: Final = 64 * 1024 * 1024
"""Bytes of a body; the largest that an imitated call takes is an e-mail (36 700 160 bytes)."""
_LARGEST_HEAD: Final = 65_536
_CHUNK: Final = 65_536
_SECONDS: Final = 30.0
_FORM: Final = "application/x-www-form-urlencoded"
_JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as it was on the wire."""

    method: str
    target: str
    """Path and query, still encoded."""
    headers: MappingProxyType[str, str]
    """Names in lower case."""
    body: bytes = field(default=b"", repr=False)

    @property
    def path(self) -> str:
        """The path, still encoded."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> list[tuple[str, str]]:
        """The query's parameters, in order."""
        return parse_qsl(self.target.partition("?")[2], keep_blank_values=True)

    @property
    def is_form(self) -> bool:
        """Whether the body says that it is a form."""
        return self._type == _FORM

    @property
    def is_json(self) -> bool:
        """Whether the body says that it is JSON."""
        return self._type == _JSON

    @property
    def _type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def form(self) -> list[tuple[str, str]]:
        """Return the fields of a form; none where the body is something else."""
        if not self.is_form:
            return []
        try:
            return parse_qsl(self.body.decode(), keep_blank_values=True, max_num_fields=200)
        except (UnicodeDecodeError, ValueError):
            return []

    def json(self) -> dict[str, Any] | None:
        """Return the body as a JSON object; None where it is none."""
        return parsed(self.body)


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer."""

    status: int
    body: bytes = field(default=b"", repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    cut: bool = False
    """Send nothing and reset the connection."""


def parsed(raw: bytes) -> dict[str, Any] | None:
    """Return a JSON object (RFC 8259); None where it is none, or holds what cannot be written again: NaN, half of a surrogate pair."""
    try:
        value = json.loads(raw)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


Answer = Callable[[Request], Awaitable[Reply]]

CUT: Final = Reply(0, cut=True)
"""No answer at all: the line breaks."""


def as_json(status: int, value: Any, *headers: tuple[str, str]) -> Reply:
    """Return an answer of JSON."""
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Reply(status, body, (("Content-Type", "application/json; charset=utf-8"), *headers))


def as_html(status: int, page: str) -> Reply:
    """Return a page that may load nothing and run nothing."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
    kind = ("Content-Type", "text/html; charset=utf-8")
    return Reply(status, page.encode(), (kind, ("Content-Security-Policy", policy), ("Referrer-Policy", "no-referrer")))


def redirect(url: str) -> Reply:
    """Send the browser on."""
    return Reply(302, b"", (("Location", url), ("Cache-Control", "no-store"), ("Referrer-Policy", "no-referrer")))


class _Reading:
    """httptools' callbacks."""

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[str, str]] = []
        self.body = bytearray()
        self.headed = False
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        self.headed = True

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


class _TooLargeError(Exception):
    """The request is larger than any that is imitated."""


class Server:
    """Listens on loopback and nowhere else."""

    def __init__(self, answer: Answer) -> None:
        """Take what answers; it raises nothing."""
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self.port = 0

    async def start(self, port: int = 0) -> None:
        """Listen.

        Raises:
            OSError: the port is taken.
        """
        self._server = await asyncio.start_server(self._serve, HOST, port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening, and end what is open."""
        if self._server is not None:
            self._server.close()
        waiting = dict(self._open)
        for task, writer in waiting.items():
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        me = asyncio.current_task()
        assert me is not None
        self._open[me] = writer
        try:
            async with asyncio.timeout(_SECONDS):
                request = await _read(reader, writer)
            reply = await self._answer(request)
            if reply.cut:
                writer.transport.abort()
                return
            writer.write(_bytes(reply, bare=request.method == "HEAD"))
            await writer.drain()
        except _TooLargeError:
            writer.write(_bytes(Reply(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)))
        except httptools.HttpParserError:
            writer.write(_bytes(Reply(HTTPStatus.BAD_REQUEST)))
        except (OSError, EOFError):
            pass  # The other side left, or never came to the point (TimeoutError is an OSError).
        finally:
            del self._open[me]
            writer.close()


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request:
    reading = _Reading()
    parser = httptools.HttpRequestParser(reading)
    size, invited = 0, False
    while not reading.complete:
        chunk = await reader.read(_CHUNK)
        if not chunk:
            raise EOFError
        size += len(chunk)
        if size > LARGEST or (not reading.headed and size > _LARGEST_HEAD + _CHUNK):
            raise _TooLargeError
        parser.feed_data(chunk)
        if reading.headed and not invited and ("expect", "100-continue") in reading.headers:
            invited = True
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    headers: dict[str, str] = {}
    for name, value in reading.headers:
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Request(parser.get_method().decode("ascii"), reading.target.decode("latin-1"), MappingProxyType(headers), bytes(reading.body))


def _bytes(reply: Reply, *, bare: bool = False) -> bytes:
    head = [f"HTTP/1.1 {int(reply.status)} Sandbox", f"Content-Length: {len(reply.body)}", "Connection: close"]
    head += [f"{name}: {value}" for name, value in reply.headers]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + (b"" if bare else reply.body)
