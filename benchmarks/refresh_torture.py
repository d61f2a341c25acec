"""One call per generation, whatever happens: `python -m benchmarks.refresh_torture [--processes 4] [--readers 100] [--rounds 3] [--json]`.

Several operating-system processes with many readers each want the same token at the same time, over PostgreSQL and the sandbox: while
the provider is quick, slower than the lease, or away; while answers are lost; while the process that asks is killed at each failpoint.
The provider's own list of calls is the witness. A reader of a token that is still valid must notice nothing of all this; one whose
token has ended gets the new one, or is told to come again; nobody is told to consent again unless it is true.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg
from benchmarks import report
from benchmarks.report import RunFailed, Step
from tests.connected import connect, settings_of
from tests.sandboxes import Sandbox, running
from tests.scenes import make_tenant, until

from customhouse import logs
from customhouse.app import App, Store, migrate_store
from customhouse.config import load
from customhouse.embedded.throwaway import throwaway_cluster
from customhouse.supervisor.member import Member
from customhouse.types import Secret, TenantId
from customhouse_sandbox.faults import FaultKind, Operation

TENANT: Final = TenantId("acme")
PROVIDERS: Final = ("zoom", "gmail")
FAILPOINTS: Final = ("refresh.after_claim", "refresh.after_call", "refresh.before_commit", "refresh.after_commit")
LEASE: Final = 5.0
"""Seconds, in all rounds: a process that was killed is taken over soon, and one that lives has to stand still for long to lose it."""
SLOW: Final = 8.0
"""Seconds of a provider that is slower than the lease."""
SCENES: Final = ("quick_and_slow", "away", "lost", "kills")
_MOVING: Final = 60.0
_ANSWER: Final = 120.0


@dataclass
class Worker:
    """One process with readers."""

    environ: dict[str, str]
    log: Path
    process: asyncio.subprocess.Process | None = None

    async def start(self, failpoints: str = "") -> None:
        """Start it, and wait until it is ready."""
        environ = {**self.environ, "CUSTOMHOUSE_FAILPOINTS": failpoints} if failpoints else self.environ
        command = (sys.executable, "-m", "benchmarks.refresh_worker")
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, limit=2**20
            )
        if "ready" not in await self.answer():
            raise RunFailed(f"a worker did not start: {self.log.read_text()[-2000:]}")

    def order(self, order: dict[str, Any]) -> None:
        """Give an order."""
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")

    async def answer(self) -> dict[str, Any]:
        """Return what came of the last order; `died` where the process did."""
        assert self.process is not None
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), _ANSWER)
        if not line:
            return {"died": await self.process.wait()}
        said: dict[str, Any] = json.loads(line)
        return said

    @property
    def runs(self) -> bool:
        """Whether it lives."""
        return self.process is not None and self.process.returncode is None

    async def stop(self) -> None:
        """End it."""
        if self.process is None or not self.runs:
            return
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), 40)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


@dataclass
class Torture:
    """The stage, and what has been seen so far."""

    app: App
    sandbox: Sandbox
    owner: asyncpg.Connection
    workers: list[Worker]
    readers: int
    brief: bool = False
    rounds: list[dict[str, Any]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    async def round(
        self,
        name: str,
        provider: str,
        connection_id: UUID,
        *,
        expired: bool,
        accepted: int | Sequence[int],
        moves: int | Sequence[int] = 1,
        allowed: Sequence[str] = (),
        seconds: float = 0.0,
        kill: str = "",
        status: Sequence[str] = ("active",),
        prepare: bool = True,
    ) -> Counter[str]:
        """Let all readers of all processes go at the same time, and check what came of it.

        Args:
            name: of the round.
            provider: whose tokens.
            connection_id: the connection.
            expired: the access token has ended; else it is near its end.
            accepted: how many calls the provider may have taken.
            moves: by how much the generation may have grown.
            allowed: codes that readers may get besides a token.
            seconds: for which each reader goes on reading.
            kill: a failpoint at which the first process dies.
            status: of the connection, afterwards.
            prepare: the token is set to its end, or near it.
        """
        before = await self._generation(connection_id)
        calls = len(self.sandbox.calls)
        if prepare:
            left = "- interval '1 second'" if expired else "+ interval '4 minutes'"
            await self.owner.execute(
                f"update integration_tokens set access_expires_at = now() {left}, issued_at = now() - interval '1 hour'"
                " where connection_id = $1",
                connection_id,
            )
        order = {"tenant": TENANT, "connection": str(connection_id), "readers": self.readers, "lease": LEASE, "seconds": seconds}
        answers = await self._killed(provider, order, kill) if kill else await self._all(order)
        outcomes: Counter[str] = Counter()
        for answer in answers:
            outcomes.update(answer.get("outcomes", {}))
        if moves == 1:
            # Nobody waits for the renewal of a token that is still valid.
            await until(partial(self._moved, connection_id, before), _MOVING)
        made = [call for call in self.sandbox.calls[calls:] if call.operation == Operation.REFRESH]
        taken = sum(call.status == 200 for call in made) + self._lost(made)
        moved = await self._generation(connection_id) - before
        found = await self.owner.fetchval("select status from connections where connection_id = $1", connection_id)
        said = {
            "round": name,
            "provider": provider,
            "readers": self.readers * len(self.workers),
            "reads": sum(outcomes.values()),
            "calls": len(made),
            "accepted": taken,
            "generations": moved,
            "outcomes": dict(outcomes),
            "status": found,
            "seconds": max((answer.get("seconds", 0.0) for answer in answers), default=0.0),
        }
        self.rounds.append(said)
        where = f"{name} ({provider})"
        self._check(taken in _several(accepted), f"{where}: {taken} calls were accepted, not {accepted}")
        self._check(moved in _several(moves), f"{where}: the generation grew by {moved}, not {moves}")
        self._check(found in status, f"{where}: the connection is {found}")
        strange = sorted(set(outcomes) - {"ok", *allowed})
        self._check(not strange, f"{where}: readers got {strange}")
        self._check(bool(outcomes), f"{where}: nobody read")
        return outcomes

    async def _all(self, order: dict[str, Any]) -> list[dict[str, Any]]:
        if not self.workers[0].runs:
            await self.workers[0].start()
        for worker in self.workers:
            worker.order(order)
        return list(await asyncio.gather(*(worker.answer() for worker in self.workers)))

    async def _killed(self, provider: str, order: dict[str, Any], failpoint: str) -> list[dict[str, Any]]:
        """Let the first process ask, and die over it, while the others wait for what it gets."""
        first, *others = self.workers
        await first.stop()
        await first.start(f"{failpoint}=kill:1")
        held = None
        if failpoint != "refresh.after_claim":
            held = self.sandbox.order(provider, FaultKind.HOLD, Operation.REFRESH)
        first.order(order)
        if held is not None:
            await self.sandbox.holding(held)
        died = {} if held is not None else await first.answer()
        for worker in others:
            worker.order(order)
        if held is not None:
            # Long enough for most of them to stand in line; that they do is not needed for anything.
            await asyncio.sleep(0.5)
            self.sandbox.release()
            died = await first.answer()
        answers = await asyncio.gather(*(worker.answer() for worker in others))
        self._check(died.get("died") == -9, f"{failpoint}: the process was not killed there")
        return list(answers)

    def _lost(self, made: Sequence[Any]) -> int:
        """Return how many calls took effect although their connection was cut."""
        return self._cut_after if any(call.status == 0 for call in made) else 0

    _cut_after: int = 0

    async def _moved(self, connection_id: UUID, before: int) -> bool:
        return await self._generation(connection_id) > before

    async def _generation(self, connection_id: UUID) -> int:
        return int(await self.owner.fetchval("select token_generation from integration_tokens where connection_id = $1", connection_id))

    def _check(self, holds: bool, words: str) -> None:
        if not holds:
            self.broken.append(words)

    async def _soon(self) -> None:
        """Let pauses be over."""
        await self.owner.execute("update token_refreshes set not_before = now()")

    # Scenes -------------------------------------------------------------------------------------------------------------

    async def quick_and_slow(self, provider: str, connection_id: UUID) -> None:
        """The provider takes 0.3 s, then longer than the lease; tokens have ended, or are near their end."""
        for seconds in (0.3, SLOW):
            for expired in (True, False):
                self.sandbox.order(provider, FaultKind.SLOW, Operation.REFRESH, times=None, seconds=seconds)
                name = f"{'ended' if expired else 'valid'}, provider takes {seconds} s"
                reading = 0.0 if expired else seconds + 1.5
                await self.round(name, provider, connection_id, expired=expired, accepted=1, seconds=reading)
                self.sandbox.clear()

    async def away(self, provider: str, connection_id: UUID) -> None:
        """The provider answers nothing but 503, then is back."""
        self.sandbox.order(provider, FaultKind.STATUS, Operation.REFRESH, times=None, status=503)
        await self.round("valid, provider away", provider, connection_id, expired=False, accepted=0, moves=0, seconds=2.0)
        await self._soon()
        come_again = ("token_unavailable",)
        await self.round("ended, provider away", provider, connection_id, expired=True, accepted=0, moves=0, allowed=come_again)
        self.sandbox.clear()
        await self._soon()
        await self.round("ended, provider back", provider, connection_id, expired=True, accepted=1)

    async def lost(self, provider: str, connection_id: UUID) -> None:
        """Answers are lost: before they had an effect, and after."""
        come_again = ("token_unavailable",)
        self.sandbox.order(provider, FaultKind.UNREACHED, Operation.REFRESH)
        # A reader who comes late, when the pause is over, asks once more.
        either = (0, 1)
        await self.round("ended, question lost", provider, connection_id, expired=True, accepted=either, moves=either, allowed=come_again)
        await self._soon()
        await self.round("ended, asked again", provider, connection_id, expired=True, accepted=1)
        if provider == "zoom":
            self.sandbox.set_fact("zoom", "spent_refresh_token", "tolerated")
        self._cut_after = 1
        self.sandbox.order(provider, FaultKind.LOST, Operation.REFRESH)
        await self.round("ended, answer lost", provider, connection_id, expired=True, accepted=(1, 2), moves=either, allowed=come_again)
        self._cut_after = 0
        await self._soon()
        await self.round("ended, asked again with the old token", provider, connection_id, expired=True, accepted=1)
        if provider != "zoom":
            return
        self.sandbox.set_fact("zoom", "spent_refresh_token", "refused")
        self._cut_after = 1
        self.sandbox.order(provider, FaultKind.LOST, Operation.REFRESH)
        given_up = ("active", "reauthorization_required")
        await self.round("valid, answer lost", provider, connection_id, expired=False, accepted=1, moves=0, seconds=1.0, status=given_up)
        self._cut_after = 0
        await self._soon()
        await self._given_up("ended, the old token is spent", provider, connection_id)

    async def kills(self, provider: str, connection_id: UUID) -> None:
        """The process that asks is killed at each failpoint, while the token is valid and when it has ended."""
        for failpoint in FAILPOINTS:
            held_by_the_dead = provider == "zoom" and failpoint in {"refresh.after_call", "refresh.before_commit"}
            stored = failpoint == "refresh.after_commit"
            asked = failpoint != "refresh.after_claim"
            for expired in (True,) if self.brief and failpoint != "refresh.after_call" else (False, True):
                name = f"{'ended' if expired else 'valid'}, killed at {failpoint}"
                if not expired:
                    # Whoever reads goes on; somebody else asks again when the lease of the dead one has run out.
                    again = 1 if stored else (int(asked), int(asked) + (0 if held_by_the_dead else 1))
                    await self.round(
                        name,
                        provider,
                        connection_id,
                        expired=False,
                        accepted=again,
                        moves=1 if stored else (0, 1),
                        seconds=1.5,
                        kill=failpoint,
                        status=("active", "reauthorization_required") if held_by_the_dead else ("active",),
                    )
                    if held_by_the_dead:
                        await self._given_up(f"{name}, then ended", provider, connection_id)
                    elif not stored:
                        # Some still wait to ask in the dead one's place; one of them does, and nobody when the next one is to be killed.
                        await self.round(f"{name}, then ended", provider, connection_id, expired=True, accepted=(1, 2), moves=(1, 2))
                elif held_by_the_dead:
                    await self._killed_for_good(name, provider, connection_id, failpoint)
                else:
                    await self.round(name, provider, connection_id, expired=True, accepted=2 if asked and not stored else 1, kill=failpoint)

    async def _killed_for_good(self, name: str, provider: str, connection_id: UUID, failpoint: str) -> None:
        """The only copy of a single-use token dies with its process: that is said as it is, and a new consent makes it good."""
        outcomes = await self.round(
            name,
            provider,
            connection_id,
            expired=True,
            accepted=1,
            moves=0,
            kill=failpoint,
            allowed=("reauthorization_required: refresh_reply_lost",),
            status=("reauthorization_required",),
        )
        self._check("ok" not in outcomes, f"{name}: somebody got a token that nobody has")
        await connect(self.app, TENANT, provider, renews=connection_id)

    async def _given_up(self, name: str, provider: str, connection_id: UUID) -> None:
        """The next one to show the spent token is refused; it is said as it is."""
        await self.owner.execute("update token_refreshes set lease_until = now() where holder is not null")
        await self.round(
            name,
            provider,
            connection_id,
            expired=True,
            accepted=0,
            moves=0,
            allowed=("reauthorization_required: refresh_reply_lost", "token_unavailable"),
            status=("reauthorization_required",),
        )
        await connect(self.app, TENANT, provider, renews=connection_id)


def _several(wanted: int | Sequence[int]) -> Sequence[int]:
    return (wanted,) if isinstance(wanted, int) else wanted


async def make(options: argparse.Namespace, step: Step) -> dict[str, Any]:
    """Set the stage, go through the scenes, and return what was seen."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cluster = stack.enter_context(throwaway_cluster())
        sandbox = await stack.enter_async_context(running())
        settings = {
            "CUSTOMHOUSE_ENVIRONMENT": "dev",
            "CUSTOMHOUSE_DATA_DIR": str(directory / "data"),
            "CUSTOMHOUSE_DATABASE_URL": cluster.dsn("app"),
            "CUSTOMHOUSE_DATABASE_POOL_SIZE": "5",
            **settings_of(sandbox, directory / "sandbox"),
        }
        loaded = load(settings)
        await migrate_store(Store(Secret(b""), cluster), loaded)
        app = await App.open(loaded, Store(Secret(cluster.dsn("app").encode())), member=Member("serve", jobs=False))
        stack.push_async_callback(app.stop)
        await app.start(first_key=False)
        await make_tenant(app, TENANT)
        owner = await asyncpg.connect(cluster.dsn("owner"), server_settings={"search_path": "customhouse"})
        stack.callback(owner.terminate)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CUSTOMHOUSE_")}
        workers = [Worker({**inherited, **settings}, directory / f"worker-{number}.log") for number in range(options.processes)]
        step("starting processes")
        await asyncio.gather(*(worker.start() for worker in workers))
        for worker in workers:
            stack.push_async_callback(worker.stop)
        torture = Torture(app, sandbox, owner, workers, options.readers, brief=options.brief)
        total = options.rounds * len(options.providers) * len(options.scenes)
        done = 0
        for provider in options.providers:
            connection_id = await connect(app, TENANT, provider)
            for _ in range(options.rounds):
                for scene in (torture.quick_and_slow, torture.away, torture.lost, torture.kills):
                    if scene.__name__ not in options.scenes:
                        continue
                    step(f"{provider}: {scene.__name__.replace('_', ' ')}", done=done, total=total)
                    await scene(provider, connection_id)
                    done += 1
        checks = {"one call per generation, no errors while a token is valid, no false call for a new consent": not torture.broken}
        said = report.verdict(checks)
        return {
            "workload": {
                "processes": options.processes,
                "readers": options.readers,
                "rounds": options.rounds,
                "lease": LEASE,
                "slow": SLOW,
            },
            "counts": {
                "rounds": len(torture.rounds),
                "reads": sum(one["reads"] for one in torture.rounds),
                "calls": sum(one["calls"] for one in torture.rounds),
                "generations": sum(one["generations"] for one in torture.rounds),
            },
            "rounds": torture.rounds,
            **said,
            "broken": torture.broken,
        }


def view(result: dict[str, Any]) -> None:
    """Print the rounds."""
    head = ("round", "provider", "reads", "calls", "accepted", "generations", "outcomes", "s")
    rows = [
        (
            one["round"],
            one["provider"],
            str(one["reads"]),
            str(one["calls"]),
            str(one["accepted"]),
            str(one["generations"]),
            ", ".join(f"{count} {words}" for words, count in one["outcomes"].items()),
            f"{one['seconds']:.1f}",
        )
        for one in result["rounds"]
    ]
    report.show("Refresh under torture", rows, head)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the exit code says whether everything held."""
    parser = report.parser(__doc__)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--readers", type=int, default=100, help="in each process")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--providers", nargs="+", choices=PROVIDERS, default=list(PROVIDERS))
    parser.add_argument("--scenes", nargs="+", choices=SCENES, default=list(SCENES))
    parser.add_argument("--brief", action="store_true", help="fewer kills while the token is valid")
    options = parser.parse_args(arguments)
    logs.configure("warning", stream=sys.stderr)
    return report.run(lambda step: make(options, step), options, view)


if __name__ == "__main__":
    sys.exit(main())
