"""What every replay cache does, whatever it stores in: one suite, run on each of them by a subclass of `ReplayBehaviour`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Optional, Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from customhouse_receiver import Claim, Event, MemoryReplayCache, Reason, Receiver, WebhookRejected, testing

NOW = 1_795_339_800


class Time:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


class Place(Protocol):
    """A cache and its time; the tests' own doors to it are synchronous."""

    cache: Any
    time: Time

    def advance(self, seconds: float) -> None:
        """Let this time pass, for the receiver and for the cache."""

    def run(self, call: Callable[[], Any]) -> Any:
        """Return the result of the call; awaited where it is a coroutine."""

    def claim(self, key: str, token: str, fingerprint: str) -> Claim:
        """Claim for 60 seconds."""

    def confirm(self, key: str, token: str, fingerprint: str) -> None:
        """Confirm for 5,000 seconds."""

    def release(self, key: str, token: str) -> None:
        """Release."""

    def forget(self) -> None:
        """Begin anew."""


class SyncPlace:
    """A cache by its synchronous door."""

    def __init__(self, cache: Any, time: Time) -> None:
        self.cache = cache
        self.time = time

    def advance(self, seconds: float) -> None:
        self.time.now += seconds

    def run(self, call: Callable[[], Any]) -> Any:
        return call()

    def claim(self, key: str, token: str, fingerprint: str) -> Claim:
        claim: Claim = self.cache.claim(key, token=token, fingerprint=fingerprint, lease=60)
        return claim

    def confirm(self, key: str, token: str, fingerprint: str) -> None:
        self.cache.confirm(key, token=token, fingerprint=fingerprint, ttl=5_000, floor=600)

    def release(self, key: str, token: str) -> None:
        self.cache.release(key, token=token)

    def forget(self) -> None:
        self.cache = MemoryReplayCache(clock=self.time)


class AsyncPlace(SyncPlace):
    """The same by its asynchronous door, on one loop."""

    def __init__(self, cache: Any, time: Time, runner: asyncio.Runner) -> None:
        super().__init__(cache, time)
        self.runner = runner

    def run(self, call: Callable[[], Any]) -> Any:
        return self.runner.run(call())

    def claim(self, key: str, token: str, fingerprint: str) -> Claim:
        claim: Claim = self.run(lambda: self.cache.aclaim(key, token=token, fingerprint=fingerprint, lease=60))
        return claim

    def confirm(self, key: str, token: str, fingerprint: str) -> None:
        self.run(lambda: self.cache.aconfirm(key, token=token, fingerprint=fingerprint, ttl=5_000, floor=600))

    def release(self, key: str, token: str) -> None:
        self.run(lambda: self.cache.arelease(key, token=token))


class Endpoint:
    """A receiver with the cache of a place, by the door of that place."""

    def __init__(self, place: Place, **options: Any) -> None:
        self.place = place
        self.receiver = Receiver({"key_1": testing.SECRET}, replay=place.cache, clock=place.time, **options)
        self.aio = isinstance(place, AsyncPlace)

    def take(self, *, at: Optional[int] = None, **changes: Any) -> Event:
        body = testing.body(**changes)
        headers = testing.headers(body, int(self.place.time.now) if at is None else at)
        verify: Any = self.receiver.averify if self.aio else self.receiver.verify
        event: Event = self.place.run(lambda: verify(headers, body))
        return event

    def done(self, event: Event) -> None:
        self.place.run(event.adone if self.aio else event.done)

    def release(self, event: Event) -> None:
        self.place.run(event.arelease if self.aio else event.release)

    def refusal(self, **options: Any) -> WebhookRejected:
        with pytest.raises(WebhookRejected) as refused:
            self.take(**options)
        return refused.value


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["claim", "confirm", "release"]), st.sampled_from("ab"), st.sampled_from("123")),
        st.tuples(st.just("wait"), st.sampled_from([1, 30, 62, 602, 10_000]), st.none()),
    ),
    max_size=25,
)


