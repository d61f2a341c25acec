"""The egress against real receivers on loopback, most of which behave badly."""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from customhouse.clock import SystemClock
from customhouse.egress import FAILURES, Allow, Egress, Target, parse_target
from customhouse.egress.resolver import ANSWER_TTL
from customhouse.errors import EgressRefused, Invalid, SettingsError

LOOPBACK: Allow = (ip_network("127.0.0.1/32"),)
BODY = b'{"event_id":"evt_1","text":"\xc3\xbc \x00"}'
CAP = 64 * 1024
CORPUS = Path(__file__).parents[2] / "vectors" / "ssrf" / "targets.json"

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class MovableClock:
    """A clock whose durations jump forward when a test says so."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self._real = SystemClock()

    def now(self) -> datetime:
        return datetime(2026, 11, 22, 9, 30, tzinfo=UTC)

    def monotonic(self) -> float:
        return self._real.monotonic() + self.ahead


class Names:
    """A name server: answers from a table, counts the questions."""

    def __init__(self, **answers: Sequence[str]) -> None:
        self.answers: dict[str, Sequence[str]] = {f"{name}.test": addresses for name, addresses in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        if host not in self.answers:
            raise OSError("no such name")
        return self.answers[host]


Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Receiver:
    """A server that reads whole requests and then does what a test wants."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.requests: list[bytes] = []
        self.connections = 0
        self.arrived = asyncio.Event()
        self.gone = asyncio.Event()
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                self.requests.append(head + await reader.readexactly(length))
                self.arrived.set()
                await self.behaviour(reader, writer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            self.gone.set()
        finally:
            writer.close()
            with suppress(ConnectionError, TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), 0.1)
            writer.transport.abort()


@asynccontextmanager
async def receiving(
    behaviour: Behaviour, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None, port: int = 0
) -> AsyncIterator[Receiver]:
    receiver = Receiver(behaviour)
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(receiver.handle(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, host, port, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def going_out(**rules: Any) -> AsyncIterator[Egress]:
    rules = {"allow": LOOPBACK, "https_required": False, "clock": SystemClock(), "lookup": Names(hooks=["127.0.0.1"]), **rules}
    egress = Egress(**rules)
    try:
        yield egress
    finally:
        await egress.aclose()


def to(receiver: Receiver, host: str = "hooks.test", scheme: str = "http", path: str = "/in") -> Target:
    return parse_target(f"{scheme}://{host}:{receiver.port}{path}", https_required=False)


def replying(head: str, body: bytes = b"") -> Behaviour:
    async def reply(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)

    return reply


def closing(head: bytes) -> Behaviour:
    async def reply(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        await writer.drain()
        raise ConnectionError

    return reply


ok = replying("HTTP/1.1 200 OK\nContent-Length: 2", b"ok")


async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


def repeating(head: bytes, piece: bytes, pause: float = 0.0) -> Behaviour:
    async def reply(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)

    return reply


# What is sent


async def test_the_signed_bytes_are_the_bytes_on_the_wire() -> None:
    body = bytes(range(256)) * 8
    async with receiving(ok) as receiver, going_out() as egress:
        outcome = await egress.post(
            to(receiver, path="/in?q=%C3%BC"), {"Content-Type": "application/json", "X-Queast-Signature": "v1=00"}, body
        )
        assert (outcome.status_code, outcome.error, outcome.response_bytes, outcome.retry_after) == (200, None, 2, None)
        head, _, sent = receiver.requests[0].partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert sent == body
        assert lines[0] == b"POST /in?q=%C3%BC HTTP/1.1"
        names = sorted(line.split(b":")[0].lower() for line in lines[1:])
        assert names == [b"accept", b"content-length", b"content-type", b"host", b"user-agent", b"x-queast-signature"]
        assert f"Host: hooks.test:{receiver.port}".encode() in lines
        assert b"User-Agent: Customhouse/0.1.0" in lines


async def test_an_empty_body_is_sent_with_its_length() -> None:
    async with receiving(ok) as receiver, going_out() as egress:
        assert (await egress.post(to(receiver), {}, b"")).status_code == 200
        assert b"content-length: 0\r\n" in receiver.requests[0].lower()


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "internal"},
        {"content-length": "3"},
        {"Transfer-Encoding": "chunked"},
        {"Content-Encoding": "gzip"},
        {"Cookie": "a=b"},
        {"Connection": "close"},
        {"X-A": "1", "x-a": "2"},
        {"X-A": "s3cr3t\r\nX-B: 1"},
        {"X-A": "s3cr3t\x00"},
        {"X A": "s3cr3t"},
        {"X-A": "s3cr3t\u00fc"},
        {"": "s3cr3t"},
    ],
)
async def test_a_header_that_may_not_be_set_is_refused_before_anything_is_dialled(headers: dict[str, str]) -> None:
    async with receiving(ok) as receiver, going_out() as egress:
        with pytest.raises(Invalid) as refusal:
            await egress.post(to(receiver), headers, BODY)
        assert "s3cr3t" not in str(refusal.value)
        assert refusal.value.__cause__ is None
        assert receiver.connections == 0


