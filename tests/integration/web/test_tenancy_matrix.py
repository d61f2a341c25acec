"""For every route, another tenant's key and ids: not found, and nothing changed (W3, design §13.2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

from customhouse import ids as typeids
from customhouse.app import App
from customhouse.notices.ports import Recipient
from customhouse.types import TenantId
from tests.authority import CLIENT_SECRET, Authority
from tests.integration.connections.conftest import PUBLIC, Browser, browser, invite, zoom
from tests.integration.web.conftest import PLATFORM_KEY, Api, make_tenant, problem
from tests.receivers import Recorder
from tests.sandboxes import Sandbox, running, stripe_key

pytestmark = pytest.mark.anyio
__all__ = ["browser", "zoom"]

NOT_FOUND: Final = "not found"
NOTHING: Final = "an empty list"
REFUSED: Final = "refused, naming the place"


@dataclass(frozen=True)
class Row:
    """One request of the other tenant. `{…}` stands for an id of the victim."""

    path: str
    body: Any = None
    expected: str = NOT_FOUND
    by_platform: bool = False
    """The operator's key, naming the other tenant."""


@dataclass
class Ids:
    """What belongs to the victim."""

    values: dict[str, str] = field(default_factory=dict)

    def fill(self, value: Any) -> Any:
        """Return a path or body with the victim's ids in it."""
        if isinstance(value, str):
            for name, text in self.values.items():
                value = value.replace(f"{{{name}}}", text)
            return value
        if isinstance(value, dict):
            return {key: self.fill(item) for key, item in value.items()}
        return [self.fill(item) for item in value] if isinstance(value, list) else value


def _one(path: str, body: Any = None) -> list[Row]:
    """Return the rows of a route with an id in its path: by own key, naming the victim, and by the operator in the wrong tenant."""
    return [Row(path, body), Row(f"{path}?tenant_id={{tenant_id}}", body), Row(f"{path}?tenant_id=other", body, by_platform=True)]


EVENT: Final = {"event_type": "a", "data": {}}
HOOK: Final = {"provider": "webhook", "url": "http://127.0.0.1:9/"}
KEY: Final = {"provider": "stripe", "credentials": {"api_key": "rk_test_0123456789abcdef"}}
LONG_AGO: Final = {"since": "2026-01-01T00:00:00Z"}
ADA: Final = {"user": {"id": "u1"}, "provider": "zoom"}
POLICY: Final = {"allowed_fields": ["work_email", "phone"]}
PROXY: Final = "/v1/connections/{connection_id}/proxy/{path}"

