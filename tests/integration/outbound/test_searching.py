"""Searching deliveries: the answer of a plain filter over everything, page by page, at a bounded cost."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import product
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from customhouse import ids
from customhouse.app import App
from customhouse.errors import NotFound
from customhouse.outbound.reads import STATUSES, Delivery, Found, Search
from customhouse.types import TenantId
from tests.receivers import Recorder, status
from tests.scenes import connect, make_tenant, publish, until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def history(app: App, tenant: TenantId, receiver: Recorder, owner: asyncpg.Connection) -> list[Delivery]:
    """Deliveries of two connections and three types in every status but `delivering`, and some of another tenant."""
    receiver.answer = status(500)
    for path in ("/a", "/b"):
        await connect(app, tenant, receiver.url(path))
    other = await make_tenant(app, "other")
    await connect(app, other, receiver.url("/other"))
    for number in range(12):
        await publish(app, tenant, event_type=f"type.{number % 3}", event_id=f"e-{number}")
        await publish(app, other)

    async def all_tried() -> bool:
        return bool(await owner.fetchval("select count(*) = 36 from attempts"))

    await until(all_tried)
    rows = await owner.fetch("select tenant_id, delivery_id from delivery_queue where tenant_id = 'acme' order by delivery_id")
    for place, row in enumerate(rows):
        match place % 6:
            case 0:
                await owner.execute(
                    "update delivery_queue set attempts = 0, next_at = now() + interval '1 h' where delivery_id = $1", row[1]
                )
            case 1:
                await owner.execute("update delivery_queue set next_at = now() + interval '1 h' where delivery_id = $1", row[1])
            case at:
                await owner.execute("delete from delivery_queue where delivery_id = $1", row[1])
                outcome = ("delivered", "failed", "cancelled", "expired")[at - 2]
                await owner.execute(
                    "insert into attempts (tenant_id, delivery_id, attempt, attempt_id, outcome, sent, at)"
                    " values ('acme', $1, 2, $2, $3, false, now())",
                    row[1], ids.new(), outcome,
                )  # fmt: skip
    everything = (await app.reads.search(tenant, Search(), 1000)).deliveries
    assert len(everything) == 24
    assert {one.status for one in everything} == STATUSES - {"delivering"}
    return everything


async def pages(app: App, tenant: TenantId, wanted: Search, size: int) -> list[Delivery]:
    """Read page by page, as a caller does."""
    read: list[Delivery] = []
    while True:
        found: Found = await app.reads.search(tenant, wanted, size + 1)
        read += found.deliveries[:size]
        after = found.deliveries[size - 1].delivery_id if len(found.deliveries) > size else found.resume
        if after is None:
            return read
        wanted = replace(wanted, before=after)


async def test_every_combination_of_filters_finds_what_a_plain_filter_finds(
    app: App, tenant: TenantId, history: list[Delivery], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("customhouse.outbound.reads._WINDOW", 5)
    monkeypatch.setattr("customhouse.outbound.reads._MOST_WINDOWS", 2)
    middle = history[11].created_at
    choices: dict[str, list[Any]] = {
        "status": [None, *sorted(STATUSES)],
        "connection_id": [None, history[0].connection_id],
        "event_type": [None, "type.1", "type.none"],
        "period": [(None, None), (middle, None), (None, middle), (middle - timedelta(seconds=1), middle)],
    }
    for word, connection, event_type, (since, before) in product(*choices.values()):
        wanted = Search(status=word, connection_id=connection, event_type=event_type, since=since, until=before)
        expected = [one.delivery_id for one in history if matches(one, wanted)]
        assert [one.delivery_id for one in await pages(app, tenant, wanted, 4)] == expected, wanted


def matches(one: Delivery, wanted: Search) -> bool:
    def at(moment: datetime | None) -> UUID | None:
        return None if moment is None else ids.floor_at(moment)

    since, before = at(wanted.since), at(wanted.until)
    return (
        wanted.status in {None, one.status}
        and wanted.connection_id in {None, one.connection_id}
        and wanted.event_type in {None, one.event_type}
        and (since is None or one.delivery_id >= since)
        and (before is None or one.delivery_id < before)
    )


async def test_the_deliveries_of_an_event_are_found_under_the_other_conditions_too(
    app: App, tenant: TenantId, history: list[Delivery]
) -> None:
    event = history[0].event_id
    of_event = [one for one in history if one.event_id == event]
    assert len(of_event) == 2
    for wanted in (Search(event_id=event), *(Search(event_id=event, connection_id=one.connection_id) for one in of_event)):
        found = await app.reads.search(tenant, wanted, 10)
        assert [one.delivery_id for one in found.deliveries] == [one.delivery_id for one in of_event if matches(one, wanted)]
    assert (await app.reads.search(tenant, Search(event_id=event, event_type="type.none"), 10)).deliveries == []
    with pytest.raises(NotFound):
        await app.reads.search(tenant, Search(event_id="e-none"), 10)


async def test_a_search_for_what_is_rare_stops_and_says_where(
    app: App, tenant: TenantId, history: list[Delivery], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("customhouse.outbound.reads._WINDOW", 5)
    monkeypatch.setattr("customhouse.outbound.reads._MOST_WINDOWS", 2)
    found = await app.reads.search(tenant, Search(event_type="type.none"), 3)
    assert found == Found([], history[9].delivery_id)
    last = await app.reads.search(tenant, Search(event_type="type.none", before=history[19].delivery_id), 3)
    assert last == Found([], None)
