"""The hot routes come in two ways, past ASGI and through it: the same answers, whatever shape a request arrives in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from customhouse.app import App
from customhouse.config import Address
from customhouse.errors import NotFound
from customhouse.web.asgi import create
from customhouse.web.bodies import Receive, read_body
from customhouse.web.calls import Call
from customhouse.web.middleware import Door
from customhouse.web.server import listening
from tests.integration.web.conftest import Api
from tests.integration.web.wire import Reply, exchange, post, read_reply

pytestmark = pytest.mark.anyio

EVENT = b'{"event_type":"a","data":{}}'
CAP = 1_000_000


async def echo(call: Call, receive: Receive) -> bytes:
    """Answer with what was sent."""
    return await read_body(call, receive, CAP)


@asynccontextmanager
async def door(app: App, handler: Callable[[Call, Receive], Awaitable[bytes]] = echo) -> AsyncIterator[Address]:
    """Listen with one hot route, `/v1/hot`."""
    async with listening(Door(app, create(app), {"/v1/hot": handler}, https=True), Address("127.0.0.1", 0)) as address:
        yield address


def hot(body: bytes, *headers: str, version: str = "1.1", path: str = "/v1/hot") -> bytes:
    return post(path, "ck_x", body, *headers).replace(b"HTTP/1.1", f"HTTP/{version}".encode(), 1)


async def replies(address: Address, count: int, *parts: bytes) -> list[Reply]:
    """Send bytes on one connection, part by part with a turn between them, and read so many answers."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        return [await read_reply(reader) for _ in range(count)]
    finally:
        writer.close()


async def test_both_ways_answer_with_the_same_headers(app: App) -> None:
    async with door(app) as address:
        short = await exchange(address, hot(b"{}", "x-correlation-id: job-7"))
        long = await exchange(address, hot(b"{}", "x-correlation-id: job-7", version="1.0"))
    assert (short.status, short.body) == (long.status, long.body) == (202, b"{}")
    changing = {"x-request-id", "date", "connection"}
    assert {name: text for name, text in short.headers.items() if name not in changing} == {
        name: text for name, text in long.headers.items() if name not in changing
    }
    assert short.headers["x-correlation-id"] == "job-7"
    assert short.headers["x-request-id"] != long.headers["x-request-id"]
    assert short.headers.keys() >= {"date", "content-security-policy", "cache-control", "strict-transport-security"}
    assert ("connection" in short.headers, long.headers["connection"]) == (False, "close")


async def test_an_event_is_accepted_by_both_ways(acme: Api, address: Address, app: App) -> None:
    assert acme.key is not None
    for version in ("1.1", "1.0"):
        for path, body in (("/v1/events", EVENT), ("/v1/events/batch", b'{"events":[%b]}' % EVENT)):
            reply = await exchange(address, post(path, acme.key, body).replace(b"HTTP/1.1", f"HTTP/{version}".encode(), 1))
            assert (reply.status, b'"duplicate":false' in reply.body) == (202, True)
    shown = app.metrics.render().decode()
    assert 'http_requests_total{method="POST",route="/v1/events",status="202"} 2.0' in shown
    assert 'http_requests_total{method="POST",route="/v1/events/batch",status="202"} 2.0' in shown


async def test_a_body_may_come_in_pieces_chunked_or_late(app: App) -> None:
    body = bytes(range(256)) * 800
    half = len(body) // 2
    chunked = hot(b"", "transfer-encoding: chunked")
    async with door(app) as address:
        for parts in (
            (hot(body),),
            (hot(body)[:-half], body[half:]),
            tuple(hot(body)[place : place + 40_000] for place in range(0, len(hot(body)), 40_000)),
            tuple(bytes([one]) for one in hot(b"{}")),
            (chunked, *(b"%x\r\n%b\r\n" % (half, part) for part in (body[:half], body[half:])), b"0\r\nhost: y\r\n\r\n"),
        ):
            [reply] = await replies(address, 1, *parts)
            assert reply.status == 202
            assert reply.body == (b"{}" if len(parts) > 100 else body)


