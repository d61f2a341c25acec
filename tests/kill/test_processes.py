"""Several processes of the service: one is killed, all are told to end, the parent is killed, and hands are lent by `work`."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests.commands import processes_of
from tests.kill.test_kill import TOKEN, Publisher, Scene, scene
from tests.receivers import Received, status
from tests.scenes import until
from tests.services import Service

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

BEARER = {"Authorization": f"Bearer {TOKEN}"}
TWO = {"CUSTOMHOUSE_PROCESSES": "2"}


@asynccontextmanager
async def caller(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    """Call a service, each time over a connection of its own, so that every process of it is asked."""
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=service.base, headers=BEARER, trust_env=False, timeout=30, limits=limits) as client:
        yield client


async def publish(client: httpx.AsyncClient, number: int) -> httpx.Response:
    return await client.post("/v1/events", json={"tenant_id": "acme", "event_type": "order.created", "data": {"order_id": f"o_{number}"}})


async def total(client: httpx.AsyncClient, sample: str) -> float:
    """Return a sample of `/metrics`, 0 where there is none yet."""
    text = (await client.get("/metrics")).text
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(sample))


def gated(gate: asyncio.Event) -> Callable[[Received], Awaitable[bytes]]:
    """Answer when the gate opens."""

    async def answer(_: Received) -> bytes:
        await gate.wait()
        return status(204)

    return answer


@asynccontextmanager
async def two_processes(directory: Path, **settings: str) -> AsyncIterator[Scene]:
    """Set the scene of the kill suite with two processes at work."""
    async with scene(directory) as stage:
        await stage.service.start(**TWO, **settings)
        await stage.service.logged('"all_ready"', stage.service.log.count('"all_ready"') or 1)
        yield stage


async def two_services(stack: AsyncExitStack, directory: Path) -> tuple[Scene, httpx.AsyncClient, httpx.AsyncClient]:
    """Set the scene with two services of one process each, as on two machines; returns a caller of each."""
    stage = await stack.enter_async_context(scene(directory / "scene"))
    other = Service(stage.service.environ, directory)
    stack.callback(other.stop)
    await stage.service.start()
    await other.start()
    here, there = [await stack.enter_async_context(caller(one)) for one in (stage.service, other)]
    return stage, here, there


async def test_one_of_two_that_is_killed_loses_nothing_and_is_replaced(tmp_path: Path) -> None:
    async with two_processes(tmp_path / "scene") as stage:
        publisher = Publisher(stage.service, 1500)
        publishing = asyncio.create_task(publisher.run())
        for hit, accepted in enumerate((300, 800), 1):
            while len(publisher.accepted) < accepted:
                assert not publishing.done()
                await asyncio.sleep(0.005)
            assert publisher.asking or publisher.accepted - stage.arrived().keys(), "a kill without work in flight proves nothing"
            # Once each of them: the first that was started, then the second.
            victim = stage.service.children()[0]
            victim.kill()
            await stage.service.logged('"process_died"', hit)
        async with asyncio.timeout(120):
            await publishing
        await stage.all_arrive(publisher.accepted)
        await stage.queue_is_empty()
        arrived = stage.arrived()
        assert publisher.refused == []
        assert publisher.accepted == arrived.keys() == {f"kill-{number}" for number in range(1500)}
        assert sum(arrived.values()) - len(arrived) <= 2 * 32 * 4
        await stage.service.logged('"process_ready"', 4)
        assert len(stage.service.children()) == 2
        async with caller(stage.service) as client:
            assert await total(client, "customhouse_processes_replaced_total ") == 2


async def test_sigterm_ends_all_after_the_deliveries_under_way(tmp_path: Path) -> None:
    async with two_processes(tmp_path / "scene") as stage:
        gate = asyncio.Event()
        stage.receiver.answer = gated(gate)
        async with caller(stage.service) as client:
            for number in range(8):
                assert (await publish(client, number)).status_code == 202
        await stage.receiver.wait_for(8)
        assert stage.service.process is not None
        members = stage.service.children()
        stage.service.process.send_signal(signal.SIGTERM)
        await stage.service.logged('"ending"', 3)
        gate.set()
        assert await stage.service.died() == 0
        assert psutil.wait_procs(members, timeout=10)[1] == []
        await stage.queue_is_empty()
        assert len(stage.receiver.received) == 8
        assert "process_killed" not in stage.service.log


async def test_with_the_parent_everything_ends_and_the_next_start_is_whole(tmp_path: Path) -> None:
    # The database is the service's own here: nobody else keeps it.
    data = tmp_path / "data"
    service = Service(
        {"CUSTOMHOUSE_ENVIRONMENT": "dev", "CUSTOMHOUSE_DATA_DIR": str(data), "CUSTOMHOUSE_PLATFORM_KEY": TOKEN, "TMPDIR": str(tmp_path)},
        tmp_path,
    )
    try:
        await service.start(**TWO)
        await service.logged('"all_ready"')
        members, servers = service.children(), processes_of(data)
        assert len(members) == 2
        assert servers
        service.kill()
        assert psutil.wait_procs([*members, *servers], timeout=90)[1] == []
        assert processes_of(data) == []
        # What the processes had counted together is gone as well.
        assert list(tmp_path.glob("customhouse-tallies-*")) == []
        await service.start(**TWO)
        await service.logged('"all_ready"', 2)
        async with caller(service) as client:
            assert (await client.get("/v1/audit", params={"tenant_id": "_platform"})).status_code == 200
    finally:
        service.stop()


async def test_work_takes_what_the_api_processes_have_no_room_for(tmp_path: Path) -> None:
    narrow = {"CUSTOMHOUSE_WORKER_CONCURRENCY": "4", "CUSTOMHOUSE_CONNECTION_CONCURRENCY": "4"}
    async with two_processes(tmp_path / "scene", **narrow) as stage:
        helper = Service(stage.service.environ | narrow, tmp_path, command="work")
        try:
            gate = asyncio.Event()
            stage.receiver.answer = gated(gate)
            async with caller(stage.service) as client, caller(helper) as other:
                for number in range(200):
                    assert (await publish(client, number)).status_code == 202
                # Both hold what they can; the rest waits in the database for more hands.
                await helper.start()
                assert (await other.get("/healthz")).json()["status"] == "ok"
                assert (await other.get("/v1/events/evt_1")).status_code == 404

                async def lends_hands() -> bool:
                    return await total(other, "customhouse_deliveries_in_flight ") == 4

                await until(lends_hands)
                gate.set()
                await stage.receiver.wait_for(200, within=60)
                await stage.queue_is_empty()
                delivered = 'customhouse_deliveries_total{outcome="delivered"}'

                async def all_counted() -> bool:
                    return await total(client, delivered) + await total(other, delivered) == 200

                await until(all_counted)
                assert await total(other, delivered) >= 4
        finally:
            assert helper.stop() == 0


async def test_a_pause_in_one_process_stops_the_other_within_a_second(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        stage, here, there = await two_services(stack, tmp_path)
        made = (await here.get("/v1/connections", params={"tenant_id": "acme"})).json()["data"][0]
        wish = {"tenant_id": "acme", "provider": "webhook", "url": stage.receiver.url("/witness")}
        assert (await here.post("/v1/connections", json=wish)).status_code == 201
        assert (await publish(there, 1)).status_code == 202
        await stage.receiver.wait_for(2)
        path = f"/v1/connections/{made['connection_id']}"
        loop = asyncio.get_running_loop()
        assert (await here.patch(path, params={"tenant_id": "acme"}, json={"paused": True})).status_code == 200
        end = loop.time() + 1.0
        # Published at the other all the while, so that it has every chance to act on what it remembers.
        while loop.time() < end:
            assert (await publish(there, 2)).status_code == 202
        late = [(await publish(there, 3)).json()["event_id"] for _ in range(50)]

        def at(hook: str) -> set[str]:
            return {json.loads(one.body)["event_id"] for one in stage.receiver.received if one.path == hook}

        async def witnessed() -> bool:
            return set(late) <= at("/witness")

        await until(witnessed)
        assert not set(late) & at("/hook")
        assert (await here.patch(path, params={"tenant_id": "acme"}, json={"paused": False})).status_code == 200

        async def caught_up() -> bool:
            return set(late) <= at("/hook")

        await until(caught_up, within=60)


async def test_the_same_idempotency_key_at_two_processes_at_once_makes_one_event(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        stage, here, there = await two_services(stack, tmp_path)
        for number in range(10):
            body = {"tenant_id": "acme", "event_type": "order.created", "idempotency_key": f"once-{number}", "data": {"order_id": "o_1"}}
            answers = await asyncio.gather(*(client.post("/v1/events", json=body) for client in (here, there) * 4))
            assert [answer.status_code for answer in answers] == [202] * 8
            assert len({answer.json()["event_id"] for answer in answers}) == 1
            assert sorted(answer.json()["duplicate"] for answer in answers) == [False] + [True] * 7
        await stage.receiver.wait_for(10)
        await stage.queue_is_empty()
        assert len(stage.receiver.received) == 10


async def test_replacing_all_of_them_under_load_loses_nothing(tmp_path: Path) -> None:
    async with two_processes(tmp_path / "scene") as stage:
        publisher = Publisher(stage.service, 100_000)
        publishing = asyncio.create_task(publisher.run())
        before = {one.pid for one in stage.service.children()}
        while not publisher.accepted:
            assert not publishing.done()
            await asyncio.sleep(0.005)
        assert stage.service.process is not None
        stage.service.process.send_signal(signal.SIGHUP)
        await stage.service.logged('"process_ready"', 4)

        async def replaced() -> bool:
            return len(stage.service.children()) == 2

        await until(replaced, within=60)
        assert not before & {one.pid for one in stage.service.children()}
        assert not publishing.done()
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
        await stage.all_arrive(publisher.accepted)
        await stage.queue_is_empty()
        assert publisher.refused == []
        assert "process_died" not in stage.service.log
