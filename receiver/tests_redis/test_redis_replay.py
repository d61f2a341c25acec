"""`RedisReplayCache` on a real server: the common behaviour, and what only a shared store can do or suffer. Run by `make test-redis`."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from receiver.tests.replay_behaviour import NOW, AsyncPlace, Endpoint, Place, ReplayBehaviour, SyncPlace, Time
from receiver.tests_redis.server import Server

from customhouse_receiver import ClaimState, Event, Reason, Receiver, WebhookRejected, testing
from customhouse_receiver.redis import RedisReplayCache, ReplayCacheForgets

KEY = "seen:con_test:evt_test"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def store(server: Server) -> Iterator[redis.Redis]:
    """A client of the test's own, and an empty database."""
    client = redis.Redis.from_url(server.url, decode_responses=True)
    client.flushdb()
    yield client
    client.close()


@pytest.fixture
def cache(server: Server, store: redis.Redis) -> Iterator[RedisReplayCache]:
    cache = RedisReplayCache(server.url)
    yield cache
    cache.close()


def advance(store: Any, seconds: float) -> None:
    """Let time pass in the server, by bringing every end nearer."""
    for key in store.scan_iter():
        store.pexpire(key, max(0, int(store.pttl(key) - seconds * 1000)))


class Shared(SyncPlace):
    """A place whose cache is in the server."""

    def __init__(self, cache: Any, time: Time, store: redis.Redis) -> None:
        super().__init__(cache, time)
        self.store = store

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        advance(self.store, seconds)

    def forget(self) -> None:
        self.store.flushdb()


class SharedAsync(AsyncPlace):
    """The same by the asynchronous door."""

    def __init__(self, cache: Any, time: Time, runner: asyncio.Runner, store: redis.Redis) -> None:
        super().__init__(cache, time, runner)
        self.store = store

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        advance(self.store, seconds)

    def forget(self) -> None:
        self.store.flushdb()


@pytest.fixture(params=["sync", "async"])
def place(request: pytest.FixtureRequest, cache: RedisReplayCache, store: redis.Redis) -> Iterator[Place]:
    if request.param == "sync":
        yield Shared(cache, Time(), store)
        return
    with asyncio.Runner() as runner:
        yield SharedAsync(cache, Time(), runner, store)
        runner.run(cache.aclose())


class TestRedis(ReplayBehaviour):
    """The suite on `RedisReplayCache`."""


def test_the_key_is_the_agreed_one_and_its_value_holds_nothing_of_the_event(place: Place, store: Any) -> None:
    endpoint = Endpoint(place)
    event = endpoint.take(data={"person": {"work_email": "ada@example.com"}})
    assert store.keys() == [KEY]
    assert store.get(KEY).startswith("c:")
    assert 0 < store.pttl(KEY) <= 60_001
    endpoint.done(event)
    assert store.get(KEY).startswith("d:v1=")
    assert 73 * 3600_000 - 10_000 < store.pttl(KEY) <= 73 * 3600_001
    assert "ada" not in store.get(KEY)


def test_many_processes_claim_one_event_once(server: Server, store: redis.Redis) -> None:
    # Each thread has a cache of its own, as each process would.
    caches = [RedisReplayCache(server.url) for _ in range(8)]
    start = threading.Barrier(8)

    def claim(cache: RedisReplayCache, number: int) -> str:
        start.wait()
        return cache.claim(f"seen:con:{number}", token=str(id(cache)), fingerprint="f", lease=60).state.value

    with ThreadPoolExecutor(8) as pool:
        for number in range(50):
            said = sorted(pool.map(claim, caches, [number] * 8))
            assert said == ["claimed"] + ["in_progress"] * 7
    for cache in caches:
        cache.close()


def test_many_tasks_claim_one_event_once(cache: RedisReplayCache) -> None:
    receiver = Receiver({"key_1": testing.SECRET}, replay=cache, clock=lambda: NOW)
    body = testing.body()

    async def race() -> list[object]:
        calls = (receiver.averify(testing.headers(body, NOW), body) for _ in range(100))
        results = await asyncio.gather(*calls, return_exceptions=True)
        await cache.aclose()
        return list(results)

    results = asyncio.run(race())
    assert [type(result) for result in results].count(Event) == 1
    assert {result.reason for result in results if isinstance(result, WebhookRejected)} == {Reason.IN_PROGRESS}


def test_what_one_door_claimed_the_other_settles(cache: RedisReplayCache, store: redis.Redis) -> None:
    assert cache.claim("k", token="t", fingerprint="f", lease=60).state is ClaimState.CLAIMED

    async def settle() -> None:
        assert (await cache.aclaim("k", token="other", fingerprint="f", lease=60)).state is ClaimState.IN_PROGRESS
        await cache.aconfirm("k", token="t", fingerprint="f", ttl=600, floor=600)
        await cache.aclose()

    asyncio.run(settle())
    assert cache.claim("k", token="third", fingerprint="f", lease=60).state is ClaimState.REPLAYED


