"""The memory of one process keeps to what every replay cache does; without a server, Redis lets nothing in."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
from receiver.tests.replay_behaviour import NOW, AsyncPlace, Place, ReplayBehaviour, SyncPlace, Time

from customhouse_receiver import MemoryReplayCache, Reason, Receiver, WebhookRejected, testing
from customhouse_receiver.redis import RedisReplayCache


@pytest.fixture(params=["sync", "async"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    time = Time()
    cache = MemoryReplayCache(clock=time)
    if request.param == "sync":
        yield SyncPlace(cache, time)
        return
    with asyncio.Runner() as runner:
        yield AsyncPlace(cache, time, runner)


class TestMemory(ReplayBehaviour):
    """The suite on `MemoryReplayCache`."""


@pytest.fixture
def away() -> Iterator[str]:
    """The address of a server that is not there."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can come, and whoever dials is refused
        yield f"redis://someone:a-password@127.0.0.1:{held.getsockname()[1]}/0"


def test_without_redis_nothing_is_accepted_and_the_sender_may_try_again(away: str) -> None:
    cache = RedisReplayCache(away)
    receiver = Receiver({"key_1": testing.SECRET}, replay=cache, clock=lambda: NOW)
    body = testing.body()
    headers = testing.headers(body, NOW)
    with pytest.raises(WebhookRejected) as refused:
        receiver.verify(headers, body)
    assert (refused.value.reason, refused.value.http_status, refused.value.retryable) == (Reason.REPLAY_UNAVAILABLE, 503, True)
    with pytest.raises(WebhookRejected) as refused:
        asyncio.run(receiver.averify(headers, body))
    assert (refused.value.reason, refused.value.retry_after) == (Reason.REPLAY_UNAVAILABLE, 5)
    assert "a-password" not in f"{refused.value} {cache!r}"


@pytest.mark.parametrize("url", ["", "127.0.0.1:6379", "http://127.0.0.1", "redis"])
def test_an_address_that_is_none_of_redis_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(ValueError, match="begins with redis://"):
        RedisReplayCache(url)


@pytest.mark.parametrize("options", [{"timeout": 0}, {"timeout": float("inf")}, {"timeout": float("nan")}, {"max_connections": 0}], ids=str)
def test_numbers_with_which_a_call_never_ends_are_refused_at_the_start(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="positive"):
        RedisReplayCache("redis://127.0.0.1", **options)  # type: ignore[arg-type]
