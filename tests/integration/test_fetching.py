"""Calls to providers: only where they may go, bounded, without following anybody."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest

from customhouse.clock import SystemClock
from customhouse.egress.fetching import Fetcher, Reply
from tests.receivers import Received, Recorder, recorder, status

pytestmark = pytest.mark.anyio


@pytest.fixture
async def provider() -> AsyncIterator[Recorder]:
    async with recorder() as one:
        one.answer = status(200, "content-type: application/json", body=b"{}")
        yield one


async def lookup(_host: str) -> Sequence[str]:
    return ("127.0.0.1",)


@pytest.fixture
async def fetcher() -> AsyncIterator[Fetcher]:
    one = Fetcher(https_required=False, clock=SystemClock(), connect_timeout=2, total_timeout=2, lookup=lookup)
    yield one
    await one.aclose()


async def test_a_named_origin_is_dialled_though_it_is_private_and_no_other(fetcher: Fetcher, provider: Recorder) -> None:
    assert (await fetcher.fetch("GET", provider.url("/x"), {}, b"", trusted=True)).body == b"{}"
    for url in (provider.url("/x"), f"http://provider.example:{provider.port}/", "http://[::1]/", "http://10.0.0.1/"):
        assert await fetcher.fetch("GET", url, {}, b"", trusted=False) == Reply(None, "address_refused")
    assert len(provider.received) == 1


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/latest", "http://[fd00:ec2::254]/", "ftp://127.0.0.1/", "http://a@127.0.0.1/", "x"]
)
async def test_what_no_operator_may_name_is_refused(fetcher: Fetcher, url: str) -> None:
    assert await fetcher.fetch("POST", url, {}, b"", trusted=True) == Reply(None, "address_refused")


async def test_plain_http_is_refused_where_https_is_required(provider: Recorder) -> None:
    strict = Fetcher(https_required=True, clock=SystemClock())
    assert (await strict.fetch("GET", provider.url(), {}, b"", trusted=True)).error == "address_refused"
    await strict.aclose()
    assert provider.received == []


async def test_a_form_goes_out_as_it_is_and_a_redirect_is_an_answer(fetcher: Fetcher, provider: Recorder) -> None:
    provider.answer = status(302, f"location: {provider.url('/elsewhere')}", "retry-after: 7")
    headers = {"authorization": "Basic eA==", "content-type": "application/x-www-form-urlencoded"}
    reply = await fetcher.fetch("POST", provider.url("/token?a=b"), headers, b"grant_type=x", trusted=True)
    assert (reply.status, reply.error, reply.retry_after) == (302, None, 7)
    [got] = provider.received
    assert (got.method, got.path, got.body, got.headers["authorization"]) == ("POST", "/token?a=b", b"grant_type=x", "Basic eA==")
    assert "cookie" not in got.headers
    assert "accept-encoding" not in got.headers
    await fetcher.fetch("POST", provider.url("/revoke"), {}, b"", trusted=True)
    assert provider.received[1].headers["content-length"] == "0"


def bomb(_request: Received) -> bytes:
    return status(200, "content-encoding: gzip", body=gzip.compress(bytes(10_000_000)))


async def hang(_request: Received) -> bytes:
    await asyncio.Event().wait()
    return b""


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (status(200, body=b"x" * 70_000), "response_too_large"),
        (b"HTTP/1.1 200 X\r\ncontent-length: 100\r\n\r\nshort", "timeout"),
        (b"nonsense\r\n\r\n", "protocol_error"),
        (hang, "timeout"),
    ],
)
async def test_an_answer_that_is_none_is_an_error(
    fetcher: Fetcher, provider: Recorder, answer: bytes | Callable[[Received], Awaitable[bytes]], error: str
) -> None:
    provider.answer = answer
    reply = await fetcher.fetch("GET", provider.url(), {}, b"", trusted=True)
    assert (reply.error, reply.body) == (error, b"")


async def test_what_is_compressed_stays_so(fetcher: Fetcher, provider: Recorder) -> None:
    provider.answer = bomb
    reply = await fetcher.fetch("GET", provider.url(), {}, b"", trusted=True)
    assert len(reply.body) < 65_536


async def test_a_closed_fetcher_sends_nothing_more(provider: Recorder) -> None:
    one = Fetcher(https_required=False, clock=SystemClock())
    await one.aclose()
    assert (await one.fetch("GET", provider.url(), {}, b"", trusted=True)).error == "closed"
    assert provider.received == []
    assert "secret" not in repr(Reply(200, None, b"secret"))
