"""Slack's Web API and its events: who, what is refused and how, messages, rate limits, signatures, uninstallation."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from slack_sdk.signature import SignatureVerifier

from customhouse_sandbox import FaultKind, Operation
from customhouse_sandbox.slack.hooks import EVENTS, PRESSED, REVOKED, UNINSTALL, UNINSTALLED, VERIFICATION
from customhouse_sandbox.slack.workspaces import CHANNELS, channels, messages, named
from tests.receivers import Received, Recorder, recorder, status
from tests.sandboxes import Peer

pytestmark = pytest.mark.anyio


@pytest.fixture
async def listener() -> AsyncIterator[Recorder]:
    async with recorder() as listener:
        yield listener


@pytest.fixture
async def token(slack: Peer) -> str:
    return (await slack.connect())["access_token"]


def refused(answer: httpx.Response, error: str) -> None:
    assert answer.status_code == httpx.codes.OK
    assert (answer.json()["ok"], answer.json()["error"]) == (False, error)


async def test_a_bot_is_told_who_it_is_and_where(slack: Peer, token: str) -> None:
    said = (await slack.me(token)).json()
    assert said["ok"] is True
    assert said["team_id"] == slack.realm.people["ada"].organisation
    assert said["user_id"].startswith("U")
    assert said["bot_id"].startswith("B")
    other = (await slack.me((await slack.connect("alan"))["access_token"])).json()
    assert (other["team_id"], other["user_id"]) != (said["team_id"], said["user_id"])
    slack.sandbox.order("slack", FaultKind.IDENTITY_MISSING, Operation.IDENTITY)
    assert "team_id" not in (await slack.me(token)).json()


@pytest.mark.parametrize(
    ("header", "error"), [("", "not_authed"), ("Bearer", "not_authed"), ("Basic eDp5", "not_authed"), ("Bearer nothing", "invalid_auth")]
)
async def test_without_a_token_nothing_opens(slack: Peer, header: str, error: str) -> None:
    for path in ("auth.test", "users.info", "auth.revoke"):
        refused(await slack.browser.get(f"{slack.realm.base}/api/{path}", headers={"authorization": header}), error)


async def test_a_refresh_token_opens_nothing(slack: Peer) -> None:
    refused(await slack.me((await slack.connect())["refresh_token"]), "invalid_auth")


@pytest.mark.parametrize("header", ["yes", "no"])
async def test_each_answer_names_the_scopes_where_its_fact_says_so(slack: Peer, token: str, header: str) -> None:
    slack.sandbox.set_fact("slack", "scopes_header", header)
    answer = await slack.me(token)
    assert answer.headers.get("x-oauth-scopes") == ("chat:write,users:read" if header == "yes" else None)


async def test_members_are_told_without_their_addresses(slack: Peer, token: str) -> None:
    grace = slack.realm.people["grace"]
    said = (await slack.get("/api/users.info", token, user=grace.id)).json()["user"]
    assert (said["id"], said["team_id"], said["real_name"]) == (grace.id, grace.organisation, "Grace Sample")
    assert "email" not in said["profile"]
    slack.realm.change("slack", scopes=("users:read", "users:read.email"))
    wider = (await slack.connect(scope="users:read,users:read.email"))["access_token"]
    assert (await slack.get("/api/users.info", wider, user=grace.id)).json()["user"]["profile"]["email"] == "grace@example.com"


async def test_nobody_of_another_workspace_is_told(slack: Peer, token: str) -> None:
    for user in (slack.realm.people["alan"].id, "U0", ""):
        refused(await slack.get("/api/users.info", token, user=user), "user_not_found")


async def test_a_missing_scope_is_named_beside_what_there_is(slack: Peer) -> None:
    writes = (await slack.connect(scope="chat:write"))["access_token"]
    said = (await slack.get("/api/users.info", writes, user="U1")).json()
    assert said == {"ok": False, "error": "missing_scope", "needed": "users:read", "provided": "chat:write"}
    reads = (await slack.connect("alan", scope="users:read"))["access_token"]
    assert (await slack.call("POST", "/api/chat.postMessage", reads, {"channel": "C1", "text": "x"})).json()["needed"] == "chat:write"


async def write(slack: Peer, token: str, **said: Any) -> httpx.Response:
    return await slack.call("POST", "/api/chat.postMessage", token, said)


async def test_a_message_is_written_once_for_each_call(slack: Peer, token: str) -> None:
    general = channels(slack.realm.people["ada"].organisation)[0]
    first, second = [(await write(slack, token, channel=general.id, text="Hello")).json() for _ in range(2)]
    assert (first["ok"], first["channel"], first["message"]["text"]) == (True, general.id, "Hello")
    assert float(first["ts"]) < float(second["ts"]), "the same call twice is two messages"
    assert [one["ts"] for one in messages(slack.realm)] == [first["ts"], second["ts"]]
    form = {"channel": general.id, "blocks": json.dumps([{"type": "divider"}]), "thread_ts": first["ts"]}
    answer = await slack.browser.post(f"{slack.realm.base}/api/chat.postMessage", data=form, headers={"authorization": f"Bearer {token}"})
    assert answer.json()["message"]["thread_ts"] == first["ts"]
    assert answer.json()["message"]["blocks"] == [{"type": "divider"}]


async def test_a_member_is_written_to_directly(slack: Peer, token: str) -> None:
    grace = slack.realm.people["grace"]
    said = (await write(slack, token, channel=grace.id, text="Hello")).json()
    assert said["channel"] == named("D", grace.id)
    refused(await write(slack, token, channel=slack.realm.people["alan"].id, text="Hello"), "channel_not_found")


@pytest.mark.parametrize(("name", "error"), [(name, error) for name, error in CHANNELS if error])
async def test_channels_that_the_bot_may_not_write_to(slack: Peer, token: str, name: str, error: str) -> None:
    channel = next(one for one in channels(slack.realm.people["ada"].organisation) if one.name == name)
    refused(await write(slack, token, channel=channel.id, text="Hello"), error)
    assert messages(slack.realm) == []


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({}, "invalid_arguments"),
        ({"channel": 1, "text": "x"}, "invalid_arguments"),
        ({"channel": "C1", "text": ["x"]}, "invalid_arguments"),
        ({"channel": "C1", "text": "x", "thread_ts": "yesterday"}, "invalid_arguments"),
        ({"channel": "C1"}, "no_text"),
        ({"channel": "C1", "text": "", "blocks": []}, "no_text"),
        ({"channel": "C1", "blocks": [1]}, "invalid_blocks"),
        ({"channel": "C1", "blocks": [{"type": "divider"}] * 51}, "invalid_blocks"),
        ({"channel": "C1", "text": "x", "metadata": 1}, "invalid_metadata_format"),
        ({"channel": "C1", "text": "x" * 40_001}, "msg_too_long"),
        ({"channel": "C1", "text": "x"}, "channel_not_found"),
    ],
)
async def test_a_message_out_of_order_is_refused(slack: Peer, token: str, said: dict[str, Any], error: str) -> None:
    refused(await write(slack, token, **said), error)
    assert messages(slack.realm) == []


async def test_a_body_that_is_not_what_it_says_is_refused(slack: Peer, token: str) -> None:
    url, shown = f"{slack.realm.base}/api/chat.postMessage", {"authorization": f"Bearer {token}"}
    for content in (b"{", b"[]", b"\xff"):
        refused(await slack.browser.post(url, content=content, headers=shown | {"content-type": "application/json"}), "invalid_json")
    refused(await slack.browser.post(url, data={"channel": "C1", "blocks": "{"}, headers=shown), "invalid_blocks_format")
    refused(await slack.browser.post(url, data={"channel": "C1", "metadata": "{"}, headers=shown), "invalid_metadata_format")


@pytest.mark.parametrize("error", ["ratelimited", "rate_limited"])
async def test_too_many_calls_are_429_with_the_seconds_to_wait(slack: Peer, token: str, error: str) -> None:
    slack.sandbox.set_fact("slack", "rate_limit_error", error)
    elsewhere = (await slack.connect("alan"))["access_token"]
    slack.sandbox.limit("slack", 2, 60)
    assert [(await slack.me(token)).status_code for _ in range(3)] == [200, 200, 429]
    answer = await slack.me((await slack.connect("grace"))["access_token"])
    assert (answer.status_code, answer.headers["retry-after"], answer.json()) == (429, "60", {"ok": False, "error": error})
    assert (await slack.me(elsewhere)).status_code == 200, "another workspace has a count of its own"
    slack.sandbox.limit("slack", None)
    slack.sandbox.order("slack", FaultKind.RATE_LIMITED, Operation.API, retry_after=7)
    assert (await write(slack, token, channel="C1", text="x")).headers["retry-after"] == "7"


async def test_a_method_that_there_is_not(slack: Peer, token: str) -> None:
    refused(await slack.get("/api/conversations.list", token), "unknown_method")


def genuine(slack: Peer, got: Received) -> bool:
    """Ask the vendor's own verifier."""
    verifier = SignatureVerifier(slack.application.webhook_secret)
    timestamp, signature = got.headers["x-slack-request-timestamp"], got.headers["x-slack-signature"]
    now = f"v0:{timestamp}:".encode() + got.body
    assert not verifier.is_valid(now + b"x", timestamp, signature)
    return bool(verifier.is_valid(got.body, timestamp, signature))


