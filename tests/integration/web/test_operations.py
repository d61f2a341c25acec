"""Retry, recover, test and payload over HTTP: what each answers, and who may."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.integration.web.conftest import PLATFORM_KEY, Api, make_tenant, problem
from tests.receivers import Recorder, status

pytestmark = pytest.mark.anyio

SINCE = {"since": "2026-01-01T00:00:00Z"}


async def _reaches(api: Api, delivery_id: str, word: str) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while True:
            found: dict[str, Any] = (await api("GET", f"/v1/deliveries/{delivery_id}")).json()
            if found["status"] == word:
                return found
            await asyncio.sleep(0.02)


async def _failed(api: Api, receiver: Recorder) -> tuple[str, str]:
    """Return a connection and a delivery of it that a receiver refused for good, on a connection that works again."""
    receiver.answer = status(500)
    made = (await api("POST", "/v1/connections", {"provider": "webhook", "url": receiver.url("/hook")})).json()
    published = (await api("POST", "/v1/events", {"event_type": "order.created", "data": {"order_id": "o_1"}})).json()
    return made["connection_id"], published["deliveries"][0]["delivery_id"]


@pytest.fixture
def environ(environ: dict[str, str]) -> dict[str, str]:
    """Give up after two attempts, a moment apart."""
    return {**environ, "CUSTOMHOUSE_RETRY_SCHEDULE": "1s"}


async def test_a_failed_delivery_is_sent_again_and_answered_as_it_stands(acme: Api, receiver: Recorder) -> None:
    _, delivery = await _failed(acme, receiver)
    problem(await acme("POST", f"/v1/deliveries/{delivery}/retry"), 409, "conflict")
    await _reaches(acme, delivery, "failed")
    receiver.answer = status(204)
    answer = await acme("POST", f"/v1/deliveries/{delivery}/retry")
    assert answer.status_code == 202, answer.text
    assert (answer.json()["delivery_id"], answer.json()["reason"]) == (delivery, None)
    done = await _reaches(acme, delivery, "delivered")
    assert [one["outcome"] for one in done["attempts"]] == ["retrying", "failed", "delivered"]
    problem(await acme("POST", f"/v1/deliveries/{delivery}/retry"), 409, "conflict")
    said = problem(await acme("POST", f"/v1/deliveries/{delivery}/retry?force=yes"), 422, "invalid_request")
    assert said["errors"][0]["pointer"] == "/force"
    assert (await acme("POST", f"/v1/deliveries/{delivery}/retry?force=true")).status_code == 202
    await receiver.wait_for(4)


async def test_recover_answers_how_many_were_queued(acme: Api, receiver: Recorder) -> None:
    connection, delivery = await _failed(acme, receiver)
    await _reaches(acme, delivery, "failed")
    receiver.answer = status(204)
    path = f"/v1/connections/{connection}/recover"
    first = await acme("POST", path, SINCE)
    assert (first.status_code, first.json()) == (202, {"queued": 1, "payload_expired": 0, "more": False})
    assert (await acme("POST", path, SINCE)).json()["queued"] == 0
    await _reaches(acme, delivery, "delivered")
    for body, pointer in (({}, "/since"), ({**SINCE, "status": "delivered"}, "/status"), ({"since": "2099-01-01T00:00:00Z"}, "/since")):
        assert problem(await acme("POST", path, body), 422, "invalid_request")["errors"][0]["pointer"] == pointer


async def test_a_test_event_answers_its_delivery_and_once_per_key(acme: Api, receiver: Recorder) -> None:
    made = await acme("POST", "/v1/connections", {"provider": "webhook", "url": receiver.url("/hook"), "event_types": ["none"]})
    path = f"/v1/connections/{made.json()['connection_id']}/test"
    first = await acme("POST", path, headers={"Idempotency-Key": "k-1"})
    assert (first.status_code, first.json()["event_type"]) == (202, "customhouse.ping")
    again = await acme("POST", path, headers={"Idempotency-Key": "k-1"})
    assert again.json()["delivery_id"] == first.json()["delivery_id"]
    await _reaches(acme, first.json()["delivery_id"], "delivered")
    assert len(receiver.received) == 1


async def test_a_payload_needs_both_scopes_a_reason_and_is_never_cached(platform: Api, acme: Api, receiver: Recorder) -> None:
    receiver.answer = status(204)
    await acme("POST", "/v1/connections", {"provider": "webhook", "url": receiver.url("/hook")})
    published = (await acme("POST", "/v1/events", {"event_type": "order.created", "data": {"order_id": "o_1"}})).json()
    (request,) = await receiver.wait_for(1)
    path = f"/v1/deliveries/{published['deliveries'][0]['delivery_id']}/payload"
    problem(await acme("GET", path), 422, "invalid_request")
    problem(await acme("GET", path + "?reason=ada@example.com"), 422, "invalid_request")
    for scopes in (["payloads:read"], ["admin"], ["connections:read", "events:write"]):
        key = (await acme("POST", "/v1/api-keys", {"name": "some", "scopes": scopes})).json()["api_key"]
        problem(await acme.as_key(key)("GET", path + "?reason=support+case"), 403, "scope_missing")
    before = (await acme("GET", "/v1/audit")).text
    assert "payload.viewed" not in before
    seen = await acme("GET", path + "?reason=support+case")
    assert seen.status_code == 200, seen.text
    assert seen.headers["cache-control"] == "no-store"
    assert seen.json()["body"].encode() == request.body
    (entry,) = [one for one in (await acme("GET", "/v1/audit")).json()["data"] if one["type"] == "payload.viewed"]
    assert (entry["entry_id"], entry["detail"]) == (seen.json()["audit_entry_id"], {"reason": "support case"})
    await make_tenant(platform, "other")
    named = acme.as_key(PLATFORM_KEY)
    problem(await named("GET", path + "?reason=support+case"), 422, "invalid_request")
    assert (await named("GET", path + "?reason=support+case&tenant_id=acme")).status_code == 200


async def test_a_payload_past_its_retention_is_gone(platform: Api, acme: Api, receiver: Recorder, owner: Any) -> None:
    connection, delivery = await _failed(acme, receiver)
    await _reaches(acme, delivery, "failed")
    await owner.execute("update attempts set at = at - interval '72 hours'")
    problem(await acme("GET", f"/v1/deliveries/{delivery}/payload?reason=support+case"), 410, "payload_expired")
    problem(await acme("POST", f"/v1/deliveries/{delivery}/retry"), 410, "payload_expired")
    answer = await acme("POST", f"/v1/connections/{connection}/recover", SINCE)
    assert answer.json() == {"queued": 0, "payload_expired": 1, "more": False}


async def test_deliveries_are_searched_by_type_and_period(acme: Api, receiver: Recorder) -> None:
    receiver.answer = status(204)
    await acme("POST", "/v1/connections", {"provider": "webhook", "url": receiver.url("/hook")})
    for event_type in ("order.created", "order.paid"):
        await acme("POST", "/v1/events", {"event_type": event_type, "data": {}})
    found = (await acme("GET", "/v1/deliveries?event_type=order.paid&since=2026-01-01T00:00:00Z&until=2099-01-01T00:00:00Z")).json()
    assert ([one["event_type"] for one in found["data"]], found["next_cursor"]) == (["order.paid"], None)
    assert (await acme("GET", "/v1/deliveries?until=2026-01-01T00:00:00Z")).json()["data"] == []
    assert problem(await acme("GET", "/v1/deliveries?event_type=a+b"), 422, "invalid_request")["errors"][0]["pointer"] == "/event_type"
