"""Tenants, keys, connections, event types, policies, ledger: what each call answers and does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from customhouse.clock import rfc3339
from tests.integration.web.conftest import PLATFORM_KEY, Api, make_tenant, problem
from tests.receivers import Recorder

pytestmark = pytest.mark.anyio

HOOK = {"provider": "webhook", "url": "http://127.0.0.1:9/hook"}


async def _connect(api: Api, **more: Any) -> dict[str, Any]:
    answer = await api("POST", "/v1/connections", {**HOOK, **more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_a_tenant_is_created_once_and_shown(platform: Api) -> None:
    made = await platform("POST", "/v1/tenants", {"tenant_id": "acme", "name": " Acme "})
    assert (made.status_code, made.json()["name"], made.json()["status"]) == (201, "Acme", "active")
    assert (await platform("GET", "/v1/tenants/acme")).json() == made.json()
    problem(await platform("POST", "/v1/tenants", {"tenant_id": "acme", "name": "Again"}), 409, "conflict")
    problem(await platform("GET", "/v1/tenants/_platform"), 404, "not_found")


async def test_a_tenant_id_that_is_personal_or_odd_is_refused(platform: Api) -> None:
    for tenant_id in ("ada@example.com", "_platform", "a b", "", "-x", "x" * 129, "+44 20 7946 0958"):
        said = problem(await platform("POST", "/v1/tenants", {"tenant_id": tenant_id, "name": "x"}), 422, "invalid_request")
        assert said["errors"][0]["pointer"] == "/tenant_id"


async def test_a_key_is_shown_once_listed_without_its_token_and_revoked(platform: Api, acme: Api) -> None:
    expires_at = rfc3339(datetime.now(UTC) + timedelta(days=1))
    made = (await acme("POST", "/v1/api-keys", {"name": "ci", "scopes": ["events:write"], "expires_at": expires_at})).json()
    token = made.pop("api_key")
    assert token.startswith("ck_")
    assert made.pop("secret_already_shown") is False
    listed = await acme("GET", "/v1/api-keys")
    assert made in listed.json()["data"]
    assert token not in listed.text

    limited = acme.as_key(token)
    assert (await limited("POST", "/v1/events", {"event_type": "a", "data": {}})).status_code == 202
    said = problem(await limited("GET", "/v1/connections"), 403, "scope_missing")
    assert "connections:read" in said["detail"]

    assert (await acme("DELETE", f"/v1/api-keys/{made['key_id']}")).status_code == 204
    problem(await limited("POST", "/v1/events", {"event_type": "a", "data": {}}), 401, "unauthenticated")
    assert (await acme("DELETE", f"/v1/api-keys/{made['key_id']}")).status_code == 204
    [revoked] = [one for one in (await acme("GET", "/v1/api-keys")).json()["data"] if one["key_id"] == made["key_id"]]
    assert revoked["revoked_at"] is not None
    assert (await platform("GET", "/v1/api-keys?tenant_id=acme")).json()["data"][0] == revoked


async def test_a_key_cannot_give_what_it_does_not_have(platform: Api) -> None:
    limited = await make_tenant(platform, "acme", ["admin"])
    problem(await limited("POST", "/v1/api-keys", {"name": "x", "scopes": ["admin", "audit:read"]}), 403, "scope_missing")


async def test_a_further_platform_key_has_to_be_asked_for_by_name(platform: Api) -> None:
    said = problem(await platform("POST", "/v1/api-keys", {"name": "x", "scopes": ["admin"]}), 422, "invalid_request")
    assert [fault["pointer"] for fault in said["errors"]] == ["/tenant_id"]
    made = await platform("POST", "/v1/api-keys", {"tenant_id": "_platform", "name": "x", "scopes": ["admin"]})
    second = platform.as_key(made.json()["api_key"])
    assert (await second("POST", "/v1/tenants", {"tenant_id": "acme", "name": "Acme"})).status_code == 201


async def test_who_does_not_show_exactly_one_valid_key_is_not_let_in(platform: Api, acme: Api) -> None:
    assert acme.key is not None
    for header in (
        None,
        "",
        "Bearer",
        "Bearer ck_",
        "Basic YTpi",
        f"Token {acme.key}",
        "Bearer ck_wrong",
        f"Bearer {acme.key}x",
        "Bearer é",
        "Bearer " + "x" * 500,
    ):
        for method, path in (
            ("GET", "/v1/connections"),
            ("POST", "/v1/events"),
            ("POST", "/v1/events/batch"),
            ("POST", "/v1/tenants"),
            ("GET", "/metrics"),
        ):
            headers = {} if header is None else {"Authorization": header.encode()}
            answer = await platform.as_key(None)(method, path, headers=headers)
            problem(answer, 401, "unauthenticated")
            assert answer.headers["www-authenticate"] == "Bearer"
    twice = [("Authorization", f"Bearer {acme.key}"), ("Authorization", f"Bearer {PLATFORM_KEY}")]
    problem(await platform.http.get(f"{platform.base}/v1/connections", headers=twice), 401, "unauthenticated")
    assert (await platform.as_key(None)("GET", "/v1/connections", headers={"Authorization": f"bEARER  {acme.key}"})).status_code == 200


async def test_an_unauthenticated_body_is_not_even_read(platform: Api) -> None:
    answer = await platform.as_key(None)("POST", "/v1/tenants", content=b"\xff" * 1000, headers={"Content-Type": "text/plain"})
    problem(answer, 401, "unauthenticated")


async def test_a_connection_shows_its_secret_once_and_never_again(acme: Api) -> None:
    made = await _connect(
        acme,
        event_types=["person.*"],
        signature_profile="standard-webhooks",
        signature_algorithm="v1a",
        user_id="auth0|7",
        description="CRM",
    )
    signing = made.pop("secrets")["signing"]
    assert signing["secret"].startswith("whpk_") or len(signing["secret"]) >= 32
    assert signing["secret_already_shown"] is False
    (key,) = made["signing_keys"]
    assert (key["key_id"], key["state"], key["valid_until"]) == (signing["key_id"], "active", None)
    assert (made["status"], made["health"]["ok"], made["mode"], made["user_id"]) == ("active", True, "observe", "auth0|7")
    assert (made["scopes"]["granted"], made["account"]["id"], made["token"]["token_generation"]) == ([], None, 0)
    shown = await acme("GET", f"/v1/connections/{made['connection_id']}")
    assert shown.json() == made
    assert signing["secret"] not in shown.text
    assert shown.headers["cache-control"] == "no-store"


async def test_a_connection_is_changed_paused_and_resumed(acme: Api) -> None:
    made = await _connect(acme)
    path = f"/v1/connections/{made['connection_id']}"
    changed = (await acme("PATCH", path, {"url": "http://127.0.0.1:9/other", "event_types": ["a", "b.*"], "description": "x"})).json()
    assert (changed["url"], changed["event_types"], changed["description"]) == ("http://127.0.0.1:9/other", ["a", "b.*"], "x")
    paused = (await acme("PATCH", path, {"paused": True})).json()
    assert (paused["status"], paused["health"]["ok"], paused["url"]) == ("paused", False, changed["url"])
    assert (await acme("PATCH", path, {"paused": False})).json()["status"] == "active"


async def test_disconnecting_answers_a_receipt_and_leaves_a_trace(acme: Api) -> None:
    made = await _connect(acme)
    path = f"/v1/connections/{made['connection_id']}"
    receipt = (await acme("DELETE", path)).json()
    entry_id, at = receipt.pop("audit_entry_id"), receipt.pop("at")
    assert at.endswith("Z")
    assert receipt["updated_at"] >= at
    assert {name: value for name, value in receipt.items() if name != "updated_at"} == {
        "connection_id": made["connection_id"],
        "tenant_id": "acme",
        "provider": "webhook",
        "reason": "requested",
        "version": 2,
        "shared": False,
        "instructions": None,
        "subscriptions_ended": 0,
        "revocation": {"status": "unsupported", "verified": False, "attempts": 0},
        "tokens_destroyed": True,
        "key_destroyed": True,
        "escrow_until": None,
        "actions_cancelled": 0,
        "deliveries_cancelled": 0,
        "notified": False,
    }
    after = (await acme("GET", path)).json()
    assert (after["status"], after["url"], after["signing_keys"][0]["state"]) == ("disconnected", None, "destroyed")
    problem(await acme("DELETE", path), 409, "conflict")
    problem(await acme("PATCH", path, {"paused": False}), 409, "conflict")
    entries = (await acme("GET", f"/v1/audit?connection_id={made['connection_id']}&type=connection.disconnected")).json()["data"]
    assert [one["entry_id"] for one in entries] == [entry_id]


async def test_disconnecting_again_finishes_what_a_dead_process_left(acme: Api, owner: asyncpg.Connection) -> None:
    made = await _connect(acme)
    await owner.execute("update connections set status = 'disconnected', url_sealed = null")
    problem(await acme("DELETE", f"/v1/connections/{made['connection_id']}"), 409, "conflict")
    assert {row["state"] for row in await owner.fetch("select state from data_keys where purpose = 'connection'")} == {"destroyed"}


async def test_lists_come_in_pages_without_gaps_or_repeats(acme: Api) -> None:
    made = [(await _connect(acme, description=str(number)))["connection_id"] for number in range(5)]
    for path, name, whole in (
        ("/v1/connections", "connection_id", made[::-1]),
        ("/v1/audit?type=connection.created", "connection_id", made[::-1]),
    ):
        seen: list[str] = []
        cursor: str | None = None
        while True:
            answer = (await acme("GET", path, params={"limit": "2", **({"cursor": cursor} if cursor else {})} | _query(path))).json()
            seen += [one[name] for one in answer["data"]]
            cursor = answer["next_cursor"]
            if cursor is None:
                break
            assert len(answer["data"]) == 2
        assert seen == whole
    for limit in ("0", "201", "-1", "x"):
        problem(await acme("GET", f"/v1/connections?limit={limit}"), 422, "invalid_request")


def _query(path: str) -> dict[str, str]:
    _, _, query = path.partition("?")
    return dict([query.split("=")]) if query else {}


async def test_connections_are_filtered(acme: Api) -> None:
    first, second = await _connect(acme, user_id="u1"), await _connect(acme)
    await acme("PATCH", f"/v1/connections/{second['connection_id']}", {"paused": True})
    for query, expected in (
        ("user_id=u1", [first]),
        ("status=paused", [second]),
        ("provider=webhook", [second, first]),
        ("provider=zoom", []),
    ):
        found = (await acme("GET", f"/v1/connections?{query}")).json()["data"]
        assert [one["connection_id"] for one in found] == [one["connection_id"] for one in expected]


async def test_event_types_are_declared_changed_and_published_as_schemas(platform: Api, acme: Api) -> None:
    schema = {"type": "object", "properties": {"person": {"type": "object"}}, "required": ["person"]}
    body = {"event_type": "person.updated", "description": "x", "schema": schema, "pii": {"/person/phone": "phone"}}
    made = await acme("POST", "/v1/event-types", body)
    assert made.status_code == 201
    assert {name: made.json()[name] for name in body} == body
    changed = await acme("POST", "/v1/event-types", {**body, "description": "y"})
    assert (changed.status_code, changed.json()["description"]) == (200, "y")
    shown = await acme("GET", "/v1/schemas/person.updated")
    assert (shown.json(), shown.headers["content-type"]) == (schema, "application/schema+json")
    assert (await acme("GET", "/v1/schemas")).json()["data"] == [{"name": "person.updated", "href": "/v1/schemas/person.updated"}]
    assert (await acme("GET", "/v1/schemas/envelope")).json()["properties"]["schema_version"] == {"const": "1.0"}

    said = problem(await acme("POST", "/v1/events", {"event_type": "person.updated", "data": {}}), 422, "invalid_request")
    assert said["errors"][0]["pointer"] == "/data"

    shared = await platform("POST", "/v1/event-types", {"tenant_id": "_platform", "event_type": "person.updated"})
    assert shared.status_code == 201
    [listed] = (await acme("GET", "/v1/event-types")).json()["data"]
    assert (listed["tenant_id"], listed["schema"]) == ("_platform", None)
    assert (await acme("GET", "/v1/schemas/person.updated")).json() == {"type": "object"}
    problem(await acme("POST", "/v1/event-types", body), 409, "conflict")


async def test_event_types_come_in_pages_by_name(platform: Api, acme: Api) -> None:
    for name in ("b", "a.x", "A", "a"):
        await acme("POST", "/v1/event-types", {"event_type": name})
    await platform("POST", "/v1/event-types", {"tenant_id": "_platform", "event_type": "a"})
    seen, query = [], "?limit=1"
    while True:
        page = (await acme("GET", f"/v1/event-types{query}")).json()
        seen += [(one["event_type"], one["tenant_id"]) for one in page["data"]]
        if page["next_cursor"] is None:
            break
        query = f"?limit=1&cursor={page['next_cursor']}"
    assert seen == [("A", "acme"), ("a", "_platform"), ("a.x", "acme"), ("b", "acme")]


async def test_the_policy_decides_which_personal_data_leaves(acme: Api, receiver: Recorder) -> None:
    path = "/v1/tenants/acme/privacy-policy"
    assert (await acme("GET", path)).json() == {"version": 0, "allowed_fields": ["work_email"], "connections": {}, "on_violation": "remove"}
    made = await _connect(acme, url=receiver.url("/"))
    event = {"event_type": "a", "data": {"person": {"person_id": "p1", "work_email": "ada@example.com", "phone": "+442079460958"}}}
    [delivery] = (await acme("POST", "/v1/events", event)).json()["deliveries"]
    assert delivery["privacy"]["removed_fields"] == ["person.phone"]

    put = await acme(
        "PUT", path, {"allowed_fields": ["phone", "work_email"], "connections": {made["connection_id"]: {"allowed_fields": []}}}
    )
    assert put.json() == (await acme("GET", path)).json()
    assert put.json()["version"] == 1
    [delivery] = (await acme("POST", "/v1/events", event)).json()["deliveries"]
    assert set(delivery["privacy"]["removed_fields"]) == {"person.phone", "person.work_email"}

    await acme("PUT", path, {"allowed_fields": [], "on_violation": "refuse"})
    said = problem(await acme("POST", "/v1/events", event), 422, "privacy_policy_violation")
    assert "ada@example.com" not in str(said)
    [entry] = (await acme("GET", "/v1/audit?type=event.refused")).json()["data"]
    assert "ada@example.com" not in str(entry)


async def test_the_ledger_says_who_did_what_in_which_request(acme: Api) -> None:
    answer = await acme("POST", "/v1/connections", HOOK, headers={"X-Correlation-Id": "job-7"})
    [entry] = (await acme("GET", "/v1/audit?type=connection.created")).json()["data"]
    assert entry["actor"]["type"] == "api_key"
    assert entry["request_id"] == answer.headers["x-request-id"]
    assert entry["correlation_id"] == "job-7"
    assert entry["connection_id"] == answer.json()["connection_id"]
    assert entry["detail"]["host"] == "127.0.0.1"
    assert (await acme("GET", f"/v1/audit?actor_id={entry['actor']['id']}&since=2020-01-01T00:00:00Z")).json()["data"][-1][
        "actor"
    ] == entry["actor"]
    assert (await acme("GET", "/v1/audit?until=2020-01-01T00:00:00Z")).json()["data"] == []
    problem(await acme("GET", "/v1/audit?type=no.such"), 422, "invalid_request")


async def test_an_operator_reads_the_operators_ledger(platform: Api, acme: Api) -> None:
    entries = (await platform("GET", "/v1/audit?tenant_id=_platform")).json()["data"]
    assert "api_key.created" in {one["type"] for one in entries}
    problem(await acme("GET", "/v1/audit?tenant_id=_platform"), 404, "not_found")
