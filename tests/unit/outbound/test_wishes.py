"""What a connection may be: whatever passes can be sent as it is, and nothing of ours can be overwritten."""

from __future__ import annotations

import math
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from customhouse.egress.client import FORBIDDEN_HEADERS, _check
from customhouse.errors import Invalid
from customhouse.outbound.throttle import Rate
from customhouse.outbound.wishes import Rules, Wish, checked

RULES = Rules(https_required=False, allow=(ip_network("127.0.0.0/8"),), header_prefix="X-Acme")
URL = "https://hooks.example.com/in"


def faults(wish: Wish, rules: Rules = RULES) -> list[str]:
    """The places that are not acceptable."""
    try:
        checked(wish, rules)
    except Invalid as refused:
        return [fault.pointer for fault in refused.faults]
    return []


names = st.one_of(st.sampled_from(["Authorization", "X-Api-Key", "host", "X-Acme-Signature"]), st.text(max_size=70))


@given(headers=st.dictionaries(names, st.text(max_size=60), max_size=20))
@example(headers={"Authorization": "Bearer abc", "X-Route": "a b"})
@example(headers={"X-A": "1", "x-a": "2"})
def test_headers_that_pass_are_sent_as_they_are(headers: dict[str, str]) -> None:
    if faults(Wish(URL, headers=headers)):
        return
    _check(headers)
    assert len(headers) <= 16
    for name, value in headers.items():
        assert name.lower() not in FORBIDDEN_HEADERS
        assert not name.lower().startswith(("x-acme-", "webhook-", "content-"))
        assert not set(name + value) & set("\r\n\0")
        assert value == value.strip() != ""


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "a"},
        {"HOST": "a"},
        {"Connection": "close"},
        {"Transfer-Encoding": "chunked"},
        {"Content-Length": "0"},
        {"Content-Type": "text/plain"},
        {"Content-Anything": "x"},
        {"Proxy-Authorization": "x"},
        {"X-Forwarded-For": "10.0.0.1"},
        {"X-Acme-Timestamp": "1"},
        {"x-acme-signature": "v1=00"},
        {"X-Queast-Signature": "v1=00"},
        {"Webhook-Id": "evt_1"},
        {"User-Agent": "x"},
        {"X A": "x"},
        {"": "x"},
        {"X-Ü": "x"},
        {"X:": "x"},
        {"X-A": ""},
        {"X-A": " x"},
        {"X-A": "x\r\nHost: evil.example.com"},
        {"X-A": "x\n"},
        {"X-A": "x\x00"},
        {"X-A": "ü"},
        {"X-A": "x" * 1025},
        {"X-A\r\nHost": "x"},
        {"X-A": "1", "x-a": "2"},
        {f"X-{number}": "x" for number in range(17)},
        {f"X-{number}": "x" * 1000 for number in range(5)},
    ],
)
def test_a_header_that_is_ours_or_none_is_refused_by_its_place_alone(headers: dict[str, str]) -> None:
    assert set(faults(Wish(URL, headers=headers))) == {"/headers"}


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1/", "http://169.254.169.254/", "http://[::1]/", "http://[fd00::1]:8080/x", "http://0.0.0.0/"]
)
def test_an_address_that_would_never_be_dialled_is_refused_when_it_is_given(url: str) -> None:
    assert faults(Wish(url)) == ["/url"]


def test_what_the_operator_allows_and_what_is_a_name_passes() -> None:
    assert faults(Wish("http://127.0.0.1:8080/")) == []
    assert faults(Wish("http://intranet/")) == [], "a name is vetted when it is dialled"


def test_an_url_that_is_there_already_is_not_judged_again() -> None:
    strict = Rules(https_required=True, allow=(), header_prefix="X-Acme")
    assert faults(Wish("http://127.0.0.1/"), strict) == ["/url"]
    assert checked(Wish("http://127.0.0.1/"), strict, url_is_new=False).host == "127.0.0.1"


@pytest.mark.parametrize(
    ("patterns", "places"),
    [
        (("*",), []),
        (("person.*", "invoice.paid", "a.b.c.*"), []),
        ((), ["/event_types"]),
        (("person*",), ["/event_types/0"]),
        (("*.created",), ["/event_types/0"]),
        (("person.*.*",), ["/event_types/0"]),
        (("a", "**"), ["/event_types/1"]),
        (("",), ["/event_types/0"]),
        ((".*",), ["/event_types/0"]),
    ],
)
def test_a_pattern_is_all_or_a_name_or_a_prefix(patterns: tuple[str, ...], places: list[str]) -> None:
    assert faults(Wish(URL, event_types=patterns)) == places


@given(schedule=st.lists(st.integers(-1, 100_000), max_size=25), per_second=st.floats(), burst=st.integers(-1, 20_000))
@example(schedule=[1, 86_400], per_second=0.1, burst=1)
@example(schedule=[1] * 20, per_second=10_000.0, burst=10_000)
@example(schedule=[], per_second=math.nan, burst=0)
def test_a_pace_that_passes_is_within_its_bounds(schedule: list[int], per_second: float, burst: int) -> None:
    found = faults(Wish(URL, retry_schedule=tuple(schedule), rate_limit=Rate(per_second, burst)))
    assert ("/rate_limit/per_second" not in found) == (0.1 <= per_second <= 10_000)
    assert ("/rate_limit/burst" not in found) == (1 <= burst <= 10_000)
    wrong = [f"/retry_schedule/{place}" for place, wait in enumerate(schedule) if not 1 <= wait <= 86_400]
    assert [pointer for pointer in found if pointer.startswith("/retry_schedule/")] == wrong
    assert ("/retry_schedule" not in found) == (1 <= len(schedule) <= 20)


@pytest.mark.parametrize(
    ("member", "wish"),
    [
        ("/description", {"description": "mail ada@example.com"}),
        ("/description", {"description": "a name \u202e backwards"}),
        ("/event_types/0", {"event_types": ("4111111111111111",)}),
        ("/user_id", {"user_id": "ada@example.com"}),
    ],
)
def test_what_is_kept_in_clear_is_no_place_for_personal_data(member: str, wish: dict[str, Any]) -> None:
    assert faults(Wish(URL, **wish)) == [member]
