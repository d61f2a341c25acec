"""A bad endpoint hurts itself alone: `python -m benchmarks.isolation [--rounds N] [--rate N] [--json]`.

A hundred tenants with one connection each. In turn, all of them are well; or two are not: one endpoint accepts and never answers, one
sends its answer a byte a second, and both get more events than the others. They must hold no more attempts on the wire than a
connection may, and the other 98 must be served as if nothing were wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from benchmarks import report
from benchmarks.report import RunFailed, Step
from benchmarks.stage import Load, Stage, generate, plan_for, set_tenants, sink, stage

TENANTS: Final = 100
CAP: Final = 32
"""`CUSTOMHOUSE_CONNECTION_CONCURRENCY`, its default written out."""
CONCURRENCY: Final = 256
_MORE: Final = 5
"""So many times the events of a good tenant go to a bad one: its cap is reached soon."""
_SAMPLE: Final = 0.25
_P50_RATIO: Final = 1.2
_P99_MS: Final = 250.0
_DRIP: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100000\r\n\r\n"
_SIDES: Final = ("without", "with")


@dataclass
class BadEndpoint:
    """Accepts, reads and does not end its answer; counts the connections that are open at once."""

    drips: bool
    port: int = 0
    held: int = 0
    most_held: int = 0
    taken: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hold one connection until the other side gives up."""
        self.held += 1
        self.taken += 1
        self.most_held = max(self.most_held, self.held)
        dripping = asyncio.create_task(self._drip(writer)) if self.drips else None
        try:
            while await reader.read(65536):
                pass
        except ConnectionError:
            pass
        finally:
            self.held -= 1
            if dripping is not None:
                dripping.cancel()
            writer.close()

    async def _drip(self, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            for place in range(len(_DRIP)):
                writer.write(_DRIP[place : place + 1])
                await writer.drain()
                await asyncio.sleep(1)


@asynccontextmanager
async def bad_endpoint(*, drips: bool) -> AsyncIterator[BadEndpoint]:
    """Run one."""
    made = BadEndpoint(drips)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, backlog=1024)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


@dataclass
class Gauge:
    """The most attempts on the wire that `/metrics` has shown, and how often it was asked."""

    most: float = 0.0
    samples: int = 0

    async def watch(self, on: Stage) -> None:
        """Sample until cancelled."""
        while True:
            self.most = max(self.most, (await on.metrics())["customhouse_deliveries_in_flight"])
            self.samples += 1
            await asyncio.sleep(_SAMPLE)


