"""How fast access tokens are read: `python -m benchmarks.token_reads [--concurrency 1,16] [--seconds N] [--json]`.

One process of the service on an embedded PostgreSQL, as it ships: every read is checked against its MAC, opened under its connection's
key, and answered when its entry in the ledger is durable. The generator is a process of its own and counts only answers that hold a
token; at the end the entries in the ledger are counted against them. Statements are counted on the wire, in a round of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from benchmarks import report
from benchmarks.meters import Round, counted
from benchmarks.report import RunFailed, Step
from benchmarks.stage import TOKEN, Stage, stage
from benchmarks.token_load import Plan
from tests.authority import CLIENT_SECRET, Authority, authority

from customhouse.canonical import dump

_WANTED: Final = 2_000
_P50: Final = 10.0
_BATCH: Final = "customhouse_read_batch_size"


async def connect(on: Stage, provider: Authority, tenant: str, user: str) -> str:
    """Connect a user from end to end; return the connection's id."""
    base = on.service.base
    async with httpx.AsyncClient(base_url=base, trust_env=False, timeout=30, headers={"Authorization": f"Bearer {TOKEN}"}) as http:
        provider.account = {"id": f"u-{tenant}-{user}", "account_id": tenant, "email": f"{user}@example.com"}
        body = {"tenant_id": tenant, "user": {"id": user}, "provider": "zoom"}
        made = (await http.post("/v1/connect-sessions", json=body)).json()
        link = urlsplit(made["connect_url"]).path
        csrf = (await http.get(link)).text.split('name="csrf" value="')[1].split('"')[0]
        sent = await http.post(link, data={"csrf": csrf}, headers={"Origin": base})
        await http.get(f"/oauth/callback/zoom?{provider.decide(sent.headers['location'])}")
        done = await http.post(f"/v1/connect-sessions/{made['session_id']}/confirm?tenant_id={tenant}", json={"user_id": user})
        if done.status_code != httpx.codes.OK:
            raise RunFailed(f"A connection could not be made: {done.status_code}.")
        return str(done.json()["connection_id"])


async def set_up(on: Stage, provider: Authority, tenants: int, each: int) -> list[tuple[str, str]]:
    """Make tenants with connections and a key that may read tokens; return (key, connection id) in turns."""
    reads: list[list[tuple[str, str]]] = []
    for place in range(tenants):
        tenant = f"tenant-{place}"
        await on.tenant(tenant)
        made = await on.api("POST", "/v1/api-keys", {"tenant_id": tenant, "name": "reader", "scopes": ["tokens:read"]})
        reads.append([(str(made["api_key"]), await connect(on, provider, tenant, f"user-{number}")) for number in range(each)])
    return [one for turn in zip(*reads, strict=True) for one in turn]


async def load(on: Stage, reads: list[tuple[str, str]], concurrency: int, seconds: float) -> dict[str, Any]:
    """Run the generator; return its figures."""
    plan = Plan(on.service.port, reads, concurrency, seconds)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.token_load", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(seconds + 60):
        answer, _ = await process.communicate(dump({**asdict(plan), "reads": [list(one) for one in reads]}))
    if process.returncode:
        raise RunFailed("the generator failed")
    return dict(json.loads(answer))


async def measure(on: Stage, reads: list[tuple[str, str]], concurrency: int, seconds: float) -> dict[str, Any]:
    """Measure one concurrency, on a service that runs."""
    await load(on, reads, concurrency, 1.0)
    meters = Round(on)
    entries = await _entries(on)
    before = await on.metrics()
    await meters.begin()
    got = await load(on, reads, concurrency, seconds)
    cost = await meters.end(got["reads"])
    after = await on.metrics()
    flushes, uses = (after[f"{_BATCH}_{part}"] - before[f"{_BATCH}_{part}"] for part in ("count", "sum"))
    return {
        "concurrency": concurrency,
        **got,
        "reads_per_second": got["reads"] / got["seconds"],
        "entries": await _entries(on) - entries,
        "entries_per_commit": uses / max(flushes, 1.0),
        **cost,
    }


async def _entries(on: Stage) -> int:
    return int(await on.ask("select count(*) from audit_entries where tag = 'token.read'"))