async def test_a_cookie_is_not_sent_back() -> None:
    async with receiving(replying("HTTP/1.1 200 OK\nSet-Cookie: a=b\nContent-Length: 0")) as receiver, going_out() as egress:
        for _ in range(2):
            await egress.post(to(receiver), {}, BODY)
        assert b"cookie" not in receiver.requests[1].lower()


async def test_connections_are_kept_between_posts_and_across_resolutions() -> None:
    clock = MovableClock()
    names = Names(hooks=["127.0.0.1"])
    async with receiving(ok) as receiver, going_out(clock=clock, lookup=names) as egress:
        for _ in range(3):
            await egress.post(to(receiver), {}, BODY)
        assert names.asked == ["hooks.test"]
        clock.ahead = ANSWER_TTL + 1
        await egress.post(to(receiver), {}, BODY)
        assert names.asked == ["hooks.test"] * 2
        assert (len(receiver.requests), receiver.connections) == (4, 1)


# Where to


async def test_the_vetted_address_is_dialled_though_no_real_name_server_knows_the_name() -> None:
    async with receiving(ok) as receiver, going_out() as egress:
        assert (await egress.post(to(receiver), {}, BODY)).status_code == 200


async def test_a_private_address_is_refused_without_an_allowance() -> None:
    async with receiving(ok) as receiver, going_out(allow=()) as egress:
        for host in ("hooks.test", "127.0.0.1", "[::1]"):
            outcome = await egress.post(to(receiver, host), {}, BODY)
            assert (outcome.status_code, outcome.error) == (None, "address_refused")
        assert receiver.connections == 0


async def test_one_refused_address_among_good_ones_refuses_the_name() -> None:
    async with receiving(ok) as receiver, going_out(lookup=Names(hooks=["127.0.0.1", "10.0.0.1"])) as egress:
        assert (await egress.post(to(receiver), {}, BODY)).error == "address_refused"
        assert receiver.connections == 0


async def test_a_rebound_name_is_refused_when_its_answer_is_asked_again() -> None:
    clock, names = MovableClock(), Names(hooks=["127.0.0.1"])
    async with (
        receiving(ok) as receiver,
        receiving(ok, "127.0.0.2", port=receiver.port) as inside,
        going_out(clock=clock, lookup=names) as egress,
    ):
        assert (await egress.post(to(receiver), {}, BODY)).status_code == 200
        names.answers["hooks.test"] = ["127.0.0.2"]
        assert (await egress.post(to(receiver), {}, BODY)).status_code == 200
        clock.ahead = ANSWER_TTL + 1
        assert (await egress.post(to(receiver), {}, BODY)).error == "address_refused"
        assert len(receiver.requests) == 2
        assert inside.connections == 0


async def test_a_name_that_alternates_never_reaches_the_private_address() -> None:
    answers = iter([["127.0.0.2"], ["127.0.0.1"]] * 4)

    async def alternating(_: str) -> Sequence[str]:
        return next(answers)

    clock = MovableClock()
    async with (
        receiving(ok) as receiver,
        receiving(ok, "127.0.0.2", port=receiver.port) as inside,
        going_out(clock=clock, lookup=alternating) as egress,
    ):
        errors = []
        for _ in range(8):
            errors.append((await egress.post(to(receiver), {}, BODY)).error)
            clock.ahead += ANSWER_TTL + 1
        assert errors == ["address_refused", None] * 4
        assert (len(receiver.requests), inside.connections) == (4, 0)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_outcome_and_is_not_followed(status: int) -> None:
    async with receiving(ok) as private:
        location = f"HTTP/1.1 {status} Moved\nLocation: http://127.0.0.1:{private.port}/\nContent-Length: 0"
        async with receiving(replying(location)) as receiver, going_out() as egress:
            outcome = await egress.post(to(receiver), {}, BODY)
            assert (outcome.status_code, outcome.error) == (status, None)
            assert (len(receiver.requests), private.connections) == (1, 0)


