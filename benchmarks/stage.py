"""The scene of a long run: the service as it ships on an embedded PostgreSQL, a verifying receiver, a generator, each a process.

Nothing is switched off: payloads are sealed, row-level security is forced, the privacy policy inspects, addresses are vetted, fsync is on.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import asyncpg
from benchmarks.report import RunFailed
from tests.services import Service

from customhouse.canonical import dump
from customhouse.cli.bench.generator import Plan
from customhouse.cli.loopback import send
from customhouse.embedded.cluster import Cluster, open_cluster

TOKEN: Final = "ck_long-runs-0123456789abcdefghijklmnopqrstuvwxyz"
_QUIET: Final = 15.0
_PAUSE: Final = 0.05


async def call(port: int, method: str, path: str, body: Any = None, *, token: str | None = TOKEN, key: str | None = None) -> dict[str, Any]:
    """Make one request to a process of this run; return the JSON of a good answer.

    Raises:
        RunFailed: it is refused.
        NoAnswer: nobody answers.
    """
    headers = [("Content-Type", "application/json")] if body is not None else []
    headers += [("Authorization", f"Bearer {token}")] if token else []
    headers += [("Idempotency-Key", key)] if key else []
    answer = await send(port, method, path, headers, b"" if body is None else dump(body))
    if answer.refused:
        raise RunFailed(f"{method} {path.partition('?')[0]} answered {answer.status}: {answer.body[:300].decode(errors='replace')}")
    return answer.json() if answer.body else {}


@dataclass(frozen=True, slots=True)
class Connection:
    """A webhook connection and the secret that its deliveries are signed with."""

    tenant: str
    connection_id: str
    key_id: str
    secret: str


@dataclass
class Stage:
    """Service and PostgreSQL; either may end without the other."""

    directory: Path
    cluster: Cluster
    service: Service

    @property
    def pid(self) -> int:
        """Of the service; its children belong to it."""
        assert self.service.process is not None
        return self.service.process.pid

    @property
    def postmaster(self) -> int:
        """The pid of the embedded server."""
        (pidfile,) = self.directory.rglob("postmaster.pid")
        return int(pidfile.read_text().splitlines()[0])

    async def api(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> dict[str, Any]:
        """Call the service; raises as `call` does."""
        return await call(self.service.port, method, path, body, key=key)

    async def tenant(self, name: str) -> None:
        """Create a tenant."""
        await self.api("POST", "/v1/tenants", {"tenant_id": name, "name": name})

    async def connect(self, tenant: str, url: str, **wish: Any) -> Connection:
        """Create a webhook connection."""
        made = await self.api("POST", "/v1/connections", {"tenant_id": tenant, "provider": "webhook", "url": url, **wish})
        signing = made["secrets"]["signing"]
        return Connection(tenant, made["connection_id"], signing["key_id"], signing["secret"])

    @asynccontextmanager
    async def owner(self) -> AsyncIterator[asyncpg.Connection]:
        """Look into the database as the owner of the schema, who sees every row."""
        conn = await asyncpg.connect(self.cluster.dsn("owner"), server_settings={"search_path": "customhouse"}, command_timeout=600)
        try:
            yield conn
        finally:
            conn.terminate()

    async def ask(self, query: str, *args: Any) -> Any:
        """Return one value as the owner."""
        async with self.owner() as conn:
            return await conn.fetchval(query, *args)

    async def metrics(self) -> dict[str, float]:
        """Return the samples of `/metrics` by name and labels, as they are written there."""
        answer = await send(self.service.port, "GET", "/metrics", [("Authorization", f"Bearer {TOKEN}")])
        if answer.refused:
            raise RunFailed(f"/metrics answered {answer.status}")
        lines = [line for line in answer.body.decode().splitlines() if line and not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


@asynccontextmanager
async def stage(directory: Path, settings: Mapping[str, str] | None = None, *, processes: int = 1) -> AsyncIterator[Stage]:
    """Start PostgreSQL and the service on a folder (again), with these settings (without their prefix); end both."""
    directory.mkdir(parents=True, exist_ok=True)
    cluster = await asyncio.to_thread(open_cluster, directory / "postgres")
    environ = {
        "ENVIRONMENT": "dev",
        "DATA_DIR": str(directory),
        "PLATFORM_KEY": TOKEN,
        "EGRESS_ALLOW": "127.0.0.0/8",
        "LOG_LEVEL": "warning",
        **({"PROCESSES": str(processes)} if processes > 1 else {}),
        **(settings or {}),
    }
    service = Service({f"CUSTOMHOUSE_{name}": value for name, value in environ.items()}, directory)
    try:
        await service.start()
        yield Stage(directory, cluster, service)
    finally:
        await asyncio.to_thread(service.stop)
        await asyncio.to_thread(cluster.stop)


@dataclass
class Sink:
    """The verifying receiver of `customhouse bench`, a process of its own."""

    port: int
    _secrets: dict[str, dict[str, str]] = field(default_factory=dict)

    def url(self, name: str) -> str:
        """Where the endpoint of this name is."""
        return f"http://127.0.0.1:{self.port}/{name}"

    async def know(self, connections: Mapping[str, Connection]) -> None:
        """Tell the secrets of connections by the name of their endpoint."""
        self._secrets |= {f"/{name}": {one.key_id: one.secret} for name, one in connections.items()}
        await call(self.port, "PUT", "/secrets", self._secrets, token=None)

    async def stats(self) -> dict[str, Any]:
        """Return what has arrived since the last reset."""
        return await call(self.port, "GET", "/stats", token=None)

    async def reset(self) -> None:
        """Forget what has arrived; secrets stay."""
        await call(self.port, "POST", "/reset", {}, token=None)

    async def drained(self, expected: int, step: Callable[[dict[str, Any]], None] = lambda _stats: None) -> dict[str, Any]:
        """Wait until so many distinct events have arrived, or nothing has come for 15 seconds; return the figures."""
        loop = asyncio.get_running_loop()
        last, since = -1, loop.time()
        while True:
            stats = await self.stats()
            step(stats)
            if stats["distinct"] >= expected:
                return stats
            if stats["received"] != last:
                last, since = stats["received"], loop.time()
            if loop.time() - since > _QUIET:
                return stats
            await asyncio.sleep(_PAUSE)


@asynccontextmanager
async def sink() -> AsyncIterator[Sink]:
    """Run a receiver."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "customhouse.cli.bench.receiver", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield Sink(int(await process.stdout.readline()))
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def generate(plan: Plan) -> dict[str, Any]:
    """Run the generator of `customhouse bench`, a process of its own; return its counts.

    Raises:
        RunFailed: it has failed.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "customhouse.cli.bench.generator", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(plan.seconds + 120):
            answer, _ = await process.communicate(dump(asdict(plan)))
    except TimeoutError:
        raise RunFailed("the generator did not end") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RunFailed("the generator failed")
    return dict(json.loads(answer))


@dataclass(frozen=True, slots=True)
class Load:
    """What a round publishes."""

    seconds: float
    rate: float | None = None
    connections: int = 64
    body_bytes: int = 1024
    warm_up: float = 2.0


def plan_for(on: Stage, tenants: list[str], load: Load) -> Plan:
    """Return the generator's plan for a round."""
    return Plan("127.0.0.1", on.service.port, TOKEN, tenants, load.connections, load.seconds, load.rate, load.body_bytes)


