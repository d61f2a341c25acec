"""What the service counts: one table, an own registry, no tenant in any label.

A label value is a word of ours (an outcome, a reason, a route template); what does not look like one is counted as `other`, and so
is every new combination beyond a limit, so neither a value of a customer nor an attacker's inventiveness can fill the registry.
Bind the children of a hot path once (`delivered = metrics.counter(DELIVERIES, outcome="delivered")`) and call `inc()` on them.
"""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

PREFIX: Final = "customhouse_"
CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
OTHER: Final = "other"

_MOST_CHILDREN: Final = 1000
# A template has no digit but in `v1`, so a path with values in it is counted as `other`; so is every word with a digit.
_ROUTE: Final = re.compile(r"/|(?:/(?:v[0-9]{1,2}|[a-z_.-]{1,40}|\{[a-z_:]{1,40}\})){1,12}")
_WORD: Final = re.compile(r"[a-z][a-z_.-]{0,39}")
_VERSION: Final = re.compile(r"[0-9]+(?:\.[0-9A-Za-z+-]+){0,5}")
_PATTERNS: Final = {
    "route": _ROUTE,
    "method": re.compile("GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS"),
    "status": re.compile("[1-5][0-9][0-9]"),
    "version": _VERSION,
    "python": _VERSION,
}

_FAST: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SLOW: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0, 21600.0, 86400.0, 259200.0)
_SIZES: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)