async def test_proxies_in_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving(ok) as proxy, receiving(ok) as receiver:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            monkeypatch.setenv(name.lower(), f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        async with going_out() as egress:
            assert (await egress.post(to(receiver), {}, BODY)).status_code == 200
        assert (len(receiver.requests), proxy.connections) == (1, 0)


async def test_no_hostile_spelling_leads_to_a_connection() -> None:
    entries = json.loads(CORPUS.read_text(encoding="utf-8"))["targets"]
    async with receiving(ok) as receiver:
        for entry in entries:
            try:
                target = parse_target(entry["url"].replace(":80/", f":{receiver.port}/"), https_required=False)
            except (Invalid, EgressRefused):
                continue

            async def answer(_: str, found: Sequence[str] = entry.get("resolves_to", ())) -> Sequence[str]:
                return found

            async with going_out(allow=(), lookup=answer) as egress:
                assert (await egress.post(target, {}, BODY)).error == "address_refused", entry["name"]
        assert receiver.connections == 0


async def test_plain_http_is_an_outcome_where_https_is_required() -> None:
    async with receiving(ok) as receiver, going_out(https_required=True) as egress:
        assert (await egress.post(to(receiver), {}, BODY)).error == "https_required"
        assert receiver.connections == 0


async def test_the_next_address_is_tried_after_one_that_nobody_listens_at() -> None:
    allow = (ip_network("127.0.0.0/30"),)
    async with receiving(ok, "127.0.0.2") as receiver, going_out(allow=allow, lookup=Names(hooks=["127.0.0.1", "127.0.0.2"])) as egress:
        outcomes = [await egress.post(to(receiver), {}, BODY) for _ in range(3)]
        assert [outcome.error for outcome in outcomes] == ["connect_failed", None, None]


# Name resolution


async def test_an_unknown_name_and_an_empty_answer_are_dns_failures() -> None:
    async with receiving(ok) as receiver, going_out(lookup=Names(empty=[])) as egress:
        assert (await egress.post(to(receiver, "nowhere.test"), {}, BODY)).error == "dns_failed"
        assert (await egress.post(to(receiver, "empty.test"), {}, BODY)).error == "dns_failed"


async def test_a_failed_name_is_not_asked_again_at_once() -> None:
    clock, names = MovableClock(), Names()
    async with receiving(ok) as receiver, going_out(clock=clock, lookup=names) as egress:
        for _ in range(3):
            await egress.post(to(receiver), {}, BODY)
        assert len(names.asked) == 1
        names.answers["hooks.test"] = ["127.0.0.1"]
        clock.ahead = 6
        assert (await egress.post(to(receiver), {}, BODY)).status_code == 200


async def test_an_answer_that_is_no_address_is_refused() -> None:
    async with receiving(ok) as receiver, going_out(lookup=Names(hooks=["127.0.0.1", "localhost"])) as egress:
        assert (await egress.post(to(receiver), {}, BODY)).error == "address_refused"


async def test_fifty_posts_to_a_cold_name_ask_once() -> None:
    names = Names(hooks=["127.0.0.1"])
    async with receiving(ok) as receiver, going_out(lookup=names) as egress:
        outcomes = await asyncio.gather(*(egress.post(to(receiver), {}, BODY) for _ in range(50)))
        assert {outcome.status_code for outcome in outcomes} == {200}
        assert len(names.asked) == 1


async def test_a_dead_name_server_holds_only_its_own_name_and_only_for_the_time_limit() -> None:
    asked: list[str] = []

    async def hanging(host: str) -> Sequence[str]:
        asked.append(host)
        if host == "dead.test":
            await asyncio.Event().wait()
        return ["127.0.0.1"]

    async with receiving(ok) as receiver, going_out(lookup=hanging, connect_timeout=0.2) as egress:
        dead = [asyncio.ensure_future(egress.post(to(receiver, "dead.test"), {}, BODY)) for _ in range(20)]
        assert (await egress.post(to(receiver), {}, BODY)).status_code == 200
        assert not any(task.done() for task in dead)
        assert {(outcome.error, outcome.latency_ms < 2000) for outcome in await asyncio.gather(*dead)} == {("dns_failed", True)}
        again = await egress.post(to(receiver, "dead.test"), {}, BODY)
        assert (again.error, again.latency_ms < 100, asked.count("dead.test")) == ("dns_failed", True, 1)


async def test_a_resolution_that_takes_the_whole_time_leaves_none_for_the_rest() -> None:
    async def slow(_: str) -> Sequence[str]:
        await asyncio.sleep(0.15)
        return ["127.0.0.1"]

    async with receiving(ok) as receiver, going_out(lookup=slow, total_timeout=0.1) as egress:
        assert (await egress.post(to(receiver), {}, BODY)).error == "timeout"
        assert receiver.connections == 0


async def test_the_systems_resolver_knows_localhost_and_not_an_invalid_name() -> None:
    allow = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    async with receiving(ok, "localhost") as receiver, going_out(allow=allow, lookup=None) as egress:
        assert (await egress.post(to(receiver, "localhost"), {}, BODY)).status_code == 200
        assert (await egress.post(to(receiver, "no-such-host.invalid"), {}, BODY)).error == "dns_failed"


# Receivers that behave badly


@pytest.mark.parametrize(
    "framing",
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"4000\r\n" + b"x" * 0x4000 + b"\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n", b"x" * 0x4000),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"x" * 0x4000),
    ],
    ids=["chunked", "with a length", "until the end"],
)
async def test_an_endless_body_is_cut_at_the_cap(framing: tuple[bytes, bytes]) -> None:
    async with receiving(repeating(*framing)) as receiver, going_out() as egress:
        outcome = await egress.post(to(receiver), {}, BODY)
        assert (outcome.status_code, outcome.error) == (200, "response_too_large")
        assert CAP < outcome.response_bytes < 4 * CAP
        await asyncio.wait_for(receiver.gone.wait(), 5)


