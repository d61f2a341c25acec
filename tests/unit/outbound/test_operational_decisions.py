"""Pure decisions: which subscriptions cover an operational event, how long a payload is usable, which reasons may be written down."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from customhouse import ids
from customhouse.errors import Invalid
from customhouse.outbound.operational import KINDS, patterns_for, reference
from customhouse.outbound.payloads import Standing, checked_reason, stored_until
from customhouse.privacy.detectors import identifier_carries_pii
from customhouse.tenants.event_types import NAME, OPERATIONAL
from customhouse.types import PLATFORM, TenantId

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
ACME = TenantId("acme")
HOUR = timedelta(hours=1)


def standing(*, accepted: datetime = NOW - HOUR, kept: bool = True, awaited: bool = False, last_end: datetime | None = NOW) -> Standing:
    uid = ids.floor_at(accepted)
    return Standing(uid, uid, "evt_x", "order.created", UUID(int=1), 0, awaited, "failed", kept, awaited, last_end)


@given(st.sampled_from(sorted(KINDS)), st.lists(st.sampled_from(["customhouse", "connection", "disabled", "delivery", "*"]), max_size=5))
def test_a_subscription_covers_an_operational_event_as_it_would_any_other_but_for_the_star(event_type: str, words: list[str]) -> None:
    pattern = ".".join(words)
    covers = pattern == event_type or (pattern.endswith(".*") and event_type.startswith(pattern[:-1]) and "*" not in words[:-1])
    assert (pattern in patterns_for(event_type, ACME)) == covers
    assert (pattern in patterns_for(event_type, PLATFORM)) == (covers or pattern == "*")


def test_every_operational_event_has_a_reserved_name_and_a_row_on_the_page() -> None:
    for name, kind in KINDS.items():
        assert name.startswith(OPERATIONAL)
        assert NAME.fullmatch(name)
        assert f"| `{name}` | {kind.sentence} |" in reference()


def test_a_payload_is_usable_up_to_its_retention_from_the_last_end_and_not_a_moment_longer() -> None:
    just = timedelta(microseconds=1)
    assert standing(last_end=NOW - HOUR + just).usable(NOW, HOUR)
    assert not standing(last_end=NOW - HOUR).usable(NOW, HOUR)
    assert standing(last_end=NOW - 2 * HOUR, awaited=True).usable(NOW, HOUR)
    assert not standing(kept=False, awaited=True).usable(NOW, HOUR)
    assert not standing(last_end=None, accepted=NOW - HOUR).usable(NOW, HOUR)
    assert standing(last_end=None, accepted=NOW - HOUR / 2).usable(NOW, HOUR)


@given(
    st.timedeltas(min_value=timedelta(), max_value=timedelta(days=30)),
    st.timedeltas(min_value=timedelta(), max_value=timedelta(days=60)),
)
def test_no_payload_is_usable_when_its_partition_may_be_dropped(retention: timedelta, age: timedelta) -> None:
    accepted = NOW - age
    found = standing(accepted=accepted, awaited=True)
    assert found.usable(NOW, retention) == (stored_until(ids.floor_at(accepted), retention) > NOW)
    assert stored_until(ids.floor_at(accepted), retention) >= accepted + timedelta(hours=72) + retention


@given(st.text(max_size=300))
def test_any_text_is_either_a_reason_or_refused(text: str) -> None:
    try:
        reason = checked_reason(text)
    except Invalid:
        reason = None
    acceptable = 3 <= len(text.strip()) <= 200 and text.strip().isprintable() and not identifier_carries_pii(text.strip())
    assert reason == (text.strip() if acceptable else None)


@pytest.mark.parametrize("text", ["call me at +44 20 7946 0958", "asked by ada@example.com", "a\x00bc", "ab", "  ab  ", "x" * 201])
def test_a_reason_that_names_somebody_or_is_none_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        checked_reason(text)
