"""Bad input gets a clear problem, on the hot routes and on the others; never a 500, never an echo."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from customhouse.app import App
from customhouse.config import Address
from customhouse.web.bodies import MANAGEMENT_CAP
from customhouse.web.protocol import HEAD_BYTES, HEAD_FIELDS
from customhouse.web.publish import BATCH_BYTES, BATCH_EVENTS
from tests.integration.web.conftest import PLATFORM_KEY, Api, problem
from tests.integration.web.wire import exchange, post, read_reply

pytestmark = pytest.mark.anyio

CANARY = "canary-7f3a9c"
GOOD = b'{"tenant_id":"acme","event_type":"a","data":{}}'
JSON_BODIES: dict[str, tuple[bytes, int, str]] = {
    "nothing": (b"", 400, "malformed_json"),
    "cut off": (b'{"tenant_id": "ac', 400, "malformed_json"),
    "single quotes": (b"{'tenant_id': 'acme'}", 400, "malformed_json"),
    "trailing text": (b'{"name": "a"} x', 400, "malformed_json"),
    "two documents": (b"{}{}", 400, "malformed_json"),
    "a raw control character": (b'{"name": "a\x01b"}', 400, "malformed_json"),
    "not UTF-8": (b'{"name": "\xff\xfe"}', 400, "malformed_json"),
    "UTF-16": ('{"name": "a"}'.encode("utf-16"), 400, "malformed_json"),
    "overlong UTF-8": (b'{"name": "\xc0\xaf"}', 400, "malformed_json"),
    "an encoded surrogate": (b'{"name": "\xed\xa0\x80"}', 400, "malformed_json"),
    "an escaped lone surrogate": (rb'{"name": "\ud800"}', 422, "invalid_request"),
    "NUL": (rb'{"name": "a\u0000"}', 422, "invalid_request"),
    "NUL in a key": (rb'{"a\u0000": 1}', 422, "invalid_request"),
    "a duplicate key": (b'{"name": "a", "name": "b"}', 422, "invalid_request"),
    "a duplicate key deep down": (b'{"data": {"a": [{"b": 1, "b": 1}]}}', 422, "invalid_request"),
    "NaN": (b'{"data": {"a": NaN}}', 422, "invalid_request"),
    "Infinity": (b'{"data": {"a": -Infinity}}', 422, "invalid_request"),
    "a number too large": (b'{"data": {"a": 1e999}}', 422, "invalid_request"),
    "an integer beyond 2^53": (b'{"data": {"a": 9007199254740993}}', 422, "invalid_request"),
    "an endless integer": (b'{"data": {"a": ' + b"9" * 5000 + b"}}", 422, "invalid_request"),
    "nesting of 65": (b'{"data": ' + b"[" * 65 + b"]" * 65 + b"}", 422, "invalid_request"),
    "nesting without end": (b"[" * 100_000, 422, "invalid_request"),
    "a list": (b"[]", 422, "invalid_request"),
    "a string": (b'"x"', 422, "invalid_request"),
    "null": (b"null", 422, "invalid_request"),
    "a byte order mark": (b"\xef\xbb\xbf{}", 400, "malformed_json"),
}


@pytest.fixture
async def _acme(acme: Api) -> None:
    """The tenant that the requests name."""


@pytest.mark.usefixtures("_acme")
async def test_json_that_is_not_strict_is_refused_on_every_route_that_takes_a_body(platform: Api) -> None:
    for path in ("/v1/events", "/v1/events/batch", "/v1/tenants", "/v1/connections"):
        for name, (body, status, code) in JSON_BODIES.items():
            answer = await platform("POST", path, content=body, headers={"Content-Type": "application/json"})
            assert (name, path, answer.status_code) == (name, path, status)
            problem(answer, status, code)


@pytest.mark.usefixtures("_acme")
async def test_a_body_that_is_not_declared_as_json_is_refused(platform: Api) -> None:
    types = [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "x",
        "",
    ]
    for path in ("/v1/events", "/v1/connections"):
        for content_type in types:
            answer = await platform("POST", path, content=GOOD, headers={"Content-Type": content_type})
            problem(answer, 415, "unsupported_media_type")
        problem(await platform("POST", path, content=GOOD), 415, "unsupported_media_type")
        coded = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        problem(await platform("POST", path, content=GOOD, headers=coded), 415, "unsupported_media_type")


@pytest.mark.usefixtures("_acme")
async def test_json_may_be_declared_with_its_only_charset(platform: Api) -> None:
    for content_type in ("application/json; charset=utf-8", 'Application/JSON;charset="UTF-8"', "application/json ;"):
        answer = await platform("POST", "/v1/events", content=GOOD, headers={"Content-Type": content_type})
        assert answer.status_code == 202, answer.text


@pytest.mark.usefixtures("_acme")
async def test_a_body_over_the_limit_is_refused_whatever_its_headers_say(app: App, address: Address) -> None:
    for path, cap in (("/v1/events", app.settings.max_body_bytes), ("/v1/events/batch", BATCH_BYTES), ("/v1/connections", MANAGEMENT_CAP)):
        declared = await exchange(address, post(path, PLATFORM_KEY, b"{", f"content-length: {cap + 1}"))
        assert (declared.status, declared.code) == (413, "too_large")
        chunk = b"%x\r\n%b\r\n" % (65536, b" " * 65536)
        chunks = [chunk] * (cap // 65536 + 2)
        chunked = await exchange(address, post(path, PLATFORM_KEY, b"", "transfer-encoding: chunked"), *chunks, b"0\r\n\r\n")
        assert (chunked.status, chunked.code) == (413, "too_large")


@pytest.mark.usefixtures("_acme")
async def test_a_chunked_body_is_read_to_its_end(address: Address) -> None:
    pieces = [b"%x\r\n%b\r\n" % (len(GOOD[at : at + 7]), GOOD[at : at + 7]) for at in range(0, len(GOOD), 7)]
    reply = await exchange(address, post("/v1/events", PLATFORM_KEY, b"", "transfer-encoding: chunked"), *pieces, b"0\r\n\r\n")
    assert reply.status == 202


@pytest.mark.usefixtures("_acme")
async def test_two_ways_of_saying_how_long_a_body_is_are_refused(address: Address) -> None:
    """Request smuggling: what another reader could understand differently is not HTTP for us (RFC 9112 §6.3)."""
    for headers in (
        ("transfer-encoding: chunked", f"content-length: {len(GOOD)}"),
        (f"content-length: {len(GOOD)}", "content-length: 3"),
        ("content-length: -1",),
        ("content-length: 1e3",),
        ("content-length: 99999999999999999999999",),
        ("transfer-encoding: identity, gzip",),
    ):
        reply = await exchange(address, post("/v1/events", PLATFORM_KEY, GOOD, *headers))
        assert (headers, reply.status, reply.code) == (headers, 400, "bad_request")


@pytest.mark.usefixtures("_acme")
async def test_a_trailer_cannot_pass_for_a_header(address: Address) -> None:
    head = b"POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    body = b"%x\r\n%b\r\n0\r\n" % (len(GOOD), GOOD)
    trailer = f"authorization: Bearer {PLATFORM_KEY}\r\n\r\n".encode()
    reply = await exchange(address, head + body + trailer)
    assert (reply.status, reply.code) == (401, "unauthenticated")


async def test_what_is_not_http_is_answered_with_a_problem(address: Address) -> None:
    for raw in (b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET\r\n\r\n", b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"):
        reply = await exchange(address, raw)
        assert (raw, reply.status, reply.code) == (raw, 400, "bad_request")
        assert reply.headers["x-request-id"].startswith("req_")


async def test_a_head_that_is_too_large_is_refused_before_it_ends(address: Address) -> None:
    start = b"GET /healthz HTTP/1.1\r\nhost: x\r\n"
    for head in (
        start + b"x: " + b"a" * (HEAD_BYTES + 1),
        start + b"".join(b"x%d: a\r\n" % number for number in range(HEAD_FIELDS + 1)) + b"\r\n",
        b"GET /" + b"a" * (HEAD_BYTES + 1),
    ):
        reply = await exchange(address, head)
        assert (reply.status, reply.code) == (431, "head_too_large")


async def test_a_connection_serves_request_after_request(address: Address) -> None:
    reader, writer = await asyncio.open_connection(address.host, address.port)
    for _ in range(3):
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n" * 2)
        assert [(await read_reply(reader)).status for _ in range(2)] == [200, 200]
    writer.write(b"nonsense\r\n\r\n")
    assert (await read_reply(reader)).code == "bad_request"
    assert await reader.read() == b""
    writer.close()


PATHS = (
    "/v1/events/{}",
    "/v1/deliveries/{}",
    "/v1/connections/{}",
    "/v1/api-keys/{}",
    "/v1/tenants/{}",
    "/v1/tenants/{}/privacy-policy",
    "/v1/schemas/{}",
    "/problems/{}",
    "/{}",
)
METHODS = {"/v1/connections/{}": ("GET", "DELETE"), "/v1/api-keys/{}": ("DELETE",)}
ODD = (
    "%00",
    "%2f",
    "%2e%2e",
    "a%00b",
    "%ff%fe",
    "%f0%9f%92%a9",
    "%0d%0a",
    "'",
    '"',
    "%25",
    "x" * 4000,
    "con_" + "z" * 26,
    "evt_" + "0" * 26,
    "~",
    "*",
    "%",
)


async def test_any_text_in_a_path_is_not_found(platform: Api, acme: Api) -> None:
    for path in PATHS:
        for text in ODD:
            for method in METHODS.get(path, ("GET",)):
                answer = await acme(method, path.format(text))
                assert (path, text, answer.status_code) == (path, text, 404)
                problem(answer, 404, "not_found")
            if path.startswith("/v1/tenants"):
                problem(await platform("GET", path.format(text)), 404, "not_found")


async def test_any_text_in_a_query_is_refused_or_finds_nothing(platform: Api, acme: Api) -> None:
    lists = {
        "/v1/connections": ("user_id", "provider", "status", "limit", "cursor"),
        "/v1/deliveries": ("event_id", "connection_id", "status", "since", "limit", "cursor"),
        "/v1/event-types": ("limit", "cursor"),
        "/v1/api-keys": ("limit", "cursor"),
        "/v1/audit": ("connection_id", "actor_id", "type", "since", "until", "limit", "cursor"),
    }
    for path, names in lists.items():
        for text in ODD:
            for name in names:
                answer = await acme("GET", f"{path}?{name}={text}")
                assert answer.status_code in {200, 404, 422}, (path, name, text, answer.text)
            problem(await acme("GET", f"{path}?tenant_id={text}"), *((422, "invalid_request") if len(text) > 128 else (404, "not_found")))
            answer = await platform("GET", f"{path}?tenant_id={text}")
            problem(answer, *((422, "invalid_request") if len(text) > 128 else (404, "not_found")))


async def test_an_unknown_or_repeated_query_parameter_is_refused(acme: Api) -> None:
    """A misspelt filter must not mean "everything"."""
    said = problem(await acme("GET", "/v1/deliveries?stauts=failed"), 422, "invalid_request")
    assert "status" in said["errors"][0]["detail"]
    said = problem(await acme("GET", "/v1/deliveries?status=failed&status=delivered"), 422, "invalid_request")
    assert said["errors"] == [{"pointer": "/status", "detail": "is given more than once"}]


async def test_a_cursor_that_is_none_of_ours_is_refused(acme: Api) -> None:
    for cursor in ("x", "AAAA", "!", "é", "a" * 300, "AaIB-rvsdr-bBykyRolBNg=="):
        said = problem(await acme("GET", "/v1/connections", params={"cursor": cursor}), 422, "invalid_request")
        assert [fault["pointer"] for fault in said["errors"]] == ["/cursor"]


async def test_a_fault_names_the_place_and_never_the_value(acme: Api) -> None:
    cases: list[tuple[str, str, Any, set[str]]] = [
        ("POST", "/v1/connections", {"provider": "webhook", "url": f"ftp://{CANARY}"}, {"/url"}),
        ("POST", "/v1/connections", {"provider": CANARY, "url": "https://x.example"}, {"/provider"}),
        ("POST", "/v1/connections", {"provider": CANARY * 10, "url": 3}, {"/provider", "/url"}),
        ("POST", "/v1/connections", {"provider": "webhook", "url": "https://x.example", CANARY: 1}, {""}),
        ("POST", "/v1/connections", {"provider": "webhook", "url": "https://x.example", "event_types": ["a b"]}, {"/event_types/0"}),
        ("POST", "/v1/connections", {"provider": "webhook", "url": "https://x.example", "event_types": []}, {"/event_types"}),
        ("POST", "/v1/connections", {"provider": "webhook", "url": "https://x.example", "user_id": f"{CANARY}@example.com"}, {"/user_id"}),
        ("POST", "/v1/api-keys", {"name": "", "scopes": [CANARY], "expires_at": CANARY}, {"/name", "/expires_at"}),
        ("POST", "/v1/api-keys", {"name": "x", "scopes": [CANARY]}, {"/scopes/0"}),
        ("POST", "/v1/api-keys", {"name": "x", "scopes": ["admin"], "expires_at": "2020-01-01T00:00:00Z"}, {"/expires_at"}),
        ("PUT", "/v1/tenants/acme/privacy-policy", {"allowed_fields": [3], "connections": {CANARY: {CANARY: 1}}},
         {"/allowed_fields/0", "/connections/*/allowed_fields", "/connections/*"}),
        ("PUT", "/v1/tenants/acme/privacy-policy", {"allowed_fields": [CANARY], "on_violation": "remove"}, {"/allowed_fields/0"}),
        ("POST", "/v1/event-types", {"event_type": "a", "schema": {"type": CANARY}}, {"/schema"}),
        ("POST", "/v1/event-types", {"event_type": "envelope"}, {"/event_type"}),
        ("POST", "/v1/event-types", {"event_type": "a", "pii": {"/x": CANARY}}, {"/pii"}),
        ("POST", "/v1/events", {"event_type": f"{CANARY} ", "data": CANARY, CANARY: 1}, {"/", "/event_type", "/data"}),
        ("POST", "/v1/events", {"event_type": "a", "data": {}, "occurred_at": "2020-01-01"}, {"/occurred_at"}),
        ("POST", "/v1/events", {"event_type": "a", "data": {}, "connection_ids": [CANARY]}, {"/connection_ids/0"}),
        ("POST", "/v1/events/batch", {"events": []}, {"/events"}),
        ("POST", "/v1/events/batch", {"events": [{}] * (BATCH_EVENTS + 1)}, {"/events"}),
        ("POST", "/v1/events/batch", {"events": [], CANARY: 1}, {"/events"}),
    ]  # fmt: skip
    for method, path, body, pointers in cases:
        answer = await acme(method, path, body)
        said = problem(answer, 422, "invalid_request")
        assert {fault["pointer"] for fault in said["errors"]} == pointers, (path, body, said)
        assert CANARY not in answer.text


async def test_json_types_are_not_converted(acme: Api) -> None:
    answer = await acme("POST", "/v1/connections", {"provider": "webhook", "url": "https://x.example", "description": 3})
    assert problem(answer, 422, "invalid_request")["errors"] == [{"pointer": "/description", "detail": "is not a string"}]
    made = await acme("POST", "/v1/connections", {"provider": "webhook", "url": "http://127.0.0.1:1/"})
    path = f"/v1/connections/{made.json()['connection_id']}"
    values: list[Any] = ["true", 1, 0, []]
    for paused in values:
        problem(await acme("PATCH", path, {"paused": paused}), 422, "invalid_request")
    problem(await acme("PATCH", path, {}), 422, "invalid_request")


async def test_a_path_without_the_method_names_those_that_it_has(acme: Api) -> None:
    for method, path, allowed in (
        ("PUT", "/v1/connections", "GET, POST"),
        ("POST", "/v1/connections/x", "DELETE, GET, PATCH"),
        ("GET", "/v1/events", "POST"),
        ("DELETE", "/v1/events", "POST"),
        ("POST", "/healthz", "GET"),
    ):
        answer = await acme(method, path)
        problem(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == allowed
