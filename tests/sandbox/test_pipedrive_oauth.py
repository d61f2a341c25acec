"""Pipedrive's tokens: scopes of the registration, the API's host, renewals that are rolled, and ends that reach differently far."""

from __future__ import annotations

import asyncio
import base64
import json

import httpx
import pytest

from customhouse_sandbox import FaultKind, Operation
from customhouse_sandbox.http import Reply, Request, Server
from customhouse_sandbox.pipedrive import hooks
from tests.sandboxes import CALLBACKS, Peer, consent

pytestmark = pytest.mark.anyio

DAY = 86_400.0


async def alive(pipedrive: Peer, reply: dict[str, str]) -> tuple[bool, bool]:
    """Tell whether the access token and the refresh token still do something."""
    opens = (await pipedrive.me(reply["access_token"])).status_code == httpx.codes.OK
    return opens, (await pipedrive.refresh(reply["refresh_token"])).status_code == httpx.codes.OK


async def test_a_token_reply_names_scopes_and_the_apis_host(pipedrive: Peer) -> None:
    said = await pipedrive.connect()
    assert set(said) == {"access_token", "refresh_token", "token_type", "expires_in", "scope", "api_domain"}
    assert (said["scope"], str(said["expires_in"]), said["api_domain"]) == ("base,contacts:full", "3599", pipedrive.sandbox.base)
    assert ":" in said["access_token"]


@pytest.mark.parametrize("fact", ["named", "missing"])
async def test_the_host_is_named_where_its_fact_says_so(pipedrive: Peer, fact: str) -> None:
    pipedrive.sandbox.set_fact("pipedrive", "api_domain", fact)
    assert ("api_domain" in await pipedrive.connect()) is (fact == "named")


async def test_the_scopes_are_those_of_the_registration_whatever_is_asked_for(pipedrive: Peer) -> None:
    assert (await pipedrive.connect(scope="admin"))["scope"] == "base,contacts:full"
    assert (await pipedrive.exchange(await pipedrive.code(ticked=["base"]))).json()["scope"] == "base,contacts:full"
    pipedrive.sandbox.order("pipedrive", FaultKind.SCOPE_MORE, Operation.EXCHANGE, scopes=["admin"])
    assert (await pipedrive.connect())["scope"] == "base,contacts:full,admin"
    pipedrive.sandbox.order("pipedrive", FaultKind.SCOPE_MISSING)
    assert "scope" not in await pipedrive.connect()


async def test_there_is_no_pkce(pipedrive: Peer) -> None:
    assert (await pipedrive.exchange(await pipedrive.code(), code_verifier="x")).status_code == httpx.codes.OK


async def test_only_basic_shows_who_calls(pipedrive: Peer) -> None:
    form = {"grant_type": "authorization_code", "code": await pipedrive.code(), "redirect_uri": pipedrive.redirect}
    for way, secret in (("body", None), ("none", None), ("basic", "wrong")):
        refused = await pipedrive.post(pipedrive.urls["token_url"], form, way=way, secret=secret)
        assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
    assert (await pipedrive.post(pipedrive.urls["token_url"], form)).status_code == httpx.codes.OK
    assert (await pipedrive.refresh("nothing")).json()["error"] == "invalid_grant"


@pytest.mark.parametrize("fact", ["user_denied", "access_denied"])
async def test_a_denial_comes_back_as_its_fact_says(pipedrive: Peer, fact: str) -> None:
    pipedrive.sandbox.set_fact("pipedrive", "denied", fact)
    landing = await consent(pipedrive.browser, pipedrive.authorize(), decision="deny")
    assert (landing["error"], landing["state"]) == (fact, "state-of-this-test")


