"""R25: a path means one thing to everybody, or it does not pass; what passes is what the rules were asked about."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyreqwest.http import Url

from customhouse.errors import Invalid
from customhouse.providers.allowing import LONGEST, checked_path, checked_query, rules_for
from customhouse.providers.catalogue import BUILT_IN, Catalogue
from customhouse.providers.manifest import Allowance, Provider

ZOOM = Catalogue().get("zoom")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"/",
        b"users/me",
        b"//evil.example/users",
        b"/users//me",
        b"/users/me/",
        b"/users/../admin",
        b"/users/./me",
        b"/users/%2e%2e/admin",
        b"/users/%2E%2E/admin",
        b"/users/.%2E/admin",
        b"/users%2fme",
        b"/users%2Fme",
        b"/users%5Cme",
        b"/users\\me",
        b"/users/me;v=1",
        b"/users/me%3Bv=1",
        b"/users/%252e%252e/admin",
        b"/users/me%25",
        b"/users/me%2",
        b"/users/me%zz",
        b"/users/%6De",
        b"/users/me%00",
        b"/users/me%0D%0AX: y",
        b"/users/me\r\n",
        b"/users/me\x00",
        b"/users/me?x=1",
        b"/users/me#x",
        b"/users/me%23x",
        b"/users/me%3Fx",
        b"/users/%C0%AE%C0%AE/admin",
        b"/users/%C0%AFadmin",
        b"/users/%EF%BC%8F",
        b"/users/%EF%BC%8E%EF%BC%8E/admin",
        b"/users/%E2%80%A5/admin",
        b"/users/%20..%20/admin",
        b"/users/%E2%80%AEem",
        b"/users/%FF",
        "/users/ü".encode(),
        b"/users/<me>",
        b"/users/{me}",
        b"/users/" + b"a" * LONGEST,
    ],
)
def test_r25_a_path_with_more_than_one_meaning_is_refused(raw: bytes) -> None:
    with pytest.raises(Invalid) as caught:
        checked_path(raw)
    assert caught.value.faults[0].pointer == "/path"


@pytest.mark.parametrize(
    "raw", [b"/users/me", b"/chats/19:a_b@thread.v2/messages", b"/files/a%20b", b"/search/%C3%BC", b"/a/..b", b"/a.b/c~"]
)
def test_r25_a_plain_path_passes_as_it_is(raw: bytes) -> None:
    assert checked_path(raw).encode() == raw


@pytest.mark.parametrize(
    "raw",
    [
        b"access_token=x",
        b"a=1&OAuth_Token=x",
        b"%61ccess_token=x",
        b"_method=DELETE",
        b"+_method=DELETE",
        b"X-HTTP-Method-Override=DELETE",
        b"callback=alert",
        b"key=AIza",
        b"a=1;_method=DELETE",
        b"a=%0",
        b"a=%2f",
        b"a=b c",
        b"a=\r\n",
        b"a=#",
        b"a=" + b"x" * LONGEST,
    ],
)
def test_a_query_with_a_credential_or_another_method_is_refused(raw: bytes) -> None:
    with pytest.raises(Invalid) as caught:
        checked_query(raw)
    assert caught.value.faults[0].pointer == "/query"


def test_a_plain_query_passes() -> None:
    assert checked_query(b"from=2026-01-01&page_size=30&filter=a%20eq%20'b'") == "from=2026-01-01&page_size=30&filter=a%20eq%20%27b%27"
    assert checked_query(b"") == ""


PIECES = st.lists(
    st.one_of(
        st.sampled_from(
            [b"/", b"//", b".", b"..", b"%2e", b"%2E", b"%2F", b"%5C", b"%25", b";", b"\\", b"%00", b"users", b"me", b"%C3%BC"]
        ),
        st.binary(max_size=4),
        st.text(alphabet="abcXYZ019-._~%:@", max_size=6).map(str.encode),
    ),
    max_size=12,
)


@given(PIECES)
def test_r25_whatever_passes_has_one_meaning_and_is_sent_unchanged(pieces: list[bytes]) -> None:
    raw = b"/" + b"".join(pieces)
    try:
        path = checked_path(raw)
    except Invalid:
        return
    assert path.encode() == raw
    for text in (path, unquote(path), unquote(unquote(path))):
        assert "\\" not in text
        assert ";" not in text
        assert all(segment not in {"", ".", ".."} for segment in text.split("/")[1:])
        assert text.count("/") == path.count("/")
    url = f"https://api.example.com/v2{path}"
    # The parser of the HTTP client, and the standard library's, see what we see.
    assert str(Url(url)) == url
    assert urlsplit(url).path == f"/v2{path}"
    assert Url(url).host_str == "api.example.com"


@given(PIECES)
def test_whatever_query_passes_stays_a_query(pieces: list[bytes]) -> None:
    try:
        query = checked_query(b"".join(pieces))
    except Invalid:
        return
    url = f"https://api.example.com/v2/users?{query}"
    assert urlsplit(url).query == query
    assert (str(Url(url)), Url(url).path) == (url, "/v2/users")


def with_rules(*rules: Allowance) -> Provider:
    return replace(ZOOM, allow=rules)


def test_a_name_in_braces_is_one_segment_and_a_last_star_any_rest() -> None:
    one = with_rules(Allowance("GET", "/meetings/{meeting}/recordings", "a"))
    assert rules_for(one, "GET", "/meetings/123/recordings")
    for path in (
        "/meetings/recordings",
        "/meetings/1/2/recordings",
        "/meetings/123/recordings/4",
        "/meetings/123/recordingsx",
        "/x/meetings/1/recordings",
    ):
        assert rules_for(one, "GET", path) == ()
    assert rules_for(one, "POST", "/meetings/123/recordings") == ()
    rest = with_rules(Allowance("GET", "/api/*", "a"))
    assert rules_for(rest, "GET", "/api/x/y")
    for path in ("/api", "/apix", "/api/"):
        assert rules_for(rest, "GET", path) == ()
    part = with_rules(Allowance("GET", "/v*/users", "a"))
    assert rules_for(part, "GET", "/v2/users")
    assert rules_for(part, "GET", "/v2/x/users") == ()
    assert rules_for(with_rules(Allowance("GET", "/a.b", "a")), "GET", "/axb") == ()


@pytest.mark.parametrize("provider", BUILT_IN, ids=lambda one: one.id)
def test_no_rule_of_a_manifest_reaches_what_only_an_action_may(provider: Provider) -> None:
    for method, path in (
        ("DELETE", "/users/me"),
        ("PATCH", "/calendars/primary/events/e1"),
        ("GET", "/calendars/other@example.com/events"),
        ("GET", "/users/me/messages"),
        ("GET", "/users/me/threads/1"),
        ("GET", "/users/me/mailFolders"),
        ("DELETE", "/v2/persons/1"),
        ("POST", "/refunds"),
        ("POST", "/$batch"),
        ("POST", "/batch"),
        ("POST", "/chat.postMessage"),
    ):
        assert rules_for(provider, method, path) == ()
