"""`Idempotency-Key`: the same key and body gives the same ids, and no secret a second time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.integration.web.conftest import Api, make_tenant, problem

pytestmark = pytest.mark.anyio

HOOK = {"provider": "webhook", "url": "http://127.0.0.1:9/hook"}
KEY = {"Idempotency-Key": "call-1"}


async def test_a_repeated_connection_is_the_same_one_without_its_secret(acme: Api) -> None:
    first = (await acme("POST", "/v1/connections", HOOK, headers=KEY)).json()
    again = await acme("POST", "/v1/connections", {"url": HOOK["url"], "provider": "webhook"}, headers=KEY)
    assert again.status_code == 201
    signing = again.json()["secrets"]["signing"]
    assert again.json()["connection_id"] == first["connection_id"]
    assert signing == {"key_id": first["secrets"]["signing"]["key_id"], "secret": None, "secret_already_shown": True}
    assert len((await acme("GET", "/v1/connections")).json()["data"]) == 1
    problem(await acme("POST", "/v1/connections", {**HOOK, "description": "x"}, headers=KEY), 409, "idempotency_conflict")


async def test_a_repeated_key_is_the_same_one_without_its_token(acme: Api) -> None:
    body = {"name": "x", "scopes": ["events:write"]}
    first = (await acme("POST", "/v1/api-keys", body, headers=KEY)).json()
    again = (await acme("POST", "/v1/api-keys", body, headers=KEY)).json()
    assert (again["key_id"], again["api_key"], again["secret_already_shown"]) == (first["key_id"], None, True)
    problem(await acme("POST", "/v1/api-keys", {**body, "name": "y"}, headers=KEY), 409, "idempotency_conflict")


async def test_a_repeated_tenant_is_the_same_one(platform: Api) -> None:
    body = {"tenant_id": "acme", "name": "Acme"}
    first = await platform("POST", "/v1/tenants", body, headers=KEY)
    again = await platform("POST", "/v1/tenants", body, headers=KEY)
    assert (again.status_code, again.json()) == (201, first.json())
    problem(await platform("POST", "/v1/tenants", {**body, "name": "B"}, headers=KEY), 409, "idempotency_conflict")


async def test_a_key_is_of_one_tenant_and_one_operation(platform: Api, acme: Api) -> None:
    other = await make_tenant(platform, "other")
    made = [await api("POST", "/v1/connections", HOOK, headers=KEY) for api in (acme, other)]
    assert len({answer.json()["connection_id"] for answer in made}) == 2
    assert (await acme("POST", "/v1/api-keys", {"name": "x", "scopes": ["admin"]}, headers=KEY)).status_code == 201


async def test_many_at_once_make_one(acme: Api) -> None:
    answers = await asyncio.gather(*[acme("POST", "/v1/connections", HOOK, headers=KEY) for _ in range(8)])
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["connection_id"] for answer in answers}) == 1
    assert len([one for one in answers if one.json()["secrets"]["signing"]["secret"] is not None]) == 1


async def test_an_event_repeated_by_header_or_body_is_a_duplicate(acme: Api) -> None:
    event: dict[str, Any] = {"event_type": "a", "data": {"x": 1}}
    first = (await acme("POST", "/v1/events", event, headers=KEY)).json()
    for body, headers in ((event, KEY), ({**event, "idempotency_key": "call-1"}, {}), ({**event, "idempotency_key": "call-1"}, KEY)):
        again = (await acme("POST", "/v1/events", body, headers=headers)).json()
        assert (again["event_id"], again["duplicate"]) == (first["event_id"], True)
    problem(await acme("POST", "/v1/events", {**event, "data": {}}, headers=KEY), 409, "idempotency_conflict")
    said = problem(await acme("POST", "/v1/events", {**event, "idempotency_key": "call-2"}, headers=KEY), 422, "invalid_request")
    assert said["errors"][0]["pointer"] == "/idempotency_key"


async def test_a_key_that_is_odd_personal_or_repeated_is_refused(platform: Api, acme: Api) -> None:
    event = {"event_type": "a", "data": {}}
    for path, body in (("/v1/events", event), ("/v1/connections", HOOK)):
        for key in ("", "a b", "x" * 129, "ada@example.com", "+442079460958", "é"):
            problem(await acme("POST", path, body, headers={"Idempotency-Key": key.encode()}), 422, "invalid_request")
        twice = [("Idempotency-Key", "a"), ("Idempotency-Key", "b"), ("Authorization", f"Bearer {acme.key}")]
        problem(await platform.http.post(f"{acme.base}{path}", json=body, headers=twice), 422, "invalid_request")


async def test_a_batch_takes_keys_in_its_events_only(acme: Api) -> None:
    event = {"event_type": "a", "data": {}, "idempotency_key": "k"}
    problem(await acme("POST", "/v1/events/batch", {"events": [event]}, headers=KEY), 422, "invalid_request")
    first = (await acme("POST", "/v1/events/batch", {"events": [event]})).json()["results"]
    again = (await acme("POST", "/v1/events/batch", {"events": [event]})).json()["results"]
    assert (first[0]["duplicate"], again[0]["duplicate"]) == (False, True)
    assert first[0]["event_id"] == again[0]["event_id"]
