"""The requests of the flow: what is in them, what never is, and to whom a token may go."""

from __future__ import annotations

import base64
from dataclasses import replace
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from customhouse.providers import gmail, hubspot, microsoft_teams, pipedrive, slack, stripe, zoom
from customhouse.providers.calls import (
    FORM,
    Client,
    at_origin,
    authorize_url,
    challenge,
    exchange,
    identity,
    introspect,
    issuer_fits,
    may_carry_token,
    probe,
    redirect_uri,
    refresh,
    revoke,
)
from customhouse.providers.google import AUTH
from customhouse.providers.manifest import Provider
from customhouse.providers.vocabulary import Mode
from customhouse.types import Secret

GMAIL, ZOOM, SLACK, TEAMS = gmail.PROVIDER, zoom.PROVIDER, slack.PROVIDER, microsoft_teams.PROVIDER
HUBSPOT, PIPEDRIVE = hubspot.PROVIDER, pipedrive.PROVIDER
CLIENT = Client("client:1", Secret(b"s3cret/canary"))
VERIFIER = Secret(b"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
STATE = "s" * 43
REDIRECT = redirect_uri("https://customs.example.com", "gmail")


def url_of(provider: Provider, mode: Mode = Mode.OBSERVE, extra: dict[str, str] | None = None) -> tuple[str, dict[str, str]]:
    url = authorize_url(provider, CLIENT, mode=mode, redirect=REDIRECT, state=STATE, verifier=VERIFIER, extra=extra)
    pairs = parse_qsl(urlsplit(url).query, keep_blank_values=True, strict_parsing=True)
    assert len(pairs) == len(dict(pairs))
    return url, dict(pairs)


def test_the_challenge_is_the_one_of_rfc_7636_appendix_b() -> None:
    assert challenge(VERIFIER) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_the_browser_is_sent_with_exactly_what_the_manifest_says() -> None:
    url, query = url_of(GMAIL, Mode.ACT)
    assert url.startswith("https://accounts.google.com/o/oauth2/v2/auth?")
    assert query == {
        "response_type": "code",
        "client_id": "client:1",
        "redirect_uri": "https://customs.example.com/oauth/callback/gmail",
        "state": STATE,
        "scope": f"openid email {AUTH}gmail.readonly {AUTH}gmail.send",
        "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
        "code_challenge_method": "S256",
        "access_type": "offline",
        "prompt": "consent",
        "include_granted_scopes": "false",
    }
    assert "canary" not in url
    assert "+" not in url


def test_where_the_registration_fixes_the_scopes_the_request_names_none() -> None:
    assert "scope" not in url_of(ZOOM)[1]


def test_extra_parameters_replace_nothing_of_the_flow() -> None:
    extra = {"login_hint": "ada@example.com", "state": "x", "redirect_uri": "https://evil.example", "scope": "all", "prompt": "none"}
    query = url_of(GMAIL, extra=extra)[1]
    assert (query["login_hint"], query["state"], query["redirect_uri"], query["prompt"]) == ("ada@example.com", STATE, REDIRECT, "consent")
    assert query["scope"] == f"openid email {AUTH}gmail.readonly"


def test_an_endpoint_that_has_a_query_keeps_it() -> None:
    tenant = replace(GMAIL, endpoints=replace(GMAIL.endpoints, authorize_url="https://id.example/auth?tenant=a"))
    url, query = url_of(tenant)
    assert url.count("?") == 1
    assert query["tenant"] == "a"


@pytest.mark.parametrize("state", ["", "short", "s" * 31, "s" * 43 + "&scope=all", "ß" * 43])
def test_a_weak_state_is_not_sent(state: str) -> None:
    with pytest.raises(ValueError, match="state"):
        authorize_url(GMAIL, CLIENT, mode=Mode.OBSERVE, redirect=REDIRECT, state=state, verifier=VERIFIER)


@pytest.mark.parametrize("verifier", [b"", b"v" * 42, b"v" * 129, b"v" * 43 + b" ", b"\xff" * 43])
def test_a_weak_verifier_is_not_sent(verifier: bytes) -> None:
    with pytest.raises(ValueError, match="code verifier"):
        authorize_url(GMAIL, CLIENT, mode=Mode.OBSERVE, redirect=REDIRECT, state=STATE, verifier=Secret(verifier))


def test_a_client_shows_itself_by_basic_or_in_the_form_and_never_in_the_url() -> None:
    basic = exchange(ZOOM, CLIENT, code=Secret(b"c&d"), redirect=REDIRECT, verifier=VERIFIER)
    assert basic.url == "https://zoom.us/oauth/token"
    assert basic.authorization is not None
    assert base64.b64decode(basic.authorization.reveal().removeprefix(b"Basic ")) == b"client%3A1:s3cret%2Fcanary"
    assert parse_qs(basic.body.reveal().decode()) == {
        "grant_type": ["authorization_code"],
        "code": ["c&d"],
        "redirect_uri": [REDIRECT],
        "code_verifier": [VERIFIER.reveal().decode()],
    }
    form = exchange(GMAIL, CLIENT, code=Secret(b"c"), redirect=REDIRECT, verifier=VERIFIER)
    assert form.authorization is None
    sent = parse_qs(form.body.reveal().decode())
    assert (sent["client_id"], sent["client_secret"]) == (["client:1"], ["s3cret/canary"])
    assert form.headers() == {"accept": "application/json", "content-type": FORM}
    assert "canary" not in repr(form) + repr(basic) + repr(CLIENT)


def test_a_refresh_shows_the_token_alone() -> None:
    call = refresh(ZOOM, CLIENT, token=Secret(b"old+token"), scopes=("a", "b"))
    assert parse_qs(call.body.reveal().decode()) == {"grant_type": ["refresh_token"], "refresh_token": ["old+token"]}


def test_a_revocation_shows_the_token_that_ends_the_grant() -> None:
    (zooms,) = revoke(ZOOM, CLIENT, access=Secret(b"a"), refreshing=Secret(b"r"))
    assert (zooms.method, zooms.url, zooms.body) == ("POST", "https://zoom.us/oauth/revoke", Secret(b"token=a"))
    assert zooms.authorization is not None
    (googles,) = revoke(GMAIL, CLIENT, access=Secret(b"a"), refreshing=Secret(b"r"))
    assert (googles.body, googles.authorization) == (Secret(b"token=r"), None)
    (without,) = revoke(GMAIL, CLIENT, access=Secret(b"a"), refreshing=None)
    assert without.body == Secret(b"token=a")
    assert revoke(ZOOM, CLIENT, access=None, refreshing=Secret(b"r")) == ()


def test_the_identity_is_asked_for_with_the_access_token() -> None:
    call = identity(ZOOM, CLIENT, access=Secret(b"a"))
    assert call is not None
    assert (call.method, call.url, call.authorization, call.body) == (
        "GET",
        "https://api.zoom.us/v2/users/me",
        Secret(b"Bearer a"),
        Secret(b""),
    )
    assert call.headers() == {"accept": "application/json"}


def test_what_has_no_introspection_is_not_asked() -> None:
    with pytest.raises(ValueError, match="zoom has no introspection"):
        introspect(ZOOM, CLIENT, token=Secret(b"a"))


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://api.zoom.us/v2/users/me", True),
        ("https://zoom.us/x", True),
        ("https://API.ZOOM.US/x", True),
        ("http://api.zoom.us/x", False),
        ("https://api.zoom.us.evil.example/x", False),
        ("https://evilzoom.us/", False),
        ("https://a.b.zoom.us/", False),
        ("https://.zoom.us/", False),
        ("https://api.zoom.us:8443/", False),
        ("https://api.zoom.us@evil.example/", False),
        ("https://evil.example@api.zoom.us/", False),
        ("https://evil.example#.zoom.us/", False),
        ("https://evil.example\\.zoom.us/", False),
        ("//api.zoom.us/", False),
        ("https://[::1", False),
        ("", False),
    ],
)
def test_a_token_goes_to_the_providers_own_hosts_only(url: str, allowed: bool) -> None:
    assert may_carry_token(ZOOM, url) is allowed


