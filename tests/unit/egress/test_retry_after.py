"""The Retry-After header."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from customhouse.egress.retry_after import MAX_RETRY_AFTER, parse_retry_after

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 7\t", 7),
        ("0086400", 86_400),
        ("86401", 86_400),
        ("999999999999999999", 86_400),
        ("Sun, 22 Nov 2026 09:32:00 GMT", 120),
        ("Sunday, 22-Nov-26 09:32:00 GMT", 120),
        ("Sun Nov 22 09:32:00 2026", 120),
        ("Sun, 22 Nov 2026 09:00:00 GMT", 0),
        ("Tue, 22 Nov 2050 09:00:00 GMT", 86_400),
    ],
)
def test_seconds_and_dates_are_understood_and_capped(value: str, seconds: int) -> None:
    assert parse_retry_after(value, NOW) == seconds


@pytest.mark.parametrize("value", ["", "soon", "-5", "+5", "1.5", "1e3", "٣", "5, 10", "0x10", "Sun, 99 Nov 2026 09:32:00 GMT", "9" * 65])
def test_what_says_nothing_is_ignored(value: str) -> None:
    assert parse_retry_after(value, NOW) is None


@given(st.one_of(st.text(max_size=80), st.text(alphabet="0123456789 :,-+GMTSunNov", max_size=40)))
@settings(max_examples=200, derandomize=True)
def test_any_text_gives_seconds_within_a_day_or_nothing(value: str) -> None:
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER


@given(st.integers(-(10**6), 10**6))
@settings(max_examples=100, derandomize=True)
def test_an_http_date_is_the_distance_to_now(seconds: int) -> None:
    assert parse_retry_after(format_datetime(NOW + timedelta(seconds=seconds), usegmt=True), NOW) == min(max(seconds, 0), MAX_RETRY_AFTER)
