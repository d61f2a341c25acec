"""The asynchronous door, and the ASGI glue behind a real uvicorn on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator
from typing import Any, Optional

import httpx
import pytest
import uvicorn

from customhouse_receiver import Claim, Event, MemoryReplayCache, Reason, Receiver, WebhookRejected, testing
from customhouse_receiver.asgi import Message, Receive, Scope, Send, WebhookMiddleware

NOW = 1_795_339_800


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Endpoint:
    """An app that answers as it is told, and remembers what it was given."""

    def __init__(self, status: Optional[int] = 204) -> None:
        self.status = status
        self.events: list[Event] = []
        self.bodies: list[bytes] = []
        self.entered = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        self.events.append(scope["customhouse.event"])
        self.bodies.append(message["body"])
        self.entered.set()
        await self.go.wait()
        if self.status is None:
            raise ZeroDivisionError
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b""})


class Service:
    """The endpoint on a loopback port."""

    def __init__(self, client: httpx.AsyncClient, port: int) -> None:
        self.client = client
        self.port = port

    async def post(self, *, at: int = NOW, headers: Optional[dict[str, str]] = None, body: Optional[bytes] = None) -> httpx.Response:
        raw = testing.body() if body is None else body
        return await self.client.post("/", content=raw, headers=testing.headers(raw, at) if headers is None else headers)


@contextlib.asynccontextmanager
async def serving(app: Endpoint, cache: Any = None, **options: Any) -> AsyncIterator[Service]:
    receiver = Receiver({"key_1": testing.SECRET}, replay=cache or MemoryReplayCache(), clock=lambda: NOW, **options)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(WebhookMiddleware(app, receiver), log_config=None, lifespan="off", ws="none"))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            yield Service(client, port)
    finally:
        server.should_exit = True
        await task


@pytest.mark.anyio
async def test_a_genuine_request_reaches_the_app_with_its_event_and_its_bytes() -> None:
    app = Endpoint()
    async with serving(app) as service:
        answer = await service.post()
    assert answer.status_code == 204
    assert [event.event_id for event in app.events] == ["evt_test"]
    assert app.bodies == [testing.body()]


@pytest.mark.anyio
async def test_what_was_answered_2xx_is_done_so_a_replay_is_refused_and_a_retry_is_a_no_op() -> None:
    app = Endpoint()
    async with serving(app) as service:
        await service.post()
        replayed, retried = await service.post(), await service.post(at=NOW + 1)
    assert (replayed.status_code, replayed.json()) == (401, {"reason": "replayed", "retryable": False})
    assert (retried.status_code, retried.json()) == (200, {"duplicate": True})
    assert len(app.events) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("status", [None, 302, 400, 500], ids=str)
async def test_what_was_not_answered_2xx_is_released_for_the_retry(status: Optional[int]) -> None:
    app = Endpoint(status)
    async with serving(app) as service:
        first = await service.post()
        app.status = 200
        second = await service.post()
    assert (first.status_code, second.status_code) == (500 if status is None else status, 200)
    assert [event.duplicate for event in app.events] == [False, False]


@pytest.mark.anyio
async def test_a_second_request_during_the_work_is_told_to_come_back() -> None:
    app = Endpoint()
    app.go.clear()
    async with serving(app) as service:
        first = asyncio.create_task(service.post())
        await app.entered.wait()
        second = await service.post(at=NOW + 1)
        app.go.set()
        assert (await first).status_code == 204
    assert (second.status_code, second.json()) == (409, {"reason": "in_progress", "retryable": True})
    assert 1 <= int(second.headers["retry-after"]) <= 60


@pytest.mark.anyio
async def test_forged_requests_never_reach_the_app() -> None:
    app = Endpoint()
    genuine = testing.headers(testing.body(), NOW)
    async with serving(app) as service:
        answers = [
            await service.post(headers={}),
            await service.post(headers=genuine, body=testing.body(tenant_id="globex")),
            await service.post(at=NOW - 301),
            await service.post(body=b"[]"),
            await service.client.get("/", headers=genuine),
        ]
    assert [(answer.status_code, answer.json()["reason"]) for answer in answers] == [
        (401, "missing_header"),
        (401, "signature_mismatch"),
        (401, "timestamp_outside_tolerance"),
        (422, "envelope_malformed"),
        (405, "method_not_allowed"),
    ]
    assert app.events == []


@pytest.mark.anyio
async def test_a_repeated_header_on_the_wire_is_refused() -> None:
    app, body = Endpoint(), testing.body()
    pairs = list(testing.headers(body, NOW).items())
    async with serving(app) as service:
        answer = await service.client.post("/", content=body, headers=[*pairs, pairs[1]])
    assert (answer.status_code, answer.json()["reason"]) == (401, "repeated_header")


@pytest.mark.anyio
async def test_a_body_over_the_limit_is_refused_declared_or_streamed() -> None:
    app = Endpoint()
    body = testing.body(data={"filler": "x" * 5_000})

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 700):
            yield body[start : start + 700]

    async with serving(app, max_body=2_000) as service:
        declared = await service.post(body=body)
        streamed = await service.client.post("/", content=chunks(), headers=testing.headers(body, NOW))
    async with serving(app, max_body=len(body)) as service:
        allowed = await service.client.post("/", content=chunks(), headers=testing.headers(body, NOW))
    assert [answer.status_code for answer in (declared, streamed, allowed)] == [413, 413, 204]
    assert app.bodies == [body]


@pytest.mark.anyio
async def test_a_client_that_goes_away_in_the_middle_leaves_no_trace() -> None:
    app, body = Endpoint(), testing.body()
    head = "".join(f"{name}: {value}\r\n" for name, value in testing.headers(body, NOW).items())
    async with serving(app) as service:
        _, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode() + body[:50])
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        answer = await service.post()
    assert (answer.status_code, len(app.events)) == (204, 1)


class AsyncOnly:
    """A store with the asynchronous door alone."""

    def __init__(self, *, failing: frozenset[str] = frozenset()) -> None:
        self.inner = MemoryReplayCache()
        self.failing = failing

    async def aclaim(self, key: str, *, token: str, fingerprint: str, lease: float) -> Claim:
        await self._reach("claim")
        return self.inner.claim(key, token=token, fingerprint=fingerprint, lease=lease)

    async def aconfirm(self, key: str, *, token: str, fingerprint: str, ttl: float, floor: float) -> None:
        await self._reach("confirm")
        self.inner.confirm(key, token=token, fingerprint=fingerprint, ttl=ttl, floor=floor)

    async def arelease(self, key: str, *, token: str) -> None:
        await self._reach("release")
        self.inner.release(key, token=token)

    async def _reach(self, name: str) -> None:
        await asyncio.sleep(0)
        if name in self.failing:
            raise ConnectionError(name)


@pytest.mark.anyio
async def test_while_the_cache_is_away_nothing_is_accepted() -> None:
    app = Endpoint()
    async with serving(app, AsyncOnly(failing=frozenset({"claim"}))) as service:
        answer = await service.post()
    assert (answer.status_code, answer.json(), "retry-after" in answer.headers) == (
        503,
        {"reason": "replay_unavailable", "retryable": True},
        True,
    )
    assert app.events == []


@pytest.mark.anyio
async def test_an_answer_that_could_not_be_remembered_is_not_given() -> None:
    app = Endpoint()
    async with serving(app, AsyncOnly(failing=frozenset({"confirm"}))) as service:
        answer = await service.post()
        again = await service.post(at=NOW + 1)
    assert (answer.status_code, answer.json()["reason"]) == (503, "replay_unavailable")
    assert (again.status_code, len(app.events)) == (503, 2)


@pytest.mark.anyio
async def test_an_app_that_fails_while_the_cache_is_away_shows_its_own_failure() -> None:
    app = Endpoint(status=None)
    async with serving(app, AsyncOnly(failing=frozenset({"release"}))) as service:
        answer = await service.post()
    assert (answer.status_code, len(app.events)) == (500, 1)


def receiver(cache: Any) -> Receiver:
    return Receiver({"key_1": testing.SECRET}, replay=cache, clock=lambda: NOW)


async def take(using: Receiver, *, at: int = NOW) -> Event:
    body = testing.body()
    return await using.averify(testing.headers(body, at), body)


@pytest.mark.anyio
async def test_a_release_inside_an_async_with_block_is_the_last_word() -> None:
    using = receiver(MemoryReplayCache())
    async with await take(using) as event:
        await event.arelease()
    assert not (await take(using)).duplicate


class ThreadBound:
    """A synchronous store that notes in which thread it is called."""

    def __init__(self) -> None:
        self.inner = MemoryReplayCache()
        self.threads: set[int] = set()

    def claim(self, key: str, *, token: str, fingerprint: str, lease: float) -> Claim:
        self.threads.add(threading.get_ident())
        return self.inner.claim(key, token=token, fingerprint=fingerprint, lease=lease)

    def confirm(self, key: str, *, token: str, fingerprint: str, ttl: float, floor: float) -> None:
        self.threads.add(threading.get_ident())
        self.inner.confirm(key, token=token, fingerprint=fingerprint, ttl=ttl, floor=floor)

    def release(self, key: str, *, token: str) -> None:
        self.threads.add(threading.get_ident())
        self.inner.release(key, token=token)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [MemoryReplayCache, AsyncOnly, ThreadBound])
async def test_every_kind_of_cache_serves_averify_alike(kind: Any) -> None:
    using = receiver(kind())
    first = await take(using)
    with pytest.raises(WebhookRejected) as refused:
        await take(using)
    assert refused.value.reason is Reason.IN_PROGRESS
    await first.arelease()
    async with await take(using) as second:
        assert not second.duplicate
    with pytest.raises(WebhookRejected) as refused:
        await take(using)
    assert refused.value.reason is Reason.REPLAYED
    again = await take(using, at=NOW + 1)
    assert again.duplicate
    await again.adone()
    await again.arelease()
    async with again:
        assert again.duplicate


@pytest.mark.anyio
async def test_a_synchronous_cache_never_blocks_the_loop() -> None:
    cache = ThreadBound()
    async with await take(receiver(cache)):
        pass
    await (await take(receiver(cache), at=NOW + 1)).arelease()
    assert cache.threads
    assert threading.get_ident() not in cache.threads


@pytest.mark.anyio
async def test_an_exception_inside_an_async_with_block_releases_the_event() -> None:
    using = receiver(MemoryReplayCache())
    with pytest.raises(ZeroDivisionError):
        async with await take(using):
            raise ZeroDivisionError
    assert not (await take(using)).duplicate


def test_an_asynchronous_cache_behind_verify_lets_nothing_in() -> None:
    body = testing.body()
    with pytest.raises(WebhookRejected) as refused:
        receiver(AsyncOnly()).verify(testing.headers(body, NOW), body)
    assert refused.value.reason is Reason.REPLAY_UNAVAILABLE


@pytest.mark.anyio
async def test_many_tasks_claim_one_event_once() -> None:
    using = receiver(AsyncOnly())
    results = await asyncio.gather(*(take(using) for _ in range(20)), return_exceptions=True)
    assert [type(result) for result in results].count(Event) == 1
    assert {result.reason for result in results if isinstance(result, WebhookRejected)} == {Reason.IN_PROGRESS}


@pytest.mark.anyio
async def test_after_the_body_the_app_hears_what_the_server_says_next() -> None:
    said: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        said.extend([await receive(), await receive()])

    body = testing.body()
    waiting: list[Message] = [{"type": "http.disconnect"}, {"type": "http.request", "body": body}]

    async def receive() -> Message:
        return waiting.pop()

    async def send(message: Message) -> None:
        said.append(message)

    headers = [(name.lower().encode(), value.encode()) for name, value in testing.headers(body, NOW).items()]
    using = receiver(MemoryReplayCache())
    await WebhookMiddleware(app, using)({"type": "http", "method": "POST", "headers": headers}, receive, send)
    assert said == [{"type": "http.request", "body": body, "more_body": False}, {"type": "http.disconnect"}]
    assert not (await take(using)).duplicate  # an app that answered nothing has done nothing


@pytest.mark.anyio
async def test_the_lifespan_reaches_the_app_and_a_websocket_does_not() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    guarded = WebhookMiddleware(app, receiver(MemoryReplayCache()))
    await guarded({"type": "lifespan"}, receive, send)
    await guarded({"type": "websocket"}, receive, send)
    assert seen == ["lifespan"]
    assert [message["type"] for message in sent] == ["websocket.close"]
