"""One measurement: start the service as it ships, a generator and a verifying receiver beside it, count on both sides and in the database.

Nothing is switched off: payloads are sealed, row-level security is forced, the privacy policy inspects, addresses are vetted, fsync is on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit

from customhouse.canonical import dump
from customhouse.cli.bench.generator import Plan
from customhouse.cli.bench.plot import Samples
from customhouse.cli.bench.usage import cpu_of_postgres, cpu_of_service, memory_of_service
from customhouse.cli.loopback import NoAnswer, send
from customhouse.db import look
from customhouse.embedded.cluster import open_cluster
from customhouse.errors import CustomhouseError
from customhouse.types import Secret

_DELIVERED: Final = "select count(distinct delivery_id) as delivered from attempts where outcome = 'delivered'"
_READY_SECONDS: Final = 60.0
_DRAIN_SECONDS: Final = 120.0
_WARM_UP_SECONDS: Final = 2.0
_STOP_SECONDS: Final = 30.0


class BenchError(CustomhouseError):
    """The measurement could not be made."""

    code = "bench_failed"


@dataclass(frozen=True, slots=True)
class Workload:
    """What is measured."""

    seconds: float = 10.0
    connections: int = 64
    tenants: int = 1
    body_bytes: int = 1024
    rate: float | None = None
    processes: int = 1


@dataclass(frozen=True, slots=True)
class Measurement:
    """What came of it. Times in milliseconds, memory in MB; CPU in microseconds per delivery."""

    workload: dict[str, Any]
    accepted: int
    accepted_per_second: float
    delivered: int
    delivered_per_second: float
    duplicates: int
    refused: int
    busy: int
    failed: int
    in_database: int
    accept_ms: dict[str, float]
    accept_to_delivered_ms: dict[str, float]
    service_cpu_us: float
    postgres_cpu_us: float
    service_rss_mb: float
    """Summed over the processes of the service, the database's guard included: pages that they share count for each of them."""
    service_pss_mb: float
    """The same with shared pages divided by those who share them: what the machine really gives (0 where /proc does not tell)."""

    @property
    def holds(self) -> bool:
        """Whether nothing was lost or refused, and the three counts agree."""
        return self.delivered == self.accepted == self.in_database and not self.refused and not self.failed and self.accepted > 0


class _Child:
    """A process of this measurement; it ends with it."""

    def __init__(self, module: str, *, env: dict[str, str] | None = None, log: IO[bytes] | None = None, args: tuple[str, ...] = ()) -> None:
        self.process = subprocess.Popen(  # noqa: S603 - our own modules
            [sys.executable, "-m", module, *args], stdin=subprocess.PIPE, stdout=log or subprocess.PIPE, stderr=log, env=env
        )

    def stop(self) -> None:
        """End it: by its closed input or SIGTERM, at last by force."""
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def measure(
    workload: Workload, progress: Callable[[str], None] = lambda _text: None, on_samples: Callable[[Samples], None] | None = None
) -> Measurement:
    """Run one measurement in a temporary directory; `on_samples` gets each delivery, for a plot.

    Raises:
        BenchError: a process did not start, or did not answer.
    """
    with tempfile.TemporaryDirectory(prefix="customhouse-bench-") as directory, contextlib.ExitStack() as stack:
        token = f"ck_{secrets.token_urlsafe(32)}"
        progress("starting the service on an embedded PostgreSQL")
        base, service, data = stack.enter_context(_service(Path(directory), token, workload.processes))
        receiver = _Child("customhouse.cli.bench.receiver")
        stack.callback(receiver.stop)
        assert receiver.process.stdout is not None
        sink = int(receiver.process.stdout.readline())
        progress(f"creating {workload.tenants} tenant(s), one connection each")
        names = _set_up(base, token, sink, workload.tenants)
        host, _, port = base.removeprefix("http://").partition(":")
        plan = Plan(host, int(port), token, names, workload.connections, _WARM_UP_SECONDS, workload.rate, workload.body_bytes)
        progress("warming up")
        _generate(plan)
        _drained(sink, None)
        before_rows = asyncio.run(_delivered_rows(data))
        _call(sink, "POST", "/reset", {})
        cpu_before = cpu_of_service(service.process.pid, data), cpu_of_postgres(data)
        progress(f"publishing for {workload.seconds:.0f} s over {workload.connections} connections")
        sent = _generate(Plan(**{**asdict(plan), "seconds": workload.seconds}))
        progress("waiting for the last deliveries")
        stats = _drained(sink, sent["accepted"])
        cpu_after = cpu_of_service(service.process.pid, data), cpu_of_postgres(data)
        resident, shared = memory_of_service(service.process.pid, data)
        in_database = _settled(data, before_rows, sent["accepted"])
        if on_samples is not None:
            on_samples(Samples(**_call(sink, "GET", "/samples")))
        span = max(stats["last_at"] - stats["first_at"], 1e-9)
        delivered = max(stats["distinct"], 1)
        return Measurement(
            workload=asdict(workload),
            accepted=sent["accepted"],
            accepted_per_second=sent["accepted"] / sent["seconds"],
            delivered=stats["distinct"],
            delivered_per_second=stats["distinct"] / span,
            duplicates=stats["received"] - stats["distinct"],
            refused=stats["refused"],
            busy=sent["busy"],
            failed=sent["failed"],
            in_database=in_database,
            accept_ms=sent["accept_ms"],
            accept_to_delivered_ms=stats["latency_ms"],
            service_cpu_us=(cpu_after[0] - cpu_before[0]) * 1e6 / delivered,
            postgres_cpu_us=(cpu_after[1] - cpu_before[1]) * 1e6 / delivered,
            service_rss_mb=resident / 1e6,
            service_pss_mb=shared / 1e6,
        )


