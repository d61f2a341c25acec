"""The consent page and what it sends back: RFC 6749 §4.1, RFC 7636, and what each provider does its own way."""

from __future__ import annotations

import httpx
import pytest

from tests.sandboxes import VERIFIER, Peer, consent

pytestmark = pytest.mark.anyio


async def test_the_page_names_the_application_and_each_scope(peer: Peer) -> None:
    page = await peer.browser.get(peer.authorize())
    assert page.status_code == httpx.codes.OK
    assert peer.application.key in page.text
    for scope in peer.application.scopes:
        assert scope in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


async def test_what_comes_from_outside_stays_text_on_the_page(peer: Peer) -> None:
    peer.realm.change(peer.application.key, scopes=(*peer.application.scopes, "<script>alert(1)</script>"))
    page = await peer.browser.get(peer.authorize(scope="<script>alert(1)</script>"))
    assert page.status_code == httpx.codes.OK
    assert "<script>" not in page.text


async def test_allowing_brings_a_code_and_the_state(peer: Peer) -> None:
    landing = await consent(peer.browser, peer.authorize(state="a state & more"))
    assert (landing.place, landing["state"], bool(landing["code"])) == (peer.redirect, "a state & more", True)


async def test_denying_brings_access_denied_and_the_state(peer: Peer) -> None:
    landing = await consent(peer.browser, peer.authorize(), decision="deny")
    assert (landing["error"], landing["state"], landing["code"]) == ("access_denied", "state-of-this-test", "")


@pytest.mark.parametrize("redirect", ["", "/", "?x=1", "http://127.0.0.1:8300/oauth/callback/other", "https://evil.example.com/"])
async def test_a_redirect_uri_that_is_not_registered_leads_nowhere(peer: Peer, redirect: str) -> None:
    wrong = peer.redirect + redirect if not redirect.startswith("http") and redirect else redirect
    for answer in (await peer.browser.get(peer.authorize(redirect_uri=wrong)), await peer.browser.post(peer.authorize(redirect_uri=wrong))):
        assert answer.status_code == httpx.codes.BAD_REQUEST
        assert "location" not in answer.headers


async def test_an_application_that_nobody_knows_leads_nowhere(peer: Peer) -> None:
    for wrong in ("nobody", None):
        answer = await peer.browser.get(peer.authorize(client_id=wrong))
        assert (answer.status_code, "location" in answer.headers) == (httpx.codes.BAD_REQUEST, False)


async def test_an_application_that_was_switched_off_leads_nowhere(peer: Peer) -> None:
    peer.realm.change(peer.application.key, disabled=True)
    assert (await peer.browser.get(peer.authorize())).status_code == httpx.codes.BAD_REQUEST


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": None}, "unsupported_response_type"),
        ({"code_challenge_method": "S512"}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"scope": "everything"}, "invalid_scope"),
    ],
)
async def test_a_request_out_of_order_is_sent_back_with_its_error(peer: Peer, changes: dict[str, str | None], error: str) -> None:
    answer = await peer.browser.get(peer.authorize(**changes))
    assert answer.status_code == httpx.codes.FOUND
    assert answer.headers["location"].startswith(f"{peer.redirect}?error={error}")


async def test_a_parameter_that_stands_there_twice_is_refused(peer: Peer) -> None:
    answer = await peer.browser.get(f"{peer.authorize()}&state=another")
    assert "error=invalid_request" in answer.headers["location"]


async def test_a_decision_by_nobody_or_of_nothing_is_refused(peer: Peer) -> None:
    for form in ({"decision": "allow", "account": "nobody"}, {"account": "ada"}, {"decision": "perhaps", "account": "ada"}):
        assert (await peer.browser.post(peer.authorize(), data=form)).status_code == httpx.codes.BAD_REQUEST


async def test_ticking_what_nobody_asked_for_is_refused(peer: Peer) -> None:
    form = {"decision": "allow", "account": "ada", "ticks": "yes", "scope": "everything"}
    assert (await peer.browser.post(peer.authorize(), data=form)).status_code == httpx.codes.BAD_REQUEST


async def test_unticked_scopes_are_not_granted(zoom: Peer) -> None:
    reply = (await zoom.exchange(await zoom.code(ticked=["user:read:user"]))).json()
    assert reply["scope"] == "user:read:user"


async def test_googles_identity_scopes_cannot_be_unticked(gmail: Peer) -> None:
    reply = (await gmail.exchange(await gmail.code(ticked=[]))).json()
    email, profile = (f"https://www.googleapis.com/auth/userinfo.{name}" for name in ("email", "profile"))
    assert set(reply["scope"].split()) == {"openid", email, profile}


@pytest.mark.parametrize(("fact", "separator"), [("space", " "), ("comma", ",")])
async def test_zoom_takes_scopes_with_the_separator_that_its_fact_says(zoom: Peer, fact: str, separator: str) -> None:
    zoom.sandbox.set_fact("zoom", "scope_separator", fact)
    asked = list(zoom.application.scopes[:2])
    reply = await zoom.connect(scope=separator.join(asked))
    assert reply["scope"].split() == asked
    other = {" ": ",", ",": " "}[separator]
    assert "error=invalid_scope" in (await zoom.browser.get(zoom.authorize(scope=other.join(asked)))).headers["location"]


async def test_google_wants_scopes_named(gmail: Peer) -> None:
    assert "error=invalid_request" in (await gmail.browser.get(gmail.authorize(scope=None))).headers["location"]


async def test_a_challenge_without_a_method_is_plain(peer: Peer) -> None:
    code = await peer.code(code_challenge=VERIFIER, code_challenge_method=None)
    assert (await peer.exchange(code)).status_code == httpx.codes.OK


@pytest.mark.parametrize(("fact", "issuer"), [("no", ""), ("yes", "https://accounts.google.com")])
async def test_google_names_itself_in_the_browser_where_its_fact_says_so(gmail: Peer, fact: str, issuer: str) -> None:
    gmail.sandbox.set_fact("google", "iss_in_redirect", fact)
    assert (await consent(gmail.browser, gmail.authorize()))["iss"] == issuer
    assert (await consent(gmail.browser, gmail.authorize(), decision="deny"))["iss"] == issuer