@pytest.mark.parametrize("event", sorted(set(EVENTS) - {VERIFICATION, UNINSTALL, PRESSED}))
async def test_every_event_verifies_with_slacks_package_and_names_the_workspace(slack: Peer, listener: Recorder, event: str) -> None:
    assert slack.sandbox.notify("slack", "ada", event, url=listener.url("/slack")) == 1
    (got,) = await listener.wait_for(1)
    said = json.loads(got.body)
    assert genuine(slack, got)
    assert (said["type"], said["event"]["type"]) == ("event_callback", event)
    assert (said["team_id"], "enterprise_id" in said) == (slack.realm.people["ada"].organisation, False)
    assert said["event_id"].startswith("Ev")
    assert (await slack.sandbox.delivered(1))[0].accepted


async def test_an_organisations_event_names_no_workspace(slack: Peer, listener: Recorder) -> None:
    slack.sandbox.notify("slack", "edith", UNINSTALLED, url=listener.url())
    (got,) = await listener.wait_for(1)
    said = json.loads(got.body)
    assert (said["team_id"], said["enterprise_id"]) == (None, slack.realm.people["edith"].organisation)


async def test_a_retry_is_the_same_event_and_says_that_it_is_one(slack: Peer, listener: Recorder) -> None:
    slack.sandbox.notify("slack", "ada", REVOKED, url=listener.url(), times=3)
    got = await listener.wait_for(3)
    assert len({one.body for one in got}) == 1
    assert all(genuine(slack, one) for one in got)
    assert [one.headers.get("x-slack-retry-num") for one in got] == [None, "1", "2"]
    assert [one.headers.get("x-slack-retry-reason") for one in got] == [None, "http_error", "http_error"]