async def publish(
    on: Stage, into: Sink, tenants: list[str], load: Load, *, at_begin: Callable[[], Awaitable[None]] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Warm up, forget that, publish, wait for the last delivery; return what was sent and what arrived."""
    if load.warm_up:
        warm = await generate(replace(plan_for(on, tenants, load), seconds=load.warm_up))
        await into.drained(warm["accepted"])
    await into.reset()
    if at_begin is not None:
        await at_begin()
    sent = await generate(plan_for(on, tenants, load))
    return sent, await into.drained(sent["accepted"])


async def until(holds: Callable[[], Awaitable[bool]], words: str, within: float = 60.0, pause: float = _PAUSE) -> None:
    """Ask until the answer is yes.

    Raises:
        RunFailed: it stays no.
    """
    try:
        async with asyncio.timeout(within):
            while not await holds():
                await asyncio.sleep(pause)
    except TimeoutError:
        raise RunFailed(f"{words}: not within {within:.0f} s") from None


async def set_tenants(on: Stage, into: Sink, count: int, *, prefix: str = "") -> list[str]:
    """Create so many tenants with one connection each; `prefix` keeps the endpoints of several services at one receiver apart."""
    made: dict[str, Connection] = {}
    for number in range(count):
        name = f"bench-{number:03}"
        await on.tenant(name)
        made[prefix + name] = await on.connect(name, into.url(prefix + name))
    await into.know(made)
    return [one.tenant for one in made.values()]
