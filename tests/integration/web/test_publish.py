"""The two hot routes: what they answer, what they refuse, what a batch does with its members."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from customhouse.app import App
from customhouse.metrics import EVENTS_REFUSED
from tests.integration.web.conftest import Api, make_tenant, problem
from tests.receivers import Recorder, status

pytestmark = pytest.mark.anyio

EVENT: dict[str, Any] = {"event_type": "invoice.paid", "data": {"amount": 12}}


async def test_an_event_is_accepted_delivered_and_shown(acme: Api, receiver: Recorder) -> None:
    made = (await acme("POST", "/v1/connections", {"provider": "webhook", "url": receiver.url("/hook")})).json()

    answer = await acme("POST", "/v1/events", {**EVENT, "occurred_at": "2026-01-02T03:04:05+01:00"}, headers={"X-Correlation-Id": "job-7"})

    assert answer.status_code == 202, answer.text
    [delivery] = answer.json()["deliveries"]
    assert delivery == {
        "delivery_id": delivery["delivery_id"],
        "connection_id": made["connection_id"],
        "privacy": {"contains_pii": False, "pii_fields": [], "removed_fields": [], "policy": "tenant:0"},
    }
    [request] = await receiver.wait_for(1)
    assert request.headers["x-queast-signature"].startswith("v1=")
    assert b'"correlation_id":"job-7"' in request.body
    assert b'"occurred_at":"2026-01-02T02:04:05Z"' in request.body

    path = f"/v1/deliveries/{delivery['delivery_id']}"
    async with asyncio.timeout(20):
        while (shown := (await acme("GET", path)).json())["status"] != "delivered":
            pass
    [attempt] = shown["attempts"]
    assert (attempt["status_code"], attempt["outcome"], attempt["request_bytes"]) == (204, "delivered", len(request.body))
    event = (await acme("GET", f"/v1/events/{answer.json()['event_id']}")).json()
    assert (event["event_type"], event["correlation_id"], len(event["deliveries"])) == ("invoice.paid", "job-7", 1)
    assert "amount" not in str(event)
    for query, count in (
        ("status=delivered", 1),
        ("status=failed", 0),
        (f"event_id={event['event_id']}", 1),
        ("since=2100-01-01T00:00:00Z", 0),
    ):
        assert len((await acme("GET", f"/v1/deliveries?{query}")).json()["data"]) == count, query


async def test_a_delivery_that_is_refused_by_its_endpoint_shows_why(acme: Api, receiver: Recorder) -> None:
    receiver.answer = status(410)
    await acme("POST", "/v1/connections", {"provider": "webhook", "url": receiver.url("/hook")})
    [delivery] = (await acme("POST", "/v1/events", EVENT)).json()["deliveries"]
    async with asyncio.timeout(20):
        while not (shown := (await acme("GET", f"/v1/deliveries/{delivery['delivery_id']}")).json())["attempts"]:
            pass
    assert shown["attempts"][0]["status_code"] == 410


async def test_connection_ids_narrow_an_event(acme: Api) -> None:
    hook = {"provider": "webhook", "url": "http://127.0.0.1:9/"}
    first, second = [(await acme("POST", "/v1/connections", hook)).json()["connection_id"] for _ in range(2)]
    both = (await acme("POST", "/v1/events", EVENT)).json()
    one = (await acme("POST", "/v1/events", {**EVENT, "connection_ids": [second]})).json()
    assert {delivery["connection_id"] for delivery in both["deliveries"]} == {first, second}
    assert [delivery["connection_id"] for delivery in one["deliveries"]] == [second]


async def test_a_platform_key_names_the_tenant_of_each_event(platform: Api, acme: Api) -> None:
    said = problem(await platform("POST", "/v1/events", EVENT), 422, "invalid_request")
    assert said["errors"] == [{"pointer": "/tenant_id", "detail": "required with a platform key"}]
    made = await platform("POST", "/v1/events", {**EVENT, "tenant_id": "acme"})
    assert (await acme("GET", f"/v1/events/{made.json()['event_id']}")).status_code == 200
    for name in ("_platform", "nobody", "a\u0001", "x" * 200):
        problem(await platform("POST", "/v1/events", {**EVENT, "tenant_id": name}), 404, "not_found")


async def test_publishing_needs_its_scope(platform: Api) -> None:
    reader = await make_tenant(platform, "acme", ["connections:read"])
    for path in ("/v1/events", "/v1/events/batch"):
        assert "events:write" in problem(await reader("POST", path, EVENT), 403, "scope_missing")["detail"]


async def test_every_member_of_a_batch_stands_for_itself(platform: Api, acme: Api, app: App) -> None:
    await make_tenant(platform, "other")
    events: list[Any] = [
        {**EVENT, "event_id": "first"},
        {**EVENT, "event_type": "bad type"},
        "no object",
        {**EVENT, "tenant_id": "other"},
        {**EVENT, "event_id": "first"},
        {**EVENT, "event_id": "first", "data": {}},
        {**EVENT, "data": {"x": "y" * app.settings.max_body_bytes}},
    ]
    answer = await acme("POST", "/v1/events/batch", {"events": events})
    assert answer.status_code == 202
    results = answer.json()["results"]
    assert [one["status"] for one in results] == [202, 422, 422, 404, 202, 409, 413]
    # Members that are accepted together have no order among themselves: one of the two is the first.
    assert sorted(one["duplicate"] for one in results if one["status"] == 202) == [False, True]
    assert [one.get("code") for one in results if one["status"] != 202] == [
        "invalid_request",
        "invalid_request",
        "not_found",
        "idempotency_conflict",
        "too_large",
    ]
    assert results[1]["errors"][0]["pointer"] == "/event_type"
    for code, count in (("invalid_request", 2), ("not_found", 1), ("idempotency_conflict", 1), ("too_large", 1)):
        assert app.metrics.counter(EVENTS_REFUSED, reason=code)._value.get() == count


async def test_a_batch_of_a_thousand_is_accepted_in_order(acme: Api) -> None:
    events = [{**EVENT, "event_id": f"e-{number}"} for number in range(1000)]
    results = (await acme("POST", "/v1/events/batch", {"events": events})).json()["results"]
    assert [one["event_id"] for one in results] == [event["event_id"] for event in events]
    assert {one["status"] for one in results} == {202}


async def test_refused_events_are_counted_by_their_code(acme: Api, app: App) -> None:
    await acme("POST", "/v1/events", {"data": {}})
    await acme("POST", "/v1/events", content=b"{", headers={"Content-Type": "application/json"})
    for code in ("invalid_request", "malformed_json"):
        assert app.metrics.counter(EVENTS_REFUSED, reason=code)._value.get() == 1
