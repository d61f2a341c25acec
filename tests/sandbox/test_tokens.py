"""The token endpoint: codes, refresh tokens, client authentication, lifetimes."""

from __future__ import annotations

import hashlib

import httpx
import pytest

from customhouse_sandbox import End, Kind, running
from tests.sandboxes import VERIFIER, Peer, client

pytestmark = pytest.mark.anyio
DAY = 86_400.0


def refused(answer: httpx.Response, status: int, error: str, number: int | None = None) -> None:
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    if number is not None:
        assert answer.json()["error_code"] == number


async def test_a_token_reply_has_the_documented_members(peer: Peer) -> None:
    answer = await peer.exchange(await peer.code())
    assert answer.headers["cache-control"] == "no-store"
    common = {"access_token", "token_type", "refresh_token", "expires_in", "scope"}
    more = {"zoom": {"api_url"}, "google": {"id_token"}, "microsoft": {"id_token", "ext_expires_in"}}
    assert set(answer.json()) == common | more[peer.realm.name]
    assert 3599 <= answer.json()["expires_in"] < (5400 if peer.realm.name == "microsoft" else 3600)


async def test_an_access_token_opens_the_identity_call_until_it_expires(peer: Peer) -> None:
    reply = (await peer.exchange(await peer.code())).json()
    access = reply["access_token"]
    assert (await peer.me(access)).status_code == httpx.codes.OK
    peer.sandbox.clock.advance(reply["expires_in"] + 1)
    assert (await peer.me(access)).status_code == httpx.codes.UNAUTHORIZED


async def test_all_tokens_can_be_made_to_expire_now(peer: Peer) -> None:
    reply = await peer.connect()
    assert peer.sandbox.expire(peer.application.key) == 1
    assert (await peer.me(reply["access_token"])).status_code == httpx.codes.UNAUTHORIZED
    assert (await peer.refresh(reply["refresh_token"])).status_code == httpx.codes.OK
    # Microsoft's live on when they have been used.
    assert peer.sandbox.expire(peer.application.key, Kind.REFRESH) == (2 if peer.realm.name == "microsoft" else 1)


@pytest.mark.parametrize("verifier", ["x" * 43, "", "short", f"{VERIFIER}~"])
async def test_a_wrong_or_missing_verifier_is_refused(peer: Peer, verifier: str) -> None:
    refused(await peer.exchange(await peer.code(), code_verifier=verifier or None), 400, "invalid_grant")


async def test_a_verifier_without_a_challenge_is_refused(peer: Peer) -> None:
    code = await peer.code(code_challenge=None, code_challenge_method=None)
    refused(await peer.exchange(code), 400, "invalid_grant")
    assert (await peer.exchange(code, code_verifier=None)).status_code == httpx.codes.OK


@pytest.mark.parametrize("changes", [{"code": "nothing"}, {"code": None}, {"redirect_uri": None}, {"redirect_uri": "http://127.0.0.1/x"}])
async def test_a_code_call_that_lacks_something_is_refused(peer: Peer, changes: dict[str, str | None]) -> None:
    answer = await peer.exchange(await peer.code(), **changes)
    assert answer.status_code == httpx.codes.BAD_REQUEST
    assert not peer.sandbox.tokens(peer.application.key)


async def test_a_code_of_another_application_is_refused(gmail: Peer, calendar: Peer) -> None:
    refused(await calendar.exchange(await gmail.code()), 400, "invalid_grant")


async def test_a_code_expires(peer: Peer) -> None:
    code = await peer.code()
    peer.sandbox.clock.advance(600)
    refused(await peer.exchange(code), 400, "invalid_grant")


@pytest.mark.parametrize("fact", ["no", "yes"])
async def test_a_code_is_good_once_and_its_second_use_ends_the_grant_where_the_fact_says_so(peer: Peer, fact: str) -> None:
    peer.sandbox.set_fact(peer.realm.name, "code_reuse_ends_grant", fact)
    if peer.realm.name == "microsoft":
        peer.sandbox.set_fact("microsoft", "access_outlives_grant", "no")
    code = await peer.code()
    reply = (await peer.exchange(code)).json()
    refused(await peer.exchange(code), 400, "invalid_grant")
    assert peer.sandbox.is_live(reply["access_token"]) is (fact == "no")


async def test_unknown_and_missing_grant_types_are_refused(peer: Peer) -> None:
    for kind in ("password", None):
        answer = await peer.post(peer.urls["token_url"], {"grant_type": kind})
        assert answer.json()["error"] in {"unsupported_grant_type", "invalid_request"}


@pytest.mark.parametrize("way", ["basic", "body", "none"])
async def test_a_wrong_secret_is_refused_in_every_way(peer: Peer, way: str) -> None:
    form = {"grant_type": "authorization_code", "code": await peer.code(), "redirect_uri": peer.redirect, "code_verifier": VERIFIER}
    answer = await peer.post(peer.urls["token_url"], form, secret="wrong", way=way)
    if (peer.realm.name, way) == ("microsoft", "none"):
        refused(answer, 400, "unauthorized_client")
    else:
        refused(answer, 401, "invalid_client")
    assert not peer.sandbox.tokens(peer.application.key)


