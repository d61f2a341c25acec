"""The table of metrics: complete, without tenants, and closed to values of strangers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from customhouse import metrics
from customhouse.metrics import Kind, Metric, Metrics


@pytest.fixture
def registry() -> Metrics:
    return Metrics("0.1.0")


def samples(registry: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(registry.render().decode())
        for sample in family.samples
    }


def test_no_metric_has_a_label_that_could_name_a_customer() -> None:
    labels = {label for metric in metrics.TABLE for label in metric.labels}
    assert labels == {
        "route",
        "method",
        "status",
        "duplicate",
        "reason",
        "outcome",
        "state",
        "operation",
        "job",
        "version",
        "python",
        "provider",
    }


def test_every_metric_of_the_module_stands_in_the_table_once() -> None:
    defined = [value for value in vars(metrics).values() if isinstance(value, Metric)]
    assert sorted(one.name for one in defined) == sorted(one.name for one in metrics.TABLE)
    assert len({one.name for one in metrics.TABLE}) == len(metrics.TABLE)


@pytest.mark.parametrize("metric", metrics.TABLE, ids=lambda metric: metric.name)
def test_each_metric_keeps_the_naming_rules(metric: Metric) -> None:
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM)
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert metric.help


def test_the_whole_table_is_exposed_before_anything_happened(registry: Metrics) -> None:
    text = registry.render().decode()
    for metric in metrics.TABLE:
        assert f"# TYPE customhouse_{metric.name} {metric.kind}" in text


def test_counts_gauges_and_times_are_rendered(registry: Metrics) -> None:
    registry.counter(metrics.DELIVERIES, outcome="delivered").inc()
    registry.counter(metrics.DELIVERIES, outcome="delivered").inc(2)
    registry.gauge(metrics.QUEUE_DEPTH, state="due").set(7)
    registry.histogram(metrics.HTTP_SECONDS, route="/v1/events").observe(0.002)
    seen = samples(registry)
    assert seen["customhouse_deliveries_total", frozenset({("outcome", "delivered")})] == 3
    assert seen["customhouse_queue_depth", frozenset({("state", "due")})] == 7
    assert seen["customhouse_http_request_seconds_bucket", frozenset({("route", "/v1/events"), ("le", "0.0025")})] == 1


def test_the_same_labels_give_the_same_child(registry: Metrics) -> None:
    child = registry.counter(metrics.KMS_CALLS, operation="unwrap", outcome="ok")
    assert registry.counter(metrics.KMS_CALLS, outcome="ok", operation="unwrap") is child


def test_two_registries_do_not_share_counts(registry: Metrics) -> None:
    registry.counter(metrics.RETRIES).inc()
    assert samples(Metrics("0.1.0"))["customhouse_retries_scheduled_total", frozenset()] == 0


def test_wrong_labels_kinds_and_strangers_are_refused(registry: Metrics) -> None:
    for labels in ({}, {"tenant": "acme"}, {"outcome": "ok", "tenant": "acme"}):
        with pytest.raises(ValueError, match="takes the labels"):
            registry.counter(metrics.DELIVERIES, **labels)
    with pytest.raises(ValueError, match="takes the labels"):
        registry.counter(Metric("stranger_total", Kind.COUNTER, "not in the table"))
    with pytest.raises(TypeError, match="is a gauge"):
        registry.counter(metrics.IN_FLIGHT)
    with pytest.raises(TypeError, match="is a counter"):
        registry.gauge(metrics.RETRIES)
    with pytest.raises(TypeError, match="is a counter"):
        registry.histogram(metrics.RETRIES)


@pytest.mark.parametrize(
    ("metric", "labels"),
    [
        (metrics.HTTP_SECONDS, {"route": "/v1/events/evt_canary77"}),
        (metrics.HTTP_REQUESTS, {"route": "/x?token=canary77", "method": "CANARY77", "status": "canary77"}),
        (metrics.EVENTS_REFUSED, {"reason": "ada.canary77@example.org"}),
        (metrics.EVENTS_REFUSED, {"reason": "+49 canary77"}),
    ],
)
def test_a_value_under_a_label_is_counted_as_other(registry: Metrics, metric: Metric, labels: dict[str, str]) -> None:
    registry._child(metric, labels)
    text = registry.render().decode()
    assert "canary77" not in text.lower()
    assert '="other"' in text


def test_a_flood_of_new_words_stops_at_the_limit(registry: Metrics) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    for one in letters:
        for two in letters:
            for three in "abc":
                registry.counter(metrics.EVENTS_REFUSED, reason=one + two + three).inc()
    seen = {key: value for key, value in samples(registry).items() if key[0] == "customhouse_events_refused_total"}
    assert len(seen) == 1001
    assert sum(seen.values()) == 26 * 26 * 3


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(max_size=80))
def test_any_text_as_a_label_gives_a_valid_exposition(value: str) -> None:
    registry = Metrics("0.1.0")
    registry.counter(metrics.EVENTS_REFUSED, reason=value).inc()
    labels = [dict(key[1])["reason"] for key in samples(registry) if key[0] == "customhouse_events_refused_total"]
    assert labels in ([value], ["other"])


def test_the_reference_page_holds_the_table() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
    assert metrics.reference() in page.read_text(encoding="utf-8")
