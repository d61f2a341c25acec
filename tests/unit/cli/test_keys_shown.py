"""How keys are shown, and how fast they are replaced."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from customhouse.canonical import dump
from customhouse.cli.keys_shown import Pace, as_json, picture
from customhouse.types import TenantId
from customhouse.vault.inventory import Count, Held, Inventory, TenantKey
from customhouse.vault.steps import Outlook

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
YEAR = timedelta(days=365)


def inventory() -> Inventory:
    """A tenant in the middle of a rotation."""
    return Inventory(
        root="file:new",
        tenants=1,
        roots={"file:new": 1, "file:old": 1},
        tenant_keys=Count(active=1, retired=1, oldest=NOW - timedelta(days=1), due=0),
        data_keys={
            "connection": Count(next=2, active=40, retired=1, oldest=NOW - YEAR * 2, month=1, year=30, due=10),
            "mac": Count(active=1),
        },
        listed=[TenantKey(UUID(int=1), "file:old", "retired", NOW - timedelta(days=400), 3)],
        held=[Held(TenantId("acme"), UUID(int=2), UUID(int=3), NOW, ("revocation_escrow",))],
        unfinished=[("all", None, NOW)],
    )


def test_the_picture_says_what_is_there_what_is_due_and_what_holds_an_old_key() -> None:
    shown = picture(inventory(), Outlook(2, 1, 1, NOW + timedelta(minutes=7)), YEAR, NOW)
    for words in (
        "root key         file:new",
        "1 tenant keys under file:old",
        "connection keys  40 in use, the oldest 730 days old; 2 to come, 1 replaced, 0 destroyed",
        "retired, 400 days old, wraps 3, under file:old",
        "due              0 tenant keys, 10 connection keys (older than 365 days)",
        "2 new keys wait to take over, 1 old ones to end; next step at 2026-11-22T12:07:00Z",
        "2026-11-22T12:00:00Z: all; `keys rotate` goes on",
        "(acme): revocation_escrow",
    ):
        assert words in shown
    bars = [line.count("█") for line in shown.splitlines() if "█" in line]
    assert bars == [1, 29, 10]


def test_nothing_under_way_is_not_mentioned() -> None:
    shown = picture(Inventory("file:new"), Outlook(0, 0, 0, None), YEAR, NOW)
    assert "under way" not in shown
    assert "█" not in shown


@given(
    st.integers(0, 10**6).flatmap(lambda year: st.tuples(st.integers(0, year), st.just(year), st.integers(year, 10**6 + year))),
    st.integers(0, 9),
)
def test_a_bar_is_there_for_whatever_is_there_and_never_longer_than_its_line(ages: tuple[int, int, int], retired: int) -> None:
    month, year, active = ages
    found = Inventory("file:new", data_keys={"connection": Count(active=active, retired=retired, oldest=NOW, month=month, year=year)})
    lines = [line for line in picture(found, Outlook(0, 0, 0, None), YEAR, NOW).splitlines() if line.startswith("                 ")]
    assert len(lines) == (3 if active else 0)
    for line, number in zip(lines, (month, year - month, active - year), strict=False):
        assert (line.count("█") > 0) is (number > 0)
        assert line.count("█") <= 40
        assert line.endswith(f" {number}")
    dump(as_json(found, Outlook(0, 0, 0, None), YEAR))


def test_the_json_has_all_of_it() -> None:
    shown = as_json(inventory(), Outlook(2, 1, 1, NOW), YEAR)
    assert shown["under_way"] == {"waiting": 2, "replaced": 1, "overdue": 1, "due_at": "2026-11-22T12:00:00Z"}
    assert shown["unfinished"] == [{"kind": "all", "tenant_id": None, "started_at": "2026-11-22T12:00:00Z"}]
    assert shown["held"][0]["held_by"] == ["revocation_escrow"]  # type: ignore[index, call-overload]
    dump(shown)


class Counted:
    """A clock that adds up how long was slept, in place of the time."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return self.seconds


@pytest.mark.anyio
async def test_a_pace_is_kept_on_the_whole() -> None:
    clock = Counted()
    pace = Pace(1_000_000, clock)
    for _ in range(100):
        await pace.after(10)
    assert pace.ahead == pytest.approx(0.001)
    clock.seconds = 5.0
    await pace.after(1)
    assert pace.ahead == pytest.approx(0.000_001), "a pause is not made up for"
    await Pace(None, clock).after(10**9)
