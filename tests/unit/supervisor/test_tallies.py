"""Adding up what processes count: against the Prometheus parser, and across the ends of processes."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from customhouse.errors import SettingsError
from customhouse.metrics import DELIVERIES, DELIVERY_LATENCY, IN_FLIGHT, QUEUE_DEPTH, Metrics
from customhouse.supervisor import tallies
from customhouse.supervisor.tallies import Share, Tallies, add, lasting

OUTCOMES = ("delivered", "failed", "retrying")


def samples(text: str) -> dict[str, float]:
    """Return every sample as Prometheus reads it."""
    return {
        sample.name + str(sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def counted(delivered: int = 0, failed: int = 0, *, in_flight: int = 0, due: int = 0, seconds: float | None = None) -> str:
    metrics = Metrics("0.1.0")
    metrics.counter(DELIVERIES, outcome="delivered").inc(delivered)
    if failed:
        metrics.counter(DELIVERIES, outcome="failed").inc(failed)
    metrics.gauge(IN_FLIGHT).set(in_flight)
    metrics.gauge(QUEUE_DEPTH, state="due").set(due)
    if seconds is not None:
        metrics.histogram(DELIVERY_LATENCY).observe(seconds)
    return metrics.render().decode()


DELIVERED = "customhouse_deliveries_total[('outcome', 'delivered')]"


def test_counts_are_summed_and_what_all_read_off_one_thing_is_not() -> None:
    whole = samples(add([counted(3, in_flight=2, due=70, seconds=0.2), counted(4, 1, in_flight=5, due=60, seconds=0.3)]))
    assert whole[DELIVERED] == 7
    assert whole["customhouse_deliveries_total[('outcome', 'failed')]"] == 1
    assert whole["customhouse_deliveries_in_flight[]"] == 7
    assert whole["customhouse_queue_depth[('state', 'due')]"] == 60
    assert whole["customhouse_delivery_latency_seconds_count[]"] == 2
    assert whole["customhouse_delivery_latency_seconds_sum[]"] == pytest.approx(0.5)
    assert whole["customhouse_delivery_latency_seconds_bucket[('le', '0.25')]"] == 1
    assert next(value for name, value in whole.items() if name.startswith("customhouse_build_info")) == 1
    limits = samples(counted())["process_max_fds[]"]
    assert whole["process_max_fds[]"] == limits


def test_one_process_is_shown_as_it_is() -> None:
    one = counted(3, 1, in_flight=2, due=70, seconds=0.2)
    assert samples(add([one])) == samples(one)
    assert add([]) == ""


@settings(max_examples=25)  # each writes and reads whole pages of metrics, many times
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), max_size=4))
def test_every_counter_of_a_sum_is_the_sum_of_its_parts(parts: list[tuple[int, int]]) -> None:
    texts = [counted(*part) for part in parts]
    whole = samples(add(texts))
    for name in whole:
        if "_total[" in name:
            assert whole[name] == pytest.approx(sum(samples(text).get(name, 0.0) for text in texts))
    assert add([add(texts[:2]), *texts[2:]]) == add(texts)


def test_of_an_ended_process_the_counters_stay_and_nothing_else() -> None:
    left = samples(lasting(counted(3, in_flight=2, due=70, seconds=0.2)))
    assert left[DELIVERED] == 3
    assert left["customhouse_delivery_latency_seconds_count[]"] == 1
    assert not any("in_flight" in name or "queue_depth" in name or "resident" in name for name in left)


class Other(Share):
    """The share of another process."""

    def __init__(self, folder: Path, pid: int) -> None:
        super().__init__(folder)
        self._path = folder / f"{pid}.prom"


@pytest.fixture
def group() -> Iterator[Tallies]:
    made = Tallies()
    yield made
    made.remove()


def test_a_sum_does_not_fall_when_a_process_ends(group: Tallies) -> None:
    share = Share(group.folder)
    Other(group.folder, 1).write(counted(10))
    Other(group.folder, 2).write(counted(20))
    assert samples(share.whole(counted(5)))[DELIVERED] == 35
    group.retire(1)
    group.retire(2)
    Other(group.folder, 3).write(counted(1))
    assert samples(share.whole(counted(6)))[DELIVERED] == 37
    assert {path.name for path in group.folder.glob("*.prom")} == {"3.prom", f"{os.getpid()}.prom"}
    # Whoever never wrote has nothing to keep.
    group.retire(4)
    group.remove()
    assert not group.folder.exists()


def test_nobody_counts_twice_what_is_just_being_kept(group: Tallies) -> None:
    share = Share(group.folder)
    Other(group.folder, 1).write(counted(10))
    reading = os.open(group.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(reading, fcntl.LOCK_SH)
    group.retire(1)
    assert (group.folder / "1.prom").exists()
    os.close(reading)
    group.settle()
    assert not (group.folder / "1.prom").exists()
    assert samples(share.whole(counted(5)))[DELIVERED] == 15
    group.settle()
    group.remove()


def test_a_process_whose_group_is_gone_shows_its_own(group: Tallies) -> None:
    share = Share(group.folder)
    group.remove()
    share.write(counted(1))
    assert samples(share.whole(counted(2)))[DELIVERED] == 2
    tallies.remove(group.folder)


def test_the_folder_is_for_this_user_alone(group: Tallies) -> None:
    assert group.folder.stat().st_mode & 0o777 == 0o700
    group.remove()


def test_without_a_place_for_it_the_group_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(SettingsError, match="set TMPDIR"):
        Tallies()


def test_what_cannot_be_kept_now_is_kept_later(group: Tallies) -> None:
    share = Share(group.folder)
    Other(group.folder, 1).write(counted(10))
    obstacle = group.folder / "ended"
    obstacle.mkdir()
    group.retire(1)
    assert (group.folder / "1.prom").exists()
    obstacle.rmdir()
    group.settle()
    assert not (group.folder / "1.prom").exists()
    assert samples(share.whole(counted(5)))[DELIVERED] == 15
