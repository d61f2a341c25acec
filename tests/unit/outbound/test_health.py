"""What is news about a connection, and what is not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from customhouse.outbound.health import Watch
from customhouse.outbound.work import Result, Work
from customhouse.types import TenantId

START = datetime(2026, 11, 22, tzinfo=UTC)
ACME = TenantId("acme")
ONE = UUID(int=1)
WORK = Work(
    tenant_id=ACME, delivery_id=UUID(int=9), lease=1, event_uid=UUID(int=8), event_id="e", event_type="t", connection_id=ONE,
    policy_version=1, tenant_version=1, attempts=0, expires_at=START, leased_until=0.0, body_sha256=None, body=b"",
)  # fmt: skip


def attempt(seconds: float, *, ok: bool, error: str | None = None, connection: UUID = ONE) -> Result:
    """What came of an attempt at a moment."""
    return Result(
        work=replace(WORK, connection_id=connection), outcome="delivered" if ok else "retrying", reason=None, sent=True,
        at=START + timedelta(seconds=seconds), status_code=200 if ok else 503, error=error,
    )  # fmt: skip


def test_a_connection_that_goes_on_as_before_is_news_once_a_minute() -> None:
    watch = Watch()
    assert [watch.see(attempt(second, ok=True), float(second)) for second in range(0, 130, 10)].count(True) == 3
    assert [watch.see(attempt(second, ok=False), float(second)) for second in range(130, 260, 10)].count(True) == 3


def test_a_change_is_news_at_once_and_names_the_first_failure_and_the_last() -> None:
    watch = Watch()
    watch.see(attempt(0, ok=True), 0.0)
    watch.take()
    assert watch.see(attempt(1, ok=False), 1.0)
    assert not watch.see(attempt(2, ok=False), 2.0)
    at = START + timedelta(seconds=1)
    assert watch.take() == [(ACME, ONE, None, at, at, "status_503")]
    assert watch.see(attempt(3, ok=True), 3.0)
    assert watch.see(attempt(4, ok=False, error="timeout"), 4.0)
    failed = START + timedelta(seconds=4)
    assert watch.take() == [(ACME, ONE, START + timedelta(seconds=3), failed, failed, "timeout")]
    assert watch.take() == []


def test_what_is_known_of_a_tenant_is_forgotten_when_it_changes() -> None:
    watch = Watch()
    watch.see(attempt(0, ok=False), 0.0)
    assert not watch.see(attempt(1, ok=False), 1.0)
    watch.forget(ACME)
    assert watch.see(attempt(2, ok=False), 2.0)


@given(st.lists(st.tuples(st.sampled_from([UUID(int=n) for n in range(3)]), st.booleans()), max_size=40))
def test_what_is_told_ends_as_what_was_seen_last(seen: list[tuple[UUID, bool]]) -> None:
    watch = Watch()
    for second, (connection, ok) in enumerate(seen):
        watch.see(attempt(second, ok=ok, connection=connection), float(second))
    last = dict(seen)
    rows = watch.take()
    assert [row[1] for row in rows] == sorted(last)
    for _, connection, success, since, failure, reason in rows:
        assert (since is None) is last[connection]
        assert (failure is None) is (reason is None)
        if since is not None:
            assert failure is not None
            assert failure >= since
            assert success is None or success < since
