"""What one delivery costs, and how that falls with load: `python -m benchmarks.cost [--loads 100,500,max] [--processes 1,2] [--json]`.

For each load and number of processes: CPU of the service and of PostgreSQL, transactions, and the statements that the service sends,
counted on the wire in a round of their own, so that the counting costs nothing that is measured. Events that come at the same time
share transactions, and so do results: the busier, the cheaper each.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import report
from benchmarks.meters import Round, counted
from benchmarks.report import Step
from benchmarks.stage import Load, Sink, Stage, publish, set_tenants, sink, stage

_IDLE_SECONDS: Final = 3.0
_COUNTING_SHARE: Final = 0.5
_BATCH: Final = "customhouse_accept_batch_size"


async def measure(processes: int, rate: float | None, seconds: float, tenants: int) -> dict[str, Any]:
    """Measure one load on a service of its own."""
    with tempfile.TemporaryDirectory(prefix="customhouse-cost-") as directory:
        async with sink() as into, stage(Path(directory) / "data", processes=processes) as on:
            names = await set_tenants(on, into, tenants)
            meters = Round(on)
            batches: list[tuple[float, float]] = []

            async def begin() -> None:
                await meters.begin()
                batches.append(await _batches(on))

            sent, got = await publish(on, into, names, Load(seconds, rate), at_begin=begin)
            cost = await meters.end(got["distinct"])
            batches.append(await _batches(on))
            transactions, events = (after - before for before, after in zip(*batches, strict=True))
            statements = await _statements(on, into, names, Load(max(1.0, seconds * _COUNTING_SHARE), rate))
    return {
        "processes": processes,
        "offered_per_second": rate,
        "accepted": sent["accepted"],
        "delivered": got["distinct"],
        "failed": sent["failed"] + got["refused"],
        "delivered_per_second": got["distinct"] / max(got["last_at"] - got["first_at"], 1e-9),
        "latency_ms": got["latency_ms"],
        "events_per_accepting_transaction": events / max(transactions, 1.0),
        **cost,
        **statements,
    }


async def _batches(on: Stage) -> tuple[float, float]:
    """Return how many accepting transactions there were, and how many events they held."""
    samples = await on.metrics()
    return samples[f"{_BATCH}_count"], samples[f"{_BATCH}_sum"]


async def _statements(on: Stage, into: Sink, names: list[str], load: Load) -> dict[str, float]:
    """Start the service again behind a door that counts; return statements per delivery, and per second with nothing to do."""
    await asyncio.to_thread(on.service.stop)
    async with counted(on.cluster.port) as door:
        await on.service.start(CUSTOMHOUSE_DATABASE_URL=on.cluster.dsn("app").replace(f":{on.cluster.port}/", f":{door.port}/"))
        begun = 0

        async def begin() -> None:
            nonlocal begun
            begun = door.statements

        _, got = await publish(on, into, names, load, at_begin=begin)
        each = (door.statements - begun) / max(got["distinct"], 1)
        idle = door.statements
        await asyncio.sleep(_IDLE_SECONDS)
        idle = door.statements - idle
        await asyncio.to_thread(on.service.stop)
    return {"statements": each, "statements_per_idle_second": idle / _IDLE_SECONDS}


async def cost(loads: list[float | None], processes: list[int], seconds: float, tenants: int, step: Step) -> dict[str, Any]:
    """Measure every load with every number of processes."""
    todo = [(number, rate) for number in processes for rate in loads]
    rows = []
    for place, (number, rate) in enumerate(todo):
        step(f"{number} process(es), {_load(rate)}", done=place, total=len(todo))
        rows.append(await measure(number, rate, seconds, tenants))
    falls = all(
        own[0]["statements"] >= own[-1]["statements"]
        for number in processes
        if (own := [row for row in rows if row["processes"] == number])
    )
    most = {number: max(row["delivered_per_second"] for row in rows if row["processes"] == number) for number in processes}
    return {
        "run": "cost",
        "workload": {"seconds": seconds, "tenants": tenants, "body_bytes": Load(seconds).body_bytes},
        "rows": rows,
        "most_per_second": {str(number): value for number, value in most.items()},
        "against_one_process": {str(number): value / most[processes[0]] for number, value in most.items()},
        **report.verdict(
            {
                "accepted and delivered agree at every load": all(row["accepted"] == row["delivered"] > 0 for row in rows),
                "nothing failed": not any(row["failed"] for row in rows),
                "a delivery needs no more statements at the highest load than at the lowest": falls,
            }
        ),
    }


def _load(rate: float | None) -> str:
    return "as many as go" if rate is None else f"{rate:,.0f}/s"


def view(result: dict[str, Any]) -> None:
    """Print it."""
    report.show(
        f"cost of one delivery, {result['workload']['tenants']} tenant(s)",
        [cells(row) for row in result["rows"]],
        HEAD,
    )
    for number, ratio in result["against_one_process"].items():
        print(f"{number} process(es): {result['most_per_second'][number]:,.0f}/s, {ratio:.2f} times the first")


HEAD: Final = (
    "processes",
    "offered",
    "delivered/s",
    "p50 / p99 ms",
    "statements",
    "transactions",
    "events per accept",
    "CPU service µs",
    "CPU PostgreSQL µs",
    "RSS MB",
)


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Return the texts of a row, in the order of `HEAD`."""
    late = row["latency_ms"]
    return (
        str(row["processes"]),
        _load(row["offered_per_second"]),
        f"{row['delivered_per_second']:,.0f}",
        f"{late['p50']:.1f} / {late['p99']:.1f}",
        f"{row['statements']:.3f}",
        f"{row['transactions']:.3f}",
        f"{row['events_per_accepting_transaction']:.1f}",
        f"{row['service_cpu_us']:.0f}",
        f"{row['postgres_cpu_us']:.0f}",
        f"{row['service_rss_mb']:.0f}",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and report."""
    parser = report.parser(__doc__)
    parser.add_argument("--loads", default="100,500,1000,max", help="events per second, separated by commas; `max`: as many as go")
    parser.add_argument("--processes", default="1,2", help="processes of the service, separated by commas")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each round publishes")
    parser.add_argument("--tenants", type=int, default=1)
    given: argparse.Namespace = parser.parse_args(arguments)
    loads = [None if one == "max" else float(one) for one in given.loads.split(",")]
    processes = [int(one) for one in given.processes.split(",")]

    def make(step: Step) -> Any:
        return cost(loads, processes, given.seconds, given.tenants, step)

    return report.run(make, given, view)


if __name__ == "__main__":
    sys.exit(main())
