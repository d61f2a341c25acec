"""Pipedrive's people, organizations, deals and webhooks."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import httpx
import pytest

from customhouse_sandbox import FaultKind, Operation
from customhouse_sandbox.http import Reply, Request, Server
from customhouse_sandbox.outgoing import Outgoing
from customhouse_sandbox.pipedrive import hooks
from tests.sandboxes import Peer

pytestmark = pytest.mark.anyio

PERSONS = "/api/v2/persons"
WEBHOOKS = "/api/v1/webhooks"
URL = "http://127.0.0.1:9/hooks"


@pytest.fixture
async def access(pipedrive: Peer) -> str:
    return (await pipedrive.connect())["access_token"]


async def scoped(pipedrive: Peer, *more: str) -> str:
    """Return an access token of an application that was registered for these scopes."""
    pipedrive.realm.change("pipedrive", scopes=("base", *more))
    return (await pipedrive.connect())["access_token"]


async def found(pipedrive: Peer, access: str, term: str, **query: str) -> list[dict[str, Any]]:
    said = (await pipedrive.get(f"{PERSONS}/search", access, term=term, **query)).json()
    return [row["item"] for row in said["data"]["items"]]


async def test_the_user_and_the_company_are_told(pipedrive: Peer, access: str) -> None:
    said = (await pipedrive.me(access)).json()["data"]
    assert (said["id"], said["company_id"], said["email"]) == (11_000_001, 7_000_001, "ada@example.com")
    colleague, stranger = [(await pipedrive.me((await pipedrive.connect(who))["access_token"])).json()["data"] for who in ("grace", "alan")]
    assert (colleague["company_id"] == said["company_id"], stranger["company_id"] == said["company_id"]) == (True, False)
    pipedrive.sandbox.order("pipedrive", FaultKind.IDENTITY_MISSING, Operation.IDENTITY)
    assert "company_id" not in (await pipedrive.me(access)).json()["data"]


@pytest.mark.parametrize(
    ("scope", "opens"),
    [("contacts:full", {"GET", "POST"}), ("contacts:read", {"GET"}), ("search:read", {"search"}), ("deals:full", set())],
)
async def test_each_scope_opens_its_own_calls(pipedrive: Peer, scope: str, opens: set[str]) -> None:
    token = await scoped(pipedrive, scope)
    calls = {
        "GET": await pipedrive.get(PERSONS, token),
        "POST": await pipedrive.call("POST", PERSONS, token, {"name": "A"}),
        "search": await pipedrive.get(f"{PERSONS}/search", token, term="contact"),
    }
    wanted = opens | ({"search"} if "GET" in opens else set())
    assert {name for name, answer in calls.items() if answer.status_code == 200} == wanted
    for answer in calls.values():
        if answer.status_code != 200:
            assert (answer.status_code, answer.json()["error"], answer.json()["success"]) == (403, "Scope and URL mismatch", False)
    assert (await pipedrive.get("/api/v2/deals", token)).status_code == (200 if scope == "deals:full" else 403)
    assert (await pipedrive.get(PERSONS, "nothing")).json()["error"] == "unauthorized access"


async def test_a_person_is_made_found_changed_and_deleted(pipedrive: Peer, access: str) -> None:
    emails = [{"value": "New@example.org", "primary": True, "label": "work"}]
    made = (await pipedrive.call("POST", PERSONS, access, {"name": "New", "emails": emails})).json()["data"]
    assert (made["name"], made["emails"], made["owner_id"], made["is_deleted"]) == ("New", emails, 11_000_001, False)
    assert [one["id"] for one in await found(pipedrive, access, "new@example.org", fields="email", exact_match="true")] == [made["id"]]
    changed = await pipedrive.call("PATCH", f"{PERSONS}/{made['id']}", access, {"name": "Newer", "phones": [{"value": "1"}]})
    assert (changed.json()["data"]["name"], changed.json()["data"]["emails"]) == ("Newer", emails)
    assert (await pipedrive.get(f"{PERSONS}/{made['id']}", access)).json()["data"]["name"] == "Newer"
    assert (await pipedrive.call("PUT", f"{PERSONS}/{made['id']}", access, {"name": "x"})).status_code == 404
    assert (await pipedrive.call("DELETE", f"{PERSONS}/{made['id']}", access)).json()["data"] == {"id": made["id"]}
    for method in ("GET", "PATCH", "DELETE"):
        assert (await pipedrive.call(method, f"{PERSONS}/{made['id']}", access, {"name": "x"})).status_code == 404
    assert await found(pipedrive, access, "new@example.org", fields="email", exact_match="true") == []


async def test_the_same_person_twice_is_two(pipedrive: Peer, access: str) -> None:
    for _ in range(2):
        await pipedrive.call("POST", PERSONS, access, {"name": "Twin", "emails": [{"value": "twin@example.org"}]})
    assert len(await found(pipedrive, access, "twin@example.org", exact_match="true")) == 2


@pytest.mark.parametrize("status", ["200", "201"])
async def test_a_creation_has_the_status_that_its_fact_says(pipedrive: Peer, access: str, status: str) -> None:
    pipedrive.sandbox.set_fact("pipedrive", "created_status", status)
    assert (await pipedrive.call("POST", PERSONS, access, {"name": "A"})).status_code == int(status)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": None},
        {"name": "A", "shoe": 9},
        {"name": "A", "email": "a@example.org"},
        {"name": "A", "emails": ["a@example.org"]},
        {"name": "A", "emails": [{"value": "a", "primary": True}, {"value": "b", "primary": True}]},
        {"name": "A", "emails": [{"value": 1}]},
        {"name": "A", "org_id": 999_999},
        {"name": "A", "owner_id": 11_000_003},
        {"name": "A", "visible_to": 2},
        {"name": "A", "label_ids": ["x"]},
        {"name": "A", "marketing_status": "loud"},
        {"name": "A", "custom_fields": []},
        [],
    ],
)
async def test_what_cannot_be_written_is_refused(pipedrive: Peer, access: str, body: object) -> None:
    refused = await pipedrive.call("POST", PERSONS, access, body)
    assert (refused.status_code, refused.json()["success"]) == (400, False)


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"term": "contact"}, 3),
        ({"term": "contact", "exact_match": "true"}, 0),
        ({"term": "CONTACT1@example.org", "exact_match": "true", "fields": "email"}, 1),
        ({"term": "contact1@example.org", "fields": "name"}, 0),
        ({"term": "contact1@example.org", "fields": "email,name"}, 1),
    ],
)
async def test_a_search_finds_parts_or_the_whole(pipedrive: Peer, access: str, query: dict[str, str], count: int) -> None:
    assert len(await found(pipedrive, access, **query)) == count


@pytest.mark.parametrize(
    "query",
    [
        {"term": "c"},
        {"term": ""},
        {"term": "contact", "fields": "shoe"},
        {"term": "contact", "limit": "501"},
        {"term": "contact", "cursor": "x"},
    ],
)
async def test_a_search_out_of_order_is_refused(pipedrive: Peer, access: str, query: dict[str, str]) -> None:
    assert (await pipedrive.get(f"{PERSONS}/search", access, **query)).status_code == 400


async def test_lists_have_pages(pipedrive: Peer, access: str) -> None:
    first = (await pipedrive.get(PERSONS, access, limit="2")).json()
    last = (await pipedrive.get(PERSONS, access, limit="2", cursor=first["additional_data"]["next_cursor"])).json()
    assert (len(first["data"]), len(last["data"]), last["additional_data"]["next_cursor"]) == (2, 1, None)
    ids = ",".join(str(one["id"]) for one in first["data"])
    assert len((await pipedrive.get(PERSONS, access, ids=ids)).json()["data"]) == 2
    assert (await pipedrive.get(PERSONS, access, limit="1", cursor=first["additional_data"]["next_cursor"], ids="1")).status_code == 400


async def test_companies_know_nothing_of_each_other(pipedrive: Peer, access: str) -> None:
    mine = (await pipedrive.get(PERSONS, access)).json()["data"][0]["id"]
    stranger = (await pipedrive.connect("alan"))["access_token"]
    assert (await pipedrive.get(f"{PERSONS}/{mine}", stranger)).status_code == 404
    assert len((await pipedrive.get(PERSONS, stranger)).json()["data"]) == 3


async def test_organizations_belong_to_the_contacts_and_deals_to_themselves(pipedrive: Peer) -> None:
    token = await scoped(pipedrive, "contacts:full", "deals:full")
    org = (await pipedrive.call("POST", "/api/v2/organizations", token, {"name": "Org"})).json()["data"]["id"]
    deal = await pipedrive.call("POST", "/api/v2/deals", token, {"title": "Deal", "value": 5, "org_id": org})
    assert (deal.status_code, deal.json()["data"]["org_id"]) == (200, org)
    assert (await pipedrive.call("POST", "/api/v2/deals", token, {"title": "Deal", "value": -5})).status_code == 400


async def test_the_older_calls_are_gone(pipedrive: Peer, access: str) -> None:
    assert (await pipedrive.get("/api/v1/persons", access)).status_code == 404


@pytest.mark.parametrize("fact", ["yes", "no"])
async def test_answers_say_what_is_left_of_the_rate_where_their_fact_says_so(pipedrive: Peer, access: str, fact: str) -> None:
    pipedrive.sandbox.set_fact("pipedrive", "rate_limit_headers", fact)
    pipedrive.sandbox.limit("pipedrive", 1, 2)
    answers = [await pipedrive.get(PERSONS, access) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[0].headers.get("x-ratelimit-remaining") == ("0" if fact == "yes" else None)
    assert (answers[1].json()["success"], int(answers[1].headers["retry-after"]) in {1, 2}) == (False, True)


async def test_an_ordered_failure_has_a_body(pipedrive: Peer, access: str) -> None:
    pipedrive.sandbox.order("pipedrive", FaultKind.STATUS, Operation.API, status=503)
    assert (await pipedrive.get(PERSONS, access)).json()["success"] is False


@pytest.mark.parametrize("fact", ["admin", "webhooks:full"])
async def test_webhooks_need_the_scope_that_their_fact_says(pipedrive: Peer, fact: str) -> None:
    pipedrive.sandbox.set_fact("pipedrive", "webhooks_scope", fact)
    body = {"subscription_url": URL, "event_action": "*", "event_object": "person", "http_auth_user": "u", "http_auth_password": "p" * 32}
    for scope in ("contacts:full", "admin", "webhooks:full"):
        answer = await pipedrive.call("POST", WEBHOOKS, await scoped(pipedrive, scope), body)
        assert answer.status_code == (201 if scope == fact else 403)
    token = await scoped(pipedrive, fact)
    held = (await pipedrive.get(WEBHOOKS, token)).json()["data"]
    assert [(one["subscription_url"], one["version"]) for one in held] == [(URL, "2.0")]
    assert "p" * 32 in set(pipedrive.sandbox.secrets())
    assert (await pipedrive.call("DELETE", f"{WEBHOOKS}/{held[0]['id']}", token)).status_code == 200
    assert (await pipedrive.call("DELETE", f"{WEBHOOKS}/{held[0]['id']}", token)).status_code == 404


@pytest.mark.parametrize(
    "changes",
    [
        {"subscription_url": "https://example.org"},
        {"subscription_url": 5},
        {"event_action": "added"},
        {"event_object": "shoe"},
        {"version": "3.0"},
        {"http_auth_user": "a:b"},
        {"colour": "red"},
    ],
)
async def test_a_webhook_out_of_order_is_refused(pipedrive: Peer, changes: dict[str, object]) -> None:
    body = {"subscription_url": URL, "event_action": "*", "event_object": "*"}
    assert (await pipedrive.call("POST", WEBHOOKS, await scoped(pipedrive, "admin"), body | changes)).status_code == 400


async def test_a_user_has_forty_webhooks_at_most(pipedrive: Peer) -> None:
    for _ in range(40):
        hooks.subscribe(pipedrive.realm, pipedrive.realm.people["ada"], URL)
    with pytest.raises(ValueError, match="at most 40"):
        hooks.subscribe(pipedrive.realm, pipedrive.realm.people["ada"], URL)


def made(pipedrive: Peer, event: str, url: str = URL) -> list[Outgoing]:
    return hooks.notify(pipedrive.realm, pipedrive.application, pipedrive.realm.people["ada"], event, url)


@pytest.mark.parametrize("fact", ["yes", "no"])
async def test_a_webhook_of_version_two_says_what_happened_to_whom(pipedrive: Peer, fact: str) -> None:
    pipedrive.sandbox.set_fact("pipedrive", "meta_id", fact)
    for action in hooks.ACTIONS:
        said = json.loads(made(pipedrive, f"{action}.person")[0].body)
        assert (said["meta"]["action"], said["meta"]["entity"], said["meta"]["version"]) == (action, "person", "2.0")
        assert ("id" in said["meta"]) is (fact == "yes")
        assert (said["data"] is None) is (action == "delete")
        assert (said["previous"] is None) is (action == "create")


async def test_a_retry_says_which_one_it_is_and_is_the_same_event(pipedrive: Peer) -> None:
    first = made(pipedrive, "change.deal")[0]
    bodies = [json.loads(first.again(attempt).body) for attempt in range(3)]
    assert [body["meta"]["attempt"] for body in bodies] == [1, 2, 3]
    assert len({body["meta"]["id"] for body in bodies}) == 1


async def test_whoever_subscribed_gets_what_they_want_with_their_basic(pipedrive: Peer) -> None:
    people = pipedrive.realm.people
    hooks.subscribe(pipedrive.realm, people["ada"], f"{URL}/1", user="u", password="a password", name="person")
    hooks.subscribe(pipedrive.realm, people["grace"], f"{URL}/2", action="create", version="1.0")
    hooks.subscribe(pipedrive.realm, people["alan"], f"{URL}/3")
    both = made(pipedrive, "create.person", "")
    assert [one.url for one in both] == [f"{URL}/1", f"{URL}/2"]
    basic = base64.b64encode(b"u:a password").decode()
    assert [dict(one.headers).get("Authorization") for one in both] == [f"Basic {basic}", None]
    old = json.loads(both[1].body)
    assert (old["event"], old["meta"]["action"], old["retry"], old["previous"]) == ("added.person", "added", 0, None)
    assert json.loads(both[1].again(2).body)["retry"] == 2
    assert [one.url for one in made(pipedrive, "delete.person", "")] == [f"{URL}/1"]
    assert not any("signature" in name.lower() for one in both for name, _ in one.headers)


@pytest.mark.parametrize("event", ["added.person", "create.shoe", "create", ""])
async def test_an_event_that_there_is_not_is_refused(pipedrive: Peer, event: str) -> None:
    with pytest.raises(ValueError, match="Pipedrive's events here are"):
        made(pipedrive, event)


async def test_an_event_that_nobody_wants_is_refused(pipedrive: Peer) -> None:
    with pytest.raises(ValueError, match="Nobody subscribed"):
        made(pipedrive, "create.person", "")


async def test_a_webhook_is_made_by_the_admin_api_and_arrives_with_basic(pipedrive: Peer) -> None:
    received: asyncio.Queue[Request] = asyncio.Queue()

    async def take(request: Request) -> Reply:
        received.put_nowait(request)
        return Reply(200)

    async def ask(path: str, **said: object) -> httpx.Response:
        return await pipedrive.browser.post(f"{pipedrive.sandbox.base}/_sandbox/{path}", json=said)

    server = Server(take)
    await server.start()
    try:
        url = f"http://127.0.0.1:{server.port}/hooks"
        made = await ask("subscriptions", person="ada", url=url, user="u", password="p", event_object="person", version="2.0")
        assert made.json() == {"id": 1}
        sent = await ask("webhooks", application="pipedrive", person="ada", event="change.person")
        assert sent.json() == {"sending": 1}
        request = await received.get()
    finally:
        await server.close()
    assert request.headers["authorization"] == f"Basic {base64.b64encode(b'u:p').decode()}"
    for said in (
        {"person": "nobody", "url": URL},
        {"person": "ada", "url": "https://example.org"},
        {"person": "ada", "url": URL, "version": 2},
    ):
        assert (await ask("subscriptions", **said)).status_code == 400