class ReplayBehaviour:
    """Subclass it with a fixture `place`."""

    def test_the_same_request_after_done_is_a_replay(self, place: Place) -> None:
        endpoint = Endpoint(place)
        endpoint.done(endpoint.take(at=NOW))
        refused = endpoint.refusal(at=NOW)
        assert (refused.reason, refused.http_status, refused.retryable) == (Reason.REPLAYED, 401, False)

    def test_a_fresh_signature_after_done_is_the_senders_retry_and_a_no_op(self, place: Place) -> None:
        endpoint = Endpoint(place)
        endpoint.done(endpoint.take(at=NOW))
        again = endpoint.take(at=NOW + 1)
        assert again.duplicate
        endpoint.done(again)
        endpoint.release(again)
        assert endpoint.take(at=NOW + 2).duplicate

    def test_while_somebody_works_on_it_the_sender_is_told_to_come_back(self, place: Place) -> None:
        endpoint = Endpoint(place)
        endpoint.take()
        place.advance(20)
        refused = endpoint.refusal()
        assert (refused.reason, refused.http_status, refused.retryable) == (Reason.IN_PROGRESS, 409, True)
        assert refused.retry_after in {39, 40, 41}

    def test_a_release_lets_the_retry_through(self, place: Place) -> None:
        endpoint = Endpoint(place)
        endpoint.release(endpoint.take())
        assert not endpoint.take().duplicate

    def test_a_crash_costs_one_lease_and_no_event(self, place: Place) -> None:
        endpoint = Endpoint(place)
        endpoint.take()
        place.advance(61)
        assert not endpoint.take().duplicate

    def test_who_lost_the_lease_cannot_free_the_claim_of_the_next(self, place: Place) -> None:
        endpoint = Endpoint(place)
        slow = endpoint.take()
        place.advance(61)
        endpoint.take()
        endpoint.release(slow)
        assert endpoint.refusal().reason is Reason.IN_PROGRESS

    def test_work_that_outlived_its_lease_still_counts_as_done(self, place: Place) -> None:
        endpoint = Endpoint(place)
        slow = endpoint.take()
        place.advance(61)
        second = endpoint.take()
        endpoint.done(slow)
        endpoint.release(second)
        place.advance(1)
        assert endpoint.take().duplicate

    def test_a_captured_request_is_known_as_long_as_it_is_fresh(self, place: Place) -> None:
        endpoint = Endpoint(place, replay_ttl=600)
        endpoint.done(endpoint.take(at=NOW + 300))
        place.advance(599)
        assert endpoint.refusal(at=NOW + 300).reason is Reason.REPLAYED
        place.advance(2)
        assert endpoint.refusal(at=NOW + 300).reason is Reason.TIMESTAMP_OUTSIDE_TOLERANCE

    def test_a_retry_after_three_days_is_still_known_as_a_duplicate(self, place: Place) -> None:
        endpoint = Endpoint(place)
        endpoint.done(endpoint.take())
        place.advance(72 * 3600)
        assert endpoint.take().duplicate

    def test_two_connections_may_use_the_same_event_id(self, place: Place) -> None:
        """W4: replay keys belong to a connection."""
        endpoint = Endpoint(place)
        endpoint.done(endpoint.take())
        assert not endpoint.take(integration={"connection_id": "con_other"}).duplicate

    def test_whatever_happens_it_says_what_a_plain_model_says(self, place: Place) -> None:
        @settings(derandomize=True, max_examples=60, deadline=None, database=None)
        @given(steps=STEPS)
        def agrees(steps: list[tuple[str, Any, Any]]) -> None:
            place.forget()
            held: dict[str, tuple[str, float]] = {}
            done: dict[str, tuple[str, float]] = {}
            for name, key, who in steps:
                now = place.time.now
                if name == "wait":
                    place.advance(key)
                elif name == "confirm":
                    place.confirm(key, f"token {who} {now}", who)
                    held.pop(key, None)
                    done[key] = (who, now + 5_000)
                elif name == "release":
                    place.release(key, who)
                    if held.get(key, ("", 0))[0] == who:
                        del held[key]
                else:
                    expected = "claimed"
                    if key in done and now < done[key][1]:
                        expected = "replayed" if done[key][0] == who else "duplicate"
                    elif key in held and now < held[key][1]:
                        # Twice under one token is one claim whose first reply was lost; a memory loses none.
                        expected = "in_progress" if held[key][0] != who else "either"
                    said = place.claim(key, who, who).state.value
                    assert said == expected or (expected == "either" and said in {"claimed", "in_progress"})
                    if said == "claimed":
                        held[key] = (who, now + 60)

        agrees()