def test_a_claim_whose_reply_was_lost_may_be_repeated(cache: RedisReplayCache, store: Any) -> None:
    assert cache.claim("k", token="t", fingerprint="f", lease=60).state is ClaimState.CLAIMED
    advance(store, 30)
    assert cache.claim("k", token="t", fingerprint="f", lease=60).state is ClaimState.CLAIMED
    assert store.pttl("k") > 50_000


def test_a_server_that_lost_its_scripts_is_given_them_again(cache: RedisReplayCache, store: redis.Redis) -> None:
    cache.claim("k", token="t", fingerprint="f", lease=60)
    store.script_flush()
    cache.release("k", token="t")
    store.script_flush()
    assert cache.claim("k", token="u", fingerprint="f", lease=60).state is ClaimState.CLAIMED


def test_a_value_that_somebody_else_wrote_lets_nothing_in_and_is_not_touched(place: Place, store: Any) -> None:
    store.set(KEY, "mine")
    assert Endpoint(place).refusal().reason is Reason.REPLAY_UNAVAILABLE
    assert store.get(KEY) == "mine"


def test_a_server_that_hangs_costs_the_time_out_and_then_nothing_is_accepted(server: Server, store: Any) -> None:
    cache = RedisReplayCache(server.url, timeout=0.2)
    place = Shared(cache, Time(), store)
    endpoint = Endpoint(place)
    endpoint.done(endpoint.take())
    store.client_pause(3_000, all=True)
    try:
        assert endpoint.refusal(event_id="evt_2").reason is Reason.REPLAY_UNAVAILABLE
    finally:
        store.client_unpause()
    place.advance(1)
    assert endpoint.take().duplicate
    cache.close()


@pytest.mark.parametrize("aio", [False, True])
def test_a_server_that_was_away_and_came_back_serves_the_next_request(tmp_path: Path, aio: bool) -> None:
    server = Server(tmp_path)
    server.start()
    cache = RedisReplayCache(server.url)
    with asyncio.Runner() as runner:
        place: Any = AsyncPlace(cache, Time(), runner) if aio else SyncPlace(cache, Time())
        try:
            endpoint = Endpoint(place)
            event = endpoint.take()
            server.stop()
            with pytest.raises(WebhookRejected) as refused:
                endpoint.done(event)
            assert (refused.value.reason, refused.value.http_status) == (Reason.REPLAY_UNAVAILABLE, 503)
            endpoint.release(event)
            assert endpoint.refusal().reason is Reason.REPLAY_UNAVAILABLE
            server.start()
            endpoint.done(endpoint.take())
            server.stop()
            server.start()  # the pooled connections are dead, and nobody has noticed
            assert not endpoint.take(event_id="evt_2").duplicate
            runner.run(cache.aclose())
        finally:
            server.stop()
            cache.close()


def test_a_server_that_may_drop_keys_is_refused_until_it_is_accepted(server: Server, store: Any) -> None:
    store.config_set("maxmemory", "100mb")
    store.config_set("maxmemory-policy", "allkeys-lru")
    cache = RedisReplayCache(server.url)
    accepting = RedisReplayCache(server.url, allow_eviction=True)
    try:
        assert Endpoint(Shared(cache, Time(), store)).refusal().reason is Reason.REPLAY_UNAVAILABLE
        with pytest.raises(ReplayCacheForgets, match="noeviction"):
            cache.ping()

        async def look() -> None:
            try:
                await cache.aping()
            finally:
                await cache.aclose()

        with pytest.raises(ReplayCacheForgets):
            asyncio.run(look())
        accepting.ping()
        assert not Endpoint(Shared(accepting, Time(), store)).take().duplicate
        store.config_set("maxmemory-policy", "noeviction")
        cache.ping()
    finally:
        store.config_set("maxmemory", "0")
        store.config_set("maxmemory-policy", "noeviction")
        cache.close()
        accepting.close()


def test_several_event_loops_share_one_cache(cache: RedisReplayCache) -> None:
    async def claim(token: str) -> ClaimState:
        state = (await cache.aclaim("k", token=token, fingerprint="f", lease=60)).state
        await cache.aclose()
        return state

    assert [asyncio.run(claim("a")), asyncio.run(claim("b"))] == [ClaimState.CLAIMED, ClaimState.IN_PROGRESS]
    gc.collect()
    assert len(cache._loops) == 0


def test_more_threads_than_connections_wait_for_their_turn(server: Server, store: redis.Redis) -> None:
    cache = RedisReplayCache(server.url, max_connections=2)

    def claim(number: int) -> ClaimState:
        return cache.claim(f"seen:con:{number}", token="t", fingerprint="f", lease=60).state

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(claim, range(200))) == {ClaimState.CLAIMED}
    cache.close()
