"""Listening: the whole service in a process of its own, its end, and the listener for metrics."""

from __future__ import annotations

import asyncio
import socket

import httpx
import pytest

from customhouse.app import App
from customhouse.config import Address, load
from customhouse.errors import SettingsError
from customhouse.web.asgi import create
from customhouse.web.exposition import exposition
from customhouse.web.protocol import BoundedProtocol
from customhouse.web.server import listening
from tests.integration.web.conftest import Api
from tests.integration.web.wire import exchange, read_reply

pytestmark = pytest.mark.anyio


async def test_an_address_in_use_is_a_setting_to_change(app: App) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SettingsError, match="Cannot listen on 127"):
        async with listening(create(app), Address("127.0.0.1", taken.getsockname()[1])):
            pass
    with pytest.raises(SettingsError, match="Cannot listen on"):
        async with listening(create(app), Address("256.0.0.1", 0)):
            pass


async def test_a_request_under_way_is_finished_when_the_listener_ends(app: App) -> None:
    inside, leave = asyncio.Event(), asyncio.Event()

    async def slow(_scope: object, _receive: object, send: object) -> None:
        inside.set()
        await leave.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})  # type: ignore[operator]
        await send({"type": "http.response.body", "body": b"ok"})  # type: ignore[operator]

    async with listening(slow, Address("127.0.0.1", 0)) as address:
        request = asyncio.create_task(exchange(address, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"))
        await inside.wait()
        asyncio.get_running_loop().call_later(0.05, leave.set)
    assert (await request).body == b"ok"


async def test_metrics_have_a_listener_of_their_own_where_one_is_set(app: App, environ: dict[str, str]) -> None:
    async with listening(exposition(app), Address("127.0.0.1", 0)) as address, httpx.AsyncClient(trust_env=False) as http:
        shown = await http.get(f"http://{address}/metrics")
        assert (shown.status_code, "customhouse_build_info" in shown.text) == (200, True)
        assert (await http.get(f"http://{address}/v1/tenants")).status_code == 404
        assert (await http.post(f"http://{address}/metrics")).status_code == 405
    app.settings = load({**environ, "CUSTOMHOUSE_METRICS_LISTEN": "127.0.0.1:0"})
    async with listening(create(app), Address("127.0.0.1", 0)) as address, httpx.AsyncClient(trust_env=False) as http:
        assert (await http.get(f"http://{address}/metrics")).status_code == 404


async def test_a_head_or_a_body_that_does_not_come_is_cut_off(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("customhouse.web.protocol.HEAD_SECONDS", 0.1)
    monkeypatch.setattr("customhouse.web.protocol.BODY_SECONDS", 0.1)
    head = b"POST /v1/tenants HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 5\r\n"
    for start in (b"", b"GET /hea", head, head + b"\r\n{"):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(start)
        async with asyncio.timeout(10):
            left = await reader.read()
        assert left == b"" or b" 401 " in left
        writer.close()


async def test_a_refusal_does_not_pass_for_the_answer_to_an_earlier_request(app: App) -> None:
    inside, leave = asyncio.Event(), asyncio.Event()

    async def slow(_scope: object, _receive: object, send: object) -> None:
        inside.set()
        await leave.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})  # type: ignore[operator]
        await send({"type": "http.response.body", "body": b"ok"})  # type: ignore[operator]

    async with listening(slow, Address("127.0.0.1", 0)) as address:
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await inside.wait()
        writer.write(b"nonsense\r\n\r\n")
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        leave.set()
        writer.close()


async def test_connections_beyond_the_limit_are_told_to_come_back(
    app: App, platform: Api, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert issubclass(BoundedProtocol, asyncio.Protocol)
    assert (await platform("GET", "/healthz")).status_code == 200
    monkeypatch.setattr("customhouse.web.protocol.MOST_CONNECTIONS", 1)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    reply = await read_reply(reader)
    assert (reply.status, reply.code, reply.headers["retry-after"]) == (503, "overloaded", "1")
    writer.close()
    assert (await platform("GET", "/healthz")).status_code == 200
