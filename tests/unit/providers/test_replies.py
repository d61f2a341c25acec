"""Token replies, identities, introspections: a value or a failure, whatever the bytes are."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from customhouse.providers import gmail, hubspot, microsoft_teams, slack, stripe, zoom
from customhouse.providers.catalogue import BUILT_IN
from customhouse.providers.failures import LARGEST_REPLY, MEANING, Failure, classify
from customhouse.providers.manifest import OAuth2
from customhouse.providers.replies import Account, TokenReply, account_in_refusal, parse_identity, parse_introspection, parse_token_reply
from customhouse.providers.vocabulary import Kind, Reason, Step
from customhouse.types import Secret

GMAIL, ZOOM, SLACK, TEAMS = gmail.PROVIDER, zoom.PROVIDER, slack.PROVIDER, microsoft_teams.PROVIDER
HUBSPOT, STRIPE = hubspot.PROVIDER, stripe.PROVIDER
OAUTH = [provider for provider in BUILT_IN if isinstance(provider.auth, OAuth2)]
GOOD: dict[str, Any] = {"access_token": "canary-access", "token_type": "Bearer", "expires_in": 3599, "refresh_token": "canary-refresh"}
UNREADABLE = Failure(Kind.TRANSIENT, Reason.UNREADABLE)


def given_reply(**members: Any) -> TokenReply:
    reply = parse_token_reply(GMAIL, Step.EXCHANGE, 200, json.dumps(GOOD | members).encode())
    assert isinstance(reply, TokenReply)
    return reply


def test_a_reply_gives_tokens_lifetime_and_scopes() -> None:
    reply = given_reply(scope="openid  email", refresh_token_expires_in=604800, id_token="a.b.c")
    assert reply.access_token == Secret(b"canary-access")
    assert reply.refresh_token == Secret(b"canary-refresh")
    assert (reply.expires_in, reply.refresh_expires_in, reply.scopes) == (3599, 604800, ("openid", "email"))
    assert reply.id_token == Secret(b"a.b.c")
    assert "canary" not in repr(reply)


@pytest.mark.parametrize(("said", "seconds"), [("3599", 3599), (3599.0, 3599), (0, 0), (None, 3600)])
def test_a_lifetime_may_be_a_text_a_decimal_or_missing(said: Any, seconds: int) -> None:
    assert given_reply(expires_in=said).expires_in == seconds


@pytest.mark.parametrize("said", ["soon", "-1", -1, True, 1e12, "99999999999999", [], {}], ids=repr)
def test_a_lifetime_that_is_none_makes_the_reply_unreadable(said: Any) -> None:
    raw = json.dumps(GOOD | {"expires_in": said}).encode()
    assert parse_token_reply(GMAIL, Step.REFRESH, 200, raw) == UNREADABLE


def test_a_reply_without_a_refresh_token_keeps_the_one_that_was_shown() -> None:
    raw = json.dumps({"access_token": "new", "token_type": "bearer"}).encode()
    shown = Secret(b"old")
    for body in (raw, raw.replace(b"}", b', "refresh_token": null}'), raw.replace(b"}", b', "refresh_token": ""}')):
        reply = parse_token_reply(GMAIL, Step.REFRESH, 200, body, shown=shown)
        assert isinstance(reply, TokenReply)
        assert reply.refresh_token == shown
    first = parse_token_reply(GMAIL, Step.EXCHANGE, 200, raw)
    assert isinstance(first, TokenReply)
    assert first.refresh_token is None


def test_a_rotated_refresh_token_replaces_the_one_that_was_shown() -> None:
    reply = parse_token_reply(ZOOM, Step.REFRESH, 200, json.dumps(GOOD).encode(), shown=Secret(b"old"))
    assert isinstance(reply, TokenReply)
    assert reply.refresh_token == Secret(b"canary-refresh")


def test_a_reply_that_names_no_scopes_is_not_taken_for_as_requested() -> None:
    assert given_reply().scopes is None
    assert given_reply(scope=None).scopes is None
    assert given_reply(scope="").scopes == ()


@pytest.mark.parametrize(
    "members",
    [
        {"access_token": None},
        {"access_token": ""},
        {"access_token": 7},
        {"access_token": "a" * 8193},
        {"access_token": "two words"},
        {"access_token": "line\nbreak"},
        {"access_token": "käse"},
        {"refresh_token": ["x"]},
        {"token_type": "mac"},
        {"token_type": 7},
        {"scope": 7},
        {"scope": [["nested"]]},
        {"scope": "x" * 257},
        {"scope": " ".join(f"s{number}" for number in range(257))},
    ],
    ids=lambda members: json.dumps(members)[:40],
)
def test_a_reply_that_is_not_as_it_must_be_is_unreadable(members: dict[str, Any]) -> None:
    assert parse_token_reply(GMAIL, Step.EXCHANGE, 200, json.dumps(GOOD | members).encode()) == UNREADABLE


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b"<html>", b"\xff", b'{"access_token":"a","access_token":"b"}', b"[" * 2000])
def test_what_is_no_object_is_unreadable(raw: bytes) -> None:
    assert parse_token_reply(GMAIL, Step.EXCHANGE, 200, raw) == UNREADABLE


def test_a_reply_that_is_too_long_is_not_read() -> None:
    raw = json.dumps(GOOD | {"padding": "x" * LARGEST_REPLY}).encode()
    assert parse_token_reply(GMAIL, Step.EXCHANGE, 200, raw) == UNREADABLE


def test_a_reply_of_another_content_type_is_not_read() -> None:
    raw = json.dumps(GOOD).encode()
    kinds = {"application/json;charset=UTF-8": True, "application/vnd.acme+json": True, "text/html": False, "": False}
    for kind, read in kinds.items():
        reply = parse_token_reply(GMAIL, Step.EXCHANGE, 200, raw, {"content-type": kind})
        assert isinstance(reply, TokenReply) is read


def test_the_api_of_an_account_is_believed_on_the_providers_own_hosts_only() -> None:
    for origin in ("https://api.zoom.us", "https://api-eu.zoom.us/"):
        reply = parse_token_reply(ZOOM, Step.EXCHANGE, 200, json.dumps(GOOD | {"api_url": origin}).encode())
        assert isinstance(reply, TokenReply)
        assert reply.api_origin == origin.rstrip("/")
    hostile: list[Any] = [
        "http://api.zoom.us",
        "https://zoom.us.evil.example",
        "https://evilzoom.us",
        "https://a@api.zoom.us",
        "https://api.zoom.us:8443",
        "https://api.zoom.us/path",
        "https://api.zoom.us?x",
        "https://api.zoom.us\\@evil.example",
        "https://[::1",
        "https://127.0.0.1",
        "http://127.0.0.1:8400",
        7,
        [],
    ]
    for told in hostile:
        raw = json.dumps(GOOD | {"api_url": told}).encode()
        assert parse_token_reply(ZOOM, Step.EXCHANGE, 200, raw) == UNREADABLE, told
    sandboxed = replace(ZOOM, trusts=("http://127.0.0.1:8400",))
    trusted = parse_token_reply(sandboxed, Step.EXCHANGE, 200, json.dumps(GOOD | {"api_url": "http://127.0.0.1:8400"}).encode())
    assert isinstance(trusted, TokenReply)
    assert trusted.api_origin == "http://127.0.0.1:8400"


def test_an_identity_names_the_account_for_good_and_what_people_call_it() -> None:
    body = {"id": "u-1", "account_id": "a-1", "email": "ada@example.com", "display_name": "Ada"}
    assert parse_identity(ZOOM, 200, json.dumps(body).encode()) == Account("a-1:u-1", "ada@example.com", "a-1")
    del body["email"]
    assert parse_identity(ZOOM, 200, json.dumps(body).encode()) == Account("a-1:u-1", "Ada", "a-1")


@pytest.mark.parametrize("part", [None, "", [], {}, True, "a:b", "x" * 300, "bell\x07"])
def test_an_identity_without_a_sound_id_is_none(part: Any) -> None:
    body = {"id": part, "account_id": "a-1", "email": "ada@example.com"}
    assert parse_identity(ZOOM, 200, json.dumps(body).encode()) == UNREADABLE


def test_an_identity_call_that_is_refused_says_why() -> None:
    assert parse_identity(ZOOM, 401, b'{"code":124,"message":"Invalid access token."}') == Failure(Kind.PERMANENT, Reason.TOKEN_REFUSED)


def test_an_introspection_names_the_scopes() -> None:
    assert parse_introspection(GMAIL, 200, b'{"active":true,"scope":"a b"}') == ("a", "b")
    assert parse_introspection(GMAIL, 200, b'{"active":true,"scopes":["a","b"]}') == ("a", "b")
    assert parse_introspection(GMAIL, 200, b'{"active":false}') == Failure(Kind.PERMANENT, Reason.TOKEN_REFUSED)
    for raw in (b'{"active":true}', b"[]", b'{"active":true,"scope":7}'):
        assert parse_introspection(GMAIL, 200, raw) == UNREADABLE
    assert parse_introspection(GMAIL, 503, b"") == Failure(Kind.TRANSIENT, Reason.UNAVAILABLE)


@pytest.mark.parametrize("provider", BUILT_IN, ids=lambda provider: provider.id)
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_provider_in_trouble_never_costs_a_connection(provider: Any, status: int) -> None:
    for step in (Step.EXCHANGE, Step.REFRESH, Step.REVOKE, Step.API):
        for raw in (b"", b"<html>", b'{"error":"invalid_grant"}'):
            assert classify(provider, step, status, raw).kind is Kind.TRANSIENT


@pytest.mark.parametrize("provider", BUILT_IN, ids=lambda provider: provider.id)
def test_a_refusal_that_nobody_understands_does_not_cost_a_connection(provider: Any) -> None:
    for raw in (b"", b"<html>", b"{}", b'{"error":"a_word_of_the_future"}', b'{"error":{"nested":true}}', b"[]"):
        assert classify(provider, Step.REFRESH, 400, raw) == UNREADABLE


@pytest.mark.parametrize("provider", BUILT_IN, ids=lambda provider: provider.id)
def test_the_words_of_rfc_6749_mean_the_same_everywhere(provider: Any) -> None:
    assert classify(provider, Step.REFRESH, 400, b'{"error":"invalid_grant"}').reason is Reason.GRANT_ENDED
    assert classify(provider, Step.EXCHANGE, 400, b'{"error":"invalid_grant"}').reason is Reason.CODE_REFUSED
    assert classify(provider, Step.REFRESH, 401, b'{"error":"invalid_client"}') == Failure(Kind.APPLICATION, Reason.CLIENT_REFUSED)
    assert classify(provider, Step.AUTHORIZE, 400, b'{"error":"access_denied"}').reason is Reason.DENIED


@given(st.sampled_from(BUILT_IN), st.sampled_from(list(Step)), st.integers(100, 599), st.binary(max_size=200))
def test_any_bytes_are_classified(provider: Any, step: Step, status: int, raw: bytes) -> None:
    failure = classify(provider, step, status, raw)
    assert failure.meaning == MEANING[failure.reason]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=10), below, max_size=3),
    max_leaves=8,
)
members = st.sampled_from(
    [
        "access_token",
        "refresh_token",
        "expires_in",
        "scope",
        "scopes",
        "token_type",
        "api_url",
        "api_domain",
        "ok",
        "authed_user",
        "team",
        "error",
    ]
)


@given(st.sampled_from(OAUTH), st.integers(199, 500), st.dictionaries(members, json_values, max_size=6) | json_values)
def test_any_json_is_a_reply_or_a_failure(provider: Any, status: int, body: Any) -> None:
    raw = json.dumps(body).encode()
    assert isinstance(parse_token_reply(provider, Step.REFRESH, status, raw), TokenReply | Failure)
    assert isinstance(parse_identity(provider, status, raw), Account | Failure)
    assert isinstance(parse_introspection(provider, status, raw), tuple | Failure)


@given(st.sampled_from(OAUTH), st.binary(max_size=300))
def test_any_bytes_are_a_reply_or_a_failure(provider: Any, raw: bytes) -> None:
    assert isinstance(parse_token_reply(provider, Step.EXCHANGE, 200, raw), TokenReply | Failure)
    assert isinstance(parse_identity(provider, 200, raw), Account | Failure)


def test_every_reason_has_a_sentence() -> None:
    assert set(MEANING) == set(Reason)


def _id_token(claims: Any) -> str:
    return f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b'=').decode()}.sig"


def test_the_claims_of_an_id_token_name_the_account() -> None:
    claims = {"tid": "t", "oid": "o", "preferred_username": "ada@example.com"}
    reply = parse_token_reply(TEAMS, Step.EXCHANGE, 200, json.dumps(GOOD | {"id_token": _id_token(claims)}).encode())
    assert isinstance(reply, TokenReply)
    assert reply.account == Account("t:o", "ada@example.com", "t")


@pytest.mark.parametrize(
    "token", ["one.two", "a.b.c.d", "e30.!!!.sig", "e30.e30.sig", _id_token({"tid": "t"}), _id_token([]), "e30.AAAA.sig"]
)
def test_an_id_token_without_an_account_makes_the_reply_unreadable(token: str) -> None:
    assert parse_token_reply(TEAMS, Step.EXCHANGE, 200, json.dumps(GOOD | {"id_token": token}).encode()) == UNREADABLE


def test_without_an_id_token_there_is_no_account() -> None:
    reply = parse_token_reply(TEAMS, Step.REFRESH, 200, json.dumps(GOOD).encode())
    assert isinstance(reply, TokenReply)
    assert reply.account is None


def test_an_installation_for_a_whole_organisation_names_no_account() -> None:
    body = {
        "ok": True,
        "access_token": "a",
        "token_type": "bot",
        "team": None,
        "enterprise": {"id": "E0TEST"},
        "authed_user": {"id": "U0TEST"},
    }
    reply = parse_token_reply(SLACK, Step.EXCHANGE, 200, json.dumps(body).encode())
    assert isinstance(reply, TokenReply)
    assert reply.account is None


def test_a_good_status_with_a_bad_flag_is_a_refusal() -> None:
    for flag in ({"ok": False}, {"ok": "true"}, {"ok": 1}, {}):
        raw = json.dumps({**flag, "error": "invalid_auth", "access_token": "a"}).encode()
        assert parse_token_reply(SLACK, Step.REFRESH, 200, raw) == Failure(Kind.PERMANENT, Reason.GRANT_ENDED)
        assert parse_identity(SLACK, 200, raw) == Failure(Kind.PERMANENT, Reason.TOKEN_REFUSED)


def test_scopes_of_a_person_do_not_pass_for_scopes_of_the_bot() -> None:
    body = {"ok": True, "access_token": "a", "scope": "chat:write,users:read", "authed_user": {"id": "U0", "scope": "chat:write"}}
    reply = parse_token_reply(SLACK, Step.EXCHANGE, 200, json.dumps(body).encode())
    assert isinstance(reply, TokenReply)
    assert reply.scopes == ("chat:write", "users:read", "user/chat:write")


def test_an_introspection_of_a_dead_token_is_a_refusal() -> None:
    assert parse_identity(HUBSPOT, 200, b'{"active":false}') == Failure(Kind.PERMANENT, Reason.TOKEN_REFUSED)


def test_a_refusal_of_a_pasted_key_may_name_the_account() -> None:
    raw = b'{"error":{"message":"The provided key does not have the required permissions for this endpoint on account \'acct_test1\'."}}'
    assert account_in_refusal(STRIPE, raw) == Account("acct_test1", "acct_test1")
    assert account_in_refusal(STRIPE, b"nothing") is None
    assert account_in_refusal(STRIPE, raw + b" " * LARGEST_REPLY) is None
    assert account_in_refusal(ZOOM, raw) is None


def test_an_organisation_that_is_not_sound_makes_the_identity_unreadable() -> None:
    body = {"id": "1", "email": "ada@example.com", "hd": "x" * 300}
    assert parse_identity(GMAIL, 200, json.dumps(body).encode()) == UNREADABLE


def test_a_label_is_shown_without_what_cannot_be_printed() -> None:
    account = parse_identity(GMAIL, 200, json.dumps({"id": "1", "email": "a\u202eda\n@example.com"}).encode())
    assert account == Account("1", "ada@example.com")
