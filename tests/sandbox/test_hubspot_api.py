"""HubSpot's contacts: one by one, searched, and in batches of which a part may fail."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from customhouse_sandbox import FaultKind, Operation
from tests.sandboxes import Peer

pytestmark = pytest.mark.anyio

BASE = "/crm/v3/objects/contacts"


@pytest.fixture
async def access(hubspot: Peer) -> str:
    return (await hubspot.connect())["access_token"]


async def post(hubspot: Peer, access: str, path: str, body: object) -> httpx.Response:
    return await hubspot.call("POST", f"{BASE}{path}", access, body)


def row(name: str, **properties: object) -> dict[str, object]:
    return {"idProperty": "email", "id": name, "properties": properties}


async def search(hubspot: Peer, access: str, email: str) -> dict[str, Any]:
    filters = [{"propertyName": "email", "operator": "EQ", "value": email}]
    said: dict[str, Any] = (await post(hubspot, access, "/search", {"filterGroups": [{"filters": filters}]})).json()
    return said


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", BASE, "read"),
        ("GET", f"{BASE}/101", "read"),
        ("POST", f"{BASE}/search", "read"),
        ("POST", f"{BASE}/batch/read", "read"),
        ("POST", f"{BASE}/batch/upsert", "write"),
        ("POST", BASE, "write"),
        ("PATCH", f"{BASE}/101", "write"),
        ("DELETE", f"{BASE}/101", "write"),
    ],
)
async def test_each_call_needs_its_scope(hubspot: Peer, method: str, path: str, scope: str) -> None:
    hubspot.sandbox.order("hubspot", FaultKind.SCOPE_FEWER, Operation.EXCHANGE, scopes=[f"crm.objects.contacts.{scope}"])
    refused = await hubspot.call(method, path, (await hubspot.connect())["access_token"])
    assert (refused.status_code, refused.json()["category"]) == (403, "MISSING_SCOPES")
    assert refused.json()["errors"][0]["context"] == {"requiredGranularScopes": [f"crm.objects.contacts.{scope}"]}
    unknown = await hubspot.call(method, path, "nothing")
    assert (unknown.status_code, unknown.json()["category"]) == (401, "INVALID_AUTHENTICATION")


async def test_companies_are_no_contacts(hubspot: Peer, access: str) -> None:
    refused = await hubspot.call("GET", "/crm/v3/objects/companies", access)
    assert refused.json()["errors"][0]["context"]["requiredGranularScopes"] == ["crm.objects.companies.read"]


@pytest.mark.parametrize("fact", ["yes", "no"])
async def test_errors_name_a_category_where_their_fact_says_so(hubspot: Peer, access: str, fact: str) -> None:
    hubspot.sandbox.set_fact("hubspot", "error_categories", fact)
    refused = await hubspot.call("GET", "/crm/v3/objects/companies", access)
    assert (refused.status_code, "category" in refused.json()) == (403, fact == "yes")
    assert (await hubspot.call("GET", "/nothing", access)).status_code == 404


async def test_a_batch_makes_and_changes_by_email(hubspot: Peer, access: str) -> None:
    inputs = [{**row("New@example.org", firstname="New"), "objectWriteTraceId": "t-1"}, row("contact1@example.org", lastname="Changed")]
    answer = await post(hubspot, access, "/batch/upsert", {"inputs": inputs})
    said = answer.json()
    assert (answer.status_code, said["status"], [one["new"] for one in said["results"]]) == (200, "COMPLETE", [True, False])
    assert said["results"][0]["objectWriteTraceId"] == "t-1"
    assert said["results"][0]["properties"]["email"] == "new@example.org"
    again = (await post(hubspot, access, "/batch/upsert", {"inputs": inputs})).json()
    assert [(one["id"], one["new"]) for one in again["results"]] == [(one["id"], False) for one in said["results"]]
    twin = await hubspot.call("POST", "/crm/objects/2026-09/contacts/batch/upsert", access, {"inputs": inputs})
    assert [one["id"] for one in twin.json()["results"]] == [one["id"] for one in said["results"]]
    assert (await search(hubspot, access, "new@example.org"))["total"] == 1


@pytest.mark.parametrize("fact", ["each_alone", "all_or_nothing"])
async def test_what_is_refused_in_a_batch_leaves_the_others_where_its_fact_says_so(hubspot: Peer, access: str, fact: str) -> None:
    hubspot.sandbox.set_fact("hubspot", "partial_upsert", fact)
    answer = await post(
        hubspot, access, "/batch/upsert", {"inputs": [row("good@example.org"), row("bad", firstname="x"), row("c@example.org", shoe="9")]}
    )
    if fact == "each_alone":
        said = answer.json()
        assert (answer.status_code, said["numErrors"], len(said["results"])) == (207, 2, 1)
        assert [one["context"]["ids"] for one in said["errors"]] == [["bad"], ["c@example.org"]]
    else:
        assert (answer.status_code, answer.json()["category"]) == (400, "VALIDATION_ERROR")
    assert (await search(hubspot, access, "good@example.org"))["total"] == (1 if fact == "each_alone" else 0)


@pytest.mark.parametrize("size", ["100", "50"])
async def test_a_batch_takes_as_many_as_its_fact_says(hubspot: Peer, access: str, size: str) -> None:
    hubspot.sandbox.set_fact("hubspot", "batch_size", size)
    inputs = [row(f"p{index}@example.org") for index in range(int(size) + 1)]
    assert (await post(hubspot, access, "/batch/upsert", {"inputs": inputs})).status_code == 400
    assert (await post(hubspot, access, "/batch/upsert", {"inputs": inputs[1:]})).status_code == 200


@pytest.mark.parametrize(
    "inputs", [None, [], ["x"], [{"id": ""}], [{"id": 5}], [row("a@b.example"), row("A@b.example")], [{"id": "a", "idProperty": 1}]]
)
async def test_a_batch_out_of_order_is_refused_whole(hubspot: Peer, access: str, inputs: object) -> None:
    for path in ("/batch/upsert", "/batch/read"):
        assert (await post(hubspot, access, path, {"inputs": inputs})).status_code == 400


async def test_an_upsert_takes_nobody_elses_address_and_no_property_that_is_not_unique(hubspot: Peer, access: str) -> None:
    inputs = [
        row("contact1@example.org", email="contact2@example.org"),
        {"idProperty": "phone", "id": "1", "properties": {}},
        {"id": "9999", "properties": {}},
    ]
    said = (await post(hubspot, access, "/batch/upsert", {"inputs": inputs})).json()
    assert sorted(one["category"] for one in said["errors"]) == ["CONFLICT", "OBJECT_NOT_FOUND", "VALIDATION_ERROR"]
    assert (await search(hubspot, access, "contact1@example.org"))["total"] == 1


async def test_a_batch_is_read_with_what_is_missing_told(hubspot: Peer, access: str) -> None:
    asked = {"inputs": [{"id": "contact1@example.org"}, {"id": "nobody@example.org"}], "idProperty": "email", "properties": ["lastname"]}
    answer = await post(hubspot, access, "/batch/read", asked)
    said = answer.json()
    assert (answer.status_code, said["results"][0]["properties"]["lastname"], said["numErrors"]) == (207, "Known", 1)
    assert (await post(hubspot, access, "/batch/read", {**asked, "properties": "lastname"})).status_code == 400
    assert (await post(hubspot, access, "/batch/read", {**asked, "inputs": asked["inputs"][:1]})).status_code == 200


async def test_a_contact_is_made_read_changed_and_archived(hubspot: Peer, access: str) -> None:
    made = await post(hubspot, access, "", {"properties": {"email": "one@example.org", "firstname": "One"}})
    name = made.json()["id"]
    assert (made.status_code, made.json()["properties"]["firstname"]) == (201, "One")
    there = await post(hubspot, access, "", {"properties": {"email": "one@example.org"}})
    assert (there.status_code, there.json()["message"]) == (409, f"Contact already exists. Existing ID: {name}")
    changed = await hubspot.call("PATCH", f"{BASE}/{name}", access, {"properties": {"firstname": "", "lastname": "Two"}})
    assert changed.json()["properties"]["lastname"] == "Two"
    by_email = await hubspot.get(f"{BASE}/one@example.org", access, idProperty="email", properties="firstname,lastname")
    assert (by_email.json()["id"], by_email.json()["properties"]["firstname"]) == (name, None)
    clash = await hubspot.call("PATCH", f"{BASE}/{name}", access, {"properties": {"email": "contact1@example.org"}})
    assert clash.status_code == 409
    assert (await hubspot.call("DELETE", f"{BASE}/{name}", access)).status_code == 204
    assert (await hubspot.call("DELETE", f"{BASE}/{name}", access)).status_code == 204
    for method, body in (("GET", None), ("PATCH", {"properties": {}})):
        assert (await hubspot.call(method, f"{BASE}/{name}", access, body)).json()["category"] == "OBJECT_NOT_FOUND"
    assert (await search(hubspot, access, "one@example.org"))["total"] == 0


@pytest.mark.parametrize("properties", [None, [], {"email": "nobody"}, {"shoe": "9"}, {"email": None}, {"firstname": ["x"]}])
async def test_properties_that_cannot_be_are_refused(hubspot: Peer, access: str, properties: object) -> None:
    assert (await post(hubspot, access, "", {"properties": properties})).json()["category"] == "VALIDATION_ERROR"
    assert (await hubspot.call("PATCH", f"{BASE}/101", access, {"properties": properties})).json()["category"] == "VALIDATION_ERROR"


@pytest.mark.parametrize(
    ("rule", "count"),
    [
        ({"propertyName": "email", "operator": "EQ", "value": "CONTACT1@example.org"}, 1),
        ({"propertyName": "email", "operator": "NEQ", "value": "contact1@example.org"}, 2),
        ({"propertyName": "email", "operator": "IN", "values": ["contact1@example.org", "contact2@example.org"]}, 2),
        ({"propertyName": "email", "operator": "HAS_PROPERTY"}, 3),
        ({"propertyName": "phone", "operator": "HAS_PROPERTY"}, 0),
        ({"propertyName": "phone", "operator": "NOT_HAS_PROPERTY"}, 3),
        ({"propertyName": "email", "operator": "CONTAINS_TOKEN", "value": "contact2"}, 1),
        ({"propertyName": "hs_object_id", "operator": "EQ", "value": "101"}, 1),
    ],
)
async def test_a_search_finds_what_fits(hubspot: Peer, access: str, rule: dict[str, object], count: int) -> None:
    assert (await post(hubspot, access, "/search", {"filterGroups": [{"filters": [rule]}]})).json()["total"] == count


@pytest.mark.parametrize(
    "groups",
    [
        "x",
        ["x"],
        [{}],
        [{"filters": []}],
        [{"filters": [{"propertyName": "email", "operator": "LIKE"}]}],
        [{"filters": [{"propertyName": "shoe", "operator": "EQ", "value": "9"}]}],
        [{"filters": [{"propertyName": "email", "operator": "EQ"}]}],
    ],
)
async def test_a_search_out_of_order_is_refused(hubspot: Peer, access: str, groups: object) -> None:
    assert (await post(hubspot, access, "/search", {"filterGroups": groups})).status_code == 400


async def test_lists_have_pages(hubspot: Peer, access: str) -> None:
    first = (await hubspot.get(BASE, access, limit="2")).json()
    last = (await hubspot.get(BASE, access, limit="2", after=first["paging"]["next"]["after"])).json()
    assert (len(first["results"]), len(last["results"]), "paging" in last) == (2, 1, False)
    for query in ({"limit": "0"}, {"limit": "101"}, {"after": "x"}):
        assert (await hubspot.get(BASE, access, **query)).status_code == 400


async def test_portals_know_nothing_of_each_other(hubspot: Peer, access: str) -> None:
    mine = {one["id"] for one in (await hubspot.get(BASE, access)).json()["results"]}
    other = {one["id"] for one in (await hubspot.get(BASE, (await hubspot.connect("alan"))["access_token"])).json()["results"]}
    assert mine
    assert not mine & other
    assert (await hubspot.get(f"{BASE}/{other.pop()}", access)).status_code == 404


@pytest.mark.parametrize("fact", ["yes", "no"])
async def test_answers_say_what_is_left_of_the_rate_where_their_fact_says_so(hubspot: Peer, access: str, fact: str) -> None:
    hubspot.sandbox.set_fact("hubspot", "rate_limit_headers", fact)
    hubspot.sandbox.limit("hubspot", 2, 10)
    first = await hubspot.get(BASE, access)
    said = {name: first.headers.get(f"x-hubspot-ratelimit-{name}") for name in ("max", "remaining", "interval-milliseconds")}
    assert set(said.values()) == ({"2", "1", "10000"} if fact == "yes" else {None})
    colleague = (await hubspot.connect("grace"))["access_token"]
    assert [(await hubspot.get(BASE, token)).status_code for token in (colleague, access)] == [200, 429]
    limited = await hubspot.get(BASE, access)
    assert (limited.json()["category"], limited.json()["policyName"]) == ("RATE_LIMITS", "TEN_SECONDLY_ROLLING")


async def test_the_portal_is_told_and_an_ordered_failure_has_a_body(hubspot: Peer, access: str) -> None:
    assert (await hubspot.get("/account-info/v3/details", access)).json()["portalId"] == 4_800_001
    hubspot.sandbox.order("hubspot", FaultKind.STATUS, Operation.API, status=477, retry_after=9)
    moving = await hubspot.get(BASE, access)
    assert (moving.status_code, moving.headers["retry-after"], moving.json()["status"]) == (477, "9", "error")
