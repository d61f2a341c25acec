"""Reading the URL of a receiver: one spelling per place, everything else refused.

The grammar is a narrow part of RFC 3986 that the HTTP client's parser (WHATWG URL) cannot read in another way: it neither rewrites
nor repairs anything in it. What we vet is therefore what the client dials; `parse_target` still asks the client's parser and refuses
where the two differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Final

from pyreqwest.http import Url

from customhouse.egress.identities import Identity
from customhouse.errors import EgressRefused, Invalid

MAX_URL_LENGTH: Final = 2048
_MAX_HOST_LENGTH: Final = 253  # RFC 1035 §2.3.4, without the final dot
_MAX_PORT: Final = 65_535
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_MAPPED: Final = IPv6Network("::ffff:0:0/96")

_PRINTABLE: Final = re.compile(r"[\x21-\x7e]+")
_PARTS: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?]*)(?P<path>[^?]*)(?P<query>(?:\?.*)?)")
_AUTHORITY: Final = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]*))?")
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")  # WHATWG URL §3.5 "ends in a number": such hosts are IPv4 addresses
_PATH: Final = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")
_QUERY: Final = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*")
_DOTS: Final = re.compile(r"(?:\.|%2[Ee]){1,2}")


@dataclass(frozen=True, slots=True)
class Target:
    """A receiver's URL in its one canonical spelling; only `parse_target` makes it.

    Attributes:
        scheme: `http` or `https`.
        host: A lower-case name, an IPv4 address, or an IPv6 address in brackets.
        port: 1 to 65535, also where the URL names none.
        path_and_query: Begins with `/`. Not shown by `repr`: paths of webhooks hold secrets.
        url: The whole. Not shown by `repr`.
        identity: The client certificate that this receiver is shown; None: it is shown none.
    """

    scheme: str
    host: str
    port: int
    path_and_query: str = field(repr=False)
    url: str = field(repr=False)
    identity: Identity | None = field(default=None, repr=False)


def parse_target(url: str, *, https_required: bool) -> Target:
    """Read the URL of a receiver (RFC 3986, the narrow part that is described at the top of this module).

    Args:
        url: What the customer gave, at most 2048 characters.
        https_required: Refuse `http`.

    Returns:
        The target. Its address is not vetted here: that happens at each resolution.

    Raises:
        Invalid: The URL is not acceptable as it is written; the detail says what to change and repeats nothing of it.
        EgressRefused: The host is an IP address in disguise.
    """
    if len(url) > MAX_URL_LENGTH:
        raise Invalid(f"The URL is longer than {MAX_URL_LENGTH} characters.")
    if _PRINTABLE.fullmatch(url) is None:
        raise Invalid("The URL may hold visible ASCII characters only: percent-encode the path, write the host in punycode (xn--).")
    if "\\" in url or "#" in url:
        raise Invalid("The URL may hold no backslash and no fragment (#).")
    parts = _PARTS.fullmatch(url)
    if parts is None:
        raise Invalid("The URL must begin with https:// and a host.")
    scheme = parts["scheme"].lower()
    if scheme not in _DEFAULT_PORTS:
        raise Invalid("The scheme of the URL must be https.")
    if https_required and scheme != "https":
        raise Invalid("The URL must begin with https://: plain http is allowed in development only.")
    if "@" in parts["authority"]:
        raise Invalid("The URL may hold no user name or password; put the secret into the path or a header.")
    authority = _AUTHORITY.fullmatch(parts["authority"])
    if authority is None:
        raise Invalid("The URL's host or port is malformed.")
    host = _host(authority["host"])
    port = _port(authority["port"], scheme)
    path_and_query = _path(parts["path"]) + _query(parts["query"])
    netloc = host if port == _DEFAULT_PORTS[scheme] else f"{host}:{port}"
    target = Target(scheme, host, port, path_and_query, f"{scheme}://{netloc}{path_and_query}")
    _require_agreement(target)
    return target


def _host(text: str) -> str:
    if text.startswith("["):
        return _bracketed(text[1:-1])
    host = text.lower()
    if not host:
        raise Invalid("The URL names no host.")
    if "%" in host:
        raise EgressRefused("The host may not be percent-encoded.")
    if len(host) > _MAX_HOST_LENGTH:
        raise Invalid("The URL's host is longer than 253 characters.")
    labels = host.split(".")
    if labels[-1] == "":
        raise EgressRefused("The host may not end in a dot.")
    if _NUMBER.fullmatch(labels[-1]):
        return _dotted_quad(host)
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise Invalid("The URL's host is not a valid name.")
    return host


def _dotted_quad(host: str) -> str:
    try:
        # Four decimal numbers without leading zeros; everything else that parsers take for an address is a disguise.
        return str(IPv4Address(host))
    except ValueError:
        raise EgressRefused("Write an IPv4 address as four decimal numbers: 198.51.100.7.") from None


def _bracketed(text: str) -> str:
    if "%" in text:
        raise EgressRefused("An IPv6 address may carry no zone.")
    if "." in text:
        raise EgressRefused("Write an IPv6 address without a dotted IPv4 part.")
    try:
        address = IPv6Address(text)
    except ValueError:
        raise Invalid("The URL's IPv6 address is malformed.") from None
    if address in _MAPPED:
        raise EgressRefused("Write the IPv4 address itself, not its IPv4-mapped form.")
    return f"[{address}]"


def _port(text: str | None, scheme: str) -> int:
    if text is None:
        return _DEFAULT_PORTS[scheme]
    if not text or text[0] == "0" or len(text) > len(str(_MAX_PORT)) or int(text) > _MAX_PORT:
        raise Invalid("The URL's port must be a number from 1 to 65535 without leading zeros.")
    return int(text)


def _path(text: str) -> str:
    if _PATH.fullmatch(text) is None:
        raise Invalid("The URL's path holds characters that must be percent-encoded.")
    if any(_DOTS.fullmatch(segment) for segment in text.split("/")):
        raise Invalid("The URL's path may hold no dot segments.")
    return text or "/"


def _query(text: str) -> str:
    if _QUERY.fullmatch(text[1:]) is None:
        raise Invalid("The URL's query holds characters that must be percent-encoded.")
    # The client's parser encodes the apostrophe in queries (WHATWG URL, special-query set), so we do it first.
    return text.replace("'", "%27")


def _require_agreement(target: Target) -> None:
    try:
        theirs = Url(target.url)
        agreed = (
            str(theirs) == target.url
            and theirs.scheme == target.scheme
            and theirs.host_str == target.host
            and theirs.port_or_known_default == target.port
        )
    except ValueError:
        agreed = False
    if not agreed:
        raise Invalid("The URL's host is not a valid name.")
