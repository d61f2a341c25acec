"""Rotation under load without an unverifiable delivery: `python -m benchmarks.rotation [--rate N] [--overlap N] [--json]`.

Six connections, three in each signature profile, get every event while their signing keys turn: next, active, previous, destroyed. Of
each three, one receiver knows the old secret alone, one the new one alone, one both, and each refuses what it cannot verify. Which
requests those are is exact to the second: none, for whoever knows both.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from benchmarks import report
from benchmarks.report import RunFailed, Step
from benchmarks.stage import Load, Stage, generate, plan_for, stage, until
from tests.receivers import Received, recorder, status

from customhouse.ids import show
from customhouse_receiver.errors import WebhookRejected
from customhouse_receiver.headers import HeaderNames
from customhouse_receiver.keys import Keyring
from customhouse_receiver.verify import Rules, check

PROFILES: Final = ("queast-v1", "standard-webhooks")
KNOWING: Final = ("old", "new", "both")
_TENANT: Final = "rotation"
_RULES: Final = Rules(HeaderNames("X-Queast"), 300.0, 1024 * 1024)
_POLL: Final = 0.1


@dataclass
class Endpoint:
    """One receiver: what it knows, and each request that it got, by the second that was signed."""

    profile: str
    knows: str
    connection_id: str
    keyring: Keyring
    accepted: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    requests: int = 0
    refusals: int = 0
    events: set[str] = field(default_factory=set)
    """Those that were verified."""

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.profile}, knows {self.knows}"

    def take(self, request: Received) -> bytes:
        """Verify a request, and refuse it if it cannot be."""
        second = int(request.headers.get("webhook-timestamp") or request.headers["x-queast-timestamp"])
        self.requests += 1
        try:
            check(request.headers, request.body, self.keyring, _RULES, now=time.time())
        except WebhookRejected:
            self.refusals += 1
            self.refused.add(second)
            return status(401)
        self.accepted.add(second)
        self.events.add(json.loads(request.body)["event_id"])
        return status(204)


@dataclass(frozen=True, slots=True)
class Turn:
    """The two moments of a rotation, in unix seconds."""

    begins: int
    ends: int

    def may_sign(self, endpoint: Endpoint, second: int) -> bool:
        """Whether what is signed in that second must verify at this endpoint."""
        if endpoint.knows == "both":
            return True
        if endpoint.knows == "new":
            return second >= self.begins
        # The one profile carries the active key's signature alone, the other also that of the previous one.
        return second < (self.begins if endpoint.profile == "queast-v1" else self.ends)


async def set_up(on: Stage, url: str, begins: datetime, overlap: int) -> tuple[dict[str, Endpoint], Turn]:
    """Make the connections and rotate them all to begin at the same second; return the receivers by path."""
    await on.tenant(_TENANT)
    ends: dict[str, Endpoint] = {}
    turns = set()
    for profile in PROFILES:
        for knows in KNOWING:
            path = f"/{profile}/{knows}"
            made = await on.connect(_TENANT, url + path, signature_profile=profile)
            wish = {"activate_at": begins.isoformat(), "overlap_seconds": overlap}
            turned = await on.api("POST", f"/v1/connections/{made.connection_id}/secrets/rotate?tenant_id={_TENANT}", wish)
            old, new = {made.key_id: made.secret}, {turned["key_id"]: turned["secret"]}
            known = {"old": old, "new": new, "both": old | new}[knows]
            ends[path] = Endpoint(profile, knows, made.connection_id, Keyring(known))
            turns.add(Turn(*(int(datetime.fromisoformat(turned[name]).timestamp()) for name in ("activates_at", "previous_valid_until"))))
    if len(turns) != 1:
        raise RunFailed("the connections turn at different seconds")
    return ends, turns.pop()


async def watch(on: Stage, connection_id: str, seen: dict[str, list[str]]) -> None:
    """Write down the states of a connection's keys as the API shows them, until cancelled."""
    while True:
        shown = await on.api("GET", f"/v1/connections/{connection_id}?tenant_id={_TENANT}")
        for key in shown["signing_keys"]:
            states = seen.setdefault(key["key_id"], [])
            if states[-1:] != [key["state"]]:
                states.append(key["state"])
        await asyncio.sleep(_POLL)


