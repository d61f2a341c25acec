"""What every answer carries, what is logged and counted of it, and that no surprise leaves as anything but a problem."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from customhouse import logs
from customhouse.app import App
from customhouse.config import Address
from customhouse.errors import DatabaseUnavailable, KeyServiceUnavailable, Overloaded, TooManyRequests
from customhouse.outbound.accept import Accepted
from customhouse.outbound.requests import EventRequest
from customhouse.web.asgi import create
from customhouse.web.exposition import exposition
from customhouse.web.express import Handler
from customhouse.web.middleware import Door
from customhouse.web.server import listening
from tests.integration.web.conftest import Api, problem
from tests.integration.web.wire import exchange

pytestmark = pytest.mark.anyio


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """The log, before the service starts."""
    stream = io.StringIO()
    logs.configure("debug", pretty=False, stream=stream)
    yield stream
    logs.configure("info")


def _requests(lines: io.StringIO) -> list[dict[str, Any]]:
    return [said for said in map(json.loads, lines.getvalue().splitlines()) if said["event"] == "http_request"]


async def test_every_answer_carries_an_id_of_ours_and_safe_headers(acme: Api) -> None:
    seen = set()
    for method, path in (
        ("GET", "/v1/connections"),
        ("POST", "/v1/events"),
        ("GET", "/nope"),
        ("GET", "/healthz"),
        ("PUT", "/v1/events"),
        ("GET", "/docs"),
    ):
        answer = await acme(method, path, headers={"X-Request-Id": "req_mine"})
        seen.add(answer.headers["x-request-id"])
        assert answer.headers["x-request-id"].startswith("req_0")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert (answer.headers.get("cache-control") == "no-store") is path.startswith("/v1")
        assert "server" not in answer.headers
        assert answer.headers.get_list("content-security-policy", split_commas=False) == [answer.headers["content-security-policy"]]
    assert len(seen) == 6


async def test_a_correlation_id_is_taken_only_where_it_may_travel(acme: Api) -> None:
    good = await acme("GET", "/v1/connections", headers={"X-Correlation-Id": "job-7:a.b_c"})
    assert good.headers["x-correlation-id"] == "job-7:a.b_c"
    for text in ("a b", "x" * 129, "", "ada@example.com", "+442079460958", "a\xe9"):
        answer = await acme("GET", "/v1/connections", headers={"X-Correlation-Id": text.encode("latin-1")})
        assert "x-correlation-id" not in answer.headers
        assert answer.status_code == 200


@pytest.mark.usefixtures("lines")
async def test_the_log_line_holds_the_template_and_never_a_value(lines: io.StringIO, acme: Api) -> None:
    canary = "canary-4711"
    await acme("GET", f"/v1/connections/{canary}?tenant_id={canary}", headers={"X-Correlation-Id": "job-1"})
    await acme("GET", f"/{canary}")
    await acme("POST", "/v1/events", {"event_type": "a", "data": {"x": canary}})
    shown = _requests(lines)[-3:]
    assert [one.get("route") for one in shown] == ["/v1/connections/{connection_id}", None, "/v1/events"]
    assert [one["status_code"] for one in shown] == [404, 404, 202]
    assert [one["level"] for one in shown] == ["info", "info", "debug"]
    assert shown[0]["correlation_id"] == "job-1"
    assert (shown[0]["tenant_id"], shown[2]["request_bytes"]) == ("acme", 45)
    assert all(one["latency_ms"] > 0 and one["response_bytes"] > 0 and "dropped_fields" not in one for one in shown)
    assert canary not in lines.getvalue()


async def test_requests_are_counted_by_template(acme: Api, platform: Api) -> None:
    await acme("GET", "/v1/connections/x")
    await acme("GET", "/canary-4711")
    shown = (await platform("GET", "/metrics")).text
    assert 'http_requests_total{method="GET",route="/v1/connections/{connection_id}",status="404"} 1.0' in shown
    assert 'http_requests_total{method="GET",route="other",status="404"} 1.0' in shown
    assert 'http_request_seconds_count{route="/v1/connections/{connection_id}"} 1.0' in shown
    assert "canary" not in shown


def _door(app: App, handler: Handler, most_at_once: int = 10) -> Door:
    return Door(app, create(app), {"/v1/hot": handler}, https=True, most_at_once=most_at_once)


HOT = b"POST /v1/hot HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
LONG_WAY = HOT.replace(b"1.1", b"1.0", 1)
"""The same as ASGI: HTTP/1.0 is not for the short way."""
EITHER_WAY = pytest.mark.parametrize("request_bytes", [HOT, LONG_WAY])


@EITHER_WAY
async def test_a_surprise_becomes_an_internal_error_that_says_nothing(lines: io.StringIO, app: App, request_bytes: bytes) -> None:
    async def broken(_call: Any, _receive: Any) -> bytes:
        raise ValueError("canary-4711")

    async with listening(_door(app, broken), Address("127.0.0.1", 0)) as address:
        reply = await exchange(address, request_bytes)
    assert (reply.status, reply.code) == (500, "internal_error")
    assert reply.headers["strict-transport-security"].startswith("max-age=")
    assert b"canary" not in reply.body
    [said] = [one for one in map(json.loads, lines.getvalue().splitlines()) if one["event"] == "unexpected"]
    assert (said["error"], said["request_id"]) == ("ValueError", reply.headers["x-request-id"])
    assert "canary" not in lines.getvalue()


@EITHER_WAY
async def test_what_passes_by_itself_says_when_to_come_back(app: App, request_bytes: bytes) -> None:
    for error, status, after in (
        (DatabaseUnavailable(), 503, "1"),
        (KeyServiceUnavailable(), 503, "5"),
        (Overloaded(retry_after=7), 503, "7"),
        (TooManyRequests(), 429, "1"),
    ):

        async def busy(_call: Any, _receive: Any, error: Exception = error) -> bytes:
            raise error

        async with listening(_door(app, busy), Address("127.0.0.1", 0)) as address:
            reply = await exchange(address, request_bytes)
        assert (reply.status, reply.headers["retry-after"]) == (status, after)


@EITHER_WAY
async def test_more_calls_than_can_be_held_are_refused_at_the_door(app: App, request_bytes: bytes) -> None:
    inside, leave = asyncio.Event(), asyncio.Event()

    async def slow(_call: Any, _receive: Any) -> bytes:
        inside.set()
        await leave.wait()
        return b"{}"

    async with listening(_door(app, slow, most_at_once=1), Address("127.0.0.1", 0)) as address:
        first = asyncio.create_task(exchange(address, request_bytes))
        await inside.wait()
        reply = await exchange(address, request_bytes)
        assert (reply.status, reply.code, reply.headers["retry-after"]) == (503, "overloaded", "1")
        leave.set()
        assert (await first).status == 202


async def test_a_caller_who_leaves_in_the_middle_of_a_body_is_no_error(lines: io.StringIO, address: Address, acme: Api) -> None:
    _reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(
        f"POST /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {acme.key}\r\ncontent-type: application/json\r\n"
        "content-length: 100\r\n\r\n{".encode()
    )
    await writer.drain()
    writer.close()
    async with asyncio.timeout(20):
        while not any(one["status_code"] == 499 for one in _requests(lines)):
            await acme("GET", "/healthz")
    assert '"level": "error"' not in lines.getvalue()


async def test_the_database_away_is_a_problem_that_passes(acme: Api, app: App) -> None:
    await app.database.close()
    for method, path, body in (
        ("GET", "/v1/connections", None),
        ("POST", "/v1/connections", {"provider": "webhook", "url": "http://127.0.0.1:9/"}),
    ):
        answer = await acme(method, path, body)
        problem(answer, 503, "database_unavailable")
        assert answer.headers["retry-after"] == "1"
    ready = await acme("GET", "/readyz")
    assert (ready.status_code, ready.json()["ready"]) == (503, False)
    assert {one["name"]: one["ok"] for one in ready.json()["checks"]}["database"] is False
    assert (await acme("GET", "/healthz")).status_code == 200


async def test_the_documents_need_nothing_from_outside(platform: Api) -> None:
    page = await platform.as_key(None)("GET", "/docs")
    assert "<script" not in page.text
    assert "http" not in page.headers["content-security-policy"]
    for path in (await platform("GET", "/openapi.json")).json()["paths"]:
        assert path in page.text


async def test_every_problem_has_a_page_at_its_type(acme: Api) -> None:
    said = problem(await acme("GET", "/v1/connections/x"), 404, "not_found")
    page = await acme.as_key(None)("GET", said["type"])
    assert page.status_code == 200
    assert "not_found" in page.text
    problem(await acme("GET", "/problems/none"), 404, "not_found")


async def test_a_refusal_by_postgresql_is_internal_and_tells_nothing(lines: io.StringIO, acme: Api, owner: asyncpg.Connection) -> None:
    await owner.execute("drop table event_types cascade")
    answer = await acme("GET", "/v1/event-types")
    said = problem(answer, 500, "internal_error")
    assert "event_types" not in said["detail"]
    [line] = [one for one in map(json.loads, lines.getvalue().splitlines()) if one["event"] == "unexpected"]
    assert line["request_id"] == answer.headers["x-request-id"]


async def test_a_surprise_behind_the_framework_is_told_once(lines: io.StringIO, acme: Api, app: App) -> None:
    del app.policies
    answer = await acme("GET", "/v1/tenants/acme/privacy-policy")
    problem(answer, 500, "internal_error")
    [line] = [one for one in map(json.loads, lines.getvalue().splitlines()) if one["event"] == "unexpected"]
    assert (line["error"], line["request_id"]) == ("AttributeError", answer.headers["x-request-id"])


async def test_a_surprise_in_one_member_of_a_batch_leaves_the_others_their_answers(lines: io.StringIO, acme: Api, app: App) -> None:
    bad = {"event_type": "bad", "data": {}}
    accept = app.acceptor.accept

    async def failing(request: EventRequest, *args: Any, **options: Any) -> Accepted:
        if request.event_type == "bad":
            raise ValueError("canary-4711")
        return await accept(request, *args, **options)

    app.acceptor.accept = failing  # type: ignore[method-assign]  # a fault that no input can bring about
    answer = await acme("POST", "/v1/events/batch", {"events": [bad, {"event_type": "good", "data": {}}]})
    assert [one["status"] for one in answer.json()["results"]] == [500, 202]
    assert "canary" not in answer.text + lines.getvalue()


async def test_other_protocols_are_turned_away(app: App) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    door = create(app)
    messages: list[Any] = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    await door({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    sent.clear()
    await door({"type": "websocket", "path": "/v1/events", "headers": []}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1000}]
    sent.clear()
    await exposition(app)({"type": "lifespan"}, receive, send)
    assert sent == []
