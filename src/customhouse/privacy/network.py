"""IP addresses of devices: version 4 dotted, version 6 in any of its spellings."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

_V4: Final = re.compile(r"(?<![\w.])(?<!\bv\.)(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d|/(?:[12]?\d|3[01])(?!\d))")
_V6: Final = re.compile(r"(?<![\w:])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,8}(?:(?:\.\d{1,3}){3})?(?![\w:]|/\d)")
_SHORTEST_V6: Final = 3


def ip_spans(text: str, *, four_parts: bool = True) -> list[tuple[int, int]]:
    """Return where IP addresses stand in a text; loopback, unspecified, link-local addresses and networks (`/24`) are nobody's.

    Args:
        text: a plain reading.
        four_parts: whether four numbers with dots are an address (in a field of versions they are a version).
    """
    spans = [m.span() for m in _V4.finditer(text) if _is_device_v4(m[0])] if four_parts else []
    spans += [m.span() for m in _V6.finditer(text) if _is_device_v6(m[0])]
    return sorted(spans)


def is_ip(text: str) -> bool:
    """Return whether a text is one IP address and nothing else."""
    try:
        IPv6Address(text) if ":" in text else IPv4Address(text)
    except AddressValueError:
        return False
    return "%" not in text


def _is_device_v4(text: str) -> bool:
    try:
        address = IPv4Address(text)
    except AddressValueError:
        return False
    return not (address.is_loopback or address.is_link_local or address.packed[0] == 0)


def _is_device_v6(text: str) -> bool:
    if sum(map(bool, text.split(":"))) < _SHORTEST_V6:
        return False
    try:
        address = IPv6Address(text)
    except AddressValueError:
        return False
    return not (address.is_loopback or address.is_unspecified or address.is_link_local)
