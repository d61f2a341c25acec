"""Health and order as the API shows them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.web.conftest import Api, problem
from tests.receivers import Received, Recorder, status
from tests.scenes import until

pytestmark = pytest.mark.anyio


async def test_health_says_what_the_last_deliveries_showed_and_can_be_searched(acme: Api, receiver: Recorder) -> None:
    async def answer(request: Received) -> bytes:
        return status(502 if request.path == "/ill" else 204)

    receiver.answer = answer
    hook: dict[str, Any] = {"provider": "webhook"}
    ids = [
        (await acme("POST", "/v1/connections", hook | {"url": receiver.url(path)})).json()["connection_id"] for path in ("/ill", "/well")
    ]
    unknown = (await acme("GET", f"/v1/connections/{ids[0]}")).json()["health"]
    assert unknown == {
        "ok": True, "reason": None, "checked_at": None, "failing_since": None, "last_success_at": None, "last_failure_at": None,
    }  # fmt: skip
    await acme("POST", "/v1/events", {"event_type": "order.created", "data": {}})

    async def found(*, healthy: bool) -> list[str]:
        page = (await acme("GET", f"/v1/connections?healthy={str(healthy).lower()}")).json()
        return [one["connection_id"] for one in page["data"]]

    async def both_seen() -> bool:
        shown = [(await acme("GET", f"/v1/connections/{one}")).json()["health"]["checked_at"] for one in ids]
        return None not in shown

    await until(both_seen)
    assert (await found(healthy=False), await found(healthy=True)) == ([ids[0]], [ids[1]])
    ill = (await acme("GET", f"/v1/connections/{ids[0]}")).json()["health"]
    assert (ill["ok"], ill["reason"], ill["last_success_at"]) == (False, "status_502", None)
    assert ill["failing_since"] == ill["last_failure_at"] == ill["checked_at"]
    well = (await acme("GET", f"/v1/connections/{ids[1]}")).json()["health"]
    assert (well["ok"], well["reason"], well["failing_since"]) == (True, None, None)

    paused = (await acme("PATCH", f"/v1/connections/{ids[1]}", {"paused": True})).json()["health"]
    assert paused["ok"] is False
    assert await found(healthy=True) == []


async def test_an_ordering_key_is_taken_kept_from_sight_and_refused_by_its_place(acme: Api, receiver: Recorder) -> None:
    await acme("POST", "/v1/connections", {"provider": "webhook", "url": receiver.url()})
    body = {"event_type": "order.created", "data": {}, "ordering_key": "invoice-4711"}
    one = await acme("POST", "/v1/events", body)
    assert one.status_code == 202
    batch = await acme("POST", "/v1/events/batch", {"events": [{**body, "data": {"n": n}} for n in range(20)]})
    assert [result["status"] for result in batch.json()["results"]] == [202] * 20
    received = await receiver.wait_for(21)
    numbers = [request.body.rpartition(b'"n":')[2].rstrip(b"}") for request in received[1:]]
    assert numbers == [str(n).encode() for n in range(20)]
    assert b"4711" not in b"".join(request.body for request in received)
    assert "4711" not in (await acme("GET", f"/v1/events/{one.json()['event_id']}")).text
    said = problem(await acme("POST", "/v1/events", {**body, "ordering_key": "not a key"}), 422, "invalid_request")
    assert [fault["pointer"] for fault in said["errors"]] == ["/ordering_key"]
