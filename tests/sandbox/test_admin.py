"""The admin API: everything that a test can do by hand, over HTTP, and nothing secret in it."""

from __future__ import annotations

import hashlib
from typing import Any

import httpx
import pytest

from customhouse_sandbox import Sandbox
from customhouse_sandbox.sandbox import VENDORS
from tests.sandboxes import Peer

pytestmark = pytest.mark.anyio


async def command(peer: Peer, method: str, path: str, body: object = None, status: int = 200, **query: str) -> Any:
    answer = await peer.browser.request(method, f"{peer.sandbox.base}/_sandbox{path}", json=body, params=query or None)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_it_tells_what_there_is(peer: Peer) -> None:
    said = await command(peer, "GET", "/")
    assert set(said["providers"]) == {vendor.name for vendor in VENDORS}
    assert {"ada", "grace", "alan"} <= {person["login"] for person in said["providers"][peer.realm.name]["people"]}


async def test_it_gives_a_providers_file_and_its_variables(zoom: Peer) -> None:
    said = await command(zoom, "GET", "/providers")
    assert said["providers_file"] == zoom.sandbox.providers_file()
    assert said["environ"]["SANDBOX_ZOOM_CLIENT_SECRET"] == zoom.application.secret


async def test_calls_are_listed_with_whose_they_are_and_which_token_they_showed(zoom: Peer) -> None:
    first = await zoom.connect()
    second = (await zoom.refresh(first["refresh_token"])).json()
    await zoom.refresh(second["refresh_token"])
    await zoom.me(second["access_token"])
    rows = (await command(zoom, "GET", "/calls", operation="refresh"))["data"]
    assert [(row["application"], row["person"], row["token"], row["status"]) for row in rows] == [
        ("zoom", "ada", 1, 200),
        ("zoom", "ada", 2, 200),
    ]
    everything = (await command(zoom, "GET", "/calls"))["data"]
    assert [row["operation"] for row in everything] == ["authorize", "authorize", "exchange", "refresh", "refresh", "identity"]
    assert [row["number"] for row in everything] == [1, 2, 3, 4, 5, 6]
    await command(zoom, "DELETE", "/calls")
    assert (await command(zoom, "GET", "/calls"))["data"] == []


async def test_tokens_are_listed_by_their_hash(zoom: Peer) -> None:
    reply = await zoom.connect()
    await zoom.refresh(reply["refresh_token"])
    rows = {row["sha256"]: row for row in (await command(zoom, "GET", "/tokens"))["data"]}
    spent = rows[hashlib.sha256(reply["refresh_token"].encode()).hexdigest()]
    assert (spent["kind"], spent["live"], spent["spent"], spent["application"], spent["person"]) == ("refresh", False, True, "zoom", "ada")
    assert sum(row["live"] for row in rows.values()) == 3
    assert (await command(zoom, "GET", "/tokens", target="google"))["data"] == []


async def test_faults_are_ordered_listed_and_cleared(zoom: Peer) -> None:
    order = {"target": "zoom", "kind": "status", "operation": "identity", "values": {"status": 503}, "times": None}
    fault = await command(zoom, "POST", "/faults", order)
    assert (await command(zoom, "GET", "/faults"))["data"] == [fault]
    access = (await zoom.connect())["access_token"]
    assert (await zoom.me(access)).status_code == 503
    await command(zoom, "DELETE", "/faults")
    assert (await zoom.me(access)).status_code == 200


async def test_a_held_call_is_let_go_over_http(zoom: Peer) -> None:
    await command(zoom, "POST", "/faults", {"target": "zoom", "kind": "hold", "operation": "api"})
    await command(zoom, "POST", "/release", {})


