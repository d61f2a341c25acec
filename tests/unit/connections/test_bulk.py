"""R4: how many connections a key may read before somebody is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from customhouse.connections.bulk import Rules

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("cap", "usual", "threshold"),
    [
        (1000, None, 1000),
        (0, None, None),
        (1000, 0, 50),
        (1000, 16, 50),
        (1000, 17, 51),
        (1000, 200, 600),
        (1000, 900, 1000),
        (0, 900, 2700),
        (10, 900, 10),
    ],
)
def test_r4_the_lower_of_the_limit_and_three_times_the_usual_counts(cap: int, usual: int | None, threshold: int | None) -> None:
    assert Rules(HOUR, cap).threshold(usual) == threshold


@given(st.integers(0, 4_000_000_000), st.integers(60, 86_400))
def test_every_moment_lies_in_the_window_that_begins_before_it(since: int, seconds: int) -> None:
    moment = datetime.fromtimestamp(since, UTC)
    rules = Rules(timedelta(seconds=seconds))
    window = rules.window_of(moment)
    assert window <= moment < window + rules.window
    assert rules.window_of(window) == window
    assert rules.window_of(window + rules.window) == window + rules.window
