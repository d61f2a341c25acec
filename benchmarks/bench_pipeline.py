"""What a delivery costs behind the door: CPU of this process and of PostgreSQL, from `accept` to the written result.

`python benchmarks/bench_pipeline.py [--events N] [--at-once N ...] [--tenants N] [--rate N] [--profile]` runs the service without its
face on an embedded PostgreSQL with fsync on, against a receiver in another process, and prints one JSON object per number of callers.
CPU time per delivery is a fair measure on a machine that does other things; the rate is not. `--profile` shows where Python's time goes.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import os
import pstats
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import uvloop

from customhouse.app import App, Store, migrate_store
from customhouse.audit.log import SYSTEM
from customhouse.config import load
from customhouse.embedded.cluster import open_cluster
from customhouse.outbound.endpoints import Wish
from customhouse.outbound.requests import EventRequest, read
from customhouse.outbound.roster import SQL
from customhouse.tenants.idempotency import Once
from customhouse.types import Json, JsonObject, Secret, TenantId

WARM_UP = 500
PATIENCE = 120


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
            self.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")


async def receive() -> None:
    """Serve until killed; the port is the first line on standard output."""
    server = await asyncio.get_running_loop().create_server(Receiver, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def event() -> EventRequest:
    """Return an event of about 1 KiB, as the benchmark of the whole service sends it."""
    items: list[Json] = [{"sku": f"sku-{number:04}", "quantity": number, "price_cents": 1999} for number in range(16)]
    data: JsonObject = {"order_id": "o_4711", "currency": "EUR", "items": items}
    return read({"event_type": "order.created", "data": data})


def cpu(pid: int) -> float:
    """Return the CPU seconds of a process with all its threads."""
    total = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        total += int(path.read_text().split()[0])
    return total / 1e9


def postmaster(directory: Path) -> int:
    """Return the first process of the server whose data is below a directory."""
    return int(next(directory.rglob("postmaster.pid")).read_text().split()[0])


def children(master: int) -> list[int]:
    """Return the processes of a PostgreSQL server, its postmaster first."""
    found = [master]
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == master:
            found.append(int(path.parent.name))
    return found


class Spy:
    """Counts statements by the function that they call, and what batches they carry."""

    def __init__(self, app: App) -> None:
        """Stand between the service and its database."""
        self.statements: Counter[str] = Counter()
        inner = app.database.call

        async def call(query: str, *args: object) -> object:
            name = re.search(r"(\w+)_v\d+\(", query)
            self.statements[name[1] if name else "other"] += 1
            return await inner(query, *args)

        app.database.call = call  # type: ignore[method-assign, assignment]


async def run(app: App, tenants: Sequence[TenantId], events: int, at_once: int, rate: float | None) -> None:
    """Publish events from so many callers, and wait until every delivery has ended."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    numbers = iter(range(events))

    async def work() -> None:
        for number in numbers:
            if rate is not None and (pause := started + number / rate - loop.time()) > 0:
                await asyncio.sleep(pause)
            await app.acceptor.accept(event(), tenants[number % len(tenants)], SYSTEM, size_bytes=1024)

    await asyncio.gather(*(work() for _ in range(at_once)))
    for _ in range(PATIENCE * 20):
        if not await depth(app):
            return
        await asyncio.sleep(0.05)
    raise SystemExit("deliveries are left")


async def depth(app: App) -> int:
    """Return how many deliveries the database still has."""
    row = (await app.database.call(SQL["queue_depth"]))[0]
    return int(row["due"] + row["waiting"] + row["leased"])


async def measure(port: int, options: argparse.Namespace) -> None:
    """Start the service, and measure it with each number of callers."""
    with tempfile.TemporaryDirectory(prefix="customhouse-bench-") as directory:
        cluster = open_cluster(Path(directory) / "postgres")
        store = Store(Secret(cluster.dsn("app").encode()), cluster)
        settings = load(
            {
                "CUSTOMHOUSE_ENVIRONMENT": "dev",
                "CUSTOMHOUSE_DATA_DIR": directory,
                "CUSTOMHOUSE_EGRESS_ALLOW": "127.0.0.0/8",
                "CUSTOMHOUSE_LISTEN": "127.0.0.1:0",
            }
        )
        try:
            await migrate_store(store, settings)
            app = await App.open(settings, store)
            try:
                await app.start()
                spy = Spy(app)
                tenants = [TenantId(f"bench-{number:03}") for number in range(options.tenants)]
                for tenant in tenants:
                    await app.tenants.create(tenant, tenant, SYSTEM, Once(None, b""))
                    await app.endpoints.create(tenant, Wish(f"http://127.0.0.1:{port}/"), SYSTEM, Once(None, b""))
                master = postmaster(Path(directory))
                await run(app, tenants, WARM_UP, 16, None)
                for at_once in options.at_once:
                    print(json.dumps(await once(app, spy, tenants, master, at_once, options)), flush=True)
            finally:
                await app.stop()
        finally:
            store.close()


async def once(
    app: App, spy: Spy, tenants: Sequence[TenantId], master: int, at_once: int, options: argparse.Namespace
) -> dict[str, object]:
    """Measure one number of callers."""
    spy.statements.clear()
    profile = cProfile.Profile() if options.profile else None
    before = cpu(os.getpid()), {pid: cpu(pid) for pid in children(master)}
    begun = time.perf_counter()
    if profile is not None:
        profile.enable()
    await run(app, tenants, options.events, at_once, options.rate)
    if profile is not None:
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(60)
    took = time.perf_counter() - begun
    postgres = sum(cpu(pid) - before[1].get(pid, 0.0) for pid in children(master))
    return {
        "at_once": at_once,
        "tenants": options.tenants,
        "events": options.events,
        "per_second": round(options.events / took),
        "service_cpu_us": round((cpu(os.getpid()) - before[0]) / options.events * 1e6, 1),
        "postgres_cpu_us": round(postgres / options.events * 1e6, 1),
        "events_per_statement": {name: round(options.events / count, 1) for name, count in spy.statements.most_common(4)},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Start the receiver, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=5_000, help="per number of callers")
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--tenants", type=int, default=1)
    parser.add_argument("--rate", type=float, help="events per second, all callers together")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--receive", action="store_true", help="be the receiver")
    options = parser.parse_args(arguments)
    if options.receive:
        uvloop.run(receive())
        return 0
    with subprocess.Popen([sys.executable, __file__, "--receive"], stdout=subprocess.PIPE) as receiver:
        try:
            assert receiver.stdout is not None  # PIPE was asked for
            uvloop.run(measure(int(receiver.stdout.readline()), options))
        finally:
            receiver.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main())
