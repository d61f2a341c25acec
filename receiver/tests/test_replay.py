"""Once, and only once; and a retry of what failed is let through."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from customhouse_receiver import Claim, ClaimState, Event, MemoryReplayCache, Reason, Receiver, ReplayCacheFull, WebhookRejected, testing

NOW = 1_795_339_800
PROFILES = ["queast-v1", "standard-webhooks"]


class Time:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


class Endpoint:
    """A receiver with a cache on one clock."""

    def __init__(self, *, cache: Any = None, **options: Any) -> None:
        self.time = Time()
        self.cache = MemoryReplayCache(clock=self.time) if cache is None else cache
        self.receiver = Receiver({"key_1": testing.SECRET}, replay=self.cache, clock=self.time, **options)

    def take(self, *, at: Optional[int] = None, profile: str = "queast-v1", **changes: Any) -> Event:
        body = testing.body(**changes)
        timestamp = int(self.time.now) if at is None else at
        event_id = changes.get("event_id", "evt_test")
        return self.receiver.verify(testing.headers(body, timestamp, profile=profile, event_id=event_id), body)


def refusal(call: Callable[[], object]) -> WebhookRejected:
    with pytest.raises(WebhookRejected) as refused:
        call()
    return refused.value


@pytest.mark.parametrize("profile", PROFILES)
def test_the_same_request_after_done_is_a_replay(profile: str) -> None:
    endpoint = Endpoint()
    endpoint.take(at=NOW, profile=profile).done()
    refused = refusal(lambda: endpoint.take(at=NOW, profile=profile))
    assert (refused.reason, refused.retryable) == (Reason.REPLAYED, False)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_fresh_signature_after_done_is_the_senders_retry_and_a_no_op(profile: str) -> None:
    endpoint = Endpoint()
    endpoint.take(at=NOW, profile=profile).done()
    again = endpoint.take(at=NOW + 1, profile=profile)
    assert again.duplicate
    again.done()
    again.release()
    assert endpoint.take(at=NOW + 2, profile=profile).duplicate


def test_a_replay_with_one_of_two_signatures_dropped_is_still_a_replay() -> None:
    second = "whsec_" + "A" * 43 + "="
    receiver = Receiver({"key_1": testing.SECRET, "key_2": second}, replay=MemoryReplayCache(), clock=lambda: NOW)
    body = testing.body()
    one, two = (testing.headers(body, NOW, profile="standard-webhooks", secret=secret) for secret in (testing.SECRET, second))
    both = {**one, "webhook-signature": f"{two['webhook-signature']} {one['webhook-signature']}"}
    receiver.verify(both, body).done()
    for fewer in (one, two):
        assert refusal(lambda headers=fewer: receiver.verify(headers, body)).reason is Reason.REPLAYED  # type: ignore[misc]


def test_while_somebody_works_on_it_the_sender_is_told_to_come_back() -> None:
    endpoint = Endpoint()
    endpoint.take()
    endpoint.time.now += 20
    refused = refusal(endpoint.take)
    assert (refused.reason, refused.http_status, refused.retryable, refused.retry_after) == (Reason.IN_PROGRESS, 409, True, 40)


def test_a_release_lets_the_retry_through() -> None:
    endpoint = Endpoint()
    endpoint.take().release()
    assert not endpoint.take().duplicate


def test_a_crash_costs_one_lease_and_no_event() -> None:
    endpoint = Endpoint()
    endpoint.take()
    endpoint.time.now += 60.5
    assert not endpoint.take().duplicate


def test_who_lost_the_lease_cannot_free_the_claim_of_the_next() -> None:
    endpoint = Endpoint()
    slow = endpoint.take()
    endpoint.time.now += 61
    endpoint.take()
    slow.release()
    assert refusal(endpoint.take).reason is Reason.IN_PROGRESS


def test_work_that_outlived_its_lease_still_counts_as_done() -> None:
    endpoint = Endpoint()
    slow = endpoint.take()
    endpoint.time.now += 61
    second = endpoint.take()
    slow.done()
    second.release()
    endpoint.time.now += 1
    assert endpoint.take().duplicate


def test_a_captured_request_is_known_as_long_as_it_is_fresh() -> None:
    endpoint = Endpoint(replay_ttl=600)
    endpoint.take(at=NOW + 300).done()
    endpoint.time.now = NOW + 600
    assert refusal(lambda: endpoint.take(at=NOW + 300)).reason is Reason.REPLAYED
    endpoint.time.now = NOW + 601
    assert refusal(lambda: endpoint.take(at=NOW + 300)).reason is Reason.TIMESTAMP_OUTSIDE_TOLERANCE


def test_a_retry_after_three_days_is_still_known_as_a_duplicate() -> None:
    endpoint = Endpoint()
    endpoint.take().done()
    endpoint.time.now += 72 * 3600
    assert endpoint.take().duplicate


def test_two_connections_may_use_the_same_event_id() -> None:
    """W4: replay keys belong to a connection."""
    endpoint = Endpoint()
    endpoint.take().done()
    assert not endpoint.take(integration={"connection_id": "con_other"}).duplicate


def test_a_with_block_settles_by_its_outcome() -> None:
    endpoint = Endpoint()
    with pytest.raises(ZeroDivisionError), endpoint.take():
        raise ZeroDivisionError
    with endpoint.take() as event:
        assert not event.duplicate
    endpoint.time.now += 1
    with endpoint.take() as again:
        assert again.duplicate


def test_a_release_inside_a_with_block_is_the_last_word() -> None:
    endpoint = Endpoint()
    with endpoint.take() as event:
        event.release()
    assert not endpoint.take().duplicate


class Broken:
    """A store that is away."""

    def __init__(self, *, failing: set[str]) -> None:
        self.failing = failing

    def claim(self, key: str, *, token: str, fingerprint: str, lease: float) -> Claim:
        self._reach("claim")
        return Claim(ClaimState.CLAIMED)

    def confirm(self, key: str, *, token: str, fingerprint: str, ttl: float, floor: float) -> None:
        self._reach("confirm")

    def release(self, key: str, *, token: str) -> None:
        self._reach("release")

    def _reach(self, name: str) -> None:
        if name in self.failing:
            raise ConnectionError("redis://user:password@host is away")


def test_without_the_cache_nothing_is_accepted_and_the_sender_may_try_again() -> None:
    refused = refusal(Endpoint(cache=Broken(failing={"claim"})).take)
    assert (refused.reason, refused.http_status, refused.retryable) == (Reason.REPLAY_UNAVAILABLE, 503, True)
    assert "password" not in str(refused)


def test_done_is_not_done_while_the_cache_is_away() -> None:
    event = Endpoint(cache=Broken(failing={"confirm"})).take()
    assert refusal(event.done).reason is Reason.REPLAY_UNAVAILABLE


def test_a_release_never_raises_because_the_lease_runs_out_anyway() -> None:
    event = Endpoint(cache=Broken(failing={"release"})).take()
    event.release()
    assert not event.duplicate


@pytest.mark.parametrize("answer", [None, True, "claimed?", Claim("whatever")], ids=str)  # type: ignore[arg-type]
def test_a_cache_that_answers_nonsense_lets_nothing_in(answer: Any) -> None:
    cache = Broken(failing=set())
    cache.claim = lambda *_, **__: answer  # type: ignore[method-assign]
    assert refusal(Endpoint(cache=cache).take).reason is Reason.REPLAY_UNAVAILABLE


def test_a_full_memory_refuses_rather_than_forget_what_is_still_fresh() -> None:
    time = Time()
    cache = MemoryReplayCache(2, clock=time)
    endpoint = Endpoint(cache=cache)
    endpoint.take(event_id="evt_1").done()
    endpoint.take(event_id="evt_2").done()
    endpoint.time.now = time.now = NOW + 600
    assert refusal(lambda: endpoint.take(event_id="evt_3")).reason is Reason.REPLAY_UNAVAILABLE
    time.now += 0.5  # neither can be replayed any more, though a late retry would still be known
    endpoint.take(event_id="evt_3").done()
    assert endpoint.take(event_id="evt_2").duplicate
    assert len(cache) == 2


def test_claims_that_lapsed_make_room() -> None:
    time = Time()
    cache = MemoryReplayCache(1, clock=time)
    endpoint = Endpoint(cache=cache)
    endpoint.take(event_id="evt_1")
    assert refusal(lambda: endpoint.take(event_id="evt_2")).reason is Reason.REPLAY_UNAVAILABLE
    time.now += 60.5
    assert not endpoint.take(event_id="evt_2").duplicate


def test_many_threads_claim_one_event_once() -> None:
    start = threading.Barrier(8)

    def take(endpoint: Endpoint) -> str:
        start.wait()
        try:
            endpoint.take()
        except WebhookRejected as rejected:
            return rejected.reason.value
        return "mine"

    with ThreadPoolExecutor(8) as pool:
        for _ in range(50):
            assert sorted(pool.map(take, [Endpoint()] * 8)) == ["in_progress"] * 7 + ["mine"]


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("claim"), st.sampled_from("ab"), st.sampled_from("12")),
        st.tuples(st.just("confirm"), st.sampled_from("ab"), st.sampled_from("12")),
        st.tuples(st.just("release"), st.sampled_from("ab"), st.sampled_from("12")),
        st.tuples(st.just("wait"), st.sampled_from([1, 30, 61, 601, 10_000]), st.none()),
    ),
    max_size=40,
)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(operations=OPERATIONS, size=st.integers(1, 3))
def test_whatever_happens_a_claim_is_exclusive_and_what_is_done_stays_done(operations: list[tuple[str, Any, Any]], size: int) -> None:
    time = Time()
    cache = MemoryReplayCache(size, clock=time)
    held: dict[str, tuple[str, float]] = {}
    done: dict[str, tuple[str, float]] = {}
    for name, key, who in operations:
        if name == "wait":
            time.now += key
        elif name == "claim":
            try:
                state = cache.claim(key, token=who, fingerprint=who, lease=60).state
            except ReplayCacheFull:
                continue
            if state is ClaimState.CLAIMED:
                assert key not in held or time.now > held[key][1]
                assert key not in done or time.now > done[key][1]
                held[key] = (who, time.now + 60)
            elif state is ClaimState.IN_PROGRESS:
                assert time.now <= held[key][1]
            else:
                assert (state is ClaimState.REPLAYED) == (done[key][0] == who)
        elif name == "confirm":
            cache.confirm(key, token=who, fingerprint=who, ttl=5_000, floor=600)
            held.pop(key, None)
            done[key] = (who, time.now + 600)
        else:
            cache.release(key, token=who)
            if held.get(key, ("", 0))[0] == who:
                del held[key]


def test_a_memory_without_room_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="at least one"):
        MemoryReplayCache(0)