async def test_a_broken_basic_header_is_refused(zoom: Peer) -> None:
    answer = await zoom.browser.post(zoom.urls["token_url"], headers={"authorization": "Basic ???"})
    refused(answer, 401, "invalid_client", 4702)


async def test_zoom_takes_no_client_secret_in_the_body(zoom: Peer) -> None:
    form = {"grant_type": "authorization_code", "code": await zoom.code(), "redirect_uri": zoom.redirect, "code_verifier": VERIFIER}
    refused(await zoom.post(zoom.urls["token_url"], form, way="body"), 401, "invalid_client", 4704)


@pytest.mark.parametrize("fact", ["refused", "accepted"])
async def test_google_takes_basic_where_its_fact_says_so(gmail: Peer, fact: str) -> None:
    gmail.sandbox.set_fact("google", "basic_auth", fact)
    form = {"grant_type": "authorization_code", "code": await gmail.code(), "redirect_uri": gmail.redirect, "code_verifier": VERIFIER}
    answer = await gmail.post(gmail.urls["token_url"], form, way="basic")
    assert answer.status_code == (httpx.codes.OK if fact == "accepted" else httpx.codes.UNAUTHORIZED)


async def test_a_disabled_application_gets_no_tokens(zoom: Peer, gmail: Peer) -> None:
    for peer, error in ((zoom, "invalid_request"), (gmail, "disabled_client")):
        reply = await peer.connect()
        peer.realm.change(peer.application.key, disabled=True)
        assert (await peer.refresh(reply["refresh_token"])).json()["error"] == error


@pytest.mark.parametrize("fact", ["yes", "no"])
async def test_zooms_errors_hold_a_number_where_its_fact_says_so(zoom: Peer, fact: str) -> None:
    zoom.sandbox.set_fact("zoom", "error_codes", fact)
    assert ("error_code" in (await zoom.refresh("nothing")).json()) is (fact == "yes")


async def test_zoom_rotates_and_google_does_not(zoom: Peer, gmail: Peer) -> None:
    first = await zoom.connect()
    second = (await zoom.refresh(first["refresh_token"])).json()
    assert second["refresh_token"] != first["refresh_token"]
    kept = await gmail.connect()
    assert "refresh_token" not in (await gmail.refresh(kept["refresh_token"])).json()
    assert (await gmail.refresh(kept["refresh_token"])).status_code == httpx.codes.OK


@pytest.mark.parametrize("fact", ["refused", "tolerated", "ends_grant"])
async def test_a_spent_refresh_token_is_what_its_fact_says(zoom: Peer, fact: str) -> None:
    zoom.sandbox.set_fact("zoom", "spent_refresh_token", fact)
    first = await zoom.connect()
    second = (await zoom.refresh(first["refresh_token"])).json()
    again = await zoom.refresh(first["refresh_token"])
    if fact == "tolerated":
        assert again.status_code == httpx.codes.OK
        # Two generations back is beyond the tolerance.
        refused(await zoom.refresh(first["refresh_token"]), 400, "invalid_grant", 4740)
        return
    refused(again, 400, "invalid_grant", 4740)
    after = await zoom.refresh(second["refresh_token"])
    assert after.status_code == (httpx.codes.OK if fact == "refused" else httpx.codes.BAD_REQUEST)


async def test_connecting_a_zoom_user_again_ends_the_earlier_tokens(zoom: Peer) -> None:
    first = await zoom.connect()
    other = await zoom.connect("grace")
    await zoom.connect()
    refused(await zoom.refresh(first["refresh_token"]), 400, "invalid_grant", 4741)
    assert (await zoom.me(first["access_token"])).status_code == httpx.codes.UNAUTHORIZED
    assert (await zoom.me(other["access_token"])).status_code == httpx.codes.OK


@pytest.mark.parametrize(("fact", "days"), [("90", 90), ("5475", 5475)])
async def test_a_zoom_refresh_token_lives_as_long_as_its_fact_says(zoom: Peer, fact: str, days: int) -> None:
    zoom.sandbox.set_fact("zoom", "refresh_token_days", fact)
    token = (await zoom.connect())["refresh_token"]
    zoom.sandbox.clock.advance(days * DAY - 60)
    token = (await zoom.refresh(token)).json()["refresh_token"]
    zoom.sandbox.clock.advance(days * DAY + 60)
    refused(await zoom.refresh(token), 400, "invalid_grant", 4737)


async def test_google_gives_a_refresh_token_only_when_it_is_asked_for(gmail: Peer) -> None:
    assert "refresh_token" not in await gmail.connect(access_type=None)
    assert "refresh_token" in await gmail.connect("grace", prompt=None)
    # Grace consented before: without the prompt there is none.
    assert "refresh_token" not in await gmail.connect("grace", prompt=None)
    assert "refresh_token" in await gmail.connect("grace")