@pytest.mark.parametrize("fact", ["single_use", "renewed", "stable"])
async def test_a_renewal_brings_the_refresh_token_that_its_fact_says(pipedrive: Peer, fact: str) -> None:
    pipedrive.sandbox.set_fact("pipedrive", "refresh_token", fact)
    first = await pipedrive.connect()
    second = (await pipedrive.refresh(first["refresh_token"])).json()
    assert (second["refresh_token"] == first["refresh_token"]) is (fact == "stable")
    assert (await pipedrive.refresh(first["refresh_token"])).status_code == (400 if fact == "single_use" else 200)
    assert (await pipedrive.refresh(second["refresh_token"])).status_code == 200
    pipedrive.sandbox.order("pipedrive", FaultKind.REFRESH_TOKEN_MISSING)
    assert "refresh_token" not in await pipedrive.connect("alan")


@pytest.mark.parametrize("fact", ["60", "90"])
async def test_a_refresh_token_lives_after_its_last_use_for_as_long_as_its_fact_says(pipedrive: Peer, fact: str) -> None:
    pipedrive.sandbox.set_fact("pipedrive", "refresh_token_days", fact)
    pipedrive.sandbox.set_fact("pipedrive", "refresh_token", "stable")
    reply = await pipedrive.connect()
    for _ in range(3):
        pipedrive.sandbox.clock.advance((int(fact) - 1) * DAY)
        assert (await pipedrive.refresh(reply["refresh_token"])).status_code == 200
    pipedrive.sandbox.clock.advance(int(fact) * DAY)
    assert (await pipedrive.refresh(reply["refresh_token"])).json()["error"] == "invalid_grant"


@pytest.mark.parametrize(("fact", "left"), [("user", (True, True)), ("company", (False, False))])
async def test_revoking_the_refresh_token_uninstalls_the_application_as_far_as_its_fact_says(
    pipedrive: Peer, fact: str, left: tuple[bool, bool]
) -> None:
    pipedrive.sandbox.set_fact("pipedrive", "uninstall_reaches", fact)
    one, other, colleague, stranger = [await pipedrive.connect(who) for who in ("ada", "ada", "grace", "alan")]
    assert (await pipedrive.revoke(one["refresh_token"])).status_code == 200
    ended = [await alive(pipedrive, reply) for reply in (one, other, colleague, stranger)]
    assert ended == [(False, False), (False, False), left, (True, True)]


@pytest.mark.parametrize(("fact", "renews"), [("alone", True), ("everything", False)])
async def test_revoking_an_access_token_reaches_as_far_as_its_fact_says(pipedrive: Peer, fact: str, renews: bool) -> None:
    pipedrive.sandbox.set_fact("pipedrive", "revoked_access", fact)
    reply = await pipedrive.connect()
    assert (await pipedrive.revoke(reply["access_token"])).status_code == 200
    assert await alive(pipedrive, reply) == (False, renews)


@pytest.mark.parametrize(("fact", "status"), [("success", 200), ("refused", 400)])
async def test_revoking_again_answers_what_its_fact_says(pipedrive: Peer, fact: str, status: int) -> None:
    pipedrive.sandbox.set_fact("pipedrive", "revoked_again", fact)
    reply = await pipedrive.connect()
    await pipedrive.revoke(reply["refresh_token"])
    assert [(await pipedrive.revoke(token)).status_code for token in (reply["refresh_token"], "nothing")] == [status, status]


async def test_a_revocation_needs_the_application_and_a_token_and_can_lie(pipedrive: Peer) -> None:
    reply, url = await pipedrive.connect(), pipedrive.urls["revoke_url"]
    assert (await pipedrive.post(url, {"token": reply["refresh_token"]}, secret="wrong")).status_code == 401
    assert (await pipedrive.post(url, {})).status_code == 400
    assert (await pipedrive.post(url, {"token": "x", "token_type_hint": "password"})).status_code == 400
    pipedrive.sandbox.order("pipedrive", FaultKind.REVOCATION_LIES)
    assert (await pipedrive.revoke(reply["refresh_token"])).status_code == 200
    assert await alive(pipedrive, reply) == (True, True)


