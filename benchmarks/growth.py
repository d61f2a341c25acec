"""As fast with ten million attempts behind it as with none: `python -m benchmarks.growth [--rows N] [--rounds N] [--json]`.

Two services with a hundred tenants each, one of them with a month of history, are measured in turn. Both must deliver at the same rate
within 20 %. With the history, the routes that read are asked too, and the plans of their statements shown to read no table from end
to end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx
from benchmarks import report
from benchmarks.history import TENANTS, make_history
from benchmarks.meters import Round
from benchmarks.report import Step
from benchmarks.stage import TOKEN, Load, Stage, publish, set_tenants, sink, stage

from customhouse import ids
from customhouse.cli.bench.receiver import percentile
from customhouse.outbound.reads import SEARCH
from customhouse.outbound.roster import SQL

_FIRST: Final = UUID(int=0)
_TOLERANCE: Final = 0.8
_GROWN: Final = 1000
_SIDES: Final = ("history", "none")


async def growth(rows: int, rounds: int, seconds: float, asks: int, processes: int, step: Step) -> dict[str, Any]:
    """Make both sides, measure them in turn."""
    with tempfile.TemporaryDirectory(prefix="customhouse-growth-") as directory:
        places = {side: Path(directory) / side for side in _SIDES}
        async with sink() as into:
            tenants: list[str] = []
            for side, place in places.items():
                step(f"setting up a service with its tenants: {side}")
                async with stage(place) as on:
                    tenants = await set_tenants(on, into, TENANTS, prefix=f"{side}-")
            began = time.monotonic()
            made = await make_history(places["history"], rows, step)
            # Gigabytes that the kernel still has to write would slow the first rounds' commits.
            step("writing everything to disk")
            await asyncio.to_thread(os.sync)
            seconds_to_make = time.monotonic() - began
            delivered: dict[str, list[float]] = {side: [] for side in _SIDES}
            cost: dict[str, list[dict[str, float]]] = {side: [] for side in _SIDES}
            agree = True
            counts: list[dict[str, Any]] = []
            reading: dict[str, dict[str, dict[str, float]]] = {}
            plans: dict[str, list[str]] = {}
            for number in range(rounds):
                # Whoever comes second meets warmer caches: each side comes first in turn.
                for side in _SIDES if number % 2 == 0 else _SIDES[::-1]:
                    step(f"round {number + 1} of {rounds}: {side}", done=number * 2 + (side != _SIDES[number % 2]), total=rounds * 2)
                    async with stage(places[side], processes=processes) as on:
                        meters = Round(on)
                        sent, got = await publish(on, into, tenants, Load(seconds), at_begin=meters.begin)
                        cost[side].append(await meters.end(got["distinct"]))
                        delivered[side].append(got["distinct"] / max(got["last_at"] - got["first_at"], 1e-9))
                        counts.append(
                            {"side": side, "accepted": sent["accepted"], "arrived": got["distinct"]}
                            | {"failed": sent["failed"], "refused": got["refused"]}
                        )
                        agree &= sent["accepted"] == got["distinct"] > 0 and not sent["failed"] + got["refused"]
                        if number == rounds - 1:
                            step(f"asking the routes that read: {side}")
                            reading[side] = await ask(on, asks)
                            if side == "history":
                                plans = await scans(on)
    medians = {side: statistics.median(values) for side, values in delivered.items()}
    ratio = medians["history"] / medians["none"]
    return {
        "run": "growth",
        "workload": {"rows": rows, "rounds": rounds, "seconds": seconds, "tenants": TENANTS, "processes": processes},
        "history": asdict(made) | {"seconds_to_make": seconds_to_make},
        "counts": counts,
        "delivered_per_second": delivered,
        "median": medians,
        "ratio": ratio,
        "cost": {side: {name: statistics.median(one[name] for one in cost[side]) for name in cost[side][0]} for side in _SIDES},
        "reading_ms": reading,
        "sequential_scans": plans,
        **report.verdict(
            {
                "the history is there": made.attempts >= rows,
                "accepted and delivered agree in every round": agree,
                "delivered per second with the history is within 20 % of without": ratio >= _TOLERANCE,
                "no statement of the routes that read scans a grown table": not any(plans.values()),
            }
        ),
    }


async def ask(on: Stage, times: int) -> dict[str, dict[str, float]]:
    """Ask each route so many times, over all tenants; return percentiles in milliseconds."""
    async with on.owner() as conn:
        rows = await conn.fetch(
            """select t.tenant_id, d.delivery_id, d.event_uid, d.connection_id from tenants t
               cross join lateral (select * from deliveries d where d.tenant_id = t.tenant_id and d.delivery_id < $1
                                   order by d.delivery_id desc limit 1) d
               where t.tenant_id like 'bench-%'""",
            ids.floor_at(datetime.now(UTC) - timedelta(days=1)),
        ) or await conn.fetch(
            """select distinct on (tenant_id) tenant_id, delivery_id, event_uid, connection_id from deliveries
               where tenant_id like 'bench-%' order by tenant_id, delivery_id desc"""
        )
    earlier = {"since": _text(timedelta(days=20)), "until": _text(timedelta(days=10))}
    found: dict[str, dict[str, float]] = {}
    async with httpx.AsyncClient(base_url=on.service.base, trust_env=False, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        for name in ("newest", "of a connection", "failed", "of a period", "of an event type", "one delivery", "one event"):
            latencies = []
            for number in range(times + 3):
                row = rows[number % len(rows)]
                event, delivery = ids.show("evt", row["event_uid"]), ids.show("dlv", row["delivery_id"])
                path, query = {
                    "newest": ("/v1/deliveries", {}),
                    "of a connection": ("/v1/deliveries", {"connection_id": ids.show("con", row["connection_id"])}),
                    "failed": ("/v1/deliveries", {"status": "failed"}),
                    "of a period": ("/v1/deliveries", earlier),
                    "of an event type": ("/v1/deliveries", {"event_type": "order.paid"}),
                    "one delivery": (f"/v1/deliveries/{delivery}", {}),
                    "one event": (f"/v1/events/{event}", {}),
                }[name]
                began = time.perf_counter()
                answer = await client.get(path, params={"tenant_id": row["tenant_id"], **query})
                # The first calls on a connection prepare its statements.
                if number >= 3:
                    latencies.append((time.perf_counter() - began) * 1000)
                # An event with an id of its own is not found under ours.
                if answer.status_code != httpx.codes.OK and not (name == "one event" and answer.status_code == httpx.codes.NOT_FOUND):
                    raise report.RunFailed(f"{name}: {path} answered {answer.status_code}")
            ordered = sorted(latencies)
            found[name] = {"p50": percentile(ordered, 0.5), "p99": percentile(ordered, 0.99)}
    return found


def _text(back: timedelta) -> str:
    return (datetime.now(UTC) - back).strftime("%Y-%m-%dT%H:%M:%SZ")


async def scans(on: Stage) -> dict[str, list[str]]:
    """Return, per statement of the routes that read, the tables of more than a thousand rows that its plan scans sequentially."""
    async with on.owner() as conn:
        await conn.execute("analyze")
        grown = {row["relname"] for row in await conn.fetch("select relname from pg_class where reltuples > $1", _GROWN)}
        one = await conn.fetchrow("select * from deliveries where tenant_id = 'bench-000' order by delivery_id desc limit 1 offset 20")
        assert one is not None
        tenant, delivery, connection = one["tenant_id"], one["delivery_id"], one["connection_id"]
        asked: dict[str, tuple[str, tuple[Any, ...]]] = {
            "search": (SEARCH["search"], (tenant, [delivery], None, None, None)),
            "window_of_tenant": (SEARCH["window_of_tenant"], (tenant, _FIRST, delivery, 50)),
            "window_of_connection": (SEARCH["window_of_connection"], (tenant, _FIRST, delivery, 50, connection)),
            "window_of_queue": (SEARCH["window_of_queue"], (tenant, _FIRST, delivery, 50)),
            "window_of_unhappy": (SEARCH["window_of_unhappy"], (tenant, _FIRST, delivery, 50, "failed")),
            "event_by_uid": (SQL["event_by_uid"], (tenant, one["event_uid"])),
            "event_by_id": (SQL["event_by_id"], (tenant, "evt-0")),
            "attempts": (SQL["attempts"], (tenant, delivery)),
        }
        found: dict[str, list[str]] = {}
        # As the service sees the tables: with row-level security.
        await conn.execute("set role customhouse_service")
        for name, (query, args) in asked.items():
            async with conn.transaction():
                await conn.execute("select set_config('app.tenant_id', $1, true)", tenant)
                plan = json.loads(await conn.fetchval(f"explain (format json) {query}", *args))
            found[name] = sorted(set(_sequential(plan)) & grown)
        return found


def _sequential(plan: Any) -> list[str]:
    if isinstance(plan, list):
        return [table for one in plan for table in _sequential(one)]
    if not isinstance(plan, dict):
        return []
    own = [str(plan["Relation Name"])] if plan.get("Node Type") == "Seq Scan" else []
    return own + [table for value in plan.values() for table in _sequential(value)]


def _cpu(cost: dict[str, float]) -> str:
    return f"{cost['service_cpu_us']:.0f} / {cost['postgres_cpu_us']:.0f} µs"


def view(result: dict[str, Any]) -> None:
    """Print it."""
    history = result["history"]
    report.show(
        f"growth: {history['attempts']:,} attempts of history ({history['database_gb']:.1f} GB) against none",
        [
            *(
                (side, ", ".join(f"{one:,.0f}" for one in result["delivered_per_second"][side]), f"{result['median'][side]:,.0f}")
                for side in _SIDES
            ),
            ("ratio", "", f"{result['ratio']:.3f}"),
            *((f"CPU, service / PostgreSQL: {side}", "", _cpu(result["cost"][side])) for side in _SIDES),
        ],
        ("delivered per second", "rounds", "median"),
    )
    report.show(
        "reading, milliseconds p50 / p99",
        [
            (name, *(f"{result['reading_ms'][side][name]['p50']:.1f} / {result['reading_ms'][side][name]['p99']:.1f}" for side in _SIDES))
            for name in result["reading_ms"]["history"]
        ],
        ("route", *_SIDES),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and report."""
    parser = report.parser(__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000, help="attempts of history, at least")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15.0, help="how long each round publishes")
    parser.add_argument("--asks", type=int, default=200, help="calls per route that reads")
    parser.add_argument("--processes", type=int, default=1, help="processes of the service")
    given: argparse.Namespace = parser.parse_args(arguments)

    def make(step: Step) -> Any:
        return growth(given.rows, given.rounds, given.seconds, given.asks, given.processes, step)

    return report.run(make, given, view)


if __name__ == "__main__":
    sys.exit(main())