async def statements(on: Stage, reads: list[tuple[str, str]], concurrency: int, seconds: float) -> float:
    """Start the service again behind a door that counts; return statements per read, those of nobody in particular taken off."""
    await asyncio.to_thread(on.service.stop)
    each: float = 0.0
    async with counted(on.cluster.port) as door:
        await on.service.start(CUSTOMHOUSE_DATABASE_URL=on.cluster.dsn("app").replace(f":{on.cluster.port}/", f":{door.port}/"))
        await load(on, reads, concurrency, 1.0)
        idle = door.statements
        await asyncio.sleep(seconds)
        idle = door.statements - idle
        begun = door.statements
        got = await load(on, reads, concurrency, seconds)
        each = (door.statements - begun - idle) / max(int(got["reads"]), 1)
        await asyncio.to_thread(on.service.stop)
    return each


async def token_reads(concurrencies: list[int], seconds: float, tenants: int, each: int, step: Step) -> dict[str, Any]:
    """Measure every concurrency."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="customhouse-reads-") as directory:
        folder = Path(directory)
        async with authority() as provider:
            (folder / "data").mkdir()
            file = folder / "providers.toml"
            secret = folder / "client_secret"
            secret.touch(mode=0o600)
            secret.write_text(CLIENT_SECRET, encoding="utf-8")
            registered = provider.registered("zoom").replace('{env = "SUITE_CLIENT_SECRET"}', f'{{file = "{secret}"}}')
            file.write_text(registered, encoding="utf-8")
            settings = {"TOKEN_EXPORT": "on", "PROVIDERS_FILE": str(file), "BULK_READ_CAP": "0"}
            async with stage(folder / "data", settings) as on:
                step("connecting users", done=0, total=len(concurrencies) + 1)
                reads = await set_up(on, provider, tenants, each)
                for place, concurrency in enumerate(concurrencies):
                    step(f"{concurrency} at a time", done=place, total=len(concurrencies) + 1)
                    rows.append(await measure(on, reads, concurrency, seconds))
                step("counting statements", done=len(concurrencies), total=len(concurrencies) + 1)
                for row in rows:
                    row["statements"] = await statements(on, reads, row["concurrency"], max(1.0, seconds / 2))
    busiest = rows[-1]
    return {
        "run": "token_reads",
        "workload": {"seconds": seconds, "tenants": tenants, "connections": tenants * each},
        "rows": rows,
        **report.verdict(
            {
                "every read was answered with a token": not any(row["failed"] for row in rows) and all(row["reads"] for row in rows),
                "every token that was answered has its entry in the ledger": all(row["entries"] >= row["reads"] for row in rows),
                "a read is one statement, and a share of its commit": all(row["statements"] <= 2.1 for row in rows),
                f"at least {_WANTED:,} reads a second at the highest concurrency": busiest["reads_per_second"] >= _WANTED,
                f"p50 under {_P50:.0f} ms at the highest concurrency": busiest["latency_ms"].get("p50", _P50) < _P50,
            }
        ),
    }


HEAD: Final = (
    "at a time",
    "reads/s",
    "p50 / p95 / p99 ms",
    "statements",
    "entries per commit",
    "CPU service µs",
    "CPU PostgreSQL µs",
    "RSS MB",
)


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Return the texts of a row, in the order of `HEAD`."""
    late = row["latency_ms"]
    return (
        str(row["concurrency"]),
        f"{row['reads_per_second']:,.0f}",
        f"{late['p50']:.1f} / {late['p95']:.1f} / {late['p99']:.1f}",
        f"{row['statements']:.2f}",
        f"{row['entries_per_commit']:.1f}",
        f"{row['service_cpu_us']:,.0f}",
        f"{row['postgres_cpu_us']:,.0f}",
        f"{row['service_rss_mb']:,.0f}",
    )


def view(result: dict[str, Any]) -> None:
    """Print it."""
    report.show(f"reads of access tokens, {result['workload']['connections']} connections", [cells(row) for row in result["rows"]], HEAD)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it from the command line; return the exit code."""
    parser = report.parser(__doc__)
    parser.add_argument("--concurrency", default="1,4,16", help="calls at a time, the highest last")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each round")
    parser.add_argument("--tenants", type=int, default=4)
    parser.add_argument("--connections", type=int, default=16, help="of each tenant")
    options: argparse.Namespace = parser.parse_args(arguments)
    concurrencies = [int(text) for text in options.concurrency.split(",")]
    return report.run(lambda step: token_reads(concurrencies, options.seconds, options.tenants, options.connections, step), options, view)


if __name__ == "__main__":
    sys.exit(main())
