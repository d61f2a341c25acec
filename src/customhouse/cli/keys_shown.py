"""How the keys are shown: a picture for people, JSON for programs; and how fast a rotation goes."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Final

from customhouse import ids
from customhouse.clock import Clock, SystemClock, rfc3339
from customhouse.types import Json, JsonObject
from customhouse.vault.inventory import Count, Inventory
from customhouse.vault.steps import Outlook

_WIDTH: Final = 40
_WORDS: Final = {"connection": "connection keys", "payload": "payload keys (a tenant's day)", "mac": "keys for hashes"}


class Pace:
    """Keeps a number of things a second, on the whole."""

    def __init__(self, rate: int | None, clock: Clock | None = None) -> None:
        """Take how many a second; None: as fast as it goes."""
        self._rate = rate
        self._clock = clock or SystemClock()
        self._next: float | None = None

    @property
    def ahead(self) -> float:
        """Seconds until the next thing may be done."""
        return 0.0 if self._next is None else max(0.0, self._next - self._clock.monotonic())

    async def after(self, count: int) -> None:
        """Wait as long as so many take."""
        if self._rate is None:
            return
        now = self._clock.monotonic()
        self._next = max(now, self._next or now) + count / self._rate
        await asyncio.sleep(self.ahead)


def picture(found: Inventory, outlook: Outlook, older_than: timedelta, now: datetime) -> str:
    """Return the keys as lines of text."""
    lines = [f"root key         {found.root}"]
    lines += [f"                 {count} tenant keys under {root}" for root, count in sorted(found.roots.items())]
    lines.append(_line("tenant keys", found.tenant_keys, now))
    for listed in found.listed:
        lines.append(
            f"                 {listed.key_id} {listed.state}, {_age(listed.created_at, now)}, wraps {listed.wraps}, under {listed.root}"
        )
    for purpose, count in sorted(found.data_keys.items()):
        lines.append(_line(_WORDS.get(purpose, purpose), count, now))
        if purpose == "connection" and count.active:
            lines += _ages(count)
    due = found.data_keys.get("connection", Count()).due
    lines.append(f"due              {found.tenant_keys.due} tenant keys, {due} connection keys (older than {older_than.days} days)")
    if outlook.waiting or outlook.replaced:
        until = "" if outlook.due_at is None else f"; next step at {rfc3339(outlook.due_at.replace(microsecond=0))}"
        lines.append(f"under way        {outlook.waiting} new keys wait to take over, {outlook.replaced} old ones to end{until}")
    for kind, tenant, begun in found.unfinished:
        lines.append(
            f"begun            {rfc3339(begun.replace(microsecond=0))}: {kind}{f' of {tenant}' if tenant else ''}; `keys rotate` goes on"
        )
    for held in found.held:
        needed = ", ".join(held.held_by) or "nothing: it ends at the next step"
        lines.append(f"still needed     {held.key_id} of {ids.show('con', held.connection_id)} ({held.tenant}): {needed}")
    return "\n".join(lines) + "\n"


def as_json(found: Inventory, outlook: Outlook, older_than: timedelta) -> JsonObject:
    """Return the keys as JSON."""
    roots: dict[str, Json] = dict(sorted(found.roots.items()))
    data: dict[str, Json] = {purpose: _count(count) for purpose, count in sorted(found.data_keys.items())}
    listed: list[Json] = [
        {"key_id": str(key.key_id), "root": key.root, "state": key.state, "created_at": rfc3339(key.created_at), "wraps": key.wraps}
        for key in found.listed
    ]
    held: list[Json] = [
        {
            "key_id": str(one.key_id),
            "tenant_id": one.tenant,
            "connection_id": ids.show("con", one.connection_id),
            "replaced_at": rfc3339(one.since),
            "held_by": [*one.held_by],
        }
        for one in found.held
    ]
    unfinished: list[Json] = [{"kind": kind, "tenant_id": tenant, "started_at": rfc3339(begun)} for kind, tenant, begun in found.unfinished]
    return {
        "root": found.root,
        "tenants": found.tenants,
        "roots": roots,
        "due_after_days": older_than.days,
        "tenant_keys": _count(found.tenant_keys),
        "data_keys": data,
        "tenant_keys_listed": listed,
        "under_way": {
            "waiting": outlook.waiting,
            "replaced": outlook.replaced,
            "overdue": outlook.overdue,
            "due_at": None if outlook.due_at is None else rfc3339(outlook.due_at),
        },
        "held": held,
        "unfinished": unfinished,
    }


def _line(words: str, count: Count, now: datetime) -> str:
    oldest = "" if count.oldest is None else f", the oldest {_age(count.oldest, now)}"
    return f"{words:<16} {count.active} in use{oldest}; {count.next} to come, {count.retired} replaced, {count.destroyed} destroyed"


def _ages(count: Count) -> list[str]:
    groups = (("under 30 days", count.month), ("under a year", count.year - count.month), ("a year or more", count.active - count.year))
    return [f"                 {words:<15} {'█' * _length(number, count.active):<{_WIDTH}} {number}" for words, number in groups]


def _length(number: int, total: int) -> int:
    # What is there is seen, however few.
    return max(1, round(_WIDTH * number / total)) if number else 0


def _age(moment: datetime, now: datetime) -> str:
    days = (now - moment).days
    return f"{days} days old" if days != 1 else "1 day old"


def _count(count: Count) -> JsonObject:
    return {
        "next": count.next,
        "active": count.active,
        "retired": count.retired,
        "destroyed": count.destroyed,
        "oldest": None if count.oldest is None else rfc3339(count.oldest),
        "under_30_days": count.month,
        "under_365_days": count.year,
        "due": count.due,
    }
