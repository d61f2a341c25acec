"""`keys status|rotate`: which keys there are, and their replacement while everything runs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from customhouse import ids
from customhouse.app import App
from customhouse.cli.keys_shown import Pace, picture
from customhouse.cli.keys_shown import as_json as inventory_as_json
from customhouse.cli.surroundings import AsJson, Dev, aside, opened, quiet_logs, say_json, settings
from customhouse.clock import Clock, rfc3339
from customhouse.config.values import duration
from customhouse.errors import NotFound
from customhouse.tenants.store import tenant_id_of
from customhouse.types import Json, TenantId
from customhouse.vault.rotating import Rotating
from customhouse.vault.steps import Kind, Outlook, Rotation, Step

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

_LONGEST: Final = timedelta(days=3650)
_PATIENCE: Final = 3
_PAUSE: Final = 1.0

Tenant = Annotated[str | None, typer.Option("--tenant", metavar="TENANT_ID", help="The keys of this tenant only.")]
Older = Annotated[str | None, typer.Option("--older-than", metavar="AGE", help="Such as 90d: keys that are older than this.")]


@app.callback()
def _keys() -> None:
    """Keys: what there is under the root key, and its replacement while everything runs."""


@app.command("status")
def show_keys(tenant: Tenant = None, older_than: Older = None, dev: Dev = False, as_json: AsJson = False) -> None:
    """Show the keys, their ages, what is under way, and what still needs a key that was replaced.

    Opens no key. Due is what is older than --older-than (365d), and what another root key wrapped.
    """
    quiet_logs()
    age = _age(older_than) or timedelta(days=365)
    whose = None if tenant is None else tenant_id_of(tenant)

    async def work() -> None:
        async with opened(settings(dev=dev)) as service:
            await _must_exist(service, whose)
            found = await service.counting.count(whose, age)
            outlook = await service.rotating.outlook(whose)
            now = service.clock.now()
        if as_json:
            say_json(inventory_as_json(found, outlook, age))
        else:
            sys.stdout.write(picture(found, outlook, age, now))

    asyncio.run(work())


@app.command("rotate")
def rotate_keys(
    tenant: Tenant = None,
    kind: Annotated[Kind, typer.Option("--kind", help="Which keys.")] = Kind.ALL,
    older_than: Older = None,
    rate: Annotated[int | None, typer.Option("--rate", min=1, help="Keys a second, at most.")] = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Make the new keys and leave; the running service lets them take over and ends the old ones.")
    ] = False,
    dev: Dev = False,
    as_json: AsJson = False,
) -> None:
    """Replace keys while everything runs.

    A new key takes over when every process knows it, and the old one ends when nothing needs it any more: each takes KMS_CACHE_TTL and
    two minutes. Whatever interrupts it, the same command goes on, and so does the running service. Exit code 1 where something does
    not open; its key is kept.
    """
    quiet_logs()
    age = _age(older_than) or timedelta()
    whose = None if tenant is None else tenant_id_of(tenant)

    async def work() -> int:
        async with opened(settings(dev=dev)) as service:
            await _must_exist(service, whose)
            run = Run(service.rotating, service.clock, whose, Pace(rate))
            rotation = await service.rotating.begin(kind, whose, service.clock.now() - age)
            if rotation.resumed:
                aside(f"Going on with the rotation that was begun at {rfc3339(rotation.started_at)}.")
            async with progress(Console(stderr=True), shown=not as_json) as bars:
                await run.make(rotation, bars)
                outlook = await run.wait(bars, patient=not no_wait)
        run.report(rotation, outlook, as_json=as_json)
        return int(Step.UNREADABLE in run.counts)

    raise typer.Exit(asyncio.run(work()))


class Run:
    """One call of `rotate`."""

    def __init__(self, rotating: Rotating, clock: Clock, tenant: TenantId | None, pace: Pace) -> None:
        """Take what rotates, the time, whose keys, and how fast."""
        self._rotating = rotating
        self._clock = clock
        self._tenant = tenant
        self._pace = pace
        self.counts: dict[Step, int] = {}

    async def make(self, rotation: Rotation, bars: Progress | None) -> None:
        """Give every key that is due its successor."""
        due = 0 if bars is None else await self._rotating.count_due(rotation)
        bar = None if bars is None else bars.add_task("making new keys", total=due)
        await self._rotating.make(rotation, self._teller(bars, {Step.MADE: bar}))

    async def wait(self, bars: Progress | None, *, patient: bool) -> Outlook:
        """Do what can be done until nothing is left, or nothing moves; return what is left."""
        takeover = ended = None
        idle = 0
        while True:
            outlook = await self._rotating.outlook(self._tenant)
            if bars is not None and outlook.waiting and takeover is None:
                takeover = bars.add_task("taking over", total=outlook.waiting)
            if bars is not None and takeover is not None and not outlook.waiting and ended is None:
                ended = bars.add_task("sealing anew, ending the old keys", total=outlook.replaced)
            before = self._moved()
            await self._rotating.advance(self._tenant, self._teller(bars, {Step.TAKEN_OVER: takeover, Step.ENDED: ended}))
            outlook = await self._rotating.outlook(self._tenant)
            idle = 0 if self._moved() > before else idle + 1
            if outlook.due_at is None and (not outlook.overdue or idle >= _PATIENCE):
                return outlook
            if not patient:
                return outlook
            await self._until(outlook.due_at, bars)

    def _moved(self) -> int:
        # What does not open is counted each time that it is met: it moves nothing.
        return sum(count for step, count in self.counts.items() if step is not Step.UNREADABLE)

    async def _until(self, moment: datetime | None, bars: Progress | None) -> None:
        """Wait for a moment; for a little while where there is none."""
        if moment is None:
            await asyncio.sleep(_PAUSE)
            return
        left = (moment - self._clock.now()).total_seconds()
        bar = None
        if bars is not None and left > _PAUSE:
            bar = bars.add_task(f"until {moment:%H:%M:%S} UTC, when every process knows", total=round(left))
        while (rest := (moment - self._clock.now()).total_seconds()) > 0:
            await asyncio.sleep(min(rest, _PAUSE))
            if bars is not None and bar is not None:
                bars.update(bar, completed=round(left - rest))
        if bars is not None and bar is not None:
            bars.remove_task(bar)

    def _teller(self, bars: Progress | None, steps: dict[Step, TaskID | None]) -> Teller:
        return Teller(self.counts, self._pace, bars, steps)

    def report(self, rotation: Rotation, outlook: Outlook, *, as_json: bool) -> None:
        """Say what was done and what is left."""
        if as_json:
            counts: dict[str, Json] = {step.value: self.counts.get(step, 0) for step in Step}
            say_json(
                {
                    "rotation_id": ids.show("rot", rotation.rotation_id),
                    "kind": rotation.kind.value,
                    "tenant_id": rotation.tenant,
                    "cutoff": rfc3339(rotation.cutoff),
                    "resumed": rotation.resumed,
                    **counts,
                    "waiting": outlook.waiting,
                    "replaced": outlook.replaced,
                    "due_at": None if outlook.due_at is None else rfc3339(outlook.due_at),
                }
            )
            return
        done = [f"{count} {step.value.replace('_', ' ')}" for step, count in self.counts.items()]
        sys.stdout.write(f"{', '.join(done) or 'Nothing was due'}.\n")
        if outlook.waiting or (outlook.replaced and outlook.due_at is not None):
            sys.stdout.write(
                f"{outlook.waiting} wait to take over, {outlook.replaced} to end: the running service goes on, or this command does.\n"
            )
        elif outlook.replaced:
            sys.stdout.write(
                f"{outlook.replaced} replaced are still needed (`customhouse keys status` says by what), and end after that.\n"
            )
        if Step.UNREADABLE in self.counts:
            aside("Something does not open; the log names it, and its key is kept.")


class Teller:
    """Counts, shows and paces."""

    def __init__(self, counts: dict[Step, int], pace: Pace, bars: Progress | None, steps: dict[Step, TaskID | None]) -> None:
        """Take where to count, how fast to go, and which bar shows which step."""
        self._counts = counts
        self._pace = pace
        self._bars = bars
        self._steps = steps

    async def __call__(self, step: Step, count: int) -> None:
        """Hear of a batch."""
        self._counts[step] = self._counts.get(step, 0) + count
        bar = self._steps.get(step)
        if self._bars is not None and bar is not None:
            self._bars.advance(bar, count)
        await self._pace.after(count)


@asynccontextmanager
async def progress(console: Console, *, shown: bool) -> AsyncIterator[Progress | None]:
    """Show bars, where there is a terminal and somebody wants to see them."""
    if not shown or not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bars:
        yield bars


async def _must_exist(service: App, tenant: TenantId | None) -> None:
    if tenant is not None and not await service.rotating.knows(tenant):
        raise NotFound(f"There is no tenant {tenant} that has a key.")


def _age(text: str | None) -> timedelta | None:
    if text is None:
        return None
    try:
        return duration(_LONGEST)(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--older-than") from None
