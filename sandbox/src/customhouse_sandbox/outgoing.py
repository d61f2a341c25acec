"""Webhooks that a provider sends: to this machine and nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import urlsplit

import httptools

_HOSTS: Final = frozenset({"127.0.0.1", "localhost"})
_CHUNK: Final = 65_536
_LARGEST: Final = 1_048_576


def is_here(url: str) -> bool:
    """Tell whether a URL is one of this machine's own, over plain HTTP."""
    if not url.isascii() or not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme == "http" and parts.hostname in _HOSTS and port is not None and "@" not in parts.netloc


def accepted(status: int, _body: bytes) -> bool:
    """Tell whether an answer takes a webhook: any 2xx."""
    return 200 <= status < 300  # noqa: PLR2004 - RFC 9110 §15.3


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One webhook, ready to be sent: to send it twice is to send the same bytes twice."""

    provider: str
    event: str
    url: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)
    accepts: Callable[[int, bytes], bool] = accepted
    """Whether an answer is the one that the provider wants."""
    seconds: float = 30.0
    """How long an answer is waited for."""
    answers: str = ""
    """The content type that the answer must have; empty: any."""
    retried: Callable[[int], tuple[tuple[str, str], ...]] = lambda _attempt: ()
    """The headers that a retry has besides; the first retry is 1."""

    remade: Callable[[int], Outgoing] | None = None
    """A retry that says in its body which one it is; None: it has the body and the signature of the first attempt."""
    method: str = "POST"

    def __post_init__(self) -> None:
        """Refuse what leads away from this machine."""
        if not is_here(self.url):
            raise ValueError("A webhook of the sandbox goes to http://127.0.0.1:PORT/… only.")

    def again(self, attempt: int) -> Outgoing:
        """Return the same webhook as it is sent at an attempt; 0 is the first."""
        if self.remade is not None:
            return self.remade(attempt)
        return self if attempt == 0 else replace(self, headers=(*self.headers, *self.retried(attempt)))


@dataclass(frozen=True, slots=True)
class Delivery:
    """One webhook that was sent, and what came back."""

    number: int
    provider: str
    event: str
    url: str
    status: int
    """0: nobody answered."""
    accepted: bool


class _Reading:
    """httptools' callbacks."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.kind = ""
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type":
            self.kind = value.decode("latin-1").partition(";")[0].strip().lower()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


async def send(outgoing: Outgoing) -> tuple[int, bytes, str]:
    """Send a webhook; return status, body and content type of the answer, 0 where there is none."""
    parts = urlsplit(outgoing.url)
    target = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
    head = [f"{outgoing.method} {target} HTTP/1.1", f"Host: {parts.netloc}", "Connection: close", f"Content-Length: {len(outgoing.body)}"]
    head += [f"{name}: {value}" for name, value in outgoing.headers]
    reading = _Reading()
    parser = httptools.HttpResponseParser(reading)
    try:
        async with asyncio.timeout(outgoing.seconds):
            reader, writer = await asyncio.open_connection("127.0.0.1", parts.port)
            try:
                writer.write("\r\n".join([*head, "", ""]).encode("latin-1") + outgoing.body)
                while not reading.complete:
                    chunk = await reader.read(_CHUNK)
                    if not chunk:
                        # A body without a length ends with the connection.
                        break
                    parser.feed_data(chunk)
                    if len(reading.body) > _LARGEST:
                        return 0, b"", ""
            finally:
                writer.close()
        return int(parser.get_status_code() or 0), bytes(reading.body), reading.kind
    except (OSError, httptools.HttpParserError):
        return 0, b"", ""