async def rotation(rate: float, lead: float, overlap: int, step: Step) -> dict[str, Any]:
    """Run once."""
    schedule = ",".join(["1s"] * 20)
    with tempfile.TemporaryDirectory(prefix="customhouse-rotation-") as directory:
        async with recorder() as receiver, stage(Path(directory) / "data", {"RETRY_SCHEDULE": schedule}) as on:
            step("making six connections")
            # The connections are made before the first key turns, however slow the machine.
            ends, turn = await set_up(on, receiver.url(""), datetime.now(UTC) + timedelta(seconds=lead), overlap)

            def take(request: Received) -> bytes:
                receiver.received.clear()
                return ends[request.path].take(request)

            receiver.answer = take
            states: dict[str, list[str]] = {}
            watching = asyncio.create_task(watch(on, next(iter(ends.values())).connection_id, states))
            seconds = turn.ends - time.time() + 1.5
            step(f"publishing for {seconds:.0f} s while the keys turn")
            sent = await generate(plan_for(on, [_TENANT], Load(seconds, rate, connections=16)))
            ids = await published(on)

            async def arrived() -> bool:
                step("waiting for the last deliveries")
                return all(end.events == ids for end in ends.values() if end.knows != "old")

            # What does not arrive is reported below.
            with suppress(RunFailed):
                await until(arrived, "the last deliveries", within=40.0)
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            # The deliveries that nobody will ever verify would be tried on.
            on.service.kill()
    return _result(rate, overlap, turn, ends, states, ids, sent)


async def published(on: Stage) -> set[str]:
    """Return the ids of all events."""
    async with on.owner() as conn:
        return {show("evt", row["event_uid"]) for row in await conn.fetch("select event_uid from events")}


def _result(
    rate: float, overlap: int, turn: Turn, ends: dict[str, Endpoint], states: dict[str, list[str]], ids: set[str], sent: dict[str, Any]
) -> dict[str, Any]:
    everyone = list(ends.values())
    seconds = {second for end in everyone for second in end.accepted | end.refused}
    if not seconds:
        raise RunFailed("no delivery has arrived")
    spanned = min(seconds) < turn.begins <= turn.ends <= max(seconds) and any(turn.begins <= one < turn.ends for one in seconds)
    exact = all(
        all(turn.may_sign(end, second) for second in end.accepted) and not any(turn.may_sign(end, second) for second in end.refused)
        for end in everyone
    )
    return {
        "run": "rotation",
        "workload": {"rate": rate, "overlap_seconds": overlap, "connections": len(ends)},
        "events": len(ids),
        "receivers": {
            end.name: {"requests": end.requests, "refused": end.refusals, "verified_events": len(end.events)} for end in everyone
        },
        "unverifiable": sum(turn.may_sign(end, second) for end in everyone for second in end.refused),
        "states": sorted(states.values()),
        **report.verdict(
            {
                "the load spanned the rotation": spanned,
                "everything that was sent was accepted": sent["accepted"] == len(ids) > 0 and not sent["failed"],
                "who knows both secrets refused nothing": not any(end.refusals for end in everyone if end.knows == "both"),
                "each receiver refused exactly what it could not verify": exact,
                "who knows the new secret has every event in the end": all(end.events == ids for end in everyone if end.knows != "old"),
                "who knows the old secret alone was refused something in the end": all(
                    end.refusals for end in everyone if end.knows == "old"
                ),
                "the keys were next, active, previous, destroyed in turn": sorted(states.values())
                == [["active", "previous", "destroyed"], ["next", "active"]],
            }
        ),
    }


def view(result: dict[str, Any]) -> None:
    """Print it."""
    report.show(
        f"rotation under load: {result['events']:,} events, overlap {result['workload']['overlap_seconds']} s",
        [(name, *(f"{one[key]:,}" for key in ("requests", "refused", "verified_events"))) for name, one in result["receivers"].items()],
        ("receiver", "requests", "refused", "events verified"),
    )
    print(f"refused although it should verify: {result['unverifiable']}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and report."""
    parser = report.parser(__doc__)
    parser.add_argument("--rate", type=float, default=100.0, help="events per second, six deliveries each")
    parser.add_argument("--lead", type=float, default=8.0, help="seconds until the next key begins to sign")
    parser.add_argument("--overlap", type=int, default=8, help="seconds for which the previous key stays valid")
    given: argparse.Namespace = parser.parse_args(arguments)

    def make(step: Step) -> Any:
        return rotation(given.rate, given.lead, given.overlap, step)

    return report.run(make, given, view)


if __name__ == "__main__":
    sys.exit(main())