MATRIX: Final[dict[tuple[str, str], list[Row]]] = {
    ("POST", "/v1/tenants"): [],
    ("GET", "/v1/tenants/{tenant_id}"): [Row("/v1/tenants/{tenant_id}")],
    ("GET", "/v1/tenants/{tenant_id}/privacy-policy"): [Row("/v1/tenants/{tenant_id}/privacy-policy")],
    ("PUT", "/v1/tenants/{tenant_id}/privacy-policy"): [Row("/v1/tenants/{tenant_id}/privacy-policy", POLICY)],
    ("POST", "/v1/api-keys"): [
        Row("/v1/api-keys", {"tenant_id": "{tenant_id}", "name": "x", "scopes": ["admin"]}),
        Row("/v1/api-keys", {"tenant_id": "_platform", "name": "x", "scopes": ["admin"]}),
    ],
    ("GET", "/v1/api-keys"): [Row("/v1/api-keys?tenant_id={tenant_id}"), Row("/v1/api-keys?tenant_id=_platform")],
    ("DELETE", "/v1/api-keys/{key_id}"): _one("/v1/api-keys/{key_id}"),
    ("POST", "/v1/connections"): [
        Row("/v1/connections", {"tenant_id": "{tenant_id}", **HOOK}),
        Row("/v1/connections", {"tenant_id": "_platform", **HOOK}),
        Row("/v1/connections", {"tenant_id": "{tenant_id}", **KEY}),
        Row("/v1/connections", {"tenant_id": "_platform", **KEY}),
    ],
    ("GET", "/v1/connections"): [Row("/v1/connections?tenant_id={tenant_id}"), Row("/v1/connections?user_id=u1", expected=NOTHING)],
    ("GET", "/v1/connections/{connection_id}"): _one("/v1/connections/{connection_id}"),
    ("POST", "/v1/connections/{connection_id}/test"): _one("/v1/connections/{connection_id}/test"),
    ("POST", "/v1/connections/{connection_id}/recover"): _one("/v1/connections/{connection_id}/recover", LONG_AGO),
    ("PATCH", "/v1/connections/{connection_id}"): _one("/v1/connections/{connection_id}", {"url": "http://127.0.0.1:9/", "paused": True}),
    ("DELETE", "/v1/connections/{connection_id}"): _one("/v1/connections/{connection_id}"),
    ("GET", "/v1/connections/{connection_id}/receipt"): [
        *_one("/v1/connections/{ended_id}/receipt"),
        Row("/v1/connections/{ended_id}/receipt?format=signed"),
        Row("/v1/connections/{ended_id}/receipt?format=html"),
    ],
    ("POST", "/v1/connections/{connection_id}/secrets/rotate"): _one("/v1/connections/{connection_id}/secrets/rotate", {}),
    ("POST", "/v1/connections/{connection_id}/access-token"): _one("/v1/connections/{granted_id}/access-token"),
    ("POST", "/v1/connections/{connection_id}/credentials"): _one(
        "/v1/connections/{pasted_id}/credentials", {"credentials": {"api_key": "{new_key}"}}
    ),
    **{
        (method, PROXY): [Row("/v1/connections/{granted_id}/proxy/users/me")]
        for method in ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
    },
    ("POST", "/v1/connect-sessions"): [
        Row("/v1/connect-sessions", {"tenant_id": "{tenant_id}", **ADA}),
        Row("/v1/connect-sessions", {"tenant_id": "_platform", **ADA}),
        Row("/v1/connect-sessions", {"connection_id": "{granted_id}", **ADA}),
        Row("/v1/connect-sessions", {"tenant_id": "other", "connection_id": "{granted_id}", **ADA}, by_platform=True),
    ],
    ("POST", "/v1/connect-sessions/{session_id}/confirm"): _one("/v1/connect-sessions/{session_id}/confirm", {"user_id": "u1"}),
    ("GET", "/v1/providers"): [],
    ("GET", "/v1/providers/{provider}"): [],
    ("POST", "/v1/events"): [
        Row("/v1/events", {"tenant_id": "{tenant_id}", **EVENT}),
        Row("/v1/events", {"tenant_id": "_platform", **EVENT}),
        Row("/v1/events", {"connection_ids": ["{connection_id}"], **EVENT}, REFUSED),
        Row("/v1/events", {"tenant_id": "other", "connection_ids": ["{connection_id}"], **EVENT}, REFUSED, by_platform=True),
    ],
    ("POST", "/v1/events/batch"): [Row("/v1/events/batch", {"events": [{"tenant_id": "{tenant_id}", **EVENT}]})],
    ("GET", "/v1/events/{event_id}"): [*_one("/v1/events/{event_id}"), *_one("/v1/events/{given_event_id}")],
    ("GET", "/v1/deliveries"): [
        Row("/v1/deliveries?tenant_id={tenant_id}"),
        Row("/v1/deliveries?event_id={event_id}"),
        Row("/v1/deliveries?event_id={given_event_id}"),
        Row("/v1/deliveries?connection_id={connection_id}", expected=NOTHING),
        Row("/v1/deliveries?cursor={delivery_cursor}", expected=NOTHING),
    ],
    ("GET", "/v1/deliveries/{delivery_id}"): _one("/v1/deliveries/{delivery_id}"),
    ("GET", "/v1/deliveries/{delivery_id}/payload"): [
        Row("/v1/deliveries/{delivery_id}/payload?reason=curious"),
        Row("/v1/deliveries/{delivery_id}/payload?reason=curious&tenant_id={tenant_id}"),
        Row("/v1/deliveries/{delivery_id}/payload?reason=curious&tenant_id=other", by_platform=True),
    ],
    ("POST", "/v1/deliveries/{delivery_id}/retry"): [
        Row("/v1/deliveries/{delivery_id}/retry?force=true"),
        Row("/v1/deliveries/{delivery_id}/retry?force=true&tenant_id={tenant_id}"),
        Row("/v1/deliveries/{delivery_id}/retry?force=true&tenant_id=other", by_platform=True),
    ],
    ("POST", "/v1/event-types"): [
        Row("/v1/event-types", {"tenant_id": "{tenant_id}", "event_type": "x"}),
        Row("/v1/event-types", {"tenant_id": "_platform", "event_type": "x"}),
    ],
    ("GET", "/v1/event-types"): [Row("/v1/event-types?tenant_id={tenant_id}"), Row("/v1/event-types", expected=NOTHING)],
    ("GET", "/v1/schemas"): [Row("/v1/schemas?tenant_id={tenant_id}"), Row("/v1/schemas", expected=NOTHING)],
    ("GET", "/v1/schemas/envelope"): [],
    ("GET", "/v1/schemas/{event_type}"): _one("/v1/schemas/{event_type}"),
    ("GET", "/v1/notices"): [
        Row("/v1/notices?tenant_id={tenant_id}"),
        Row("/v1/notices?tenant_id=_platform"),
        Row("/v1/notices?user_id=u1", expected=NOTHING),
    ],
    ("POST", "/v1/notices/{notice_id}/read"): _one("/v1/notices/{notice_id}/read"),
    ("GET", "/v1/audit"): [
        Row("/v1/audit?tenant_id={tenant_id}"),
        Row("/v1/audit?tenant_id=_platform"),
        Row("/v1/audit?connection_id={connection_id}", expected=NOTHING),
    ],
}
WITHOUT_IDS: Final = {
    ("POST", "/v1/tenants"),
    ("GET", "/v1/schemas/envelope"),
    ("GET", "/v1/providers"),
    ("GET", "/v1/providers/{provider}"),
}
"""These know no id of a tenant's things; creating a tenant needs the operator's key."""


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with running(public_url=PUBLIC) as one:
        yield one


