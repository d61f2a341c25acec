"""The benchmark's publishing side: it counts what it is answered, and waits when it is told to."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest

from customhouse.cli.bench.generator import Plan, _pause, run

pytestmark = pytest.mark.anyio


def test_a_refusal_is_waited_out_as_long_as_it_says() -> None:
    assert _pause(b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: x\r\nRetry-After: 7\r\n") == 7.0
    assert _pause(b"HTTP/1.1 503 Service Unavailable\r\nretry-after:2\r\n") == 2.0
    assert _pause(b"HTTP/1.1 503 Service Unavailable\r\n") == 1.0


async def test_every_answer_is_counted_for_what_it_is() -> None:
    turn = count()
    said = {"202": 0, "429": 0, "503": 0, "500": 0}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
                status = ("202", "429", "202", "503", "202", "500")[next(turn) % 6]
                said[status] += 1
                writer.write(f"HTTP/1.1 {status} X\r\nRetry-After: 0\r\ncontent-length: 2\r\n\r\n{{}}".encode())
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    found = await run(Plan("127.0.0.1", port, "ck_x", ["acme"], 2, 0.3, None, 400))
    server.close()
    assert (found["accepted"], found["busy"], found["failed"]) == (said["202"], said["429"] + said["503"], said["500"])
    assert found["accepted"] > 0
    assert found["paused_seconds"] == 0.0