@pytest.mark.parametrize("fact", ["normalised", "as_asked"])
async def test_google_spells_the_email_scope_as_its_fact_says(gmail: Peer, fact: str) -> None:
    gmail.sandbox.set_fact("google", "scope_spelling", fact)
    scopes = (await gmail.connect(scope="openid email"))["scope"].split()
    assert scopes == ["openid", "email" if fact == "as_asked" else "https://www.googleapis.com/auth/userinfo.email"]


async def test_google_keeps_a_hundred_refresh_tokens_of_an_account_and_drops_the_oldest(gmail: Peer) -> None:
    first = await gmail.connect()
    others = [await gmail.connect() for _ in range(100)]
    refused(await gmail.refresh(first["refresh_token"]), 400, "invalid_grant")
    assert (await gmail.refresh(others[-1]["refresh_token"])).status_code == httpx.codes.OK


async def test_a_google_refresh_token_dies_after_half_a_year_unused(gmail: Peer) -> None:
    token = (await gmail.connect())["refresh_token"]
    gmail.sandbox.clock.advance(179 * DAY)
    assert (await gmail.refresh(token)).status_code == httpx.codes.OK
    gmail.sandbox.clock.advance(179 * DAY)
    assert (await gmail.refresh(token)).status_code == httpx.codes.OK
    gmail.sandbox.clock.advance(181 * DAY)
    refused(await gmail.refresh(token), 400, "invalid_grant")


async def test_a_google_application_in_testing_has_refresh_tokens_for_a_week_however_much_they_are_used(gmail: Peer) -> None:
    gmail.realm.change("gmail", testing=True)
    token = (await gmail.connect())["refresh_token"]
    identity_only = (await gmail.connect("grace", scope="openid email"))["refresh_token"]
    gmail.sandbox.clock.advance(6 * DAY)
    assert (await gmail.refresh(token)).status_code == httpx.codes.OK
    gmail.sandbox.clock.advance(2 * DAY)
    refused(await gmail.refresh(token), 400, "invalid_grant")
    assert (await gmail.refresh(identity_only)).status_code == httpx.codes.OK


async def test_a_refresh_can_narrow_the_scopes_and_never_widen_them(gmail: Peer) -> None:
    token = (await gmail.connect(scope="openid email"))["refresh_token"]
    form = {"grant_type": "refresh_token", "refresh_token": token}
    assert (await gmail.post(gmail.urls["token_url"], form | {"scope": "openid"})).json()["scope"] == "openid"
    assert (await gmail.post(gmail.urls["token_url"], form | {"scope": "openid profile"})).status_code == httpx.codes.BAD_REQUEST


async def test_a_refresh_token_of_another_application_and_an_access_token_are_refused(gmail: Peer, calendar: Peer) -> None:
    reply = await gmail.connect()
    refused(await calendar.refresh(reply["refresh_token"]), 400, "invalid_grant")
    refused(await gmail.refresh(reply["access_token"]), 400, "invalid_grant")
    refused(await gmail.post(gmail.urls["token_url"], {"grant_type": "refresh_token"}), 400, "invalid_request")


@pytest.mark.parametrize(("why", "number"), [(End.ADMIN, 4738), (End.DEAUTHORIZED, 4741), (End.OWNER_GONE, 4735)])
async def test_zoom_says_why_a_grant_is_over(zoom: Peer, why: End, number: int) -> None:
    reply = await zoom.connect()
    assert zoom.sandbox.withdraw("zoom", "ada", why) == 1
    refused(await zoom.refresh(reply["refresh_token"]), 400, "invalid_grant", number)
    assert (await zoom.me(reply["access_token"])).status_code == httpx.codes.UNAUTHORIZED


async def test_an_account_that_vanished_has_no_tokens_and_no_codes(peer: Peer) -> None:
    reply, code = await peer.connect(), await peer.code()
    peer.sandbox.remove_person(peer.realm.name, "ada")
    refused(await peer.refresh(reply["refresh_token"]), 400, "invalid_grant")
    refused(await peer.exchange(code), 400, "invalid_grant")
    assert (await peer.me(reply["access_token"])).status_code == httpx.codes.UNAUTHORIZED


async def test_the_same_seed_gives_the_same_tokens_and_another_one_does_not() -> None:
    async def tokens(seed: str) -> list[str]:
        async with running(seed=seed) as sandbox, client() as browser:
            reply = await Peer(sandbox, "zoom", browser).connect()
            assert set(reply.values()) & set(sandbox.secrets()) == {reply["access_token"], reply["refresh_token"]}
            return [reply["access_token"], reply["refresh_token"], *sandbox.environ().values()]

    one, again, other = await tokens("one"), await tokens("one"), await tokens("other")
    assert one == again
    assert one[2:] == other[2:], "registrations outlive a restart"
    assert not {hashlib.sha256(text.encode()).digest() for text in one[:2]} & {hashlib.sha256(text.encode()).digest() for text in other[:2]}
