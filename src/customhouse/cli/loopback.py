"""HTTP to our own processes on this machine, and nowhere else: for `doctor`, and for what plays the host application in the demo."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

import httptools

from customhouse.canonical import dump, parse_object
from customhouse.errors import CustomhouseError
from customhouse.types import Json, Secret

HOST: Final = "127.0.0.1"
_SECONDS: Final = 30.0
_CHUNK: Final = 65536
_LARGEST: Final = 64 * 1024 * 1024
_REQUEST_ERRORS: Final = 400


class NoAnswer(CustomhouseError):
    """A process on this machine did not answer as it should."""


@dataclass(slots=True)
class Answer:
    """What came back."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    """Names in lower case."""
    body: bytes = b""

    def json(self) -> dict[str, Any]:
        """Return the body, a JSON object."""
        return parse_object(self.body)

    @property
    def refused(self) -> bool:
        """Whether it is an error."""
        return self.status >= _REQUEST_ERRORS


class _Reader:
    """httptools' callbacks: fills an `Answer`."""

    def __init__(self) -> None:
        self.answer = Answer()
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.answer.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.answer.body += body

    def on_message_complete(self) -> None:
        self.complete = True


async def send(port: int, method: str, path: str, headers: Iterable[tuple[str, str]], body: bytes = b"") -> Answer:
    """Make one request to a port of this machine.

    Raises:
        NoAnswer: nobody listens, or the answer is none.
    """
    try:
        async with asyncio.timeout(_SECONDS):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                return await exchange(reader, writer, request_bytes(f"{HOST}:{port}", method, path, headers, body))
            finally:
                writer.close()
    except (OSError, EOFError, httptools.HttpParserError) as error:
        # TimeoutError is an OSError.
        raise NoAnswer(f"Port {port} does not answer {method} {path} ({type(error).__name__}).") from error


def request_bytes(host: str, method: str, path: str, headers: Iterable[tuple[str, str]], body: bytes) -> bytes:
    """Return a whole request, the only one on its connection."""
    head = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", f"Content-Length: {len(body)}"]
    head += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> Answer:
    """Send a request and read its answer.

    Raises:
        OSError, EOFError, httptools.HttpParserError: there is none, or no whole one.
    """
    reading = _Reader()
    parser = httptools.HttpResponseParser(reading)
    writer.write(request)
    while not reading.complete:
        chunk = await reader.read(_CHUNK)
        if not chunk:
            raise EOFError
        parser.feed_data(chunk)
        if len(reading.answer.body) > _LARGEST:
            raise EOFError
    reading.answer.status = parser.get_status_code()
    return reading.answer


class Api:
    """The service as one API key sees it."""

    def __init__(self, port: int, key: Secret) -> None:
        """Take where it listens, and the key."""
        self._port = port
        self._key = key

    async def get(self, path: str, **query: str | int) -> Answer:
        """Ask."""
        return await self._call("GET", f"{path}?{urlencode(query)}" if query else path, b"")

    async def post(self, path: str, body: dict[str, Json]) -> Answer:
        """Create."""
        return await self._call("POST", path, dump(body))

    async def delete(self, path: str) -> Answer:
        """End."""
        return await self._call("DELETE", path, b"")

    async def _call(self, method: str, path: str, body: bytes) -> Answer:
        headers = [("Authorization", f"Bearer {self._key.reveal().decode()}")]
        if body:
            headers.append(("Content-Type", "application/json"))
        return await send(self._port, method, path, headers, body)


def must(answer: Answer, expected: int) -> dict[str, Any]:
    """Return the body of an answer that the rest of the story stands on.

    Raises:
        NoAnswer: it is another one; the text holds the problem's code and detail, which never hold a value.
    """
    if answer.status != expected:
        said = answer.json() if answer.body.startswith(b"{") else {}
        raise NoAnswer(f"Expected {expected}, got {answer.status}: {said.get('code', '')} {said.get('detail', '')}".strip())
    return answer.json()
