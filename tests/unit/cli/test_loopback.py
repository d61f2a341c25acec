"""The small client that talks to our own processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from customhouse.cli.loopback import Answer, Api, NoAnswer, must, send
from customhouse.types import Secret

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def answering(raw: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Answer every connection with these bytes, then close it."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(raw)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], asked


async def test_a_chunked_answer_is_read_whole() -> None:
    raw = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-One: 1\r\n\r\n4\r\n{"a"\r\n3\r\n:1}\r\n0\r\n\r\n'
    async with answering(raw) as (port, _):
        answer = await send(port, "GET", "/", [])
    assert (answer.status, answer.headers["x-one"], answer.json()) == (200, "1", {"a": 1})


async def test_the_key_goes_into_the_header_and_nowhere_else() -> None:
    async with answering(b"HTTP/1.1 204 No Content\r\n\r\n") as (port, asked):
        await Api(port, Secret(b"ck_secret")).get("/v1/audit", limit=2)
    assert asked[0].startswith(b"GET /v1/audit?limit=2 HTTP/1.1\r\n")
    assert b"Authorization: Bearer ck_secret\r\n" in asked[0]
    assert asked[0].count(b"ck_secret") == 1


@pytest.mark.parametrize(
    "raw", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", b"SSH-2.0-OpenSSH\r\n"], ids=["nothing", "half an answer", "no HTTP"]
)
async def test_what_is_no_whole_answer_is_one_error(raw: bytes) -> None:
    async with answering(raw) as (port, _):
        with pytest.raises(NoAnswer):
            await send(port, "GET", "/", [])


async def test_nobody_listening_is_the_same_error() -> None:
    async with answering(b"") as (port, _):
        pass
    with pytest.raises(NoAnswer):
        await send(port, "GET", "/", [])


def test_an_answer_that_was_not_expected_is_told_by_its_code() -> None:
    answer = Answer(409, {}, b'{"code":"conflict","detail":"This tenant exists already."}')
    with pytest.raises(NoAnswer, match=r"Expected 201, got 409: conflict This tenant exists already\."):
        must(answer, 201)
    assert answer.refused
