"""When a failed delivery is tried again: never too early, never past its life, never without end."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from customhouse.outbound.accept import DELIVERY_LIFE
from customhouse.retry import JITTER, LONGEST_WAIT, SCHEDULE, Delivered, GiveUp, RetryIn, decide

codes = st.none() | st.integers(100, 599)
failing = st.none() | st.integers(100, 599).filter(lambda code: not 200 <= code < 300 and code != 410)
draws = st.floats(0, 1, exclude_max=True)
lives = st.floats(-1e6, 1e6, allow_nan=False)
waits = st.none() | st.integers(0, 10**9)
counts = st.integers(1, 20)


@given(codes, waits, counts, lives, draws)
def test_every_answer_leads_to_one_of_three_ends(code: int | None, wait: int | None, made: int, life: float, draw: float) -> None:
    decision = decide(status_code=code, retry_after=wait, attempts_made=made, life_left=life, draw=draw)
    success = code is not None and 200 <= code < 300
    assert isinstance(decision, Delivered) == success
    if isinstance(decision, RetryIn):
        assert 0 < decision.seconds < life
        assert decision.seconds <= LONGEST_WAIT * (1 + JITTER)
        assert made <= len(SCHEDULE)


@given(failing, st.integers(1, len(SCHEDULE)), draws)
def test_a_wait_keeps_within_a_fifth_of_its_step(code: int | None, made: int, draw: float) -> None:
    decision = decide(status_code=code, retry_after=None, attempts_made=made, life_left=1e9, draw=draw)
    assert isinstance(decision, RetryIn)
    step = SCHEDULE[made - 1]
    assert step * (1 - JITTER) <= decision.seconds <= step * (1 + JITTER)


@given(st.integers(1, len(SCHEDULE) - 1), draws, draws)
def test_waits_grow_with_the_attempts_whatever_the_draw(made: int, one: float, other: float) -> None:
    first = decide(status_code=500, retry_after=None, attempts_made=made, life_left=1e9, draw=one)
    second = decide(status_code=500, retry_after=None, attempts_made=made + 1, life_left=1e9, draw=other)
    assert isinstance(first, RetryIn)
    assert isinstance(second, RetryIn)
    assert first.seconds < second.seconds


@given(failing, st.integers(0, 10**9), st.integers(1, len(SCHEDULE)), draws)
def test_retry_after_is_honoured_up_to_a_day_and_never_shortens_a_wait(code: int | None, asked: int, made: int, draw: float) -> None:
    plain = decide(status_code=code, retry_after=None, attempts_made=made, life_left=1e9, draw=draw)
    decision = decide(status_code=code, retry_after=asked, attempts_made=made, life_left=1e9, draw=draw)
    assert isinstance(plain, RetryIn)
    assert decision == RetryIn(max(plain.seconds, min(asked, LONGEST_WAIT)))


@given(failing, waits, st.integers(1, len(SCHEDULE)), lives, draws)
def test_what_would_come_after_the_end_of_its_life_is_given_up(
    code: int | None, wait: int | None, made: int, life: float, draw: float
) -> None:
    endless = decide(status_code=code, retry_after=wait, attempts_made=made, life_left=1e12, draw=draw)
    assert isinstance(endless, RetryIn)
    assume(endless.seconds >= life)
    assert decide(status_code=code, retry_after=wait, attempts_made=made, life_left=life, draw=draw) == GiveUp("life_exhausted")


@given(waits, counts, lives, draws)
def test_gone_is_never_tried_again(wait: int | None, made: int, life: float, draw: float) -> None:
    assert decide(status_code=410, retry_after=wait, attempts_made=made, life_left=life, draw=draw) == GiveUp("gone")


@given(failing, waits, st.integers(len(SCHEDULE) + 1, 100), draws)
def test_attempts_come_to_an_end(code: int | None, wait: int | None, made: int, draw: float) -> None:
    assert decide(status_code=code, retry_after=wait, attempts_made=made, life_left=1e9, draw=draw) == GiveUp("attempts_exhausted")


def test_the_whole_schedule_fits_into_the_life_of_a_delivery() -> None:
    assert sum(SCHEDULE) * (1 + JITTER) < DELIVERY_LIFE.total_seconds()
    assert list(SCHEDULE) == sorted(SCHEDULE)