async def test_answers_come_in_the_order_of_the_requests(app: App) -> None:
    turns = iter(range(100))

    async def odd_ones_take_longer(call: Call, receive: Receive) -> bytes:
        if next(turns) % 2 == 0:
            for _ in range(10):
                await asyncio.sleep(0)
        return await read_body(call, receive, CAP)

    other = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
    async with door(app, odd_ones_take_longer) as address:
        stream = hot(b"1") + hot(b"2") + other + hot(b"3") + hot(b"4", version="1.1") + other + hot(b"5")
        for parts in ((stream,), tuple(stream[place : place + 37] for place in range(0, len(stream), 37))):
            answers = await replies(address, 7, *parts)
            assert [one.body if one.status == 202 else None for one in answers] == [b"1", b"2", None, b"3", b"4", None, b"5"]
            assert [one.status for one in answers] == [202, 202, 200, 202, 202, 200, 202]


async def test_a_client_that_asks_to_continue_is_told_to(app: App) -> None:
    async with door(app) as address:
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(hot(b"{}", "expect: 100-continue")[:-2])
        async with asyncio.timeout(10):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"{}")
        assert (await read_reply(reader)).body == b"{}"
        writer.close()


async def test_a_refusal_before_the_body_leaves_the_connection_usable(app: App) -> None:
    async def refuse(_call: Call, _receive: Receive) -> bytes:
        raise NotFound

    body = b"x" * 200_000
    async with door(app, refuse) as address:
        whole = hot(body)
        first, second = await replies(address, 2, whole[:1000], whole[1000:], hot(b""))
        assert (first.code, second.code) == ("not_found", "not_found")


async def test_a_wish_for_another_protocol_leaves_the_body_a_body(app: App) -> None:
    # As Java's HTTP client asks: were the body taken for what comes after the request, it would be lost, or read as another one.
    wish = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQBAAAAAAIAAAAA")
    hidden = hot(b"hidden")
    chunked = hot(b"", "transfer-encoding: chunked", *wish)
    last = hot(b"last")
    async with door(app) as address:
        for parts in (
            (hot(hidden, *wish), last),
            (hot(hidden, *wish) + last,),
            (hot(hidden, *wish)[: -len(hidden)], hidden, last),
            tuple(bytes([one]) for one in hot(hidden, *wish) + last),
            (chunked, b"%x\r\n%b\r\n0\r\n\r\n" % (len(hidden), hidden), last),
            (hot(hidden, *wish, path="/v1/hot?x"), last),
        ):
            assert [one.body for one in await replies(address, 2, *parts)] == [hidden, b"last"]
        assert (await exchange(address, hot(hidden, *wish, version="1.0"))).body == hidden


async def test_a_head_without_end_behind_a_request_under_way_is_cut_off(app: App) -> None:
    inside, leave = asyncio.Event(), asyncio.Event()

    async def slow(call: Call, receive: Receive) -> bytes:
        inside.set()
        await leave.wait()
        return await read_body(call, receive, CAP)

    async with door(app, slow) as address:
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(hot(b"{}") + b"POST /v1/hot HTTP/1.1\r\nx: ")
        await inside.wait()
        answered = b""
        with suppress(ConnectionError):
            for _ in range(64):
                writer.write(b"x" * 65_536)
                await writer.drain()
            async with asyncio.timeout(10):
                answered = await reader.read()
        assert answered == b""
        leave.set()
        writer.close()


