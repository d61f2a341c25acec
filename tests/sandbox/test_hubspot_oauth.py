"""HubSpot's tokens: dated endpoints and the older ones, who was connected, and what a revocation ends and what not."""

from __future__ import annotations

import httpx
import pytest

from customhouse_sandbox import FaultKind, Operation
from tests.sandboxes import VERIFIER, Landing, Peer, consent

pytestmark = pytest.mark.anyio

CONTACTS = "/crm/v3/objects/contacts"
UNINSTALL = "/appinstalls/2026-03/external-install"


async def alive(hubspot: Peer, reply: dict[str, str]) -> tuple[bool, bool]:
    """Tell whether the access token and the refresh token still do something."""
    opens = (await hubspot.get(CONTACTS, reply["access_token"])).status_code == httpx.codes.OK
    return opens, (await hubspot.refresh(reply["refresh_token"])).status_code == httpx.codes.OK


async def test_a_token_reply_says_whose_it_is_and_lists_the_scopes(hubspot: Peer) -> None:
    answer = await hubspot.exchange(await hubspot.code())
    said = answer.json()
    assert set(said) == {"access_token", "refresh_token", "expires_in", "token_type", "token_use", "hub_id", "user_id", "scopes"}
    assert (said["hub_id"], said["user_id"], said["expires_in"]) == (4_800_001, 70_001, 1800)
    assert said["scopes"] == list(hubspot.application.scopes)
    assert answer.headers["cache-control"] == "no-store"
    assert 200 < len(said["access_token"]) <= 300


@pytest.mark.parametrize("version", ["2026-03", "2026-09"])
async def test_both_published_versions_answer_alike(hubspot: Peer, version: str) -> None:
    base = f"{hubspot.realm.base}/oauth/{version}/token"
    form = {"grant_type": "authorization_code", "code": await hubspot.code(), "redirect_uri": hubspot.redirect, "code_verifier": VERIFIER}
    reply = (await hubspot.post(base, form)).json()
    assert (await hubspot.post(f"{base}/introspect", {"token": reply["access_token"]})).json()["active"] is True
    assert (await hubspot.post(f"{base}/revoke", {"token": reply["refresh_token"], "token_type_hint": "refresh_token"})).status_code == 200


async def test_an_introspection_tells_who_was_connected(hubspot: Peer) -> None:
    reply, alan = await hubspot.connect(), await hubspot.connect("alan")
    said = (await hubspot.me(reply["access_token"])).json()
    assert (said["active"], said["hub_id"], said["user_id"], said["user"]) == (True, 4_800_001, 70_001, "ada@example.com")
    assert (said["token_use"], said["client_id"]) == ("access_token", hubspot.application.id)
    assert 1790 <= said["expires_in"] <= 1800
    refresh = (await hubspot.me(reply["refresh_token"])).json()
    assert (refresh["token_use"], "expires_in" in refresh) == ("refresh_token", False)
    assert (await hubspot.me(alan["access_token"])).json()["hub_id"] != said["hub_id"]


async def test_an_introspection_says_nothing_of_what_is_over_or_unknown_or_to_strangers(hubspot: Peer) -> None:
    reply = await hubspot.connect()
    assert (await hubspot.me("nothing")).json() == {"active": False}
    hubspot.sandbox.clock.advance(1800)
    assert (await hubspot.me(reply["access_token"])).json() == {"active": False}
    url = hubspot.urls["introspect_url"]
    assert (await hubspot.post(url, {"token": reply["refresh_token"]}, secret="wrong")).json()["status"] == "BAD_CLIENT_SECRET"
    assert (await hubspot.post(url, {})).status_code == httpx.codes.BAD_REQUEST
    query = {"client_id": hubspot.application.id, "client_secret": hubspot.application.secret, "token": reply["refresh_token"]}
    assert (await hubspot.browser.post(url, params=query)).json()["error"] == "invalid_client"