async def test_a_body_of_exactly_the_cap_is_fine_and_one_more_byte_is_not() -> None:
    for length, error in ((CAP, None), (CAP + 1, "response_too_large")):
        async with receiving(replying(f"HTTP/1.1 200 OK\nContent-Length: {length}", b"x" * length)) as receiver, going_out() as egress:
            assert (await egress.post(to(receiver), {}, BODY)).error == error


async def test_a_gzip_bomb_stays_packed() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    async with (
        receiving(replying(f"HTTP/1.1 200 OK\nContent-Encoding: gzip\nContent-Length: {len(bomb)}", bomb)) as receiver,
        going_out(response_cap=len(bomb)) as egress,
    ):
        outcome = await egress.post(to(receiver), {}, BODY)
        assert (outcome.status_code, outcome.error, outcome.response_bytes) == (200, None, len(bomb))
        assert b"accept-encoding" not in receiver.requests[0].lower()


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [
        (silent, None),
        (repeating(b"HTTP/1.1 200 OK\r\n", b"X", 0.02), None),
        (repeating(b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", 0.001), None),
        (repeating(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", b"x", 0.02), 200),
    ],
    ids=["never answers", "drips its head", "hints for ever", "drips its body"],
)
async def test_a_receiver_that_does_not_come_to_an_end_is_given_up_in_time(behaviour: Behaviour, status: int | None) -> None:
    async with receiving(behaviour) as receiver, going_out(total_timeout=0.4) as egress:
        outcome = await egress.post(to(receiver), {}, BODY)
        assert (outcome.status_code, outcome.error) == (status, "timeout")
        assert 350 <= outcome.latency_ms < 3000


async def test_a_peer_that_accepts_and_never_speaks_tls_is_a_connect_timeout() -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    async with server, going_out(connect_timeout=0.3) as egress:
        target = parse_target(f"https://hooks.test:{server.sockets[0].getsockname()[1]}/", https_required=True)
        outcome = await egress.post(target, {}, BODY)
        assert (outcome.status_code, outcome.error, outcome.latency_ms < 3000) == (None, "connect_timeout", True)
        server.close()


async def test_two_megabytes_of_headers_are_too_large() -> None:
    async def verbose(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(2000):
            writer.write(b"X-%d: " % number + b"y" * 1000 + b"\r\n")
            await writer.drain()

    async with receiving(verbose) as receiver, going_out() as egress:
        outcome = await egress.post(to(receiver), {}, BODY)
        assert (outcome.status_code, outcome.error, outcome.response_bytes) == (None, "response_too_large", 0)


async def reset_in_the_body(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\nabc")
    await writer.drain()
    hang_up(writer)


async def reset_before_the_head(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    hang_up(writer)


def hang_up(writer: asyncio.StreamWriter) -> None:
    """End the connection with a TCP reset."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    raise ConnectionError


@pytest.mark.parametrize(
    ("behaviour", "status", "error"),
    [
        (reset_in_the_body, 200, "connection_lost"),
        (reset_before_the_head, None, "connection_lost"),
        (closing(b""), None, "connection_lost"),
        (closing(b"HTTP/1.1 200 OK\r\nContent-Le"), None, "connection_lost"),
        (closing(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nabc"), 200, "connection_lost"),
        (closing(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"), 200, "connection_lost"),
        (closing(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), None, "protocol_error"),
        (closing(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n"), None, "protocol_error"),
        (closing(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n"), 200, "protocol_error"),
        (closing(b"HTTP/1.1 999999 OK\r\n\r\n"), None, "protocol_error"),
        (closing(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc"), None, "protocol_error"),
        (closing(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), 101, None),
    ],
    ids=[
        "reset in the body",
        "reset before the head",
        "no answer",
        "cut head",
        "cut body",
        "cut chunk",
        "another protocol",
        "length is no number",
        "chunk size is no number",
        "status is no number",
        "two lengths",
        "upgrade",
    ],
)
async def test_a_broken_answer_is_named(behaviour: Behaviour, status: int | None, error: str | None) -> None:
    async with receiving(behaviour) as receiver, going_out() as egress:
        outcome = await egress.post(to(receiver), {}, BODY)
        assert (outcome.status_code, outcome.error) == (status, error)
        assert error is None or error in FAILURES


async def test_a_port_that_nobody_listens_at_is_a_failed_connection() -> None:
    async with receiving(ok) as receiver:
        pass
    async with going_out() as egress:
        outcome = await egress.post(to(receiver), {}, BODY)
        assert (outcome.status_code, outcome.error) == (None, "connect_failed")


async def test_silent_receivers_do_not_slow_the_others() -> None:
    names = Names(hooks=["127.0.0.1"], slow=["127.0.0.1"])
    async with receiving(ok) as receiver, receiving(silent) as slow, going_out(lookup=names) as egress:
        held = [asyncio.ensure_future(egress.post(to(slow, "slow.test"), {}, BODY)) for _ in range(50)]
        await slow.arrived.wait()
        outcomes = [await egress.post(to(receiver), {}, BODY) for _ in range(20)]
        assert {outcome.status_code for outcome in outcomes} == {200}
        assert sorted(outcome.latency_ms for outcome in outcomes)[10] < 100
        assert not any(task.done() for task in held)
        await egress.aclose()
        assert {outcome.error for outcome in await asyncio.gather(*held)} == {"closed"}


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("120", 120), ("Sun, 22 Nov 2026 09:31:00 GMT", 60), ("999999", 86_400), ("soon", None), ("\u0663", None)],
)
async def test_retry_after_is_read_from_any_status(value: str, seconds: int | None) -> None:
    reply = replying(f"HTTP/1.1 503 Busy\nRetry-After: {value}\nContent-Length: 0")
    async with receiving(reply) as receiver, going_out(clock=MovableClock()) as egress:
        outcome = await egress.post(to(receiver), {}, BODY)
        assert (outcome.status_code, outcome.error, outcome.retry_after) == (503, None, seconds)


# TLS


class Authority:
    """A certificate authority for one test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])
        now = datetime.now(UTC)
        certificate = (
            self._builder(self._name, self._key.public_key(), now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(serialization.Encoding.PEM)

    def server(self, *names: x509.GeneralName, end: timedelta = timedelta(days=1)) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            self._builder(x509.Name([]), key.public_key(), datetime.now(UTC) + end)
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        file = self._folder / "server.pem"
        file.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, end: datetime) -> x509.CertificateBuilder:
        start = datetime.now(UTC) - timedelta(days=9)
        builder = x509.CertificateBuilder(issuer_name=self._name, subject_name=subject, public_key=key)
        return builder.serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(end)


async def test_a_certificate_for_the_name_or_the_address_is_accepted(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    tls = authority.server(x509.DNSName("hooks.test"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    async with receiving(ok, tls=tls) as receiver, going_out(roots=(authority.pem,), https_required=True) as egress:
        for host in ("hooks.test", "127.0.0.1"):
            outcome = await egress.post(to(receiver, host, "https"), {}, BODY)
            assert (outcome.status_code, outcome.error) == (200, None)


@asynccontextmanager
async def receiving_plain() -> AsyncIterator[int]:
    """Yield the port of a server that answers a TLS greeting in plain HTTP."""

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.mark.parametrize("fault", ["wrong name", "expired", "unknown authority", "no TLS"])
async def test_a_peer_that_does_not_prove_its_name_gets_nothing(fault: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    name = x509.DNSName("other.test" if fault == "wrong name" else "hooks.test")
    tls = authority.server(name, end=timedelta(days=-1 if fault == "expired" else 1))
    roots = () if fault == "unknown authority" else (authority.pem,)
    async with receiving(ok, tls=tls) as receiver, receiving_plain() as plain_port, going_out(roots=roots) as egress:
        port = plain_port if fault == "no TLS" else receiver.port
        outcome = await egress.post(parse_target(f"https://hooks.test:{port}/", https_required=True), {}, BODY)
        assert (outcome.status_code, outcome.error) == (None, "tls_failed")
        assert receiver.requests == []


# Life and bounds


async def test_the_number_of_clients_is_bounded_and_an_evicted_one_finishes_its_work() -> None:
    release = asyncio.Event()

    async def waiting(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    names = Names(hooks=["127.0.0.1"], a=["127.0.0.1"], b=["127.0.0.1"], c=["127.0.0.1"])
    async with receiving(waiting) as slow, receiving(ok) as receiver, going_out(lookup=names, max_clients=2) as egress:
        held = asyncio.ensure_future(egress.post(to(slow), {}, BODY))
        await slow.arrived.wait()
        for name in ("a", "b", "c"):
            assert (await egress.post(to(receiver, f"{name}.test"), {}, BODY)).status_code == 200
        assert len(egress._pool) == 2
        release.set()
        assert (await held).status_code == 200
        await asyncio.wait_for(slow.gone.wait(), 5)


async def test_cancelling_a_post_passes_through() -> None:
    async with receiving(silent) as receiver, going_out(total_timeout=1.0) as egress:
        post = asyncio.ensure_future(egress.post(to(receiver), {}, BODY))
        await receiver.arrived.wait()
        post.cancel()
        with pytest.raises(asyncio.CancelledError):
            await post


async def test_after_the_close_nothing_goes_out() -> None:
    async with receiving(silent) as receiver, going_out() as egress:
        post = asyncio.ensure_future(egress.post(to(receiver), {}, BODY))
        await receiver.arrived.wait()
        await egress.aclose()
        assert (await post).error == "closed"
        assert (await egress.post(to(receiver), {}, BODY)).error == "closed"
        assert len(receiver.requests) == 1


async def test_closing_during_a_resolution_ends_the_post_as_closed() -> None:
    asked = asyncio.Event()

    async def hanging(_: str) -> Sequence[str]:
        asked.set()
        await asyncio.Event().wait()
        return []

    async with receiving(ok) as receiver, going_out(lookup=hanging) as egress:
        post = asyncio.ensure_future(egress.post(to(receiver), {}, BODY))
        await asked.wait()
        await egress.aclose()
        assert (await post).error == "closed"


async def test_a_root_that_is_no_certificate_is_a_settings_error() -> None:
    with pytest.raises(SettingsError, match="ca-certificates"):
        Egress(
            allow=(), https_required=True, clock=SystemClock(), roots=(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",)
        )


async def test_a_machine_without_certificate_authorities_is_told_so_at_the_start(tmp_path: Path) -> None:
    script = (
        "from customhouse.clock import SystemClock\nfrom customhouse.egress import Egress\nfrom customhouse.errors import SettingsError\n"
        "try:\n    Egress(allow=(), https_required=True, clock=SystemClock())\nexcept SettingsError as error:\n    print(error.detail)\n"
    )
    empty = tmp_path / "empty.pem"
    empty.touch()
    environment = {**os.environ, "SSL_CERT_FILE": str(empty), "SSL_CERT_DIR": str(tmp_path)}
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "ca-certificates" in done.stdout


async def test_the_benchmark_runs_and_every_post_arrives() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "bench_egress.py"
    command = [sys.executable, str(script), "--posts", "40", "--hosts", "2"]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert (figures["posts"], figures["hosts"], figures["failed"]) == (40, 2, 0)
    assert figures["egress_us"] > 0