def test_a_token_goes_to_an_origin_that_the_operator_named_and_to_no_other_scheme_or_port_of_it() -> None:
    sandboxed = replace(ZOOM, trusts=("http://127.0.0.1:8400", "https://id.acme.example"))
    assert may_carry_token(sandboxed, "http://127.0.0.1:8400/users/me")
    assert may_carry_token(sandboxed, "https://id.acme.example/me")
    for url in ("http://127.0.0.1:8401/", "https://127.0.0.1:8400/", "http://127.0.0.1/", "http://id.acme.example/me"):
        assert not may_carry_token(sandboxed, url)


@given(st.text(max_size=60))
def test_any_text_is_judged(url: str) -> None:
    assert not may_carry_token(ZOOM, url)


def test_what_act_adds_travels_apart_where_the_provider_wants_it_so() -> None:
    assert url_of(HUBSPOT)[1]["scope"] == "oauth crm.objects.contacts.read"
    assert "optional_scope" not in url_of(HUBSPOT)[1]
    acting = url_of(HUBSPOT, Mode.ACT)[1]
    assert (acting["scope"], acting["optional_scope"]) == ("oauth crm.objects.contacts.read", "crm.objects.contacts.write")


def test_slack_separates_scopes_by_commas_and_is_sent_no_challenge() -> None:
    query = url_of(SLACK)[1]
    assert query["scope"] == "chat:write,users:read"
    assert "code_challenge" not in query
    call = exchange(SLACK, CLIENT, code=Secret(b"c"), redirect=REDIRECT, verifier=VERIFIER)
    assert b"code_verifier" not in call.body.reveal()


