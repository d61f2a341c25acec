"""The receiving side, a process of its own: verifies every signature, counts distinct events, measures accept→delivered.

Run as `python -m customhouse.cli.bench.receiver`; it prints its port, takes secrets by `PUT /secrets`, and shows what it saw at
`GET /stats`, and each delivery at `GET /samples`. Everything else is a webhook, its path the name of the endpoint.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from datetime import datetime
from typing import Any, Final, cast

from customhouse.canonical import dump
from customhouse_receiver.errors import WebhookRejected
from customhouse_receiver.headers import HeaderNames
from customhouse_receiver.keys import Keyring
from customhouse_receiver.verify import Rules, check

_EVENT_ID: Final = re.compile(rb'"event_id":"([A-Za-z0-9_:-]{1,64})"')
_OCCURRED_AT: Final = re.compile(rb'"occurred_at":"([^"]{20,40})"')
_OK: Final = b"HTTP/1.1 204 No Content\r\n\r\n"
_REFUSED: Final = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n"
_HEAD_LIMIT: Final = 16 * 1024


class Tally:
    """What arrived, over all connections."""

    def __init__(self) -> None:
        self.rules = Rules(HeaderNames("X-Queast"), 300.0, 1024 * 1024)
        self.keyrings: dict[str, Keyring] = {}
        self.seen: set[tuple[str, bytes]] = set()
        self.received = 0
        self.refused = 0
        self.latencies: list[float] = []
        self.arrivals: list[float] = []
        self.first_at = 0.0
        self.last_at = 0.0

    def take(self, path: str, headers: dict[str, str], body: bytes) -> bool:
        """Verify one request and count it."""
        now = time.time()  # noqa: TID251 - this process stands for somebody else's machine
        keyring = self.keyrings.get(path)
        event = _EVENT_ID.search(body)
        occurred = _OCCURRED_AT.search(body)
        if keyring is None or event is None or occurred is None:
            self.refused += 1
            return False
        try:
            check(headers, body, keyring, self.rules, now=now)
        except WebhookRejected:
            self.refused += 1
            return False
        self.received += 1
        self.first_at = self.first_at or now
        self.last_at = now
        key = (path, event[1])
        if key not in self.seen:
            self.seen.add(key)
            self.latencies.append(now - datetime.fromisoformat(occurred[1].decode()).timestamp())
            self.arrivals.append(now)
        return True

    def stats(self) -> dict[str, Any]:
        """Return the figures; latencies in milliseconds."""
        ordered = sorted(self.latencies)
        return {
            "received": self.received,
            "distinct": len(self.seen),
            "refused": self.refused,
            "first_at": self.first_at,
            "last_at": self.last_at,
            "latency_ms": {name: percentile(ordered, share) * 1000 for name, share in _SHARES.items()} if ordered else {},
        }

    def samples(self) -> dict[str, list[float]]:
        """Return each distinct delivery in the order of arrival: milliseconds since the first, and from accept to arrival."""
        return {
            "at_ms": [round((one - self.first_at) * 1000, 1) for one in self.arrivals],
            "latency_ms": [round(one * 1000, 2) for one in self.latencies],
        }

    def reset(self) -> None:
        """Forget what was counted (after the warm-up); secrets stay."""
        self.seen.clear()
        self.latencies.clear()
        self.arrivals.clear()
        self.received = self.refused = 0
        self.first_at = self.last_at = 0.0


_SHARES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


def percentile(ordered: list[float], share: float) -> float:
    """Return the value below which `share` of the ordered values lie (nearest rank)."""
    return ordered[max(0, min(len(ordered) - 1, round(share * len(ordered)) - 1))]


class _Connection(asyncio.Protocol):
    """A bare HTTP/1.1 server connection: what a receiver costs must not be what is measured."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are Transports by behaviour, not by class.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            line, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in lines)}
            whole = end + 4 + int(headers.get("content-length", "0"))
            if len(self._buffer) < whole:
                return
            body, self._buffer = self._buffer[end + 4 : whole], self._buffer[whole:]
            method, path, _ = line.split(" ", 2)
            self._answer(method, path, headers, body)
        if len(self._buffer) > _HEAD_LIMIT and self._transport is not None:
            self._transport.abort()

    def _answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        if self._transport is None:
            return
        if method == "POST" and path != "/reset":
            self._transport.write(_OK if self._tally.take(path, headers, body) else _REFUSED)
            return
        answer = b"{}"
        if path == "/secrets":
            self._tally.keyrings = {name: Keyring(secrets) for name, secrets in json.loads(body).items()}
        elif path == "/stats":
            answer = dump(self._tally.stats())
        elif path == "/samples":
            answer = dump(self._tally.samples())
        else:
            self._tally.reset()
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(answer), answer))


async def _main() -> None:
    tally = Tally()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(tally), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    # The parent holds our standard input; when it ends, so do we.
    await loop.run_in_executor(None, sys.stdin.buffer.read)


if __name__ == "__main__":
    import uvloop

    uvloop.run(_main())
