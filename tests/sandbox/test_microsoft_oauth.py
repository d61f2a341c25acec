"""Microsoft's identity platform: tenants, administrators, numbered errors, refresh tokens that live on, access that outlives its grant."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from customhouse_sandbox import End, FaultKind, Operation
from customhouse_sandbox.microsoft.directory import OTHER, WORKS
from tests.sandboxes import Landing, Peer, consent

pytestmark = pytest.mark.anyio
DAY = 86_400.0
SMALL = "openid profile offline_access User.Read"


def refused(answer: httpx.Response, code: int, status: int = 400, error: str = "invalid_grant") -> None:
    said = answer.json()
    assert (answer.status_code, said["error"], said["error_codes"]) == (status, error, [code])
    assert said["error_description"].startswith(f"AADSTS{code}: ")
    assert {"timestamp", "trace_id", "correlation_id", "error_uri"} <= set(said)


def fact(peer: Peer, name: str, value: str) -> None:
    peer.sandbox.set_fact("microsoft", name, value)


def at(peer: Peer, tenant: str, **changes: str | None) -> str:
    return peer.authorize(**changes).replace("/organizations/", f"/{tenant}/")


async def shown(peer: Peer, url: str, account: str) -> httpx.Response:
    return await peer.browser.post(url, data={"decision": "allow", "account": account})


@pytest.mark.parametrize("tenant", ["organizations", "common", WORKS.id, "example.com"])
async def test_a_tenant_is_named_in_each_of_the_ways(teams: Peer, tenant: str) -> None:
    assert (await consent(teams.browser, at(teams, tenant)))["code"]


@pytest.mark.parametrize(("tenant", "code"), [("nowhere.example", "AADSTS90002"), ("consumers", "AADSTS9002346")])
async def test_a_tenant_that_there_is_not_leads_nowhere(teams: Peer, tenant: str, code: str) -> None:
    for answer in (await teams.browser.get(at(teams, tenant)), await shown(teams, at(teams, tenant), "ada")):
        assert (answer.status_code, code in answer.text) == (400, True)
    url = teams.urls["token_url"].replace("/organizations/", "/nowhere.example/")
    refused(await teams.post(url, {"grant_type": "refresh_token", "refresh_token": "x"}), 90002, error="invalid_request")


@pytest.mark.parametrize(("tenant", "account"), [("organizations", "pat"), (OTHER.id, "ada"), ("example.com", "mira")])
async def test_accounts_of_elsewhere_and_personal_ones_do_not_get_in(teams: Peer, tenant: str, account: str) -> None:
    answer = await shown(teams, at(teams, tenant, scope=SMALL), account)
    assert (answer.status_code, "AADSTS50020" in answer.text) == (400, True)


@pytest.mark.parametrize("answer", ["page", "redirect"])
async def test_a_person_whose_administrator_has_not_consented_ends_where_the_fact_says(teams: Peer, answer: str) -> None:
    fact(teams, "admin_needed_answer", answer)
    got = await shown(teams, teams.authorize(), "alan")
    if answer == "page":
        assert (got.status_code, "AADSTS90094" in got.text) == (400, True)
    else:
        landing = Landing(got.headers["location"])
        assert (landing["error"], landing["error_description"][:11], landing["code"]) == ("access_denied", "AADSTS90094", "")
    assert await teams.code("alan", scope=SMALL), "what needs no administrator is the person's own decision"
    assert await teams.code("mira"), "an administrator decides for themselves"


@pytest.mark.parametrize("needed", ["yes", "no"])
async def test_recordings_and_transcripts_need_an_administrator_where_the_fact_says_so(teams: Peer, needed: str) -> None:
    fact(teams, "artifacts_need_admin", needed)
    assert (await shown(teams, teams.authorize(), "alan")).status_code == (400 if needed == "yes" else 302)


async def test_an_administrator_consents_for_everybody_and_nobody_else_can(teams: Peer) -> None:
    target = f"client_id={teams.application.id}&redirect_uri={teams.redirect}&state=a%20state"
    url = f"{teams.realm.base}/organizations/adminconsent?{target}"
    page = await teams.browser.get(url)
    assert "OnlineMeetingRecording.Read.All" in page.text
    for account, code in (("alan", 400), ("pat", 400), ("nobody", 400)):
        assert (await shown(teams, url, account)).status_code == code
    assert (await shown(teams, url.replace("organizations", "example.com"), "mira")).status_code == 400
    denied = Landing((await teams.browser.post(url, data={"decision": "deny", "account": "mira"})).headers["location"])
    assert (denied["error"], denied["tenant"]) == ("access_denied", OTHER.id)
    landing = Landing((await shown(teams, url, "mira")).headers["location"])
    assert (landing.place, landing["tenant"], landing["admin_consent"], landing["state"]) == (teams.redirect, OTHER.id, "True", "a state")
    assert await teams.code("alan")
    assert teams.sandbox.withdraw("microsoft-teams", "mira", End.ADMIN) == 0
    assert (await shown(teams, teams.authorize(), "alan")).status_code == 400, "an administrator took it back"
    for wrong in (url.replace(teams.application.id, "x"), url.replace(teams.redirect, "http://127.0.0.1:1/")):
        assert (await teams.browser.get(wrong)).status_code == 400


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"scope": None}, "invalid_request"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"prompt": "none"}, "login_required"),
        ({"scope": "User.Read .default"}, "invalid_scope"),
        ({"scope": "https://graph.microsoft.com/Moon.Read"}, "invalid_scope"),
    ],
)
async def test_a_request_out_of_order_is_sent_back_with_a_number(teams: Peer, changes: dict[str, str | None], error: str) -> None:
    landing = Landing((await teams.browser.get(teams.authorize(**changes))).headers["location"])
    assert (landing["error"], landing["error_description"][:6], landing["state"]) == (error, "AADSTS", "state-of-this-test")


async def test_denying_brings_the_number_of_a_refusal(teams: Peer) -> None:
    landing = await consent(teams.browser, teams.authorize(), decision="deny")
    assert (landing["error"], landing["error_description"][:11]) == ("access_denied", "AADSTS65004")


async def test_everything_that_was_registered_is_asked_for_by_default(teams: Peer) -> None:
    said = await teams.connect(scope="openid offline_access https://graph.microsoft.com/.default")
    assert set(said["scope"].split()) == set(teams.application.scopes) - {"offline_access"}


async def test_permissions_that_were_not_registered_can_be_asked_for(teams: Peer) -> None:
    assert "Chat.ReadWrite" in (await teams.connect(scope=f"{SMALL} Chat.ReadWrite"))["scope"].split()


@pytest.mark.parametrize("spelling", ["short", "full"])
async def test_permissions_are_spelled_as_the_fact_says(teams: Peer, spelling: str) -> None:
    fact(teams, "scope_spelling", spelling)
    said = (await teams.connect(scope="openid https://graph.microsoft.com/User.Read ChatMessage.Send"))["scope"].split()
    prefix = "https://graph.microsoft.com/" if spelling == "full" else ""
    assert said == ["openid", f"{prefix}User.Read", f"{prefix}ChatMessage.Send"]


@pytest.mark.parametrize("told", ["yes", "no"])
async def test_openid_permissions_are_named_where_the_fact_says_so(teams: Peer, told: str) -> None:
    fact(teams, "openid_scopes_said", told)
    said = (await teams.connect(scope=SMALL))["scope"].split()
    assert said == (["openid", "profile", "User.Read"] if told == "yes" else ["User.Read"])


async def test_a_refresh_token_comes_only_with_offline_access_and_an_id_token_only_with_openid(teams: Peer) -> None:
    said = await teams.connect(scope="User.Read")
    assert not {"refresh_token", "id_token"} & set(said)


async def test_tokens_are_as_long_as_microsofts_and_live_an_hour_to_an_hour_and_a_half(teams: Peer) -> None:
    answers: list[dict[str, Any]] = [dict(await teams.connect(scope=SMALL)) for _ in range(8)]
    assert min(len(one["access_token"]) for one in answers) > 1500
    assert min(len(one["refresh_token"]) for one in answers) > 1000
    lives = [one["expires_in"] for one in answers]
    assert min(lives) >= 3599
    assert max(lives) < 5400
    assert len(set(lives)) > 1, "other ones each time"


async def test_a_used_refresh_token_lives_on(teams: Peer) -> None:
    first = await teams.connect()
    second = (await teams.refresh(first["refresh_token"])).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert (await teams.refresh(first["refresh_token"])).status_code == 200
    assert (await teams.refresh(second["refresh_token"])).status_code == 200


async def test_a_refresh_token_dies_after_ninety_days_unused(teams: Peer) -> None:
    token = (await teams.connect())["refresh_token"]
    teams.sandbox.clock.advance(89 * DAY)
    newer = (await teams.refresh(token)).json()["refresh_token"]
    teams.sandbox.clock.advance(91 * DAY)
    refused(await teams.refresh(newer), 700082)
    refused(await teams.refresh("nothing"), 70000)


async def test_a_renewal_opens_what_it_names_out_of_everything_that_was_ever_consented_to(teams: Peer) -> None:
    first = await teams.connect(scope=SMALL)
    await teams.connect(scope=f"{SMALL} Chat.ReadBasic")
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}

    async def renewed(scope: str) -> httpx.Response:
        return await teams.post(teams.urls["token_url"], form | {"scope": scope})

    assert set((await renewed("User.Read")).json()["scope"].split()) == {"User.Read"}
    assert (await renewed("Chat.ReadBasic offline_access")).json()["scope"] == "Chat.ReadBasic"
    assert (await renewed("https://graph.microsoft.com/.default")).json()["scope"].split() == [
        *("openid", "profile", "User.Read", "Chat.ReadBasic"),
    ]
    refused(await renewed("ChatMessage.Send"), 65001)
    assert (await renewed("ChatMessage.Send")).json()["suberror"] == "consent_required"
    refused(await renewed("Moon.Read"), 70011, error="invalid_scope")


@pytest.mark.parametrize("earlier", ["left_out", "included"])
async def test_a_token_opens_earlier_consents_where_the_fact_says_so(teams: Peer, earlier: str) -> None:
    fact(teams, "earlier_consents", earlier)
    await teams.connect(scope=f"{SMALL} Chat.ReadBasic")
    said = (await teams.connect(scope=SMALL))["scope"].split()
    assert ("Chat.ReadBasic" in said) is (earlier == "included")


@pytest.mark.parametrize(
    ("changes", "code", "status", "error"),
    [
        ({"code": "nothing"}, 70000, 400, "invalid_grant"),
        ({"code": None}, 900144, 400, "invalid_request"),
        ({"redirect_uri": "http://127.0.0.1/x"}, 500112, 400, "invalid_client"),
        ({"code_verifier": "x" * 43}, 501481, 400, "invalid_grant"),
        ({"code_verifier": None}, 501481, 400, "invalid_grant"),
        ({"grant_type": "password"}, 70003, 400, "unsupported_grant_type"),
    ],
)
async def test_a_code_call_out_of_order_has_a_number(
    teams: Peer, changes: dict[str, str | None], code: int, status: int, error: str
) -> None:
    refused(await teams.exchange(await teams.code(), **changes), code, status, error)


async def test_a_code_is_good_once_and_for_ten_minutes(teams: Peer) -> None:
    code, late = await teams.code(), await teams.code()
    assert (await teams.exchange(code)).status_code == 200
    refused(await teams.exchange(code), 54005)
    teams.sandbox.clock.advance(600)
    refused(await teams.exchange(late), 70008)


async def test_a_wrong_secret_and_an_application_that_is_switched_off_have_numbers(teams: Peer) -> None:
    token = (await teams.connect())["refresh_token"]
    form = {"grant_type": "refresh_token", "refresh_token": token}
    for way in ("basic", "body"):
        refused(await teams.post(teams.urls["token_url"], form, secret="wrong", way=way), 7000215, 401, "invalid_client")
        assert (await teams.post(teams.urls["token_url"], form, way=way)).status_code == 200
    teams.realm.change("microsoft-teams", disabled=True)
    refused(await teams.refresh(token), 7000112, error="unauthorized_client")


@pytest.mark.parametrize("removal", ["700016", "65001"])
async def test_the_end_of_a_grant_has_a_number_that_says_why(teams: Peer, removal: str) -> None:
    fact(teams, "removal_error", removal)
    mine, theirs = await teams.connect(), await teams.connect("grace")
    assert teams.sandbox.withdraw("microsoft-teams", "ada") == 1
    refused(await teams.refresh(mine["refresh_token"]), 65001)
    assert (await teams.refresh(theirs["refresh_token"])).status_code == 200, "a person speaks for themselves"
    again = await teams.connect()
    assert teams.sandbox.withdraw("microsoft-teams", "ada", End.ADMIN) == 2, "an administrator for the tenant"
    for token in (again["refresh_token"], theirs["refresh_token"]):
        error = "unauthorized_client" if removal == "700016" else "invalid_grant"
        refused(await teams.refresh(token), int(removal), error=error)


async def test_what_was_taken_back_is_not_consented_to_any_more(teams: Peer) -> None:
    await teams.connect(scope=f"{SMALL} Chat.ReadBasic")
    teams.sandbox.withdraw("microsoft-teams", "ada")
    token = (await teams.connect(scope=SMALL))["refresh_token"]
    form = {"grant_type": "refresh_token", "refresh_token": token, "scope": "Chat.ReadBasic"}
    refused(await teams.post(teams.urls["token_url"], form), 65001)


@pytest.mark.parametrize("outlives", ["yes", "no"])
async def test_an_access_token_outlives_its_grant_where_the_fact_says_so(teams: Peer, outlives: str) -> None:
    fact(teams, "access_outlives_grant", outlives)
    said: dict[str, Any] = dict(await teams.connect())
    teams.sandbox.withdraw("microsoft-teams", "ada")
    answer = await teams.me(said["access_token"])
    assert answer.status_code == (200 if outlives == "yes" else 401)
    assert teams.sandbox.is_live(said["access_token"]) is (outlives == "yes")
    if outlives == "no":
        claims = answer.headers["www-authenticate"].partition('claims="')[2].partition('"')[0]
        assert "nbf" in json.loads(base64.b64decode(claims))["access_token"]
    teams.sandbox.clock.advance(said["expires_in"] + 1)
    late = await teams.me(said["access_token"])
    assert (late.status_code, "claims" in late.headers["www-authenticate"]) == (401, False)


async def test_there_is_no_revocation_endpoint(teams: Peer) -> None:
    token = (await teams.connect())["access_token"]
    assert "revoke_url" not in teams.urls
    assert (await teams.post(f"{teams.realm.base}/organizations/oauth2/v2.0/revoke", {"token": token})).status_code == 400


async def test_all_sessions_of_a_person_end_at_once_for_whoever_may_do_that(teams: Peer) -> None:
    narrow = await teams.connect()
    wide = await teams.connect(scope=f"{SMALL} User.RevokeSessions.All")
    path = "/v1.0/me/revokeSignInSessions"
    assert (await teams.call("POST", path, narrow["access_token"])).status_code == 403
    teams.sandbox.order("microsoft-teams", FaultKind.REVOCATION_LIES)
    lie = await teams.call("POST", path, wide["access_token"])
    assert (await teams.refresh(narrow["refresh_token"])).status_code == 200
    truth = await teams.call("POST", path, wide["access_token"])
    assert (lie.status_code, lie.content) == (truth.status_code, truth.content)
    for one in (narrow, wide):
        refused(await teams.refresh(one["refresh_token"]), 50173)


async def test_faults_of_a_token_reply(teams: Peer) -> None:
    for kind, missing in (
        (FaultKind.SCOPE_MISSING, "scope"),
        (FaultKind.REFRESH_TOKEN_MISSING, "refresh_token"),
        (FaultKind.ACCOUNT_MISSING, "id_token"),
    ):
        teams.sandbox.order("microsoft-teams", kind, Operation.EXCHANGE)
        assert missing not in await teams.connect(), kind
    teams.sandbox.order("microsoft-teams", FaultKind.INVALID_GRANT, Operation.REFRESH)
    token = (await teams.connect())["refresh_token"]
    refused(await teams.refresh(token), 50173)
    assert (await teams.refresh(token)).status_code == 200


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


async def verified(peer: Peer, token: str, path: str) -> dict[str, Any]:
    """Return a token's claims, verified with the keys that a metadata document leads to."""
    metadata = (await peer.browser.get(f"{peer.realm.base}{path}")).json()
    key = (await peer.browser.get(metadata["jwks_uri"])).json()["keys"][0]
    public = rsa.RSAPublicNumbers(int.from_bytes(decoded(key["e"])), int.from_bytes(decoded(key["n"]))).public_key()
    head, claims, signature = token.split(".")
    assert json.loads(decoded(head)) == {"alg": "RS256", "kid": key["kid"], "typ": "JWT"}
    public.verify(decoded(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256())
    said: dict[str, Any] = json.loads(decoded(claims))
    return said


async def test_an_id_token_verifies_and_names_tenant_and_person(teams: Peer) -> None:
    said = await verified(
        teams, (await teams.connect(nonce="of this test"))["id_token"], f"/{WORKS.id}/v2.0/.well-known/openid-configuration"
    )
    ada = teams.realm.people["ada"]
    assert (said["tid"], said["oid"], said["aud"], said["nonce"]) == (WORKS.id, ada.id, teams.application.id, "of this test")
    assert (said["preferred_username"], said["name"], said["ver"]) == ("ada@example.com", "Ada Example", "2.0")
    assert said["iss"] == f"https://login.microsoftonline.com/{WORKS.id}/v2.0"
    other = await verified(
        teams, (await teams.connect("mira", scope="openid"))["id_token"], "/common/v2.0/.well-known/openid-configuration"
    )
    assert other["tid"] == OTHER.id
    assert not {"name", "preferred_username", "email"} & set(other)
    assert (await teams.browser.get(f"{teams.realm.base}/nowhere.example/v2.0/.well-known/openid-configuration")).status_code == 400


async def test_a_profile_has_the_members_that_were_selected(teams: Peer) -> None:
    access = (await teams.connect())["access_token"]
    said = (await teams.me(access)).json()
    assert {name for name in said if not name.startswith("@")} == {"id", "displayName", "mail", "userPrincipalName"}
    assert (said["id"], said["mail"]) == (teams.realm.people["ada"].id, "ada@example.com")
    assert "surname" in (await teams.get("/v1.0/me", access)).json()
    assert (await teams.get("/v1.0/me", access, **{"$select": "id,moon"})).status_code == 400
    assert (await teams.get("/v1.0/organization", access)).json()["value"][0]["displayName"] == "Example Works"
    blind = (await teams.connect(scope="openid"))["access_token"]
    answer = await teams.me(blind)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "Forbidden")