def test_a_revocation_may_show_the_token_as_a_bearer() -> None:
    (call,) = revoke(SLACK, CLIENT, access=Secret(b"a"), refreshing=Secret(b"r"))
    assert (call.authorization, call.body) == (Secret(b"Bearer a"), Secret(b""))


def test_a_revocation_may_say_what_kind_of_token_it_shows() -> None:
    (call,) = revoke(HUBSPOT, CLIENT, access=Secret(b"a"), refreshing=Secret(b"r"))
    assert parse_qs(call.body.reveal().decode())["token_type_hint"] == ["refresh_token"]
    (call,) = revoke(PIPEDRIVE, CLIENT, access=Secret(b"a"), refreshing=None)
    assert parse_qs(call.body.reveal().decode()) == {"token": ["a"], "token_type_hint": ["access_token"]}


def test_where_nothing_can_be_revoked_no_call_is_made() -> None:
    assert revoke(TEAMS, CLIENT, access=Secret(b"a"), refreshing=Secret(b"r")) == ()


def test_a_refresh_repeats_the_scopes_where_the_token_would_else_be_wider() -> None:
    call = refresh(TEAMS, CLIENT, token=Secret(b"r"), scopes=("User.Read", "offline_access"))
    assert parse_qs(call.body.reveal().decode())["scope"] == ["User.Read offline_access"]
    assert b"scope" not in refresh(TEAMS, CLIENT, token=Secret(b"r")).body.reveal()


def test_an_introspection_tells_who_was_connected_where_it_does() -> None:
    call = identity(HUBSPOT, CLIENT, access=Secret(b"a"))
    assert call is not None
    assert call.url == "https://api.hubapi.com/oauth/2026-03/token/introspect"
    assert parse_qs(call.body.reveal().decode())["token"] == ["a"]


def test_where_the_token_reply_told_it_nobody_is_asked_again_but_the_token_can_be_probed() -> None:
    for provider in (SLACK, TEAMS):
        assert identity(provider, CLIENT, access=Secret(b"a")) is None
        assert probe(provider, CLIENT, access=Secret(b"a")).url == provider.endpoints.identity_url


def test_the_identity_is_asked_for_on_the_accounts_own_api() -> None:
    call = identity(PIPEDRIVE, CLIENT, access=Secret(b"a"), api_origin="https://example-company.pipedrive.com")
    assert call is not None
    assert call.url == "https://example-company.pipedrive.com/api/v1/users/me"
    assert may_carry_token(PIPEDRIVE, call.url)
    assert at_origin(PIPEDRIVE, PIPEDRIVE.endpoints.token_url, "https://example-company.pipedrive.com") == PIPEDRIVE.endpoints.token_url


def test_an_answer_of_another_issuer_is_not_believed() -> None:
    assert issuer_fits(GMAIL, "https://accounts.google.com")
    assert issuer_fits(GMAIL, None)
    assert not issuer_fits(GMAIL, "https://evil.example")
    assert issuer_fits(ZOOM, "https://zoom.us")
    strict = replace(GMAIL, auth=replace(GMAIL.oauth2, names_issuer=True))
    assert not issuer_fits(strict, None)


def test_a_pasted_key_has_no_oauth() -> None:
    with pytest.raises(TypeError, match="stripe has no OAuth"):
        refresh(stripe.PROVIDER, CLIENT, token=Secret(b"r"))