async def test_there_is_no_tunnel(app: App) -> None:
    async with door(app) as address:
        assert (await exchange(address, b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n")).code == "bad_request"


async def test_who_asks_to_close_is_closed(app: App) -> None:
    async with door(app) as address:
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(hot(b"{}", "connection: close"))
        reply = await read_reply(reader)
        assert (reply.status, reply.headers["connection"]) == (202, "close")
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()


async def test_only_the_very_path_and_post_are_hot(app: App) -> None:
    async with door(app) as address:
        for request in (
            hot(b"{}", path="/v1/hot/"),
            hot(b"{}", path="/v1/hotter"),
            hot(b"{}", path="//v1/hot"),
            hot(b"{}", path="/V1/HOT"),
            hot(b"{}").replace(b"POST", b"PUT", 1),
        ):
            assert (await exchange(address, request)).status == 404
        # A query, another spelling and an absolute address are known to the long way.
        for path in ("/v1/hot?x=1", "/v1/%68ot"):
            assert (await exchange(address, hot(b"{}", path=path))).body == b"{}"


async def test_what_turns_out_not_to_be_http_is_told_so_once(app: App) -> None:
    inside = asyncio.Event()
    ended: list[BaseException] = []

    async def waits(call: Call, receive: Receive) -> bytes:
        inside.set()
        try:
            return await read_body(call, receive, CAP)
        except BaseException as error:
            ended.append(error)
            raise

    async with door(app, waits) as address:
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(hot(b"", "transfer-encoding: chunked"))
        await inside.wait()
        writer.write(b"no chunk\r\n")
        async with asyncio.timeout(10):
            whole = await reader.read()
        writer.close()
        assert whole.count(b"HTTP/1.1 ") == 1
        assert whole.startswith(b"HTTP/1.1 400 ")
        # In one piece too: nothing of it is begun.
        reply = await exchange(address, hot(b"", "transfer-encoding: chunked") + b"no chunk\r\n")
        assert reply.code == "bad_request"
    assert [type(one).__name__ for one in ended] == ["ClientDisconnect"]


async def test_a_client_that_does_not_read_is_waited_for(app: App) -> None:
    answered = 0

    async def much(_call: Call, _receive: Receive) -> bytes:
        nonlocal answered
        answered += 1
        return b"x" * 500_000

    async with door(app, much) as address:
        reader, writer = await asyncio.open_connection(address.host, address.port, limit=1024)
        for _ in range(100):
            writer.write(hot(b""))
        async with asyncio.timeout(10):
            while answered == 0:
                await asyncio.sleep(0)
            for _ in range(200):
                await asyncio.sleep(0)
        # What the two kernels hold, and an answer or two: not a hundred.
        assert answered < 50
        for _ in range(100):
            assert len((await read_reply(reader)).body) == 500_000
        assert answered == 100
        writer.close()


async def test_a_request_under_way_is_answered_when_the_listener_ends(app: App) -> None:
    inside, leave = asyncio.Event(), asyncio.Event()

    async def slow(_call: Call, _receive: Receive) -> bytes:
        inside.set()
        await leave.wait()
        return b"{}"

    async with door(app, slow) as address:
        asked = asyncio.create_task(exchange(address, hot(b"")))
        await inside.wait()
        asyncio.get_running_loop().call_later(0.05, leave.set)
    assert (await asked).status == 202


async def test_a_connection_that_rests_is_closed_and_one_in_use_is_not(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("customhouse.web.server._IDLE_SECONDS", 0.2)
    held = asyncio.Event()

    async def slow(call: Call, receive: Receive) -> bytes:
        body = await read_body(call, receive, CAP)
        if body == b"hold":
            await held.wait()
        return body

    async with door(app, slow) as address:
        reader, writer = await asyncio.open_connection(address.host, address.port)
        loop = asyncio.get_running_loop()
        writer.write(hot(b"1"))
        assert (await read_reply(reader)).body == b"1"
        # Longer than a rest may be, but not resting.
        writer.write(hot(b"hold"))
        loop.call_later(0.5, held.set)
        assert (await read_reply(reader)).body == b"hold"
        began = loop.time()
        async with asyncio.timeout(20):
            assert await reader.read() == b""
        assert loop.time() - began >= 0.15
        writer.close()