async def test_facts_time_expiry_consents_accounts_and_registrations_are_changed(zoom: Peer) -> None:
    reply = await zoom.connect()
    await command(zoom, "POST", "/facts", {"provider": "zoom", "name": "scope_error_status", "value": "401"})
    assert zoom.realm.facts["scope_error_status"] == "401"
    assert await command(zoom, "POST", "/expire", {"target": "zoom"}) == {"expired": 1}
    assert (await zoom.me(reply["access_token"])).status_code == httpx.codes.UNAUTHORIZED
    before = zoom.sandbox.clock.now()
    assert (await command(zoom, "POST", "/clock", {"seconds": 60}))["now"] >= before + 60
    assert await command(zoom, "POST", "/deauthorize", {"application": "zoom", "person": "ada", "by": "admin"}) == {"ended": 1}
    assert (await zoom.refresh(reply["refresh_token"])).json()["error_code"] == 4738
    await command(zoom, "POST", "/remove", {"provider": "zoom", "person": "grace"})
    assert "grace" not in zoom.realm.people
    await command(zoom, "POST", "/applications", {"application": "zoom", "redirects": ["http://127.0.0.1/x"], "testing": True})
    assert zoom.realm.applications["zoom"].redirects == ("http://127.0.0.1/x",)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/faults", {"target": "nobody", "kind": "lost"}),
        ("/faults", {"target": "zoom", "kind": "nothing"}),
        ("/faults", {"target": "zoom", "kind": "lost", "operation": "sleep"}),
        ("/faults", {"target": "zoom", "kind": "lost", "times": True}),
        ("/faults", {"target": "zoom", "kind": "lost", "times": 0}),
        ("/faults", {"target": 1, "kind": "lost"}),
        ("/faults", {"kind": "lost"}),
        ("/faults", {"target": "zoom", "kind": "lost", "colour": "red"}),
        ("/facts", {"provider": "zoom", "name": "colour", "value": "red"}),
        ("/facts", {"provider": "zoom", "name": "scope_separator", "value": "red"}),
        ("/clock", {"seconds": -1}),
        ("/clock", {"seconds": "long"}),
        ("/clock", {"seconds": True}),
        ("/expire", {"target": "zoom", "kind": "bread"}),
        ("/deauthorize", {"application": "zoom", "person": "nobody"}),
        ("/deauthorize", {"application": "zoom", "person": "ada", "by": "magic"}),
        ("/remove", {"provider": "zoom", "person": "nobody"}),
        ("/applications", {"application": "google"}),
        ("/applications", {"application": "zoom", "scopes": "all"}),
        ("/applications", {"application": "zoom", "disabled": "yes"}),
    ],
)
async def test_a_command_that_cannot_be_meant_is_refused_with_a_sentence(zoom: Peer, path: str, body: dict[str, object]) -> None:
    assert (await command(zoom, "POST", path, body, 400))["error"]


async def test_a_web_page_cannot_command_it(zoom: Peer) -> None:
    """A page can send a form or plain text anywhere, and can let its own name point at this machine."""
    url = f"{zoom.sandbox.base}/_sandbox/faults"
    assert (await zoom.browser.post(url, data={"target": "zoom", "kind": "lost"})).status_code == 415
    assert (
        await zoom.browser.post(url, content=b'{"target":"zoom","kind":"lost"}', headers={"content-type": "text/plain"})
    ).status_code == 415
    assert (await zoom.browser.get(url, headers={"host": "evil.example.com"})).status_code == 421
    assert not zoom.realm.faults.waiting


async def test_what_there_is_not_is_said_so(zoom: Peer) -> None:
    await command(zoom, "GET", "/nothing", status=404)
    assert (await zoom.browser.get(f"{zoom.sandbox.base}/nobody/oauth")).status_code == 404
    assert (await zoom.browser.get(f"{zoom.realm.base}/nothing")).json() == {
        "code": 2300,
        "message": "This API endpoint is not recognized.",
    }


async def test_nothing_that_it_says_holds_a_token_or_a_code(peer: Peer, sandbox: Sandbox) -> None:
    code = await peer.code()
    reply = (await peer.exchange(code)).json()
    await peer.me(reply["access_token"])
    said = "".join([str(await command(peer, "GET", path)) for path in ("/", "/calls", "/tokens", "/faults")])
    shown = "".join(map(repr, (sandbox.calls, sandbox.tokens(peer.realm.name), list(sandbox.realms.values()))))
    for secret in sandbox.secrets():
        assert secret not in said
        assert secret not in shown