class Kind(StrEnum):
    """The types of the Prometheus exposition format that we use."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of the table."""

    name: str
    """Without the prefix; counters end in `_total`, times in `_seconds`."""
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    unit: str = ""
    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram, ascending; empty for other kinds."""


HTTP_REQUESTS: Final = Metric("http_requests_total", Kind.COUNTER, "HTTP requests answered", ("route", "method", "status"), "requests")
HTTP_SECONDS: Final = Metric("http_request_seconds", Kind.HISTOGRAM, "Time from request to answer", ("route",), "seconds", _FAST)
EVENTS_ACCEPTED: Final = Metric("events_accepted_total", Kind.COUNTER, "Events accepted with 202", ("duplicate",), "events")
EVENTS_REFUSED: Final = Metric("events_refused_total", Kind.COUNTER, "Events refused, by error code", ("reason",), "events")
ACCEPT_BATCH: Final = Metric("accept_batch_size", Kind.HISTOGRAM, "Events that shared one accepting transaction", (), "events", _SIZES)
ACCEPT_HELD: Final = Metric(
    "accept_held_total",
    Kind.COUNTER,
    "Deliveries whose event was held at the gate: `placed` in memory, `spilled` to the database, `refused` with 429",
    ("outcome",),
    "deliveries",
)
ACCEPT_WAITING: Final = Metric("accept_waiting", Kind.GAUGE, "Publish calls held at the gate now", (), "calls")
DELIVERIES: Final = Metric("deliveries_total", Kind.COUNTER, "Delivery attempts ended, by outcome", ("outcome",), "attempts")
ATTEMPT_SECONDS: Final = Metric("delivery_attempt_seconds", Kind.HISTOGRAM, "Time of one HTTP attempt", (), "seconds", _FAST)
DELIVERY_LATENCY: Final = Metric("delivery_latency_seconds", Kind.HISTOGRAM, "Time from accept to delivered", (), "seconds", _SLOW)
IN_FLIGHT: Final = Metric("deliveries_in_flight", Kind.GAUGE, "Attempts on the wire now", (), "attempts")
QUEUE_DEPTH: Final = Metric("queue_depth", Kind.GAUGE, "Deliveries queued: `due`, `waiting`, or `leased`", ("state",), "deliveries")
RETRIES: Final = Metric("retries_scheduled_total", Kind.COUNTER, "Retries written to the database", (), "retries")
RATE_LIMITED: Final = Metric("rate_limited_total", Kind.COUNTER, "Attempts put off by the rate limit of their connection", (), "attempts")
LEASES_RECOVERED: Final = Metric("leases_recovered_total", Kind.COUNTER, "Deliveries taken over from a dead process", (), "deliveries")
CONNECTIONS_DISABLED: Final = Metric(
    "connections_disabled_total", Kind.COUNTER, "Connections disabled by the service: `gone` (410) or `failing`", ("reason",), "connections"
)
AUTO_DISABLE_BRAKED: Final = Metric(
    "auto_disable_braked_total", Kind.COUNTER, "Runs that disabled nothing because over half of the connections in use fail", (), "runs"
)
TOKEN_READS: Final = Metric("token_reads_total", Kind.COUNTER, "Access tokens asked for: `read` or `refused`", ("outcome",), "reads")
PROXY_CALLS: Final = Metric(
    "proxy_calls_total",
    Kind.COUNTER,
    "Calls for providers: `passed`, `refused` by our rules, `held` back because the provider asked, `failed` on the way",
    ("outcome",),
    "calls",
)
READ_BATCH: Final = Metric(
    "read_batch_size", Kind.HISTOGRAM, "Uses of credentials that shared one transaction of the ledger", (), "uses", _SIZES
)
BULK_READ_ALARMS: Final = Metric(
    "bulk_read_alarms_total", Kind.COUNTER, "Alarms about keys that read the credentials of too many connections", (), "alarms"
)
KMS_CALLS: Final = Metric("kms_calls_total", Kind.COUNTER, "Calls to the key service", ("operation", "outcome"), "calls")
VAULT_CACHE: Final = Metric(
    "vault_cache_total", Kind.COUNTER, "Keys looked up in memory: `hit`, `miss`, `expired`", ("outcome",), "look-ups"
)
KEY_TURNS: Final = Metric(
    "key_turns_total",
    Kind.COUNTER,
    "Rotation of keys: `tenant_keys_made`, `data_keys_wrapped`, `tenant_keys_ended`, `connection_keys_made`, `connection_keys_taken_over`, "
    "`connection_keys_ended`, `unreadable`",
    ("operation",),
    "keys",
)
PII_REMOVED: Final = Metric("pii_fields_removed_total", Kind.COUNTER, "Fields removed before anything was stored", (), "fields")
NOTICE_MAILS: Final = Metric(
    "notice_mails_total", Kind.COUNTER, "E-mails about notices: `sent`, `put_off` (a try in vain), `failed`", ("outcome",), "mails"
)
TOKEN_REFRESHES: Final = Metric(
    "token_refreshes_total",
    Kind.COUNTER,
    "Calls that renew access tokens, by what came of them: `stored`, `later`, `lost`, `ended`, `unacceptable`, `refused` (our "
    "registration), `superseded`",
    ("provider", "outcome"),
    "calls",
)
TOKEN_REFRESH_SECONDS: Final = Metric(
    "token_refresh_seconds", Kind.HISTOGRAM, "Time of one call that renews an access token", (), "seconds", _FAST
)
KEY_PROBES: Final = Metric("key_probes_total", Kind.COUNTER, "Pasted keys whose permissions were tried", ("outcome",), "keys")
JOBS: Final = Metric("jobs_total", Kind.COUNTER, "Background jobs ended", ("job", "outcome"), "jobs")
PROCESSES_REPLACED: Final = Metric("processes_replaced_total", Kind.COUNTER, "Processes started for others that had died", (), "processes")
BUILD: Final = Metric("build_info", Kind.GAUGE, "Always 1; the labels say what runs", ("version", "python"))

TABLE: Final = (
    HTTP_REQUESTS,
    HTTP_SECONDS,
    EVENTS_ACCEPTED,
    EVENTS_REFUSED,
    ACCEPT_BATCH,
    ACCEPT_HELD,
    ACCEPT_WAITING,
    DELIVERIES,
    ATTEMPT_SECONDS,
    DELIVERY_LATENCY,
    IN_FLIGHT,
    QUEUE_DEPTH,
    RETRIES,
    RATE_LIMITED,
    LEASES_RECOVERED,
    CONNECTIONS_DISABLED,
    AUTO_DISABLE_BRAKED,
    TOKEN_READS,
    PROXY_CALLS,
    READ_BATCH,
    BULK_READ_ALARMS,
    KMS_CALLS,
    VAULT_CACHE,
    KEY_TURNS,
    PII_REMOVED,
    TOKEN_REFRESHES,
    TOKEN_REFRESH_SECONDS,
    NOTICE_MAILS,
    KEY_PROBES,
    JOBS,
    PROCESSES_REPLACED,
    BUILD,
)
"""Every metric that exists. `docs/reference/metrics.md` is generated from it."""


class Metrics:
    """The registry of one process."""

    __slots__ = ("_children", "_families", "_registry")

    def __init__(self, version: str) -> None:
        """Register the whole table, so that a scrape shows it before the first event. `version` is that of the service."""
        self._registry = CollectorRegistry()
        self._families: dict[str, Counter | Gauge | Histogram] = {metric.name: _family(metric, self._registry) for metric in TABLE}
        self._children: dict[str, dict[tuple[str, ...], Counter | Gauge | Histogram]] = {metric.name: {} for metric in TABLE}
        ProcessCollector(registry=self._registry)
        self.gauge(BUILD, version=version, python=platform.python_version()).set(1)

    def counter(self, metric: Metric, **labels: str) -> Counter:
        """Return the child of a counter for these label values; the same values give the same child.

        Raises:
            TypeError: the metric is of another kind.
            ValueError: the metric has other labels, or is not in the table.
        """
        child = self._child(metric, labels)
        if not isinstance(child, Counter):
            raise TypeError(f"{metric.name} is a {metric.kind}")
        return child

    def gauge(self, metric: Metric, **labels: str) -> Gauge:
        """Return the child of a gauge; raises as `counter` does."""
        child = self._child(metric, labels)
        if not isinstance(child, Gauge):
            raise TypeError(f"{metric.name} is a {metric.kind}")
        return child

    def histogram(self, metric: Metric, **labels: str) -> Histogram:
        """Return the child of a histogram; raises as `counter` does."""
        child = self._child(metric, labels)
        if not isinstance(child, Histogram):
            raise TypeError(f"{metric.name} is a {metric.kind}")
        return child

    def render(self) -> bytes:
        """Return the exposition in the text format of `CONTENT_TYPE`."""
        return generate_latest(self._registry)

    def _child(self, metric: Metric, labels: dict[str, str]) -> Counter | Gauge | Histogram:
        family = self._families.get(metric.name)
        if family is None or len(labels) != len(metric.labels):
            raise ValueError(f"{metric.name} takes the labels {metric.labels}")
        if not metric.labels:
            return family
        children = self._children[metric.name]
        try:
            key = tuple([labels[name] for name in metric.labels])
        except KeyError:
            raise ValueError(f"{metric.name} takes the labels {metric.labels}") from None
        child = children.get(key)
        if child is None:
            known = len(children) < _MOST_CHILDREN
            shown = tuple([_shown(name, value) if known else OTHER for name, value in zip(metric.labels, key, strict=True)])
            child = children.get(shown) or family.labels(*shown)
            children[shown] = child
            # An odd value is looked up again each time rather than remembered: it may be one of endlessly many.
        return child


def _shown(label: str, value: str) -> str:
    return value if _PATTERNS.get(label, _WORD).fullmatch(value) else OTHER


def _family(metric: Metric, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    name = PREFIX + metric.name
    if metric.kind is Kind.HISTOGRAM:
        return Histogram(name, metric.help, metric.labels, registry=registry, buckets=metric.buckets)
    family = Counter if metric.kind is Kind.COUNTER else Gauge
    return family(name, metric.help, metric.labels, registry=registry)


def reference() -> str:
    """Return the table as Markdown, for `docs/reference/metrics.md`."""
    rows = [f"| `{PREFIX}{one.name}` | {one.kind} | {_quoted(one.labels)} | {one.unit} | {one.help} |" for one in TABLE]
    return "\n".join(["| metric | type | labels | unit | meaning |", "| --- | --- | --- | --- | --- |", *rows, ""])


def _quoted(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)
