"""What a process of the service does for itself."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from customhouse.cli.process import spare_the_collector


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Leave the collector as it was."""
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


class Ring:
    """Refers to itself."""

    alive = 0

    def __init__(self) -> None:
        self.itself = self
        Ring.alive += 1

    def __del__(self) -> None:
        Ring.alive -= 1


def test_what_is_there_is_left_alone_and_what_comes_is_still_collected() -> None:
    spare_the_collector()
    assert gc.get_freeze_count() > 0
    assert gc.isenabled()
    for _ in range(30_000):
        Ring()
    assert Ring.alive < 30_000