@pytest.fixture
def environ(environ: dict[str, str], zoom: Authority, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("SUITE_CLIENT_SECRET", CLIENT_SECRET)
    places = next(overrides["stripe"] for overrides in sandbox.overrides() if "stripe" in overrides)
    file = tmp_path / "providers.toml"
    file.write_text("\n".join([zoom.registered("zoom"), "[stripe]", *(f'{name} = "{url}"' for name, url in places.items())]))
    connect = {"PROVIDERS_FILE": str(file), "PUBLIC_URL": PUBLIC, "TOKEN_EXPORT": "on"}
    return environ | {f"CUSTOMHOUSE_{name}": value for name, value in connect.items()}


@pytest.fixture
async def victim(app: App, acme: Api, receiver: Recorder, browser: Browser, zoom: Authority, sandbox: Sandbox) -> Ids:
    """Give acme one of each thing."""
    session = await invite(acme)
    await browser.get(f"/oauth/callback/zoom?{zoom.decide(await browser.consent(session['connect_url']))}")
    granted = await acme("POST", f"/v1/connect-sessions/{session['session_id']}/confirm", {"user_id": "u1"})
    held = {"provider": "stripe", "credentials": {"api_key": stripe_key(sandbox)[1]}}
    pasted = await acme("POST", "/v1/connections", held)
    made = (await acme("POST", "/v1/connections", {"provider": "webhook", "url": receiver.url("/"), "user_id": "u1"})).json()
    ended = (await acme("POST", "/v1/connections", {"provider": "webhook", "url": receiver.url("/ended")})).json()
    assert (await acme("DELETE", f"/v1/connections/{ended['connection_id']}")).status_code == 200
    await acme("POST", "/v1/event-types", {"event_type": "secret.type", "schema": {"type": "object"}})
    events = [(await acme("POST", "/v1/events", {**EVENT, **more})).json() for more in ({}, {"event_id": "order-4711"})]
    await receiver.wait_for(2)
    cursor = (await acme("GET", "/v1/deliveries?limit=1")).json()["next_cursor"]
    key = (await acme("POST", "/v1/api-keys", {"name": "second", "scopes": ["events:write"]})).json()
    async with app.database.transaction(TenantId("acme")) as conn:
        notice = await app.notices.notify(conn, TenantId("acme"), Recipient("u1"), "connection.created")
    return Ids(
        {
            "tenant_id": "acme",
            "notice_id": typeids.show("ntc", notice),
            "connection_id": made["connection_id"],
            "pasted_id": pasted.json()["connection_id"],
            "new_key": stripe_key(sandbox)[1],
            "ended_id": ended["connection_id"],
            "event_id": events[0]["event_id"],
            "given_event_id": "order-4711",
            "delivery_id": events[0]["deliveries"][0]["delivery_id"],
            "delivery_cursor": cursor,
            "event_type": "secret.type",
            "key_id": key["key_id"],
            "session_id": session["session_id"],
            "granted_id": granted.json()["connection_id"],
        }
    )


async def _contents(owner: asyncpg.Connection) -> dict[str, str]:
    """Return a digest of every table that has tenants, over all tenants."""
    tables = await owner.fetch(
        "select table_name as name from information_schema.columns where table_schema = 'customhouse' and column_name = 'tenant_id'"
    )
    found = {}
    for row in tables:
        query = f"select coalesce(md5(string_agg(t::text, chr(10) order by t::text)), '') || count(*) from customhouse.{row['name']} t"
        found[row["name"]] = await owner.fetchval(query)
    return found


async def _settled(acme: Api) -> None:
    """Wait until the deliveries have ended and are recorded, so that nothing moves by itself any more."""
    async with asyncio.timeout(20):
        while {one["status"] for one in (await acme("GET", "/v1/deliveries")).json()["data"]} != {"delivered"}:
            pass


@pytest.fixture
async def other(platform: Api) -> Api:
    """The API with an all-powerful key of another tenant, which has used each part of the vault before."""
    other = await make_tenant(platform, "other")
    made = (await other("POST", "/v1/connections", {**HOOK, "event_types": ["none"]})).json()
    await other("POST", "/v1/events", EVENT)
    await other("PATCH", f"/v1/connections/{made['connection_id']}", {"description": "x"})
    return other


async def test_no_route_reaches_into_another_tenant(acme: Api, other: Api, victim: Ids, owner: asyncpg.Connection) -> None:
    ids = victim
    await _settled(acme)
    before = await _contents(owner)
    assert len(before) >= 15
    for (method, template), rows in MATRIX.items():
        for row in rows:
            caller = other.as_key(PLATFORM_KEY) if row.by_platform else other
            answer = await caller(method, ids.fill(row.path), ids.fill(row.body))
            where = (method, template, row)
            if template.endswith("/batch"):
                assert [one["code"] for one in answer.json()["results"]] == ["not_found"], where
            elif row.expected == NOT_FOUND:
                assert answer.status_code == 404, (where, answer.text)
                if method != "HEAD":
                    problem(answer, 404, "not_found")
            elif row.expected == NOTHING:
                assert (answer.status_code, answer.json()["data"]) == (200, []), where
            else:
                assert [one["pointer"] for one in problem(answer, 422, "invalid_request")["errors"]] == ["/connection_ids/0"], where
            for name in (
                "connection_id",
                "event_id",
                "delivery_id",
                "key_id",
                "session_id",
                "granted_id",
                "pasted_id",
                "ended_id",
                "notice_id",
            ):
                assert ids.values[name] not in answer.text, where
    assert await _contents(owner) == before


async def test_the_rows_of_the_matrix_do_reach_their_things_with_the_right_key(acme: Api, victim: Ids) -> None:
    """A matrix of 404s proves nothing where the path is wrong for everybody."""
    ids = victim
    await _settled(acme)
    deletions_last = sorted(MATRIX.items(), key=lambda item: item[0][0] == "DELETE")
    for (method, template), rows in deletions_last:
        for row in rows[:1]:
            answer = await acme(method, ids.fill(row.path), ids.fill(row.body))
            if template == PROXY and method != "GET":
                assert answer.status_code == 403, "its manifest lets nothing else through"
                continue
            assert answer.status_code in {200, 201, 202, 204}, (method, row, answer.text)


async def test_every_route_has_its_rows(platform: Api) -> None:
    """A new route below /v1 fails here until the matrix says what another tenant sees of it."""
    paths = (await platform("GET", "/openapi.json")).json()["paths"]
    described = {(method.upper(), path) for path, operations in paths.items() if path.startswith("/v1") for method in operations}
    assert described == set(MATRIX)
    assert {route for route, rows in MATRIX.items() if not rows} == WITHOUT_IDS
    for method, path in sorted(described - WITHOUT_IDS):
        parameters = {one["name"] for one in paths[path][method.lower()].get("parameters", [])}
        if "tenant_id" in parameters:
            assert any("tenant_id={tenant_id}" in row.path or "{tenant_id}" in path for row in MATRIX[method, path]), path


async def test_a_tenant_key_cannot_create_tenants_or_read_the_metrics(acme: Api) -> None:
    problem(await acme("POST", "/v1/tenants", {"tenant_id": "new", "name": "New"}), 403, "scope_missing")
    problem(await acme("GET", "/metrics"), 403, "scope_missing")


async def test_the_same_event_id_in_two_tenants_is_two_events(acme: Api, other: Api) -> None:
    """W4: keys are scoped by tenant."""
    for api in (acme, other):
        answer = await api("POST", "/v1/events", {**EVENT, "event_id": "order-1", "idempotency_key": "k-1"})
        assert (answer.status_code, answer.json()["duplicate"]) == (202, False)
    again = await other("POST", "/v1/events", {**EVENT, "event_id": "order-1", "idempotency_key": "k-1"})
    assert again.json()["duplicate"] is True