@contextlib.contextmanager
def _service(directory: Path, token: str, processes: int) -> Iterator[tuple[str, _Child, Path]]:
    port = _free_port()
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("CUSTOMHOUSE_")},  # noqa: TID251 - handed on, not read
        "CUSTOMHOUSE_ENVIRONMENT": "dev",
        "CUSTOMHOUSE_DATA_DIR": str(directory / "data"),
        "CUSTOMHOUSE_LISTEN": f"127.0.0.1:{port}",
        "CUSTOMHOUSE_PLATFORM_KEY": token,
        "CUSTOMHOUSE_EGRESS_ALLOW": "127.0.0.0/8",
        "CUSTOMHOUSE_LOG_LEVEL": "warning",
        "CUSTOMHOUSE_PROCESSES": str(processes),
    }
    with (directory / "service.log").open("wb") as log:
        child = _Child("customhouse.cli", env=env, log=log, args=("serve",))
        try:
            base = f"http://127.0.0.1:{port}"
            end = time.monotonic() + _READY_SECONDS
            while not _is_ready(port):
                if child.process.poll() is not None or time.monotonic() > end:
                    raise BenchError(f"the service did not start: {(directory / 'service.log').read_text(errors='replace')[-2000:]}")
                time.sleep(0.05)
            yield base, child, directory / "data"
        finally:
            child.stop()


def _set_up(base: str, token: str, sink: int, tenants: int) -> list[str]:
    port = urlsplit(base).port or 0
    keyrings: dict[str, dict[str, str]] = {}
    names = [f"bench-{number:03}" for number in range(tenants)]
    for name in names:
        _call(port, "POST", "/v1/tenants", {"tenant_id": name, "name": name}, token)
        made = _call(
            port, "POST", "/v1/connections", {"tenant_id": name, "provider": "webhook", "url": f"http://127.0.0.1:{sink}/{name}"}, token
        )
        signing = made["secrets"]["signing"]
        keyrings[f"/{name}"] = {signing["key_id"]: signing["secret"]}
    _call(sink, "PUT", "/secrets", keyrings)
    return names


def _generate(plan: Plan) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "customhouse.cli.bench.generator"],
        input=dump(asdict(plan)),
        stdout=subprocess.PIPE,
        check=False,
        timeout=plan.seconds + 60,
    )
    if done.returncode:
        raise BenchError("the generator failed")
    return dict(json.loads(done.stdout))


def _drained(sink: int, expected: int | None) -> dict[str, Any]:
    """Wait until everything has arrived, or nothing has come for two seconds."""
    last, since = -1, time.monotonic()
    end = since + _DRAIN_SECONDS
    while True:
        stats = _call(sink, "GET", "/stats")
        if expected is not None and stats["distinct"] >= expected:
            return stats
        if stats["received"] != last:
            last, since = stats["received"], time.monotonic()
        if time.monotonic() - since > (2.0 if expected is None else 15.0) or time.monotonic() > end:
            return stats
        time.sleep(0.05)


async def _delivered_rows(data: Path) -> int:
    cluster = await asyncio.to_thread(open_cluster, data / "postgres")
    try:
        rows = await look(Secret(cluster.dsn("owner").encode()), _DELIVERED)
        return int(rows[0]["delivered"])
    finally:
        await asyncio.to_thread(cluster.stop)


def _settled(data: Path, before: int, expected: int) -> int:
    """Count the delivered rows; the last results are written a moment after the receiver has seen the requests."""
    end = time.monotonic() + 10
    while (found := asyncio.run(_delivered_rows(data)) - before) < expected and time.monotonic() < end:
        time.sleep(0.1)
    return found


def _call(port: int, method: str, path: str, body: Any = None, token: str | None = None) -> dict[str, Any]:
    headers = [("Content-Type", "application/json")] + ([("Authorization", f"Bearer {token}")] if token else [])
    answer = asyncio.run(send(port, method, path, headers, b"" if body is None else dump(body)))
    if answer.refused:
        raise BenchError(f"{method} {path} answered {answer.status}")
    return answer.json()


def _is_ready(port: int) -> bool:
    try:
        _call(port, "GET", "/readyz")
    except (NoAnswer, BenchError):
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