async def test_members_of_the_replies_can_be_missing(hubspot: Peer) -> None:
    hubspot.sandbox.order("hubspot", FaultKind.ACCOUNT_MISSING)
    hubspot.sandbox.order("hubspot", FaultKind.SCOPE_MISSING)
    hubspot.sandbox.order("hubspot", FaultKind.REFRESH_TOKEN_MISSING)
    assert set(await hubspot.connect()) == {"access_token", "expires_in", "token_type", "token_use"}
    hubspot.sandbox.order("hubspot", FaultKind.IDENTITY_MISSING, Operation.IDENTITY)
    assert "hub_id" not in (await hubspot.me((await hubspot.connect())["access_token"])).json()


@pytest.mark.parametrize("fact", ["exact", "subset"])
async def test_the_scope_has_to_be_what_the_application_requires_where_its_fact_says_so(hubspot: Peer, fact: str) -> None:
    hubspot.sandbox.set_fact("hubspot", "scope_match", fact)
    refused = await hubspot.browser.get(hubspot.authorize(scope="oauth", optional_scope=None))
    assert refused.status_code == (httpx.codes.BAD_REQUEST if fact == "exact" else httpx.codes.OK)
    for scope, beside in (("", None), ("oauth crm.export", None), ("oauth crm.objects.contacts.read", "crm.export")):
        wrong = await hubspot.browser.get(hubspot.authorize(scope=scope, optional_scope=beside))
        assert (wrong.status_code, "invalid_scope" in wrong.text) == (httpx.codes.BAD_REQUEST, True)


async def test_the_optional_scopes_are_granted_where_they_are_asked_for(hubspot: Peer) -> None:
    narrow = (await hubspot.exchange(await hubspot.code(optional_scope=None))).json()
    assert narrow["scopes"] == ["oauth", "crm.objects.contacts.read"]
    assert "crm.objects.contacts.write" in (await hubspot.connect("alan"))["scopes"]


async def test_nothing_can_be_unticked(hubspot: Peer) -> None:
    page = await hubspot.browser.get(hubspot.authorize())
    assert page.text.count("checked disabled") == len(hubspot.application.scopes)
    code = await hubspot.code(ticked=["oauth"])
    assert (await hubspot.exchange(code)).json()["scopes"] == list(hubspot.application.scopes)


async def test_a_person_can_deny(hubspot: Peer) -> None:
    landing: Landing = await consent(hubspot.browser, hubspot.authorize(), decision="deny")
    assert (landing["error"], landing["state"]) == ("access_denied", "state-of-this-test")


@pytest.mark.parametrize("fact", ["checked", "passed_over"])
async def test_a_verifier_counts_where_its_fact_says_so(hubspot: Peer, fact: str) -> None:
    hubspot.sandbox.set_fact("hubspot", "pkce", fact)
    wrong = await hubspot.exchange(await hubspot.code(), code_verifier="x" * 43)
    assert (wrong.status_code == httpx.codes.OK) is (fact == "passed_over")


@pytest.mark.parametrize("fact", ["stable", "renewed", "single_use"])
async def test_a_renewal_brings_the_refresh_token_that_its_fact_says(hubspot: Peer, fact: str) -> None:
    hubspot.sandbox.set_fact("hubspot", "refresh_token", fact)
    first = await hubspot.connect()
    second = (await hubspot.refresh(first["refresh_token"])).json()
    assert second["access_token"] != first["access_token"]
    assert (second["refresh_token"] == first["refresh_token"]) is (fact == "stable")
    assert (await hubspot.refresh(first["refresh_token"])).status_code == (400 if fact == "single_use" else 200)
    assert (await hubspot.refresh(second["refresh_token"])).status_code == 200


async def test_an_access_token_lives_half_an_hour_and_a_refresh_token_until_it_is_revoked(hubspot: Peer) -> None:
    reply = await hubspot.connect()
    hubspot.sandbox.clock.advance(1800)
    expired = await hubspot.get(CONTACTS, reply["access_token"])
    assert (expired.status_code, expired.json()["category"]) == (401, "EXPIRED_AUTHENTICATION")
    hubspot.sandbox.clock.advance(3 * 365 * 86_400)
    assert (await hubspot.refresh(reply["refresh_token"])).status_code == 200


