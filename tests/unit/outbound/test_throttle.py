"""However many processes share a limit, and however they come and go, together they stay within it."""

from __future__ import annotations

import math

from hypothesis import example, given
from hypothesis import strategies as st

from customhouse import ids
from customhouse.outbound.throttle import Rate, Throttle

ONE = ids.new()


def counting(processes: int = 1, since: float = 0.0) -> Throttle:
    """A process that has counted since then."""
    made = Throttle()
    made.share(processes, since, joined=True)
    return made


def sent(throttle: Throttle, rate: Rate, begin: float, end: float) -> list[float]:
    """When deliveries go, each as early as it may."""
    now, found = begin, []
    while now < end:
        wait = throttle.take(ONE, rate, now)
        if not wait:
            found.append(now)
        now += wait
    return found


def test_a_burst_goes_at_once_and_then_one_by_one() -> None:
    times = sent(counting(), Rate(2.0, 5), 100.0, 102.9)
    assert [round(time - 100, 3) for time in times] == [0, 0, 0, 0, 0, 0.5, 1, 1.5, 2, 2.5]


def test_a_process_begins_without_tokens_so_that_a_restart_is_no_second_burst() -> None:
    times = sent(counting(since=100.0), Rate(2.0, 5), 100.0, 102.1)
    assert [round(time - 100, 3) for time in times] == [0.5, 1, 1.5, 2]


def test_a_process_that_has_no_share_yet_says_how_long_it_waits() -> None:
    throttle = counting(processes=2, since=110.0)
    assert throttle.take(ONE, Rate(1.0, 1), 100.0) == 12.0
    assert throttle.take(ONE, Rate(1.0, 1), 112.0) == 0.0


def test_before_its_first_heartbeat_a_process_takes_nothing() -> None:
    assert math.isinf(Throttle().take(ONE, Rate(1.0, 1), 1e9))


def test_each_process_takes_its_part() -> None:
    throttle = counting(processes=4)
    times = sent(throttle, Rate(8.0, 8), 100.0, 105.0)
    assert throttle.each(Rate(8.0, 8)) == 0.5
    assert len(times) == 2 + 9
    assert times[1] == 100.0


def test_another_limit_counts_from_now_on_and_gives_no_second_burst() -> None:
    throttle = counting()
    assert len(sent(throttle, Rate(1.0, 10), 100.0, 100.1)) == 10
    assert throttle.take(ONE, Rate(100.0, 100), 100.1) > 0
    narrow = counting()
    assert narrow.take(ONE, Rate(1.0, 10), 100.0) == 0.0
    assert len(sent(narrow, Rate(1.0, 2), 100.0, 100.5)) == 2


def test_connections_have_buckets_of_their_own_and_full_ones_are_forgotten() -> None:
    throttle, rate = counting(), Rate(1.0, 1)
    assert throttle.take(ONE, rate, 100.0) == 0.0
    for number in range(10_000):
        assert throttle.take(ids.new(), rate, 100.0 + number / 100) == 0.0
    assert len(throttle._buckets) < 300
    assert throttle.take(ONE, rate, 200.0) == 0.0
    assert throttle.take(ONE, rate, 200.0) > 0


rates = st.builds(Rate, st.floats(0.1, 50), st.integers(1, 40))


@given(rate=rates, gaps=st.lists(st.floats(0, 30), max_size=60))
@example(rate=Rate(0.1, 1), gaps=[10.0] * 5)
def test_in_any_span_no_more_go_than_the_burst_and_the_rate_allow(rate: Rate, gaps: list[float]) -> None:
    throttle, now = counting(), 1000.0
    times: list[float] = []
    for gap in gaps:
        now += gap
        while not (wait := throttle.take(ONE, rate, now)) and len(times) < 3000:
            times.append(now)
        assert wait >= 0
    for first in range(len(times)):
        for last in range(first, len(times), 7):
            assert last - first + 1 <= rate.burst + rate.per_second * (times[last] - times[first]) + 1e-6


@given(rate=rates, asked=st.lists(st.floats(0, 3), min_size=1, max_size=40))
def test_whoever_waits_as_long_as_told_gets_a_token(rate: Rate, asked: list[float]) -> None:
    throttle, now = counting(3), 1000.0
    for gap in asked:
        now += gap
        wait = throttle.take(ONE, rate, now)
        if wait:
            now += wait * (1 + 1e-9)
            assert throttle.take(ONE, rate, now) == 0.0


BEAT, SILENCE = 2.0, 10.0


@given(
    rate=rates,
    lives=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 60)), min_size=1, max_size=5),
    skew=st.lists(st.floats(0, 1.9), min_size=5, max_size=5),
)
def test_processes_that_come_die_and_greedily_send_stay_within_the_limit_together(
    rate: Rate, lives: list[tuple[int, int]], skew: list[float]
) -> None:
    """Each process beats every two seconds and counts who was heard within ten; it may die at any moment without a word."""
    beats: list[tuple[float, int]] = sorted(
        (begin + skew[number] + BEAT * turn, number)
        for number, (begin, length) in enumerate(lives)
        for turn in range(int(length / BEAT) + 1)
        if turn * BEAT <= length
    )
    heard: dict[int, float] = {}
    throttles = {number: Throttle() for number in range(len(lives))}
    begun: dict[int, float] = {}
    events: list[tuple[float, int]] = []
    for number, (begin, length) in enumerate(lives):
        events += [(begin + skew[number] + step / 4, number) for step in range(length * 4)]
    times: list[float] = []
    upcoming = iter([*beats, (math.inf, -1)])
    at, who = next(upcoming)
    for now, number in sorted(events):
        while at <= now:
            heard[who] = at
            alive = sum(at - last <= SILENCE for last in heard.values())
            joined = who not in begun
            begun.setdefault(who, at)
            throttles[who].share(alive, at + (SILENCE if joined and alive > 1 else 0.0), joined=joined)
            at, who = next(upcoming)
        if number in begun:
            while not throttles[number].take(ONE, rate, now):
                times.append(now)
    most = max(float(rate.burst), float(len(lives)))
    for first in range(0, len(times), 1 + len(times) // 100):
        for last in range(first, len(times), 1 + len(times) // 100):
            assert last - first + 1 <= most + rate.per_second * (times[last] - times[first]) + 1e-6
