"""Raw HTTP/1.1 over a socket: for requests that no client library would send."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from customhouse.config import Address


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The code of the problem that it is."""
        assert self.headers["content-type"] == "application/problem+json", self
        said: dict[str, Any] = json.loads(self.body)
        assert said["status"] == self.status
        return str(said["code"])


async def exchange(address: Address, *parts: bytes) -> Reply:
    """Send bytes on a fresh connection, part by part, and read one answer."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        return await read_reply(reader)
    finally:
        writer.close()


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    """Read one answer with a Content-Length."""
    async with asyncio.timeout(20):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {}
        for line in head[1:]:
            name, _, value = line.partition(": ")
            if name:
                headers[name.lower()] = value
        body = await reader.readexactly(int(headers["content-length"]))
    return Reply(int(head[0].split(" ")[1]), headers, body)


def post(path: str, key: str, body: bytes, *headers: str) -> bytes:
    """Return a POST; the Content-Length is right unless a header says otherwise."""
    lines = [f"POST {path} HTTP/1.1", "host: x", f"authorization: Bearer {key}", *headers]
    named = {line.partition(":")[0].lower() for line in headers}
    if "content-type" not in named:
        lines.append("content-type: application/json")
    if not named & {"content-length", "transfer-encoding"}:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body