@pytest.mark.parametrize(("fact", "opens"), [("no", True), ("yes", False)])
async def test_a_revocation_leaves_access_tokens_alive_where_its_fact_says_so(hubspot: Peer, fact: str, opens: bool) -> None:
    hubspot.sandbox.set_fact("hubspot", "revoke_ends_access", fact)
    reply = await hubspot.connect()
    assert (await hubspot.revoke(reply["refresh_token"])).status_code == 200
    assert await alive(hubspot, reply) == (opens, False)
    hubspot.sandbox.clock.advance(1800)
    assert await alive(hubspot, reply) == (False, False)


async def test_revoking_an_access_token_ends_that_one_alone(hubspot: Peer) -> None:
    reply = await hubspot.connect()
    assert (await hubspot.revoke(reply["access_token"])).status_code == 200
    assert await alive(hubspot, reply) == (False, True)


@pytest.mark.parametrize(("fact", "alive_after"), [("yes", False), ("no", True)])
async def test_two_connections_of_one_user_end_together_where_its_fact_says_so(hubspot: Peer, fact: str, alive_after: bool) -> None:
    hubspot.sandbox.set_fact("hubspot", "shared_grant", fact)
    one, other, colleague = await hubspot.connect(), await hubspot.connect(), await hubspot.connect("grace")
    await hubspot.revoke(one["refresh_token"])
    assert (await hubspot.refresh(one["refresh_token"])).json()["status"] == "BAD_REFRESH_TOKEN"
    assert hubspot.sandbox.is_live(other["refresh_token"]) is alive_after
    assert hubspot.sandbox.is_live(colleague["refresh_token"])


@pytest.mark.parametrize(("fact", "status"), [("success", 200), ("refused", 400)])
async def test_revoking_again_answers_what_its_fact_says(hubspot: Peer, fact: str, status: int) -> None:
    hubspot.sandbox.set_fact("hubspot", "revoked_again", fact)
    reply = await hubspot.connect()
    await hubspot.revoke(reply["refresh_token"])
    assert [(await hubspot.revoke(token)).status_code for token in (reply["refresh_token"], "nothing")] == [status, status]


async def test_a_revocation_needs_the_application_and_a_token(hubspot: Peer) -> None:
    reply = await hubspot.connect()
    url = hubspot.urls["revoke_url"]
    for form, secret in (({"token": reply["refresh_token"]}, "wrong"), ({}, None), ({"token": "x", "token_type_hint": "id_token"}, None)):
        assert (await hubspot.post(url, form, secret=secret)).status_code == 400
    assert await alive(hubspot, reply) == (True, True)


async def test_a_revocation_can_lie(hubspot: Peer) -> None:
    reply = await hubspot.connect()
    hubspot.sandbox.order("hubspot", FaultKind.REVOCATION_LIES, times=2)
    assert (await hubspot.revoke(reply["refresh_token"])).status_code == 200
    assert (await hubspot.call("DELETE", UNINSTALL, reply["access_token"])).status_code == 204
    assert await alive(hubspot, reply) == (True, True)


async def test_an_uninstallation_ends_what_anybody_of_the_portal_gave(hubspot: Peer) -> None:
    ada, grace, alan = [await hubspot.connect(login) for login in ("ada", "grace", "alan")]
    assert (await hubspot.call("DELETE", UNINSTALL, "nothing")).status_code == 401
    assert (await hubspot.call("DELETE", UNINSTALL, ada["access_token"])).status_code == 204
    assert [await alive(hubspot, one) for one in (ada, grace, alan)] == [(False, False), (False, False), (True, True)]


async def test_an_administrator_removes_the_application_for_the_whole_portal(hubspot: Peer) -> None:
    ada, grace = await hubspot.connect(), await hubspot.connect("grace")
    assert hubspot.sandbox.withdraw("hubspot", "ada") == 2
    assert [await alive(hubspot, one) for one in (ada, grace)] == [(False, False), (False, False)]
    refused = (await hubspot.refresh(ada["refresh_token"])).json()
    assert (refused["error"], refused["status"]) == ("invalid_grant", "BAD_REFRESH_TOKEN")


