"""Which addresses may be dialled. Pure: an address and the operator's allow-networks in, silence or a refusal out.

The table below is ours and not `ipaddress.is_private`, whose answer changed between patch releases of Python and knows neither
transition formats nor the addresses of cloud metadata services.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

from customhouse.errors import EgressRefused

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network
Allow: TypeAlias = tuple[Network, ...]
"""Networks that may be dialled although they are refused by default (`EGRESS_ALLOW`). Empty: none."""


@dataclass(frozen=True, slots=True)
class RefusedNetwork:
    """One row of the table: the network, what it is, and the document that says so."""

    network: Network
    what: str
    source: str


def _row(network: str, what: str, source: str) -> RefusedNetwork:
    return RefusedNetwork(ip_network(network), what, source)


REFUSED: Final[tuple[RefusedNetwork, ...]] = (
    _row("0.0.0.0/8", "this network, unspecified", "RFC 791 §3.2"),
    _row("10.0.0.0/8", "private", "RFC 1918"),
    _row("100.64.0.0/10", "carrier-grade NAT", "RFC 6598"),
    _row("127.0.0.0/8", "loopback", "RFC 1122 §3.2.1.3"),
    _row("169.254.0.0/16", "link-local", "RFC 3927"),
    _row("172.16.0.0/12", "private", "RFC 1918"),
    _row("192.0.0.0/24", "IETF protocol assignments", "RFC 6890"),
    _row("192.0.2.0/24", "documentation", "RFC 5737"),
    _row("192.31.196.0/24", "AS112 sink", "RFC 7535"),
    _row("192.52.193.0/24", "automatic multicast tunnelling", "RFC 7450"),
    _row("192.88.99.0/24", "6to4 relay", "RFC 7526"),
    _row("192.168.0.0/16", "private", "RFC 1918"),
    _row("192.175.48.0/24", "AS112 sink", "RFC 7534"),
    _row("198.18.0.0/15", "benchmarking", "RFC 2544"),
    _row("198.51.100.0/24", "documentation", "RFC 5737"),
    _row("203.0.113.0/24", "documentation", "RFC 5737"),
    _row("224.0.0.0/4", "multicast", "RFC 5771"),
    _row("240.0.0.0/4", "reserved, broadcast", "RFC 1112 §4, RFC 919"),
    _row("::/128", "unspecified", "RFC 4291 §2.5.2"),
    _row("::1/128", "loopback", "RFC 4291 §2.5.3"),
    _row("::/96", "IPv4-compatible", "RFC 4291 §2.5.5.1"),
    _row("::ffff:0:0/96", "IPv4-mapped", "RFC 4291 §2.5.5.2"),
    _row("::ffff:0:0:0/96", "IPv4-translated", "RFC 2765 §2.1"),
    _row("64:ff9b::/96", "NAT64", "RFC 6052"),
    _row("64:ff9b:1::/48", "NAT64, local use", "RFC 8215"),
    _row("100::/64", "discard only", "RFC 6666"),
    _row("100:0:0:1::/64", "dummy prefix", "RFC 9780"),
    _row("2001::/32", "Teredo", "RFC 4380"),
    _row("2001::/23", "IETF protocol assignments, benchmarking, ORCHID", "RFC 2928, RFC 5180, RFC 7343"),
    _row("2001:db8::/32", "documentation", "RFC 3849"),
    _row("2002::/16", "6to4", "RFC 3056"),
    _row("2620:4f:8000::/48", "AS112 sink", "RFC 7534"),
    _row("3ffe::/16", "6bone, returned", "RFC 3701"),
    _row("3fff::/20", "documentation", "RFC 9637"),
    _row("5f00::/16", "segment routing (SRv6)", "RFC 9602"),
    _row("fc00::/7", "unique local", "RFC 4193"),
    _row("fe80::/10", "link-local", "RFC 4291 §2.5.6"),
    _row("fec0::/10", "site-local", "RFC 3879"),
    _row("ff00::/8", "multicast", "RFC 4291 §2.7"),
)
"""Refused unless an allow-network contains the address. IPv6 outside `2000::/3` is refused whether it is listed or not."""

METADATA: Final[dict[Address, str]] = {
    ip_address("169.254.169.254"): "instance metadata (AWS, Azure, Google Cloud, DigitalOcean, Oracle)",
    ip_address("169.254.169.253"): "AWS resolver",
    ip_address("169.254.170.2"): "AWS container credentials",
    ip_address("169.254.170.23"): "AWS EKS pod identity",
    ip_address("168.63.129.16"): "Azure WireServer (a public address)",
    ip_address("100.100.100.200"): "Alibaba Cloud metadata",
    ip_address("192.0.0.192"): "Oracle Cloud Classic metadata",
    ip_address("fd00:ec2::254"): "AWS instance metadata",
    ip_address("fd00:ec2::253"): "AWS resolver",
    ip_address("fd00:ec2::23"): "AWS EKS pod identity",
    ip_address("fd20:ce::254"): "Google Cloud metadata",
    ip_address("fe80::a9fe:a9fe"): "OpenStack metadata",
}
"""Refused unless an allow-network is exactly this one address: a wide network never opens them by the way."""

_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")  # RFC 4291 §2.4; IANA has given out nothing else for the Internet
_LOCAL_NAT64: Final = IPv6Network("64:ff9b:1::/48")
_LAST_32_BITS: Final = (
    IPv6Network("::ffff:0:0/96"),
    IPv6Network("::ffff:0:0:0/96"),
    IPv6Network("64:ff9b::/96"),
    _LOCAL_NAT64,
)
_COMPATIBLE: Final = IPv6Network("::/96")
_SIX_TO_FOUR: Final = IPv6Network("2002::/16")
_TEREDO: Final = IPv6Network("2001::/32")
_ISATAP: Final = frozenset((0x0000_5EFE, 0x0200_5EFE))
_LOW_32: Final = 0xFFFF_FFFF
_NAT64_PREFIX_LENGTH: Final = 96


def embedded(address: IPv6Address) -> tuple[IPv4Address, ...]:
    """Return the IPv4 addresses that an IPv6 address carries, to which a translator or tunnel would send the packets.

    Mapped, compatible and translated forms, NAT64 (RFC 6052 §2.2), 6to4 (RFC 3056 §2), Teredo server and client
    (RFC 4380 §4) and ISATAP (RFC 5214 §6.1). A NAT64 prefix of an operator's own cannot be recognised.
    """
    number = int(address)
    if any(address in network for network in _LAST_32_BITS) or (address in _COMPATIBLE and number > 1):
        return (IPv4Address(number & _LOW_32),)
    if address in _SIX_TO_FOUR:
        return (IPv4Address((number >> 80) & _LOW_32),)
    if address in _TEREDO:
        return IPv4Address((number >> 64) & _LOW_32), IPv4Address(~number & _LOW_32)
    if (number >> 32) & _LOW_32 in _ISATAP:
        return (IPv4Address(number & _LOW_32),)
    return ()


def vet(address: Address, allow: Allow) -> None:
    """Let an address pass, or refuse it.

    An IPv6 address that carries an IPv4 address passes only when both do: allowing `64:ff9b::/96` makes the public Internet
    reachable through NAT64, and `64:ff9b::10.0.0.1` stays refused until `10.0.0.0/8` is allowed too. In `64:ff9b:1::/48` the place of
    the IPv4 address is the operator's choice, so only an allow-network of /96 or longer, which fixes it, opens a part of it.

    Args:
        address: What would be dialled.
        allow: The operator's networks. Empty: nothing but the public Internet passes.

    Raises:
        EgressRefused: The address is refused; the detail names the kind of network and not the address.
    """
    if (metadata := METADATA.get(_without_scope(address))) is not None:
        if not any(network.num_addresses == 1 and _contains(network, address) for network in allow):
            raise EgressRefused(f"The address may not be dialled: {metadata}.")
        return
    if isinstance(address, IPv6Address):
        _vet_v6(address, allow)
        return
    if (what := _refusal(address)) is not None and not any(_contains(network, address) for network in allow):
        raise EgressRefused(f"The address may not be dialled: {what}.")


def _vet_v6(address: IPv6Address, allow: Allow) -> None:
    if address.scope_id is not None:
        raise EgressRefused("The address may not be dialled: it carries a zone.")
    what = _refusal(address)
    if what is not None:
        longest = max((network.prefixlen for network in allow if _contains(network, address)), default=None)
        if longest is None or (address in _LOCAL_NAT64 and longest < _NAT64_PREFIX_LENGTH):
            raise EgressRefused(f"The address may not be dialled: {what}.")
    for inner in embedded(address):
        vet(inner, allow)


def _refusal(address: Address) -> str | None:
    for row in REFUSED:
        if _contains(row.network, address):
            return row.what
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return "not global unicast"
    return None


def _contains(network: Network, address: Address) -> bool:
    return network.version == address.version and address in network


def _without_scope(address: Address) -> Address:
    return IPv6Address(int(address)) if isinstance(address, IPv6Address) else address
