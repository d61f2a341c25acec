"""Which addresses may be dialled."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from customhouse.egress.addresses import METADATA, REFUSED, Address, Allow, embedded, vet
from customhouse.errors import EgressRefused

DOCS = Path(__file__).parents[3] / "docs" / "reference" / "egress.md"

PUBLIC = ("93.184.216.34", "8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450:4001::200e", "2400:cb00::1")


def passes(address: Address | str, *allow: str) -> bool:
    try:
        vet(ip_address(address) if isinstance(address, str) else address, tuple(ip_network(network) for network in allow))
    except EgressRefused:
        return False
    return True


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_passes_without_any_allowance(address: str) -> None:
    assert passes(address)


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: str(row.network))
def test_first_and_last_address_of_each_refused_network_are_refused(row: object) -> None:
    network = row.network  # type: ignore[attr-defined]
    assert not passes(network[0])
    assert not passes(network[-1])


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: str(row.network))
def test_the_addresses_beside_a_refused_network_are_judged_on_their_own(row: object) -> None:
    network = row.network  # type: ignore[attr-defined]
    for number in (int(network[0]) - 1, int(network[-1]) + 1):
        if not 0 <= number < 2**network.max_prefixlen:
            continue
        neighbour = type(network[0])(number)
        listed = any(other.network.version == network.version and neighbour in other.network for other in REFUSED)
        outside = network.version == 6 and neighbour not in ip_network("2000::/3")
        assert passes(neighbour) is not (listed or outside or neighbour in METADATA)


@pytest.mark.parametrize("address", METADATA, ids=str)
def test_a_metadata_address_opens_only_to_its_own_name(address: Address) -> None:
    bits = 32 if address.version == 4 else 128
    assert not passes(address)
    assert not passes(address, "0.0.0.0/0", "::/0")
    assert not passes(address, str(ip_network(f"{address}/{bits - 1}", strict=False)))
    assert passes(address, f"{address}/{bits}")


def test_an_allowed_network_opens_itself_and_nothing_beside_it() -> None:
    assert passes("10.1.2.3", "10.1.0.0/16")
    assert not passes("10.2.0.1", "10.1.0.0/16")
    assert passes("127.0.0.1", "127.0.0.0/8")
    assert not passes("::1", "127.0.0.0/8")
    assert passes("fd00:1::1", "fd00:1::/32")


def test_an_allowed_transition_network_does_not_allow_what_it_carries() -> None:
    assert passes("64:ff9b::808:808", "64:ff9b::/96")
    assert not passes("64:ff9b::a00:1", "64:ff9b::/96")
    assert not passes("64:ff9b::a00:1", "10.0.0.0/8")
    assert passes("64:ff9b::a00:1", "64:ff9b::/96", "10.0.0.0/8")
    assert not passes("64:ff9b::a9fe:a9fe", "64:ff9b::/96", "169.254.0.0/16")
    assert not passes("2002:7f00:1::", "2002::/16")
    assert not passes("::ffff:127.0.0.1", "127.0.0.0/8")
    assert not passes("2001:0:4136:e378:8000:63bf:f5ff:fffe", "2001::/32")  # the client part is 10.0.0.1, inverted


def test_the_local_nat64_prefix_opens_only_to_a_network_that_fixes_the_ipv4_part() -> None:
    assert not passes("64:ff9b:1::808:808", "64:ff9b:1::/48")
    assert passes("64:ff9b:1::808:808", "64:ff9b:1::/96")
    assert not passes("64:ff9b:1::a00:1", "64:ff9b:1::/96")


def test_an_isatap_interface_in_a_public_network_is_judged_by_the_address_that_it_carries() -> None:
    assert not passes("2606:4700::5efe:a00:1")
    assert not passes("2606:4700::200:5efe:7f00:1")
    assert passes("2606:4700::5efe:808:808")


def test_a_zone_is_refused_even_where_its_network_is_allowed() -> None:
    assert passes("fe80::1", "fe80::/10")
    assert not passes("fe80::1%eth0", "fe80::/10")


def test_the_refusal_does_not_repeat_the_address() -> None:
    with pytest.raises(EgressRefused) as refusal:
        vet(IPv4Address("10.20.30.40"), ())
    assert "10.20.30.40" not in refusal.value.detail
    assert "private" in refusal.value.detail


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=200, derandomize=True)
@example(int(IPv4Address("127.0.0.1")))
@example(int(IPv4Address("168.63.129.16")))
def test_no_wrapping_of_an_address_is_ever_more_open_than_the_address(number: int) -> None:
    inner = IPv4Address(number)
    wrapped = (
        IPv6Address((0xFFFF << 32) | number),
        IPv6Address((0xFFFF << 48) | number),
        IPv6Address((0x64FF9B << 96) | number),
        IPv6Address((0x2002 << 112) | (number << 80)),
        IPv6Address((0x20010000 << 96) | (number << 64) | (~number & 0xFFFFFFFF)),
    )
    everything_v6: Allow = (ip_network("::/0"),)
    for outer in wrapped:
        assert inner in embedded(outer)
        assert not passes(outer)
        assert passes(outer, *map(str, everything_v6)) is passes(inner)


@given(st.ip_addresses())
@settings(max_examples=200, derandomize=True)
def test_whatever_the_standard_library_calls_private_or_special_is_refused(address: Address) -> None:
    special = address.is_private or address.is_loopback or address.is_multicast or address.is_link_local or address.is_unspecified
    assert not (passes(address) and (special or address.is_reserved))


@given(st.ip_addresses())
@settings(max_examples=200, derandomize=True)
def test_nothing_escapes_but_the_refusal(address: Address) -> None:
    assert passes(address) in {True, False}


def test_the_reference_page_lists_exactly_the_networks_of_the_code() -> None:
    rows = re.findall(r"^\| `([0-9a-f:./]+)` \| ([^|]+) \| ([^|]+) \|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    expected = [(str(row.network), row.what, row.source) for row in REFUSED]
    expected += [(str(address), what, "named exactly") for address, what in METADATA.items()]
    assert [tuple(cell.strip() for cell in row) for row in rows] == expected