@pytest.mark.parametrize("fact", ["no", "yes"])
async def test_a_code_is_good_once_and_for_five_minutes(pipedrive: Peer, fact: str) -> None:
    pipedrive.sandbox.set_fact("pipedrive", "code_reuse_ends_grant", fact)
    code = await pipedrive.code()
    reply = (await pipedrive.exchange(code)).json()
    assert (await pipedrive.exchange(code)).json()["error"] == "invalid_grant"
    assert pipedrive.sandbox.is_live(reply["refresh_token"]) is (fact == "no")
    late = await pipedrive.code("alan")
    pipedrive.sandbox.clock.advance(300)
    assert (await pipedrive.exchange(late)).status_code == 400


async def test_the_metadata_say_where_everything_is(pipedrive: Peer) -> None:
    said = (await pipedrive.browser.get(f"{pipedrive.realm.base}/.well-known/oauth-authorization-server")).json()
    assert said["revocation_endpoint"] == pipedrive.urls["revoke_url"]
    assert said["token_endpoint_auth_methods_supported"] == ["client_secret_basic"]


@pytest.mark.parametrize(("header", "ids"), [("basic", "numbers"), ("none", "texts")])
async def test_an_application_is_told_of_its_removal_at_its_callback(pipedrive: Peer, header: str, ids: str) -> None:
    pipedrive.sandbox.set_fact("pipedrive", "uninstall_header", header)
    pipedrive.sandbox.set_fact("pipedrive", "uninstall_ids", ids)
    received: asyncio.Queue[Request] = asyncio.Queue()

    async def take(request: Request) -> Reply:
        received.put_nowait(request)
        return Reply(200)

    server = Server(take)
    await server.start()
    try:
        pipedrive.realm.change("pipedrive", redirects=(*pipedrive.application.redirects, f"http://127.0.0.1:{server.port}/back"))
        reply = await pipedrive.connect()
        pipedrive.realm.change("pipedrive", redirects=(f"http://127.0.0.1:{server.port}/back",))
        assert pipedrive.sandbox.withdraw("pipedrive", "ada") == 1
        told = await received.get()
        assert (await pipedrive.sandbox.delivered(1))[0].event == "uninstalled"
    finally:
        await server.close()
    assert (told.method, told.target) == ("DELETE", "/back")
    said = json.loads(told.body)
    person = pipedrive.realm.people["ada"]
    form = int if ids == "numbers" else str
    assert (said["client_id"], said["company_id"], said["user_id"]) == (
        pipedrive.application.id,
        form(person.organisation),
        form(person.id),
    )
    basic = base64.b64encode(f"{pipedrive.application.id}:{pipedrive.application.secret}".encode()).decode()
    assert told.headers.get("authorization") == (f"Basic {basic}" if header == "basic" else None)
    assert await alive(pipedrive, reply) == (False, False)


@pytest.mark.parametrize(("fact", "count"), [("no", 0), ("yes", 1)])
async def test_an_end_that_the_application_made_is_told_to_it_where_its_fact_says_so(pipedrive: Peer, fact: str, count: int) -> None:
    pipedrive.sandbox.set_fact("pipedrive", "revocation_calls_back", fact)
    posted: list[object] = []
    pipedrive.realm.post = posted.append
    await pipedrive.revoke((await pipedrive.connect())["refresh_token"])
    assert len(posted) == count


async def test_nobody_is_told_where_the_callback_is_elsewhere(pipedrive: Peer) -> None:
    application = pipedrive.realm.change("pipedrive", redirects=("https://customhouse.example/oauth/callback/pipedrive",))
    assert hooks.uninstalled(pipedrive.realm, application, pipedrive.realm.people["ada"]) == []
    assert hooks.uninstalled(pipedrive.realm, pipedrive.application, pipedrive.realm.people["ada"])[0].url == f"{CALLBACKS}pipedrive"
