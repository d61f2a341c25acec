"""`connection list|disconnect|verify-receipt`: what an operator does in an incident, straight on the database."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from customhouse import ids
from customhouse.audit.log import Origin
from customhouse.canonical import dump, parse_object
from customhouse.cli.surroundings import AsJson, Dev, aside, opened, quiet_logs, say_json, settings
from customhouse.clock import rfc3339
from customhouse.connections.mass import DEFAULT_RATE, Found, Report, Selection
from customhouse.connections.receipts import SIGNED
from customhouse.crypto import statements
from customhouse.errors import Invalid
from customhouse.tenants.store import tenant_id_of
from customhouse.types import JsonObject

_BY_HAND: Final = Origin("operator", "cli")
_SHOWN: Final = 200
_LARGEST: Final = 65_536

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

Provider = Annotated[str | None, typer.Option("--provider", metavar="PROVIDER", help="Only this provider's, by its id.")]
Tenant = Annotated[str | None, typer.Option("--tenant", metavar="TENANT_ID", help="Only this tenant's.")]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="Only those with a consent since then: 2026-11-22, or RFC 3339 with an offset."),
]


@app.callback()
def _connection() -> None:
    """Connections with outside systems: which there are, and ending many of them in an incident."""


@app.command("list")
def list_connections(
    provider: Provider = None, tenant: Tenant = None, since: Since = None, dev: Dev = False, as_json: AsJson = False
) -> None:
    """List the connections that have not ended, of all tenants: what `disconnect` would end with the same options."""
    quiet_logs()
    found = asyncio.run(_found(_selection(provider, tenant, since), dev=dev))
    if as_json:
        say_json({"data": [_shown(one) for one in found]})
        return
    table = Table("tenant", "connection", "provider", "user", "mode", "status", "since")
    for one in found[:_SHOWN]:
        at = one.created_at.date().isoformat()
        shown = (Text(one.tenant), ids.show("con", one.connection_id), one.provider, Text(one.user_id or ""), one.mode, one.status, at)
        table.add_row(*shown)
    Console().print(table)
    more = f", of which the first {_SHOWN} are shown; --json shows all" if len(found) > _SHOWN else ""
    sys.stdout.write(f"{len(found)} connections{more}.\n")


@app.command("disconnect")
def disconnect_many(
    provider: Provider = None,
    tenant: Tenant = None,
    since: Since = None,
    everything: Annotated[bool, typer.Option("--all", help="Without any of the three: all connections of all tenants.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Without, only what would be done is shown.")] = False,
    rate: Annotated[float, typer.Option("--rate", min=0.1, max=1000, help="Revocations per second at one provider.")] = DEFAULT_RATE,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the providers, or leave them to the running service.")] = True,
    report: Annotated[Path | None, typer.Option("--report", metavar="FILE", help="Write the report as JSON, every receipt in it.")] = None,
    dev: Dev = False,
    as_json: AsJson = False,
) -> None:
    """End many connections: unusable here at once, then revoked at their providers within a budget.

    Without --yes nothing is done. It can be interrupted: what was ended stays so, the running service asks the providers, and the same
    command takes the rest. Exit code 1 if a connection could not be ended.
    """
    quiet_logs()
    selection = _selection(provider, tenant, since)
    if everything == (selection != Selection()):
        raise typer.BadParameter("narrow it by --provider, --tenant or --since, or say --all")
    if report is not None and report.exists():
        raise typer.BadParameter("this file is there already", param_hint="--report")
    if not yes:
        _preview(asyncio.run(_found(selection, dev=dev)), as_json=as_json)
        return
    made = asyncio.run(_ended(selection, rate=rate, wait=wait, dev=dev))
    document = made.document()
    if report is not None:
        report.write_text(_text(document), encoding="utf-8")
    if as_json:
        say_json(document)
    else:
        _say(made)
    if made.failed:
        raise typer.Exit(1)


@app.command("verify-receipt")
def verify_receipt(
    file: Annotated[Path, typer.Argument(help="A signed receipt: what GET …/receipt?format=signed answered.")],
    keys: Annotated[Path, typer.Option("--keys", metavar="FILE", help="What /.well-known/customhouse-keys.json answered.")],
    as_json: AsJson = False,
) -> None:
    """Check a signed receipt of a disconnect, without the service. Exit code 1 if it is not genuine."""
    statement = parse_object(statements.verify(_object(keys), SIGNED, _object(file)))
    if as_json:
        say_json({"genuine": True, "receipt": statement})
    else:
        sys.stdout.write(f"Genuine. {_text(statement)}")


def _object(path: Path) -> JsonObject:
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST + 1)
    except OSError as error:
        raise Invalid(f"{path} cannot be read ({error.strerror}).") from None
    if len(raw) > _LARGEST:
        raise Invalid(f"{path} is too long for what it should be.")
    return parse_object(raw)


def _selection(provider: str | None, tenant: str | None, since: str | None) -> Selection:
    moment = None
    if since is not None:
        try:
            moment = datetime.fromisoformat(since if "T" in since else f"{since}T00:00:00+00:00")
        except ValueError:
            raise typer.BadParameter("this is no time", param_hint="--since") from None
        if moment.tzinfo is None:
            raise typer.BadParameter("say the offset too, such as 2026-11-22T09:30:00Z", param_hint="--since")
    return Selection(provider, None if tenant is None else tenant_id_of(tenant), moment)


async def _found(selection: Selection, *, dev: bool) -> list[Found]:
    async with opened(settings(dev=dev)) as app:
        return [one async for one in app.mass_ending.find(selection)]


async def _ended(selection: Selection, *, rate: float, wait: bool, dev: bool) -> Report:
    async with opened(settings(dev=dev)) as app:
        expected = Counter([one.provider async for one in app.mass_ending.find(selection)])
        with _bars(expected, wait=wait) as (here, there):
            return await app.mass_ending.run(selection, _BY_HAND, rate=rate, wait=wait, on_cut=here, on_asked=there)


class _Bar:
    """Tells a progress bar per provider."""

    def __init__(self, progress: Progress, tasks: dict[str, TaskID]) -> None:
        self._progress = progress
        self._tasks = tasks

    def __call__(self, provider: str) -> None:
        if provider in self._tasks:
            self._progress.advance(self._tasks[provider])


@contextmanager
def _bars(expected: Counter[str], *, wait: bool) -> Iterator[tuple[_Bar, _Bar]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        here = {name: progress.add_task(f"{name}: ended here", total=count) for name, count in sorted(expected.items())}
        there = {name: progress.add_task(f"{name}: asked", total=count) for name, count in sorted(expected.items())} if wait else {}
        yield _Bar(progress, here), _Bar(progress, there)


def _preview(found: list[Found], *, as_json: bool) -> None:
    counts = Counter((one.provider, one.status) for one in found)
    tenants = len({one.tenant for one in found})
    if as_json:
        say_json({"done": False, "connections": len(found), "tenants": tenants, "data": [_shown(one) for one in found]})
        return
    table = Table("provider", "status", "connections")
    for (provider, status), count in sorted(counts.items()):
        table.add_row(provider, status, str(count))
    Console().print(table)
    sys.stdout.write(f"{len(found)} connections of {tenants} tenants would be ended. Nothing was done: --yes does it.\n")


def _say(made: Report) -> None:
    sys.stdout.write(f"{len(made.done)} connections ended ({ids.show('mop', made.operation_id)}). At the providers:\n")
    said = {
        "verified": "revoked, and seen to be",
        "revoked": "revoked, as the provider says",
        "pending": "not yet: the running service goes on asking",
        "shared": "left: other connections stand on the grant",
        "unsupported": "cannot be revoked from here; the receipts say what to do",
        "failed": "failed; the receipts say what to do",
    }
    sys.stdout.writelines(f"  {count:>6}  {said[status]}\n" for status, count in made.counts().items())
    if made.gone:
        sys.stdout.write(f"{made.gone} had ended by themselves.\n")
    if made.failed:
        aside(f"{len(made.failed)} could not be ended and work on: repeat the command.")


def _shown(one: Found) -> JsonObject:
    return {
        "tenant_id": one.tenant,
        "connection_id": ids.show("con", one.connection_id),
        "provider": one.provider,
        "user_id": one.user_id,
        "mode": one.mode,
        "status": one.status,
        "created_at": rfc3339(one.created_at),
    }


def _text(document: JsonObject) -> str:
    return dump(document).decode() + "\n"
