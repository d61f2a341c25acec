"""Nothing that was accepted is lost, whatever is killed: `python -m benchmarks.soak [--events N] [--rate N] [--json]`.

Events are published over HTTP at a steady rate, each under an Idempotency-Key that its repetitions share, while the service is killed
(SIGKILL, in turn at a failpoint and at a random time) and PostgreSQL too (immediate shutdown). A kill counts only with work in flight.
At the end three sides must agree: what was answered 202, what the receiver has verified, what the database holds. A delivery may
arrive twice only if it was leased to a process when that process, or PostgreSQL, was killed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx
from benchmarks import report
from benchmarks.report import RunFailed, Step
from benchmarks.stage import TOKEN, Stage, stage, until
from tests.receivers import Received, Recorder, recorder, status

from customhouse_receiver.errors import WebhookRejected
from customhouse_receiver.headers import HeaderNames
from customhouse_receiver.keys import Keyring
from customhouse_receiver.verify import Rules, check

PUBLISHERS: Final = 48
CONCURRENCY: Final = 32
MOST_HELD: Final = CONCURRENCY * 4
"""Deliveries that one process holds at most: those in flight, and those whose results are not flushed yet."""
FAILPOINTS: Final = ("accept.after_commit", "deliver.after_send", "record.before_commit")
_PASSAGES: Final = (1, 2, 3)
_RULES: Final = Rules(HeaderNames("X-Queast"), 300.0, 1024 * 1024)


@dataclass
class Arrivals:
    """The receiving side: verifies, counts, and takes a moment, so that work is in flight."""

    keyring: Keyring
    events: Counter[str] = field(default_factory=Counter)
    unverified: int = 0
    in_hand: int = 0
    """Requests that have no answer yet."""

    async def answer(self, request: Received) -> bytes:
        """Verify one request and count it."""
        try:
            check(request.headers, request.body, self.keyring, _RULES, now=time.time())
        except WebhookRejected:
            self.unverified += 1
            return status(401)
        self.events[json.loads(request.body)["idempotency_key"]] += 1
        self.in_hand += 1
        try:
            await asyncio.sleep(0.02)
        finally:
            self.in_hand -= 1
        return status(204)


@dataclass
class Publisher:
    """The publishing side: `total` events at `rate` a second; what is unsure is repeated under the same key until it is answered."""

    base: str
    total: int
    rate: float
    keys: dict[str, str] = field(default_factory=dict)
    """By idempotency key: the event id that was answered."""
    asking: int = 0
    repeated: int = 0
    differing: int = 0
    """Repetitions that were answered with another event id: there must be none."""
    refused: Counter[int] = field(default_factory=Counter)

    async def run(self) -> None:
        """Publish everything."""
        numbers = iter(range(self.total))
        due = time.monotonic()
        limits = httpx.Limits(max_connections=PUBLISHERS)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(base_url=self.base, trust_env=False, timeout=30, limits=limits, headers=headers) as client:

            async def work() -> None:
                nonlocal due
                for number in numbers:
                    # What an outage has held up is not made up for: the rate stays, so that every kill meets the same one.
                    due = max(due, time.monotonic()) + 1 / self.rate
                    await asyncio.sleep(due - time.monotonic())
                    await self._publish(client, number)

            await asyncio.gather(*(work() for _ in range(PUBLISHERS)))

    async def _publish(self, client: httpx.AsyncClient, number: int) -> None:
        key = f"soak-{number}"
        body = {"tenant_id": "soak", "event_type": "order.created", "data": {"order_id": f"o_{number}"}}
        while True:
            self.asking += 1
            try:
                answer = await client.post("/v1/events", json=body, headers={"Idempotency-Key": key})
            except httpx.TransportError:
                self.repeated += 1
                await asyncio.sleep(0.1)
                continue
            finally:
                self.asking -= 1
            if answer.status_code == httpx.codes.ACCEPTED:
                self.differing += self.keys.setdefault(key, answer.json()["event_id"]) != answer.json()["event_id"]
                return
            if answer.status_code not in {429, 503}:
                self.refused[answer.status_code] += 1
                return
            self.repeated += 1
            await asyncio.sleep(0.1)


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill, and what it struck."""

    what: str
    how: str
    asking: int
    """Requests without an answer."""
    undelivered: int
    """Events that were answered 202 and had not arrived."""
    leased: int
    """Deliveries leased to the service: in flight, or not flushed. Each may arrive once more."""

    @property
    def struck(self) -> bool:
        """Whether there was work in flight: otherwise the kill proves nothing."""
        return self.asking + self.undelivered + self.leased > 0


