"""What one warm POST costs: CPU of the whole process, on uvloop, against a receiver in another process.

`python benchmarks/bench_egress.py [--posts N] [--at-once N] [--hosts N]` prints one JSON object. `client_us` is
the HTTP client alone, reading the response whole; the difference is what vetting, pinning, counting and the outcome add. `aiohttp_us`
is there where aiohttp is installed.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import cast

import uvloop
from pyreqwest.client import Client, ClientBuilder

from customhouse.clock import SystemClock
from customhouse.egress import Egress, Outcome, parse_target

BODY = b"x" * 1024
HEADERS = {
    "Content-Type": "application/json",
    "X-Queast-Timestamp": "1795339800",
    "X-Queast-Signature": "v1=" + "0" * 64,
    "X-Queast-Signature-Key-Id": "key_01k",
}
ROUNDS = 5


class Receiver(asyncio.Protocol):
    """As little of a receiver as answers a request with a length."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports write too, but do not inherit from asyncio's WriteTransport.
        self.transport = cast("asyncio.WriteTransport", transport)
        self.received = bytearray()

    def data_received(self, data: bytes) -> None:
        self.received += data
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            head = bytes(self.received[:end]).lower()
            whole = end + 4 + int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            if len(self.received) < whole:
                return
            del self.received[:whole]
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


async def receive() -> None:
    """Serve until killed; the port is the first line on standard output."""
    server = await asyncio.get_running_loop().create_server(Receiver, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


Post = Callable[[int], Awaitable[None]]


async def cost(post: Post, posts: int, at_once: int) -> float:
    """Return microseconds of CPU per post, of all threads of this process."""
    numbers = iter(range(posts))

    async def work() -> None:
        for number in numbers:
            await post(number)

    before = time.process_time()
    await asyncio.gather(*(work() for _ in range(at_once)))
    return (time.process_time() - before) / posts * 1e6


def by_egress(egress: Egress, port: int, hosts: int, failed: list[Outcome]) -> Post:
    """Post in turn to hosts that all are the receiver."""
    targets = [parse_target(f"http://h{number}.test:{port}/hook", https_required=False) for number in range(hosts)]

    async def post(number: int) -> None:
        outcome = await egress.post(targets[number % hosts], HEADERS, BODY)
        if outcome.status_code != 200:
            failed.append(outcome)

    return post


def by_client(client: Client, port: int) -> Post:
    """Post to one host with the HTTP client alone."""

    async def post(_: int) -> None:
        await client.post(f"http://h0.test:{port}/hook").headers(HEADERS).body_bytes(BODY).build().send()

    return post


@asynccontextmanager
async def by_aiohttp(port: int) -> AsyncIterator[dict[str, Post]]:
    """Post to one address with aiohttp, where it is installed."""
    if importlib.util.find_spec("aiohttp") is None:
        yield {}
        return
    async with importlib.import_module("aiohttp").ClientSession() as session:

        async def post(_: int) -> None:
            async with session.post(f"http://127.0.0.1:{port}/hook", headers=HEADERS, data=BODY) as response:
                await response.read()

        yield {"aiohttp": post}


async def measure(port: int, posts: int, at_once: int, hosts: int) -> dict[str, object]:
    """Run the candidates in turn, several rounds, and return the medians."""

    async def lookup(_: str) -> Sequence[str]:
        return ["127.0.0.1"]

    failed: list[Outcome] = []
    allow = (ip_network("127.0.0.1/32"),)
    egress = Egress(allow=allow, https_required=False, clock=SystemClock(), lookup=lookup, max_clients=hosts)
    client = ClientBuilder().no_proxy().follow_redirects(enable=False).gzip(enable=False).resolve("h0.test", "127.0.0.1", port).build()
    async with client, by_aiohttp(port) as others:
        candidates = {"egress": by_egress(egress, port, hosts, failed), "client": by_client(client, port), **others}
        figures: dict[str, list[float]] = {name: [] for name in candidates}
        for post in candidates.values():
            await cost(post, max(hosts, posts // 4), at_once)
        for _ in range(ROUNDS):
            for name, post in candidates.items():
                figures[name].append(await cost(post, posts, at_once))
    await egress.aclose()
    medians = {f"{name}_us": round(statistics.median(values), 1) for name, values in figures.items()}
    return {**medians, "posts": posts, "at_once": at_once, "hosts": hosts, "rounds": ROUNDS, "failed": len(failed)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Start the receiver, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posts", type=int, default=10_000, help="per round")
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--hosts", type=int, default=1)
    parser.add_argument("--receive", action="store_true", help="be the receiver")
    options = parser.parse_args(arguments)
    if options.receive:
        uvloop.run(receive())
        return 0
    with subprocess.Popen([sys.executable, __file__, "--receive"], stdout=subprocess.PIPE) as receiver:
        try:
            assert receiver.stdout is not None  # PIPE was asked for
            port = int(receiver.stdout.readline())
            result = uvloop.run(measure(port, options.posts, options.at_once, options.hosts))
        finally:
            receiver.kill()
    print(json.dumps(result))
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
