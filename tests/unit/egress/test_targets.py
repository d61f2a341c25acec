"""Reading the URL of a receiver."""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pyreqwest.http import Url

from customhouse.egress.addresses import vet
from customhouse.egress.targets import MAX_URL_LENGTH, Target, parse_target
from customhouse.errors import EgressRefused, Invalid

CORPUS: list[dict[str, Any]] = json.loads((Path(__file__).parents[3] / "vectors" / "ssrf" / "targets.json").read_text(encoding="utf-8"))[
    "targets"
]


def parsed(url: str) -> Target:
    return parse_target(url, https_required=False)


@pytest.mark.parametrize(
    ("url", "host", "port", "path_and_query", "canonical"),
    [
        ("https://hooks.example.com", "hooks.example.com", 443, "/", "https://hooks.example.com/"),
        ("https://hooks.example.com:443/a", "hooks.example.com", 443, "/a", "https://hooks.example.com/a"),
        ("http://hooks.example.com:443/a", "hooks.example.com", 443, "/a", "http://hooks.example.com:443/a"),
        ("HTTPS://Hooks.Example.COM/A%2f?b=C", "hooks.example.com", 443, "/A%2f?b=C", "https://hooks.example.com/A%2f?b=C"),
        ("http://localhost:8080/x", "localhost", 8080, "/x", "http://localhost:8080/x"),
        ("http://127.0.0.1:9/x", "127.0.0.1", 9, "/x", "http://127.0.0.1:9/x"),
        ("http://[2606:4700:0:0::1111]/x", "[2606:4700::1111]", 80, "/x", "http://[2606:4700::1111]/x"),
        ("https://xn--bcher-kva.example/?", "xn--bcher-kva.example", 443, "/?", "https://xn--bcher-kva.example/?"),
        ("https://a_b.example.com//x//y", "a_b.example.com", 443, "//x//y", "https://a_b.example.com//x//y"),
        ("https://e.com?q='o", "e.com", 443, "/?q=%27o", "https://e.com/?q=%27o"),
        ("https://e.com/a'b?c=d/e?f", "e.com", 443, "/a'b?c=d/e?f", "https://e.com/a'b?c=d/e?f"),
        ("https://e.com/...", "e.com", 443, "/...", "https://e.com/..."),
        ("https://e.com:65535/", "e.com", 65535, "/", "https://e.com:65535/"),
    ],
)
def test_an_ordinary_url_becomes_its_canonical_target(url: str, host: str, port: int, path_and_query: str, canonical: str) -> None:
    target = parsed(url)
    assert (target.host, target.port, target.path_and_query, target.url) == (host, port, path_and_query, canonical)
    assert parsed(canonical) == target


def judge(url: str, resolves_to: list[str] | None) -> None:
    """Parse a hostile URL and vet what its host stands for."""
    target = parsed(url)
    for answer in resolves_to or [target.host.strip("[]")]:
        try:
            address = ip_address(answer)
        except ValueError:
            pytest.fail(f"the parser took it for the name {target.host}")
        vet(address, ())


@pytest.mark.parametrize("entry", CORPUS, ids=lambda entry: entry["name"])
def test_a_hostile_spelling_is_refused(entry: dict[str, Any]) -> None:
    with pytest.raises((Invalid, EgressRefused)):
        judge(entry["url"], entry.get("resolves_to"))


def test_the_corpus_is_named_and_large() -> None:
    assert len({entry["name"] for entry in CORPUS}) == len(CORPUS) >= 80


def test_plain_http_is_refused_where_https_is_required() -> None:
    with pytest.raises(Invalid, match="https://"):
        parse_target("http://example.com/", https_required=True)
    assert parse_target("https://example.com/", https_required=True).scheme == "https"


def test_the_longest_url_passes_and_one_more_character_does_not() -> None:
    base = "https://example.com/"
    assert parsed(base + "a" * (MAX_URL_LENGTH - len(base))).host == "example.com"
    with pytest.raises(Invalid, match="longer"):
        parsed(base + "a" * (MAX_URL_LENGTH - len(base) + 1))


def test_the_secret_path_is_neither_in_the_repr_nor_in_a_refusal() -> None:
    assert "s3cr3t" not in repr(parsed("https://example.com/s3cr3t?s3cr3t"))
    for url in (
        "https://example.com/s3cr3t#",
        "https://example.com/s3cr3t/..",
        "https://us:s3cr3t@example.com/",
        "https://example.com/s3cr3t%",
    ):
        with pytest.raises(Invalid) as refusal:
            parsed(url)
        assert "s3cr3t" not in refusal.value.detail


_PIECES = (
    "http https HTTP ftp : / // :// \\ @ ? # [ ] % %2e %25 . .. - _ xn-- 0x 0X7f 0177 127 1 255 256 :: ::1 ffff: a localhost "
    "example.com \u00fc \uff11 \u3002 \u00ad ' \" | ^ { ~ 80 0 65536"
)
_pieces = st.sampled_from([*_PIECES.split(), " ", "\t", "\n"])
_url_like = st.one_of(
    st.text(max_size=60),
    st.lists(_pieces, max_size=14).map("".join),
    st.builds(
        "{}://{}{}".format, st.sampled_from(["http", "https", "hTTp"]), st.lists(_pieces, max_size=8).map("".join), st.text(max_size=20)
    ),
    st.builds("http://{}".format, st.text(alphabet="0123456789abcdefxX.:[]%-_~/?@", max_size=30)),
    st.builds("http://{}/".format, st.from_regex(r"[a-z0-9]{1,3}([.-][a-z0-9x]{1,3}){0,3}(:[0-9]{1,6})?", fullmatch=True)),
    st.builds("https://e.com/{}".format, st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), max_size=30)),
)


@given(_url_like)
@settings(max_examples=200, derandomize=True)
@example("http://1.1.1.1\u200d/")
@example("http://a.b.0x/")
def test_what_is_accepted_means_the_same_to_the_http_client(text: str) -> None:
    try:
        target = parsed(text)
    except (Invalid, EgressRefused):
        return
    theirs = Url(text)
    assert theirs.scheme == target.scheme
    assert theirs.host_str == target.host
    assert theirs.port_or_known_default == target.port
    assert theirs.path + ("" if theirs.query_string is None else f"?{theirs.query_string}") == target.path_and_query
    assert str(theirs) == target.url == str(Url(target.url))
    assert theirs.username == ""
    assert theirs.password is None
    assert parsed(target.url) == target


@given(st.ip_addresses(), st.integers(1, 65535))
@settings(max_examples=200, derandomize=True)
def test_every_canonical_address_is_a_host(address: Any, port: int) -> None:
    host = f"[{address}]" if address.version == 6 else str(address)
    assume(address.version == 4 or address.ipv4_mapped is None)
    target = parsed(f"http://{host}:{port}/")
    assert (target.host, target.port) == (host, port)
    assert Url(target.url).host_str == host