async def test_a_press_is_a_form_signed_over_its_raw_body(slack: Peer, listener: Recorder) -> None:
    slack.sandbox.notify("slack", "ada", PRESSED, url=listener.url())
    (got,) = await listener.wait_for(1)
    assert genuine(slack, got)
    assert got.headers["content-type"] == "application/x-www-form-urlencoded"
    said = json.loads(parse_qs(got.body.decode())["payload"][0])
    assert (said["type"], said["user"]["id"]) == (PRESSED, slack.realm.people["ada"].id)


@pytest.mark.parametrize("form", ["plain", "json", "wrong", "nothing"])
async def test_an_address_proves_itself_by_the_challenge(slack: Peer, listener: Recorder, form: str) -> None:
    def answering(got: Received) -> bytes:
        challenge = json.loads(got.body)["challenge"]
        said = {"plain": challenge, "json": json.dumps({"challenge": challenge}), "wrong": "other", "nothing": ""}[form].encode()
        return status(200, body=said)

    listener.answer = answering
    slack.sandbox.notify("slack", "ada", VERIFICATION, url=listener.url())
    (got,) = await listener.wait_for(1)
    assert genuine(slack, got), "it is signed like everything else"
    assert (await slack.sandbox.delivered(1))[0].accepted is (form in {"plain", "json"})


@pytest.mark.parametrize(("order", "events"), [("uninstalled_first", [UNINSTALLED, REVOKED]), ("revoked_first", [REVOKED, UNINSTALLED])])
async def test_an_uninstallation_is_told_by_two_events_in_the_order_of_the_fact(
    slack: Peer, listener: Recorder, order: str, events: list[str]
) -> None:
    slack.sandbox.set_fact("slack", "uninstall_order", order)
    slack.realm.change("slack", webhook_url=listener.url())
    said: dict[str, Any] = dict(await slack.connect())
    assert slack.sandbox.withdraw("slack", "ada") == 1
    got = [json.loads(one.body) for one in await listener.wait_for(2)]
    assert [one["event"]["type"] for one in got] == events
    told = next(one["event"]["tokens"] for one in got if one["event"]["type"] == REVOKED)
    assert told == {"oauth": [], "bot": [said["bot_user_id"]]}


async def test_uninstalling_by_call_is_told_as_well(slack: Peer, listener: Recorder) -> None:
    slack.realm.change("slack", webhook_url=listener.url())
    token = (await slack.connect())["access_token"]
    shown = {"authorization": f"Bearer {token}"}
    form = {"client_id": slack.application.id, "client_secret": slack.application.secret}
    assert (await slack.browser.post(f"{slack.realm.base}/api/apps.uninstall", data=form, headers=shown)).json()["ok"]
    assert {json.loads(one.body)["event"]["type"] for one in await listener.wait_for(2)} == {UNINSTALLED, REVOKED}


@pytest.mark.parametrize("told", ["no", "yes"])
async def test_a_revocation_is_told_where_the_fact_says_so(slack: Peer, listener: Recorder, told: str) -> None:
    slack.sandbox.set_fact("slack", "revocation_told", told)
    slack.realm.change("slack", webhook_url=listener.url())
    await slack.revoke((await slack.connect())["access_token"])
    slack.sandbox.notify("slack", "ada", "team_join")
    got = [json.loads(one.body)["event"]["type"] for one in await listener.wait_for(2 if told == "yes" else 1)]
    assert got == ([REVOKED] if told == "yes" else []) + ["team_join"]


async def test_an_event_that_there_is_not(slack: Peer, listener: Recorder) -> None:
    with pytest.raises(ValueError, match=r"moon|events here"):
        slack.sandbox.notify("slack", "ada", "moon.rise", url=listener.url())
    with pytest.raises(ValueError, match=r"127\.0\.0\.1"):
        slack.sandbox.notify("slack", "ada", UNINSTALLED, url="https://example.com/")