@dataclass
class Soak:
    """One run."""

    on: Stage
    publisher: Publisher
    arrivals: Arrivals
    dice: random.Random
    kills: list[Kill] = field(default_factory=list)

    @property
    def undelivered(self) -> int:
        """Events that were answered 202 and have not arrived."""
        return len(self.publisher.keys.keys() - self.arrivals.events.keys())

    async def work_in_flight(self) -> None:
        """Wait for it: a request and a delivery without an answer."""

        async def some() -> bool:
            return self.publisher.asking > 0 and self.arrivals.in_hand > 0

        await until(some, "no work in flight to kill", pause=0.002)

    async def leased(self) -> int:
        """Count the deliveries that belong to a process, dead or alive."""
        return int(await self.on.ask("select count(*) from delivery_queue where owner is not null"))

    async def kill_service(self, failpoint: str | None) -> None:
        """Kill it, look at what it held, start it again."""
        service = self.on.service
        if failpoint is not None:
            # It is stopped in order, comes up armed, and ends by itself at the passage.
            if code := await asyncio.to_thread(service.stop):
                raise RunFailed(f"the service ended with {code} when it was asked to stop")
            await service.start(CUSTOMHOUSE_FAILPOINTS=f"{failpoint}=kill:{self.dice.choice(_PASSAGES)}")
            code = await service.died()
            if code != -signal.SIGKILL:
                raise RunFailed(f"the service ended with {code} instead of being killed at {failpoint}")
        else:
            await self.work_in_flight()
            service.kill()
        self.kills.append(Kill("service", failpoint or "random time", self.publisher.asking, self.undelivered, leased=await self.leased()))
        await service.start()

    async def kill_postgres(self) -> None:
        """Shut it down immediately (SIGQUIT: no checkpoint, recovery from the log); its guard starts it again."""
        await self.work_in_flight()
        leased = await self.leased()
        pid, asking, undelivered = self.on.postmaster, self.publisher.asking, self.undelivered
        os.kill(pid, signal.SIGQUIT)
        self.kills.append(Kill("postgresql", "immediate", asking, undelivered, leased))

        async def back() -> bool:
            try:
                return self.on.postmaster != pid and bool(await self.on.ask("select true"))
            except (OSError, ValueError, IndexError, asyncpg.PostgresError, asyncpg.InterfaceError):
                return False

        await until(back, "PostgreSQL did not come back")

    async def run(self, service_kills: int, postgres_kills: int, step: Step) -> None:
        """Publish, and kill at random places of the run, evenly spread."""
        total = self.publisher.total
        publishing = asyncio.create_task(self.publisher.run())
        failpoints = cycle(FAILPOINTS)
        deeds = ["service"] * service_kills + ["postgresql"] * postgres_kills
        self.dice.shuffle(deeds)
        services = 0
        try:
            for place, deed in enumerate(deeds):
                share = total * 0.85 / len(deeds)
                wanted = int(share * (place + self.dice.uniform(0.2, 0.8)))
                while len(self.publisher.keys) < wanted:
                    if publishing.done():
                        await publishing
                        raise RunFailed("publishing ended before the kills")
                    step(self._words(), done=len(self.publisher.keys), total=total)
                    await asyncio.sleep(0.02)
                if deed == "service":
                    await self.kill_service(next(failpoints) if services % 2 == 0 else None)
                    services += 1
                else:
                    await self.kill_postgres()
            while not publishing.done():
                step(self._words(), done=len(self.publisher.keys), total=total)
                await asyncio.wait([publishing], timeout=0.2)
            await publishing
        finally:
            publishing.cancel()

        async def arrived() -> bool:
            step("waiting for the last deliveries", done=total - self.undelivered, total=total)
            return not self.undelivered and not await self.on.ask("select count(*) from delivery_queue")

        # Whatever does not arrive is counted by `result`.
        with suppress(RunFailed):
            await until(arrived, "the last deliveries", within=90.0)

    def _words(self) -> str:
        return f"publishing, {len(self.kills)} kills, {self.publisher.repeated} requests repeated"

    async def result(self, seconds: float) -> dict[str, Any]:
        """Count on three sides."""
        async with self.on.owner() as conn:
            in_database = {
                "events": await conn.fetchval("select count(*) from events"),
                "deliveries": await conn.fetchval("select count(*) from deliveries"),
                "delivered": await conn.fetchval("select count(distinct delivery_id) from attempts where outcome = 'delivered'"),
                "delivered_twice": await conn.fetchval(
                    "select count(*) from (select from attempts where outcome = 'delivered' group by delivery_id having count(*) > 1) twice"
                ),
                "queued": await conn.fetchval("select count(*) from delivery_queue"),
            }
        accepted, arrived = set(self.publisher.keys), self.arrivals.events
        bound = sum(max(one.leased, 1) if one.what == "service" else MOST_HELD for one in self.kills)
        duplicates = arrived.total() - len(arrived)
        agree = len(accepted) == len(arrived) == in_database["events"] == in_database["deliveries"] == in_database["delivered"]
        return {
            "run": "soak",
            "workload": {"events": self.publisher.total, "rate": self.publisher.rate, "concurrency": CONCURRENCY},
            "seconds": seconds,
            "accepted": len(accepted),
            "arrived": len(arrived),
            "in_database": in_database,
            "lost": len(accepted - arrived.keys()),
            "duplicates": duplicates,
            "most_duplicates_allowed": bound,
            "requests_repeated": self.publisher.repeated,
            "unverified": self.arrivals.unverified,
            "kills": [
                {"what": one.what, "how": one.how, "asking": one.asking, "undelivered": one.undelivered, "leased": one.leased}
                for one in self.kills
            ],
            **report.verdict(
                {
                    "every event was accepted in the end": len(accepted) == self.publisher.total and not self.publisher.refused,
                    "a repeated request was answered with the first event": self.publisher.differing == 0,
                    "nothing is lost": accepted == arrived.keys(),
                    "what was accepted, what arrived and what the database holds agree": agree,
                    "no delivery is recorded as delivered twice, none is left": not in_database["delivered_twice"] + in_database["queued"],
                    "every delivery could be verified": self.arrivals.unverified == 0,
                    "duplicates are within the bound": duplicates <= bound,
                    "no process held more than it may": all(one.leased <= MOST_HELD for one in self.kills),
                    "every kill struck work in flight": all(one.struck for one in self.kills),
                }
            ),
        }


