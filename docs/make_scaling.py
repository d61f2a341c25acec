"""Write the generated tables of `docs/explanation/scaling-out.md` from `benchmarks/results/*.json`; the text around them is kept."""

# ruff: noqa: INP001 - a script, run by path
from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = Path(__file__).parent / "explanation" / "scaling-out.md"
RESULTS = ROOT / "benchmarks" / "results"
END = "<!-- end -->"


def begin(name: str) -> str:
    """Return the line after which the table of a run stands."""
    return f"<!-- generated: `make schema` from benchmarks/results/{name}.json -->\n"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def where(result: dict[str, Any]) -> str:
    """Return a sentence about the machine of a run."""
    machine = result["machine"]
    return (
        f"\n{machine['date']}, {machine['cores']} cores ({machine['processor']}), Python {machine['python']}, load before the run "
        f"{machine['load_before']:.1f}.\n"
    )


def cost(result: dict[str, Any]) -> str:
    """Cost per delivery by load."""
    head = ("processes", "offered", "delivered/s", "p50 / p99", "statements", "events per accept", "CPU service", "CPU PostgreSQL", "RSS")
    rows = []
    for row in result["rows"]:
        offered = row["offered_per_second"]
        late = row["latency_ms"]
        rows.append(
            (
                str(row["processes"]),
                "as many as go" if offered is None else f"{offered:,.0f}/s",
                f"{row['delivered_per_second']:,.0f}",
                f"{late['p50']:.1f} / {late['p99']:.1f} ms",
                f"{row['statements']:.2f}",
                f"{row['events_per_accepting_transaction']:.1f}",
                f"{row['service_cpu_us']:.0f} µs",
                f"{row['postgres_cpu_us']:.0f} µs",
                f"{row['service_rss_mb']:.0f} MB",
            )
        )
    return table(head, rows) + where(result)


def growth(result: dict[str, Any]) -> str:
    """Rates and reading with a history and without."""
    history = result["history"]
    rows = [("delivered per second", *(f"{result['median'][side]:,.0f}" for side in ("none", "history")))]
    for name, key in (("CPU of the service per delivery", "service_cpu_us"), ("CPU of PostgreSQL per delivery", "postgres_cpu_us")):
        rows.append((name, *(f"{result['cost'][side][key]:.0f} µs" for side in ("none", "history"))))
    for route, figures in result["reading_ms"]["history"].items():
        other = result["reading_ms"]["none"][route]
        rows.append((f"reading: {route}, p50 / p99", *(f"{one['p50']:.1f} / {one['p99']:.1f} ms" for one in (other, figures))))
    size = f"{history['attempts']:,} attempts ({history['database_gb']:.1f} GB)"
    return table(("", "no history", size), rows) + where(result)


def isolation(result: dict[str, Any]) -> str:
    """The good connections without and with the bad ones."""
    rows = [
        (f"{side} the two bad endpoints", *(f"{result['latency_ms'][side][name]:.1f} ms" for name in ("p50", "p99", "max")))
        for side in ("without", "with")
    ]
    held = ", ".join(f"{name} {most}" for name, most in result["most_held"].items())
    return table(("the other 98 connections", "p50", "p99", "slowest"), rows) + f"\nAttempts held at most: {held}.\n" + where(result)


def soak(result: dict[str, Any]) -> str:
    """What the kills left."""
    rows = [
        ("kills", f"{len(result['kills'])}"),
        (
            "accepted = arrived = in the database",
            f"{result['accepted']:,} = {result['arrived']:,} = {result['in_database']['delivered']:,}",
        ),
        ("lost", f"{result['lost']}"),
        ("arrived twice (bound)", f"{result['duplicates']} ({result['most_duplicates_allowed']})"),
        ("requests that the caller had to repeat", f"{result['requests_repeated']:,}"),
    ]
    return table(("", "events"), rows) + where(result)


def token_reads(result: dict[str, Any]) -> str:
    """Cost per read of an access token, by how many are asked for at a time."""
    head = (
        "at a time",
        "reads/s",
        "p50 / p99",
        "statements",
        "entries per commit",
        "CPU service",
        "CPU PostgreSQL",
        "CPU generator",
        "RSS",
    )
    rows = [
        (
            str(row["concurrency"]),
            f"{row['reads_per_second']:,.0f}",
            f"{row['latency_ms']['p50']:.1f} / {row['latency_ms']['p99']:.1f} ms",
            f"{row['statements']:.2f}",
            f"{row['entries_per_commit']:.1f}",
            f"{row['service_cpu_us']:.0f} µs",
            f"{row['postgres_cpu_us']:.0f} µs",
            f"{row['generator_cpu_us']:.0f} µs",
            f"{row['service_rss_mb']:.0f} MB",
        )
        for row in result["rows"]
    ]
    return table(head, rows) + where(result)


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "cost": cost,
    "growth": growth,
    "isolation": isolation,
    "soak": soak,
    "token_reads": token_reads,
}


def filled(page: str) -> str:
    """Return the page with its tables as the results have them; where there is none, it says how to make one."""
    for name, make in TABLES.items():
        path = RESULTS / f"{name}.json"
        text = f"No run is kept here: `python -m benchmarks.{name} --output benchmarks/results/{name}.json`, then `make schema`.\n"
        if path.exists():
            text = make(json.loads(path.read_text(encoding="utf-8")))
        head, mark, rest = page.partition(begin(name))
        if not mark:
            raise SystemExit(f"{PAGE.name} has no place for {name}")
        page = f"{head}{mark}\n{text}\n{END}{rest.partition(END)[2]}"
    return page


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{PAGE.name} written\n")
