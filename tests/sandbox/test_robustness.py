"""Whatever is sent to whatever route, there is an answer: nothing is raised, nothing of it gets into a header."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlencode

from hypothesis import given, settings
from hypothesis import strategies as st

from customhouse_sandbox.admin import COMMANDS
from customhouse_sandbox.http import Reply, Request
from customhouse_sandbox.hubspot.crm import PROPERTIES
from customhouse_sandbox.pipedrive.crm import ENTITIES
from customhouse_sandbox.routing import Ask, Handshake, Route
from customhouse_sandbox.sandbox import VENDORS, Sandbox
from customhouse_sandbox.state import Kind
from customhouse_sandbox.stripe import keys
from customhouse_sandbox.stripe.resources import RESOURCES

TEXTS = st.text(max_size=12) | st.sampled_from(["me", "primary", "2030-01-01", "2030-01-01T00:00:00Z", "http://127.0.0.1:1/", "web_hook"])
MEMBERS = st.sampled_from(
    [
        "id",
        "start",
        "end",
        "raw",
        "threadId",
        "name",
        "mimeType",
        "parents",
        "type",
        "role",
        "emailAddress",
        "address",
        "token",
        "expiration",
        "resourceId",
        "conferenceData",
        "topicName",
        "summary",
        "client_id",
        "code",
        "grant_type",
        "refresh_token",
        "amount",
        "currency",
        "items[0][price]",
        "line_items[][price]",
        "metadata[a]",
        "enabled_events[]",
        "url",
        "mode",
        "customer",
        "capture_method",
        "channel",
        "text",
        "blocks",
        "thread_ts",
        "metadata",
        "body",
        "resource",
        "changeType",
        "notificationUrl",
        "expirationDateTime",
        "clientState",
        "inputs",
        "idProperty",
        "properties",
        "filterGroups",
        "filters",
        "operator",
        "propertyName",
        "emails",
        "phones",
        "value",
        "org_id",
        "owner_id",
        "visible_to",
        "custom_fields",
        "subscription_url",
        "event_action",
        "event_object",
        "http_auth_user",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(TEXTS | MEMBERS, below, max_size=3),
    max_leaves=6,
)
PARAMETERS = st.sampled_from(
    [
        "from",
        "to",
        "page_size",
        "next_page_token",
        "ttl",
        "type",
        "timeMin",
        "syncToken",
        "orderBy",
        "maxResults",
        "q",
        "fields",
        "count",
        "alt",
        "format",
        "startHistoryId",
        "filter",
        "pageSize",
        "uploadType",
        "pageToken",
        "client_id",
        "redirect_uri",
        "scope",
        "state",
        "limit",
        "starting_after",
        "ending_before",
        "email",
        "user_scope",
        "user",
        "test",
        "token",
        "$filter",
        "$top",
        "$skiptoken",
        "$select",
        "$format",
        "idProperty",
        "after",
        "term",
        "cursor",
        "exact_match",
        "ids",
    ]
)
BODIES = (
    st.dictionaries(MEMBERS, VALUES, max_size=4).map(lambda value: json.dumps(value).encode())
    | st.dictionaries(MEMBERS, TEXTS, max_size=4).map(lambda value: urlencode(value).encode())
    | st.binary(max_size=40)
)
PARTS = st.sampled_from(["user", "meeting", "file", "event", "calendar", "thread", "tenant", "chat", "kind"])
KINDS = st.sampled_from(["application/json", "application/x-www-form-urlencoded", "message/rfc822", "multipart/related; boundary=b", ""])


def opened() -> tuple[Sandbox, dict[str, str]]:
    """Return a sandbox that no port leads to, and a token per provider that opens everything."""
    sandbox = Sandbox()
    sandbox.open(1)
    tokens = {}
    for name, realm in sandbox.realms.items():
        applications = list(realm.applications.values())
        scopes = tuple(scope for application in applications for scope in application.scopes)
        tokens[name] = realm.issue(realm.grant(applications[0], "ada", scopes), Kind.ACCESS, scopes, None).value
    tokens["stripe"] = keys.make(sandbox.realms["stripe"], "ada")[1]
    return sandbox, tokens


SANDBOX, TOKENS = opened()
WIDE = (
    *("base", "admin", "search:read", "contacts:full", "deals:full"),
    *(f"crm.objects.{kind}.{level}" for kind in PROPERTIES for level in ("read", "write")),
)


def shown(name: str) -> str:
    """Return a token that opens everything: what is tried may have ended the one before."""
    if not SANDBOX.is_live(TOKENS[name]):
        realm = SANDBOX.realms[name]
        application = next(iter(realm.applications.values()))
        scopes = (*application.scopes, *WIDE)
        TOKENS[name] = realm.issue(realm.grant(application, "ada", scopes), Kind.ACCESS, scopes, None).value
    return TOKENS[name]


ROUTES = [(vendor.name, route) for vendor in VENDORS for route in vendor.routes]


@settings(max_examples=200)
@given(
    st.sampled_from(ROUTES),
    st.dictionaries(PARTS, TEXTS, max_size=3),
    st.dictionaries(PARAMETERS, TEXTS, max_size=4),
    BODIES,
    KINDS,
    st.sampled_from(["", "bytes=0-", "bytes=9-1", "bytes=999999999999-"]),
    st.booleans(),
)
def test_every_route_answers_everything(
    chosen: tuple[str, Route], parts: dict[str, str], query: dict[str, str], body: bytes, kind: str, wanted: str, proven: bool
) -> None:
    name, route = chosen
    names = [segment[1:-1] for segment in route.path.split("/") if segment.startswith("{")]
    target = "/x?" + "&".join(f"{key}={quote(value)}" for key, value in query.items())
    headers = {"authorization": f"Bearer {shown(name)}", "content-type": kind, "range": wanted}
    request = Request(route.method, target, MappingProxyType(headers), body)
    reply = route.answer(Ask(request, SANDBOX.realms[name], {part: parts.get(part, "x") for part in names}))
    if isinstance(reply, Handshake):
        reply = reply.then(proven)
    assert isinstance(reply, Reply)
    assert 200 <= reply.status < 500
    for header, value in reply.headers:
        assert f"{header}{value}".isascii()
        assert f"{header}{value}".isprintable()
    while not SANDBOX.outbox.empty():
        outgoing = SANDBOX.outbox.get_nowait()
        assert all(value.isascii() and value.isprintable() for _, value in outgoing.headers)


ROWS = st.fixed_dictionaries(
    {"id": st.sampled_from(["contact1@example.org", "new@example.org", "101"])},
    optional={
        "idProperty": st.sampled_from(["email", "phone", ""]),
        "properties": st.dictionaries(st.sampled_from(PROPERTIES["contacts"]), VALUES),
    },
)
RULES = st.fixed_dictionaries(
    {
        "propertyName": st.sampled_from(["email", "hs_object_id"]),
        "operator": st.sampled_from(["EQ", "IN", "HAS_PROPERTY", "CONTAINS_TOKEN"]),
    },
    optional={"value": VALUES, "values": VALUES},
)
WRITTEN: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "hubspot": st.fixed_dictionaries(
        {},
        optional={
            "inputs": st.lists(ROWS, max_size=3),
            "properties": VALUES,
            "filterGroups": st.lists(st.just({}) | RULES.map(lambda rule: {"filters": [rule]})),
        },
    ),
    "pipedrive": st.sampled_from(ENTITIES).flatmap(
        lambda entity: st.fixed_dictionaries(
            {entity.needs: st.just("N")}, optional=dict.fromkeys(entity.members.keys() - {entity.needs}, VALUES)
        )
    ),
    "stripe": st.dictionaries(
        st.builds(
            lambda name, rest: name + rest,
            st.sampled_from(sorted({name for one in RESOURCES for name in (*one.creates, *one.updates)})),
            st.sampled_from(["", "[]", "[0]", "[a]", "[0][price]", "[][quantity]"]),
        ),
        st.sampled_from(["", "0", "1", "-1", "usd", "true", "x", "http://h", "999999999999999"]),
        max_size=6,
    ),
}


@settings(max_examples=200)
@given(st.sampled_from([one for one in ROUTES if one[0] in WRITTEN and one[1].method in {"POST", "PATCH"}]), st.data())
def test_whatever_is_written_in_the_right_places_is_answered(chosen: tuple[str, Route], data: st.DataObject) -> None:
    name, route = chosen
    body = data.draw(WRITTEN[name])
    form = name == "stripe"
    raw = urlencode(body).encode() if form else json.dumps(body).encode()
    kind = "application/x-www-form-urlencoded" if form else "application/json"
    headers = MappingProxyType({"authorization": f"Bearer {shown(name)}", "content-type": kind})
    parts = {segment[1:-1]: "101" for segment in route.path.split("/") if segment.startswith("{")}
    reply = route.answer(Ask(Request("POST", "/x", headers, raw), SANDBOX.realms[name], parts))
    assert isinstance(reply, Reply)
    assert 200 <= reply.status < 500
    while not SANDBOX.outbox.empty():
        SANDBOX.outbox.get_nowait()


@settings(max_examples=200)
@given(
    st.sampled_from(COMMANDS),
    st.dictionaries(st.sampled_from(["target", "kind", "times", "values", "seconds", "calls"]), VALUES, max_size=4),
)
def test_every_command_answers_everything(command: object, said: dict[str, object]) -> None:
    from customhouse_sandbox.admin import ADMIN, Command, administer

    assert isinstance(command, Command)
    sandbox, _ = opened()
    filler: dict[str, object] = {member[:-1]: "zoom" for member in command.members if member.endswith("*")}
    known = {member.rstrip("*") for member in command.members}
    body = filler | {name: value for name, value in said.items() if name in known}
    headers = MappingProxyType({"content-type": "application/json"})
    raw = json.dumps(body).encode() if command.method == "POST" else b""
    reply = administer(sandbox, Request(command.method, f"/{ADMIN}{command.path}", headers, raw))
    assert reply.status in {200, 400, 415}
