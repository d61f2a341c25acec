"""The guarded proxy: what passes, what never does, and what the ledger says of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from customhouse.app import App
from customhouse.config import Address
from customhouse.egress.relaying import Relay
from tests.authority import Authority, reply
from tests.canaries import traces
from tests.integration.connections.conftest import Browser, connected
from tests.integration.connections.test_reading import entries
from tests.integration.web.conftest import Api, make_tenant, problem
from tests.integration.web.wire import exchange
from tests.receivers import Received, status

pytestmark = pytest.mark.anyio
RELAYED = "x-customhouse-relayed"


def api_of(zoom: Authority, answer: Callable[[Received], bytes]) -> list[Received]:
    """Answer what is no OAuth by `answer`; return the list of what comes."""
    seen: list[Received] = []

    def handle(request: Received) -> bytes:
        if request.path.startswith("/oauth/") or request.path == "/v2/users/me":
            return zoom.answer(request)
        seen.append(request)
        return answer(request)

    zoom.server.answer = handle
    return seen


def proxied(connection: dict[str, Any], path: str) -> str:
    return f"/v1/connections/{connection['connection_id']}/proxy{path}"


async def acting(acme: Api, browser: Browser, zoom: Authority, scope: str = "read write") -> dict[str, Any]:
    zoom.scope = scope
    return await connected(acme, browser, zoom, provider="acme-idp", mode="act")


async def test_a_call_passes_with_the_token_and_without_what_is_the_callers(acme: Api, browser: Browser, zoom: Authority) -> None:
    connection = await connected(acme, browser, zoom)
    seen = api_of(
        zoom, lambda _: status(200, "content-type: application/json", "set-cookie: a=b", "x-secret: 1", "etag: e", body=b'{"id":1}')
    )
    headers = {
        "Accept": "application/json",
        "If-None-Match": '"x"',
        "Cookie": "session=1",
        "X-Forwarded-For": "203.0.113.7",
        "X-Forwarded-Host": "evil.example",
        "Forwarded": "for=203.0.113.7",
        "X-HTTP-Method-Override": "DELETE",
        "Stripe-Account": "acct_1",
        "Proxy-Authorization": "Basic x",
        "X-Customhouse-Tenant": "acme",
    }
    answer = await acme("GET", proxied(connection, "/meetings/123?page_size=3"), headers=headers)
    assert (answer.status_code, answer.json()) == (200, {"id": 1}), answer.text
    assert answer.headers[RELAYED] == "1"
    assert (answer.headers["etag"], answer.headers["cache-control"]) == ("e", "no-store")
    assert "set-cookie" not in answer.headers
    assert "x-secret" not in answer.headers
    (request,) = seen
    assert (request.method, request.path) == ("GET", "/v2/meetings/123?page_size=3")
    assert request.headers["authorization"].removeprefix("Bearer ") in zoom.live
    assert request.headers["host"] == f"127.0.0.1:{zoom.server.port}"
    assert (request.headers["accept"], request.headers["if-none-match"]) == ("application/json", '"x"')
    assert request.headers.keys() <= {"accept", "if-none-match", "authorization", "host", "accept-encoding", "user-agent"}
    assert acme.key is not None
    assert acme.key not in str(request.headers)
    (entry,) = await entries(acme, "provider.called")
    assert entry["detail"] == {
        "provider": "zoom",
        "method": "GET",
        "rule": "/meetings/{meeting}",
        "scope": "meeting:read:meeting",
        "status": 200,
        "error": None,
    }
    (read,) = await entries(acme, "token.read")
    assert read["detail"]["purpose"] == "proxy"
    shown = (await acme("GET", f"/v1/connections/{connection['connection_id']}")).json()
    assert shown["scopes"]["used"] == ["meeting:read:meeting"]


ATTACKS = [
    "/meetings/..%2Fusers%2Fme",
    "/meetings/%2e%2e/users",
    "/meetings/..;/users",
    "/meetings/%252e%252e/x",
    "/meetings/a%5Cb",
    "/meetings//x",
    "/meetings/x%00",
    "/meetings/%6D",
    "/meetings/123?access_token=x",
    "/meetings/123?_method=DELETE",
    "/meetings/123?a=1;b=2",
]


@pytest.mark.parametrize("path", ATTACKS)
async def test_r25_a_path_in_disguise_reaches_nobody(acme: Api, browser: Browser, zoom: Authority, address: Address, path: str) -> None:
    connection = await connected(acme, browser, zoom)
    seen = api_of(zoom, lambda _: status(200))
    # As bytes: HTTP clients repair paths.
    raw = f"GET {proxied(connection, path)} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {acme.key}\r\n\r\n"
    answer = await exchange(address, raw.encode())
    assert answer.status == 422, answer.body
    assert json.loads(answer.body)["code"] == "invalid_request"
    assert seen == []
    (entry,) = await entries(acme, "token.refused")
    assert entry["detail"] == {"provider": "zoom", "purpose": "proxy", "reason": "path_refused", "method": "GET"}


async def test_r25_dots_in_the_way_to_the_proxy_lead_nowhere(acme: Api, browser: Browser, zoom: Authority, address: Address) -> None:
    connection = await connected(acme, browser, zoom)
    seen = api_of(zoom, lambda _: status(200))
    for raw_path in (
        f"/v1/connections/x%2F..%2F{connection['connection_id']}/proxy/meetings/1",
        f"/v1/connections/{connection['connection_id']}%2Fproxy/meetings/1",
        f"/v1/connections/{connection['connection_id']}/proxy%2Fmeetings/1",
        f"/v1/connections/{connection['connection_id']}/proxy",
    ):
        raw = f"GET {raw_path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {acme.key}\r\n\r\n"
        assert (await exchange(address, raw.encode())).status == 404, raw_path
    assert seen == []


async def test_what_the_manifest_does_not_name_is_refused(acme: Api, browser: Browser, zoom: Authority) -> None:
    connection = await connected(acme, browser, zoom)
    seen = api_of(zoom, lambda _: status(200))
    for method, path in (
        ("GET", "/accounts"),
        ("DELETE", "/meetings/1"),
        ("POST", "/meetings/1"),
        ("HEAD", "/meetings/1"),
        ("GET", "/oauth/token"),
    ):
        answer = await acme(method, proxied(connection, path))
        assert answer.status_code == 403, (method, path)
        if method != "HEAD":
            problem(answer, 403, "not_allowed")
    assert seen == []
    assert (await acme("OPTIONS", proxied(connection, "/meetings/1"))).status_code == 405


async def test_a_scope_that_was_not_granted_and_an_approval_that_is_missing_are_told_apart(
    acme: Api, browser: Browser, zoom: Authority
) -> None:
    zoom.scope = "read"
    observing = await connected(acme, browser, zoom, provider="acme-idp")
    act = await acting(acme, browser, zoom)
    seen = api_of(zoom, lambda _: status(200))
    problem(await acme("GET", proxied(observing, "/writers/1")), 403, "scope_not_granted")
    problem(await acme("POST", proxied(observing, "/api/1"), {}), 403, "scope_not_granted")
    problem(await acme("POST", proxied(act, "/api/1"), {}), 409, "approval_required")
    assert seen == []
    assert (await acme("GET", proxied(act, "/writers/1"))).status_code == 200
    reasons = {entry["detail"]["reason"] for entry in await entries(acme, "token.refused")}
    assert reasons == {"scope_not_granted", "approval_required"}


async def test_another_tenant_and_a_weaker_key_reach_nothing(platform: Api, acme: Api, browser: Browser, zoom: Authority) -> None:
    connection = await connected(acme, browser, zoom)
    seen = api_of(zoom, lambda _: status(200))
    other = await make_tenant(platform, "other")
    problem(await other("GET", proxied(connection, "/meetings/1")), 404, "not_found")
    problem(await other("GET", proxied(connection, "/accounts/..%2F")), 404, "not_found")
    problem(await other("GET", proxied(connection, "/meetings/1"), headers={"x-customhouse-tenant": "acme"}), 404, "not_found")
    problem(await platform("GET", proxied(connection, "/meetings/1")), 422, "invalid_request")
    problem(await platform("GET", proxied(connection, "/meetings/1"), headers={"x-customhouse-tenant": "other"}), 404, "not_found")
    made = await acme("POST", "/v1/api-keys", {"name": "weak", "scopes": ["admin", "tokens:read"]})
    problem(await acme.as_key(made.json()["api_key"])("GET", proxied(connection, "/meetings/1")), 403, "scope_missing")
    problem(await acme.as_key(None)("GET", proxied(connection, "/meetings/1")), 401, "unauthenticated")
    assert seen == []
    assert (await platform("GET", proxied(connection, "/meetings/1"), headers={"x-customhouse-tenant": "acme"})).status_code == 200


async def test_a_redirect_is_not_followed_and_not_passed_on(acme: Api, browser: Browser, zoom: Authority) -> None:
    """R21: the token goes to the provider alone."""
    connection = await connected(acme, browser, zoom)
    seen = api_of(zoom, lambda _: status(302, f"location: {zoom.server.url('/elsewhere')}"))
    answer = await acme("GET", proxied(connection, "/meetings/1"))
    assert (answer.status_code, answer.headers.get("location"), len(seen)) == (302, None, 1)


async def test_r21_an_origin_that_is_not_the_providers_gets_no_token(
    app: App, acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await connected(acme, browser, zoom)
    seen = api_of(zoom, lambda _: status(200))
    monkeypatch.setattr("customhouse.connections.proxying.at_origin", lambda *_: "https://evil.example/v2")
    problem(await acme("GET", proxied(connection, "/meetings/1")), 403, "not_allowed")
    assert seen == []


async def test_retry_after_is_passed_on_and_kept_to(acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection) -> None:
    connection = await connected(acme, browser, zoom)
    seen = api_of(zoom, lambda _: reply(429, {"code": 429}).replace(b"content-type", b"retry-after: 120\r\ncontent-type", 1))
    first = await acme("GET", proxied(connection, "/meetings/1"))
    assert (first.status_code, first.headers["retry-after"], first.headers[RELAYED]) == (429, "120", "1")
    second = await acme("GET", proxied(connection, "/meetings/2"))
    problem(second, 429, "provider_rate_limited")
    assert RELAYED not in second.headers
    assert 100 < int(second.headers["retry-after"]) <= 120
    assert len(seen) == 1
    await owner.execute("update connection_uses set hold_until = now() - interval '1 second'")
    api_of(zoom, lambda _: status(200))
    assert (await acme("GET", proxied(connection, "/meetings/1"))).status_code == 200


class Renewing:
    """A provider that refuses every token but those after the first renewals."""

    def __init__(self, zoom: Authority, refusals: int, answer: bytes) -> None:
        self.refusals, self.good = refusals, answer
        self.seen = api_of(zoom, self.answer)
        zoom.live.clear()

    def answer(self, request: Received) -> bytes:
        del request
        self.refusals -= 1
        return reply(401, {"code": 124, "message": "Invalid access token."}) if self.refusals >= 0 else self.good


class Refresher:
    """Stores the same token as a later generation."""

    def __init__(self, app: App, owner: asyncpg.Connection) -> None:
        self.app, self.owner = app, owner
        self.asked: list[int] = []

    async def renew(self, tenant: Any, connection_id: Any, *, generation: int) -> None:
        del tenant, connection_id
        self.asked.append(generation)

    def nudge(self, tenant: Any, connection_id: Any, generation: int) -> None:
        raise AssertionError


async def test_a_refused_token_is_renewed_once_and_a_safe_call_made_again(
    app: App, acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection
) -> None:
    connection = await connected(acme, browser, zoom)
    app.proxy._refresher = refresher = Refresher(app, owner)
    provider = Renewing(zoom, 1, status(200, body=b"ok"))
    answer = await acme("GET", proxied(connection, "/meetings/1"))
    assert (answer.status_code, answer.text, refresher.asked, len(provider.seen)) == (200, "ok", [1], 2)
    assert [entry["detail"]["status"] for entry in await entries(acme, "provider.called")] == [200, 401]


async def test_a_place_that_refuses_a_live_token_costs_nobody_the_connection(
    app: App, acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection
) -> None:
    connection = await connected(acme, browser, zoom)
    app.proxy._refresher = refresher = Refresher(app, owner)
    seen = api_of(zoom, lambda _: reply(401, {"code": 124, "message": "Invalid access token."}))
    answer = await acme("GET", proxied(connection, "/meetings/1"))
    assert (answer.status_code, answer.headers[RELAYED], len(seen), refresher.asked) == (401, "1", 1, [])
    shown = (await acme("GET", f"/v1/connections/{connection['connection_id']}")).json()
    assert shown["status"] == "active"


async def test_a_token_that_is_refused_after_its_renewal_needs_the_user(
    app: App, acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection
) -> None:
    connection = await connected(acme, browser, zoom)
    app.proxy._refresher = Refresher(app, owner)
    provider = Renewing(zoom, 9, status(200))
    problem(await acme("GET", proxied(connection, "/meetings/1")), 409, "reauthorization_required")
    assert len(provider.seen) == 2
    shown = (await acme("GET", f"/v1/connections/{connection['connection_id']}")).json()
    assert (shown["status"], shown["health"]["ok"], shown["health"]["reason"]) == (
        "reauthorization_required",
        False,
        "access_token_refused",
    )
    (entry,) = await entries(acme, "connection.reauthorization_required")
    assert entry["detail"]["reason"] == "access_token_refused"
    problem(await acme("GET", proxied(connection, "/meetings/1")), 409, "reauthorization_required")
    assert len(provider.seen) == 2


async def test_r31_an_unsafe_call_is_not_made_again_without_an_idempotency_key(
    app: App, acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await connected(acme, browser, zoom)
    app.proxy._refresher = refresher = Refresher(app, owner)
    # No rule lets an unsafe call through without an approval here: an action's approval is stood in for.
    rules = monkeypatch.setattr
    rules("customhouse.connections.proxying.admitted", lambda held, _method, _path: held.provider.allow[0])
    provider = Renewing(zoom, 1, status(200, body=b"ok"))
    answer = await acme("POST", proxied(connection, "/api/1"), {"a": 1})
    problem(answer, 503, "token_unavailable")
    assert (len(provider.seen), refresher.asked) == (1, [1])
    provider = Renewing(zoom, 1, status(200, body=b"ok"))
    answer = await acme("POST", proxied(connection, "/api/1"), {"a": 1}, headers={"idempotency-key": "k-1"})
    assert (answer.status_code, len(provider.seen)) == (200, 2)
    assert [one.body for one in provider.seen] == [b'{"a":1}'] * 2
    assert {one.headers["idempotency-key"] for one in provider.seen} == {"k-1"}


async def test_a_refusal_for_want_of_a_scope_is_the_callers_to_see(app: App, acme: Api, browser: Browser, zoom: Authority) -> None:
    connection = await connected(acme, browser, zoom)
    api_of(zoom, lambda _: reply(401, {"code": 4711, "message": "does not contain scopes"}))
    answer = await acme("GET", proxied(connection, "/meetings/1"))
    assert (answer.status_code, answer.headers[RELAYED], answer.json()["code"]) == (401, "1", 4711)
    shown = (await acme("GET", f"/v1/connections/{connection['connection_id']}")).json()
    assert shown["status"] == "active"


async def test_an_answer_that_is_too_large_is_cut_off_and_never_passed_for_whole(
    app: App, acme: Api, browser: Browser, zoom: Authority, address: Address
) -> None:
    connection = await connected(acme, browser, zoom)
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n"
    api_of(zoom, lambda _: head % (64 * 1024 * 1024))
    problem(await acme("GET", proxied(connection, "/meetings/1")), 502, "provider_reply_too_large")
    small = Relay(https_required=False, clock=app.clock, response_cap=1000)
    before, app.proxy._relay = app.proxy._relay, small
    try:
        chunk = b"5dc\r\n" + b"x" * 1500 + b"\r\n"
        api_of(zoom, lambda _: b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunk * 3 + b"0\r\n\r\n")
        reader, writer = await asyncio.open_connection(address.host, address.port)
        path = proxied(connection, "/meetings/1")
        writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {acme.key}\r\n\r\n".encode())
        whole = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        assert whole.startswith(b"HTTP/1.1 200")
        assert not whole.endswith(b"0\r\n\r\n")
    finally:
        app.proxy._relay = before
        await small.aclose()


async def test_a_body_that_is_too_large_is_refused_before_anything_is_sent(acme: Api, browser: Browser, zoom: Authority) -> None:
    connection = await connected(acme, browser, zoom)
    seen = api_of(zoom, lambda _: status(200))
    problem(await acme("POST", proxied(connection, "/meetings/1"), content=b"x" * 1_100_000), 413, "too_large")
    assert seen == []


async def test_headers_that_are_given_twice_are_refused(acme: Api, browser: Browser, zoom: Authority, address: Address) -> None:
    connection = await connected(acme, browser, zoom)
    seen = api_of(zoom, lambda _: status(200))
    path = proxied(connection, "/meetings/1")
    for twice in ("accept: a\r\naccept: b", "x-customhouse-tenant: acme\r\nx-customhouse-tenant: other", "accept: \xe9"):
        raw = f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {acme.key}\r\n{twice}\r\n\r\n"
        assert (await exchange(address, raw.encode("latin-1"))).status == 422
    assert seen == []


async def test_a_provider_that_cannot_be_reached_is_a_502(app: App, acme: Api, browser: Browser, zoom: Authority) -> None:
    connection = await connected(acme, browser, zoom)
    api_of(zoom, lambda _: b"nonsense\r\n\r\n")
    answer = await acme("GET", proxied(connection, "/meetings/1"))
    problem(answer, 502, "provider_silent")
    (entry,) = await entries(acme, "provider.called")
    assert (entry["detail"]["status"], entry["detail"]["error"]) == (None, "protocol_error")


async def test_nothing_is_called_whose_entry_cannot_be_written(
    acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection
) -> None:
    connection = await connected(acme, browser, zoom)
    seen = api_of(zoom, lambda _: status(200))
    await owner.execute("alter function record_reads_v1 rename to gone_v1")
    problem(await acme("GET", proxied(connection, "/meetings/1")), 503, "database_unavailable")
    assert seen == []
    await owner.execute("alter function gone_v1 rename to record_reads_v1")


async def test_the_answer_to_head_has_no_body(acme: Api, browser: Browser, zoom: Authority) -> None:
    zoom.scope = "read"
    connection = await connected(acme, browser, zoom, provider="acme-idp")
    api_of(zoom, lambda _: b"HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n")
    answer = await acme("HEAD", proxied(connection, "/api/x"))
    assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, "1234", b"")
    assert (await acme("GET", "/healthz")).status_code == 200


async def test_neither_a_token_nor_what_stands_in_a_path_is_in_any_log_table_or_metric(
    app: App, acme: Api, browser: Browser, zoom: Authority, owner: asyncpg.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    """R8, R9: the ledger names rules; whoever is looked for in a path or query is nobody's business."""
    connection = await connected(acme, browser, zoom)
    person, subject, said = "grace.hopper.canary@example.com", "Canary-Subject-4711-0815", "Canary-Body-4711-0815"
    api_of(zoom, lambda request: status(200 if "ok" in request.path else 500, body=said.encode()))
    token = (await acme("POST", f"/v1/connections/{connection['connection_id']}/access-token")).json()["access_token"]
    assert token in zoom.live
    for method, path in (
        ("GET", f"/meetings/{person}?q={subject}&ok=1"),
        ("GET", f"/meetings/{person}?q={subject}"),
        ("GET", f"/meetings/{person};x?q={subject}"),
        ("GET", f"/nothing/{person}?q={subject}"),
        ("POST", f"/meetings/{person}"),
    ):
        await acme(method, proxied(connection, path), **({"content": said.encode()} if method == "POST" else {}))
    api_of(zoom, lambda _: said.encode() + b"\r\n\r\n")
    problem(await acme("GET", proxied(connection, f"/meetings/{person}")), 502, "provider_silent")
    printed = capsys.readouterr()
    tables = await owner.fetch("select table_name from information_schema.tables where table_schema = 'customhouse'")
    rows = [
        str(await owner.fetchval(f"select coalesce(string_agg(t::text, chr(10)), '') from customhouse.{row['table_name']} t"))
        for row in tables
    ]
    evidence = {
        "out": printed.out.encode(),
        "err": printed.err.encode(),
        "tables": "\n".join(rows).encode(),
        "metrics": app.metrics.render(),
    }
    assert b"provider.called" in evidence["tables"]
    assert b"/proxy/{path}" in evidence["out"]
    values = {"token": token, "refresh": next(one for one in zoom.issued if one.startswith("refresh-")), "said": said}
    assert traces(values | {"person": person, "subject": subject}, evidence) == []
