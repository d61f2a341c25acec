"""Slack's authorization: 200 whatever happens, a bot per workspace, rotation on request, revocation that reaches as far as it says."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from customhouse_sandbox import End, FaultKind, Operation
from tests.sandboxes import CHALLENGE, Peer, consent

pytestmark = pytest.mark.anyio
NEVER = float("inf")


def refused(answer: httpx.Response, error: str) -> None:
    assert answer.status_code == httpx.codes.OK
    assert (answer.json()["ok"], answer.json()["error"]) == (False, error)


def fact(peer: Peer, name: str, value: str) -> None:
    peer.sandbox.set_fact("slack", name, value)


async def works(peer: Peer, token: str) -> bool:
    answer: bool = (await peer.me(token)).json()["ok"]
    return answer


async def test_an_installation_has_the_documented_members(slack: Peer) -> None:
    answer = await slack.exchange(await slack.code())
    said = answer.json()
    assert answer.headers["cache-control"] == "no-store"
    assert set(said) == {
        *("ok", "access_token", "token_type", "scope", "bot_user_id", "app_id", "team", "enterprise", "is_enterprise_install"),
        *("authed_user", "refresh_token", "expires_in"),
    }
    assert (said["ok"], said["token_type"], said["scope"], said["expires_in"]) == (True, "bot", "chat:write,users:read", 43_200)
    assert (said["enterprise"], said["is_enterprise_install"]) == (None, False)
    assert said["team"]["id"] == slack.realm.people["ada"].organisation
    assert said["authed_user"] == {"id": slack.realm.people["ada"].id}
    assert said["access_token"].startswith("xoxe.xoxb-1-")
    assert said["refresh_token"].startswith("xoxe-1-")


@pytest.mark.parametrize("rotation", ["on", "off"])
async def test_tokens_rotate_where_the_application_asked_for_it(slack: Peer, rotation: str) -> None:
    fact(slack, "token_rotation", rotation)
    said: dict[str, Any] = dict(await slack.connect())
    slack.sandbox.clock.advance(43_200)
    if rotation == "on":
        refused(await slack.me(said["access_token"]), "token_expired")
        return
    assert not {"refresh_token", "expires_in"} & set(said)
    assert said["access_token"].startswith("xoxb-")
    assert await works(slack, said["access_token"])


async def test_an_installation_for_a_whole_organisation_names_no_workspace(slack: Peer) -> None:
    said: dict[str, Any] = dict(await slack.connect("edith"))
    assert (said["team"], said["is_enterprise_install"]) == (None, True)
    assert said["enterprise"]["id"] == slack.realm.people["edith"].organisation
    told = (await slack.me(said["access_token"])).json()
    assert (told["is_enterprise_install"], told["enterprise_id"]) == (True, said["enterprise"]["id"])


async def test_no_response_type_and_no_grant_type_are_needed(slack: Peer) -> None:
    code = await slack.code(response_type=None)
    assert (await slack.exchange(code, grant_type=None)).json()["ok"]


@pytest.mark.parametrize("ticked", [[], ["chat:write"]])
async def test_nothing_can_be_unticked(slack: Peer, ticked: list[str]) -> None:
    said = (await slack.exchange(await slack.code(ticked=ticked))).json()
    assert said["scope"] == "chat:write,users:read"


async def test_denying_brings_access_denied_and_the_state(slack: Peer) -> None:
    landing = await consent(slack.browser, slack.authorize(), decision="deny")
    assert (landing["error"], landing["state"], landing["code"]) == ("access_denied", "state-of-this-test", "")


@pytest.mark.parametrize("where", ["page", "redirect"])
async def test_a_request_out_of_order_ends_where_the_fact_says(slack: Peer, where: str) -> None:
    fact(slack, "authorize_errors", where)
    for wrong in ("chat:write users:read", "channels:read", ""):
        answer = await slack.browser.get(slack.authorize(scope=wrong))
        assert answer.status_code == (httpx.codes.BAD_REQUEST if where == "page" else httpx.codes.FOUND)
        assert ("location" in answer.headers) is (where == "redirect")


@pytest.mark.parametrize("answer", ["ignored", "refused"])
async def test_a_challenge_is_what_the_fact_says(slack: Peer, answer: str) -> None:
    fact(slack, "challenge", answer)
    page = await slack.browser.get(slack.authorize(code_challenge=CHALLENGE, code_challenge_method="S256"))
    assert page.status_code == (httpx.codes.OK if answer == "ignored" else httpx.codes.BAD_REQUEST)
    if answer == "ignored":
        code = await slack.code(code_challenge=CHALLENGE, code_challenge_method="S256")
        assert (await slack.exchange(code, code_verifier="another")).json()["ok"], "it protects nothing"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code": "nothing"}, "invalid_code"),
        ({"code": None}, "invalid_arguments"),
        ({"redirect_uri": None}, "bad_redirect_uri"),
        ({"redirect_uri": "http://127.0.0.1/x"}, "bad_redirect_uri"),
        ({"grant_type": "password"}, "invalid_grant_type"),
    ],
)
async def test_a_code_call_that_is_out_of_order_is_refused_with_200(slack: Peer, changes: dict[str, str | None], error: str) -> None:
    refused(await slack.exchange(await slack.code(), **changes), error)
    assert not slack.sandbox.tokens("slack")


@pytest.mark.parametrize("way", ["basic", "body"])
async def test_an_application_shows_itself_in_either_way_and_never_with_a_wrong_secret(slack: Peer, way: str) -> None:
    form = {"code": await slack.code(), "redirect_uri": slack.redirect}
    refused(await slack.post(slack.urls["token_url"], form, way=way, secret="wrong"), "bad_client_secret")
    assert (await slack.post(slack.urls["token_url"], form, way=way)).json()["ok"]


async def test_an_application_that_nobody_knows_or_that_is_switched_off_gets_no_tokens(slack: Peer) -> None:
    code = await slack.code()
    refused(await slack.browser.post(slack.urls["token_url"], data={"code": code}), "invalid_client_id")
    slack.realm.change("slack", disabled=True)
    refused(await slack.exchange(code), "invalid_client_id")


@pytest.mark.parametrize(
    ("errors", "used", "old"), [("specific", "code_already_used", "code_expired"), ("general", "invalid_code", "invalid_code")]
)
async def test_a_used_or_old_code_has_the_error_that_its_fact_says(slack: Peer, errors: str, used: str, old: str) -> None:
    fact(slack, "code_errors", errors)
    code, late = await slack.code(), await slack.code()
    assert (await slack.exchange(code)).json()["ok"]
    refused(await slack.exchange(code), used)
    slack.sandbox.clock.advance(600)
    refused(await slack.exchange(late), old)


@pytest.mark.parametrize("ends", ["no", "yes"])
async def test_a_code_shown_twice_ends_the_installation_where_its_fact_says_so(slack: Peer, ends: str) -> None:
    fact(slack, "code_reuse_ends_grant", ends)
    code = await slack.code()
    token = (await slack.exchange(code)).json()["access_token"]
    refused(await slack.exchange(code), "code_already_used")
    assert await works(slack, token) is (ends == "no")


@pytest.mark.parametrize("error", ["invalid_refresh_token", "internal_error"])
async def test_a_refresh_token_is_good_once(slack: Peer, error: str) -> None:
    fact(slack, "spent_refresh_error", error)
    first = await slack.connect()
    second = (await slack.refresh(first["refresh_token"])).json()
    assert (second["ok"], second["expires_in"], second["scope"], second["token_type"]) == (True, 43_200, "chat:write,users:read", "bot")
    assert "authed_user" not in second
    assert second["refresh_token"] != first["refresh_token"]
    refused(await slack.refresh(first["refresh_token"]), error)
    assert (await slack.refresh(second["refresh_token"])).json()["ok"], "the newest one is not hurt"


async def test_a_refresh_token_has_no_end_of_its_own(slack: Peer) -> None:
    token = (await slack.connect())["refresh_token"]
    slack.sandbox.clock.advance(3 * 366 * 86_400)
    assert (await slack.refresh(token)).json()["ok"]
    refused(await slack.refresh("nothing"), "invalid_refresh_token")


@pytest.mark.parametrize("fate", ["lives", "ends"])
async def test_the_access_token_before_is_what_its_fact_says(slack: Peer, fate: str) -> None:
    fact(slack, "access_after_refresh", fate)
    first = await slack.connect()
    second = (await slack.refresh(first["refresh_token"])).json()
    assert await works(slack, first["access_token"]) is (fate == "lives")
    assert await works(slack, second["access_token"])


@pytest.mark.parametrize("scopes", ["kept", "dropped"])
async def test_installing_again_keeps_the_scopes_of_before_where_the_fact_says_so(slack: Peer, scopes: str) -> None:
    fact(slack, "earlier_scopes", scopes)
    slack.realm.change("slack", scopes=("chat:write", "users:read", "channels:read"))
    await slack.connect(scope="channels:read")
    said = await slack.connect("grace", scope="chat:write")
    assert set(said["scope"].split(",")) == ({"chat:write", "channels:read"} if scopes == "kept" else {"chat:write"})
    elsewhere = await slack.connect("alan", scope="chat:write")
    assert elsewhere["scope"] == "chat:write", "another workspace"


@pytest.mark.parametrize("ends", ["no", "yes"])
async def test_installing_again_ends_the_tokens_of_before_where_the_fact_says_so(slack: Peer, ends: str) -> None:
    fact(slack, "reinstall_ends_tokens", ends)
    first, elsewhere = await slack.connect(), await slack.connect("alan")
    second = await slack.connect("grace")
    assert await works(slack, first["access_token"]) is (ends == "no")
    assert await works(slack, second["access_token"])
    assert await works(slack, elsewhere["access_token"])


async def test_a_persons_own_token_stands_beside_the_bots_and_rotates_by_itself(slack: Peer) -> None:
    slack.realm.change("slack", scopes=("chat:write", "users:read", "user/search:read"))
    said: dict[str, Any] = dict(await slack.connect(scope="chat:write", user_scope="search:read"))
    person = said["authed_user"]
    assert (said["scope"], person["scope"], person["token_type"]) == ("chat:write", "search:read", "user")
    assert person["access_token"].startswith("xoxe.xoxp-1-")
    assert (await slack.me(person["access_token"])).json()["user_id"] == slack.realm.people["ada"].id
    assert (await slack.me(said["access_token"])).json()["user_id"] == said["bot_user_id"]
    renewed = (await slack.refresh(person["refresh_token"])).json()
    assert (renewed["scope"], renewed["token_type"]) == ("search:read", "user")
    assert "bot_user_id" not in renewed
    assert (await slack.refresh(said["refresh_token"])).json()["scope"] == "chat:write"
    alone: dict[str, Any] = dict(await slack.connect("alan", scope="", user_scope="search:read"))
    assert not {"access_token", "scope", "bot_user_id"} & set(alone)
    assert alone["authed_user"]["access_token"].startswith("xoxe.xoxp-1-")


@pytest.mark.parametrize("extent", ["workspace", "installation", "token"])
async def test_a_revocation_reaches_as_far_as_its_fact_says(slack: Peer, extent: str) -> None:
    fact(slack, "bot_revocation", extent)
    mine, theirs, elsewhere = await slack.connect(), await slack.connect("grace"), await slack.connect("alan")
    assert (await slack.revoke(mine["access_token"])).json() == {"ok": True, "revoked": True}
    assert not await works(slack, mine["access_token"])
    assert (await slack.refresh(mine["refresh_token"])).json()["ok"] is (extent == "token")
    assert await works(slack, theirs["access_token"]) is (extent != "workspace")
    assert await works(slack, elsewhere["access_token"])


@pytest.mark.parametrize("error", ["token_revoked", "account_inactive", "invalid_auth"])
async def test_a_revoked_token_has_the_error_that_its_fact_says(slack: Peer, error: str) -> None:
    fact(slack, "ended_error", error)
    token = (await slack.connect())["access_token"]
    await slack.revoke(token)
    refused(await slack.me(token), error)
    refused(await slack.revoke(token), error)


async def test_a_revocation_can_be_tried_without_effect(slack: Peer) -> None:
    token = (await slack.connect())["access_token"]
    assert (await slack.get("/api/auth.revoke", token, test="1")).json() == {"ok": True, "revoked": False}
    assert await works(slack, token)


async def test_a_revocation_that_lies_answers_as_a_true_one_does(slack: Peer) -> None:
    token, other = (await slack.connect())["access_token"], (await slack.connect("alan"))["access_token"]
    slack.sandbox.order("slack", FaultKind.REVOCATION_LIES)
    lie, truth = await slack.revoke(token), await slack.revoke(other)
    assert (lie.status_code, lie.content, dict(lie.headers)) == (truth.status_code, truth.content, dict(truth.headers))
    assert await works(slack, token)
    assert not await works(slack, other)


async def test_uninstalling_takes_the_application_and_its_token_and_ends_the_workspaces_bot(slack: Peer) -> None:
    mine, theirs, elsewhere = await slack.connect(), await slack.connect("grace"), await slack.connect("alan")
    url = f"{slack.realm.base}/api/apps.uninstall"
    shown = {"authorization": f"Bearer {mine['access_token']}"}
    right = {"client_id": slack.application.id, "client_secret": slack.application.secret}
    refused(await slack.browser.post(url, data=right | {"client_secret": "wrong"}, headers=shown), "bad_client_secret")
    refused(await slack.browser.post(url, data=right), "not_authed")
    assert await works(slack, mine["access_token"])
    assert (await slack.browser.post(url, data=right, headers=shown)).json() == {"ok": True}
    assert not await works(slack, mine["access_token"])
    assert not await works(slack, theirs["access_token"])
    refused(await slack.refresh(theirs["refresh_token"]), "invalid_refresh_token")
    assert await works(slack, elsewhere["access_token"])


async def test_a_token_without_an_end_becomes_one_that_rotates_once(slack: Peer) -> None:
    fact(slack, "token_rotation", "off")
    held = (await slack.connect())["access_token"]
    url = f"{slack.realm.base}/api/oauth.v2.exchange"
    refused(await slack.post(url, {"token": held}), "token_rotation_not_enabled")
    fact(slack, "token_rotation", "on")
    refused(await slack.post(url, {"token": "nothing"}), "invalid_token")
    said = (await slack.post(url, {"token": held})).json()
    assert (said["ok"], said["expires_in"]) == (True, 43_200)
    assert await works(slack, said["access_token"])
    assert not await works(slack, held)
    assert (await slack.refresh(said["refresh_token"])).json()["ok"]
    refused(await slack.post(url, {"token": held}), "token_already_exchanged")
    refused(await slack.post(url, {"token": said["access_token"]}), "invalid_token")


@pytest.mark.parametrize(
    ("why", "api", "token"),
    [
        (End.DEAUTHORIZED, "token_revoked", "invalid_refresh_token"),
        (End.ADMIN, "team_access_not_granted", "team_access_not_granted"),
        (End.OWNER_GONE, "token_revoked", "account_inactive"),
    ],
)
async def test_the_end_of_an_installation_from_slacks_side_reaches_the_whole_workspace(slack: Peer, why: End, api: str, token: str) -> None:
    mine, theirs, elsewhere = await slack.connect(), await slack.connect("grace"), await slack.connect("alan")
    assert slack.sandbox.withdraw("slack", "ada", why) == 2
    refused(await slack.me(theirs["access_token"]), api)
    refused(await slack.refresh(mine["refresh_token"]), token)
    assert await works(slack, elsewhere["access_token"])


async def test_an_account_that_vanished_has_no_tokens(slack: Peer) -> None:
    said = await slack.connect()
    slack.sandbox.remove_person("slack", "ada")
    refused(await slack.me(said["access_token"]), "account_inactive")
    refused(await slack.refresh(said["refresh_token"]), "account_inactive")


async def test_faults_of_a_token_reply(slack: Peer) -> None:
    for kind, missing in (
        (FaultKind.SCOPE_MISSING, {"scope"}),
        (FaultKind.REFRESH_TOKEN_MISSING, {"refresh_token"}),
        (FaultKind.ACCOUNT_MISSING, {"team", "enterprise", "authed_user"}),
    ):
        slack.sandbox.order("slack", kind, Operation.EXCHANGE)
        assert not missing & set(await slack.connect()), kind
    slack.sandbox.order("slack", FaultKind.SCOPE_FEWER, scopes=["chat:write", "users:read"])
    bare = await slack.connect("edith")
    assert (bare["scope"], await works(slack, bare["access_token"])) == ("", True)
    slack.sandbox.order("slack", FaultKind.SCOPE_MORE, scopes=["channels:read", "user/search:read"])
    said: dict[str, Any] = dict(await slack.connect("alan"))
    assert "channels:read" in said["scope"].split(",")
    assert said["authed_user"]["scope"] == "search:read"
    slack.sandbox.order("slack", FaultKind.INVALID_GRANT, Operation.REFRESH)
    refused(await slack.refresh(said["refresh_token"]), "invalid_refresh_token")
    assert (await slack.refresh(said["refresh_token"])).json()["ok"]


async def test_slacks_own_client_installs_writes_and_leaves(slack: Peer) -> None:
    """The vendor's package speaks with the stand-in as it speaks with Slack."""
    code = await slack.code()
    identity, channel = slack.application, slack.realm.people["grace"].id

    def walk() -> tuple[dict[str, Any], str]:
        client = WebClient(base_url=f"{slack.realm.base}/api/")
        first = client.oauth_v2_access(client_id=identity.id, client_secret=identity.secret, code=code, redirect_uri=slack.redirect)
        said = client.oauth_v2_access(
            client_id=identity.id, client_secret=identity.secret, grant_type="refresh_token", refresh_token=first["refresh_token"]
        )
        token = said["access_token"]
        assert client.auth_test(token=token)["user_id"] == said["bot_user_id"]
        assert client.users_info(token=token, user=channel)["user"]["id"] == channel
        written = client.chat_postMessage(token=token, channel=channel, text="Hello")
        assert client.auth_revoke(token=token)["revoked"] is True
        try:
            client.auth_test(token=token)
        except SlackApiError as error:
            return dict(written["message"]), error.response["error"]
        raise AssertionError("the token lives")

    message, error = await asyncio.to_thread(walk)
    assert (message["text"], error) == ("Hello", "token_revoked")
