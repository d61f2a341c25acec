"""Answers that are passed on: only from where they may come, piece by piece, bounded, and never a part for the whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from customhouse.clock import SystemClock
from customhouse.egress.relaying import Answer, Broken, Relay
from customhouse.errors import Invalid
from tests.receivers import Recorder, recorder, status

pytestmark = pytest.mark.anyio
CAP = 1000
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


async def lookup(host: str) -> Sequence[str]:
    if host == "nowhere.example":
        raise OSError
    return ("127.0.0.1",)


@pytest.fixture
async def provider() -> AsyncIterator[Recorder]:
    async with recorder() as one:
        one.answer = status(200, "content-type: application/json", body=b"{}")
        yield one


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    one = Relay(https_required=False, clock=SystemClock(), connect_timeout=2, total_timeout=2, response_cap=CAP, lookup=lookup)
    yield one
    await one.aclose()


async def whole(answer: Answer) -> bytes:
    return b"".join([piece async for piece in answer.chunks()])


async def error_of(relay: Relay, url: str, *, trusted: bool = True) -> str | None:
    async with relay.call("GET", url, {}, b"", trusted=trusted) as answer:
        assert answer.status is None
        assert await whole(answer) == b""
        return answer.error


async def test_only_public_and_named_addresses_are_dialled(relay: Relay, provider: Recorder) -> None:
    async with relay.call("GET", provider.url("/x?a=b"), {"accept": "a/b"}, b"", trusted=True) as answer:
        assert (answer.status, answer.length, await whole(answer)) == (200, 2, b"{}")
    for url in (provider.url("/x"), f"http://provider.example:{provider.port}/", "http://[::1]/", "http://10.0.0.1/"):
        assert await error_of(relay, url, trusted=False) == "address_refused"
    for url in ("http://169.254.169.254/latest", "ftp://127.0.0.1/", "http://a@127.0.0.1/", "x"):
        assert await error_of(relay, url) == "address_refused"
    assert await error_of(relay, "http://nowhere.example/") == "dns_failed"
    assert [(one.method, one.path) for one in provider.received] == [("GET", "/x?a=b")]


async def test_r25_an_address_that_the_client_would_spell_otherwise_is_not_dialled(relay: Relay, provider: Recorder) -> None:
    for url in (provider.url("/x?a='b'"), provider.url("/x").replace("http", "HTTP"), provider.url("/a/../b"), provider.url("/x#y")):
        assert await error_of(relay, url) == "address_refused"
    assert provider.received == []


async def test_plain_http_is_refused_where_https_is_required(provider: Recorder) -> None:
    strict = Relay(https_required=True, clock=SystemClock())
    assert await error_of(strict, provider.url()) == "address_refused"
    await strict.aclose()
    assert provider.received == []


@pytest.mark.parametrize("method", ["DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"])
async def test_method_and_body_go_out_as_they_are(relay: Relay, provider: Recorder, method: str) -> None:
    body = b"" if method in {"GET", "HEAD"} else b"\x00raw"
    async with relay.call(method, provider.url("/x"), {"content-type": "a/b"}, body, trusted=True) as answer:
        assert answer.status == 200
    async with relay.call(method, provider.url("/x"), {}, b"", trusted=True) as answer:
        assert answer.status == 200
    first, second = provider.received
    assert (first.method, first.body, first.headers["content-type"]) == (method, body, "a/b")
    assert second.headers.get("content-length") in ({"0"} if method in {"PATCH", "POST", "PUT"} else {None, "0"})


async def test_only_headers_of_the_list_come_back(relay: Relay, provider: Recorder) -> None:
    provider.answer = status(
        302, "location: http://evil.example/", "set-cookie: a=b", "etag: e", "retry-after: 7", "x-other: 1", f"link: {'x' * 3000}"
    )
    async with relay.call("GET", provider.url(), {}, b"", trusted=True) as answer:
        assert (answer.status, dict(answer.headers), answer.retry_after) == (302, {"etag": "e", "retry-after": "7"}, 7)
    assert len(provider.received) == 1


async def test_a_body_of_the_longest_length_passes_and_a_longer_one_breaks(relay: Relay, provider: Recorder) -> None:
    provider.answer = status(200, body=b"x" * CAP)
    async with relay.call("GET", provider.url(), {}, b"", trusted=True) as answer:
        assert len(await whole(answer)) == CAP
    provider.answer = CHUNKED + b"7d0\r\n" + b"x" * 2000 + b"\r\n0\r\n\r\n"
    async with relay.call("GET", provider.url(), {}, b"", trusted=True) as answer:
        with pytest.raises(Broken) as caught:
            await whole(answer)
    assert caught.value.failure == "response_too_large"


async def test_what_was_looked_at_is_passed_on_all_the_same(relay: Relay, provider: Recorder) -> None:
    provider.answer = status(200, body=b"x" * 900)
    async with relay.call("GET", provider.url(), {}, b"", trusted=True) as answer:
        assert await answer.head(2000) == b"x" * 900
        assert await whole(answer) == b"x" * 900
    async with relay.call("GET", provider.url(), {}, b"", trusted=True) as answer:
        assert await answer.head(10) is None
        assert await whole(answer) == b"x" * 900


async def test_an_answer_that_ends_too_early_breaks(relay: Relay, provider: Recorder) -> None:
    provider.answer = CHUNKED + b"5\r\nhello\r\nnonsense\r\n"
    async with relay.call("GET", provider.url(), {}, b"", trusted=True) as answer:
        with pytest.raises(Broken):
            await whole(answer)
        with pytest.raises(Broken):
            await answer.head(10)


async def test_a_provider_that_says_nothing_is_left_in_time(relay: Relay, provider: Recorder) -> None:
    async def never(_request: object) -> bytes:
        await asyncio.Event().wait()
        return b""

    provider.answer = never
    assert await error_of(relay, provider.url()) == "timeout"
    assert await error_of(relay, "http://127.0.0.1:1/") == "connect_failed"


async def test_a_header_that_http_does_not_allow_is_not_repeated_in_the_refusal(relay: Relay, provider: Recorder) -> None:
    with pytest.raises(Invalid) as caught:
        async with relay.call("GET", provider.url(), {"authorization": "Bearer canary\r\nx: y"}, b"", trusted=True):
            pass
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert provider.received == []


async def test_after_its_end_nothing_goes_out(relay: Relay, provider: Recorder) -> None:
    await relay.aclose()
    assert await error_of(relay, provider.url()) == "closed"
    assert await error_of(relay, "http://provider.example/") == "closed"