async def measure(rate: float, seconds: float, processes: int, *, bad: bool) -> dict[str, Any]:
    """Run one round on a service of its own."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="customhouse-isolation-")))
        ends = [await stack.enter_async_context(bad_endpoint(drips=drips)) for drips in (False, True)] if bad else []
        into = await stack.enter_async_context(sink())
        caps = {"CONNECTION_CONCURRENCY": str(CAP), "WORKER_CONCURRENCY": str(CONCURRENCY)}
        on = await stack.enter_async_context(stage(directory / "data", caps, processes=processes))
        tenants = await set_tenants(on, into, TENANTS - 2)
        crowd = []
        for place, end in enumerate(ends):
            name = f"bad-{place}"
            await on.tenant(name)
            await on.connect(name, f"http://127.0.0.1:{end.port}/hook")
            crowd += [name] * _MORE
        warm = await generate(replace(plan_for(on, tenants, Load(2.0, rate)), seconds=2.0))
        await into.drained(warm["accepted"])
        await into.reset()
        before = await _good(on)
        gauge = Gauge()
        watching = asyncio.create_task(gauge.watch(on))
        everyone = tenants + crowd
        # The good ones get the same rate in both kinds of round.
        sent = await generate(plan_for(on, everyone, Load(seconds, rate * len(everyone) / len(tenants))))
        got = await into.drained(await _good(on) - before)
        expected = await _good(on) - before
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        if not got["distinct"]:
            raise RunFailed("nothing was delivered")
        # Attempts at the bad ones would take their whole time to end, and there is nothing more to learn from them.
        on.service.kill()
        return {
            "accepted": sent["accepted"],
            "expected": expected,
            "delivered": got["distinct"],
            "refused": got["refused"] + sent["failed"],
            "latency_ms": got["latency_ms"],
            "held": {"black hole": ends[0].most_held, "drip": ends[1].most_held} if bad else {},
            "attempts_taken": {"black hole": ends[0].taken, "drip": ends[1].taken} if bad else {},
            "most_in_flight": gauge.most,
            "samples": gauge.samples,
        }


async def _good(on: Stage) -> int:
    return int(await on.ask("select count(*) from deliveries where tenant_id like 'bench-%'"))


async def isolation(rate: float, seconds: float, rounds: int, processes: int, step: Step) -> dict[str, Any]:
    """Measure in turn, without and with the two bad endpoints."""
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in _SIDES}
    for number in range(rounds):
        for side in _SIDES if number % 2 == 0 else _SIDES[::-1]:
            step(f"round {number + 1} of {rounds}: {side} bad endpoints", done=number * 2 + (side != _SIDES[number % 2]), total=rounds * 2)
            found[side].append(await measure(rate, seconds, processes, bad=side == "with"))
    median = {
        side: {name: statistics.median(one["latency_ms"][name] for one in found[side]) for name in ("p50", "p99", "max")} for side in _SIDES
    }
    everything = [one for side in _SIDES for one in found[side]]
    held = [most for one in found["with"] for most in one["held"].values()]
    return {
        "run": "isolation",
        "workload": {
            "tenants": TENANTS,
            "rate": rate,
            "seconds": seconds,
            "rounds": rounds,
            "cap": CAP * processes,
            "concurrency": CONCURRENCY * processes,
        },
        "latency_ms": median,
        "p50_ratio": median["with"]["p50"] / median["without"]["p50"],
        "most_held": {name: max(one["held"][name] for one in found["with"]) for name in found["with"][0]["held"]},
        "rounds": found,
        **report.verdict(
            {
                "everything for the good endpoints is delivered": all(one["delivered"] == one["expected"] > 0 for one in everything),
                "nothing is refused": not any(one["refused"] for one in everything),
                "a bad endpoint never holds more attempts than its cap": bool(held) and max(held) <= CAP * processes,
                "the metrics never show more attempts on the wire than the service may have": all(
                    one["samples"] and one["most_in_flight"] <= CONCURRENCY * processes for one in everything
                ),
                "the bad endpoints were really tried": all(min(one["attempts_taken"].values()) > 1 for one in found["with"]),
                "the others' p50 is within 20 % of a run without": median["with"]["p50"] <= _P50_RATIO * median["without"]["p50"],
                "the others' p99 is under 250 ms": median["with"]["p99"] < _P99_MS,
            }
        ),
    }


def view(result: dict[str, Any]) -> None:
    """Print it."""
    report.show(
        f"isolation: {TENANTS - 2} good connections at {result['workload']['rate']:,.0f}/s, accept → delivered in milliseconds",
        [(side, *(f"{result['latency_ms'][side][name]:.1f}" for name in ("p50", "p99", "max"))) for side in _SIDES],
        ("bad endpoints", "p50", "p99", "max"),
    )
    held = ", ".join(f"{name} {most}" for name, most in result["most_held"].items())
    print(f"p50 ratio {result['p50_ratio']:.2f}; attempts held at most: {held} (cap {result['workload']['cap']})")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and report."""
    parser = report.parser(__doc__)
    parser.add_argument("--rate", type=float, default=300.0, help="events per second for the good ones")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each round publishes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=1, help="processes of the service; the cap counts for each")
    given: argparse.Namespace = parser.parse_args(arguments)

    def make(step: Step) -> Any:
        return isolation(given.rate, given.seconds, given.rounds, given.processes, step)

    return report.run(make, given, view)


if __name__ == "__main__":
    sys.exit(main())
