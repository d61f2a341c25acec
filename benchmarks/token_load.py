"""The generator of `benchmarks.token_reads`, a process of its own: keep-alive connections that each ask for one token after the other."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any, Final, cast

from customhouse.canonical import dump
from customhouse.cli.bench.receiver import percentile

_GOOD: Final = b"HTTP/1.1 200"
_END: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send: `reads` are (API key, connection id)."""

    port: int
    reads: list[tuple[str, str]]
    concurrency: int
    seconds: float


@dataclass
class Counts:
    """What came of it; seconds."""

    good: int = 0
    failed: int = 0
    latencies: list[float] = field(default_factory=list)


class _Client(asyncio.Protocol):
    """One connection with one request on the wire at a time."""

    def __init__(self) -> None:
        self._buffer = b""
        self._waiter: asyncio.Future[bool] | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are Transports by behaviour, not by class.
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(_END)
        if end < 0 or self._waiter is None:
            return
        place = self._buffer.find(b"content-length: ", 0, end)
        stop = self._buffer.find(b"\r\n", place)
        whole = end + len(_END) + int(self._buffer[place + 16 : stop])
        if len(self._buffer) >= whole:
            self._waiter.set_result(self._buffer.startswith(_GOOD) and b'"access_token":"' in self._buffer)
            self._buffer = self._buffer[whole:]

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(exc or ConnectionResetError())

    async def ask(self, request: bytes) -> bool:
        """Send, and tell whether a token came back."""
        assert self.transport is not None
        self._waiter = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self._waiter


async def run(plan: Plan) -> dict[str, Any]:
    """Ask, and return the figures; latencies in milliseconds."""
    loop = asyncio.get_running_loop()
    requests = [
        (
            f"POST /v1/connections/{connection}/access-token HTTP/1.1\r\nHost: 127.0.0.1:{plan.port}\r\n"
            f"Authorization: Bearer {key}\r\nContent-Length: 0\r\n\r\n"
        ).encode()
        for key, connection in plan.reads
    ]
    counts = Counts()
    started = loop.time()

    async def work(number: int) -> None:
        _, client = await loop.create_connection(_Client, "127.0.0.1", plan.port)
        try:
            while loop.time() < started + plan.seconds:
                number += plan.concurrency
                sent = time.perf_counter()
                good = await client.ask(requests[number % len(requests)])
                counts.latencies.append(time.perf_counter() - sent)
                counts.good += good
                counts.failed += not good
        except OSError:
            counts.failed += 1
        finally:
            if client.transport is not None:
                client.transport.close()

    before = time.process_time()
    await asyncio.gather(*(work(number) for number in range(plan.concurrency)))
    ordered = sorted(counts.latencies)
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    return {
        "reads": counts.good,
        "failed": counts.failed,
        "seconds": loop.time() - started,
        "generator_cpu_us": (time.process_time() - before) / max(counts.good, 1) * 1e6,
        "latency_ms": {name: percentile(ordered, share) * 1000 for name, share in shares.items()} if ordered else {},
    }


if __name__ == "__main__":
    import uvloop

    given = json.load(sys.stdin)
    reads = [(str(key), str(name)) for key, name in given["reads"]]
    print(dump(uvloop.run(run(Plan(given["port"], reads, given["concurrency"], given["seconds"])))).decode())
