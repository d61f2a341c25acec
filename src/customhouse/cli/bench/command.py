"""The command: rounds, a table, JSON."""

from __future__ import annotations

import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.status import Status
from rich.table import Table

from customhouse.canonical import dump
from customhouse.cli.bench import plot
from customhouse.cli.bench.plot import Samples
from customhouse.cli.bench.run import Measurement, Workload, measure
from customhouse.supervisor.cores import default_processes


def bench(
    seconds: Annotated[float, typer.Option(min=1, max=600, help="How long to publish, per round.")] = 10.0,
    connections: Annotated[int, typer.Option(min=1, max=1024, help="Connections of the generator.")] = 64,
    tenants: Annotated[int, typer.Option(min=1, max=1000, help="Tenants, with one connection each.")] = 1,
    body_bytes: Annotated[int, typer.Option("--bytes", min=300, max=100_000, help="Size of one publish request.")] = 1024,
    rounds: Annotated[int, typer.Option(min=1, max=20, help="Rounds; the medians are reported.")] = 1,
    rate: Annotated[float | None, typer.Option(min=1, help="Events per second, at most (default: as many as go).")] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, max=64, help="Processes of the service (default: as `serve` has them).", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    output: Annotated[Path | None, typer.Option(help="Also write the JSON to this file.")] = None,
    plot_to: Annotated[Path | None, typer.Option("--plot", help="Draw the last round's latencies into this .svg or .png file.")] = None,
) -> None:
    """Measure deliveries per second on this machine, with every guard on."""
    console = Console(stderr=True)
    workload = Workload(seconds, connections, tenants, body_bytes, rate, processes or default_processes())
    results = []
    samples: list[Samples] = []
    if plot_to is not None:
        plot.usable(plot_to)
    for number in range(1, rounds + 1):
        with console.status(f"round {number} of {rounds}") as status:

            def progress(text: str, number: int = number, status: Status = status) -> None:
                status.update(f"round {number} of {rounds}: {text}")

            results.append(measure(workload, progress, samples.append))
    summary = summarise(results)
    text = dump(summary).decode()
    if output is not None:
        output.write_text(text + "\n", encoding="utf-8")
    if as_json:
        print(text)
    else:
        Console().print(table(summary))
    if plot_to is not None:
        plot.save(plot.draw(samples[-1], plot_title(workload)), plot_to)
    if not all(result.holds for result in results):
        console.print("[red]The counts do not agree: see accepted, delivered and in the database above.[/red]")
        raise typer.Exit(1)


def plot_title(load: Workload) -> str:
    """Return the line under the plot's heading."""
    offered = "as many events as go" if load.rate is None else f"{load.rate:,.0f} events/s"
    return f"{offered} for {load.seconds:.0f} s · {load.tenants} tenant(s) · {load.body_bytes:,} bytes · every guard on"


def summarise(results: list[Measurement]) -> dict[str, Any]:
    """Return the median of each figure over the rounds, and the rounds."""
    rounds = [asdict(result) | {"holds": result.holds} for result in results]

    def median(values: list[Any]) -> Any:
        if isinstance(values[0], dict):
            return {name: median([value[name] for value in values]) for name in values[0] if all(name in value for value in values)}
        return statistics.median(values)

    skipped = {"workload", "holds"}
    medians = {name: median([one[name] for one in rounds]) for name in rounds[0] if name not in skipped}
    return {"workload": rounds[0]["workload"], "median": medians, "holds": all(one["holds"] for one in rounds), "rounds": rounds}


def table(summary: dict[str, Any]) -> Table:
    """Return the medians as a table."""
    median, load = summary["median"], summary["workload"]
    title = (
        f"{load['processes']} process(es), {load['tenants']} tenant(s), {load['connections']} connections, {load['body_bytes']} bytes, "
        f"{load['seconds']:.0f} s"
    )
    shown = Table(title=title, title_justify="left")
    shown.add_column("figure")
    shown.add_column("median of rounds", justify="right")
    late = median["accept_to_delivered_ms"]
    for name, value in (
        ("accepted per second", f"{median['accepted_per_second']:,.0f}"),
        ("delivered and verified per second", f"{median['delivered_per_second']:,.0f}"),
        ("accept (HTTP) p50 / p99", f"{median['accept_ms'].get('p50', 0):.1f} / {median['accept_ms'].get('p99', 0):.1f} ms"),
        ("accept → delivered p50 / p99", f"{late.get('p50', 0):.1f} / {late.get('p99', 0):.1f} ms"),
        (
            "accepted = delivered = in the database",
            f"{median['accepted']:,.0f} = {median['delivered']:,.0f} = {median['in_database']:,.0f}",
        ),
        ("duplicates, refused, busy", f"{median['duplicates']:.0f}, {median['refused']:.0f}, {median['busy']:.0f}"),
        ("CPU per delivery, service / PostgreSQL", f"{median['service_cpu_us']:.0f} / {median['postgres_cpu_us']:.0f} µs"),
        ("resident memory of the service, all processes", f"{median['service_rss_mb']:.0f} MB"),
        ("the same, shared pages counted once", f"{median['service_pss_mb']:.0f} MB"),
    ):
        shown.add_row(name, value)
    return shown
