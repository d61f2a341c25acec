"""The publishing side, a process of its own: closed loops over keep-alive connections, or a fixed rate.

Run as `python -m customhouse.cli.bench.generator`: JSON on standard input, JSON on standard output. It does nothing but HTTP:
`POST /v1/events`, one event each, and counts answers.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from dataclasses import dataclass, field
from typing import Any, Final, cast

from customhouse.canonical import dump
from customhouse.cli.bench.receiver import percentile

_ACCEPTED: Final = b"HTTP/1.1 202"
_BUSY: Final = (b"HTTP/1.1 429", b"HTTP/1.1 503")
_RETRY_AFTER: Final = re.compile(rb"\r\nretry-after: *([0-9]{1,5})\r\n", re.IGNORECASE)
_PAUSE: Final = 1.0
"""Where a refusal does not say for how long."""


@dataclass(frozen=True)
class Plan:
    """What to send: `connections` loops until `seconds` are over, or at most `rate` events a second over all."""

    host: str
    port: int
    token: str
    tenants: list[str]
    connections: int
    seconds: float
    rate: float | None
    body_bytes: int


@dataclass
class Counts:
    """What came back."""

    accepted: int = 0
    busy: int = 0
    """Answered 429 or 503."""
    paused: float = 0.0
    """Seconds that connections have waited because of that, all together."""
    failed: int = 0
    latencies: list[float] = field(default_factory=list)


def event(tenant: str, number: int, size: int) -> bytes:
    """Return one event of about `size` bytes: an order and a person, with a field that the policy removes."""
    data: dict[str, Any] = {
        "person": {"person_id": f"p_{number}", "work_email": "ada.lovelace@example.com", "phone": "+49 30 23125 014"},
        "order": {"order_id": f"o_{number}", "total": 129.5, "currency": "EUR", "lines": []},
    }
    body: dict[str, Any] = {"tenant_id": tenant, "event_type": "order.created", "data": data}
    while len(dump(body)) < size - 60:
        line = len(data["order"]["lines"])
        data["order"]["lines"].append({"sku": f"SKU-{line:03}", "quantity": line % 7 + 1, "note": "packed in the usual way"})
    return dump(body)


def requests(plan: Plan) -> list[tuple[bytes, bytes]]:
    """Return, per tenant, the bytes before and after the number that makes each event another one."""
    made = []
    for tenant in plan.tenants:
        body = event(tenant, 1000000000, plan.body_bytes)
        head = (
            f"POST /v1/events HTTP/1.1\r\nHost: {plan.host}:{plan.port}\r\nAuthorization: Bearer {plan.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        before, _, after = (head + body).partition(b'"order_id":"o_1000000000"')
        made.append((before + b'"order_id":"o_', b'"' + after))
    return made


class _Client(asyncio.Protocol):
    """One keep-alive connection with one request on the wire."""

    def __init__(self) -> None:
        self._buffer = b""
        self._waiter: asyncio.Future[bytes] | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are Transports by behaviour, not by class.
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        place = self._buffer.lower().find(b"content-length:", 0, end)
        stop = self._buffer.find(b"\r\n", place)
        whole = end + 4 + (int(self._buffer[place + 15 : stop]) if place >= 0 else 0)
        if len(self._buffer) >= whole and self._waiter is not None and not self._waiter.done():
            status = self._buffer[:12]
            self._waiter.set_result(status if status == _ACCEPTED else self._buffer[: end + 2])
            self._buffer = self._buffer[whole:]

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(exc or ConnectionResetError())

    async def ask(self, request: bytes) -> bytes:
        """Send, and return the status line's first bytes of a 202, the whole head of anything else."""
        if self.transport is None or self.transport.is_closing():
            raise ConnectionResetError
        self._waiter = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self._waiter


def _pause(head: bytes) -> float:
    said = _RETRY_AFTER.search(head)
    return _PAUSE if said is None else float(said[1])


async def run(plan: Plan) -> dict[str, Any]:
    """Send and count; return the figures, latencies in milliseconds."""
    loop = asyncio.get_running_loop()
    prepared = requests(plan)
    counts = Counts()
    numbers = iter(range(1_000_000_001, 2_000_000_000))
    started = loop.time()
    end = started + plan.seconds
    turn = 0

    async def work() -> None:
        nonlocal turn
        _, client = await loop.create_connection(_Client, plan.host, plan.port)
        try:
            while loop.time() < end:
                if plan.rate is not None:
                    due = started + turn / plan.rate
                    turn += 1
                    if due >= end:
                        return
                    await asyncio.sleep(max(0.0, due - loop.time()))
                number = next(numbers)
                before, after = prepared[number % len(prepared)]
                sent = time.perf_counter()
                answer = await client.ask(b"%b%d%b" % (before, number, after))
                counts.latencies.append(time.perf_counter() - sent)
                if answer == _ACCEPTED:
                    counts.accepted += 1
                elif answer.startswith(_BUSY):
                    counts.busy += 1
                    pause = min(_pause(answer), max(0.0, end - loop.time()))
                    counts.paused += pause
                    await asyncio.sleep(pause)
                else:
                    counts.failed += 1
        except OSError:
            counts.failed += 1
        finally:
            if client.transport is not None:
                client.transport.close()

    await asyncio.gather(*(work() for _ in range(plan.connections)))
    took = loop.time() - started
    ordered = sorted(counts.latencies)
    return {
        "accepted": counts.accepted,
        "busy": counts.busy,
        "paused_seconds": round(counts.paused, 3),
        "failed": counts.failed,
        "seconds": took,
        "accept_ms": {name: percentile(ordered, share) * 1000 for name, share in {"p50": 0.5, "p99": 0.99}.items()} if ordered else {},
    }


if __name__ == "__main__":
    import uvloop

    print(dump(uvloop.run(run(Plan(**json.load(sys.stdin))))).decode())