@asynccontextmanager
async def set_up(directory: Path, events: int, rate: float, seed: int) -> AsyncIterator[Soak]:
    """Start everything: one tenant, one connection."""
    settings = {"WORKER_CONCURRENCY": str(CONCURRENCY), "CONNECTION_CONCURRENCY": str(CONCURRENCY)}
    async with recorder() as receiver, stage(directory, settings) as on:
        await on.tenant("soak")
        made = await on.connect("soak", receiver.url("/hook"))
        arrivals = Arrivals(Keyring({made.key_id: made.secret}))
        _answers(receiver, arrivals)
        yield Soak(on, Publisher(on.service.base, events, rate), arrivals, random.Random(seed))


def _answers(receiver: Recorder, arrivals: Arrivals) -> None:
    async def answer(request: Received) -> bytes:
        # Kept by key alone: twenty thousand bodies are not needed.
        receiver.received.clear()
        return await arrivals.answer(request)

    receiver.answer = answer


async def soak(events: int, rate: float, service_kills: int, postgres_kills: int, seed: int, step: Step) -> dict[str, Any]:
    """Run once, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="customhouse-soak-") as directory:
        async with set_up(Path(directory) / "data", events, rate, seed) as run:
            began = time.monotonic()
            await run.run(service_kills, postgres_kills, step)
            return {"seed": seed, **await run.result(time.monotonic() - began)}


def view(result: dict[str, Any]) -> None:
    """Print it."""
    report.show(
        f"soak: {result['workload']['events']:,} events at {result['workload']['rate']:,.0f}/s, {len(result['kills'])} kills",
        [
            (
                "accepted = arrived = in the database",
                f"{result['accepted']:,} = {result['arrived']:,} = {result['in_database']['delivered']:,}",
            ),
            ("lost", f"{result['lost']}"),
            ("duplicates (allowed)", f"{result['duplicates']} ({result['most_duplicates_allowed']})"),
            ("requests repeated", f"{result['requests_repeated']}"),
            ("seconds", f"{result['seconds']:.0f}"),
        ],
        ("figure", "value"),
    )
    report.show(
        "kills",
        [(one["what"], one["how"], str(one["asking"]), str(one["undelivered"]), str(one["leased"])) for one in result["kills"]],
        ("what", "how", "requests unanswered", "accepted, not arrived", "leased"),
    )


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = report.parser(__doc__)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=300.0, help="events per second")
    parser.add_argument("--service-kills", type=int, default=5)
    parser.add_argument("--postgres-kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="for the order and times of the kills")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and report."""
    given = options(arguments)

    def make(step: Step) -> Any:
        return soak(given.events, given.rate, given.service_kills, given.postgres_kills, given.seed, step)

    return report.run(make, given, view)


if __name__ == "__main__":
    sys.exit(main())
