"""Nothing that was accepted is lost, whatever is killed: real processes, SIGKILL, at failpoints with work in flight."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import asyncpg
import httpx
import pytest

from customhouse.embedded.cluster import Cluster, open_cluster
from customhouse.failpoints import NAMES
from tests.receivers import Received, Recorder, recorder, status
from tests.services import Service

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

TOKEN = "ck_kill-suite-0123456789abcdefghijklmnopqrstuvwxyz"
PUBLISHERS = 24
OURS = {"accept", "deliver", "record"}
"""Rooms whose failpoints an event passes on its way."""
CONCURRENCY = 32
MOST_HELD = CONCURRENCY * 4
"""Deliveries that one process holds at most: those in flight, and those whose results are not flushed yet."""


@dataclass
class Publisher:
    """Publishes numbered events until each one was answered 202; what is unsure is repeated under the same id."""

    service: Service
    total: int
    accepted: set[str] = field(default_factory=set)
    asking: int = 0
    repeated: int = 0
    refused: list[int] = field(default_factory=list)

    async def run(self) -> None:
        numbers = iter(range(self.total))
        limits = httpx.Limits(max_connections=PUBLISHERS)
        async with httpx.AsyncClient(base_url=self.service.base, trust_env=False, timeout=30, limits=limits) as client:
            await asyncio.gather(*(self._work(client, numbers) for _ in range(PUBLISHERS)))

    async def _work(self, client: httpx.AsyncClient, numbers: object) -> None:
        for number in numbers:  # type: ignore[attr-defined]
            event_id = f"kill-{number}"
            body = {"tenant_id": "acme", "event_type": "order.created", "event_id": event_id, "data": {"order_id": f"o_{number}"}}
            while event_id not in self.accepted:
                self.asking += 1
                try:
                    answer = await client.post("/v1/events", json=body, headers={"Authorization": f"Bearer {TOKEN}"})
                except httpx.TransportError:
                    self.repeated += 1
                    await asyncio.sleep(0.1)
                    continue
                finally:
                    self.asking -= 1
                if answer.status_code == httpx.codes.ACCEPTED:
                    self.accepted.add(event_id)
                elif answer.status_code in {429, 503}:
                    self.repeated += 1
                    await asyncio.sleep(0.1)
                else:
                    self.refused.append(answer.status_code)
                    return


@dataclass
class Scene:
    """Service, PostgreSQL and receiver, each a process or server that can end without the others."""

    service: Service
    cluster: Cluster
    receiver: Recorder

    def arrived(self) -> Counter[str]:
        """How often each event was received."""
        return Counter(json.loads(request.body)["event_id"] for request in self.receiver.received)

    async def all_arrive(self, wanted: set[str], within: float = 90.0) -> None:
        """Wait until every wanted event was received at least once."""
        async with asyncio.timeout(within):
            while missing := wanted - self.arrived().keys():
                await self.receiver.wait_for(len(self.receiver.received) + 1, within=within)
                del missing

    async def queue_is_empty(self, within: float = 30.0) -> None:
        """Wait until every delivery has ended in the database."""
        conn = await asyncpg.connect(self.cluster.dsn("owner"), server_settings={"search_path": "customhouse"})
        try:
            async with asyncio.timeout(within):
                while await conn.fetchval("select count(*) from delivery_queue"):
                    await asyncio.sleep(0.1)
            assert await conn.fetchval("select count(*) from deliveries") == await conn.fetchval("select count(*) from events")
            assert not await conn.fetchval(
                """select count(*) from deliveries d where 1 <> (
                     select count(*) from attempts a
                     where a.tenant_id = d.tenant_id and a.delivery_id = d.delivery_id and a.outcome = 'delivered')"""
            )
        finally:
            await conn.close()


@asynccontextmanager
async def scene(directory: Path) -> AsyncIterator[Scene]:
    """Set a scene with one tenant and one connection; the receiver takes a moment, so that work is in flight."""
    directory.mkdir(exist_ok=True)
    cluster = await asyncio.to_thread(open_cluster, directory / "postgres")
    service = Service(
        {
            "CUSTOMHOUSE_ENVIRONMENT": "dev",
            "CUSTOMHOUSE_DATA_DIR": str(directory),
            "CUSTOMHOUSE_PLATFORM_KEY": TOKEN,
            "CUSTOMHOUSE_EGRESS_ALLOW": "127.0.0.0/8",
            "CUSTOMHOUSE_WORKER_CONCURRENCY": str(CONCURRENCY),
            "CUSTOMHOUSE_CONNECTION_CONCURRENCY": str(CONCURRENCY),
        },
        directory,
    )
    try:
        async with recorder() as receiver:

            async def answer(_request: Received) -> bytes:
                await asyncio.sleep(0.02)
                return status(204)

            receiver.answer = answer
            await service.start()
            async with httpx.AsyncClient(base_url=service.base, trust_env=False, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
                (await client.post("/v1/tenants", json={"tenant_id": "acme", "name": "Acme"})).raise_for_status()
                wish = {"tenant_id": "acme", "provider": "webhook", "url": receiver.url("/hook")}
                (await client.post("/v1/connections", json=wish)).raise_for_status()
            assert service.stop() == 0
            yield Scene(service, cluster, receiver)
    finally:
        service.stop()
        await asyncio.to_thread(cluster.stop)


def postmaster(directory: Path) -> int:
    """Return the pid of the embedded server."""
    (pidfile,) = directory.rglob("postmaster.pid")
    return int(pidfile.read_text().splitlines()[0])


async def test_three_thousand_events_survive_two_kills_of_the_service_and_one_of_postgresql(tmp_path: Path) -> None:
    async with scene(tmp_path / "scene") as stage:
        publisher = Publisher(stage.service, 3000)
        hits = 0
        await stage.service.start(CUSTOMHOUSE_FAILPOINTS="accept.after_commit=kill:30")
        publishing = asyncio.create_task(publisher.run())
        for following in ({"CUSTOMHOUSE_FAILPOINTS": "deliver.after_send=kill:700"}, {}):
            assert await stage.service.died() == -signal.SIGKILL
            hits += bool(publisher.asking or publisher.accepted - stage.arrived().keys())
            await stage.service.start(**following)
        while len(publisher.accepted) < 2000:
            assert not publishing.done()
            await asyncio.sleep(0.01)
        unfinished = publisher.asking + len(publisher.accepted - stage.arrived().keys())
        os.kill(postmaster(tmp_path), signal.SIGKILL)
        hits += unfinished > 0
        async with asyncio.timeout(120):
            await publishing
        assert publisher.refused == []
        assert len(publisher.accepted) == 3000
        await stage.all_arrive(publisher.accepted)
        await stage.queue_is_empty()

        arrived = stage.arrived()
        assert hits == 3, "a kill without work in flight proves nothing"
        assert publisher.accepted == arrived.keys(), "lost, or never published"
        assert sum(arrived.values()) - len(arrived) <= MOST_HELD * 3
        assert publisher.repeated > 0
        repeats = sum(arrived.values()) - len(arrived)
        print(f"accepted {len(publisher.accepted)}, lost 0, duplicates {repeats}, requests repeated {publisher.repeated}")


def test_every_failpoint_has_a_suite_that_kills_there() -> None:
    # connect: test_connecting; disconnect: test_disconnecting; read: test_reading; refresh: benchmarks.refresh_torture, in the long runs;
    # rotate: test_key_rotation.
    assert {name.partition(".")[0] for name in NAMES} == OURS | {"connect", "disconnect", "read", "refresh", "rotate"}


@pytest.mark.parametrize(
    "name", sorted(name for name in NAMES - {"accept.after_commit", "deliver.after_send"} if name.partition(".")[0] in OURS)
)
async def test_a_kill_at_any_failpoint_loses_nothing(tmp_path: Path, name: str) -> None:
    async with scene(tmp_path / "scene") as stage:
        publisher = Publisher(stage.service, 300)
        await stage.service.start(CUSTOMHOUSE_FAILPOINTS=f"{name}=kill:3")
        publishing = asyncio.create_task(publisher.run())
        assert await stage.service.died() == -signal.SIGKILL
        assert publisher.asking or publisher.accepted - stage.arrived().keys(), "a kill without work in flight proves nothing"
        await stage.service.start()
        await publishing
        await stage.all_arrive(publisher.accepted)
        await stage.queue_is_empty()
        arrived = stage.arrived()
        assert publisher.accepted == arrived.keys() == {f"kill-{number}" for number in range(300)}
        assert sum(arrived.values()) - len(arrived) <= MOST_HELD


async def test_each_keys_events_arrive_in_order_through_kills_and_failures(tmp_path: Path) -> None:
    """Each number follows the 202 of the one before; the service is killed twice on the way, and every seventh request is refused."""
    keys, numbers = 12, 25
    async with scene(tmp_path / "scene") as stage:
        asked = count()

        async def answer(_request: Received) -> bytes:
            await asyncio.sleep(0.01)
            return status(503 if next(asked) % 7 == 3 else 204)

        stage.receiver.answer = answer
        accepted: set[tuple[str, int]] = set()
        repeated = 0

        async def publish_all(key: str) -> None:
            nonlocal repeated
            async with httpx.AsyncClient(base_url=stage.service.base, trust_env=False, timeout=30) as client:
                for n in range(numbers):
                    body = {
                        "tenant_id": "acme", "event_type": "order.created", "event_id": f"{key}-{n}", "ordering_key": key,
                        "data": {"key": key, "n": n},
                    }  # fmt: skip
                    while (key, n) not in accepted:
                        try:
                            reply = await client.post("/v1/events", json=body, headers={"Authorization": f"Bearer {TOKEN}"})
                        except httpx.TransportError:
                            reply = None
                        if reply is not None and reply.status_code == httpx.codes.ACCEPTED:
                            accepted.add((key, n))
                        else:
                            assert reply is None or reply.status_code in {429, 503}, reply.text
                            repeated += 1
                            await asyncio.sleep(0.1)

        def arrived() -> list[tuple[str, int]]:
            sent = (json.loads(request.body)["data"] for request in stage.receiver.received)
            return [(data["key"], data["n"]) for data in sent]

        quick = {"CUSTOMHOUSE_RETRY_SCHEDULE": ",".join(["1s"] * 20)}
        await stage.service.start(**quick, CUSTOMHOUSE_FAILPOINTS="deliver.after_send=kill:40")
        publishing = asyncio.gather(*(publish_all(f"key-{place}") for place in range(keys)))
        for following in ({"CUSTOMHOUSE_FAILPOINTS": "record.before_commit=kill:20"}, {}):
            assert await stage.service.died() == -signal.SIGKILL
            assert len(set(arrived())) < keys * numbers, "a kill without work in flight proves nothing"
            await stage.service.start(**quick, **following)
        async with asyncio.timeout(150):
            await publishing
            while len(set(arrived())) < keys * numbers:
                await stage.receiver.wait_for(len(stage.receiver.received) + 1, within=60)
        await stage.queue_is_empty(within=60)
        of_key: dict[str, list[int]] = {}
        for key, n in arrived():
            of_key.setdefault(key, []).append(n)
        # The head may come again, before the next and never after it: so what arrived is sorted, and nothing is left out.
        assert of_key == {key: sorted(came) for key, came in of_key.items()}
        assert {key: set(came) for key, came in of_key.items()} == {f"key-{place}": set(range(numbers)) for place in range(keys)}
        assert repeated > 0