@pytest.mark.parametrize(("fact", "named"), [("assumed", True), ("confirmed", False)])
async def test_errors_have_the_names_that_their_fact_says(hubspot: Peer, fact: str, named: bool) -> None:
    hubspot.sandbox.set_fact("hubspot", "error_names", fact)
    assert (await hubspot.refresh("nothing")).json()["status"] == "BAD_REFRESH_TOKEN"
    wrong = (await hubspot.exchange("nothing")).json()
    assert (wrong["error"], wrong.get("status")) == ("invalid_grant", "BAD_AUTH_CODE" if named else None)
    other = (await hubspot.exchange(await hubspot.code(), redirect_uri="http://127.0.0.1/x")).json()
    assert other.get("status") == ("MISMATCH_REDIRECT_URI_AUTH_CODE" if named else None)


@pytest.mark.parametrize("status", ["400", "401"])
async def test_a_wrong_secret_is_refused_with_the_status_that_its_fact_says(hubspot: Peer, status: str) -> None:
    hubspot.sandbox.set_fact("hubspot", "client_error_status", status)
    form = {"grant_type": "refresh_token", "refresh_token": (await hubspot.connect())["refresh_token"]}
    for way in ("body", "basic", "none"):
        answer = await hubspot.post(hubspot.urls["token_url"], form, secret="wrong", way=way)
        assert (answer.status_code, answer.json()["error"]) == (int(status), "invalid_client")


@pytest.mark.parametrize(
    ("fact", "seconds", "status"), [("until_its_date", 0, 200), ("until_its_date", 365 * 86_400, 404), ("gone", 0, 404)]
)
async def test_the_older_endpoints_answer_until_their_date(hubspot: Peer, fact: str, seconds: float, status: int) -> None:
    hubspot.sandbox.set_fact("hubspot", "legacy_v1", fact)
    hubspot.sandbox.clock.advance(seconds)
    base = f"{hubspot.realm.base}/oauth/v1"
    reply = await hubspot.connect()
    form = {"grant_type": "refresh_token", "refresh_token": reply["refresh_token"]}
    renewed = await hubspot.post(f"{base}/token", form)
    assert renewed.status_code == status
    about = [(await hubspot.browser.get(f"{base}/{kind}-tokens/{reply[f'{kind}_token']}")).status_code for kind in ("access", "refresh")]
    assert about == [status, status]
    removed = await hubspot.browser.delete(f"{base}/refresh-tokens/{reply['refresh_token']}")
    assert removed.status_code == (204 if status == 200 else 404)
    assert await alive(hubspot, reply) == (True, status == 404)
    if status == 200:
        assert set(renewed.json()) == {"access_token", "refresh_token", "expires_in", "token_type"}


async def test_the_older_endpoints_know_nothing_of_unknown_tokens(hubspot: Peer) -> None:
    base = f"{hubspot.realm.base}/oauth/v1"
    reply = await hubspot.connect()
    for path in ("access-tokens/nothing", f"refresh-tokens/{reply['access_token']}", f"access-tokens/{reply['refresh_token']}"):
        assert (await hubspot.browser.get(f"{base}/{path}")).status_code == 404
    assert (await hubspot.browser.delete(f"{base}/refresh-tokens/nothing")).status_code == 404
    hubspot.sandbox.order("hubspot", FaultKind.REVOCATION_LIES)
    assert (await hubspot.browser.delete(f"{base}/refresh-tokens/{reply['refresh_token']}")).status_code == 204
    assert hubspot.sandbox.is_live(reply["refresh_token"])


@pytest.mark.parametrize("fact", ["no", "yes"])
async def test_a_code_is_good_once(hubspot: Peer, fact: str) -> None:
    hubspot.sandbox.set_fact("hubspot", "code_reuse_ends_grant", fact)
    code = await hubspot.code()
    reply = (await hubspot.exchange(code)).json()
    assert (await hubspot.exchange(code)).status_code == 400
    assert hubspot.sandbox.is_live(reply["refresh_token"]) is (fact == "no")
    late = await hubspot.code("alan")
    hubspot.sandbox.clock.advance(300)
    assert (await hubspot.exchange(late)).status_code == 400
